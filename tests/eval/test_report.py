"""The page and the summary of one or several evaluations."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import polars as pl
import pytest
from handmade import groups, predictions

from usermirrorer.errors import UserError
from usermirrorer.eval.baselines import load_baselines
from usermirrorer.eval.evaluate import evaluate
from usermirrorer.eval.report import report
from usermirrorer.eval.scene_predictions import KEYS


def write_run(directory, scenes, model: str, skill: float, probe="no probe: made by hand"):
    """What `eval` leaves in its directory."""
    rows = pl.concat(
        [predictions(scenes, skill, model), predictions(scenes, 0.0, model, context="swapped-history", seed=5)]
    )
    baselines, note = load_baselines(None, scenes, None)
    sampling = {"temperature": 1.0, "top_p": 0.9, "max_tokens": 64}
    metrics = {
        "source": "scenes.parquet",
        "settings": {
            "mode": "decision", "repeat": 2, "seed": 0, "anonymise": False, "sampling": sampling,
            "models": {model: f"vllm:<{model}>"}, "prompts": {model: "plain"},
            "bases": {model: ["<base>"] if model == "sft" else []},
        },
        "read": {"read": 120, "kept": 120, "blanked": 0, "duplicate": 0},
        "notes": [note],
        **evaluate(rows, scenes, baselines, probe),
    }  # fmt: skip
    directory.mkdir(parents=True)
    (directory / "metrics.json").write_text(json.dumps(metrics))
    rows.join(scenes.select(KEYS), on="scene_id").write_parquet(directory / "predictions.parquet")
    return directory


class Balance(HTMLParser):
    """Every tag that opens is closed; everything the page loads is recorded."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href")] + ["script"] * (tag == "script")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_summary_has_every_model_and_what_to_compare_it_with(scenes, tmp_path):
    accuracy = {"value": 0.21, "low": 0.18, "high": 0.24, "n": 120}
    probe = {"accuracy": accuracy, "exact": False, "classifier": "trees", "chance": 0.2, "warning": False}
    runs = [write_run(tmp_path / name, scenes, name, skill, probe) for name, skill in (("base", 0.0), ("sft", 1.5))]
    page = report(runs, tmp_path / "report")
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["chance"] == pytest.approx(0.2) and summary["probe"] == probe and summary["best_possible"] == {}
    assert list(summary["models"]) == ["base", "sft"]
    assert set(summary["models"]["sft"]["accuracy"]) == {"value", "low", "high", "n"}
    assert summary["models"]["sft"]["user_gain"]["low"] > 0
    assert set(summary["baselines"]) == {"uniform", "best position of this file"}
    (comparison,) = summary["comparisons"]
    assert (comparison["a"], comparison["b"]) == ("base", "sft") and comparison["argmax_accuracy"]["low"] > 0
    assert comparison["parent"] is True
    assert summary["models"]["sft"]["against_strongest_baseline"]["argmax_accuracy"]["low"] > 0
    assert len(summary["models"]["sft"]["calibrated"]["halves"]) == 2
    html = page.read_text()
    checked = Balance()
    checked.feed(html)
    assert checked.open == [] and checked.loaded == []
    value = summary["models"]["sft"]["argmax_accuracy"]["value"]
    assert f"{value:.3f}" in html and "vllm:&lt;sft&gt;" in html and "0.210 [0.180, 0.240]" in html


def test_a_page_without_a_probe_warns(scenes, tmp_path):
    html = report([write_run(tmp_path / "a", scenes, "m", 1.0)], tmp_path / "report").read_text()
    assert re.search(r'class="warning".*?no probe: made by hand', html, re.DOTALL)


def test_names_that_clash_get_their_directory_and_other_scenes_are_refused(scenes, tmp_path):
    a, b = (write_run(tmp_path / name, scenes, "m", 1.0) for name in ("a", "b"))
    report([a, b], tmp_path / "report")
    assert list(json.loads((tmp_path / "report" / "summary.json").read_text())["models"]) == ["m", "b/m"]
    other = write_run(tmp_path / "c", scenes.head(90), "m", 1.0)
    with pytest.raises(UserError, match="answered different scenes"):
        report([a, other], tmp_path / "report")
    with pytest.raises(UserError, match="holds no metrics.json"):
        report([tmp_path], tmp_path / "report")


def test_the_page_says_what_groups_and_few_users_mean(tmp_path):
    few = groups(12, users=12)
    html = report([write_run(tmp_path / "a", few, "m", 1.0)], tmp_path / "report").read_text()
    checked = Balance()
    checked.feed(html)
    assert checked.open == []
    assert "all accuracy above 1/n is owed to the user" in html and "from fewer than 20 users: shop has 12" in html
    assert "m, calibrated" in html and "m, prior-corrected" in html
    headings = re.findall(r"<th>(.*?)</th>", html)
    assert headings[1:4] == ["arg-max accuracy", "calibrated gain (bits)", "accuracy of sampled answers"]
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["models"]["m"]["argmax_accuracy"]["low"] is None
    assert any("owed to the user" in remark for remark in summary["remarks"])
