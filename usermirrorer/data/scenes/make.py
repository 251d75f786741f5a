"""Tables → scenes: a choice among distractors, as of its time, rendered as text.

`draw` decides what each scene holds (numbers only); text, features and baselines are computed and written shard by
shard, which bounds memory. A scene depends only on (tables before its time, cuts, choice, seed): deleting every event
at or after its time, and every item that did not exist by then, changes nothing but `later_chosen`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from usermirrorer.data.artefacts.schema import BASELINES, SCENES, id_column, list_column
from usermirrorer.data.artefacts.store import SHARD_ROWS, Progress, Step, fingerprint, open_step
from usermirrorer.data.items.embeddings import load_vectors
from usermirrorer.data.log.tables import load_cuts, load_tables
from usermirrorer.data.scenes.baselines import (
    accuracies,
    baseline_names,
    baseline_probs,
    baseline_table,
    fit_baselines,
    hits,
)
from usermirrorer.data.scenes.draw import draw_until, score_all
from usermirrorer.data.scenes.features import Features, describe_options, feature_table, load_features
from usermirrorer.data.scenes.probe import SAMPLE_SCENES, TRAIN_SAMPLE_SCENES, run_probe
from usermirrorer.data.scenes.render import render
from usermirrorer.data.scenes.targets import USER_CAP, Drawn, eligible_targets
from usermirrorer.data.scenes.window import Window, open_window
from usermirrorer.errors import StepFailed
from usermirrorer.steps import SceneSettings


Result = TypeVar("Result")


def scene_table(window: Window, drawn: Drawn, settings: SceneSettings, names: list[str]) -> pa.Table:
    """The rows of the scenes artefact. `names` are the sources' names."""
    tables, targets, scenes = window.tables, drawn.targets, len(drawn)
    user_ids, item_ids = tables.users["user_id"], tables.items["item_id"]
    width = drawn.options >= 0
    item = drawn.options[width]
    earlier = tables.log.position(targets.time)
    before = tables.log.by_user.count(targets.user, earlier)
    scene = np.repeat(np.arange(scenes), drawn.count)
    later = np.zeros(width.shape, dtype=bool)
    later[width] = tables.log.seen.after(targets.user[scene], item, targets.time[scene])
    later[np.arange(scenes), drawn.position] = False
    source_names = pa.array(["choice", *names])
    columns = {
        "scene_id": id_column(targets.scene_id),
        "dataset": pa.repeat(tables.domain.name, scenes),
        "user_id": user_ids.gather(targets.user).to_arrow(),
        "item_id": item_ids.gather(targets.item).to_arrow(),
        "timestamp": pa.array(targets.time),
        "group_id": pa.nulls(scenes),
        "group_time": pa.array(targets.time),
        "text": render(tables, targets.user, targets.time, item, drawn.count, drawn.history_len),
        "impression_list": list_column(item_ids.gather(item).to_arrow(), drawn.count),
        "item_pos": pa.array(drawn.position),
        "choices": list_column(pa.array(drawn.position), np.ones(scenes, dtype=np.int64)),
        "choice_cnt": pa.array(drawn.count),
        "split": pa.repeat(settings.split, scenes),
        "exposure": pa.repeat(settings.exposure, scenes),
        "sources": list_column(source_names.take(pa.array(drawn.source[width].astype(np.int64) + 1)), drawn.count),
        "history_len": pa.array(np.minimum(drawn.history_len, before)),
        "user_cnt": pa.array(before),
        "item_cnt": list_column(pa.array(tables.log.by_item.count(item, earlier[scene])), drawn.count),
        "later_chosen": list_column(pa.array(np.nonzero(later)[1]), later.sum(axis=1)),
    }
    return pa.table([columns[field.name].cast(field.type) for field in SCENES], schema=SCENES)


