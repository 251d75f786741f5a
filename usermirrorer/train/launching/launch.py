"""`usermirrorer train`: check whatever one process can check, then hand over to `accelerate launch`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usermirrorer import console
from usermirrorer.data.artefacts.store import locked
from usermirrorer.errors import unknown_name
from usermirrorer.extras import need
from usermirrorer.llm.paths import model_path, record_in
from usermirrorer.settings import plain, read_mapping
from usermirrorer.shipped import ACCELERATE, find_file
from usermirrorer.train import config
from usermirrorer.train.input import rows
from usermirrorer.train.launching import processes, start
from usermirrorer.train.launching.lifetime import LAUNCHER, lock_of
from usermirrorer.train.records.tracking import SILENT


def launch(method: str, recipe: str | Path, accelerate: str | Path | None, flags: Sequence[str] = ()) -> int:
    """Run the training that `command` describes; its exit status. It logs no more than this command may print."""
    words, output_dir = command(method, recipe, accelerate, flags)
    environment = {**os.environ, LAUNCHER: str(os.getpid())}
    if console.is_silent():
        environment |= SILENT
    status = start.run(words, environment, stdout=subprocess.DEVNULL if console.is_silent() else None)
    if status == 0 and console.is_silent():
        console.headline(f"saved: {output_dir}")
        console.report({"directory": str(output_dir), **(record_in(output_dir) or {})})
    return status


def command(
    method: str, recipe: str | Path, accelerate: str | Path | None, flags: Sequence[str] = ()
) -> tuple[list[str], Path]:
    """`accelerate launch … -m usermirrorer.train.METHOD --config RECIPE …`, checked, and its output_dir.

    `recipe` and `accelerate` are files or the names of shipped ones; without `accelerate`, the default of `accelerate
    config` holds. `flags` are accelerate's own and settings of the recipe, in any order. Raises UserError for a wrong
    name or value, missing pairs, a missing model, a missing library or an `output_dir` in use before any process
    starts.
    """
    if method not in config.METHODS:
        raise unknown_name("training method", method, config.METHODS)
    passed, settings = processes.split(flags, config.names(method))
    path = _default() if accelerate is None else find_file(accelerate, ACCELERATE)
    configuration, source = _read(path), path.stem if path else "accelerate's default"
    args = ["--config", str(find_file(recipe, method)), *settings]
    plan = processes.plan(passed, configuration, source)
    if plan.distributed_type == "DEEPSPEED":
        need("deepspeed", "deepspeed", f"{source} (distributed_type: DEEPSPEED)")
    given = config.check(method, args, plan.processes, processes.names())[1]
    if not given.get("use_cpu"):
        plan.check_gpus()
    rows.check_columns(str(given["dataset_name"]), method)
    model_path(str(given["model_name_or_path"]))
    output_dir = Path(str(given["output_dir"]))
    if plan.rank == 0:  # machines share the directory, and several launchers would meet at its lock
        with locked(lock_of(output_dir), output_dir):
            pass  # the training takes the lock itself
    options = [] if accelerate is None else ["--config_file", str(path)]
    launcher = [sys.executable, "-m", "usermirrorer.train.launching.start", *options, *passed]
    return [*launcher, "-m", f"usermirrorer.train.{method}", *args], output_dir


def _default() -> Path | None:
    """The file that `accelerate config` wrote, if it did."""
    from accelerate.commands.config import default_config_file

    return Path(default_config_file) if Path(default_config_file).is_file() else None


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    node, _ = read_mapping(path, "accelerate configuration")
    found: dict[str, Any] = plain(node, str(path))
    return found
