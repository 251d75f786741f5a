"""A step's output on disk: shards of fixed size, a manifest, a lock, and resumption.

A directory holds nothing but shards of 4,096 rows each in canonical order, so that any reader of parquet opens it;
`.NAME.manifest.json` and the card `NAME.md` lie beside it. The manifest's `content` block determines the bytes and is
compared on resume; its `run` block (times, host) is not.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from usermirrorer.data.artefacts.journal import JOURNAL, Journal, Note, journal_rows
from usermirrorer.errors import UserError
from usermirrorer.records import read_record, sealed


SHARD_ROWS = 4096
SHARD = re.compile(r"\w+-\d{5}\.parquet")
MANIFEST = ".manifest.json"
"""How the name of a manifest ends."""
LOCK = ".lock"


class Progress(Protocol):
    """Reports how far a running step is, and how many tokens its models have read and written so far."""

    def __call__(self, done: int, total: int, read: int = 0, written: int = 0) -> None: ...


def unseen(done: int, total: int, read: int = 0, written: int = 0) -> None:
    """Progress that nobody watches."""


class Step:
    """The output directory of one step while it is being written. Open it with `open_step`."""

    def __init__(
        self,
        directory: Path,
        recipe: Mapping[str, Any],
        schema: pa.Schema | None,
        made_with: Callable[[], Mapping[str, Any]] | None = None,
    ):
        self.directory = directory
        self.recipe = json.loads(json.dumps(recipe))
        self.schema = schema
        self.started = time.time()
        manifest = read_manifest(directory)
        if manifest is not None and not _has_rows(directory):
            manifest = None  # rows that were deleted, or never written, leave no settings to match
        if manifest is not None and manifest["content"]["recipe"] != self.recipe:
            changed = changes(manifest["content"]["recipe"], self.recipe)
            raise UserError(f"{directory} was made with other settings ({changed}); delete it or use another --work")
        self.complete = manifest is not None and manifest["content"].get("finished", False)
        self.content: dict[str, Any] = manifest["content"] if manifest else {}
        self.journal = Journal(directory, SHARD_ROWS, self._cut)
        self.made_with: dict[str, Any] = {}
        if self.complete:
            self.journal.remove()
            return
        if made_with:
            self.made_with = {"made_with": dict(made_with())}
        before = self.content.get("made_with")
        if before is not None and before != self.made_with.get("made_with"):
            changed = changes(before, self.made_with["made_with"])
            raise UserError(
                f"{directory} was begun with something else ({changed}); finish it with that, or delete it"
            )
        if manifest is None:
            self._write_manifest({"recipe": self.recipe, **self.made_with, "finished": False}, {})

    def resume(self) -> None:
        """Take up what an interrupted run left: `in self` then tells which units are done."""
        shards = 0
        while self._shard(shards).is_file():
            shards += 1
        self.journal.resume(shards)

    def __contains__(self, unit: int) -> bool:
        return unit in self.journal

    def put(self, unit: int, rows: Sequence[Mapping[str, Any]], note: Note | None = None) -> None:
        """Add the rows of a unit, in any order of units; from then on they survive a kill.

        Units are numbered from 0; their order is that of the rows in the shards. `note` is kept for the step's counts.
        """
        self.journal.put(unit, rows, note)

    def written(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all rows put so far, on disk or pending."""
        pending = pa.Table.from_pylist(self.journal.rows, schema=self.schema).select(list(columns))
        return pa.concat_tables([read_parts(self.directory, columns), pending]) if self.journal.shards else pending

    def write_shard(self, index: int, table: pa.Table) -> None:
        """Write one whole shard, for steps that make their shards independently of each other."""
        write_parquet(table, self._shard(index))

    def finish(self, **results: Any) -> None:
        """Write pending rows, the shards' digests, the results and the card; the step is then complete."""
        from usermirrorer.data.artefacts.card import step_card

        self.journal.finish()
        digests = {path.name: file_digest(path) for path in sorted(self.directory.glob("*.parquet"))}
        if not digests and self.schema is not None:
            self.write_shard(0, self.schema.empty_table())
            digests = {self._shard(0).name: file_digest(self._shard(0))}
        self.content = {"recipe": self.recipe, **self.made_with, "finished": True, **results, "files": digests}
        run = {
            "seconds": round(time.time() - self.started, 3),
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "host": platform.node(),
            "python": platform.python_version(),
        }
        self._write_manifest(self.content, run)
        self.journal.remove()
        write_bytes(card_path(self.directory), step_card(self.directory, self.content).encode())
        self.complete = True

    def _shard(self, index: int) -> Path:
        return self.directory / shard_name(index, self.recipe)

    def _cut(self, index: int, rows: list[dict[str, Any]]) -> None:
        self.write_shard(index, pa.Table.from_pylist(rows, schema=self.schema))

    def _write_manifest(self, content: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        write_bytes(manifest_path(self.directory), sealed({"content": content, "run": run}))


@contextmanager
def open_step(
    directory: Path,
    recipe: Mapping[str, Any],
    schema: pa.Schema | None = None,
    made_with: Callable[[], Mapping[str, Any]] | None = None,
) -> Iterator[Step]:
    """Lock `directory` and compare its manifest with `recipe`, and unless it is finished, also with `made_with`.

    If the step fails without a row, nothing is left of it.

    Raises UserError if another process is writing there, or if it holds the result of another recipe.
    """
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / LOCK, directory):
        step = None
        try:
            step = Step(directory, recipe, schema, made_with)
            yield step
        except Exception:
            if directory in made and not _has_rows(directory):
                _remove(directory, made)
            raise
        finally:
            if step is not None:
                step.journal.close()


