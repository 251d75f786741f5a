"""`push`: exactly what may be published arrives at the Hub, and nothing if a check fails."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml
from built import edit, edit_manifest, first_row
from datasets import load_dataset
from huggingface_hub import constants
from loopback_hub import Hub, loopback_hub
from markdown_it import MarkdownIt

from usermirrorer.data.artefacts import hub as sending
from usermirrorer.data.artefacts.find import find_artefacts
from usermirrorer.data.artefacts.store import file_digest, manifest_path
from usermirrorer.data.audit.card import dataset_card, source_of
from usermirrorer.eval.scenes import load_scenes


NAME, TOKEN = "ml-100k", "hf_" + "tokenofthetests" * 2
SHARD = "part-00000.parquet"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with loopback_hub() as hub:
        yield hub


@pytest.fixture
def push(hub: Hub, command: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`push` to the hub of the test in this process, expected to end with `status`; what it printed."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(sending, "WAIT_SECONDS", 0.001)

    def run(*args: str | Path, endpoint: str = hub.url, status: int = 0, **environment: str) -> str:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        done = command("push", *args, HF_TOKEN=TOKEN, **environment)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status else done.stdout

    return run


@pytest.mark.parametrize("private", [[], ["--private"]])
def test_withheld_text_is_said_with_the_way_to_send_it(work: Path, push: Callable, private: list[str]) -> None:
    scenes = work / f"scenes/{NAME}/train"
    said = " ".join(push(scenes, "me/films", *private).split())
    but = "the data set is private, but " if private else ""
    assert f"WARNING: {but}the texts of {NAME} are withheld, " in said and "add --include-text" in said
    assert "are withheld" not in push(scenes, "me/films", *private, "--include-text")
    facts = json.loads(push(scenes, "me/films", *private, "--json"))
    assert facts["withheld"] == [NAME] and "--include-text" in facts["warnings"][0]
    assert "/datasets/" in facts["url"] and facts["checks"]
    assert push(scenes, "me/films", *private, "--quiet").splitlines()[-1] == f"push: {facts['url']}"


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
    [name] = [name for name in hub.files if name.startswith(f"{place}/")]
    file.write_bytes(hub.files[name])
    return pl.read_parquet(file)


def card(hub: Hub) -> tuple[dict, str]:
    _, front, text = hub.files["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(front), text


def test_ids_go_and_text_stays(work: Path, hub: Hub, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "usermirrorer", "push", work, "me/films"], capture_output=True, text=True, timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and str(work / "publish" / "me--films") in done.stdout
    parts = [f"scenes/{NAME}/{s}" for s in ("train", "test")] + [f"baselines/{NAME}/{s}" for s in ("train", "test")]
    parts += [f"{kind}/{NAME}/{v}" for kind in ("decisions", "predictions") for v in ("strong", "weak")]
    parts.append(f"pairs/{NAME}")
    shards = {f"data/{part}/{file.name}" for part in parts for file in (work / part).glob("*.parquet")}
    assert set(hub.files) == {"README.md", "rebuild.yaml"} | shards
    assert hub.commits == 1 and hub.created == {"name": "films", "organization": "me", "type": "dataset"}

    scenes, mine = (
        rows(hub, f"data/scenes/{NAME}/train", tmp_path),
        pl.read_parquet(work / f"scenes/{NAME}/train/train-00000.parquet"),
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
    for text in (b"Film ", "Cité".encode(), b": writer", b"I take", b"Occupation", TOKEN.encode()):
        assert text not in everything, text
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_the_card_says_what_must_be_known(work: Path, hub: Hub, push: Callable) -> None:
    push(work / "scenes", work / "pairs", "me/films")
    front, text = card(hub)
    assert front["license"] == "other"
    assert [config["config_name"] for config in front["configs"]] == ["scenes", "pairs"]
    assert front["configs"][0]["default"] is True
    content = json.loads(manifest_path(work / f"scenes/{NAME}/test").read_text())["content"]
    probe = content["probe"]
    for must in (
        "GroupLens: research use", "https://grouplens.org", "withheld", "may not be passed on", "## Windows",
        "too_little_history", f"{probe['chance']:.3f} exactly", f"chance {probe['chance']:.3f}", "positions",
        "Exposure `matched`: each group of people is shown one list", f"{content['groups']['number']:,} groups; ",
        "tells", "min_exposure: 5", f"usermirrorer scenes {NAME}", "fixed for ever: title",
    ):  # fmt: skip
        assert must in text, must
    assert "host" not in text and str(work) not in text
    # What train and eval do with withheld rows is what they do with the published ones.
    (work / "back").mkdir()
    (work / "back" / SHARD).write_bytes(hub.files[f"data/scenes/{NAME}/test/test-00000.parquet"])
    with pytest.raises(Exception, match="blanked"):
        load_scenes(work / "back")


def test_the_commands_of_the_card_rebuild_the_same_files(
    work: Path, small_raw: Path, hub: Hub, push: Callable, command: Callable, tmp_path: Path
) -> None:
    push(work / "scenes", "me/films")
    plan = yaml.safe_load(hub.files["rebuild.yaml"])
    assert plan["raw"][NAME] == {name: file_digest(small_raw / name) for name in ("u.data", "u.item", "u.user")}
    places = {"WORK": tmp_path / "again", f"RAW/{NAME}": small_raw}
    for line in plan["commands"]:
        done = command(*(places.get(word, word) for word in shlex.split(line)[1:]))
        assert done.returncode == 0, done.stderr
    assert f"scenes/{NAME}/test/test-00000.parquet" in plan["files"]
    for name, digest in plan["files"].items():
        assert file_digest(tmp_path / "again" / name) == digest, name
    for name, digest in plan["published"].items():
        assert file_digest(work / "publish/me--films" / name) == digest


def test_a_dry_run_stages_and_shows_but_sends_nothing(work: Path, hub: Hub, push: Callable) -> None:
    said = push(work / "scenes", "me/films", "--dry-run")
    folder = work / "publish/me--films"
    staged = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert {"README.md", "rebuild.yaml"} < set(staged) and all(name in said for name in staged)
    assert f"the texts of {NAME} are withheld" in " ".join(said.split())
    assert said.splitlines()[-1] == "push: nothing was sent to me/films (dry run)"
    facts = json.loads(push(work / "scenes", "me/films", "--dry-run", "--json"))
    assert facts["url"] is None and facts["files"] == staged and hub.calls == []


def test_text_is_sent_if_it_may_be_or_on_request(
    work: Path, built_toy: Path, hub: Hub, push: Callable, tmp_path: Path
) -> None:
    push(built_toy / "scenes", built_toy / "pairs", "me/toy")
    shard = "scenes/toy/test/test-00000.parquet"
    assert hub.files[f"data/{shard}"] == (built_toy / shard).read_bytes()
    front, text = card(hub)
    assert front["license"] == "mit" and "withheld" not in text
    push(work / "pairs", "me/films", "--include-text")
    assert rows(hub, f"data/pairs/{NAME}", tmp_path).equals(pl.read_parquet(work / f"pairs/{NAME}/{SHARD}"))
    assert b"I take Film" in sent(hub) and "own responsibility" in card(hub)[1]
    assert not [name for name in hub.files if name.startswith("data/scenes")], "shards of an earlier version are left"


def test_load_dataset_reads_what_was_published(built_toy: Path, push: Callable, tmp_path: Path) -> None:
    push(built_toy, "me/toy")

    def counts(*config: str) -> dict[str, int]:
        loaded = load_dataset(str(built_toy / "publish/me--toy"), *config, cache_dir=str(tmp_path))
        return {split: len(rows) for split, rows in loaded.items()}

    assert counts("scenes") == {"train": 400, "test": 150}
    assert counts("decisions") == {"strong": 1600, "weak": 800}
    assert set(counts("pairs")) == {"train"} and sorted(counts()) == ["test", "train"]


def test_nothing_is_sent_if_a_check_fails(work: Path, hub: Hub, push: Callable) -> None:
    edit(work / f"scenes/{NAME}/test", first_row(lambda row: row | {"item_pos": (row["item_pos"] + 1) % 5}))
    error = push(work / "scenes", "me/films", status=1)
    assert "nothing was sent" in error and f"scenes/{NAME}/test: options" in error and hub.calls == []
    assert not (work / "publish").exists()


def test_no_key_gets_into_a_card(work: Path, hub: Hub, push: Callable) -> None:
    place = work / f"decisions/{NAME}/strong"
    recipe = json.loads(manifest_path(place).read_text())["content"]["recipe"]
    edit_manifest(place, recipe=recipe | {"model": "openai:gpt?key=sk-very-secret-1"})
    for later in ("predictions", "pairs"):
        shutil.rmtree(work / later)
    error = push(place, "me/films", status=2, OPENAI_API_KEY="sk-very-secret-1")
    assert "OPENAI_API_KEY" in error and "sk-very" not in error
    assert hub.calls == []


def test_private_data_does_not_go_to_a_public_place(work: Path, hub: Hub, push: Callable) -> None:
    push(work / "scenes", "me/films", "--private")
    assert hub.created["visibility"] == "private"
    hub.private, hub.commits = False, 0
    assert "public" in push(work / "scenes", "me/films", "--private", status=1) and hub.commits == 0


def test_a_hub_that_refuses_or_is_not_there(work: Path, hub: Hub, push: Callable) -> None:
    for status, endpoint, words in (
        (403, hub.url, "the token may not write to me (403)"),
        (401, hub.url, "the Hub knows no such token (401)"),
        (0, "http://127.0.0.1:9", "no connection to http://127.0.0.1:9 in 4 attempts"),
    ):
        hub.refuse = status
        error = push(work / "scenes", "me/films", endpoint=endpoint, status=1)
        [sentence] = [line for line in error.splitlines() if line.startswith("usermirrorer: ")]
        assert f"me/films could not be published: {words}" in sentence and TOKEN not in error
        assert (work / "publish/me--films/README.md").is_file()


@pytest.mark.parametrize(
    ("place", "repo", "options", "message"),
    [
        (f"scenes/{NAME}", "films", [], "OWNER/NAME"),
        (f"tables/{NAME}", "me/films", [], "a source's own log"),
        ("nowhere", "me/films", [], "is not there"),
        (f"scenes/{NAME}", "me/films", ["--token-env", "NO_SUCH_TOKEN"], "NO_SUCH_TOKEN"),
    ],
)
def test_wrong_use_is_one_sentence(
    built_films: Path, hub: Hub, push: Callable, place: str, repo: str, options: list[str], message: str
) -> None:
    error = push(built_films / place, repo, *options, status=2)
    assert message in error and error.count("\n") == 1 and hub.calls == []


def test_a_bare_file_is_not_published(built_films: Path, hub: Hub, push: Callable, tmp_path: Path) -> None:
    file = Path(shutil.copy(built_films / f"scenes/{NAME}/test/test-00000.parquet", tmp_path / "bare.parquet"))
    assert "without a manifest" in push(file, "me/films", status=2) and hub.calls == []


@pytest.mark.parametrize("shared", [False, True])
def test_an_own_log_goes_with_its_yaml(
    small_raw: Path, hub: Hub, push: Callable, command: Callable, tmp_path: Path, shared: bool
) -> None:
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
    push(work / "scenes/club/train", "me/club")
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


def test_a_title_can_not_break_the_card(built_toy: Path) -> None:
    artefacts = find_artefacts(built_toy / "scenes")
    source = replace(source_of(artefacts[0], "toy"), title="A | B\n\n# <!-- `x", publisher="---\n|", licence="a: |b")
    text = dataset_card("me/a: b", artefacts, [source], False, [], {"usermirrorer": "0", "commands": ["a", "b"]})
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header)["pretty_name"] == "a: b"
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    tables = [token for token in tokens if token.type == "table_open"]
    cells = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "td_open"]
    headings = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    assert len(tables) == 4 and "included" in cells
    assert headings == [
        "a: b", "Sources and licences", "Windows", "Counts by reason", "Exposure", "Exposure probe", "Checks",
        "Recipe", "Rebuild",
    ]  # fmt: skip
