"""`build --dry-run`: what a recipe's models will be asked, how long that takes and what it costs, before it is paid.

Tables and scenes are made, which costs no model. Some scenes' prompts are counted, and every writer answers a few
scenes, for the length of its decision processes and its speed; nothing of that is kept. Intervals are 95 % ones of
the mean over the scenes looked at.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from usermirrorer.console import say
from usermirrorer.console.tables import show_table
from usermirrorer.data.artefacts.schema import DECISIONS, PREDICTIONS
from usermirrorer.data.artefacts.store import finished_content
from usermirrorer.data.decisions.neighbours import Leads, read_leads
from usermirrorer.data.recipe import DataRecipe, Predictor, Writer
from usermirrorer.errors import StepFailed
from usermirrorer.llm.engines.local import LocalModel
from usermirrorer.llm.execution import ask_all
from usermirrorer.llm.prompts import LABELS, SceneText, conversation, opened, parse
from usermirrorer.llm.protocol import LanguageModel, Output
from usermirrorer.llm.requests import Weigh, Write
from usermirrorer.llm.scripted import NEIGHBOURS
from usermirrorer.seeds import scene_seed
from usermirrorer.wording import format_seconds


COUNTED, ASKED = 200, 16
"""Scenes whose prompts are counted, and scenes that every writer answers."""


@dataclass(frozen=True)
class Amount:
    """An estimated total with its 95 % interval."""

    value: float
    low: float
    high: float

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, factor: float) -> Amount:
        return Amount(self.value * factor, self.low * factor, self.high * factor)


NOTHING = Amount(0, 0, 0)


@dataclass
class StepForecast:
    """One step of the build. Prompt tokens count every time that they are sent; `known` is their share that an engine
    with a prefix cache has read already."""

    step: str
    calls: int
    prompt: Amount = NOTHING
    completion: Amount = NOTHING
    known: float = 0.0
    seconds: Amount | None = None
    dollars: Amount | None = None
    disk: float = 0.0


@dataclass
class _Sample:
    """Some train scenes of a domain, with what a writer answered to the first of them."""

    scenes: list[tuple[str, SceneText]]
    total: int
    outputs: dict[str, list[list[Output]]] = field(default_factory=dict)


def forecast(
    recipe: DataRecipe,
    work: Path,
    domains: Sequence[str],
    models: Mapping[str, LanguageModel],
    predictor: LanguageModel,
) -> list[StepForecast]:
    """What `decide` and `score` of a recipe will take, whose scenes are made. `models` are the writers, by variant."""
    rows = []
    for name in domains:
        sample = _sample(work, name, recipe.seed)
        for variant, writer in recipe.writers.items():
            leads = read_leads(name, work) if models[variant].name == NEIGHBOURS else None
            step = f"decide {name} {variant}"
            rows.append(_decide(step, models[variant], writer, recipe, sample, variant, leads))
        rows.append(_score(f"score {name}", predictor, recipe.predictor, recipe, sample))
    return rows


def show_forecast(name: str, rows: Sequence[StepForecast]) -> None:
    """Print the forecast as a table."""
    cells = [
        [
            row.step, f"{row.calls:,}", _tokens(row.prompt), f"{row.known:.0%}", _tokens(row.completion),
            "–" if row.seconds is None else format_seconds(row.seconds.value), _money(row.dollars), _bytes(row.disk),
        ]
        for row in rows
    ]  # fmt: skip
    say()
    show_table(
        ["step", "calls", "prompt tokens", "known", "completion tokens", "time", "cost", "disk"],
        cells,
        title=f"build {name}: what it will take",
    )
    say("known: the share of prompt tokens that a prefix cache saves; time: one engine per model, as fast as here")


def _sample(work: Path, name: str, seed: int) -> _Sample:
    directory = work / "scenes" / name / "train"
    total = finished_content(directory, f"scenes {name} --work {work} --split train")["rows"]
    scenes = pl.scan_parquet(directory / "*.parquet").select("scene_id", "text")
    chosen = np.random.default_rng(seed).permutation(total)[:COUNTED]
    rows = scenes.with_row_index("number").filter(pl.col("number").is_in(np.sort(chosen))).collect()
    return _Sample(list(rows.select("scene_id", "text").iter_rows()), total)


def _decide(
    step: str,
    model: LanguageModel,
    writer: Writer,
    recipe: DataRecipe,
    sample: _Sample,
    variant: str,
    leads: Leads | None,
) -> StepForecast:
    row = StepForecast(step, sample.total)
    prompts = [conversation(text, recipe.prompt) for _, text in sample.scenes]
    lengths = np.array(model.count_tokens(prompts))
    asked = sample.scenes[:ASKED]
    settings = writer.settings(recipe.prompt, recipe.seed)
    requests = [
        Write(messages, writer.n, settings.sampling, scene_seed(recipe.seed, scene))
        for messages, (scene, _) in zip(prompts, asked, strict=False)
    ]
    if leads:
        seeds = [request.seed for request in requests]
        seconds, used, outputs = 1.0, 0, leads.write([scene for scene, _ in asked], prompts[:ASKED], writer.n, seeds)
    else:
        seconds, used, outputs = _asked(model, requests)
    sample.outputs[variant] = outputs
    written = _lengths(model, outputs, used)
    rows = [
        {
            "scene_id": scene, "variant": variant, "model": model.name, "sample": number,
            "text": parse(output.text, len(text["action_list"]))[0], "behavior": 0, "finish_reason": "stop",
        }
        for (scene, text), answers in zip(asked, outputs, strict=True)
        for number, output in enumerate(answers)
    ]  # fmt: skip
    row.disk = _disk(rows, DECISIONS) * sample.total
    if model.name.startswith("scripted:"):
        return row
    row.prompt, row.completion = _total(lengths, sample.total), _total(written, sample.total)
    tokens = float(lengths[: len(asked)].sum() + written.sum())
    return _priced(row, writer, tokens / seconds)


def _score(step: str, model: LanguageModel, predictor: Predictor, recipe: DataRecipe, sample: _Sample) -> StepForecast:
    asked, per_scene, rows = [], [], []
    for place, (scene, text) in enumerate(sample.scenes[:ASKED]):
        messages, labels = conversation(text, recipe.prompt), LABELS[: len(text["action_list"])]
        decided = [parse(output.text, len(labels))[0] for row in sample.outputs.values() for output in row[place]]
        asked.append([Weigh(opened(messages, decision), labels) for decision in decided])
        per_scene.append(model.count_tokens([messages, *(weigh.conversation for weigh in asked[-1])]))
        rows += [
            {"scene_id": scene, "variant": "strong", "sample": number, "predictor": model.name, "probs": probs}
            for number, probs in enumerate(np.random.default_rng(place).dirichlet(np.ones(len(labels)), len(decided)))
        ]
    row = StepForecast(step, sample.total * len(asked[0]))
    row.disk = _disk(rows, PREDICTIONS) * sample.total
    seconds, *_ = _asked(model, [weigh for scene in asked for weigh in scene])
    if model.name.startswith("scripted:"):
        return row
    sent = np.array([sum(lengths[1:]) for lengths in per_scene])
    fresh = np.array([lengths[0] + sum(length - lengths[0] for length in lengths[1:]) for lengths in per_scene])
    row.prompt, row.completion = _total(sent, sample.total), _total(np.full(len(sent), len(asked[0])), sample.total)
    row.known = 1 - float(fresh.sum() / sent.sum())
    return _priced(row, predictor, float(sent.sum()) / seconds)


def _asked(model: LanguageModel, requests: Sequence[Write | Weigh]) -> tuple[float, int, list]:
    """Seconds for all requests, the tokens that the model counted in its answers, and the answers."""
    session = model.session()
    before, start = session.usage.completion_tokens, time.perf_counter()
    answers = ask_all(session, requests)
    return time.perf_counter() - start, session.usage.completion_tokens - before, answers


def _lengths(model: LanguageModel, outputs: Sequence[Sequence[Output]], used: int) -> np.ndarray:
    """Tokens of the answers to each scene; where only their sum is known, in proportion to their characters."""
    if isinstance(model, LocalModel):
        return np.array([sum(map(len, model.encode([output.text for output in row]))) for row in outputs])
    letters = np.array([sum(len(output.text) for output in row) for row in outputs], dtype=float)
    return letters * used / max(letters.sum(), 1)


def _total(values: np.ndarray, scenes: int) -> Amount:
    """The sum over all scenes, from some of them."""
    from scipy.stats import t

    mean, count = float(values.mean()), len(values)
    error = float(values.std(ddof=1) / np.sqrt(count) * t.ppf(0.975, count - 1)) if count > 1 else mean
    if count == scenes:
        error = 0.0
    return Amount(mean * scenes, max(0.0, mean - error) * scenes, (mean + error) * scenes)


def _priced(row: StepForecast, asked: Writer | Predictor, measured: float) -> StepForecast:
    """The step with its time, at the rate given or measured, and its cost, at the prices given."""
    rate = asked.tokens_per_second or measured
    row.seconds = (row.prompt + row.completion) * (1 / rate)
    if asked.dollars_per_million:
        prompt, completion = asked.dollars_per_million
        row.dollars = row.prompt * (prompt / 1e6) + row.completion * (completion / 1e6)
    return row


def _disk(rows: Sequence[Mapping], schema: pa.Schema) -> float:
    """Bytes a scene, from the rows of some."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), file, compression="zstd")
    empty = io.BytesIO()
    pq.write_table(schema.empty_table(), empty, compression="zstd")
    scenes = len({row["scene_id"] for row in rows})
    if not scenes:
        raise StepFailed("no scene to look at: make some first")
    return max(0, file.tell() - empty.tell()) / scenes


def _tokens(amount: Amount) -> str:
    return f"{_short(amount.value)} [{_short(amount.low)}, {_short(amount.high)}]" if amount.value else "–"


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g}"


def _money(amount: Amount | None) -> str:
    return "–" if amount is None else f"${amount.value:,.2f}"


def _bytes(size: float) -> str:
    return f"{_short(size)}B"
