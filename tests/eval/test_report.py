"""The page and the summary of one or several evaluations."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser

import polars as pl
import pytest
from handmade import groups, predictions
from markdown_it import MarkdownIt

from usermirrorer.console.printable import printable
from usermirrorer.data.artefacts.card import cell
from usermirrorer.data.artefacts.columns import COLUMNS
from usermirrorer.errors import UserError
from usermirrorer.eval.baselines import load_baselines
from usermirrorer.eval.card import PREDICTIONS, write_card
from usermirrorer.eval.evaluate import evaluate
from usermirrorer.eval.examples import examples
from usermirrorer.eval.report.compare import report
from usermirrorer.eval.scene_predictions import KEYS


TRAINED = {
    "method": "sft", "base": "<base>", "versions": {}, "git_revision": None,
    "run": {"steps": 20, "global_batch": 32},
    "data": {"path": "pairs/x", "fingerprint": "0" * 16, "rows": 70, "kept": 60, "dropped": {}},
    "curves": {"loss": [[10, 0.5], [20, 0.25]]},
    "pairs": {"shop": {"scenes": 1200, "available": 90, "kept": 70}},
}  # fmt: skip


def write_run(directory, scenes, model: str, skill: float, probe="no probe: made by hand", text="I like it."):
    """What `eval` leaves in its directory."""
    full = predictions(scenes, skill, model).with_columns(text=pl.lit(text))
    rows = pl.concat([full, predictions(scenes, 0.0, model, context="swapped-history", seed=5)])
    baselines, note = load_baselines(None, scenes, None)
    sampling = {"temperature": 1.0, "top_p": 0.9, "max_tokens": 64}
    metrics = {
        "source": "scenes.parquet",
        "settings": {
            "modes": {model: "decision"}, "repeats": {model: 2}, "seed": 0, "anonymise": False, "sampling": sampling,
            "models": {model: f"vllm:<{model}>"}, "prompts": {model: "plain"},
            "bases": {model: ["<base>"] if model == "sft" else []},
        },
        "training": {model: TRAINED if model == "sft" else None},
        "read": {"read": 120, "kept": 120, "blanked": 0, "duplicate": 0},
        "notes": [note],
        **evaluate(rows, scenes, baselines, probe),
    }  # fmt: skip
    directory.mkdir(parents=True)
    texts = {"redistribute_text": {"shop": False}, "models": {model: examples(full, scenes, 0)}}
    run = {"finished_at": "2026-01-02T03:04:05Z", "command": "usermirrorer eval --x", "versions": {"python": "3.11.9"}}
    for name, content in {"metrics": metrics, "examples": texts, "run": run}.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
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


def together(directory, *runs):
    """Several runs of one model each as one run of several."""
    found = [
        {name: json.loads((run / f"{name}.json").read_text()) for name in ("metrics", "examples", "run")}
        for run in runs
    ]
    first = found[0]
    for other in found[1:]:
        for kind in ("models", "training"):
            first["metrics"][kind] |= other["metrics"][kind]
        for kind in ("models", "modes", "repeats", "prompts", "bases"):
            first["metrics"]["settings"][kind] |= other["metrics"]["settings"][kind]
        first["examples"]["models"] |= other["examples"]["models"]
    directory.mkdir()
    for name, content in first.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    pl.concat([pl.read_parquet(run / "predictions.parquet") for run in runs]).write_parquet(
        directory / "predictions.parquet"
    )
    return directory


def test_a_parent_of_the_same_run_comes_before_one_of_another(scenes, tmp_path):
    runs = [
        together(tmp_path / name, *(write_run(tmp_path / f"{name}-{m}", scenes, m, 1.0) for m in ("base", "sft")))
        for name in ("one", "two")
    ]
    report(runs, tmp_path / "report")
    found = json.loads((tmp_path / "report" / "summary.json").read_text())["comparisons"]
    assert [(pair["a"], pair["b"]) for pair in found if pair["parent"]] == [("base", "sft"), ("two/base", "two/sft")]


def test_the_page_says_what_groups_and_few_users_mean(tmp_path):
    few = groups(12, users=12)
    html = report([write_run(tmp_path / "a", few, "m", 1.0)], tmp_path / "report").read_text()
    checked = Balance()
    checked.feed(html)
    assert checked.open == []
    assert "all accuracy above 1/n is owed to the user" in html and "from fewer than 20 users: shop has 12" in html
    assert "m, calibrated" in html and "m, prior-corrected" in html
    headings = re.findall(r"<th>(.*?)</th>", html)
    assert headings[1:5] == ["arg-max accuracy", "calibrated gain (bits)", "accuracy of sampled answers", "user gain"]
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["models"]["m"]["argmax_accuracy"]["low"] is None
    assert any("owed to the user" in remark for remark in summary["remarks"])


def test_a_hostile_title_stays_a_title(scenes, tmp_path):
    title = "a<img src=//x.example/a.png>![b](//x.example/b.png)[c](//x.example) | `d` \u202ee\x1b[31m\x00f"
    texts = [text | {"profile": title, "history": title, "action_list": [title] * 5} for text in scenes["text"]]
    scenes = scenes.with_columns(pl.Series("text", texts, dtype=scenes.schema["text"]))
    html = report([write_run(tmp_path / "a", scenes, "m", 1.0, text=title)], tmp_path / "report").read_text()
    written = (tmp_path / "report" / "report.md").read_text()
    checked = Balance()
    checked.feed(html)
    assert checked.open == [] and checked.loaded == []
    tokens = MarkdownIt("commonmark").enable("table").parse(written)
    kinds = {inner.type for token in tokens for inner in token.children or ()}
    assert not kinds & {"image", "link_open", "html_inline"} and not [t for t in tokens if t.type == "html_block"]
    assert printable(html) == html and printable(written) == written
    assert unescape(html).count(printable(title)) == 5 * 8


def test_page_and_markdown_say_the_same_and_nothing_in_a_text_leaves_its_place(scenes, tmp_path):
    wicked = "I <script>alert(1)</script> | like\n\n```\n# it\n| a | b |\n|---|---|"
    runs = [
        write_run(tmp_path / name, scenes, name, skill, text=wicked) for name, skill in (("base", 0.0), ("sft", 1.5))
    ]
    html = report(runs, tmp_path / "report").read_text()
    written = (tmp_path / "report" / "report.md").read_text()
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    checked = Balance()
    checked.feed(html)
    assert checked.open == [] and checked.loaded == []
    tokens = MarkdownIt("commonmark").enable("table").parse(written)
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings.count("it") == 0 and not [token for token in tokens if token.type == "html_block"]
    assert re.findall(r"<h2>(.*?)</h2>", html) == re.findall(r"^## (.*)$", written, re.M)
    paragraphs = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "paragraph_open"]
    for sentence in summary["headline"]:
        assert f"<p>{sentence}</p>" in unescape(html) and cell(sentence) in paragraphs
    assert summary["headline"][0].startswith("sft picks what the person chose in ")
    assert html.count("<article") == 5 and sum(token.content.rstrip() == wicked for token in tokens) == 5
    for told in (
        "pairs/x",
        "2026-01-02T03:04:05Z",
        "usermirrorer eval --x",
        "python 3.11.9",
        "shop may not be passed on",
    ):
        assert told in html and told in written
    values = {"0.5", "0.25", "1,200", "90"}
    assert values <= set(re.findall(r"<td>(.*?)</td>", html)) and values <= set(
        re.findall(r" ([\d.,]+) (?=\|)", written)
    )
    best, *_ = re.findall(r'<th scope="row">(.*?)</th>', html)
    assert best == "sft"


def test_the_same_evaluations_give_the_same_page(scenes, tmp_path):
    run = write_run(tmp_path / "a", scenes, "m", 1.0)
    files = []
    for _ in range(2):
        report([run], tmp_path / "report")
        files.append({path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()})
    assert files[0] == files[1] and set(files[0]) == {"report.html", "report.md", "summary.json"}


def test_curves_and_funnels_that_are_missing_are_said_to_be(scenes, tmp_path):
    run = write_run(tmp_path / "a", scenes, "sft", 1.0)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["training"]["sft"] |= {"curves": {}, "pairs": "the manifest of pairs/x is not there"}
    (run / "metrics.json").write_text(json.dumps(metrics))
    html = report([run], tmp_path / "report").read_text()
    assert "no curves, as its directory has no log" in html and "the manifest of pairs/x is not there" in html
    base = report([write_run(tmp_path / "b", scenes, "base", 1.0)], tmp_path / "report").read_text()
    assert "No model here has a record of its training" in base


def test_an_evaluation_opens_without_us_and_its_card_explains_it(scenes, tmp_path):
    from datasets import load_dataset

    run = write_run(tmp_path / "a", scenes, "<m>|x", 1.0)
    write_card(run, json.loads((run / "metrics.json").read_text()))
    loaded = load_dataset(str(run), cache_dir=str(tmp_path / "cache"))
    rows = pl.read_parquet(run / PREDICTIONS)
    assert list(loaded) == ["test"] and loaded["test"].to_list() == rows.to_dicts()
    card = (run / "README.md").read_text()
    assert set(COLUMNS["evaluation"]) == set(rows.columns)
    assert all(f"| {name} |" in card and f"| {meaning} |" in card for name, meaning in COLUMNS["evaluation"].items())
