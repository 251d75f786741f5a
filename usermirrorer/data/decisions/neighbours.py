"""`scripted:neighbours`: decision processes that name which earlier choice leads to the option, by the log alone.

The log before the train window says which items are chosen by the same people (item-kNN). An option is sampled in
proportion to a power of its score for this person, recent choices counting more, and the rationale names the shown
entry of the history that adds most to that score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.store import finished_content
from usermirrorer.data.items.histories import histories_in_blocks
from usermirrorer.data.items.models import item_knn
from usermirrorer.data.items.recency import decay
from usermirrorer.data.log.choices import choice_log
from usermirrorer.data.log.tables import load_cuts, load_tables, rows_of
from usermirrorer.llm.prompts import answered, evidence_word
from usermirrorer.llm.protocol import Conversation, Output
from usermirrorer.llm.scripted import SHARPNESS, decision, read_prompt, title


@dataclass(frozen=True)
class Leads:
    """What the log says of the options of scenes."""

    row: dict[str, int]
    """Row of each scene in the arrays"""
    score: np.ndarray
    """float32 `(scenes, options)`, padded with 0"""
    lead: list[list[str]]
    """What the item that leads to each option is called, empty if none of those shown does: `(scenes, options)`"""

    def write(
        self, scene_ids: Sequence[str], conversations: Sequence[Conversation], n: int, seeds: Sequence[int]
    ) -> list[list[Output]]:
        """`n` decision processes for each scene, sampled with its own seed."""
        return [
            self._decide(self.row[scene], messages, n, seed)
            for scene, messages, seed in zip(scene_ids, conversations, seeds, strict=True)
        ]

    def _decide(self, row: int, messages: Conversation, n: int, seed: int) -> list[Output]:
        options = read_prompt(messages)[1]
        weight = self.score[row, : len(options)].astype(np.float64) ** SHARPNESS["neighbours"]
        weight = weight if weight.any() else np.ones(len(options))
        picks = np.random.default_rng(seed).choice(len(options), size=n, p=weight / weight.sum())
        return [
            Output(answered(_written(messages[0]["content"], options[pick], self.lead[row][pick]), int(pick)), "stop")
            for pick in picks
        ]


def read_leads(name: str, work: Path) -> Leads:
    """The leads of the train scenes of a domain. Raises UserError if these have not been made."""
    directory = work / "scenes" / name / "train"
    settings = finished_content(directory, f"scenes {name} --work {work} --split train")["recipe"]
    half_life = finished_content(work / "features" / name / "train", f"scenes {name} --split train")["half_lives"]
    tables = load_tables(work, name)
    log = choice_log(tables, settings["choice"])
    neighbours = item_knn(log.before(load_cuts(work, name).train))
    columns = ["scene_id", "user_id", "timestamp", "group_time", "impression_list", "history_len"]
    scenes = pl.read_parquet(sorted(directory.glob("*.parquet")), columns=columns)
    lists = scenes["impression_list"].list
    count = lists.len().to_numpy()
    options = np.full((len(scenes), int(count.max())), -1, dtype=np.int64)
    shown = np.arange(options.shape[1]) < count[:, None]
    options[shown] = rows_of(scenes["impression_list"].explode().to_arrow(), tables.items["item_id"])
    user = rows_of(scenes["user_id"].to_arrow(), tables.users["user_id"])
    time, as_of = (scenes[name].dt.epoch("ms").to_numpy() for name in ("timestamp", "group_time"))
    weights = decay(half_life["item-knn"])
    score, lead = np.zeros(options.shape, dtype=np.float32), np.full(options.shape, -1, dtype=np.int64)
    seen = scenes["history_len"].to_numpy()
    for rows, histories in histories_in_blocks(log, user, time, as_of):
        score[rows] = neighbours.option_scores(histories, options[rows], weights[None])[0]
        lead[rows] = neighbours.leads(histories, options[rows], weights, seen[rows])
    names = [title(text) for text in tables.items["text"].to_list()]
    called = [[names[item] if item >= 0 else "" for item in row] for row in lead.tolist()]
    return Leads({scene: row for row, scene in enumerate(scenes["scene_id"].to_list())}, score, called)


def _written(instruction: str, option: str, lead: str) -> str:
    """A decision process for an option; where options carry evidence, it begins with the option's word."""
    name, word = title(option), evidence_word(option)
    if word:
        reason = f"{word.capitalize()}: {name}, after {lead}." if lead else f"{word.capitalize()}: {name}."
    else:
        reason = f"After {lead} comes {name}." if lead else f"Nothing I chose leads to {name}."
    closest = f"{name} follows best from what I chose before." if lead else f"Nothing stands out, so I take {name}."
    return decision(instruction, name, reason, reason, closest, "Logical" if lead else "Impulsive")
