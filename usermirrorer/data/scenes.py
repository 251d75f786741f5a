"""Tables → scenes: a choice among distractors, as of its time, rendered as text.

`draw` decides what each scene holds (numbers only), `render` writes it out; shards are written one at a time, so
that text never piles up in memory. A scene depends on (tables before its time, cuts, choice, seed) alone.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from usermirrorer.data.baselines import write_baselines
from usermirrorer.data.choices import USER_CAP, Choices, eligible
from usermirrorer.data.embeddings import load_vectors
from usermirrorer.data.exposure import MODES, STREAM_HISTORY, STREAM_LENGTH, STREAM_POSITION, distractors
from usermirrorer.data.features import describe_options, load_features, write_features
from usermirrorer.data.keyed import uniforms
from usermirrorer.data.probe import run_probe
from usermirrorer.data.render import HISTORY_MAX, HISTORY_MIN, render
from usermirrorer.data.schema import SCENES
from usermirrorer.data.store import SHARD_ROWS, fingerprint, open_step
from usermirrorer.data.tables import Cuts, Tables, load_cuts, load_tables
from usermirrorer.data.window import Window, open_window
from usermirrorer.errors import StepFailed, UserError


BATCH = 2048
"""Choices drawn at a time; any number gives the same scenes."""


@dataclass(frozen=True)
class SceneSettings:
    """How the scenes of one split are made."""

    split: str
    num: int
    exposure: str = "natural"
    choice: str = "any"
    min_exposure: int = 2
    max_exposure: int = 12
    seed: int = 0

    def check(self, domain_exposures: tuple[str, ...], domain: str) -> None:
        """Raises UserError for settings that no scene can satisfy."""
        if self.split not in USER_CAP:
            raise UserError(f"split {self.split!r}: choose train or test")
        if self.exposure not in MODES:
            raise UserError(f"exposure {self.exposure!r}: choose one of {', '.join(MODES)}")
        if self.exposure not in domain_exposures:
            raise UserError(f"exposure {self.exposure!r}: {domain} supports {', '.join(domain_exposures)}")
        if not 2 <= self.min_exposure <= self.max_exposure <= 26:
            raise UserError(f"options from {self.min_exposure} to {self.max_exposure}: use 2 <= min <= max <= 26")
        if self.num < 1:
            raise UserError(f"num {self.num}: ask for at least one scene")


@dataclass(frozen=True)
class Drawn:
    """Scenes as numbers, one row each; `options` and `source` are `(scenes, most options)`, padded with -1."""

    choices: Choices
    options: np.ndarray
    source: np.ndarray
    position: np.ndarray
    count: np.ndarray
    history_len: np.ndarray

    def __len__(self) -> int:
        return len(self.count)

    def take(self, rows: np.ndarray) -> Drawn:
        return Drawn(self.choices.take(rows), *(getattr(self, f.name)[rows] for f in fields(self)[1:]))


def draw(window: Window, choices: Choices, settings: SceneSettings) -> tuple[Drawn, list[str]]:
    """Choose length, distractors, position and history length of each scene; scenes left short are not in the result.

    Returns the scenes and the names of the sources.
    """
    span = settings.max_exposure - settings.min_exposure + 1
    count = settings.min_exposure + (uniforms(choices.key, STREAM_LENGTH, 1)[:, 0] * span).astype(np.int64)
    picked, source, names = distractors(window, choices, count - 1, settings.exposure)
    if settings.exposure == "logged":
        count = 1 + (picked != -1).sum(axis=1)
        usable = (picked != -2).all(axis=1) & (count >= settings.min_exposure) & (count <= settings.max_exposure)
    else:
        usable = (picked >= 0).sum(axis=1) >= count - 1
    rows = np.flatnonzero(usable)
    choices, picked, source, count = choices.take(rows), picked[rows], source[rows], count[rows]

    # A random order of all options puts the choice at a uniform position and hides the order of the sources.
    most = settings.max_exposure
    width = np.arange(most) < count[:, None]
    options = np.full((len(rows), most), -1, dtype=np.int32)
    sources = np.full((len(rows), most), -1, dtype=np.int32)
    options[:, 0] = choices.item
    columns = min(most - 1, picked.shape[1])
    options[:, 1 : 1 + columns] = picked[:, :columns]
    sources[:, 1 : 1 + columns] = source[:, :columns]
    shuffle = np.argsort(np.where(width, uniforms(choices.key, STREAM_POSITION, most), 2.0), axis=1, kind="stable")
    options = np.where(width, np.take_along_axis(np.where(width, options, -1), shuffle, axis=1), -1)
    sources = np.where(width, np.take_along_axis(sources, shuffle, axis=1), -1)
    history = uniforms(choices.key, STREAM_HISTORY, 1)[:, 0] * (HISTORY_MAX - HISTORY_MIN + 1)
    drawn = Drawn(choices, options, sources, np.argmin(shuffle, axis=1), count, HISTORY_MIN + history.astype(np.int64))
    return drawn, names


def scene_table(window: Window, drawn: Drawn, settings: SceneSettings, names: list[str]) -> pa.Table:
    """The rows of the scenes artefact for drawn scenes."""
    tables, choices = window.tables, drawn.choices
    user_ids, item_ids = tables.users["user_id"].to_list(), tables.items["item_id"].to_list()
    width = drawn.options >= 0
    shown = [row[: int(n)] for row, n in zip(drawn.options, drawn.count, strict=True)]
    texts = render(tables, choices.user, choices.time, shown, drawn.history_len)
    earlier = tables.log.position(choices.time)
    before = tables.log.by_user.count(choices.user, earlier)
    item_cnt = tables.log.by_item.count(np.maximum(drawn.options, 0), earlier[:, None])
    later = window.seen.after(choices.user[:, None], np.maximum(drawn.options, 0), choices.time[:, None])
    later &= width & (np.arange(width.shape[1]) != drawn.position[:, None])
    rows = [
        {
            "scene_id": scene.decode(),
            "dataset": tables.domain.name,
            "user_id": user_ids[choices.user[row]],
            "item_id": item_ids[choices.item[row]],
            "timestamp": int(choices.time[row]),
            "text": texts[row],
            "impression_list": [item_ids[item] for item in shown[row]],
            "item_pos": int(drawn.position[row]),
            "choices": [int(drawn.position[row])],
            "choice_cnt": int(drawn.count[row]),
            "split": settings.split,
            "exposure": settings.exposure,
            "sources": ["choice" if s < 0 else names[s] for s in drawn.source[row, : drawn.count[row]]],
            "history_len": int(min(drawn.history_len[row], before[row])),
            "user_cnt": int(before[row]),
            "item_cnt": item_cnt[row, : drawn.count[row]].tolist(),
            "later_chosen": np.flatnonzero(later[row]).tolist(),
        }
        for row, scene in enumerate(choices.scene_id)
    ]
    return pa.Table.from_pylist(rows, schema=SCENES)


def scene_of(
    tables: Tables, cuts: Cuts, choice: Choices, settings: SceneSettings, vectors: np.ndarray
) -> dict[str, Any] | None:
    """The one scene of a choice, or None where it can't be filled; `later_chosen` is the only look ahead.

    Deleting every event at or after the choice's time, and every item that did not exist by then, changes nothing
    else of it.
    """
    window = open_window(tables, cuts, settings.split, settings.choice, vectors)
    drawn, names = draw(window, choice, settings)
    return scene_table(window, drawn, settings, names).to_pylist()[0] if len(drawn) else None


def make_scenes(name: str, work: Path, settings: SceneSettings, workers: int = 1) -> dict[str, Any]:
    """Write `work/scenes/NAME/SPLIT` and `work/baselines/NAME/SPLIT`, probe included; returns the manifest's content.

    Draws go on in the order of (seed, scene_id) until `num` scenes are kept or the choices run out.
    """
    tables, cuts = load_tables(work, name), load_cuts(work, name)
    settings.check(tables.domain.exposures, name)
    recipe = {
        "step": "scenes", "domain": name, **{f.name: getattr(settings, f.name) for f in fields(settings)},
        "user_cap": USER_CAP[settings.split], "tables": fingerprint(work / "tables" / name),
        "embeddings": fingerprint(work / "embeddings" / name),
    }  # fmt: skip
    train = load_features(work / "features" / name / "train") if settings.split == "test" else None
    if train is not None:
        # The probe and the baselines of test scenes are fitted on these.
        recipe["train_features"] = fingerprint(work / "features" / name / "train")
    with open_step(work / "scenes" / name / settings.split, recipe, SCENES) as step:
        if step.complete:
            return step.content
        cap = USER_CAP[settings.split]
        choices, counts = eligible(
            tables, cuts, settings.split, settings.choice, settings.exposure == "logged", settings.seed, cap
        )
        if not len(choices):
            raise StepFailed(f"{name} {settings.split}: no choice qualifies; counted: {counts}")
        window = open_window(tables, cuts, settings.split, settings.choice, load_vectors(work, name, tables))
        drawn, names, tried = _draw_until(window, choices, settings, workers)
        if not len(drawn):
            raise StepFailed(f"{name} {settings.split}: no choice gave a scene; counted: {counts}")
        counts |= {"drawn": tried, "exposure_too_short": tried - len(drawn), "kept": len(drawn)}
        drawn = drawn.take(np.argsort(drawn.choices.scene_id, kind="stable"))
        for shard, begin in enumerate(range(0, len(drawn), SHARD_ROWS)):
            rows = np.arange(begin, min(begin + SHARD_ROWS, len(drawn)))
            step.write_shard(shard, scene_table(window, drawn.take(rows), settings, names))
        features = describe_options(window, drawn)
        write_features(features, work / "features" / name / settings.split, recipe)
        probe = run_probe(features, train)
        baselines = write_baselines(features, train, probe, work / "baselines" / name / settings.split, recipe)
        step.finish(rows=len(drawn), asked=settings.num, counts=counts, probe=probe.summary, baselines=baselines)
        return step.content


def _draw_until(
    window: Window, choices: Choices, settings: SceneSettings, workers: int
) -> tuple[Drawn, list[str], int]:
    """Draw batch after batch until `num` scenes are kept; the scenes, the sources' names, how many were tried."""
    batches = [np.arange(a, min(a + BATCH, len(choices))) for a in range(0, len(choices), BATCH)]
    kept: list[Drawn] = []
    names: list[str] = []
    missing, tried = settings.num, 0
    _observe(window, settings)
    for start in range(0, len(batches), workers):
        group = [choices.take(batch) for batch in batches[start : start + workers]]
        results = _in_workers(window, group, settings, workers)
        names = results[0][1]
        for batch, (drawn, _) in zip(group, results, strict=True):
            if missing <= 0:
                break
            if len(drawn) >= missing:
                last = drawn.choices.scene_id[missing - 1]
                tried += int(np.flatnonzero(batch.scene_id == last)[0]) + 1
            else:
                tried += len(batch)
            kept.append(drawn.take(np.arange(min(missing, len(drawn)))))
            missing -= len(kept[-1])
        if missing <= 0:
            break
    return _concatenate(kept), names, tried


