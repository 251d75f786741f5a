"""Tables → scenes: a choice among options, rendered as text.

`draw` decides what each scene holds (numbers only); text and baselines are computed and written shard by shard, which
bounds memory. Once it is decided who shares a list, a scene is a function of its group's choices, of what precedes the
group, and of the user's own past: deleting everything else changes nothing but `later_chosen`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from usermirrorer.data.artefacts.schema import BASELINES, SCENES, id_column, list_column
from usermirrorer.data.artefacts.store import (
    SHARD_ROWS,
    Progress,
    Step,
    fingerprint,
    finished_manifest,
    open_step,
    unseen,
)
from usermirrorer.data.items.embeddings import load_vectors
from usermirrorer.data.log.choices import USER_CAP, qualifying_choices
from usermirrorer.data.log.tables import Tables, load_cuts, load_tables
from usermirrorer.data.scenes.as_of import DAY_MS, depends_on_user
from usermirrorer.data.scenes.baselines import (
    accuracies,
    baseline_names,
    baseline_probs,
    baseline_table,
    fit_baselines,
    hits,
)
from usermirrorer.data.scenes.describe import describe_options
from usermirrorer.data.scenes.draw import Drawn, draw
from usermirrorer.data.scenes.evidence import MODEL, Evidence
from usermirrorer.data.scenes.features import Features, feature_table, load_features, whole_groups_within
from usermirrorer.data.scenes.probe import SAMPLE_SCENES, TRAIN_SAMPLE_SCENES, item_words, run_probe
from usermirrorer.data.scenes.render import option_texts, render
from usermirrorer.data.scenes.scores import RECENT, fit_half_lives, score_all
from usermirrorer.data.scenes.trees import import_lightgbm
from usermirrorer.data.scenes.window import Window, open_window
from usermirrorer.data.sources import load_domain
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.steps import SceneSettings
from usermirrorer.wording import list_counts


SPAN_QUANTILES = {"10 %": 0.1, "50 %": 0.5, "90 %": 0.9, "longest": 1.0}

Result = TypeVar("Result")

Shown = Callable[[pa.ListArray], pa.ListArray]


def scene_table(
    window: Window, drawn: Drawn, settings: SceneSettings, names: list[str], shown: Shown = lambda options: options
) -> pa.Table:
    """The rows of the scenes artefact. `names` are the sources' names; `shown` adds to the options' texts."""
    tables, choices, scenes = window.tables, drawn.choices, len(drawn)
    user_ids, item_ids = tables.users["user_id"], tables.items["item_id"]
    width = drawn.options >= 0
    item = drawn.options[width]
    before = tables.log.by_user.count(choices.user, tables.log.position(choices.time))
    scene = np.repeat(np.arange(scenes), drawn.count)
    later = np.zeros(width.shape, dtype=bool)
    later[width] = tables.log.seen.after(choices.user[scene], item, choices.time[scene])
    later[np.arange(scenes), drawn.position] = False
    sources = np.where(np.arange(width.shape[1]) == drawn.position[:, None], 0, drawn.source.astype(np.int64) + 1)
    columns = {
        "scene_id": id_column(choices.scene_id),
        "dataset": pa.repeat(tables.domain.name, scenes),
        "user_id": user_ids.gather(choices.user).to_arrow(),
        "item_id": item_ids.gather(choices.item).to_arrow(),
        "timestamp": pa.array(choices.time),
        "group_id": id_column(drawn.group) if settings.grouped else pa.nulls(scenes),
        "group_time": pa.array(drawn.group_time),
        "text": _texts(tables, drawn, shown),
        "impression_list": list_column(item_ids.gather(item).to_arrow(), drawn.count),
        "item_pos": pa.array(drawn.position),
        "choices": list_column(pa.array(drawn.position), np.ones(scenes, dtype=np.int64)),
        "choice_cnt": pa.array(drawn.count),
        "split": pa.repeat(settings.split, scenes),
        "exposure": pa.repeat(settings.exposure, scenes),
        "sources": list_column(pa.array(["choice", *names]).take(pa.array(sources[width])), drawn.count),
        "history_len": pa.array(np.minimum(drawn.history_len, before)),
        "user_cnt": pa.array(before),
        "item_cnt": _item_counts(tables, drawn),
        "later_chosen": list_column(pa.array(np.nonzero(later)[1]), later.sum(axis=1)),
    }
    return pa.table([columns[field.name].cast(field.type) for field in SCENES], schema=SCENES)


def _item_counts(tables: Tables, drawn: Drawn) -> pa.ListArray:
    """Earlier interactions of each option of each scene, as of the group's earliest choice: `(scenes,)`."""
    first, list_row = drawn.lists
    shown, count = drawn.options[first], drawn.count[first]
    before = np.repeat(tables.log.position(drawn.group_time[first]), count)
    return list_column(pa.array(tables.log.by_item.count(shown[shown >= 0], before)), count).take(pa.array(list_row))


