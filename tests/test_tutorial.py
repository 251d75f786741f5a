"""The guide for your own log, run whole: from a CSV of 60,000 events to a trained, measured simulator that chooses."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import polars as pl
import pytest
import yaml

import usermirrorer.llm
from usermirrorer.cli import app
from usermirrorer.data.sources.own.domain_yaml import DomainSettings, load_yaml_domain


ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "your_own_log.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

MODELS = ("HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen2.5-3B-Instruct")
"""What the guide trains and predicts with; the test takes a small model of random weights in their place."""


@dataclass(frozen=True)
class Walk:
    """The directory after the guide, and what its blocks printed, in order."""

    place: Path
    printed: list[tuple[str, str]]

    def after(self, beginning: str) -> str:
        return "".join(text for block, text in self.printed if block.startswith(beginning))


def do(language: str, block: str) -> None:
    """Follow one block here: save a YAML under the name in its first line, run Python and the product's commands."""
    if language == "yaml":
        Path(block.splitlines()[0].removeprefix("# ")).write_text(block, encoding="utf-8")
    elif language == "python":
        exec(compile(block, "guide", "exec"), {"__name__": "__main__"})
    elif language == "bash":
        for line in block.splitlines():
            name, *arguments = shlex.split(line)
            assert name == "usermirrorer"
            # `train` returns the status of the training
            assert not app(arguments, standalone_mode=False), line


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., str]) -> Iterator[Walk]:
    """All blocks in order. Models run under transformers in this process, so that no engine has to start."""
    place = tmp_path_factory.mktemp("guide")
    printed = []
    with contextlib.chdir(place), pytest.MonkeyPatch.context() as patch:
        patch.setattr(usermirrorer.llm, "_has_vllm", lambda: False)
        for language, block in BLOCKS:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                do(language, re.sub("|".join(MODELS), str(place / "model"), block))
            printed.append((block, out.getvalue()))
            if Path("products.csv").exists() and not Path("model").exists():
                words = pl.read_csv("products.csv", infer_schema=False).with_columns(pl.all().fill_null(""))
                make_model(place / "model", words=(*words["title"], *words["maker"], *words["shelf"], PAGE) * 3)
        yield Walk(place, printed)


@pytest.mark.launch
def test_the_draft_is_the_one_shown(walk: Walk) -> None:
    [shown] = [block for language, block in BLOCKS if language == "text" and block.startswith("init shop.yaml")]
    assert " ".join(walk.after("usermirrorer init").split()).startswith(" ".join(shown.split()))
    assert yaml.safe_load((walk.place / "shop.yaml").read_text())["tables"]["users"] == "customers.csv"


@pytest.mark.launch
def test_the_scenes_are_there_and_read_well(walk: Walk) -> None:
    tables = walk.place / "work" / "tables" / "shop"
    rows = {name: len(pl.read_parquet(tables / f"{name}.parquet")) for name in ("users", "items", "interactions")}
    assert rows == {"users": 5000, "items": 800, "interactions": 60_000}
    # titles with line breaks, quotes and letters of other scripts, each on one line
    titles = pl.read_parquet(tables / "items.parquet")["text"]
    assert not titles.str.contains("\n").any() and titles.str.contains("抹茶").any() and titles.str.contains("ß").any()
    scenes = walk.place / "work" / "scenes" / "shop"
    train, test = (pl.read_parquet(scenes / split / "*.parquet") for split in ("train", "test"))
    assert (len(train), len(test)) == (298, 100)
    text = test["text"][0]
    item = r"[^\n]+ No\. \d+ - \w+(, [^\n,]+)?(, \d+\.\d\d)?"
    assert re.fullmatch(rf"bought {item}, [\w ]+?( ago)?(: [345]/5)?", text["history"].splitlines()[0])
    for option in text["action_list"]:
        assert re.fullmatch(rf"(\[New Release\] )?{item}(, bought \d+ times? so far)?", option)
    # ids are as in the CSV
    assert set(test["user_id"]) <= {f"{user:05d}" for user in range(5000)}


@pytest.mark.launch
def test_the_scene_that_is_shown_is_a_real_one(walk: Walk) -> None:
    [shown] = [block for language, block in BLOCKS if language == "text" and block.startswith("# User Profile")]
    printed = " ".join(walk.after("usermirrorer prepare").split())  # the terminal wraps lines
    assert [line for line in shown.splitlines() if line not in printed] == ["…"]


@pytest.mark.launch
def test_a_model_is_trained_measured_and_compared(walk: Walk) -> None:
    trained = json.loads((walk.place / "models" / "shop" / "usermirrorer.json").read_text())
    assert trained["prompt"] == "direct"
    metrics = json.loads((walk.place / "eval" / "metrics.json").read_text())
    assert set(metrics["models"]) == {"base", "trained"} and metrics["scenes"]["n"] == 100
    assert (walk.place / "eval" / "report.html").is_file()


@pytest.mark.launch
def test_it_chooses(walk: Walk) -> None:
    assert walk.after("from usermirrorer import Simulator").split()[0] in ("0012", "0031", "0044")
    requests, answers = (
        [json.loads(line) for line in (walk.place / name).read_text().splitlines()]
        for name in ("requests.jsonl", "choices.jsonl")
    )
    assert len(requests) == len(answers) == 3
    for request, answer in zip(requests, answers, strict=True):
        assert answer["user_id"] == request["user_id"] and answer["items"] == request["items"]
        assert answer["choice"] in request["items"]
        assert sum(answer["probs"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.launch
def test_pairs_can_be_made_too(walk: Walk) -> None:
    assert len(pl.read_parquet(walk.place / "work" / "pairs" / "shop" / "*.parquet")) >= 10


def test_the_table_of_keys_is_complete_and_its_defaults_are_true() -> None:
    rows = dict(re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", PAGE, re.MULTILINE))
    listed = {key for cell in rows for key in re.findall(r"`(\w+)`", cell)}
    assert listed == {field.name for field in fields(DomainSettings)}
    for field in fields(DomainSettings):
        shown = rows.get(f"`{field.name}`", "")
        if field.default is MISSING and field.default_factory is MISSING:
            assert shown == "needed"
        elif field.name in ("option", "history", "clock"):
            assert shown == f"`{field.default}`"


def test_the_lines_of_interchange_files_are_read(tmp_path: Path) -> None:
    [block] = [block for language, block in BLOCKS if language == "json"]
    tables = ("user_feature", "item_feature", "interaction", "impression")
    for table, line in zip(tables, block.splitlines(), strict=True):
        (tmp_path / f"market_{table}.jsonl").write_text(line + "\n", encoding="utf-8")
    [market] = [block for language, block in BLOCKS if language == "yaml" and "market" in block]
    (tmp_path / "market.yaml").write_text(market, encoding="utf-8")
    read = load_yaml_domain(tmp_path / "market.yaml").read(tmp_path, 0)
    assert read.items.row(0) == ("0012", "Cup", "blue, new", 1_698_883_200_000)
    assert read.users.row(0) == ("0007", "Rom")
    assert read.interactions["stars"].to_list() == [5]
    assert read.impressions is not None
    # the list was shown when the cup was bought
    assert read.impressions["timestamp"][0] == read.interactions["timestamp"][0]
