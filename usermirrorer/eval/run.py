"""One evaluation from start to end: models answer the scenes, are measured, and a table is printed.

The answers of every (model, context) are written at once and reused by a later run with the same settings, so a run
that fails halfway loses nothing that was finished.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from usermirrorer.console import headline, progress, say
from usermirrorer.data.artefacts.journal import Journal
from usermirrorer.data.artefacts.store import file_digest, locked, write_bytes, write_parquet
from usermirrorer.errors import UserError, unknown_name
from usermirrorer.eval.baselines import load_baselines
from usermirrorer.eval.best_possible import best_possible
from usermirrorer.eval.card import PREDICTIONS, write_card
from usermirrorer.eval.contexts import CONTEXTS, anonymise_items, with_context
from usermirrorer.eval.evaluate import evaluate
from usermirrorer.eval.examples import examples, redistributable
from usermirrorer.eval.parents import bases_of, parents
from usermirrorer.eval.predict import predict
from usermirrorer.eval.provenance import run_record, training_of
from usermirrorer.eval.saved import EXAMPLES, METRICS, RUN
from usermirrorer.eval.scene_predictions import KEYS
from usermirrorer.eval.scenes import load_scenes, probe_of, sibling
from usermirrorer.eval.table import show_metrics
from usermirrorer.llm import as_spec, load_model
from usermirrorer.llm.choose import MODES, trained_mode, trained_prompt
from usermirrorer.llm.identity import answering_settings
from usermirrorer.llm.paths import model_digest
from usermirrorer.llm.prompts import INSTRUCTIONS
from usermirrorer.llm.protocol import LanguageModel
from usermirrorer.records import sealed
from usermirrorer.steps import EngineSettings, EvalSettings, Sampling


def run_eval(
    models: Mapping[str, str],
    source: str,
    out: Path,
    settings: EvalSettings | None = None,
    *,
    baselines: Path | None = None,
    base_url: str | Sequence[str] | None = None,
    concurrency: int | None = None,
    engine: EngineSettings | None = None,
) -> dict[str, Any]:
    """Evaluate `models` (name -> SPEC) on the scenes at `source`; write OUT/metrics.json and what lies beside it.

    `predictions.parquet` has every answer, `examples.json` five scenes to read of every model, `run.json` what is not
    the same in every run (date, command, versions), and `README.md` says so.
    `settings.prompt` overrides the instruction a model was trained with. For scenes at WORK/scenes/DOMAIN/SPLIT,
    baselines, train users and the log are found in WORK. Shows the measures, returns them.
    """
    if not models:
        raise UserError("no model to evaluate: pass one or more with --model")
    settings = settings or EvalSettings()
    contexts, prompt = settings.context.split(","), settings.prompt
    _check(settings.repeat, settings.mode, contexts, prompt)
    settings.check()
    scenes, counts = load_scenes(source)
    train_source = sibling(source, "scenes", "train")
    train = load_scenes(train_source)[0] if train_source and train_source != Path(source).resolve() else None
    split = Path(source).name
    baseline_rows, note = load_baselines(baselines or sibling(source, "baselines", split), scenes, train)
    recorded = {"sampling": asdict(settings.sampling), "seed": settings.seed, "anonymise": settings.anonymise_items}
    # Loads no weights yet, but a missing model fails now and not after hours spent on the others.
    place: dict[str, Any] = {"base_url": base_url, "concurrency": concurrency, "engine": engine}
    loaded = {name: load_model(spec, **place) for name, spec in models.items()}
    modes = {name: settings.mode or trained_mode(spec) for name, spec in models.items()}
    repeats = {name: settings.repeat if mode == "decision" else 1 for name, mode in modes.items()}
    prompts = {name: prompt or trained_prompt(spec, modes[name]) for name, spec in models.items()}
    training = {name: training_of(spec) for name, spec in models.items()}
    bases = {name: bases_of(spec) for name, spec in models.items()}
    parts = []
    for name, model in loaded.items():
        asked = {"mode": modes[name], "repeat": repeats[name], **recorded, "base_url": base_url or None}
        asked["engine"] = answering_settings(engine)
        answer = partial(_answer, model, prompts[name], asked, out)
        parts += [answer(scenes, context).with_columns(model=pl.lit(name)) for context in contexts]
    predictions = pl.concat(parts)
    metrics = {
        "source": source,
        "settings": {
            **recorded,
            "contexts": contexts,
            "models": dict(models),
            "digests": {name: model_digest(spec) for name, spec in models.items()},
            "modes": modes,
            "repeats": repeats,
            "prompts": prompts,
            "bases": bases,
        },
        "training": training,
        "read": counts,
        "notes": [note] if note else [],
        **evaluate(
            predictions,
            scenes,
            baseline_rows,
            probe_of(source) or f"no probe: {source} has no manifest with one, so it may give the choice away",
            best_possible(scenes, sibling(source, "tables")),
            parents(models, bases),
            None if train is None else list(train.select("dataset", "user_id").unique().iter_rows()),
        ),
    }
    # With the scenes' keys the file can be compared with other runs' without the scenes.
    write_parquet(predictions.join(scenes.select(KEYS), on="scene_id").to_arrow(), out / PREDICTIONS)
    shown = anonymise_items(scenes) if settings.anonymise_items else scenes
    full = predictions.filter(pl.col("context") == "full").group_by(["model"], maintain_order=True)
    texts = {
        "redistribute_text": redistributable(scenes["dataset"].unique().sort(), sibling(source, "tables")),
        "models": {str(name): examples(rows, shown, settings.seed) for (name,), rows in full},
    }
    for name, content in {METRICS: metrics, EXAMPLES: texts}.items():
        write_bytes(out / name, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    files = {name: file_digest(out / name) for name in (METRICS, EXAMPLES, PREDICTIONS)}
    write_bytes(out / RUN, sealed({**run_record(), "files": files}))
    write_card(out, metrics)
    show_metrics(metrics)
    headline(f"eval: {', '.join(models)} on {len(scenes):,} scenes of {source}, measures in {out}")
    return metrics


def named_models(entries: list[str]) -> dict[str, str]:
    """Display names and SPECs of `[NAME=]MODEL` entries. Raises UserError if two share a name."""
    models: dict[str, str] = {}
    for entry in entries:
        name, _, model = entry.rpartition("=")
        name = name or Path(model).name
        if name in models:
            raise UserError(f"--model {entry}: two models are called {name}; write --model NAME={model}")
        models[name] = as_spec(model)
    return models


def _check(repeat: int, mode: str | None, contexts: Sequence[str], prompt: str | None) -> None:
    if repeat < 1:
        raise UserError(f"--repeat {repeat}: must be at least 1")
    if mode is not None and mode not in MODES:
        raise unknown_name("--mode", mode, MODES)
    if prompt is not None and prompt not in INSTRUCTIONS:
        raise unknown_name("--prompt", prompt, INSTRUCTIONS)
    for context in contexts:
        if context not in CONTEXTS:
            raise unknown_name("--context", context, CONTEXTS)


def _answer(
    model: LanguageModel, prompt: str, settings: Mapping[str, Any], out: Path, scenes: pl.DataFrame, context: str
) -> pl.DataFrame:
    """One model's predictions for scenes in one context, from OUT/.parts if they are already there."""
    scenes = with_context(scenes, context, settings["seed"])
    scenes = anonymise_items(scenes) if settings["anonymise"] else scenes
    place, key = out / ".parts", _key(model.name, prompt, context, settings, scenes)
    # The name ends in the digest of the rows.
    if kept := sorted(place.glob(f"{key}-*.parquet")):
        part = kept[0]
        if part.stem != f"{key}-{file_digest(part)}":
            raise UserError(f"{part} is not as it was written (changed or damaged); delete it to ask again")
        say(f"{model.name}, {context}: already answered, {len(scenes):,} scenes")
    else:
        with progress(f"{model.name}, {context}") as report, _kept(place / key) as journal:
            rows = predict(
                model,
                scenes,
                prompt,
                settings["mode"],
                settings["repeat"],
                context,
                Sampling(**settings["sampling"]),
                settings["seed"],
                journal,
                report,
            )
            write_parquet(rows.to_arrow(), whole := place / f"{key}.parquet")
            part = whole.rename(place / f"{key}-{file_digest(whole)}.parquet")
    return pl.read_parquet(part)


@contextmanager
def _kept(directory: Path) -> Iterator[Journal]:
    """The answers of an unfinished evaluation; if it is interrupted, the next one goes on after them."""
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / ".lock", directory):
        journal = Journal(directory)
        journal.resume()
        done = False
        try:
            yield journal
            done = True
        finally:
            journal.close()
            if done or not journal.units:
                shutil.rmtree(directory)


def _key(spec: str, prompt: str, context: str, settings: Mapping[str, Any], scenes: pl.DataFrame) -> str:
    """16 hex digits of all that answers depend on: the model's files, the instruction, settings and texts."""
    digest = hashlib.blake2b(digest_size=8)
    request = [spec, model_digest(spec), INSTRUCTIONS[prompt], context, settings]
    digest.update(json.dumps(request, sort_keys=True).encode())
    for row in scenes.select("scene_id", "text").iter_rows():
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()
