"""What is damaged: valid inputs of every kind, and what reads them. A subject is one kind of input and its reader."""

from __future__ import annotations

import atexit
import gzip
import json
import math
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import raw_amazon
import raw_goodreads
import raw_kuairec
import raw_lastfm
import raw_mind
import raw_ml_1m
import raw_mobilerec
import raw_shop
import raw_steam
from built import Guesser, build
from consistent import (
    check_answers,
    check_json,
    check_pairs,
    check_scenes,
    check_types,
    digests,
    empty_directories,
    holds,
)
from small_log import write_small_log

from usermirrorer import Simulator
from usermirrorer.data.artefacts.find import find_artefacts
from usermirrorer.data.audit.show import show
from usermirrorer.data.audit.validate import validate
from usermirrorer.data.decisions.decide import decide
from usermirrorer.data.decisions.score import score
from usermirrorer.data.items.embeddings import embed_items
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.log.tables import load_tables
from usermirrorer.data.pairs.distill import distill
from usermirrorer.data.recipe import read_data_recipe
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.data.sources import is_own, load_domain
from usermirrorer.data.sources.own.draft import draft
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.eval.parents import bases_of
from usermirrorer.eval.provenance import training_of
from usermirrorer.eval.report.compare import report
from usermirrorer.eval.run import run_eval
from usermirrorer.eval.scenes import load_scenes
from usermirrorer.llm import load_model
from usermirrorer.llm.choose import trained_mode, trained_prompt, trained_with_evidence
from usermirrorer.llm.engines.local import adapter_base
from usermirrorer.llm.execution import BatchSession
from usermirrorer.llm.paths import model_digest
from usermirrorer.llm.protocol import Output
from usermirrorer.llm.scripted import load_scripted
from usermirrorer.llm.servers import replies
from usermirrorer.settings import plain, read_mapping
from usermirrorer.shipped import ACCELERATE, DATA, shipped
from usermirrorer.simulate.calibration import read_calibration
from usermirrorer.simulate.files import simulate_file
from usermirrorer.steps import DecideSettings, DistillSettings, EvalSettings, Sampling, SceneSettings, SimulateSettings


@dataclass(frozen=True)
class Subject:
    """Inputs of one kind: how valid ones are made in a directory, which files of them are damaged, what reads them."""

    make: Callable[[Path], None]
    run: Callable[[Path, random.Random], None]
    """Raises UserError or StepFailed, or accepts what it has checked to be consistent"""
    damaged: Callable[[Path], list[Path]] = lambda place: files(place)
    share: float = 1.0
    """Of the cases, beside the other subjects"""


def files(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file() and path.name != ".lock")


# Raw files of every source, and tables of your own.


def _log(name: str, write: Callable[[Path], None]) -> Subject:
    def make(place: Path) -> None:
        (place / "raw").mkdir()
        write(place / "raw")

    def run(place: Path, rng: random.Random) -> None:
        raw, work = place / "raw", place / "work"
        given = str(raw / name) if is_own(name) else name
        try:
            domain = prepare(given, raw, work)["recipe"]["domain"]
        except (UserError, StepFailed):
            holds(not work.exists() or not empty_directories(work), f"left empty: {empty_directories(work)}")
            raise
        load_tables(work, domain)
        _none_failed(work)

    return Subject(make, run, share=0.5)


def _none_failed(path: Path) -> None:
    # A log of which a few events are left has no windows; it is whole all the same.
    bad = [check for check in validate(path) if check.result == "failed" and check.name != "windows"]
    failed = [f"{check.artefact} {check.name}: {check.summary}" for check in bad]
    holds(not failed, f"validate: {failed}")


