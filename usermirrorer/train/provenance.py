"""Where a trained model comes from: `usermirrorer.json`, the model card, and what never goes into either."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usermirrorer.data.artefacts.store import write_bytes
from usermirrorer.errors import UserError


if TYPE_CHECKING:
    from usermirrorer.train.config import Run

RECORD = "usermirrorer.json"

_SECRET = re.compile(r"token(?!s)|secret|passw|credential|_key$|^key$|apikey", re.IGNORECASE)
_PUBLIC = {"eos_token", "pad_token"}  # settings with "token" in their names which hold none
_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed", "usermirrorer")


def is_secret(name: str) -> bool:
    """Whether a setting or environment variable of this name holds a token, key or password."""
    return bool(_SECRET.search(name)) and name not in _PUBLIC


def without_secrets(value: Any) -> Any:
    """The same value without secret settings, and with secrets of the environment blotted out of its texts."""
    if isinstance(value, Mapping):
        return {key: without_secrets(item) for key, item in value.items() if not is_secret(str(key))}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    if isinstance(value, str):
        for name, secret in os.environ.items():
            if is_secret(name) and len(secret) >= 8:
                value = value.replace(secret, "***")
    return value


def record(run: Run, data: Mapping[str, Any]) -> dict[str, Any]:
    """What is known before training: written to `usermirrorer.json` then, and completed with `run` and metrics after.

    `data` describes the pairs: path, fingerprint, prompt, rows, and the manifest's exposure probe where it has one.
    """
    base = str(run.model.model_name_or_path)
    return without_secrets(
        {
            "prompt": data["prompt"],
            "method": run.method,
            "base": base,
            "bases": [*_bases(base), base],
            "data": {key: value for key, value in data.items() if key != "prompt"},
            "recipe": run.recipe,
            "git_revision": git_revision(),
            "versions": versions(),
        }
    )


def check_same_run(output_dir: str, now: Mapping[str, Any]) -> list[str]:
    """Refuse an output_dir that holds another run; return the settings that differ from the run it goes on with.

    A run is the same when method, base and data are: a checkpoint of other data would be continued without a word.
    """
    path = Path(output_dir) / RECORD
    if not path.is_file():
        return []
    before = json.loads(path.read_text(encoding="utf-8"))
    for name in ("method", "base"):
        if before[name] != now[name]:
            raise UserError(
                f"{output_dir} holds another run ({name}: {before[name]} → {now[name]}); name another output_dir or "
                "delete it"
            )
    if before["data"]["fingerprint"] != now["data"]["fingerprint"]:
        raise UserError(
            f"{output_dir} holds a run on other pairs ({before['data']['path']}, fingerprint "
            f"{before['data']['fingerprint']} → {now['data']['fingerprint']}); name another output_dir or delete it"
        )
    keys = sorted({*before["recipe"], *now["recipe"]})
    return [
        f"{key}: {before['recipe'].get(key)} → {now['recipe'].get(key)}"
        for key in keys
        if before["recipe"].get(key) != now["recipe"].get(key)
    ]


def write(output_dir: str, content: Mapping[str, Any]) -> None:
    """Write `usermirrorer.json`."""
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False, default=str)
    write_bytes(Path(output_dir) / RECORD, (text + "\n").encode())


def git_revision() -> str | None:
    """Revision of the checkout this package runs from, with `-dirty` where files differ; None outside of one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    describe = [*git, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        # An installed package may lie in a directory of somebody else's repository.
        subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True)
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Versions of the libraries that decide a training's numbers, those installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _bases(base: str) -> list[str]:
    """What `base` itself was trained from, oldest first, as far as its record says."""
    path = Path(base) / RECORD
    return json.loads(path.read_text(encoding="utf-8")).get("bases", []) if path.is_file() else []
