"""The command line as a person meets it: fast help, and one sentence for what they can fix."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from usermirrorer.cli import main
from usermirrorer.data.artefacts.store import manifest_path


ROOT = Path(__file__).parent.parent


def run(*args: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "usermirrorer", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def call(*args: object) -> subprocess.CompletedProcess[str]:
    """The command's entry point in this process, which has imported what the command needs. A crash fails the test."""
    out, err, words = io.StringIO(), io.StringIO(), [str(arg) for arg in args]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["usermirrorer", *words])
        patch.chdir(ROOT)
        with pytest.raises(SystemExit) as ended:
            main()
    return subprocess.CompletedProcess(words, int(ended.value.code or 0), out.getvalue(), err.getvalue())


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The sentence with which a command was refused: exit 2, one line, no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("usermirrorer: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def refused(*args: object) -> str:
    return sentence(call(*args))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared toy tables with a few train and test scenes."""
    work = tmp_path_factory.mktemp("work")
    for args in (
        ["prepare", "toy", "--work", work],
        ["scenes", "toy", "--work", work, "--split", "train", "--num", 60],
        ["scenes", "toy", "--work", work, "--split", "test", "--num", 40],
    ):
        done = call(*args)
        assert done.returncode == 0, done.stderr
    return work


def test_importing_the_package_and_its_command_line_loads_no_model_library() -> None:
    code = (
        "import sys, usermirrorer, usermirrorer.cli; "
        "print([m for m in ('torch', 'vllm', 'transformers', 'datasets', 'polars', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_has_an_example() -> None:
    from typer.main import get_command

    from usermirrorer.cli import app

    names = list(get_command(app).commands)
    assert len(names) > 12
    for name in names:
        done = call(name, "--help")
        assert done.returncode == 0
        assert f"usermirrorer {name}" in done.stdout and "Example:" in done.stdout


def test_a_terminal_that_lacks_characters_gets_others() -> None:
    command = [sys.executable, "-m", "usermirrorer", "prepare", "--help"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0 and b"Raw files ? tables" in done.stdout


def test_domains_names_raw_files_and_publishers() -> None:
    done = run("domains")
    assert done.returncode == 0
    assert "u.data" in done.stdout and "ratings.dat" in done.stdout and "https://grouplens.org" in done.stdout


def test_one_domain_is_shown_with_its_directory() -> None:
    shown = run("domains", "ml-100k").stdout
    assert "RAW/\n  u.data " in shown and "zip_places.csv  optional" in shown and "ratings.dat" not in shown
    assert "did you mean steam" in sentence(run("domains", "steem"))


def test_an_unknown_domain(tmp_path: Path) -> None:
    assert "did you mean ml-100k" in sentence(run("prepare", "ml100k", "--work", tmp_path))


@pytest.mark.parametrize(
    ("args", "nearest"),
    [
        (["scenes", "ml100k", "--split", "train", "--num", 9], "ml-100k"),
        (["scenes", "toy", "--split", "trian", "--num", 9], "train"),
        (["scenes", "toy", "--split", "train", "--num", 9, "--exposure", "lgged"], "logged"),
        (["scenes", "toy", "--split", "train", "--num", 9, "--exposure", "logged", "--alike", "contnt"], "content"),
        (["decide", "toy", "--variant", "stron", "--llm", "scripted:reader"], "strong"),
        (["decide", "toy", "--variant", "strong", "--llm", "scripted:raeder"], "reader"),
        (["decide", "toy", "--variant", "strong", "--llm", "scriptd:reader"], "scripted"),
        (["decide", "toy", "--variant", "strong", "--llm", "scripted:reader", "--prompt", "plian"], "plain"),
        (["distill", "--domain", "toy", "--name", "x", "--selector", "uncertanty"], "uncertainty"),
        (["distill", "--domain", "toy", "--name", "x", "--behaviour", "argmx"], "argmax"),
    ],
)
def test_a_misspelt_name_gets_the_nearest(work: Path, args: list[object], nearest: str) -> None:
    assert f"did you mean {nearest}?" in refused(*args, "--work", work)


@pytest.mark.parametrize(("option", "nearest"), [("--mode=driect", "direct"), ("--context=ful", "full")])
def test_a_misspelt_way_to_evaluate_gets_the_nearest(work: Path, tmp_path: Path, option: str, nearest: str) -> None:
    scenes = work / "scenes/toy/test"
    assert f"did you mean {nearest}?" in refused(
        "eval", "--model", "tiny-base", "--scenes", scenes, "--out", "o", option
    )


def test_a_misspelt_command_gets_the_nearest() -> None:
    done = call("valdate")
    assert done.returncode == 2 and "Did you mean 'validate'?" in done.stderr


def test_bash_completes_commands_options_and_domains(tmp_path: Path) -> None:
    program = tmp_path / "usermirrorer"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m usermirrorer "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(_USERMIRRORER_COMPLETE=source_bash usermirrorer)"
        complete -p usermirrorer
        try() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _usermirrorer_completion usermirrorer
            echo "${COMPREPLY[*]}"
        }
        try usermirrorer va
        try usermirrorer prepare ml
        try usermirrorer scenes toy --expo
    """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command, *found = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert command.endswith("usermirrorer")
    assert found == ["validate", "ml-100k ml-1m", "--exposure"]


@pytest.mark.engine
@pytest.mark.launch
def test_a_model_starts_without_chatter(work: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "usermirrorer", "eval", "--model", "vllm:tiny-base", "--mode", "direct"]
    command += ["--scenes", str(work / "scenes/toy/test"), "--out", str(tmp_path), "--json"]
    silenced = ("TORCH_CPP_LOG_LEVEL", "VLLM_LOGGING_LEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in silenced}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    said = [line for line in done.stderr.splitlines() if "% after " not in line]  # progress, if it takes long
    assert done.returncode == 0 and said == []
    assert json.loads(done.stdout)["metrics"]["models"]["vllm:tiny-base"]["counts"]["full"]["answered"] == 40


def test_a_missing_raw_file(tmp_path: Path) -> None:
    assert "u.data is missing" in refused("prepare", "ml-100k", "--raw", tmp_path, "--work", tmp_path / "w")


def test_a_malformed_line(tmp_path: Path) -> None:
    (tmp_path / "u.item").write_text("1|A (1995)|01-Jan-1995||u|" + "|".join(["0"] * 19) + "\n")
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n")
    (tmp_path / "u.data").write_text("1\t1\t5\t881250949\n1\t1\t5\n")
    message = refused("prepare", "ml-100k", "--raw", tmp_path, "--work", tmp_path / "w")
    assert f"{tmp_path / 'u.data'}:2" in message


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("exposure: logged", "exposur: logged", 8, "did you mean exposure"),
        ("seed: 0", "seed: zero", 4, "must be a whole number"),
        ("train: 3600", "train: 3600, train: 1", 9, "'train' is set twice"),
        ("name: toy\nseed", "seed", 3, "needs 'name'"),
        ("prompt: plain", "prompt: [", 7, "not YAML"),
    ],
)
def test_a_recipe_typo(tmp_path: Path, before: str, after: str, line: int, message: str) -> None:
    recipe = (ROOT / "recipes" / "data" / "toy.yaml").read_text()
    assert before in recipe
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.replace(before, after, 1))
    refusal = refused("build", "--config", path, "--work", tmp_path / "w")
    assert message in refusal and f"{path}:{line}: " in refusal