def write_tables(directory: Path, kind: str) -> None:
    """The shop as tables of your own, in one format."""
    rows = [(user, item, rating, seconds) for user, item, rating, seconds in raw_shop.rows()][:200]
    events = pl.DataFrame(rows, ("customer", "product", "stars", "at"), orient="row")
    items = pl.DataFrame({
        "product": [raw_shop.item_id(i) for i in range(60)],
        "name": [raw_shop.title(i) for i in range(60)],
        "kind": [raw_shop.KINDS[i % 3] for i in range(60)],
        "price": [2 + i / 4 if i % 9 else None for i in range(60)],
    })  # fmt: skip
    for name, table in {"events": events, "products": items}.items():
        path = directory / f"{name}.{kind}"
        if kind == "csv":
            table.write_csv(path)
        elif kind == "jsonl":
            table.write_ndjson(path)
        else:
            table.write_parquet(path)
    text = f"name: own\nformat: table\ntables: {{events: events.{kind}, items: products.{kind}}}\n"
    text += "columns: {user_id: customer, item_id: product, timestamp: at, title: name}\nevent: bought\n"
    text += "item: '{title} - {kind}<, {price:.2f} EUR>'\nhistory: '{event} {item}, {time_diff}<: {stars}/5>'\n"
    text += "option: '{item}<, {sold:.0f} sold>'\nas_of: {sold: count}\nchoices: {any: any, liked: stars >= 4}\n"
    (directory / "own.yaml").write_text(text)


def _drafts(place: Path, rng: random.Random) -> None:
    found = {"events": place / "events.csv", "items": place / "products.csv"}
    draft(found, place / "drafted.yaml", "drafted", {})


def _make_drafts(place: Path) -> None:
    write_tables(place, "csv")


# Settings.


def _make_recipes(place: Path) -> None:
    for path in shipped(DATA).values():
        shutil.copy(path, place / f"data-{path.name}")
    for path in [*shipped("sft").values(), *shipped(ACCELERATE).values()][:8]:
        shutil.copy(path, place / f"other-{path.name}")
    for name, text in {"shop": raw_shop.RECBOLE, "market": raw_shop.INTERCHANGE}.items():
        (place / f"domain-{name}.yaml").write_text(text)


def _recipes(place: Path, rng: random.Random) -> None:
    for path in sorted(place.glob("*")):
        if path.name.startswith("data-"):
            recipe = read_data_recipe(path)
            check_types(recipe)
            for domain in recipe.domains:
                known = load_domain(domain.name)
                for settings in domain.scene_settings(recipe.seed).values():
                    full = settings.for_domain(domain.name, known.exposures, known.choice_rules)
                    holds(2 <= full.min_exposure <= full.max_exposure <= 26, f"lists of {full}")
            for writer in recipe.writers.values():
                writer.settings(recipe.prompt, recipe.seed).check()
                load_model(writer.llm)
            load_model(recipe.predictor.llm)
            recipe.distill_settings.check()
        elif path.name.startswith("domain-"):
            load_domain(str(path))
        else:
            plain(read_mapping(path, "training recipe")[0], str(path))


# Artefacts of a small --work in which every step has run.


MODELS = {"reader": "scripted:reader", "noisy": "scripted:noisy"}


@cache
def _work() -> Path:
    place = Path(tempfile.mkdtemp(prefix="built-"))
    atexit.register(shutil.rmtree, place)
    build(place, "toy", train=120, test=40)
    run_eval(
        MODELS,
        str(place / "scenes" / "toy" / "test"),
        place / "evaluation",
        EvalSettings(prompt="plain", repeat=2, context="full,swapped-history"),
    )
    return place


def _make_work(place: Path) -> None:
    shutil.copytree(_work(), place, dirs_exist_ok=True)


def _parts(*names: str) -> Callable[[Path], list[Path]]:
    """The files of some steps, manifests included."""
    return lambda place: [path for path in files(place) if str(path.relative_to(place)).startswith(names)]


def _audit(place: Path, rng: random.Random) -> None:
    before = json.loads((place / "digests.json").read_text())
    parts = ["tables/toy", "embeddings/toy", "pairs/toy"]
    parts += [f"{kind}/toy/{split}" for kind in ("scenes", "baselines") for split in ("train", "test")]
    parts += [f"{kind}/toy/{variant}" for kind in ("decisions", "predictions") for variant in ("strong", "weak")]
    now = digests(place)
    for part in parts:
        try:
            show(place / part, 2)
        except (UserError, StepFailed) as error:
            one_sentence(error)
    checks = validate(place)
    for part in parts:
        if any(now.get(name) != digest for name, digest in before.items() if name.startswith(f"{part}/")):
            failed = [check for check in checks if check.artefact == part and check.result == "failed"]
            holds(bool(failed), f"validate passes {part}, which was changed")


