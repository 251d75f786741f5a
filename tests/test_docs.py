"""What the docs show is what the product does: commands parse, files exist, the example runs, the site builds."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml


ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "recipes").rglob("*.md")]
}
SHELL = {
    page: [
        line.strip().removeprefix(".venv/bin/")
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)
        if language in ("", "bash")
        for line in block.splitlines()
    ]
    for page, text in PAGES.items()
}
COMMANDS = [(page, line) for page, lines in SHELL.items() for line in lines if line.startswith("usermirrorer ")]


def test_pages_and_commands_are_found() -> None:
    assert set(PAGES) >= {
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/design.md",
        "docs/how_to_add/domain.md",
    }
    shown = {line.split()[1] for _, line in COMMANDS}
    assert shown >= {"build", "train", "eval", "report", "prepare", "scenes", "simulate", "validate", "show", "push"}


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_shown_command_is_one_the_product_has(page: str, command: str) -> None:
    from typer.main import get_command

    from usermirrorer.cli import app
    from usermirrorer.shipped import ACCELERATE, DATA, find_file

    name, *args = shlex.split(command)[1:]
    known = get_command(app).commands[name]
    options = {option for parameter in known.params for option in parameter.opts}
    if name == "train":
        from usermirrorer.train import config
        from usermirrorer.train.launching import processes

        options |= {f"--{setting}" for setting in config.names(args[0]) | processes.names()}
    for arg, value in pairwise([*args, ""]):
        if arg.startswith("--"):
            assert arg in options
        if arg == "--accelerate" or arg == "--config" and not value.endswith(".yaml"):
            find_file(value, ACCELERATE if arg == "--accelerate" else DATA if name == "build" else args[0])
        if arg.startswith(("recipes/", "accelerate_configs/")):
            assert (ROOT / arg).is_file()


def test_the_make_targets_that_are_shown_exist() -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    shown = {name for text in PAGES.values() for name in re.findall(r"`make ([a-z0-9-]+)", text)}
    shown |= {name for lines in SHELL.values() for line in lines for name in re.findall(r"^make ([a-z0-9-]+)", line)}
    assert shown >= {"demo", "test", "lint", "docs"}
    assert shown <= set(targets)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGES[page]):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str) -> None:
    tops = "usermirrorer|tests|docs|recipes|benchmarks|examples|requirements"
    for path in re.findall(rf"`((?:{tops})/[^\s`*]*)`", PAGES[page]):
        if not re.search(r"NAME|METHOD|MODEL", path):  # a part to be filled in
            assert (ROOT / path).exists(), path


def test_the_walk_names_every_file_of_the_path_once() -> None:
    walk = PAGES["docs/design.md"].partition("### A walk on paper")[2].partition("\n## ")[0]
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", walk)
    assert len(named) == len(set(named))
    package = ROOT / "usermirrorer"
    assert [name for name in named if not (package / name).is_file()] == []
    rooms = ("data/log", "data/items", "data/scenes", "data/decisions", "data/pairs")
    on_the_path = {str(path.relative_to(package)) for room in rooms for path in (package / room).glob("[!_]*.py")}
    assert on_the_path - set(named) == set()


@pytest.mark.engine
def test_the_python_example_runs(tmp_path: Path) -> None:
    """Where `make demo` ran; its model is the untrained one here."""
    from usermirrorer.data.log.prepare import prepare
    from usermirrorer.llm.paths import TINY_BASE

    demo = tmp_path / "runs" / "demo"
    prepare("toy", None, demo)
    model = shutil.copytree(TINY_BASE, demo / "models" / "dpo")
    (model / "usermirrorer.json").write_text('{"prompt": "plain"}')
    [example] = re.findall(r"```python\n(.*?)```", README, re.S)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert re.match("(sour-soup|sweet-pie|salty-bread) ", done.stdout)
    assert done.stdout.splitlines()[-1] in ("sour-soup", "new")


def test_every_column_is_documented() -> None:
    from usermirrorer.data.artefacts import schema

    page = PAGES["docs/artefacts.md"]
    for table in (schema.SCENES, schema.BASELINES, schema.DECISIONS, schema.PREDICTIONS, schema.PAIRS):
        for column in table.names:
            family = re.sub(r"_(strong|weak)$", "_*", column)
            assert f"`{column}`" in page or f"`{family}`" in page, column


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    tool = Path(sys.executable).with_name("mkdocs")
    if not tool.is_file():
        pytest.skip(f"NO MKDOCS at {tool}: pip install --no-deps -r requirements/dev.txt")
    command = [str(tool), "build", "--strict", "--site-dir", str(tmp_path)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # the theme on its own future
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Two commands" in home  # the README is the home page
    api = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    for name in (
        "Simulator",
        "Person",
        "Request",
        "Choice",
        "LanguageModel",
        "Domain",
        "RawTables",
        "open_step",
        "information_gain",
    ):
        assert name in api
    # nothing is fetched when the site is read
    fetched = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//')
    assert [page for page in tmp_path.rglob("*.html") if fetched.search(page.read_text(encoding="utf-8"))] == []


def test_every_extra_is_documented() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = re.findall(r"^\| `(\w+)` \|", PAGES["docs/install.md"], re.M)
    assert sorted(listed) == sorted(set(project["optional-dependencies"]) - {"dev"})


def test_one_version_of_vllm_is_pinned() -> None:
    files = ("pyproject.toml", "requirements/cpu.txt", "requirements/gpu.txt", "Dockerfile")
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in files)
    pins = re.findall(r"\bvllm(?:-cpu|/vllm-openai)?(?:==|:v)([\d.]+)", text)
    assert len(pins) == 4 and len(set(pins)) == 1


def test_the_citation_is_whole() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    from usermirrorer import __version__

    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", __version__)
    [paper] = citation["references"]
    assert [author["name"] for author in paper["authors"]] == ["Wei", "Guo", "Du", "Sun", "Chen", "Wang", "Zhang"]
    assert (paper["year"], paper["start"], paper["end"]) == (2026, 6046, 6071)
