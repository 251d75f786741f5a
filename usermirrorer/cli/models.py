"""Commands that train a model, measure it, and let it answer. They parse, call and print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, cast

import typer

from usermirrorer.cli.options import BaseUrl, Concurrency, Work, domain_name, reports, with_settings
from usermirrorer.steps import EngineSettings, EvalSettings, SimulateSettings


MOST_LISTED = 10
"""Requests without an answer that `simulate` prints; its file of errors has all."""


@reports
def train(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="sft, dpo, kto or grpo")],
    config: Annotated[str, typer.Option(metavar="NAME|FILE", help="Recipe: TRL's keys; see `usermirrorer recipes`.")],
    accelerate: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="cpu, single_gpu, ddp, zero2, zero3, fsdp or your own.")
    ] = None,
) -> None:
    """Pairs → a fine-tuned model, by `accelerate launch`. Further flags are its own or override the recipe's keys.

    The same command goes on with an interrupted run; --fresh starts it over.

    Example: usermirrorer train sft --config tiny-base/sft/toy --accelerate cpu --max_steps 10
    """
    from usermirrorer.train.launching.launch import launch

    status = launch(method, config, accelerate, context.args)
    if status:
        raise typer.Exit(status)


@reports
def merge(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="Directory of a LoRA adapter.")],
    out: Annotated[Path, typer.Option(help="Directory for the whole model.")],
) -> None:
    """A LoRA adapter → a whole model, in bfloat16, kept only if it answers as the adapter does.

    Example: usermirrorer merge runs/ml-100k/models/sft-lora --out runs/ml-100k/models/sft-merged
    """
    from usermirrorer import console
    from usermirrorer.train.weights.merge import merge as run

    record = run(adapter, out)
    console.report({"directory": str(out), "merge": record["merge"]})


@reports
@with_settings
def evaluate(
    model: Annotated[list[str], typer.Option(metavar="[NAME=]MODEL", help="Directory, Hub id or SPEC; repeatable.")],
    scenes: Annotated[str, typer.Option(help="Scenes: directory, FILE.parquet, FILE.jsonl(.gz) or Hub id.")],
    out: Annotated[Path, typer.Option(help="Directory for metrics.json and the predictions.")],
    settings: EvalSettings,
    engine: EngineSettings,
    base_url: BaseUrl = None,
    concurrency: Concurrency = None,
) -> None:
    """Measure models on scenes, beside the baselines and the exposure probe.

    Example: usermirrorer eval --model tiny-base --scenes runs/toy/scenes/toy/test --out runs/toy/eval --prompt plain
    """
    from usermirrorer import console
    from usermirrorer.eval.run import named_models, run_eval
    from usermirrorer.eval.table import metric_warnings

    metrics = run_eval(
        named_models(model), scenes, out, settings, base_url=base_url, concurrency=concurrency, engine=engine
    )
    console.report({"directory": str(out), "warnings": metric_warnings(metrics), "metrics": metrics})


@reports
@with_settings
def simulate(
    model: Annotated[str, typer.Option(metavar="MODEL", help="Directory, Hub id or SPEC.")],
    requests: Annotated[Path, typer.Option(help="JSONL: {user_id or profile and history, items, timestamp?}.")],
    domain: Annotated[
        str, typer.Option(help="Domain of the users and items, or your own .yaml.", callback=domain_name)
    ],
    work: Work,
    out: Annotated[Path, typer.Option(help="JSONL of answers.")],
    settings: SimulateSettings,
    engine: EngineSettings,
    base_url: BaseUrl = None,
    concurrency: Concurrency = None,
) -> None:
    """Your recommender's lists in, the users' choices out. A line that is wrong is listed, the others are answered.

    Example: usermirrorer simulate --model tiny-base --requests r.jsonl --domain toy --work runs/toy --out o.jsonl
    """
    from usermirrorer import console
    from usermirrorer.data.artefacts.store import fingerprint
    from usermirrorer.llm import as_spec, load_model
    from usermirrorer.simulate.files import errors_file, listed_errors, simulate_file
    from usermirrorer.simulate.simulator import Options, Simulator

    options = cast(Options, vars(settings))
    loaded = load_model(as_spec(model), base_url=base_url, concurrency=concurrency, engine=engine)
    user = Simulator.open(loaded, work, domain, **options)
    with console.progress(f"simulate {domain}") as progress:
        counts = simulate_file(user, requests, out, fingerprint(work / "tables" / domain), progress)
    console.headline(f"simulate {domain}: {counts['answered']:,} choices in {out}")
    if user.none_of_these:
        console.say(
            f"  every list ends in {user.none_of_these!r}; no scene does, so what the model says of it is not measured"
        )
    warnings = []
    if counts["bad"]:
        for line in listed_errors(out, requests, MOST_LISTED):
            console.say(f"  {line}")
        warnings = [f"{counts['bad']:,} requests could not be answered; all are in {errors_file(out)}"]
    for warning in warnings:
        console.warn(warning)
    console.report({"file": str(out), "counts": counts, "warnings": warnings})


@reports
def report(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Directories that eval wrote.")],
    out: Annotated[Path | None, typer.Option(help="Directory for the page; default: the first DIR.")] = None,
) -> None:
    """Compare evaluations of the same scenes: a page, the same as Markdown, and summary.json.

    Example: usermirrorer report runs/toy/eval
    """
    from usermirrorer import console
    from usermirrorer.eval.report.compare import report as run

    page = run(directories, out or directories[0])
    console.headline(f"report: {page}")
    console.report({"page": str(page), "summary": json.loads((page.parent / "summary.json").read_text())})
