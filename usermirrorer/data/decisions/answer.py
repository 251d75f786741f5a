"""Scenes → rows: the part of `decide` and `score` that asks a model, whatever it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from usermirrorer.errors import StepFailed
from usermirrorer.llm.execution import run
from usermirrorer.llm.protocol import LanguageModel
from usermirrorer.llm.requests import T, Task


READ = 256
"""Rows of a step's output that are read at a time."""


def answer_scenes(model: LanguageModel, tasks: Iterator[tuple[int, Task[T]]], keep: Callable[[int, T], None]) -> None:
    """Run a task for each of some scenes, given by their numbers, and `keep` its result as soon as it ends.

    The model is not started if there is no task. Raises StepFailed, once all the others are kept, if some scenes were
    not answered.
    """
    first = next(tasks, None)
    if first is None:
        return
    numbers: list[int] = []

    def noted() -> Iterator[Task[T]]:
        for number, task in chain([first], tasks):
            numbers.append(number)
            yield task

    failed: list[tuple[int, StepFailed]] = []
    for place, result in run(model.session(), noted()):
        if isinstance(result, StepFailed):
            failed.append((numbers[place], result))
        else:
            keep(numbers[place], result)
    if failed:
        number, error = min(failed, key=lambda one: one[0])
        raise StepFailed(
            f"{len(failed):,} of {len(numbers):,} scenes were not answered, the first (number {number + 1:,}) because "
            f"of this: {error}; all others are kept: start again"
        )


def read_rows(directory: Path, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Some columns of a step's output, row by row in order."""
    for part in sorted(directory.glob("*.parquet")):
        for batch in pq.ParquetFile(part).iter_batches(READ, columns=columns):
            yield from zip(*(batch[name].to_pylist() for name in columns), strict=True)
