"""The import contracts of pyproject.toml hold on the package, and would notice if they did not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
TOOL = Path(sys.executable).with_name("lint-imports")


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    """Check the package in `directory` against the repository's own contracts."""
    if not TOOL.is_file():
        pytest.skip(f"NO IMPORT LINTER at {TOOL}: pip install --no-deps -r requirements/dev.txt")
    command = [str(TOOL), "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)


def test_the_package_keeps_to_the_contracts() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "imported"),
    [
        ("data/log/events.py", "usermirrorer.data.scenes.render"),  # from below
        ("eval/run.py", "usermirrorer.train.weights.model"),  # from the room next door
        ("data/sources/readers/files.py", "usermirrorer.data.sources.templates"),  # a reader that knows its source
        ("eval/predict.py", "vllm"),  # a model behind the back of llm
    ],
)
def test_a_wrong_import_is_named(file: str, imported: str, tmp_path: Path) -> None:
    package = tmp_path / "usermirrorer"
    shutil.copytree(ROOT / "usermirrorer", package, ignore=shutil.ignore_patterns("tiny_base", "__pycache__"))
    module, _, name = imported.rpartition(".")
    with open(package / file, "a", encoding="utf-8") as source:
        source.write(f"from {module} import {name}\n" if module else f"import {name}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    importer = "usermirrorer." + file.removesuffix(".py").replace("/", ".")
    assert f"{importer} -> {imported}" in " ".join(done.stdout.split())  # it wraps long lines
    assert "BROKEN" in done.stdout