def _observe(window: Window, settings: SceneSettings) -> None:
    """Compute what all workers need once, before they copy the window."""
    if settings.exposure == "hard":
        _ = window.observed_ranks
    elif settings.exposure == "natural":
        _ = window.recency_law
    elif settings.exposure == "logged":
        _ = window.shown


_window: Window
_settings: SceneSettings


def _in_workers(
    window: Window, group: list[Choices], settings: SceneSettings, workers: int
) -> list[tuple[Drawn, list[str]]]:
    if workers == 1:
        return [draw(window, choices, settings) for choices in group]
    # Forked workers share the window's arrays; nothing that they call may use polars, whose threads do not fork.
    fork = get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=fork, initializer=_adopt, initargs=(window, settings)) as pool:
        return list(pool.map(_draw_adopted, group))


def _adopt(window: Window, settings: SceneSettings) -> None:
    global _window, _settings
    _window, _settings = window, settings


def _draw_adopted(choices: Choices) -> tuple[Drawn, list[str]]:
    return draw(_window, choices, _settings)


def _concatenate(parts: list[Drawn]) -> Drawn:
    """One Drawn from several."""
    choices = [part.choices for part in parts]
    length = np.concatenate([np.diff(c.peer_start) for c in choices])
    joined = {f.name: np.concatenate([getattr(c, f.name) for c in choices]) for f in fields(Choices)}
    joined["peer_start"] = np.append(0, np.cumsum(length))
    return Drawn(
        Choices(**joined), *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Drawn)[1:])
    )