def test_every_data_recipe_is_read() -> None:
    from usermirrorer.data.recipe import read_data_recipe
    from usermirrorer.data.sources import load_domain

    recipes = sorted((ROOT / "recipes" / "data").rglob("*.yaml"))
    assert len(recipes) >= 3
    for path in recipes:
        recipe = read_data_recipe(path)
        for domain in recipe.domains:
            source = load_domain(domain.name)
            for settings in domain.scene_settings(recipe.seed).values():
                settings.for_domain(domain.name, source.exposures, source.choice_rules)


def test_other_settings_are_refused(work: Path) -> None:
    assert "num: 60 → 61" in refused("scenes", "toy", "--work", work, "--split", "train", "--num", "61")


def test_a_step_before_its_time(tmp_path: Path) -> None:
    assert "prepare" in refused("scenes", "toy", "--work", tmp_path, "--split", "train", "--num", "5")


def test_an_exposure_that_the_log_does_not_have(work: Path, tmp_path: Path) -> None:
    assert "toy supports logged" in refused(
        "scenes", "toy", "--work", work, "--split", "test", "--num", "5", "--exposure", "matched"
    )


def test_an_evaluation_file_without_a_column(work: Path, tmp_path: Path) -> None:
    import polars as pl

    pl.read_parquet(work / "scenes" / "toy" / "test" / "test-00000.parquet").drop("item_pos").write_parquet(
        tmp_path / "e.parquet"
    )
    assert "item_pos" in refused(
        "eval", "--model", "tiny-base", "--scenes", tmp_path / "e.parquet", "--out", tmp_path / "o"
    )


