"""What an unfinished step has made so far: units of work that end in any order, cut into shards in their own order.

A unit is one scene of the input with the rows that it gives, which may be none. `.journal.jsonl` holds the units that
are not in whole shards: first a line on what the shards hold, then a line for each unit, written as it ends. A kill
loses nothing but a line that is half written. Each line begins with its checksum, so that damage shows.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from usermirrorer.errors import UserError


JOURNAL = ".journal.jsonl"

Row = dict[str, Any]
Note = dict[str, Any]


def _no_shard(index: int, rows: list[Row]) -> None:
    raise AssertionError("this journal is not cut into shards")


class Journal:
    """The units of one step. `cut` writes a shard of the next `shard_rows` rows; by default there are no shards."""

    def __init__(
        self, directory: Path, shard_rows: int = 2**62, cut: Callable[[int, list[Row]], None] = _no_shard
    ) -> None:
        self.path = directory / JOURNAL
        self.shard_rows = shard_rows
        self.cut = cut
        self.shards = 0
        self.first = 0
        """The first unit that is not all in shards"""
        self.skip = 0
        """Its rows that are"""
        self.notes: dict[int, Note] = {}
        """What the step's counts are made of, by unit"""
        self.later: dict[int, list[Row]] = {}
        """Units behind one that is missing"""
        self.next_units: deque[tuple[int, list[Row]]] = deque()
        """Units from `first` on, without a gap"""
        self.pending = 0
        """Their rows that are in no shard"""
        self.end = 0
        """The first unit that is missing"""
        self.file: BinaryIO | None = None

    def __contains__(self, unit: int) -> bool:
        return unit < self.end or unit in self.later

    @property
    def units(self) -> int:
        """How many units are there."""
        return self.end + len(self.later)

    @property
    def rows(self) -> list[Row]:
        """The rows, in order, that are in no shard; without those behind a missing unit."""
        rows = [row for _, unit in self.next_units for row in unit]
        return rows[self.skip :]

    def resume(self, shards: int = 0) -> None:
        """Read what an interrupted run left beside its whole shards. Raises UserError for a damaged journal."""
        if not self.path.is_file():
            if shards:
                raise self._damaged("is missing")
        else:
            lines = _entries(self.path, self._damaged)
            head = next(lines, None)
            if head is not None:
                self._read_head(head)
            for line in lines:
                self._read_unit(line)
        whole, rest = divmod(self.pending, self.shard_rows)
        # A kill may come after the last shard, a smaller one, was written: it is written again.
        if rest and shards == self.shards + whole + 1:
            shards -= 1
        if not self.shards <= shards <= self.shards + whole:
            raise self._damaged(f"does not fit the {shards} shards")
        # A kill may come after a shard was written and before the journal said so.
        while self.shards < shards:
            self._drop(self.shard_rows)
        if self.path.is_file():
            self._rewrite()

    def put(self, unit: int, rows: Sequence[Mapping[str, Any]], note: Note | None = None) -> None:
        """Add a unit; from then on it survives a kill."""
        assert unit not in self, f"unit {unit} is there already"
        kept = [dict(row) for row in rows]
        if self.file is None:
            self._rewrite()
        assert self.file is not None
        self.file.write(_line({"unit": unit, "rows": kept} | ({"note": note} if note else {})))
        self.file.flush()
        self._add(unit, kept, note)
        if self.pending >= self.shard_rows:
            self._cut_shards(self.shard_rows)
            self._rewrite()

    def finish(self) -> None:
        """Cut the last shards. Raises AssertionError if a unit is missing.

        The file stays until `remove`, since a kill may come before the step is known to be complete.
        """
        assert not self.later, f"unit {self.end} is missing"
        self._cut_shards(1)
        self.close()

    def remove(self) -> None:
        """Remove the file: the step is complete."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def _add(self, unit: int, rows: list[Row], note: Note | None) -> None:
        if note:
            self.notes[unit] = note
        self.later[unit] = rows
        while self.end in self.later:
            found = self.later.pop(self.end)
            self.next_units.append((self.end, found))
            self.pending += len(found)
            self.end += 1

    def _cut_shards(self, least: int) -> None:
        """Write shards of what is pending while that is at least so many rows."""
        while self.pending >= least:
            rows = self.rows[: self.shard_rows]
            self.cut(self.shards, rows)
            self._drop(len(rows))

    def _drop(self, rows: int) -> None:
        """Forget the first rows, which are now in a shard."""
        self.shards += 1
        self.pending -= rows
        self.skip += rows
        while self.next_units and self.skip >= len(self.next_units[0][1]):
            self.skip -= len(self.next_units.popleft()[1])
            self.first += 1

    def _read_head(self, line: Any) -> None:
        try:
            self.shards, self.first, self.skip = (int(line[name]) for name in ("shards", "first", "skip"))
            self.notes = {int(unit): dict(note) for unit, note in line["notes"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._damaged("has no first line") from None
        self.end = self.first
        self.pending = -self.skip

    def _read_unit(self, line: Any) -> None:
        unit, rows = (line.get("unit"), line.get("rows")) if isinstance(line, dict) else (None, None)
        if not isinstance(unit, int) or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._damaged("holds a line that is no unit")
        if unit < self.first or unit in self:
            raise self._damaged(f"has unit {unit} twice")
        self._add(unit, rows, line.get("note"))

    def _rewrite(self) -> None:
        """Begin the file anew with what is in no shard; it stays open for the units that follow."""
        self.close()
        head = {"shards": self.shards, "first": self.first, "skip": self.skip, "notes": self.notes}
        units = [*self.next_units, *self.later.items()]
        temporary = self.path.with_name(f"{self.path.name}.tmp")
        self.file = open(temporary, "wb")
        self.file.writelines([_line(head), *(_line({"unit": unit, "rows": rows}) for unit, rows in units)])
        self.file.flush()
        os.replace(temporary, self.path)

    def _damaged(self, what: str) -> UserError:
        return UserError(f"{self.path} {what}: it is damaged; delete {self.path.parent} and run the step again")


def journal_rows(directory: Path) -> int:
    """How many rows the journal of a step holds that are in no whole shard; 0 if there is none."""
    if not (directory / JOURNAL).is_file():
        return 0
    journal = Journal(directory)
    lines = _entries(journal.path, journal._damaged)
    skip = (next(lines, None) or {}).get("skip", 0)
    return max(0, sum(len(line["rows"]) for line in lines if isinstance(line, dict) and "rows" in line) - skip)


def _entries(path: Path, damaged: Callable[[str], UserError]) -> Iterator[Any]:
    """The lines of a journal, without one that a kill cut off."""
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        checksum, _, value = line.partition(b" ")
        if checksum != _checksum(value):
            raise damaged(f"is not as it was written in line {number}")
        yield json.loads(value)


def _line(value: Mapping[str, Any]) -> bytes:
    written = json.dumps(value, ensure_ascii=False).encode()
    return _checksum(written) + b" " + written + b"\n"


def _checksum(content: bytes) -> bytes:
    return b"%08x" % crc32(content)
