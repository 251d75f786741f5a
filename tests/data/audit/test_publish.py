"""`push`: exactly what may be published arrives at the Hub, and nothing where a check fails."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml
from built import edit, edit_manifest, first_row
from loopback_hub import Hub, loopback_hub

from usermirrorer.data.artefacts.store import file_digest
from usermirrorer.eval.scenes import load_scenes


ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.launch

NAME, TOKEN = "ml-100k", "hf_" + "tokenofthetests" * 2
SHARD = "part-00000.parquet"


@pytest.fixture
def work(built_films: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built_films, tmp_path / "work"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with loopback_hub() as hub:
        yield hub


def command(*args: str | Path, endpoint: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint or "http://127.0.0.1:9", "HF_TOKEN": TOKEN}
    return subprocess.run(
        [sys.executable, "-m", "usermirrorer", *map(str, args)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, env=env | environment,
    )  # fmt: skip


def pushed(hub: Hub, *args: str | Path, **environment: str) -> str:
    done = command("push", *args, endpoint=hub.url, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def sent(hub: Hub) -> bytes:
    """All that went over the wire, encoded contents and samples too."""
    parts = list(hub.bodies)
    for body in hub.bodies:
        for line in body.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            content = entry.get("value", {}).get("content") if isinstance(entry.get("value"), dict) else None
            parts += [base64.b64decode(content)] if content else []
            parts += [base64.b64decode(file["sample"]) for file in entry.get("files", []) if "sample" in file]
    return b"\n".join(parts)


def rows(hub: Hub, place: str, tmp_path: Path) -> pl.DataFrame:
    file = tmp_path / "arrived.parquet"
    file.write_bytes(hub.files[f"{place}/{SHARD}"])
    return pl.read_parquet(file)


def card(hub: Hub) -> tuple[dict, str]:
    _, front, text = hub.files["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(front), text


def test_ids_go_and_text_stays(work: Path, hub: Hub, tmp_path: Path) -> None:
    told = pushed(hub, work, "me/films")
    assert str(work / "publish" / "me--films") in told
    parts = [f"scenes/{NAME}/{s}" for s in ("train", "test")] + [f"baselines/{NAME}/{s}" for s in ("train", "test")]
    parts += [f"{kind}/{NAME}/{v}" for kind in ("decisions", "predictions") for v in ("strong", "weak")]
    parts.append(f"pairs/{NAME}")
    shards = {f"data/{part}/{file.name}" for part in parts for file in (work / part).glob("*.parquet")}
    assert set(hub.files) == {"README.md", "rebuild.yaml"} | shards
    assert hub.commits == 1 and hub.created == {"name": "films", "organization": "me", "type": "dataset"}

    scenes, mine = (
        rows(hub, f"data/scenes/{NAME}/train", tmp_path),
        pl.read_parquet(work / f"scenes/{NAME}/train/{SHARD}"),
    )
    assert scenes.drop("text").equals(mine.drop("text"))
    blank = {"profile": "", "history": "", "action_list": []}
    assert scenes["text"].to_list() == [blank] * len(mine)
    pairs, ours = rows(hub, f"data/pairs/{NAME}", tmp_path), pl.read_parquet(work / f"pairs/{NAME}/{SHARD}")
    texts = ["prompt", "chosen", "rejected"]
    assert pairs.drop(texts).equals(ours.drop(texts))
    assert not any(m["content"] for t in texts for messages in pairs[t].to_list() for m in messages)
    assert set(rows(hub, f"data/decisions/{NAME}/strong", tmp_path)["text"]) == {""}

    everything = sent(hub)
    for text in (b"Film ", "Cité".encode(), b"writer", b"I take", b"Occupation", TOKEN.encode()):
        assert text not in everything, text
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_the_card_says_what_must_be_known(work: Path, hub: Hub) -> None:
    pushed(hub, work / "scenes", work / "pairs", "me/films")
    front, text = card(hub)
    assert front["license"] == "other"
    assert [config["config_name"] for config in front["configs"]] == ["scenes", "pairs"]
    assert front["configs"][0]["default"] is True
    content = json.loads((work / f"scenes/{NAME}/test/.manifest.json").read_text())["content"]
    probe = content["probe"]
    for must in (
        "GroupLens: research use", "https://grouplens.org", "withheld", "may not be passed on", "## Windows",
        "too_little_history", f"{probe['accuracy']['value']:.3f} [", f"chance {probe['chance']:.3f}", "positions",
        "cold items", "min_exposure: 5", f"usermirrorer scenes {NAME}", "fixed for ever: title",
    ):  # fmt: skip
        assert must in text, must
    assert "host" not in text and str(work) not in text
    # What train and eval do with withheld rows is what they do with the published ones.
    (work / "back").mkdir()
    (work / "back" / SHARD).write_bytes(hub.files[f"data/scenes/{NAME}/test/{SHARD}"])
    with pytest.raises(Exception, match="blanked"):
        load_scenes(work / "back")


def test_the_commands_of_the_card_rebuild_the_same_files(
    work: Path, small_raw: Path, hub: Hub, tmp_path: Path
) -> None:
    pushed(hub, work / "scenes", "me/films")
    plan = yaml.safe_load(hub.files["rebuild.yaml"])
    assert plan["raw"][NAME] == {name: file_digest(small_raw / name) for name in ("u.data", "u.item", "u.user")}
    places = {"WORK": tmp_path / "again", f"RAW/{NAME}": small_raw}
    for line in plan["commands"]:
        done = command(*(places.get(word, word) for word in shlex.split(line)[1:]))
        assert done.returncode == 0, done.stderr
    assert f"scenes/{NAME}/test/{SHARD}" in plan["files"]
    for name, digest in plan["files"].items():
        assert file_digest(tmp_path / "again" / name) == digest, name
    for name, digest in plan["published"].items():
        assert file_digest(work / "publish/me--films" / name) == digest


def test_text_goes_where_it_may_or_where_it_is_asked_for(
    work: Path, built_toy: Path, hub: Hub, tmp_path: Path
) -> None:
    pushed(hub, built_toy / "scenes", built_toy / "pairs", "me/toy")
    assert hub.files[f"data/scenes/toy/test/{SHARD}"] == (built_toy / f"scenes/toy/test/{SHARD}").read_bytes()
    front, text = card(hub)
    assert front["license"] == "mit" and "withheld" not in text
    pushed(hub, work / "pairs", "me/films", "--include-text")
    assert rows(hub, f"data/pairs/{NAME}", tmp_path).equals(pl.read_parquet(work / f"pairs/{NAME}/{SHARD}"))
    assert b"I take Film" in sent(hub) and "own responsibility" in card(hub)[1]
    assert not [name for name in hub.files if name.startswith("data/scenes")], "shards of an earlier version are left"


def test_load_dataset_reads_what_was_published(built_toy: Path, hub: Hub) -> None:
    pushed(hub, built_toy, "me/toy")
    code = (
        "import sys; from datasets import load_dataset; "
        "print({n: {s: len(d) for s, d in load_dataset(sys.argv[1], n).items()} for n in sys.argv[2:]}); "
        "print(sorted(load_dataset(sys.argv[1])))"
    )
    names = ("scenes", "decisions", "pairs")
    done = subprocess.run(
        [sys.executable, "-c", code, built_toy / "publish/me--toy", *names],
        capture_output=True, text=True, check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(built_toy / "cache")},
    )  # fmt: skip
    counts, default = done.stdout.splitlines()[-2:]
    assert eval(counts)["scenes"] == {"train": 400, "test": 150}
    assert eval(counts)["decisions"] == {"strong": 1600, "weak": 800}
    assert set(eval(counts)["pairs"]) == {"train"} and eval(default) == ["test", "train"]


def test_nothing_is_sent_where_a_check_fails(work: Path, hub: Hub) -> None:
    edit(work / f"scenes/{NAME}/test", first_row(lambda row: row | {"item_pos": 4 - row["item_pos"] or 1}))
    done = command("push", work / "scenes", "me/films", endpoint=hub.url)
    assert done.returncode == 1 and "nothing was sent" in done.stderr and "Traceback" not in done.stderr
    assert f"scenes/{NAME}/test: options" in done.stderr and hub.calls == []
    assert not (work / "publish").exists()


def test_no_key_gets_into_a_card(work: Path, hub: Hub) -> None:
    place = work / f"decisions/{NAME}/strong"
    recipe = json.loads((place / ".manifest.json").read_text())["content"]["recipe"]
    edit_manifest(place, recipe=recipe | {"model": "openai:gpt?key=sk-very-secret-1"})
    for later in ("predictions", "pairs"):
        shutil.rmtree(work / later)
    done = command("push", place, "me/films", endpoint=hub.url, OPENAI_API_KEY="sk-very-secret-1")
    assert done.returncode == 2 and "OPENAI_API_KEY" in done.stderr and "sk-very" not in done.stderr
    assert hub.calls == []


def test_private_data_does_not_go_to_a_public_place(work: Path, hub: Hub) -> None:
    pushed(hub, work / "scenes", "me/films", "--private")
    assert hub.created["visibility"] == "private"
    hub.private, hub.commits = False, 0
    done = command("push", work / "scenes", "me/films", "--private", endpoint=hub.url)
    assert done.returncode == 1 and "public" in done.stderr and hub.commits == 0


def test_a_hub_that_refuses_or_is_not_there(work: Path, hub: Hub) -> None:
    hub.refuse = True
    for endpoint in (hub.url, "http://127.0.0.1:9"):
        done = command("push", work / "scenes", "me/films", endpoint=endpoint)
        sentences = [line for line in done.stderr.splitlines() if line.startswith("usermirrorer: ")]
        assert done.returncode == 1 and len(sentences) == 1 and "Traceback" not in done.stderr
        assert "could not be published" in sentences[0] and TOKEN not in done.stderr
        assert (work / "publish/me--films/README.md").is_file()


@pytest.mark.parametrize(
    ("place", "repo", "options", "told"),
    [
        (f"scenes/{NAME}", "films", [], "OWNER/NAME"),
        (f"tables/{NAME}", "me/films", [], "a source's own log"),
        ("nowhere", "me/films", [], "is not there"),
        (f"scenes/{NAME}", "me/films", ["--token-env", "NO_SUCH_TOKEN"], "NO_SUCH_TOKEN"),
    ],
)
def test_wrong_use_is_one_sentence(work: Path, hub: Hub, place: str, repo: str, options: list[str], told: str) -> None:
    done = command("push", work / place, repo, *options, endpoint=hub.url)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr and hub.calls == []


def test_a_bare_file_is_not_published(work: Path, hub: Hub) -> None:
    file = work / "bare.parquet"
    shutil.copy(work / f"scenes/{NAME}/test/{SHARD}", file)
    done = command("push", file, "me/films", endpoint=hub.url)
    assert done.returncode == 2 and "without a manifest" in done.stderr and hub.calls == []


@pytest.mark.parametrize("shared", [False, True])
def test_an_own_log_goes_with_its_yaml(small_raw: Path, hub: Hub, tmp_path: Path, shared: bool) -> None:
    ratings = [line.split("\t") for line in (small_raw / "u.data").read_text().splitlines()]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    raw, work = tmp_path / "raw", tmp_path / "work"
    raw.mkdir()
    (raw / "club.inter").write_text(header + "".join("\t".join(row) + "\n" for row in ratings))
    items = sorted({row[1] for row in ratings})
    (raw / "club.item").write_text("item_id:token\ttitle:token_seq\n" + "".join(f"{i}\tBook {i}\n" for i in items))
    own = tmp_path / "club.yaml"
    own.write_text(
        "name: club\nformat: recbole\nevent: borrowed\nitem: '{title}'\nlicence: CC0-1.0\n"
        f"redistribute_text: {str(shared).lower()}\n"
    )
    for args in (["prepare", own, "--raw", raw], ["scenes", "club", "--split", "train", "--num", "50"]):
        done = command(*args, "--work", work)
        assert done.returncode == 0, done.stderr
    pushed(hub, work / "scenes/club/train", "me/club")
    assert hub.files["domains/club.yaml"] == own.read_bytes()
    assert (b"Book " in sent(hub)) is shared
    assert card(hub)[0]["license"] == "cc0-1.0"
    plan = yaml.safe_load(hub.files["rebuild.yaml"])
    places = {
        "WORK": tmp_path / "again",
        "RAW/club": raw,
        "domains/club.yaml": work / "publish/me--club/domains/club.yaml",
    }
    for line in plan["commands"]:
        assert command(*(places.get(word, word) for word in shlex.split(line)[1:])).returncode == 0, line
    for name, digest in plan["files"].items():
        assert file_digest(tmp_path / "again" / name) == digest, name