@pytest.mark.engine
def test_a_label_that_is_not_one_token(work: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = shutil.copytree(ROOT / "usermirrorer" / "tiny_base", tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["C]"])
    tokenizer.save_pretrained(model)
    assert "label 'C' is not a single token" in refused(
        "eval", "--model", model, "--scenes", work / "scenes/toy/test", "--out", tmp_path, "--mode", "direct"
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--temperature", -1, "must be 0 or more"), ("--top-p", 0, "at most 1"), ("--max-tokens", 0, "at least 1")],
)
def test_sampling_that_is_not_possible(work: Path, tmp_path: Path, option: str, value: int, message: str) -> None:
    scenes = ["--scenes", work / "scenes/toy/test", "--out", tmp_path]
    assert message in refused("eval", "--model", "tiny-base", *scenes, option, value)
    writer = ["--variant", "strong", "--llm", "scripted:reader"]
    assert message in refused("decide", "toy", "--work", work, *writer, option, value)


def test_a_model_that_is_not_there(work: Path, tmp_path: Path) -> None:
    assert "./nowhere" in refused(
        "eval", "--model", "./nowhere", "--scenes", work / "scenes/toy/test", "--out", tmp_path
    )


@pytest.mark.launch
def test_decide_killed_and_resumed_ends_in_the_same_bytes(work: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    args = ["--variant", "strong", "--llm", "scripted:reader", "--prompt", "plain", "--n", "120"]
    for place in (whole, broken):
        shutil.copytree(work, place)
    assert call("decide", "toy", "--work", whole, *args).returncode == 0
    output = broken / "decisions/toy/strong"
    # Killed by the operating system in the middle of its work, as soon as some of it is on disk.
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, "decide", "toy", "--work", str(broken), *args], cwd=ROOT, text=True
    )
    while process.poll() is None and not (output / "part-00000.parquet").is_file():
        pass
    process.kill()
    assert process.wait() != 0
    assert not json.loads(manifest_path(output).read_text())["content"]["finished"]
    assert run("decide", "toy", "--work", broken, *args).returncode == 0
    files = sorted(path.name for path in (whole / "decisions/toy/strong").glob("*.parquet"))
    assert len(files) > 1
    for name in files:
        assert (output / name).read_bytes() == (whole / "decisions/toy/strong" / name).read_bytes()
    assert not list(output.glob(".journal*"))


# The command with a pause after each scene, so that a kill finds it at work.
_SLOW = """
import time
from usermirrorer.cli import main
from usermirrorer.data.artefacts.journal import Journal
put = Journal.put
def slow(*args):
    time.sleep(0.02)
    put(*args)
Journal.put = slow
main()
"""
