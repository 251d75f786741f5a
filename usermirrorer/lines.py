"""Lines of files that anybody may have written: numbered, unpacked, and of bounded length."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from usermirrorer.errors import UserError


LONGEST_LINE = 16 * 2**20
"""Bytes. A few megabytes of gzip unpack to gigabytes; a longer line is damage and not a row."""


def open_plain(path: Path) -> IO[bytes]:
    """The file as bytes, unpacked if its name ends in .gz."""
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Every line with its number from 1. Raises UserError with file:line for damaged gzip and too long a line."""
    number = 0
    try:
        with open_plain(path) as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                refuse_long_lines(path, number, line)
                yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged_gzip(path, number + 1, error) from None


def refuse_long_lines(path: Path, first_line: int, content: bytes) -> None:
    """Raises UserError with file:line if a line of `content`, which begins at `first_line`, is too long."""
    begin = 0
    while len(content) - begin > LONGEST_LINE:
        end = content.rfind(b"\n", begin, begin + LONGEST_LINE + 1)
        if end < 0:
            line = first_line + content.count(b"\n", 0, begin)
            raise UserError(f"{path}:{line}: longer than {LONGEST_LINE // 2**20} MB; write one row a line")
        begin = end + 1


def damaged_gzip(path: Path, line: int, error: Exception) -> UserError:
    return UserError(f"{path}:{line}: gzip is damaged at about this line ({error}); download it again")
