"""Commands that check, show and publish artefacts. They parse, call and print."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from usermirrorer.cli.options import Prompt, reports
from usermirrorer.errors import StepFailed, UserError


@reports
def validate(
    path: Annotated[
        Path, typer.Argument(help="An artefact's directory, FILE.parquet, FILE.jsonl, or a whole --work.")
    ],
    tokenizer: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Also count tokens, with this model's tokenizer.")
    ] = None,
    prompt: Prompt = None,
    max_length: Annotated[int | None, typer.Option(help="Most tokens of prompt and answer; default: MODEL's.")] = None,
) -> None:
    """Check artefacts: files, schema, ids, windows, positions, probe and, with --tokenizer, lengths.

    Example: usermirrorer validate runs/toy --tokenizer tiny-base
    """
    from usermirrorer.console import report
    from usermirrorer.data.audit.checks.lengths import token_counter
    from usermirrorer.data.audit.checks.result import count_results, show_checks
    from usermirrorer.data.audit.validate import validate as run

    if tokenizer is None and (prompt is not None or max_length is not None):
        raise UserError("--prompt and --max-length set how tokens are counted: add --tokenizer MODEL")
    checks = run(path, token_counter(tokenizer, prompt, max_length) if tokenizer else None)
    show_checks(checks)
    warnings = [f"{check.artefact}, {check.name}: {check.summary}" for check in checks if check.result == "warning"]
    report({"results": count_results(checks), "warnings": warnings, "checks": [asdict(check) for check in checks]})
    failed = sum(check.result == "failed" for check in checks)
    if failed:
        raise StepFailed(f"{path} failed {failed} of {len(checks)} checks")


@reports
def show(
    path: Annotated[Path, typer.Argument(help="An artefact's directory or file; with --scene also a whole --work.")],
    num: Annotated[int, typer.Option(help="Rows, drawn by the seed.")] = 3,
    scene: Annotated[str, typer.Option(metavar="ID", help="All rows of one scene.")] = "",
    seed: Annotated[int, typer.Option(help="The same seed shows the same rows.")] = 0,
) -> None:
    """Print rows as a person reads them, with the probe's and the baselines' answers beside the truth.

    Example: usermirrorer show runs/toy/scenes/toy/train --num 2
    """
    from usermirrorer.console import report
    from usermirrorer.data.audit.show import show as run

    report({"rows": run(path, num, scene, seed)})


@reports
def push(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Scenes, pairs …, a whole --work; or one model's directory.")
    ],
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="OWNER/NAME of the data set or model on the Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    include_text: Annotated[
        bool, typer.Option("--include-text", help="Send text even if its publisher forbids redistribution.")
    ] = False,
    evaluation: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of a model: put what `eval` measured in DIR on its card.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")] = False,
    token_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Environment variable that holds the token.")
    ] = "HF_TOKEN",
) -> None:
    """Publish a data set or a model with its card. What must not or need not leave this machine is withheld.

    Example: usermirrorer push runs/toy/scenes/toy runs/toy/pairs/toy you/toy-scenes --private
    """
    from usermirrorer.console import headline, report
    from usermirrorer.data.audit.publish import Published
    from usermirrorer.data.audit.publish import push as push_data_set
    from usermirrorer.eval.of_model import evaluation_of
    from usermirrorer.train.records.publish import PublishedModel, is_model, push_model

    published: Published | PublishedModel
    models = [path for path in paths if is_model(path)]
    if not models:
        if evaluation is not None:
            raise UserError(f"--evaluation {evaluation} belongs on the card of a model, and {paths[0]} is none")
        published = push_data_set(paths, repo_id, private, include_text, token_env, dry_run)
    elif len(paths) > 1:
        raise UserError(f"{models[0]} is a model, which has a repository of its own: push it by itself")
    elif include_text:
        raise UserError(f"--include-text is about data sets, and {models[0]} is a model: leave it out")
    else:
        measured = None if evaluation is None else evaluation_of(evaluation, models[0])
        published = push_model(models[0], repo_id, private, token_env, dry_run, measured)
    headline(f"push: {published.url or f'nothing was sent to {repo_id} (dry run)'}")
    report(asdict(published))
