"""What the long run of a real model writes at its end."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import polars as pl
from handmade import predictions
from test_report import write_run

from usermirrorer.eval.baselines import load_baselines
from usermirrorer.eval.evaluate import evaluate
from usermirrorer.eval.report.compare import report


REAL = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "real.py"))


def test_the_real_run_ends_in_tables_of_each_arm(scenes: pl.DataFrame, tmp_path: Path) -> None:
    for arm in REAL["ARMS"]:
        work = tmp_path / arm
        report([write_run(work / "eval", scenes, "sft", 0.5)], work / "report")
        curve = work / "eval-curve"
        curve.mkdir()
        rows = pl.concat([predictions(scenes, skill, f"step-{at}") for at, skill in ((100, 0.9), (36, 0.0))])
        baselines, _ = load_baselines(None, scenes, None)
        (curve / "metrics.json").write_text(json.dumps(evaluate(rows, scenes, baselines, "no probe")))
        for model in REAL["LEARNT"]:
            (work / "models" / model).mkdir(parents=True)
            (work / "models" / model / "trainer_state.json").write_text(json.dumps({"max_steps": 100}))
    result = REAL["write_result"](tmp_path, list(REAL["ARMS"]), 1200)
    assert result == (tmp_path / "RESULT.md").read_text()
    assert result.count("sft 800, dpo 800, direct 800") == 2
    assert result.count("| sft |") >= 2 and "## plain" in result
    learnt = re.findall(r"^\| after (\d+) steps \| (0\.\d{3}) \[0\.\d{3}, 0\.\d{3}\] \|$", result, re.M)
    assert [step for step, _ in learnt] == ["36", "100"] * 2
    assert learnt[0][1] < learnt[1][1]
