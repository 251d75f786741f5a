"""Commands that train a model, measure it, and let it answer. They parse, call and print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from usermirrorer.cli.options import BaseUrl, Work, reports, with_settings
from usermirrorer.steps import EvalSettings, SimulateSettings


def train(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="sft or dpo")],
    config: Annotated[str, typer.Option(metavar="NAME|FILE", help="Recipe: TRL's keys; see `usermirrorer recipes`.")],
    accelerate: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="cpu, single_gpu, ddp, zero2, zero3, fsdp or your own.")
    ] = None,
) -> None:
    """Pairs → a fine-tuned model, by `accelerate launch`. Further flags override the recipe's keys.

    Example: usermirrorer train sft --config tiny-base/sft/toy --accelerate cpu --max_steps 10
    """
    from usermirrorer.train.launch import launch

    raise typer.Exit(launch(method, config, accelerate, context.args))


@reports
@with_settings
def evaluate(
    model: Annotated[list[str], typer.Option(metavar="[NAME=]MODEL", help="Directory, Hub id or SPEC; repeatable.")],
    scenes: Annotated[str, typer.Option(help="Scenes: directory, FILE.parquet, FILE.jsonl(.gz) or Hub id.")],
    out: Annotated[Path, typer.Option(help="Directory for metrics.json and predictions.parquet.")],
    settings: EvalSettings,
    base_url: BaseUrl = None,
) -> None:
    """Measure models on scenes, beside the baselines and the exposure probe.

    Example: usermirrorer eval --model tiny-base --scenes runs/toy/scenes/toy/test --out runs/toy/eval --prompt plain
    """
    from usermirrorer import console
    from usermirrorer.eval.run import named_models, run_eval
    from usermirrorer.eval.table import metric_warnings

    metrics = run_eval(named_models(model), scenes, out, settings, base_url=base_url)
    console.report({"directory": str(out), "warnings": metric_warnings(metrics), "metrics": metrics})


@reports
@with_settings
def simulate(
    model: Annotated[str, typer.Option(metavar="MODEL", help="Directory, Hub id or SPEC.")],
    requests: Annotated[Path, typer.Option(help="JSONL of {user_id, items, timestamp?}: your recommender's lists.")],
    domain: Annotated[str, typer.Option(help="Domain of the users and items.")],
    work: Work,
    out: Annotated[Path, typer.Option(help="JSONL of answers.")],
    settings: SimulateSettings,
) -> None:
    """Your recommender's lists in, the users' choices out.

    Example: usermirrorer simulate --model tiny-base --requests r.jsonl --domain toy --work runs/toy --out o.jsonl
    """
    from usermirrorer import console
    from usermirrorer.data.log.tables import load_tables
    from usermirrorer.simulate.requests import read_requests, write_choices
    from usermirrorer.simulate.simulator import Simulator

    lists = read_requests(requests, load_tables(work, domain))
    user = Simulator(model, settings.prompt, settings.mode, settings.samples, settings.seed)
    answers = user.simulate([request.text for request in lists])
    write_choices(out, lists, answers)
    console.headline(f"simulate {domain}: {len(answers):,} choices in {out}")
    console.report({"file": str(out), "choices": len(answers)})


@reports
def report(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Directories that eval wrote.")],
    out: Annotated[Path | None, typer.Option(help="Directory for the page; default: the first DIR.")] = None,
) -> None:
    """Compare evaluations of the same scenes: summary.json and one HTML page.

    Example: usermirrorer report runs/toy/eval
    """
    from usermirrorer import console
    from usermirrorer.eval.report import report as run

    page = run(directories, out or directories[0])
    console.headline(f"report: {page}")
    console.report({"page": str(page), "summary": json.loads((page.parent / "summary.json").read_text())})