def _texts(tables: Tables, drawn: Drawn, shown: Shown) -> pa.StructArray:
    """What each scene shows: `(scenes,)`. A list is filled in once for all who see it in the same words."""
    choices = drawn.choices
    first, list_row = (np.arange(len(drawn)),) * 2 if depends_on_user(tables) else drawn.lists
    item = drawn.options[first]
    options = option_texts(
        tables, item[item >= 0], drawn.count[first], drawn.group_time[first], choices.user[first]
    ).take(pa.array(list_row))
    return render(tables, choices.user, choices.time, drawn.history_len, shown(options))


def make_scenes(
    name: str, work: Path, settings: SceneSettings, workers: int = 1, progress: Progress = unseen
) -> dict[str, Any]:
    """Write `work/{scenes,features,baselines}/NAME/SPLIT`; returns the content of the scenes' manifest.

    Choices are taken in an order drawn by seed, whole groups at a time, until `num` scenes are kept or the choices run
    out. `progress` gets (done, total) over three passes: scenes drawn, written, and predicted by the baselines. Raises
    UserError for settings that the domain does not support, StepFailed if no choice gives a scene.
    """
    from threadpoolctl import threadpool_limits

    domain, cuts = load_domain(name, work), load_cuts(work, name)
    settings = settings.for_domain(name, domain.exposures, domain.choice_rules)
    recipe = {
        "step": "scenes", "domain": name, **asdict(settings), "user_cap": USER_CAP[settings.split],
        "tables": fingerprint(work / "tables" / name), "embeddings": fingerprint(work / "embeddings" / name),
    }  # fmt: skip
    train_directory = work / "features" / name / "train"
    train_content = finished_manifest(train_directory) if settings.split == "test" else None
    if train_content is None and settings.split == "test" and any(train_directory.glob("*.parquet")):
        raise UserError(
            f"{train_directory} is not finished: run `usermirrorer scenes {name} --work {work} --split train` again "
            "before those of test, or delete it"
        )
    if train_content is not None:
        # The probe and the baselines of test scenes are fitted on these features.
        recipe["train_features"] = fingerprint(train_directory)
    # One thread per library call: our own threads run in parallel, and the order of sums is kept.
    with open_step(work / "scenes" / name / settings.split, recipe, SCENES) as step, threadpool_limits(1):
        if step.complete:
            return step.content
        place = f"{name} {settings.split}"
        # What the baselines need takes as long as the scenes: the import of LightGBM, and the models over items.
        ahead = ThreadPoolExecutor(2)
        importing = ahead.submit(import_lightgbm)
        tables = load_tables(work, name)
        choices, counts = qualifying_choices(
            tables, cuts, settings.split, settings.choice, settings.exposure, settings.seed
        )
        if not len(choices):
            raise StepFailed(
                f"{place}: no choice qualifies (counted: {list_counts(counts)}); loosen --choice or use a longer log"
            )
        vectors = load_vectors(work, name, tables)
        window = open_window(tables, cuts, settings.split, settings.choice, vectors, workers)
        window.index()
        fitting = ahead.submit(lambda: window.models)
        drawn, names, drawing = draw(window, choices, settings, workers, progress)
        counts |= drawing | {"kept": len(drawn)}
        if not len(drawn):
            remedy = "allow fewer options" + (" or a longer --max-span" if settings.max_span is not None else "")
            raise StepFailed(f"{place}: no choice gave a scene (counted: {list_counts(counts)}); {remedy}")
        train = None if train_content is None else (load_features(train_directory, tables), train_content)
        writer = SceneWriter(window, settings, names, drawn, train, workers, progress)
        writer.write_scenes(step)
        for job in (importing, fitting):
            job.result()
        probe, baselines = writer.write_baselines(work, recipe)
        lengths = np.bincount(drawn.count)
        step.finish(
            rows=len(drawn),
            asked=settings.num,
            counts=counts,
            lengths={str(n): int(lengths[n]) for n in np.flatnonzero(lengths)},
            **({"groups": _groups(drawn)} if settings.grouped else {}),
            **({"evidence": writer.evidence.record} if settings.evidence else {}),
            probe=probe,
            baselines=baselines,
        )
        return step.content