def _make_audited(place: Path) -> None:
    _make_work(place)
    shutil.rmtree(place / "evaluation")
    (place / "digests.json").write_text(json.dumps(digests(place)))


STEPS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...], tuple[str, ...]]] = {
    "embed": (lambda work: embed_items("toy", work), ("embeddings/",), ("tables/",)),
    "scenes": (
        lambda work: make_scenes(
            "toy", work, SceneSettings("test", 40, "logged", min_exposure=5, max_exposure=5)
        ),
        ("scenes/toy/test", "scenes/toy/.test", "features/toy/test", "features/toy/.test", "baselines/toy/test",
         "baselines/toy/.test"),
        ("tables/", "embeddings/", "features/"),
    ),
    "decide": (
        lambda work: decide("toy", work, "strong", load_model("scripted:reader"), DecideSettings(n=4, prompt="plain")),
        ("decisions/toy/strong", "decisions/toy/.strong"),
        ("scenes/toy/train", "scenes/toy/.train"),
    ),
    "score": (
        lambda work: score("toy", work, Guesser()),
        ("predictions/",),
        ("scenes/toy/train", "scenes/toy/.train", "decisions/"),
    ),
    "distill": (
        lambda work: distill(work, ["toy"], DistillSettings(name="toy", num=60, min_accepted=1)),
        ("pairs/",),
        ("scenes/toy/train", "scenes/toy/.train", "decisions/", "predictions/", "tables/"),
    ),
}  # fmt: skip
"""Step -> how it runs, what it makes, what it reads."""


def _step(name: str) -> Subject:
    run_step, made, read = STEPS[name]

    def make(place: Path) -> None:
        _make_work(place)
        shutil.rmtree(place / "evaluation")
        for part in place.iterdir():
            if not any(one.startswith(part.name) for one in (*made, *read)):
                shutil.rmtree(part)
        for path in files(place):
            if str(path.relative_to(place)).startswith(made):
                path.unlink()
        for part in made:
            shutil.rmtree(place / part, ignore_errors=True)
        shutil.copytree(place, place / "again")
        run_step(place / "again")
        (place / "expected.json").write_text(json.dumps(digests(place / "again")))
        shutil.rmtree(place / "again")

    def run(place: Path, rng: random.Random) -> None:
        expected = json.loads((place / "expected.json").read_text())
        (place / "expected.json").unlink()
        before = {str(path.relative_to(place)) for path in place.rglob("*")}
        try:
            run_step(place)
        except (UserError, StepFailed):
            left = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_dir()} - before
            empty = [one for one in left if one in empty_directories(place)]
            holds(not empty, f"left empty: {empty}")
            raise
        found = digests(place)
        holds(all(found.get(one) == digest for one, digest in expected.items() if one.startswith(made)), "other bytes")

    return Subject(make, run, _parts(*read), share=0.5)


class Dying:
    """A writer whose process ends in the middle of a step."""

    max_length = None

    def __init__(self, batches: int) -> None:
        self.writer, self.left = load_scripted("reader"), batches
        self.name = self.writer.name

    def session(self) -> BatchSession:
        return BatchSession(self, 16)

    def generate(self, conversations: Any, n: int, sampling: Sampling, seeds: Any) -> list[list[Output]]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.writer.generate(conversations, n, sampling, seeds)

    def choice_probs(self, conversations: Any, labels: Any) -> Any:
        return self.writer.choice_probs(conversations, labels)

    def count_tokens(self, conversations: Any) -> list[int]:
        return self.writer.count_tokens(conversations)

    def embed(self, texts: Any) -> Any:
        raise NotImplementedError


def _make_interrupted(place: Path) -> None:
    _step("decide").make(place)
    try:
        decide("toy", place, "strong", Dying(1), DecideSettings(n=4, prompt="plain"))
    except KeyboardInterrupt:
        pass


