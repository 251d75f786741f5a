"""The tutorial for your own log: every block runs, in order, in an empty directory."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import polars as pl
import pytest

from usermirrorer.cli import app
from usermirrorer.data.sources.own.domain_yaml import DomainSettings, load_yaml_domain
from usermirrorer.llm.vllm import VLLMModel


ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "your_own_log.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def do(language: str, block: str) -> None:
    """Follow one block here: save a YAML under the name in its first line, run Python and the product's commands."""
    if language == "yaml":
        Path(block.splitlines()[0].removeprefix("# ")).write_text(block, encoding="utf-8")
    elif language == "python":
        done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
    elif language == "bash":
        for line in block.splitlines():
            name, *arguments = shlex.split(line)
            assert name == "usermirrorer"
            app(arguments, standalone_mode=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, engine: VLLMModel) -> Path:
    """The directory after the tutorial. Commands run in this process and so share the engine of all tests."""
    place = tmp_path_factory.mktemp("tutorial")
    with contextlib.chdir(place):
        for language, block in BLOCKS:
            do(language, block)
    return place


def test_the_scenes_are_there_and_read_well(place: Path) -> None:
    scenes = place / "work" / "scenes" / "shop"
    train, test = (pl.read_parquet(scenes / split / "*.parquet") for split in ("train", "test"))
    # Groups of up to 12 are whole.
    assert 300 - 12 < len(train) <= 300 and len(test) == 250
    assert set(test["choice_cnt"]) == {5}
    text = test["text"][0]
    assert re.fullmatch(
        r'bought (Cup "No. \d+", blue|Thing \d+ for the \w+) - \w+, \d+\.\d\d EUR, [\w ]+?( ago)?(: [345]/5)?',
        text["history"].splitlines()[0],
    )
    for option in text["action_list"]:
        assert re.fullmatch(r"(\[New Release\] )?.+ - \w+, \d+\.\d\d EUR(, \d+ sold so far)?", option)
    # ids are as in the CSV
    assert set(test["user_id"]) <= {f"{user:04d}" for user in range(60)}


def test_every_list_has_its_choice(place: Path) -> None:
    requests, answers = (
        [json.loads(line) for line in (place / name).read_text().splitlines()]
        for name in ("requests.jsonl", "choices.jsonl")
    )
    assert len(requests) == len(answers) == 3
    for request, answer in zip(requests, answers, strict=True):
        assert answer["user_id"] == request["user_id"] and answer["items"] == request["items"]
        assert answer["choice"] in request["items"] and len(answer["rationales"]) == 2
        assert sum(answer["probs"]) == pytest.approx(1, abs=1e-4)


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
