"""Where a trained model comes from: its record, `usermirrorer.json`."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from usermirrorer.data.artefacts.find import find_artefacts
from usermirrorer.data.artefacts.store import write_bytes
from usermirrorer.errors import UserError
from usermirrorer.llm.paths import RECORD, training_record
from usermirrorer.records import sealed
from usermirrorer.secrets import redact
from usermirrorer.train.config import Run


_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed", "usermirrorer")


def record(run: Run, data: Mapping[str, Any]) -> dict[str, Any]:
    """What is known before training, written to `usermirrorer.json`; `run` and metrics are added afterwards.

    `data` is what `rows.prepare` says of the pairs; `bases` are the models behind this one, oldest first.
    """
    base = str(run.model.model_name_or_path)
    bases = (training_record(base) or {}).get("bases", [])
    return redact(
        {
            "prompt": data["prompt"],
            "method": run.method,
            "base": base,
            "bases": [*bases, base],
            "data": {key: value for key, value in data.items() if key != "prompt"}
            | {"windows": windows(data["path"])},
            "recipe": run.recipe,
            "global_batch": run.global_batch,
            "git_revision": git_revision(),
            "versions": versions(),
        }
    )


def windows(path: str) -> dict[str, dict[str, int]]:
    """Domain -> split -> when its window begins (ms), for pairs or scenes that lie in a --work with their tables."""
    found: dict[str, dict[str, int]] = {}
    if not Path(path).expanduser().is_dir():
        return found
    with suppress(UserError):  # files of another's making
        for artefact in find_artefacts(Path(path).expanduser()):
            for domain in artefact.domains:
                tables = artefact.beside("tables", "", domain)
                if tables and "cuts" in tables.content:
                    found[domain] = dict(tables.content["cuts"])
    return found


def write(output_dir: str, content: Mapping[str, Any]) -> None:
    """Write the record, `usermirrorer.json`."""
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    write_bytes(Path(output_dir) / RECORD, sealed(content))


def git_revision() -> str | None:
    """Revision of the checkout that this package runs from, `-dirty` if files differ; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    describe = [*git, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        # An installed package may be inside somebody else's repository.
        subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True)
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Versions of the installed libraries that affect a training's numbers."""
    found = {}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