def _make_state(place: Path) -> None:
    _make_requests(place)
    simulate_file(_simulator(place), place / "requests.jsonl", place / "out.jsonl", "")
    lines = (place / "out.jsonl").read_bytes().splitlines(keepends=True)
    (place / "expected.json").write_text(json.dumps([line.decode() for line in lines]))


def _state(place: Path, rng: random.Random) -> None:
    """A file of answers that is gone on with, or left as it is."""
    expected = json.loads((place / "expected.json").read_text())
    simulate_file(_simulator(place), place / "requests.jsonl", place / "out.jsonl", "")
    holds((place / "out.jsonl").read_text().splitlines(keepends=True) == expected, "other answers")


# What `eval`, `report` and `simulate` read.


def _make_scenes(place: Path) -> None:
    _make_work(place / "work")
    scenes = load_scenes(place / "work" / "scenes" / "toy" / "test")[0].head(12)
    for part in ("tables", "embeddings", "features", "decisions", "predictions", "pairs", "evaluation"):
        shutil.rmtree(place / "work" / part)
    scenes.write_parquet(place / "scenes.parquet")
    published = scenes.select(
        "text", "user_id", "item_id", pl.col("timestamp").dt.strftime("%Y-%m-%d %H:%M:%S"), "item_pos", "choice_cnt",
        "dataset", "impression_list", "choices",
    )  # fmt: skip
    published.write_ndjson(place / "scenes.jsonl")
    (place / "scenes.jsonl.gz").write_bytes(gzip.compress((place / "scenes.jsonl").read_bytes()))


def _scenes(place: Path, rng: random.Random) -> None:
    sources = [place / "scenes.parquet", place / "scenes.jsonl", place / "scenes.jsonl.gz"]
    for source in [*sources, place / "work" / "scenes" / "toy" / "test"]:
        check_scenes(load_scenes(source)[0])
    for source in sources[:2]:
        checks = validate(source)
        if not any(check.result == "failed" for check in checks):
            [artefact] = find_artefacts(source)
            list(artefact.rows())
        show(source, 3)
    if rng.random() < 0.2:
        source = rng.choice([*sources, place / "work" / "scenes" / "toy" / "test"])
        run_eval({"reader": "scripted:reader"}, str(source), place / "out", EvalSettings(prompt="plain", repeat=1))
        check_json(place / "out" / "metrics.json")


def _make_pairs(place: Path) -> None:
    _make_work(place / "work")
    rows = pl.read_parquet(place / "work" / "pairs" / "toy" / "*.parquet").head(12)
    for part in list((place / "work").iterdir()):
        if part.name != "pairs":
            shutil.rmtree(part)
    rows.write_parquet(place / "pairs.parquet")
    rows.write_ndjson(place / "pairs.jsonl")


def _pairs(place: Path, rng: random.Random) -> None:
    from usermirrorer.train.input.rows import check_columns, read

    for source in (place / "pairs.parquet", place / "pairs.jsonl", place / "work" / "pairs" / "toy"):
        validate(source)
        show(source, 3)
        check_columns(str(source), "dpo")
        rows = read(str(source), "train", "dpo")
        check_pairs(rows.to_list(), ("chosen", "rejected"))


def _make_evaluation(place: Path) -> None:
    _make_work(place)
    for part in place.iterdir():
        if part.name != "evaluation":
            shutil.rmtree(part)


def _evaluation(place: Path, rng: random.Random) -> None:
    page = report([place / "evaluation"], place / "report")
    check_json(page.parent / "summary.json")
    settings = SimulateSettings(samples=2, prompt="plain")
    found = read_calibration(place / "evaluation", "scripted:reader", "decision", "plain", settings)
    holds(found.scenes > 0 and found.temperature > 0 and found.smoothing >= 0, f"{found}")


def _make_kept(place: Path) -> None:
    _make_work(place)
    for part in place.iterdir():
        if part.name not in ("evaluation", "scenes", "baselines"):
            shutil.rmtree(part)


def _kept(place: Path, rng: random.Random) -> None:
    """An evaluation that goes on with the answers of an earlier one."""
    out = place / "evaluation"
    expected = (_work() / "evaluation" / "predictions.parquet").read_bytes()
    settings = EvalSettings(prompt="plain", repeat=2, context="full,swapped-history")
    run_eval(MODELS, str(place / "scenes" / "toy" / "test"), out, settings)
    holds((out / "predictions.parquet").read_bytes() == expected, "other answers")


