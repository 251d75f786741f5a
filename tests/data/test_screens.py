"""Every command's screen at 80 columns: it fits, it is in words, and --json and --quiet say the same."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.cells import cell_len

from usermirrorer.cli import main
from usermirrorer.data.artefacts.find import find_artefacts
from usermirrorer.data.artefacts.store import finished_content
from usermirrorer.wording import COUNTS, RULES


RECIPE = """\
name: small
prompt: plain
domains: [{name: toy, exposure: logged, scenes: {train: 60, test: 40}}]
strong: {llm: "scripted:reader", n: 2}
weak: {llm: "scripted:noisy", n: 2}
predictor: {llm: "vllm:tiny-base"}
distill: {num: 30, min_accepted: 1}
"""


class Screen(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        return " ".join(self.out.split())


Call = Callable[..., Screen]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command line in this process, in a directory of one's own, so that paths are short."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(directory: Path, *args: object) -> Screen:
        out, err, status = io.StringIO(), io.StringIO(), 0
        with monkeypatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.chdir(directory)
            patch.setattr(sys, "argv", ["usermirrorer", *map(str, args)])
            try:
                main()
            except SystemExit as end:
                status = int(end.code or 0)
        return Screen(status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def here(built_toy: Path, tmp_path: Path) -> Path:
    """A directory with `runs`, a copy of a --work in which every step has run."""
    shutil.copytree(built_toy, tmp_path / "runs")
    return tmp_path


def fits(screen: Screen) -> bool:
    assert screen.status == 0, screen.err
    too_long = [line for line in screen.out.splitlines() if cell_len(line) > 80]
    assert too_long == []
    return True


def in_words(screen: Screen) -> bool:
    """Whether nothing but paths and options is named as in a file."""
    return not re.search(r"\w_\w", re.sub(r"\S*[/=.]\S*|--\S+", "", screen.out))


def numbers(found: Any) -> Iterator[float]:
    if isinstance(found, dict):
        for value in found.values():
            yield from numbers(value)
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield found


def test_prepare(call: Call, tmp_path: Path) -> None:
    screen = call(tmp_path, "prepare", "toy", "--work", "runs")
    assert fits(screen) and in_words(screen)
    tables = finished_content(tmp_path / "runs/tables/toy", "prepare")
    assert (
        re.search(r"train +\d{4}-\d\d-\d\d \d\d:\d\d UTC", screen.out)
        and str(tables["cuts"]["train"]) not in screen.out
    )
    for count in (*numbers(tables["rows"]), *numbers(tables["choices"])):
        assert f"{count:,}" in screen.out
    again = call(tmp_path, "prepare", "toy", "--work", "runs")
    assert fits(again) and again.words.count("already made") == 2

    facts = json.loads(call(tmp_path, "prepare", "toy", "--work", "runs", "--json").out)
    assert [step["step"] for step in facts["steps"]] == ["prepare toy", "embed toy"]
    assert facts["steps"][0]["cuts"] == tables["cuts"] and facts["steps"][0]["choices"] == tables["choices"]
    assert call(tmp_path, "prepare", "toy", "--work", "runs", "--quiet").out.count("\n") == 1


def test_scenes_and_decide(call: Call, here: Path) -> None:
    shutil.rmtree(here / "runs/decisions")
    shutil.rmtree(here / "runs/scenes/toy/test")
    args = ["scenes", "toy", "--work", "runs", "--split", "test", "--num", 100, "--min-exposure", 3]
    for step in ("features", "baselines"):
        shutil.rmtree(here / "runs" / step / "toy/test")
    screen = call(here, *args)
    assert (
        fits(screen)
        and in_words(screen)
        and "choices that can become scenes" in screen.out
        and "item-knn" in screen.out
    )
    facts = json.loads(call(here, *args, "--json").out)
    [step] = facts["steps"]
    assert step["state"] == "already made" and step["rows"] == 100 and facts["warnings"] == []
    for name, accuracy in step["baselines"].items():
        assert re.search(rf"{name} +{accuracy['argmax_accuracy']['value']:.3f} \[", screen.out)

    args = ["decide", "toy", "--work", "runs", "--variant", "weak", "--llm", "scripted:noisy", "--n", 1]
    screen = call(here, *args)
    assert fits(screen) and in_words(screen) and "400 decision processes" in screen.words
    assert call(here, *args, "--quiet").out == (
        "decide toy weak: already made, 400 decision processes in\n  runs/decisions/toy/weak\n"
    )


def test_a_step_that_was_broken_off_says_what_it_goes_on_from(
    call: Call, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from usermirrorer.errors import StepFailed
    from usermirrorer.llm.scripted import ScriptedWriter

    shutil.rmtree(here / "runs/decisions")
    args = ["decide", "toy", "--work", "runs", "--variant", "weak", "--llm", "scripted:noisy", "--n", 2]
    generate = ScriptedWriter.generate

    def breaks(*given: Any) -> Any:
        if (here / "runs/decisions/toy/weak/.journal.jsonl").is_file():
            raise StepFailed("the writer has left")
        return generate(*given)

    with monkeypatch.context() as patch:
        patch.setattr("usermirrorer.llm.scripted.SLOTS", 128)
        patch.setattr(ScriptedWriter, "generate", breaks)
        assert call(here, *args).status == 1
    screen = call(here, *args)
    resumed = re.match(r"decide toy weak: resumes after (\d+) rows in ", screen.out)
    # How many scenes the first batch held is a matter of time.
    assert fits(screen) and resumed and int(resumed[1]) in range(2, 129, 2)
    assert f"({resumed[1]} rows of an earlier run kept; " in screen.words
    again = json.loads(call(here, *args, "--json").out)["steps"][0]
    assert again["state"] == "already made" and again["resumed_from"] == 0


def test_distill(call: Call, here: Path) -> None:
    args = ["distill", "--work", "runs", "--domain", "toy", "--name", "few", "--num", 500, "--min-accepted", 1]
    screen = call(here, *args)
    assert fits(screen) and in_words(screen)
    content = json.loads(call(here, *args, "--json").out)["steps"][0]
    for stage, left in content["funnel"]["toy"].items():
        assert re.search(rf"  {COUNTS[stage]} +{left:,}\b", screen.out)
    for name, rule in content["diagnostics"]["rules"].items():
        assert re.search(rf"{name} +{rule['value']:.3f} \[.*\] +{RULES[name]}", screen.out)
    warnings = [f"WARNING: {warning}" for warning in content["warnings"]]
    assert len(warnings) >= 1 and screen.words.endswith(" ".join(warnings))
    # The warnings, each on at most three lines, and one line more.
    quiet = call(here, *args, "--quiet")
    assert quiet.out.count("WARNING") == len(warnings) and quiet.out.count("\n") <= 3 * len(warnings) + 1
    assert quiet.out.splitlines()[-1] == f"distill few: already made, {content['rows']} pairs in runs/pairs/few"


def test_validate(call: Call, here: Path) -> None:
    screen = call(here, "validate", "runs")
    assert fits(screen)
    facts = json.loads(call(here, "validate", "runs", "--json").out)
    results = ", ".join(f"{count} {result}" for result, count in facts["results"].items())
    assert screen.out.splitlines()[-1] == f"validate: {results}"
    assert {check["artefact"] for check in facts["checks"]} >= {"tables/toy", "scenes/toy/train", "pairs/toy"}
    assert call(here, "validate", "runs/tables/toy", "--quiet").out.count("\n") == 1

    (here / "runs/tables/toy/users.parquet").unlink()
    failed = call(here, "validate", "runs/tables/toy", "--json")
    assert failed.status == 1 and json.loads(failed.out)["results"]["failed"] >= 1
    assert failed.err.splitlines()[-1].startswith("usermirrorer: runs/tables/toy failed")


def test_show_and_domains(call: Call, here: Path) -> None:
    for place in ("tables/toy", "embeddings/toy", "scenes/toy/train", "predictions/toy/weak", "pairs/toy"):
        screen = call(here, "show", f"runs/{place}", "--num", 2)
        assert screen.status == 0 and max(map(cell_len, screen.out.splitlines())) <= 80
    rows = json.loads(call(here, "show", "runs/pairs/toy", "--num", 2, "--json").out)["rows"]
    assert len(rows) == 2 and rows[0]["artefact"] == "pairs/toy" and rows[0]["chosen"][0]["content"]

    screen = call(here, "recipes")
    assert screen.status == 0 and max(map(cell_len, screen.out.splitlines())) <= 80
    listed = json.loads(call(here, "recipes", "--json").out)["recipes"]
    assert "ml-100k-demo" in listed["build --config"] and "ml-100k-demo" in screen.out

    screen = call(here, "domains")
    assert screen.status == 0 and max(map(cell_len, screen.out.splitlines())) <= 80
    known = {one["name"]: one for one in json.loads(call(here, "domains", "--json").out)["domains"]}
    assert list(known["ml-100k"]["raw_files"])[0] == "u.data" and known["toy"]["raw_files"] == {}


def counts_in(content: Mapping[str, Any]) -> Iterator[str]:
    """The keys of everything that steps count; what a domain counts in its own words is left out."""
    for block in ("rows", "counts", "choices", "funnel"):
        yield from _keys(content[block]) if isinstance(content.get(block), dict) else ()


def _keys(counts: Mapping[str, Any]) -> Iterator[str]:
    for key, value in counts.items():
        if isinstance(value, dict):
            yield from _keys(value) if key != "acceptance" else ()
        else:
            yield key


def test_every_count_has_words(built_films: Path, built_toy: Path) -> None:
    contents = [artefact.content for work in (built_films, built_toy) for artefact in find_artefacts(work)]
    found = {key for content in contents for key in counts_in(content)}
    assert {"choices_in_window", "left_over", "tried", "with_accepted", "chosen_later_too", "no_label"} <= found
    assert found - set(COUNTS) == set()
    rules = {rule for content in contents for rule in content.get("diagnostics", {}).get("rules", ())}
    assert rules == set(RULES)


@pytest.mark.usefixtures("engine")
def test_build_and_eval(call: Call, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(RECIPE)
    args = ["build", "--config", "small.yaml", "--work", "runs"]
    screen = call(tmp_path, *args)
    assert fits(screen) and in_words(screen) and screen.err == ""
    *_, steps = screen.out.partition("Steps of small")
    assert re.search(r"score toy weak +made +120 +[\d.]+ s +0", steps)
    assert "build small: " in steps and "--dataset_name runs/pairs/small" in steps
    again = call(tmp_path, *args)
    assert fits(again) and again.out.count(": already made, ") == 9
    facts = json.loads(call(tmp_path, *args, "--json").out)
    assert [step["state"] for step in facts["steps"]] == ["already made"] * 9
    assert call(tmp_path, *args, "--quiet").out.splitlines()[-1].startswith("build small: ")

    args = ["eval", "--model", "tiny-base", "--scenes", "runs/scenes/toy/test", "--out", "out", "--mode", "direct"]
    screen = call(tmp_path, *args)
    assert fits(screen) and in_words(screen) and "calibrated gain (bits)" in screen.words
    facts = json.loads(call(tmp_path, *args, "--json").out)
    assert facts["metrics"] == json.loads((tmp_path / "out/metrics.json").read_text())
    accuracy = facts["metrics"]["models"]["tiny-base"]["contexts"]["full"]["macro"]["argmax_accuracy"]
    assert re.search(rf"tiny-base +{accuracy['value']:.3f} \[{accuracy['low']:.3f}, ", screen.out)
    assert "already answered, 40 scenes" in call(tmp_path, *args).out
    assert call(tmp_path, *args, "--quiet").out == (
        "eval: tiny-base on 40 scenes of runs/scenes/toy/test, measures in out\n"
    )
