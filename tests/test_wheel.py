"""The wheel, installed by itself: outside a checkout, with the libraries that it declares and no others."""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement


ROOT = Path(__file__).parent.parent
SOURCES = [
    "usermirrorer",
    "recipes",
    "accelerate_configs",
    "requirements",
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
]
SHIPPED = {"recipes": "*.yaml", "accelerate_configs": "*.yaml", "requirements": "*.txt"}
EXTRAS = ("vllm", "deepspeed", "bitsandbytes", "wandb")

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a publisher does it: sources → sdist → wheel. In a copy, because a build leaves directories behind."""
    place = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, place / name)
    code = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    run(sys.executable, "-W", "error::UserWarning", "-c", code, cwd=place)
    [sdist] = (place / "dist").glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    run(*pip, "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", place / "dist", sdist, cwd=place)
    [wheel] = (place / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def closure(requirements: list[str]) -> dict[str, Distribution]:
    """What pip would install for these requirements, without extras, as far as it is installed here."""
    found: dict[str, Distribution] = {}
    left = [(Requirement(text), "") for text in requirements]
    while left:
        requirement, extra = left.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            installed = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        for wanted in ["", *requirement.extras]:
            if (key := f"{requirement.name}[{wanted}]") not in found:
                found[key] = installed
                left += [(Requirement(text), wanted) for text in installed.requires or []]
    return found


@pytest.fixture(scope="module")
def fresh(wheel: Path, metadata: email.message.Message, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment: the wheel, and links to the libraries that it declares."""
    place = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=place)
    [site] = place.glob("lib/python*/site-packages")
    for library in closure(metadata.get_all("Requires-Dist", [])).values():
        for top in {path.parts[0] for path in library.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(str(library.locate_file(top)))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", place / "bin" / "python"]
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=place)
    return place / "bin"


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path, metadata: email.message.Message) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
    package = [path for path in (ROOT / "usermirrorer").rglob("*") if "__pycache__" not in path.parts]
    files = {str(path.relative_to(ROOT)) for path in package if path.is_file()}
    for top, pattern in SHIPPED.items():
        files |= {f"usermirrorer/{path.relative_to(ROOT)}" for path in (ROOT / top).rglob(pattern)}
    assert names == files
    assert "usermirrorer/py.typed" in names and len(licences) == 1
    extras = {"gpu", "deepspeed", "quantization", "wandb"}
    assert extras <= set(metadata.get_all("Provides-Extra", []))


def test_images_are_built_from_the_same_sources() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == set(SOURCES)


def test_it_is_the_wheel_that_runs(fresh: Path, tmp_path: Path) -> None:
    code = (
        "import usermirrorer; from importlib.util import find_spec; print(usermirrorer.__file__, *map(find_spec, {}))"
    )
    file, *extras = run(fresh / "python", "-c", code.format(EXTRAS), cwd=tmp_path).stdout.split()
    assert Path(file).is_relative_to(fresh.parent)
    assert extras == ["None"] * len(EXTRAS)
    assert run(fresh / "usermirrorer", "--version", cwd=tmp_path).stdout.startswith("usermirrorer 0.")


def test_recipes_go_by_name(fresh: Path, tmp_path: Path) -> None:
    command = fresh / "usermirrorer"
    listed = run(command, "recipes", cwd=tmp_path).stdout
    for name in ("toy", "tiny-base/sft/toy", "tiny-base/dpo/toy", "qwen2.5-3b-instruct/sft/full", "zero3"):
        assert f"\n  {name} " in listed
    # The recipe is found and read: it is the recipe that has no such domain.
    done = run(command, "build", "--config", "toy", "--raw", "steam=here", cwd=tmp_path, status=2)
    assert "the recipe has toy" in done.stderr
    done = run(command, "build", "--config", "recipes/data/toy.yaml", cwd=tmp_path, status=2)
    assert "did you mean toy?" in done.stderr


def test_a_missing_extra_is_one_sentence(fresh: Path, tmp_path: Path) -> None:
    train = [fresh / "usermirrorer", "train", "sft", "--config", "tiny-base/sft/toy", "--accelerate", "zero2"]
    done = run(*train, cwd=tmp_path, status=2)
    assert done.stderr.startswith("usermirrorer: zero2 ") and done.stderr.count("\n") == 1
    assert "pip install 'usermirrorer[deepspeed]'" in done.stderr


def test_the_doctor_knows_the_tested_versions_and_what_is_missing(fresh: Path, tmp_path: Path) -> None:
    found = json.loads(run(fresh / "usermirrorer", "doctor", "--json", cwd=tmp_path).stdout)
    assert found["problems"] == [] and found["libraries"]["transformers"]["tested"]
    assert {name for name, one in found["libraries"].items() if one["extra"]} == {*EXTRAS, "ray"}
    assert all(found["libraries"][name]["installed"] is None for name in EXTRAS)
    assert found["runs"]["decide, score, eval, simulate"].endswith("because vLLM is not installed")


def test_types_are_shipped(fresh: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="NO MYPY: pip install --no-deps -r requirements/dev.txt")
    (tmp_path / "mine.py").write_text(
        "from usermirrorer import Simulator\n\nreveal_type(Simulator('tiny-base').simulate([]))\nSimulator(1)\n"
    )
    # Only our own types are of interest; those of large libraries take a minute to read.
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nfollow_imports = silent\nignore_missing_imports = True\n"
        "[mypy-torch.*,transformers.*,datasets.*,polars.*,pandas.*,scipy.*,aiohttp.*]\nfollow_imports = skip\n"
    )
    mypy = [sys.executable, "-m", "mypy", "--python-executable", fresh / "python"]
    done = run(*mypy, "mine.py", cwd=tmp_path, status=1)
    assert 'Revealed type is "list[usermirrorer.simulate.choice.Choice]"' in done.stdout
    assert 'Argument 1 to "Simulator" has incompatible type "int"' in done.stdout


@pytest.mark.engine
@pytest.mark.launch
def test_from_raw_files_to_a_model(fresh: Path, tmp_path: Path) -> None:
    command = fresh / "usermirrorer"
    run(command, "recipes", "toy", "--out", "small.yaml", cwd=tmp_path)
    recipe = (tmp_path / "small.yaml").read_text()
    for whole, small in (("{train: 3600, test: 600}", "{train: 60, test: 10}"), ("num: 1200", "num: 20")):
        assert whole in recipe
        recipe = recipe.replace(whole, small)
    (tmp_path / "small.yaml").write_text(recipe)
    done = run(command, "build", "--config", "small.yaml", "--work", "runs/demo", cwd=tmp_path)
    assert "vLLM is not installed" in done.stderr
    train = [command, "train", "sft", "--config", "tiny-base/sft/toy", "--accelerate", "cpu"]
    run(*train, "--max_steps", "1", "--per_device_train_batch_size", "4", cwd=tmp_path)
    record = json.loads((tmp_path / "runs" / "demo" / "models" / "sft" / "usermirrorer.json").read_text())
    assert (record["base"], record["run"]["steps"]) == ("tiny-base", 1)
