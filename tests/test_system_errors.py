"""What the system refuses ends in one sentence that names path and reason, and leaves nothing behind."""

from __future__ import annotations

import gzip
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from usermirrorer.cli import main
from usermirrorer.data.artefacts.store import open_step, read_manifest, write_bytes
from usermirrorer.errors import LONGEST, StepFailed, UserError, told
from usermirrorer.lines import LONGEST_LINE, read_lines
from usermirrorer.records import read_record, sealed


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in this process: exit status, and what it says on stderr."""

    def run(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["usermirrorer", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), capsys.readouterr().err

    return run


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Files can't grow beyond `size`, as on a disk that is full."""
    before, bytecode = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.dont_write_bytecode = True  # the interpreter does not notice that it was cut short
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = bytecode


def test_a_full_disk_fails_the_step_and_the_next_run_makes_it(command: Command, tmp_path: Path) -> None:
    with small_disk(20_000):
        status, said = command("prepare", "toy", "--work", tmp_path)
    [line] = said.splitlines()
    assert status == 1 and "File too large; make room" in line and str(tmp_path / "tables" / "toy") in line
    assert not list(tmp_path.rglob("*.tmp"))
    assert command("prepare", "toy", "--work", tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        ("file/work", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("/sys/work", "not permitted"),
        ("loop/x", "Symlink loop"),
    ],
)
def test_a_path_that_cannot_be_written_is_named(command: Command, tmp_path: Path, work: str, reason: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    status, said = command("prepare", "toy", "--work", tmp_path / work)
    [line] = said.splitlines()
    assert status == 2 and reason in line and work[:200] in line


def test_a_read_only_directory_is_named(command: Command, tmp_path: Path) -> None:
    if subprocess.run(["mount", "--bind", tmp_path, tmp_path], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", tmp_path], check=True)
        status, said = command("prepare", "toy", "--work", tmp_path / "work")
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert status == 2 and said == (
        f"usermirrorer: {tmp_path / 'work'}: Read-only file system; pass a path that can be read and written\n"
    )


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_without_an_end_is_refused_in_bounded_memory(tmp_path: Path, packed: bool) -> None:
    """300 MB of one line; packed, it is a file of 300 KB."""
    path, piece = tmp_path / ("log.jsonl.gz" if packed else "log.jsonl"), b"x" * 2**20
    with gzip.open(path, "wb", 1) if packed else path.open("wb") as file:
        for _ in range(300):
            file.write(piece)
    script = (
        "import resource, sys; from pathlib import Path; import polars\n"
        "from usermirrorer.data.sources.readers.files import read_chunks; from usermirrorer.lines import read_lines\n"
        "from usermirrorer.errors import UserError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for read in (read_chunks, read_lines):\n"
        "    try: list(read(Path(sys.argv[1])))\n"
        "    except UserError as error: print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    *said, grown = done.stdout.splitlines()
    assert said == [f"{path}:1: longer than 16 MB; write one row a line"] * 2
    assert int(grown) < 200


def test_long_lines_are_read_up_to_the_bound(tmp_path: Path) -> None:
    lines = [b"a" * 10 + b"\n", b"b" * (LONGEST_LINE - 1) + b"\n", b"c"]
    path = tmp_path / "log"
    path.write_bytes(b"".join(lines))
    assert [line for _, line in read_lines(path)] == lines
    path.write_bytes(b"a\n" + b"b" * (LONGEST_LINE + 1))
    with pytest.raises(UserError, match="log:2: longer than 16 MB"):
        list(read_lines(path))


def test_a_failed_step_leaves_nothing_and_one_with_rows_stays(tmp_path: Path) -> None:
    directory = tmp_path / "decisions" / "toy" / "strong"
    with pytest.raises(StepFailed), open_step(directory, {"step": "x"}):
        raise StepFailed("no")
    assert list(tmp_path.iterdir()) == []
    directory.parent.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), open_step(directory, {"step": "x"}):
        (directory / "part-00000.parquet").touch()
        raise KeyboardInterrupt
    assert read_manifest(directory) == {"content": {"recipe": {"step": "x"}, "finished": False}, "run": {}}


def test_another_process_in_a_directory_loses_nothing_to_a_failure_of_ours(tmp_path: Path) -> None:
    directory = tmp_path / "toy"
    with open_step(directory, {"step": "x"}):
        with pytest.raises(UserError, match="written by another process"), open_step(directory, {"step": "x"}):
            raise AssertionError("two writers")
        assert read_manifest(directory) is not None


def test_a_record_that_changed_is_refused(tmp_path: Path) -> None:
    path, record = tmp_path / "record.json", {"a": {"b": [1, None, 2.5, "é"]}, "1": (2,)}
    path.write_bytes(sealed({**record, 2: float("inf")}))
    assert read_record(path, "make it again") == {"a": record["a"], "1": [2], "2": float("inf")}
    path.write_text(path.read_text().replace("2.5", "2.6"))
    with pytest.raises(UserError, match=r"record.json is not as it was written \(changed or damaged\); make it again"):
        read_record(path, "make it again")
    for damaged in (b"{", b"[" * 100_000, b"[]", b"\xff", b'"\\ud800"', b'{"a": "\\ud800"}', b"9" * 5000):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is not JSON of ours"):
            read_record(path, "make it again")
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="can't be read"):
        read_record(path, "make it again")


def test_messages_are_one_line_that_can_be_printed() -> None:
    said = str(UserError("a\nb\x1b[31mc\u2028" + "d" * 5000))
    assert said.isprintable() and said.startswith("a b\N{REPLACEMENT CHARACTER}[31mc d") and len(said) == LONGEST


def test_mistakes_of_ours_keep_their_traceback(tmp_path: Path) -> None:
    assert told(KeyError("x")) is None and told(ValueError("x")) is None
    with pytest.raises(OSError) as found:
        write_bytes(tmp_path / "none" / "x", b"")
    known = told(found.value)
    assert isinstance(known, UserError) and str(known).startswith(str(tmp_path / "none"))
    assert isinstance(told(OSError(28, os.strerror(28), "x")), StepFailed)
