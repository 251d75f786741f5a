"""Evidence: what the log before the window says of a person and an option, as a word in the option's text.

The word tells how strongly item-kNN, with recent choices counting more, leads from the person's earlier choices to the
option. It is about the person and as of the choice, so a list with it gives away no more than the history does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from usermirrorer.data.artefacts.schema import list_column
from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import EVIDENCE, EVIDENCE_WORDS


MODEL = "item-knn"
"""The model over items whose scores, in their recent form, become words."""

QUANTILES = (0.5, 0.8)
"""Of the scores of all options of train scenes: a score up to the first is `rarely`, one above the second `often`."""


@dataclass(frozen=True)
class Evidence:
    """How scores become words: half-life of a choice's weight, in choices, and the scores at which words change."""

    half_life: float
    cuts: tuple[float, ...]

    @staticmethod
    def fit(scores: np.ndarray, half_life: float) -> Evidence:
        """Fit on the scores of train scenes, `(scenes, options)`, NaN where padded."""
        return Evidence(half_life, tuple(np.nanquantile(scores.astype(np.float64), QUANTILES).round(6).tolist()))

    @staticmethod
    def of(record: Mapping[str, Any] | None, place: str) -> Evidence:
        """As recorded with train scenes. Raises UserError, naming `place`, if those were made without."""
        if not record:
            raise UserError(
                f"{place}: there are no train scenes with evidence, on which its words are fitted; make them first"
            )
        return Evidence(record["half_life"], tuple(record["cuts"]))

    @property
    def record(self) -> dict[str, Any]:
        """For manifests."""
        return {"model": f"recent {MODEL}", **asdict(self), "cuts": list(self.cuts), "words": list(EVIDENCE_WORDS)}

    def words(self, scores: np.ndarray) -> pl.Series:
        """The word of each score, `(options,)`. A score of 0 is never above a cut."""
        return pl.Series(EVIDENCE_WORDS).gather(np.searchsorted(self.cuts, scores.astype(np.float64).round(6)))

    def shown(self, options: pa.ListArray, scores: np.ndarray) -> pa.ListArray:
        """The options of lists with their words. `scores`, `(lists, most options)`, has NaN where padded."""
        texts = pl.Series(options.flatten().cast(pa.large_string()))
        words = self.words(scores[~np.isnan(scores)])
        written = pl.select(pl.format("{}" + EVIDENCE, texts, words)).to_series()
        return list_column(written.to_arrow().cast(pa.string()), (~np.isnan(scores)).sum(axis=1))
