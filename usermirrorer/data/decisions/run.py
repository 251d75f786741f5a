"""The writing of decision processes as a command runs it: request by request, or through a Batch API."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from usermirrorer.console.steps import StepReport
from usermirrorer.data.artefacts.run import run_step
from usermirrorer.data.decisions.decide import decide
from usermirrorer.llm.protocol import LanguageModel
from usermirrorer.steps import DecideSettings


def run_decide(
    name: str,
    work: Path,
    variant: str,
    model: LanguageModel,
    settings: DecideSettings,
    batch: bool = False,
    prices: Sequence[float] | None = None,
) -> list[StepReport]:
    """Run `decide` and show what it made. With `batch`, a file lists the batches until it is done."""
    place = f"decisions/{name}/{variant}"
    batches = work / place / ".batches.json"
    if batch:
        from usermirrorer.llm.servers.batch import batched

        model = batched(model, batches)
    answer = partial(decide, name, work, variant, model, settings)
    reports = run_step(f"decide {name} {variant}", answer, work, [place], resumes=True, prices=prices)
    batches.unlink(missing_ok=True)
    return reports