class Fake(Guesser):
    """Writes as `scripted:reader` does; probabilities depend on the text alone."""

    name = "openai:fake"

    def generate(self, conversations: Any, n: int, sampling: Sampling, seeds: Any) -> list[list[Output]]:
        return load_scripted("reader").generate(conversations, n, sampling, seeds)


def _simulator(place: Path) -> Simulator:
    return Simulator.open(Fake(), place / "work", "shop", prompt="plain", samples=1)


def _make_requests(place: Path) -> None:
    raw = place / "raw"
    raw.mkdir()
    raw_shop.write_recbole(raw)
    prepare(str(raw / "shop.yaml"), raw, place / "work")
    shutil.rmtree(raw)
    new = {"item_id": "new", "title": "New tea", "kind": "tea", "price": 3.5, "available_from": "2024-02-01"}
    history = [{"item_id": "0003", "timestamp": "2023-12-01", "rating": 4}, {"item_id": "0004"}]
    rows = [
        {"user_id": "u1", "items": ["0001", "0002", "0003"]},
        {"user_id": "u2", "items": ["0001", "0005"], "timestamp": 1_720_000_000_000},
        {"user_id": "u3", "items": ["0001", "0005", new], "timestamp": "2024-06-01T12:00:00+02:00"},
        {"profile": "Town: Ulm", "history": history, "items": ["0007", "0008"]},
        {"user_id": "me", "profile": {"town": "Ulm", "years": 3}, "history": history, "items": ["0007", new]},
    ]
    (place / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _requests(place: Path, rng: random.Random) -> None:
    path = place / "requests.jsonl"
    counts = simulate_file(_simulator(place), path, place / "out.jsonl", "")
    requests = sum(1 for line in path.read_bytes().split(b"\n") if line.strip())
    check_answers(place / "out.jsonl", requests, counts)


# Directories of models, without their weights.


def _make_model(place: Path) -> None:
    from usermirrorer.llm.paths import TINY_BASE

    model = place / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(TINY_BASE / name, model / name)
    record = {
        "prompt": "plain", "method": "sft", "base": "tiny-base", "bases": ["tiny-base"],
        "data": {"path": "pairs", "fingerprint": "0" * 16, "rows": 7, "kept": 6, "dropped": {}, "evidence": False},
        "recipe": {}, "git_revision": None, "versions": {"torch": "2"}, "run": {"steps": 3, "global_batch": 2},
    }  # fmt: skip
    (model / "usermirrorer.json").write_text(json.dumps(record))
    log = [{"step": 1, "loss": 2.5, "epoch": 0.1}, {"step": 2, "loss": 2.25, "rewards/margins": 0.5}]
    (model / "trainer_state.json").write_text(json.dumps({"log_history": log, "global_step": 2}))
    (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "tiny-base", "r": 8}))


def _model(place: Path, rng: random.Random) -> None:
    spec = f"vllm:{place / 'model'}"
    holds(trained_mode(spec) in ("decision", "direct"), "mode")
    holds(trained_prompt(spec) in ("plain", "ekb"), "prompt")
    holds(trained_with_evidence(spec) in (True, False, None), "evidence")
    holds(all(isinstance(base, str) for base in bases_of(spec)), "bases")
    found = training_of(spec)
    holds(found is None or all(len(point) == 2 for points in found["curves"].values() for point in points), "curves")
    holds(isinstance(adapter_base(str(place / "model")), str | None), "base")
    holds(len(model_digest(spec)) == 16, "digest")


def _make_replies(place: Path) -> None:
    weights = {"C": 0.2, "A": 0.5, "B": 0.3}
    entries = [{"token": f"token_id:{ord(letter)}", "logprob": math.log(p)} for letter, p in weights.items()]
    message = {"role": "assistant", "content": "I like tea.\nBehavior: [A]"}
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    logprobs = {"content": [{**entries[0], "top_logprobs": entries}]}
    vectors = [{"index": index, "embedding": [0.1, 0.2, index + 0.5]} for index in range(3)]
    for name, reply in {
        "outputs": {"id": "1", "choices": [choice, choice | {"index": 1}], "usage": usage},
        "probs": {"id": "2", "choices": [choice | {"logprobs": logprobs}], "usage": usage},
        "tokens": {"tokens": [1, 2, 3], "count": 3},
        "vectors": {"data": vectors, "usage": usage},
    }.items():
        (place / f"{name}.json").write_text(json.dumps(reply))