def _groups(drawn: Drawn) -> dict[str, Any]:
    """How many groups there are, and quantiles of the days between the first and the last choice of one."""
    start = drawn.lists[0]
    days = (np.maximum.reduceat(drawn.choices.time, start) - drawn.group_time[start]) / DAY_MS
    quantiles = np.quantile(days, list(SPAN_QUANTILES.values()))
    return {"number": len(start), "span_days": dict(zip(SPAN_QUANTILES, quantiles.round(3).tolist(), strict=True))}


@dataclass(frozen=True)
class SceneWriter:
    """Writes drawn scenes, in order, with the baselines' predictions and the features that these are fitted on."""

    window: Window
    settings: SceneSettings
    names: list[str]
    drawn: Drawn
    train: tuple[Features, dict[str, Any]] | None
    """Features of the train scenes, with the content of their manifest, if these are test scenes"""
    workers: int
    report: Progress

    @cached_property
    def half_lives(self) -> dict[str, float]:
        """Of the models in which recent choices count more: as fitted on train scenes."""
        decided = self.train[1] if self.train else {}
        return decided.get("half_lives") or fit_half_lives(self.window, self.sample, self.workers)

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """Every model's scores of all options."""
        return score_all(self.window, self.drawn, self.half_lives, self.workers)

    @cached_property
    def evidence(self) -> Evidence:
        """How scores become words: as fitted on train scenes."""
        if self.settings.split == "train":
            scores = self.scores[RECENT.format(MODEL)][: len(self.sample)]
            return Evidence.fit(scores, self.half_lives[MODEL])
        return Evidence.of(self.train and self.train[1].get("evidence"), self.window.tables.domain.name)

    @cached_property
    def sample(self) -> Drawn:
        """The scenes that classifiers and baselines are fitted and tested on: the first, in whole groups."""
        most = SAMPLE_SCENES if self.train else TRAIN_SAMPLE_SCENES
        return self.drawn.take(np.arange(whole_groups_within(self.drawn.group, most)))

    def write_scenes(self, step: Step) -> None:
        """Write the scenes shard by shard."""

        # Looked up before threads ask for it at the same time.
        evidence = self.evidence if self.settings.evidence else None

        def write(shard: int, rows: np.ndarray) -> None:
            def shown(options: pa.ListArray) -> pa.ListArray:
                return evidence.shown(options, self.scores[RECENT.format(MODEL)][rows]) if evidence else options

            step.write_shard(shard, scene_table(self.window, self.drawn.take(rows), self.settings, self.names, shown))

        self._for_each_shard(write, 1)

    def write_baselines(self, work: Path, recipe: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fit the probe and the baselines, write features and baselines; returns the results of both."""
        window, drawn, name, split = self.window, self.drawn, self.window.tables.domain.name, self.settings.split
        fitted_on, decided = self.train or (None, {})
        sample = self._features(np.arange(len(self.sample)))
        words = item_words(window.tables.items["text"].to_list())
        summary, probe = run_probe(sample, fitted_on, decided.get("classifier"), words, self.workers)
        fitted = fit_baselines(sample, fitted_on, probe, self.workers)
        models = baseline_names(fitted)
        with (
            open_step(work / "features" / name / split, {**recipe, "step": "features"}) as features,
            open_step(work / "baselines" / name / split, {**recipe, "step": "baselines"}, BASELINES) as baselines,
        ):
            kept = whole_groups_within(drawn.group, SAMPLE_SCENES)

            def write(shard: int, rows: np.ndarray) -> np.ndarray:
                described = self._features(rows)
                if rows[0] < kept:
                    first = described.take(np.flatnonzero(rows < kept))
                    features.write_shard(shard, feature_table(first, window.tables))
                probs = baseline_probs(described, fitted)
                table = baseline_table(described, probs)
                for part, begin in enumerate(range(0, len(table), SHARD_ROWS)):
                    baselines.write_shard(shard * len(models) + part, table.slice(begin, SHARD_ROWS))
                return hits(described, probs)

            found = np.concatenate(self._for_each_shard(write, 2))
            accuracy = accuracies(found, drawn.choices.user, drawn.group, models)
            evidence = {"evidence": self.evidence.record} if self.settings.evidence else {}
            features.finish(rows=kept, classifier=summary["classifier"], half_lives=self.half_lives, **evidence)
            baselines.finish(rows=len(drawn) * len(models), half_lives=self.half_lives, accuracy=accuracy)
        return summary, accuracy

    def _features(self, rows: np.ndarray) -> Features:
        theirs = {name: values[rows] for name, values in self.scores.items()}
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
