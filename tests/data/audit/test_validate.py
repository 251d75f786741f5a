"""`validate`: silent about what the steps wrote, and loud about everything that can be wrong with it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from built import edit, edit_manifest, edit_table, first_row
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from usermirrorer.data.artefacts.find import REQUIRED, SCHEMAS, find_artefacts
from usermirrorer.data.artefacts.store import MANIFEST
from usermirrorer.data.audit.checks import Check
from usermirrorer.data.audit.lengths import token_counter
from usermirrorer.data.audit.show import show
from usermirrorer.data.audit.validate import validate
from usermirrorer.errors import UserError
from usermirrorer.llm import TINY_BASE
from usermirrorer.llm.prompts import conversation, shed_history


NAME = "ml-100k"
TRAIN, TEST, PAIRS = f"scenes/{NAME}/train", f"scenes/{NAME}/test", f"pairs/{NAME}"
STRONG, SCORED, BASELINES = f"decisions/{NAME}/strong", f"predictions/{NAME}/strong", f"baselines/{NAME}/test"


@pytest.fixture
def work(built_films: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built_films, tmp_path / "work"))


def by_name(checks: list[Check], artefact: str) -> dict[str, Check]:
    return {check.name: check for check in checks if check.artefact == artefact}


def failed(checks: list[Check]) -> set[tuple[str, str]]:
    return {(check.artefact, check.name) for check in checks if check.result == "failed"}


@pytest.mark.parametrize("where", ["built_films", "built_toy"])
def test_what_the_steps_wrote_passes(where: str, request: pytest.FixtureRequest) -> None:
    checks = validate(request.getfixturevalue(where))
    assert failed(checks) == set(), [check for check in checks if check.result == "failed"]
    kinds = {check.artefact.split("/")[0] for check in checks}
    assert kinds == {"tables", "embeddings", "scenes", "baselines", "decisions", "predictions", "pairs"}
    name = NAME if where == "built_films" else "toy"
    scenes = by_name(checks, f"scenes/{name}/test")
    for check in ("files", "inputs", "rows", "schema", "ids", "options", "windows", "unique", "disjoint", "positions"):
        assert scenes[check].result == "ok", scenes[check]
    assert "have train scenes" in scenes["users"].told and "chance 0.200" in scenes["probe"].told


def test_counts_are_of_the_whole_artefact(built_films: Path) -> None:
    checks = by_name(validate(built_films / TEST), TEST)
    rows = pl.concat([pl.read_parquet(file) for file in (built_films / TEST).glob("*.parquet")])
    train = pl.concat([pl.read_parquet(file) for file in (built_films / TRAIN).glob("*.parquet")])
    assert checks["options"].told == f"{len(rows):,} rows"
    warm = set(rows["user_id"]) & set(train["user_id"])
    assert checks["users"].told.startswith(f"{len(warm):,} of {rows['user_id'].n_unique():,} have train scenes")
    chosen = np.array([row["item_cnt"][row["item_pos"]] for row in rows.to_dicts()])
    others = np.array([n for r in rows.to_dicts() for i, n in enumerate(r["item_cnt"]) if i != r["item_pos"]])
    told = f"fewer than 5 times: {(chosen < 5).mean():.1%} of choices, {(others < 5).mean():.1%} of distractors"
    assert told in checks["cold items"].told


def other_id(row: dict) -> dict:
    return row | {"scene_id": "0" * 16}


SCENE_FAULTS: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "an id that is not the hash": ("ids", first_row(other_id), "not the hash"),
    "a user's id that is empty": ("values", first_row(lambda r: r | {"user_id": " "}), "user_id is empty"),
    "no time": ("values", first_row(lambda r: r | {"timestamp": None}), "timestamp is missing"),
    "a position out of the list": ("options", first_row(lambda r: r | {"item_pos": 26}), "item_pos 26 of"),
    "a count that is not the list's": (
        "options", first_row(lambda r: r | {"choice_cnt": r["choice_cnt"] + 1}), "text has",
    ),
    "a choice that is another item": (
        "options", first_row(lambda r: r | {"impression_list": r["impression_list"][::-1]} if r["choice_cnt"] % 2 == 0
                             else r | {"impression_list": r["impression_list"][1:] + r["impression_list"][:1]}),
        "item_id is",
    ),
    "an item twice": (
        "options", first_row(lambda r: r | {"impression_list": [r["item_id"]] * r["choice_cnt"]}), "an item twice",
    ),
    "a choice among the later chosen": (
        "options", first_row(lambda r: r | {"later_chosen": [r["item_pos"]]}), "the choice itself",
    ),
    "sources without a choice": (
        "options", first_row(lambda r: r | {"sources": ["natural"] * r["choice_cnt"]}), "sources don't say",
    ),
    "a blank option": (
        "text", first_row(lambda r: r | {"text": r["text"] | {"action_list": ["", *r["text"]["action_list"][1:]]}}),
        "an option is blank",
    ),
    "more history than there was": (
        "history", first_row(lambda r: r | {"history_len": r["user_cnt"] + 1}), "earlier events",
    ),
    "a row twice": ("unique", lambda frame: pl.concat([frame, frame[:1]]), "scene_id of an earlier row"),
    "another order": ("order", lambda frame: frame.reverse(), "lower scene_id"),
    "another split": ("windows", first_row(lambda r: r | {"split": "test"}), "split is test"),
    "a time in the test window": (
        "windows", first_row(lambda r: r | {"timestamp": r["timestamp"].replace(year=2040)}), "the train window",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", SCENE_FAULTS)
def test_a_spoilt_scene_is_found(work: Path, fault: str) -> None:
    check, change, reason = SCENE_FAULTS[fault]
    edit(work / TRAIN, change)
    found = by_name(validate(work / TRAIN), TRAIN)[check]
    assert found.result == "failed"
    assert any(reason in row.reason and "row" in row.place for row in found.bad), found.bad
    assert len(found.bad) <= 5


def test_a_choice_in_both_splits(work: Path) -> None:
    row = pl.read_parquet(next((work / TRAIN).glob("*.parquet")))[:1]
    edit(work / TEST, lambda frame: pl.concat([frame, row]).sort("scene_id"))
    for split in (TRAIN, TEST):
        found = by_name(validate(work / split), split)["disjoint"]
        assert found.result == "failed" and found.told.startswith("1 choices")
        assert [bad.scene_id for bad in found.bad] == row["scene_id"].to_list()


def test_a_choice_that_is_never_last(work: Path) -> None:
    def never_last(row: dict) -> dict:
        pos, last = row["item_pos"], row["choice_cnt"] - 1
        if pos != last:
            return row
        swapped = {key: list(row[key]) for key in ("impression_list", "sources", "item_cnt")}
        swapped["action_list"] = list(row["text"]["action_list"])
        for values in swapped.values():
            values[0], values[last] = values[last], values[0]
        text = row["text"] | {"action_list": swapped.pop("action_list")}
        return row | swapped | {"text": text, "item_pos": 0, "choices": [0], "later_chosen": []}

    edit(work / TRAIN, lambda f: pl.DataFrame([never_last(row) for row in f.to_dicts()], schema=f.schema))
    assert failed(validate(work / TRAIN)) == {(TRAIN, "positions")}


def test_a_scene_without_a_probe_and_one_with_a_warning(work: Path) -> None:
    probe = json.loads((work / TRAIN / MANIFEST).read_text())["content"]["probe"]
    edit_manifest(work / TRAIN, probe=probe | {"warning": True})
    assert "gives the choice away" in by_name(validate(work / TRAIN), TRAIN)["probe"].told
    edit_manifest(work / TRAIN, probe=None)
    assert by_name(validate(work / TRAIN), TRAIN)["probe"].result == "failed"


def test_distractors_that_nobody_chose_before(work: Path) -> None:
    def cold(row: dict) -> dict:
        return row | {"item_cnt": [n if i == row["item_pos"] else 0 for i, n in enumerate(row["item_cnt"])]}

    edit(work / TRAIN, lambda f: pl.DataFrame([cold(row) for row in f.to_dicts()], schema=f.schema))
    found = by_name(validate(work / TRAIN), TRAIN)["cold items"]
    assert found.result == "warning" and "100.0% of distractors" in found.told


ANSWER_FAULTS: dict[str, tuple[str, str, Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "an option that is not there": (STRONG, "scenes", first_row(lambda r: r | {"behavior": 9}), "names option 9"),
    "a scene that is not there": (STRONG, "scenes", first_row(lambda r: r | {"scene_id": "f" * 16}), "no such scene"),
    "another writer's row": (STRONG, "values", first_row(lambda r: r | {"variant": "weak"}), "variant is weak"),
    "a sample that is missing": (STRONG, "samples", lambda f: f[1:], "not each of 4"),
    "a sample twice": (STRONG, "samples", lambda f: pl.concat([f[1:2], f[1:]]), "not each of 4"),
    "probabilities that are none": (
        SCORED, "probabilities", first_row(lambda r: r | {"probs": [0.5 * p for p in r["probs"]]}), "they sum to 0.5",
    ),
    "a probability too many": (
        SCORED, "probabilities", first_row(lambda r: r | {"probs": [*r["probs"], 0.0]}), "probabilities for",
    ),
    "a prediction that is missing": (SCORED, "decisions", lambda f: f[1:], ""),
    "a baseline that is missing": (BASELINES, "each once", lambda f: f[1:], "not each of 8"),
    "a baseline twice": (BASELINES, "each once", lambda f: pl.concat([f[1:2], f[1:]]), "not each of 8"),
}  # fmt: skip


@pytest.mark.parametrize("fault", ANSWER_FAULTS)
def test_a_spoilt_answer_is_found(work: Path, fault: str) -> None:
    place, check, change, reason = ANSWER_FAULTS[fault]
    edit(work / place, change)
    found = by_name(validate(work / place), place)[check]
    assert found.result == "failed"
    assert not reason or any(reason in row.reason for row in found.bad), found.bad


def said(row: dict, side: str, letter: str) -> dict:
    text = row[side][0]["content"][:-2] + f"{letter}]"
    return row | {side: [{"role": "assistant", "content": text}]}


PAIR_FAULTS: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "a letter that the text does not end in": (
        "letters", first_row(lambda r: r | {"behavior_chosen": "Z"}), "behavior_chosen is Z, the text ends in",
    ),
    "an answer without a label": (
        "letters", first_row(lambda r: r | {"chosen": [{"role": "assistant", "content": "Yes."}]}), "does not end",
    ),
    "a label that is no option": ("letters", first_row(lambda r: said(r, "rejected", "Z")), "rejected names Z of"),
    "both sides alike": ("letters", first_row(lambda r: said(r, "rejected", r["behavior_chosen"])), "the same option"),
    "a chosen that is not the choice": (
        "choice", first_row(lambda r: said(r, "chosen", r["behavior_rejected"])), "does not name the scene's choice",
    ),
    "a user's answer": (
        "messages", first_row(lambda r: r | {"chosen": [r["chosen"][0] | {"role": "user"}]}), "not one assistant",
    ),
    "a blank prompt": (
        "messages", first_row(lambda r: r | {"prompt": [{"role": "user", "content": ""}]}), "prompt is blank",
    ),
    "a scene twice": ("unique", lambda f: pl.concat([f, f[:1]]), "the scene of an earlier row"),
    "a scene that is not there": ("scenes", first_row(other_id), "no train scene"),
}  # fmt: skip


@pytest.mark.parametrize("fault", PAIR_FAULTS)
def test_a_spoilt_pair_is_found(work: Path, fault: str) -> None:
    check, change, reason = PAIR_FAULTS[fault]
    edit(work / PAIRS, change)
    found = by_name(validate(work / PAIRS), PAIRS)[check]
    assert found.result == "failed" and any(reason in row.reason for row in found.bad), found


def test_a_pair_of_a_test_scene(work: Path) -> None:
    scene = pl.read_parquet(next((work / TEST).glob("*.parquet")))["scene_id"][0]
    edit(work / PAIRS, first_row(lambda row: row | {"scene_id": scene}))
    assert (PAIRS, "disjoint") in failed(validate(work / PAIRS))


def test_a_letter_that_tells_chosen_from_rejected(work: Path) -> None:
    def lettered(row: dict) -> dict:
        return said(said(row, "chosen", "A"), "rejected", "B") | {"behavior_chosen": "A", "behavior_rejected": "B"}

    edit(work / PAIRS, lambda f: pl.DataFrame([lettered(row) for row in f.to_dicts()], schema=f.schema))
    assert by_name(validate(work / PAIRS), PAIRS)["balance"].result == "warning"


@pytest.mark.parametrize(
    ("table", "check", "change"),
    [
        ("users", "users ids", lambda f: pl.concat([f, f[:1]])),
        ("items", "interactions ids", lambda f: f[1:]),
        ("interactions", "order", lambda f: f.reverse()),
        ("interactions", "duplicates", lambda f: pl.concat([f[:1], f])),
        ("interactions", "schema", lambda f: f.drop("user_id")),
    ],
)
def test_a_spoilt_table_is_found(work: Path, table: str, check: str, change: Callable) -> None:
    edit_table(work / "tables" / NAME / f"{table}.parquet", change)
    assert (f"tables/{NAME}", check) in failed(validate(work / "tables" / NAME))


def test_vectors_that_are_not_the_items(work: Path) -> None:
    place = f"embeddings/{NAME}"
    edit(work / place, lambda f: f.reverse())
    assert failed(validate(work / place)) == {(place, "items")}


def test_files_that_are_not_the_manifests(work: Path) -> None:
    file = next((work / TRAIN).glob("*.parquet"))
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + bytes([whole[100] ^ 255]) + whole[101:])
    [bad] = by_name(validate(work / TRAIN), TRAIN)["files"].bad
    assert bad.place == file.name and "digest" in bad.reason
    file.write_bytes(whole[: len(whole) // 2])
    assert (TRAIN, "files") in failed(validate(work / TRAIN))
    file.rename(file.with_name("part-00009.parquet"))
    assert {bad.reason for bad in by_name(validate(work / TRAIN), TRAIN)["files"].bad} == {
        "is missing", "is not in the manifest",
    }  # fmt: skip


def test_a_step_that_did_not_end(work: Path) -> None:
    edit_manifest(work / TRAIN, finished=False)
    assert failed(validate(work / TRAIN)) == {(TRAIN, "finished")}


def test_scenes_made_anew_under_their_decisions(work: Path) -> None:
    edit(work / TRAIN, lambda frame: frame)
    edit_manifest(work / TRAIN, asked=999)
    assert (STRONG, "inputs") in failed(validate(work / STRONG))


def published(built_films: Path) -> list[dict]:
    """Rows as the published evaluation file has them: no scene_id, numbers as ids, times as text."""
    rows = pl.read_parquet(next((built_films / TEST).glob("*.parquet"))).to_dicts()
    return [
        {
            "text": {key: row["text"][key] for key in ("action_list", "history", "profile")},
            "user_id": int(row["user_id"]), "item_id": row["item_id"], "item_pos": row["item_pos"],
            "choice_cnt": row["choice_cnt"], "dataset": row["dataset"],
            "impression_list": row["impression_list"], "timestamp": f"{row['timestamp']:%Y-%m-%d %H:%M:%S}",
        }
        for row in rows
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_published_file(built_films: Path, tmp_path: Path, suffix: str) -> None:
    rows = published(built_films)
    rows[3] |= {"item_pos": 7}
    file = tmp_path / f"eval.{suffix}"
    if suffix == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        frame = pl.DataFrame(rows).with_columns(pl.col("timestamp").str.to_datetime(time_unit="ns"))
        frame.write_parquet(file)
    checks = by_name(validate(file), file.name)
    assert failed(list(checks.values())) == {(file.name, "options")}
    [bad] = checks["options"].bad
    assert bad.place == (f"{file.name}:4" if suffix == "jsonl" else f"{file.name} row 4")
    assert checks["values"].told == f"{len(rows):,} rows" and checks["probe"].result == "warning"


def test_published_training_rows(built_films: Path, tmp_path: Path) -> None:
    rows = pl.read_parquet(next((built_films / PAIRS).glob("*.parquet"))).to_dicts()
    lines = [
        {"dataset": row["dataset"], **{f"messages_{s}": row["prompt"] + row[s] for s in ("chosen", "rejected")}}
        for row in rows
    ]
    lines[1]["messages_chosen"] = lines[1]["messages_chosen"][:-1]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    checks = by_name(validate(file), file.name)
    assert checks["letters"].result == checks["messages"].result == "failed"
    assert {bad.place for bad in checks["letters"].bad} == {"train.jsonl:2"}
    assert checks["messages"].told == f"1 of {len(lines):,} rows"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
COLUMNS = [
    "text", "user_id", "item_id", "timestamp", "item_pos", "choice_cnt", "dataset", "impression_list", "scene_id",
    "choices", "item_cnt", "sources", "later_chosen", "exposure", "history_len", "user_cnt",
]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries({c: json_values for c in COLUMNS}), min_size=1, max_size=4),
    garbage=st.sampled_from(["", "{", "[1]", "null", '"x"', "\x00"]),
)
def test_any_jsonl_gives_checks_or_one_sentence(tmp_path_factory, rows: list[dict], garbage: str) -> None:
    file = tmp_path_factory.mktemp("any") / "x.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {check.name for check in validate(file)} >= {"schema", "values", "options"}
    with open(file, "a") as lines:
        lines.write(f"{garbage}\n")
    with pytest.raises(UserError, match=rf"x\.jsonl:{len(rows) + 1} is"):
        validate(file)


SERIES = [
    pl.Series([1, None]), pl.Series([1.5, float("nan")]), pl.Series(["a", None]), pl.Series([b"a", b"\xff"]),
    pl.Series([True, None]), pl.Series([[1], None]), pl.Series([["a", None], []]), pl.Series([[["a"]], [[]]]),
    pl.Series([{"a": 1}, {"a": None}]), pl.Series([{"history": ["x"], "action_list": "y"}, None]),
    pl.Series([{"profile": None, "history": "h", "action_list": ["a", None]}, {"action_list": [], "history": ""}]),
    pl.Series([[{"role": "user"}], [{"content": None, "role": "system"}]]), pl.Series([None, None]),
    pl.Series([0, 2**62]).cast(pl.Datetime("ns", "Europe/Paris")), pl.Series([0, 5]).cast(pl.Date),
    pl.Series([0, 5]).cast(pl.Duration), pl.Series(["a", "b"], dtype=pl.Categorical),
    pl.Series([2**63, 0], dtype=pl.UInt64), pl.Series([2**62, -(2**62)]),
]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(list(REQUIRED)))
def test_columns_of_any_type_give_checks(tmp_path_factory, data: st.DataObject, kind: str) -> None:
    names = sorted({*SCHEMAS[kind].names, *REQUIRED[kind]})
    file = tmp_path_factory.mktemp("any") / "x.parquet"
    pl.DataFrame({name: data.draw(st.sampled_from(SERIES)).alias(name) for name in names}).write_parquet(file)
    checks = validate(file)
    assert "readable" not in {check.name for check in checks}
    with contextlib.redirect_stdout(io.StringIO()):
        show(file)


def test_lengths_are_what_decide_and_train_see(built_films: Path) -> None:
    counter = token_counter("tiny-base", None, 380)
    limit = 380 - 16 - 190  # as `decide` reckons: half of the length for the answer, and room to close it
    texts = pl.read_parquet(next((built_films / TRAIN).glob("*.parquet")))["text"].to_list()
    fitted = [shed_history(text, "plain", counter.model.count_tokens, limit) for text in texts]
    dropped, shed = sum(f is None for f in fitted), sum(f is not None and f[1] > 0 for f in fitted)
    assert dropped and shed
    lengths = [counter.model.count_tokens([conversation(text, "plain")])[0] for text in texts]
    found = by_name(validate(built_films / TRAIN, counter), TRAIN)["lengths"]
    assert found.result == "warning"
    assert f"median {np.median(lengths):,.0f}, " in found.told and f"longest {max(lengths):,} tokens" in found.told
    assert f"limit {limit}: {shed:,} shed history, {dropped:,} dropped" in found.told

    tokenizer = AutoTokenizer.from_pretrained(TINY_BASE)
    rows = pl.read_parquet(next((built_films / PAIRS).glob("*.parquet"))).to_dicts()
    sides = [
        [len(tokenizer.apply_chat_template(r["prompt"] + r[s])["input_ids"]) for r in rows]
        for s in ("chosen", "rejected")
    ]
    longest = np.maximum(*map(np.array, sides))
    limit = int(np.median(longest))
    found = by_name(validate(built_films / PAIRS, token_counter("tiny-base", None, limit)), PAIRS)["lengths"]
    assert f"limit {limit:,}: {(longest > limit).sum():,} dropped" in found.told


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["nowhere"], "nowhere is not there"),
        (["pyproject.toml"], "of no known kind"),
        (["docs"], "holds no artefact"),
        (["runs", "--max-length", "5"], "--tokenizer"),
    ],
)
def test_wrong_use_is_one_sentence(args: list[str], told: str) -> None:
    done = command("validate", *args)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr


@pytest.mark.launch
def test_exit_status_and_report(work: Path) -> None:
    done = command("validate", work / TRAIN)
    assert done.returncode == 0 and "positions" in done.stdout and "validate:" in done.stdout
    edit(work / TRAIN, first_row(lambda row: row | {"item_pos": 26}))
    done = command("validate", work)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{TRAIN}, options: part-00000.parquet row 1 (scene " in done.stdout


def test_the_kinds_of_bare_files(built_films: Path, tmp_path: Path) -> None:
    for place, kind in ((STRONG, "decisions"), (SCORED, "predictions"), (BASELINES, "baselines"), (PAIRS, "pairs")):
        shutil.copy(next((built_films / place).glob("*.parquet")), tmp_path / f"{kind}.parquet")
        [found] = find_artefacts(tmp_path / f"{kind}.parquet")
        assert found.kind == kind
        assert failed(validate(tmp_path / f"{kind}.parquet")) == set()


def command(*args: str | Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[3]
    return subprocess.run(
        [sys.executable, "-m", "usermirrorer", *map(str, args)], cwd=root, capture_output=True, text=True, timeout=300
    )