def _remove(directory: Path, made: Sequence[Path]) -> None:
    """Remove a directory with its manifest, and those above it that were `made` for it and are empty again."""
    manifest_path(directory).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
    with suppress(OSError):
        for path in made[1:]:
            path.rmdir()


@contextmanager
def locked(path: Path, what: Path) -> Iterator[None]:
    """Hold the lock file `path` while `what` is written. Raises UserError if another process holds it."""
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A step that failed removes its directory: the lock in it is nobody's any more.
            free = os.fstat(lock.fileno()).st_nlink > 0
        except OSError:
            free = False
        if not free:
            raise UserError(f"{what} is being written by another process; wait for it to finish")
        yield


def shard_name(index: int, recipe: Mapping[str, Any]) -> str:
    """`test-00000.parquet` if the step has splits, from which `load_dataset` knows the split, else `part-…`."""
    return f"{recipe.get('split', 'part')}-{index:05d}.parquet"


def manifest_path(directory: Path) -> Path:
    """`.NAME.manifest.json` beside a step's directory: hidden, so that `load_dataset` of all splits passes it over."""
    directory = directory.resolve()
    return directory.with_name(f".{directory.name}{MANIFEST}")


def directory_of(manifest: Path) -> Path:
    """The step's directory that a manifest lies beside."""
    return manifest.with_name(manifest.name[1 : -len(MANIFEST)])


def card_path(directory: Path) -> Path:
    """`NAME.md` beside the shards; `README.md` among tables, whose header names the table of every configuration."""
    directory = directory.resolve()
    tables = any(not SHARD.fullmatch(path.name) for path in directory.glob("*.parquet"))
    return directory / "README.md" if tables else directory.with_name(f"{directory.name}.md")


def _has_rows(directory: Path) -> bool:
    return (directory / JOURNAL).is_file() or any(directory.glob("*.parquet"))


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """The manifest of a step's directory, or None. Raises UserError if it is not one, or has changed since."""
    path, remedy = manifest_path(directory), f"delete {directory} and run the step that makes it again"
    if not directory.is_dir() or not os.path.lexists(path):
        return None
    manifest = read_record(path, remedy)
    content = manifest.get("content")
    inner = [content.setdefault("recipe", {}), content.get("files", {})] if isinstance(content, dict) else [None]
    if not all(isinstance(block, dict) for block in (manifest.get("run"), *inner)):
        raise UserError(f"{path} is not a manifest; {remedy}")
    return manifest


def finished_manifest(directory: Path, remedy: str = "run the step that makes it again") -> dict[str, Any] | None:
    """The content block of a finished step, or None if there is none.

    Raises UserError, with the `remedy`, if its files are not those that the step wrote.
    """
    manifest = read_manifest(directory)
    if manifest is None or not manifest["content"].get("finished"):
        return None
    content, files = manifest["content"], {path.name: path for path in directory.glob("*.parquet")}
    # A manifest that somebody wrote by hand need not list its files.
    for name, problem in changed_files(files, content["files"]) if "files" in content else ():
        raise UserError(f"{directory / name} {problem}; delete {directory} and {remedy}")
    return content


def finished_content(directory: Path, command: str) -> dict[str, Any]:
    """The content block of a finished step. Raises UserError naming the `command` that makes it."""
    content = finished_manifest(directory, f"run `usermirrorer {command}` again")
    if content is None:
        raise UserError(f"{directory} is not there or not finished; run `usermirrorer {command}` first")
    return content


def changed_files(present: Mapping[str, Path], recorded: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each file of a step that is not as its manifest has `recorded` it, with what is wrong."""
    for name in sorted(recorded.keys() | present.keys()):
        if name not in present:
            yield name, "is missing"
        elif name not in recorded:
            yield name, "is not in the manifest"
        else:
            try:
                digest = file_digest(present[name])
            except OSError as error:
                yield name, f"can't be read ({error.strerror})"
                continue
            if digest != recorded[name]:
                yield name, "is not what its manifest says (changed or damaged)"


def fingerprint(directory: Path) -> str:
    """16 hex digits of a step's content block: what later steps record of their inputs."""
    manifest = read_manifest(directory)
    if manifest is None:
        raise UserError(f"{directory} has no manifest beside it; run the step that makes it")
    text = json.dumps(manifest["content"], sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with _whole(path) as temporary:
        temporary.write_bytes(content)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a parquet file whole or not at all."""
    with _whole(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Another path to write to, moved to `path` at the end; nothing is left of it if that fails."""
    temporary = path.with_name(f".{path.name.lstrip('.')}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno and not error.filename:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
        raise


def read_parts(directory: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All shards of a step in order."""
    shards = sorted(directory.glob("*.parquet"))
    if not shards:
        raise UserError(f"{directory} holds no *.parquet; run the step that makes it")
    return pa.concat_tables([pq.read_table(path, columns=list(columns) if columns else None) for path in shards])


def file_digest(path: Path) -> str:
    """16 hex digits of a file's bytes. A file that has not changed since is not read again."""
    found = path.stat()
    return _digest(path, found.st_size, found.st_mtime_ns, found.st_ino)


@lru_cache(maxsize=65_536)
def _digest(path: Path, size: int, changed: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def rows_written(directory: Path) -> int:
    """Rows that a step has on disk, finished or not."""
    return len(list(directory.glob("*.parquet"))) * SHARD_ROWS + journal_rows(directory)


def changes(before: Any, now: Any) -> str:
    """The settings that differ, as `seed: 0 → 1`."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f"{before} → {now}"
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ", ".join(f"{key}: {before.get(key)} → {now.get(key)}" for key in keys)