def make_scenes(
    name: str, work: Path, settings: SceneSettings, workers: int = 1, progress: Progress = lambda done, total: None
) -> dict[str, Any]:
    """Write `work/{scenes,features,baselines}/NAME/SPLIT`; returns the content of the scenes' manifest.

    Scenes are drawn in the order of (seed, scene_id) until `num` are kept or the choices run out. `progress` gets
    (done, total) over three passes: scenes drawn, written, and described by features and baselines. Raises UserError
    for settings that the domain does not support, StepFailed if no choice gives a scene.
    """
    from threadpoolctl import threadpool_limits

    tables, cuts = load_tables(work, name), load_cuts(work, name)
    settings = settings.for_domain(name, tables.domain.exposures, tables.domain.choice_rules)
    recipe = {
        "step": "scenes", "domain": name, **asdict(settings), "user_cap": USER_CAP[settings.split],
        "tables": fingerprint(work / "tables" / name), "embeddings": fingerprint(work / "embeddings" / name),
    }  # fmt: skip
    train_directory = work / "features" / name / "train"
    train = load_features(train_directory, tables, SAMPLE_SCENES) if settings.split == "test" else None
    if train is not None:
        # The probe and the baselines of test scenes are fitted on these features.
        recipe["train_features"] = fingerprint(train_directory)
    # One thread per library call: our own threads run in parallel, and the order of sums is kept.
    with open_step(work / "scenes" / name / settings.split, recipe, SCENES) as step, threadpool_limits(1):
        if step.complete:
            return step.content
        place = f"{name} {settings.split}"
        targets, counts = eligible_targets(tables, cuts, settings)
        if not len(targets):
            raise StepFailed(f"{place}: no choice qualifies (counted: {counts}); loosen --choice or use a longer log")
        vectors = load_vectors(work, name, tables)
        window = open_window(tables, cuts, settings.split, settings.choice, vectors, workers)
        drawn, names, tried = draw_until(window, targets, settings, workers, progress)
        if not len(drawn):
            raise StepFailed(f"{place}: no choice gave a scene (counted: {counts}); allow fewer options")
        counts |= {"drawn": tried, "exposure_too_short": tried - len(drawn), "kept": len(drawn)}
        drawn = drawn.take(np.argsort(drawn.targets.scene_id, kind="stable"))
        writer = SceneWriter(window, settings, names, drawn, workers, progress)
        # The fits need scikit-learn, which takes a second to import: load it while scenes are written.
        importing = ThreadPoolExecutor(1).submit(importlib.import_module, "sklearn.ensemble")
        writer.write_scenes(step)
        importing.result()
        probe, baselines = writer.write_baselines(work, recipe, train)
        step.finish(rows=len(drawn), asked=settings.num, counts=counts, probe=probe, baselines=baselines)
        return step.content


@dataclass(frozen=True)
class SceneWriter:
    """Writes drawn scenes, sorted by id, with their features and baselines."""

    window: Window
    settings: SceneSettings
    names: list[str]
    drawn: Drawn
    workers: int
    report: Progress

    def write_scenes(self, step: Step) -> None:
        """Write the scenes shard by shard."""

        def write(shard: int, rows: np.ndarray) -> None:
            step.write_shard(shard, scene_table(self.window, self.drawn.take(rows), self.settings, self.names))

        self._for_each_shard(write, 1)

    def write_baselines(
        self, work: Path, recipe: Mapping[str, Any], train: Features | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fit the probe and the baselines, write features and baselines; returns the results of both."""
        name, split = self.window.tables.domain.name, self.settings.split
        scores = score_all(self.window, self.drawn, self.workers)
        most = TRAIN_SAMPLE_SCENES if train is None else SAMPLE_SCENES
        sample = self._features(scores, np.arange(min(most, len(self.drawn))))
        summary, probe = run_probe(sample, train, self.workers)
        fitted = fit_baselines(sample, train, probe, self.workers)
        models = baseline_names(fitted)
        with (
            open_step(work / "features" / name / split, {**recipe, "step": "features"}) as features,
            open_step(work / "baselines" / name / split, {**recipe, "step": "baselines"}, BASELINES) as baselines,
        ):

            def write(shard: int, rows: np.ndarray) -> np.ndarray:
                described = self._features(scores, rows)
                probs = baseline_probs(described, fitted)
                features.write_shard(shard, feature_table(described, self.window.tables))
                table = baseline_table(described, probs)
                for part, begin in enumerate(range(0, len(table), SHARD_ROWS)):
                    baselines.write_shard(shard * len(models) + part, table.slice(begin, SHARD_ROWS))
                return hits(described, probs)

            found = np.concatenate(self._for_each_shard(write, 2))
            accuracy = accuracies(found, self.drawn.targets.user, models)
            features.finish(rows=len(self.drawn))
            baselines.finish(rows=len(self.drawn) * len(models), accuracy=accuracy)
        return summary, accuracy

    def _features(self, scores: Mapping[str, np.ndarray], rows: np.ndarray) -> Features:
        theirs = {name: values[rows] for name, values in scores.items()}
        return describe_options(self.window, self.drawn.take(rows), theirs)

    def _for_each_shard(self, write: Callable[[int, np.ndarray], Result], passes: int) -> list[Result]:
        """Call `write` with the number and rows of every shard, in threads; `passes` are done, for the progress."""
        scenes = len(self.drawn)
        shards = [np.arange(a, min(a + SHARD_ROWS, scenes)) for a in range(0, scenes, SHARD_ROWS)]
        results = []
        with ThreadPoolExecutor(self.workers) as pool:
            for rows, result in zip(shards, pool.map(write, range(len(shards)), shards), strict=True):
                results.append(result)
                self.report(passes * scenes + int(rows[-1]) + 1, 3 * scenes)
        return results
