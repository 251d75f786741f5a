"""`usermirrorer train`: check whatever one process can check, then hand over to `accelerate launch`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from usermirrorer.errors import UserError, unknown_name
from usermirrorer.llm.paths import model_path
from usermirrorer.train import config, rows


def launch(method: str, recipe: str | Path, accelerate: str | Path | None, overrides: Sequence[str] = ()) -> int:
    """Run `accelerate launch … -m usermirrorer.train.METHOD --config RECIPE OVERRIDES`; its exit status.

    `accelerate` is a file such as `accelerate_configs/zero2.yaml`, or None for the default of `accelerate config`.
    Raises UserError for a wrong name or value, missing pairs or a missing model before any process starts.
    """
    if method not in config.METHODS:
        raise unknown_name("training method", method, config.METHODS)
    if accelerate is not None and not Path(accelerate).is_file():
        raise UserError(f"{accelerate}: no accelerate configuration here; accelerate_configs/ holds several")
    args = ["--config", str(recipe), *overrides]
    given = config.check(method, args)[1]
    rows.check_columns(str(given["dataset_name"]), method)
    model_path(str(given["model_name_or_path"]))
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    if accelerate is not None:
        command += ["--config_file", str(accelerate)]
    return subprocess.call([*command, "-m", f"usermirrorer.train.{method}", *args])