def _replies(place: Path, rng: random.Random) -> None:
    """What a server replies, as `Servers.ask` reads it."""
    for name in ("outputs", "probs", "tokens", "vectors"):
        try:
            content = (place / f"{name}.json").read_bytes().decode(errors="replace")
            read: dict[str, Callable[[Any], Any]] = {
                "outputs": lambda reply: (replies.read_outputs(reply), replies.read_usage(reply)),
                "probs": lambda reply: (replies.read_probs(reply, [65, 66, 67]), replies.read_usage(reply)),
                "tokens": replies.read_tokens,
                "vectors": lambda reply: replies.read_vectors(reply, 3),
            }
            found = read[name](json.loads(content))
        except (*replies.UNUSABLE, OSError):
            continue
        if name == "outputs":
            holds(all(output.text.encode() or output.text == "" for output in found[0]), "text")
        if name == "probs":
            holds(found[0].shape == (3,) and abs(found[0].sum() - 1) < 1e-9 and bool((found[0] >= 0).all()), "probs")
        if name in ("outputs", "probs"):
            holds(all(0 <= count < 2**40 for count in found[1]), "usage")
        if name == "vectors":
            holds(bool(np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)), "vectors")


SUBJECTS: dict[str, Subject] = {
    "ml-100k": _log("ml-100k", lambda raw: write_small_log(raw, users=40, items=50)),
    "ml-1m": _log("ml-1m", raw_ml_1m.write),
    "steam": _log("steam", raw_steam.write),
    "mobilerec": _log("mobilerec", raw_mobilerec.write),
    "mind": _log("mind", raw_mind.write),
    "kuairec": _log("kuairec", raw_kuairec.write),
    "lastfm": _log("lastfm", raw_lastfm.write),
    "goodreads": _log("goodreads", raw_goodreads.write),
    "amazon": _log(f"amazon:{raw_amazon.CATEGORY}", raw_amazon.write),
    "recbole": _log("shop.yaml", raw_shop.write_recbole),
    "interchange": _log("lists.yaml", raw_shop.write_lists),
    "own-csv": _log("own.yaml", lambda raw: write_tables(raw, "csv")),
    "own-jsonl": _log("own.yaml", lambda raw: write_tables(raw, "jsonl")),
    "own-parquet": _log("own.yaml", lambda raw: write_tables(raw, "parquet")),
    "draft": Subject(_make_drafts, _drafts, lambda place: [p for p in files(place) if p.suffix == ".csv"]),
    "recipes": Subject(_make_recipes, _recipes, share=4),
    "audit": Subject(
        _make_audited,
        _audit,
        _parts("tables", "scenes", "decisions", "predictions", "pairs", "baselines", "embeddings"),
    ),
    **{f"step-{name}": _step(name) for name in STEPS},
    "interrupted": Subject(_make_interrupted, _step("decide").run, _parts("decisions/")),
    "scenes": Subject(_make_scenes, _scenes),
    "pairs": Subject(_make_pairs, _pairs),
    "evaluation": Subject(_make_evaluation, _evaluation),
    "kept": Subject(_make_kept, _kept, _parts("evaluation/.parts", "baselines"), share=0.5),
    "requests": Subject(_make_requests, _requests, _parts("requests.jsonl"), share=2),
    "state": Subject(_make_state, _state, _parts("out", ".out")),
    "model": Subject(_make_model, _model, share=4),
    "replies": Subject(_make_replies, _replies, share=2),
}


def one_sentence(error: Exception) -> None:
    """What a person is told: one line, not too long, without control characters."""
    text = str(error)
    holds(bool(text) and text.isprintable() and len(text) < 1500, f"the message is {text[:300]!r}")
