"""What each scene holds, as numbers: options and their order, the choice's position, length of the history."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from usermirrorer.data.artefacts.store import Progress
from usermirrorer.data.log.choices import Choices
from usermirrorer.data.log.events import runs
from usermirrorer.data.scenes.as_of import DAY_MS
from usermirrorer.data.scenes.groups import Groups, Split, form_groups, portions, whole_groups
from usermirrorer.data.scenes.logged import Impressions, shown_beside
from usermirrorer.data.scenes.neighbourhoods import by_content, by_popularity
from usermirrorer.data.scenes.published import PublishedSampler
from usermirrorer.data.scenes.render import HISTORY_MAX, HISTORY_MIN
from usermirrorer.data.scenes.window import Window
from usermirrorer.seeds import Stream, uniforms
from usermirrorer.steps import SceneSettings


BATCH = 2048
"""Choices drawn at a time where scenes stand alone; any number gives the same scenes."""


@dataclass(frozen=True)
class Drawn:
    """Scenes as numbers, one row each; `options` and `source` are `(scenes, most options)`, padded with -1."""

    choices: Choices
    options: np.ndarray
    source: np.ndarray
    """Row of the sources' names that each option came from"""
    position: np.ndarray
    count: np.ndarray
    history_len: np.ndarray
    group: np.ndarray
    """uint64 `(scenes,)`: the group's id; of a scene that stands alone, its own"""
    group_time: np.ndarray
    """int64 `(scenes,)`: the time as of which the options are described"""

    def __len__(self) -> int:
        return len(self.count)

    def take(self, rows: np.ndarray) -> Drawn:
        """The selected scenes."""
        return Drawn(self.choices.take(rows), *(getattr(self, f.name)[rows] for f in fields(self)[1:]))

    @property
    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        """The first scene that shows each list, and each scene's list as a row of those: `(lists,)`, `(scenes,)`.

        Scenes of a group follow each other.
        """
        return runs(self.group)


def draw(
    window: Window, choices: Choices, settings: SceneSettings, workers: int, report: Progress
) -> tuple[Drawn, list[str], dict[str, int]]:
    """Scenes around the first choices that give one: scenes, the sources' names, and choices counted by what happened.

    Scenes come in the order of (group, scene_id). `workers` threads share the work; any number gives the same scenes.
    """
    drawing = _draw_grouped if settings.grouped else _draw_alone
    drawn, names, counts = drawing(window, choices, settings, workers, report)
    return drawn.take(np.lexsort((drawn.choices.scene_id, drawn.group))), names, counts


def grouped_scenes(choices: Choices, groups: Groups) -> Drawn:
    """The scenes of groups of choices. Each depends on its group alone."""
    members = choices.take(groups.member)
    group = np.repeat(np.arange(len(groups.size)), groups.size)
    position = np.arange(len(members)) - groups.start[group]
    lists = np.full((len(groups.size), int(groups.size.max(initial=0))), -1, dtype=np.int32)
    lists[group, position] = members.item
    return Drawn(
        members,
        options=lists[group],
        source=np.where(lists[group] >= 0, 0, -1).astype(np.int8),
        position=position,
        count=groups.size[group],
        history_len=_history_len(members),
        group=groups.id[group],
        group_time=np.minimum.reduceat(members.time, groups.start)[group] if len(members) else members.time,
    )


def _draw_grouped(
    window: Window, choices: Choices, settings: SceneSettings, workers: int, report: Progress
) -> tuple[Drawn, list[str], dict[str, int]]:
    """Groups of a portion at a time, until `num` scenes are found."""
    max_span = None if settings.max_span is None else int(settings.max_span * DAY_MS)
    searched = 0

    def formed(rows: np.ndarray) -> Groups:
        nonlocal searched
        part = choices.take(rows)
        split = _neighbourhoods(window, part, settings.alike)
        groups = form_groups(window.tables, part, settings.lengths, settings.seed, max_span, split, workers)
        searched += len(part)
        report(min(searched, settings.num), 3 * min(settings.num, len(choices)))
        return Groups(rows[groups.member], groups.size, groups.id)

    groups, members = whole_groups((formed(rows) for rows in portions(choices)), settings.num)
    counts = {"searched": searched, "left_over": searched - members, "beyond_num": members - len(groups.member)}
    return grouped_scenes(choices, groups), [settings.exposure], counts


