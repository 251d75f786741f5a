"""Evidence beside the options of lists that nobody has chosen from yet: the words that scenes show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from usermirrorer.data.artefacts.store import finished_manifest
from usermirrorer.data.items.histories import histories_in_blocks
from usermirrorer.data.items.models import item_knn
from usermirrorer.data.items.neighbours import Neighbours
from usermirrorer.data.items.recency import decay
from usermirrorer.data.log.choices import choice_log
from usermirrorer.data.log.events import Log
from usermirrorer.data.log.tables import Cuts, Tables, load_cuts
from usermirrorer.data.scenes.as_of import NOBODY
from usermirrorer.data.scenes.evidence import Evidence
from usermirrorer.data.sources import choice_rule
from usermirrorer.simulate.outside import Event, typed


@dataclass(frozen=True)
class ListEvidence:
    """The evidence of a domain whose train scenes have it, with the models of either window."""

    tables: Tables
    evidence: Evidence
    choice: str
    """What counted as a choice in the train scenes"""
    cuts: Cuts

    @cached_property
    def _choices(self) -> Log:
        return choice_log(self.tables, self.choice)

    @cached_property
    def _before_train(self) -> Neighbours:
        return item_knn(self._choices.before(self.cuts.train))

    @cached_property
    def _before_test(self) -> Neighbours:
        return item_knn(self._choices.before(self.cuts.test))

    def chosen(self, past: Sequence[Event], at: int) -> list[int]:
        """The items that a person outside the log chose before `at`, in order. Raises UserError for a wrong value."""
        before = [event for event in past if event.time is None or event.time < at]
        columns = {
            name: typed([event.values.get(name) for event in before], kind, [f"{e.where} {name}" for e in before])
            for name, kind in self.tables.event_columns.schema.items()
        }
        frame = pl.DataFrame({**columns, "_item": pl.Series([event.item for event in before], dtype=pl.Int64)})
        return frame.filter(choice_rule(self.tables.domain, self.choice))["_item"].to_list()

    def shown(
        self,
        options: pa.ListArray,
        item: np.ndarray,
        user: np.ndarray,
        at: np.ndarray,
        chosen: Sequence[Sequence[int]],
    ) -> pa.ListArray:
        """The options of lists with their words: `(lists,)`.

        `item` is `(lists, most options)`, -1 where padded, and beyond the items of the log where an item is new: no
        log leads to it. `user` may be NOBODY, whose earlier choices are in `chosen`.
        """
        known = np.where(item < self.tables.log.items, item, -1)
        scores = np.zeros(item.shape, dtype=np.float32)
        for row, log, person in (
            (user != NOBODY, self._choices, user),
            (user == NOBODY, *_log_of(chosen, self.tables)),
        ):
            for late in (False, True):
                rows = np.flatnonzero(row & ((at >= self.cuts.test) == late))
                time = at[rows] if log is self._choices else np.full(len(rows), len(log))
                for block, histories in histories_in_blocks(log, person[rows], time):
                    model = self._before_test if late else self._before_train
                    decays = decay(self.evidence.half_life)[None]
                    scores[rows[block]] = model.option_scores(histories, known[rows[block]], decays)[0]
        return self.evidence.shown(options, np.where(item >= 0, scores, np.nan))


def read_evidence(work: Path, name: str, tables: Tables) -> ListEvidence | None:
    """The evidence that the train scenes of a domain show, None if they show none."""
    content = finished_manifest(work / "features" / name / "train")
    if content is None or "evidence" not in content:
        return None
    evidence = Evidence.of(content["evidence"], f"{name} train")
    return ListEvidence(tables, evidence, content["recipe"]["choice"], load_cuts(work, name))


def _log_of(chosen: Sequence[Sequence[int]], tables: Tables) -> tuple[Log, np.ndarray]:
    """A log of these choices, list by list, and the list's number as its user: `(lists,)`."""
    count, users = [len(items) for items in chosen], np.arange(len(chosen))
    item = np.array([one for items in chosen for one in items], dtype=np.int32)
    return Log(
        np.repeat(users, count).astype(np.int32), item, np.arange(len(item)), len(users), tables.log.items
    ), users
