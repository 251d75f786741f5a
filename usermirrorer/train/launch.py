"""`usermirrorer train`: check whatever one process can check, then hand over to `accelerate launch`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from usermirrorer.data.artefacts.store import locked
from usermirrorer.errors import unknown_name
from usermirrorer.extras import need
from usermirrorer.llm.paths import model_path
from usermirrorer.settings import plain, read_mapping
from usermirrorer.shipped import ACCELERATE, find_file
from usermirrorer.train import config, rows
from usermirrorer.train.lifetime import LAUNCHER, lock_of


def launch(method: str, recipe: str | Path, accelerate: str | Path | None, overrides: Sequence[str] = ()) -> int:
    """Run `accelerate launch … -m usermirrorer.train.METHOD --config RECIPE OVERRIDES`; its exit status.

    `recipe` and `accelerate` are files or the names of shipped ones; without `accelerate`, the default of `accelerate
    config` holds. Raises UserError for a wrong name or value, missing pairs, a missing model, a missing library or an
    `output_dir` in use before any process starts.
    """
    if method not in config.METHODS:
        raise unknown_name("training method", method, config.METHODS)
    options = [] if accelerate is None else ["--config_file", str(_checked(find_file(accelerate, ACCELERATE)))]
    args = ["--config", str(find_file(recipe, method)), *overrides]
    given = config.check(method, args)[1]
    rows.check_columns(str(given["dataset_name"]), method)
    model_path(str(given["model_name_or_path"]))
    output_dir = Path(str(given["output_dir"]))
    with locked(lock_of(output_dir), output_dir):
        pass  # the training takes the lock itself
    command = [sys.executable, "-m", "accelerate.commands.launch", *options]
    environment = {**os.environ, LAUNCHER: str(os.getpid())}
    return subprocess.call([*command, "-m", f"usermirrorer.train.{method}", *args], env=environment)


def _checked(path: Path) -> Path:
    """An accelerate configuration whose library is installed."""
    node, _ = read_mapping(path, "accelerate configuration")
    if plain(node, str(path)).get("distributed_type") == "DEEPSPEED":
        need("deepspeed", "deepspeed", f"{path.stem} (distributed_type: DEEPSPEED)")
    return path