def _neighbourhoods(window: Window, choices: Choices, alike: str) -> Split | None:
    if alike == "content":
        return by_content(choices, window.vectors)
    return by_popularity(choices, window.pool) if alike else None


def _draw_alone(
    window: Window, choices: Choices, settings: SceneSettings, workers: int, report: Progress
) -> tuple[Drawn, list[str], dict[str, int]]:
    """A list for each choice, in the order of the choices, until `num` scenes are found."""
    if settings.exposure == "logged":
        names = ["logged"]
        show = partial(_logged, Impressions.of(window.tables), settings.lengths)
    else:
        sampler = PublishedSampler(window.tables.log, window.vectors, window.tables.friends)
        sampler.fit()
        names, show = sampler.sources, partial(_published, sampler, settings.lengths)
    kept: list[Drawn] = []
    found, begin, too_short = 0, 0, 0
    with ThreadPoolExecutor(workers) as pool:
        while found < settings.num and begin < len(choices):
            until = min(begin + BATCH * workers, len(choices))
            parts = [choices.take(np.arange(a, min(a + BATCH, until))) for a in range(begin, until, BATCH)]
            for part, (drawn, enough) in zip(parts, pool.map(show, parts), strict=True):
                usable = np.flatnonzero(enough)[: settings.num - found]
                # Choices after the last scene needed count as not tried.
                tried = len(part) if found + len(usable) < settings.num else int(usable[-1]) + 1 if len(usable) else 0
                too_short += tried - len(usable)
                begin += tried
                found += len(usable)
                kept.append(drawn.take(usable))
                report(min(found, settings.num), 3 * min(settings.num, len(choices)))
    joined = {f.name: np.concatenate([getattr(one, f.name) for one in kept]) for f in fields(Drawn)[1:]}
    columns = (np.concatenate([getattr(one.choices, f.name) for one in kept]) for f in fields(Choices))
    return Drawn(Choices(*columns), **joined), names, {"tried": begin, "exposure_too_short": too_short}


def _logged(impressions: Impressions, lengths: tuple[int, int], choices: Choices) -> tuple[Drawn, np.ndarray]:
    beside, length = shown_beside(impressions, choices, lengths)
    count = np.minimum(length, lengths[1])
    return _shuffled(choices, beside, np.zeros_like(beside), np.maximum(count, 1)), count >= lengths[0]


def _published(sampler: PublishedSampler, lengths: tuple[int, int], choices: Choices) -> tuple[Drawn, np.ndarray]:
    fewest, most = lengths
    count = fewest + (uniforms(choices.key, Stream.LENGTH, 1)[:, 0] * (most - fewest + 1)).astype(np.int64)
    beside, source = sampler.distractors(choices, count - 1)
    missing = np.full((len(choices), most - 1 - beside.shape[1]), -1)
    beside, source = np.column_stack([beside, missing]), np.column_stack([source, missing])
    return _shuffled(choices, beside, source, count), (beside >= 0).sum(axis=1) >= count - 1


def _shuffled(choices: Choices, beside: np.ndarray, source: np.ndarray, count: np.ndarray) -> Drawn:
    """Scenes that stand alone, options in an order drawn by seed, so that the choice's position is uniform."""
    most = beside.shape[1] + 1
    width = np.arange(most) < count[:, None]
    options = np.column_stack([choices.item, beside])
    sources = np.column_stack([np.zeros(len(choices), dtype=np.int8), source])
    shuffle = np.argsort(np.where(width, uniforms(choices.key, Stream.POSITION, most), 2.0), axis=1, kind="stable")
    return Drawn(
        choices,
        options=np.where(width, np.take_along_axis(options, shuffle, axis=1), -1).astype(np.int32),
        source=np.where(width, np.take_along_axis(sources, shuffle, axis=1), -1).astype(np.int8),
        position=np.argmin(shuffle, axis=1),
        count=count,
        history_len=_history_len(choices),
        group=choices.scene_id,
        group_time=choices.time,
    )


def _history_len(choices: Choices) -> np.ndarray:
    """Entries of the history to show at most: int64 `(choices,)`."""
    drawn = uniforms(choices.key, Stream.HISTORY, 1)[:, 0] * (HISTORY_MAX - HISTORY_MIN + 1)
    return HISTORY_MIN + drawn.astype(np.int64)
