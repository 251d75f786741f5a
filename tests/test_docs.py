"""What the docs show is what the product does: commands parse, files exist, the Python example runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.removeprefix(".venv/bin/")
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if "usermirrorer " in line
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_shown_command_is_one_the_product_has(command: str) -> None:
    from typer.main import get_command

    from usermirrorer.cli import app

    name, *args = shlex.split(command)[1:]
    known = get_command(app).commands[name]
    options = {option for parameter in known.params for option in parameter.opts}
    for arg in args:
        if arg.startswith("--"):
            assert arg in options
        if arg.startswith(("recipes/", "accelerate_configs/")):
            assert (ROOT / arg).is_file()


def test_the_make_targets_that_are_shown_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for shown in re.findall(r"^make (\w+)", README, re.M):
        assert shown in targets


def test_links_lead_to_files() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page}: {target}"


@pytest.mark.engine
def test_the_python_example_runs() -> None:
    [example] = re.findall(r"```python\n(.*?)```", README, re.S)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert any(option in done.stdout for option in ("sour soup", "sweet pie"))


def test_every_column_is_documented() -> None:
    from usermirrorer.data.artefacts import schema

    page = (ROOT / "docs" / "artefacts.md").read_text()
    for table in (schema.SCENES, schema.BASELINES, schema.DECISIONS, schema.PREDICTIONS, schema.PAIRS):
        for column in table.names:
            family = re.sub(r"_(strong|weak)$", "_*", column)
            assert f"`{column}`" in page or f"`{family}`" in page, column
