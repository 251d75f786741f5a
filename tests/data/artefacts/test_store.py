"""A step's directory: shards, journal, lock, and the same bytes after a kill."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usermirrorer.data.artefacts import journal as journal_module
from usermirrorer.data.artefacts import store
from usermirrorer.data.artefacts.journal import JOURNAL
from usermirrorer.data.artefacts.store import (
    fingerprint,
    finished_content,
    finished_manifest,
    open_step,
    read_manifest,
    read_parts,
)
from usermirrorer.errors import UserError


SCHEMA = pa.schema([("scene_id", pa.string()), ("sample", pa.int64()), ("text", pa.string())])
RECIPE = {"step": "decide", "seed": 0}


def rows(count: int) -> list[dict]:
    return [{"scene_id": f"{n:04d}", "sample": n, "text": f"line one\nline\u2028two é {n}"} for n in range(count)]


def work(directory: Path, units: list[list[dict]], order: Iterable[int] | None = None) -> None:
    """Put the units that are not there yet; fewer than all in `order` leaves the step as a kill would."""
    with open_step(directory, RECIPE, SCHEMA) as step:
        if step.complete:
            return
        step.resume()
        for unit in range(len(units)) if order is None else order:
            if unit not in step:
                step.put(unit, units[unit], {"size": len(units[unit])} if len(units[unit]) > 5 else None)
        if all(unit in step for unit in range(len(units))):
            notes = sorted(step.journal.notes.items())
            step.finish(rows=sum(map(len, units)), notes=notes)


def parts(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.glob("part-*.parquet"))}


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    kills=st.lists(st.tuples(st.permutations(range(8)), st.integers(0, 7), st.binary(max_size=20)), max_size=3),
    last=st.permutations(range(8)),
)
def test_a_killed_step_resumes_to_the_same_bytes_in_whatever_order_its_units_end(
    sizes: list[int], kills: list[tuple[list[int], int, bytes]], last: list[int]
) -> None:
    shard_rows, store.SHARD_ROWS = store.SHARD_ROWS, 5
    try:
        every = rows(sum(sizes))
        units = [every[sum(sizes[:n]) : sum(sizes[: n + 1])] for n in range(len(sizes))]
        with tempfile.TemporaryDirectory() as root:
            plain, killed = Path(root) / "plain", Path(root) / "killed"
            work(plain, units)
            for order, stop, torn in kills:
                if finished_manifest(killed):
                    break
                work(killed, units, [unit for unit in order if unit < len(units)][:stop])
                if (killed / JOURNAL).is_file():
                    with open(killed / JOURNAL, "ab") as journal:  # a line that the kill left half-written
                        journal.write(torn.replace(b"\n", b""))
            work(killed, units, [unit for unit in last if unit < len(units)])
            assert parts(killed) == parts(plain)
            assert read_parts(killed).to_pylist() == every
            assert not (killed / JOURNAL).exists()
            assert finished_content(killed, "x") == finished_content(plain, "x")
    finally:
        store.SHARD_ROWS = shard_rows


def test_a_kill_between_shard_and_journal_loses_and_doubles_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 5)
    units = [rows(13)[:3], rows(13)[3:12], rows(13)[12:]]
    work(tmp_path / "plain", units)
    rewrite = journal_module.Journal._rewrite

    def killed(self: journal_module.Journal) -> None:
        if self.shards:
            raise KeyboardInterrupt
        rewrite(self)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(journal_module.Journal, "_rewrite", killed)
        with open_step(tmp_path / "killed", RECIPE, SCHEMA) as step:
            step.resume()
            for number, unit in enumerate(units):
                step.put(number, unit)
    assert (tmp_path / "killed" / "part-00001.parquet").is_file()
    work(tmp_path / "killed", units)
    assert parts(tmp_path / "killed") == parts(tmp_path / "plain")


def test_a_kill_before_the_last_whole_shard_leaves_no_larger_one(tmp_path: Path, monkeypatch) -> None:
    """All rows are in the journal, so the resumed run puts nothing more."""
    monkeypatch.setattr(store, "SHARD_ROWS", 5)
    work(tmp_path / "plain", [rows(6)])
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(store, "write_parquet", interrupt)
        work(tmp_path / "killed", [rows(6)])
    work(tmp_path / "killed", [rows(6)])
    assert parts(tmp_path / "killed") == parts(tmp_path / "plain") and len(parts(tmp_path / "plain")) == 2


@pytest.mark.parametrize(
    ("where", "name", "call"),
    [(store, "file_digest", 0), (store.Step, "_write_manifest", 1), (journal_module.Journal, "remove", 0)],
)
@pytest.mark.parametrize("size", [13, 15])
def test_a_kill_while_a_step_ends_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch, size: int, where, name: str, call: int
) -> None:
    """The last shard, which is a smaller one or not, is there; the manifest may not say so yet."""
    monkeypatch.setattr(store, "SHARD_ROWS", 5)
    units = [rows(size)[:3], rows(size)[3:12], rows(size)[12:]]
    work(tmp_path / "plain", units)
    real, calls = getattr(where, name), []

    def killed(*args: object) -> object:
        calls.append(args)
        if len(calls) > call:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(where, name, killed)
        work(tmp_path / "killed", units)
    work(tmp_path / "killed", units)
    assert parts(tmp_path / "killed") == parts(tmp_path / "plain")
    assert finished_content(tmp_path / "killed", "x") == finished_content(tmp_path / "plain", "x")
    assert not (tmp_path / "killed" / JOURNAL).exists()


def test_a_step_that_is_complete_can_be_written_again(tmp_path: Path) -> None:
    """As features and baselines are, if the scenes that they belong to were not completed."""
    work(tmp_path, [rows(3)])
    content, shards = finished_content(tmp_path, "x"), parts(tmp_path)
    with open_step(tmp_path, RECIPE, SCHEMA) as step:
        assert step.complete
        step.write_shard(0, pa.Table.from_pylist(rows(3), schema=SCHEMA))
        step.finish(rows=3, notes=[])
    assert finished_content(tmp_path, "x") == content and parts(tmp_path) == shards


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda lines: [lines[0], "{", *lines[1:]], "is not as it was written in line 2"),
        (lambda lines: [{"shards": "one"}, *lines[1:]], "has no first line"),
        (lambda lines: lines[1:], "has no first line"),
        (lambda lines: [*lines, lines[-1]], "has unit 3 twice"),
        (lambda lines: [*lines, {"unit": 7}], "holds a line that is no unit"),
        (lambda lines: [lines[0] | {"shards": 3}, *lines[1:]], "does not fit the 1 shards"),
        (lambda lines: [], "does not fit the 1 shards"),
        (None, "is missing"),
    ],
)
def test_a_damaged_journal_is_one_sentence(tmp_path: Path, monkeypatch, damage, told: str) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 5)
    work(tmp_path, [rows(12)[:7], rows(12)[7:9], rows(12)[9:], []], [0, 1, 3])
    journal = tmp_path / JOURNAL
    lines = [json.loads(line[9:]) for line in journal.read_bytes().splitlines()]
    if damage is None:
        journal.unlink()
    else:
        journal.write_bytes(
            b"".join(
                line.encode() + b"\n" if isinstance(line, str) else journal_module._line(line)
                for line in damage(lines)
            )
        )
    with pytest.raises(UserError, match=rf"{told}.*delete {tmp_path}"), open_step(tmp_path, RECIPE, SCHEMA) as step:
        step.resume()


@pytest.mark.parametrize("place", range(0, 400, 7))
def test_a_letter_that_has_changed_in_a_journal_shows(tmp_path: Path, place: int) -> None:
    work(tmp_path, [rows(4), rows(4), []], [0, 1])
    journal = tmp_path / JOURNAL
    content = bytearray(journal.read_bytes())
    content[place] ^= 1
    journal.write_bytes(content)
    with pytest.raises(UserError, match="is not as it was written"), open_step(tmp_path, RECIPE, SCHEMA) as step:
        step.resume()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_other_settings_are_named(tmp_path: Path) -> None:
    work(tmp_path, [rows(2)])
    with pytest.raises(UserError, match="seed: 0 → 1"), open_step(tmp_path, {**RECIPE, "seed": 1}):
        pass
    before = (tmp_path / "part-00000.parquet").stat().st_mtime_ns, fingerprint(tmp_path)
    with open_step(tmp_path, RECIPE, SCHEMA) as step:
        assert step.complete
    assert before == ((tmp_path / "part-00000.parquet").stat().st_mtime_ns, fingerprint(tmp_path))


def test_two_processes_never_write_to_one_directory(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from usermirrorer.data.artefacts.store import open_step\n"
        "try:\n with open_step(Path(sys.argv[1]), {'step': 'x'}): pass\n"
        "except Exception as error: sys.exit(f'{type(error).__name__}: {error}')"
    )
    with open_step(tmp_path, {"step": "x"}):
        other = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert other.returncode == 1
    assert other.stderr.startswith(f"UserError: {tmp_path} is being written by another process")
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == 0


def test_unfinished_and_broken_directories_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="usermirrorer prepare toy"):
        finished_content(tmp_path, "prepare toy")
    store.manifest_path(tmp_path).write_text("{")
    with pytest.raises(UserError, match="manifest.json is not JSON of ours"):
        finished_content(tmp_path, "prepare toy")
    with pytest.raises(UserError, match="holds no .*parquet"):
        read_parts(tmp_path)


def test_an_input_that_changed_is_refused_with_its_name(tmp_path: Path) -> None:
    directory, shard = tmp_path / "step", tmp_path / "step" / "part-00000.parquet"
    work(directory, [rows(3)])
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + b"2")
    with pytest.raises(
        UserError, match=r"part-00000.parquet is not what its manifest says .*; delete .* `usermirrorer x"
    ):
        finished_content(directory, "x")
    shard.write_bytes(whole)
    assert finished_content(directory, "x")["rows"] == 3
    shard.rename(directory / "part-00001.parquet")
    with pytest.raises(UserError, match="part-00000.parquet is missing"):
        finished_content(directory, "x")
    shard.symlink_to(shard.name)
    with pytest.raises(UserError, match="part-00000.parquet can't be read"):
        finished_content(directory, "x")
    manifest = store.manifest_path(directory)
    manifest.write_text(manifest.read_text().replace('"rows": 3', '"rows": 4'))
    with pytest.raises(UserError, match="manifest.json is not as it was written"):
        finished_content(directory, "x")


def test_datasets_reads_the_directory_as_it_is(tmp_path: Path) -> None:
    from datasets import load_dataset

    work(tmp_path / "step", [rows(7)])
    assert {".step.manifest.json", "step.md"} < {path.name for path in tmp_path.iterdir()}
    loaded = load_dataset("parquet", data_dir=str(tmp_path / "step"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].to_list() == rows(7)


def test_no_rows_are_still_a_file_with_its_schema(tmp_path: Path) -> None:
    work(tmp_path, [])
    assert read_parts(tmp_path).schema == SCHEMA


def test_a_directory_that_was_deleted_is_made_again_whatever_its_settings(tmp_path: Path) -> None:
    directory = tmp_path / "step"
    work(directory, [rows(2)])
    shutil.rmtree(directory)
    assert read_manifest(directory) is None
    with open_step(directory, {**RECIPE, "seed": 1}, SCHEMA) as step:
        assert not step.complete
        step.finish(rows=0)
    assert finished_content(directory, "x")["recipe"]["seed"] == 1
