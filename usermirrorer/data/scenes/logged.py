"""Real impressions as lists: the click, and what else was shown.

A longer impression than asked for keeps the click and a draw of the rest, in which every item is equally likely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from usermirrorer.data.log.choices import Choices
from usermirrorer.data.log.events import ragged_ranges
from usermirrorer.data.log.tables import Tables
from usermirrorer.seeds import Stream, uniforms


UNKNOWN = -2
"""An item of an impression that the items table lacks."""


@dataclass(frozen=True)
class Impressions:
    """The items of all impressions, and where each impression begins."""

    item: np.ndarray
    """int64 `(items shown,)`: rows of the items table, or `UNKNOWN`"""
    start: np.ndarray
    """int64 `(impressions + 1,)`"""

    @staticmethod
    def of(tables: Tables) -> Impressions:
        """Each item once per impression, in the recorded order."""
        assert tables.impressions is not None
        lists = tables.impressions.select(item_id="items").with_row_index("row")
        flat = lists.explode("item_id").unique(maintain_order=True)
        known = tables.items.select("item_id").with_row_index("item")
        flat = flat.join(known, on="item_id", how="left", maintain_order="left")
        start = np.searchsorted(flat["row"].to_numpy(), np.arange(len(lists) + 1))
        return Impressions(flat["item"].cast(pl.Int64).fill_null(UNKNOWN).to_numpy(), start)


def shown_beside(
    impressions: Impressions, choices: Choices, lengths: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Items beside each choice, `(choices, most - 1)` padded with -1, and each impression's length, `(choices,)`.

    `lengths` are the fewest and most options. The length is 0 if an item is unknown: such a list can't be shown.
    """
    start, length = impressions.start[choices.impression], np.diff(impressions.start)[choices.impression]
    unknown = np.add.reduceat(np.append(impressions.item == UNKNOWN, False), impressions.start[:-1]) > 0
    row, index = ragged_ranges(start, length)
    item = impressions.item[index]
    other = item != choices.item[row]
    row, index, item = row[other], index[other], item[other]
    # Every other item gets a random number; those with the lowest are shown.
    place = index - start[row]
    most_shown = int(length.max(initial=1))
    order = np.lexsort((uniforms(choices.key, Stream.EXPOSURE, most_shown)[row, place], row))
    row, item = row[order], item[order]
    slot = np.arange(len(row)) - np.searchsorted(row, row, side="left")
    kept = slot < lengths[1] - 1
    beside = np.full((len(choices), lengths[1] - 1), -1, dtype=np.int32)
    beside[row[kept], slot[kept]] = item[kept]
    return beside, np.where(unknown[choices.impression], 0, length)
