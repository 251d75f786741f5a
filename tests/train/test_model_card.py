"""The model card says where the model comes from, from its record alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from usermirrorer.data.artefacts.schema import PAIRS
from usermirrorer.data.artefacts.store import open_step
from usermirrorer.train.records.card import model_card, write_card
from usermirrorer.train.records.provenance import windows
from usermirrorer.train.records.tracking import wandb_url


RECORD = {
    "prompt": "plain", "method": "dpo", "base": "./models/sft", "bases": ["tiny-base", "./models/sft"],
    "data": {
        "path": "runs/pairs/toy", "fingerprint": "abcdef0123456789", "rows": 12_345, "kept": 12_000,
        "dropped": {"too long": 1_300, "blanked": 45}, "evidence": True,
        "probe": {"toy": {"accuracy": {"value": 0.21, "low": 0.2, "high": 0.22}, "exact": False, "classifier": "words",
                          "chance": 0.2, "warning": False}},
    },
    "recipe": {"learning_rate": 0.001, "note": "é\n```\n# not a heading"},
    "git_revision": "abc-dirty", "versions": {"torch": "2.13.0", "trl": "1.16.0"},
    "run": {
        "world_size": 2, "distributed": "DistributedDataParallel", "device": "CPU", "batch": "2 × 2 × 4",
        "global_batch": 16, "steps": 1_234, "last_loss": 0.693147, "seconds": 4_321.6,
    },
}  # fmt: skip


def written(directory: Path, record: dict, peft: bool) -> tuple[dict, str]:
    directory.mkdir()
    write_card(str(directory), record, peft)
    _, header, text = (directory / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), text


def test_every_entry_of_the_record_is_in_the_card(tmp_path: Path) -> None:
    header, text = written(tmp_path / "student", RECORD, peft=False)
    assert header == {"library_name": "transformers", "tags": ["usermirrorer", "trl", "dpo"]}
    for words in (
        "# student\n", "trained with DPO", "tiny-base → ./models/sft → this model.", "`plain`",
        "`runs/pairs/toy`, fingerprint `abcdef0123456789`, 12,000 of 12,345 rows",
        "1,234 of 16 pairs (2 × 2 × 4), 4,322 s on 2 × CPU (DistributedDataParallel)", "logged: 0.6931\n",
        "git revision `abc-dirty`; torch 2.13.0, trl 1.16.0\n",
        "\n* `toy`: 0.210 [0.200, 0.220] (words of the options), chance 0.200.\n",
        "\n- Evidence: the options it was trained on carry a word", "\n- Steps: ",
        "Rows dropped: 1,300 too long, 45 blanked.\n", "\n````yaml\nlearning_rate: 0.001\n", "é",
    ):  # fmt: skip
        assert words in text, words


def test_windows_curves_and_evaluation_are_in_the_card_if_there_are_any() -> None:
    record = RECORD | {
        "data": RECORD["data"] | {"windows": {"toy": {"train": 878963305000, "test": 891382267000}}},
        "run": RECORD["run"] | {"wandb": "https://wandb.ai/me/usermirrorer/runs/1"},
    }
    evaluation = {
        "scenes": "9 scenes", "asked": "Asked well", "headings": ["a", "b"], "remarks": ["mind this"],
        "rows": [("this model", "0.5", ""), ("a | <b>", "0.1", "x")],
    }  # fmt: skip
    text = model_card("m", record, False, evaluation)
    for words in (
        "- Windows of `toy`: train from 1997-11-08 04:28 UTC, test from 1998-03-31 22:11 UTC\n",
        "\n- Curves: <https://wandb.ai/me/usermirrorer/runs/1>\n",
        "## Evaluation\n\n9 scenes. Asked well. Means over domains with 95 % intervals.\n\n",
        "\n\n| | a | b |\n|---|---:|---:|\n| this model | 0.5 |  |\n| a \\| \\<b> | 0.1 | x |\n",
        "\n* mind this\n\n## What the exposure",
    ):  # fmt: skip
        assert words in text, text
    bare = model_card("m", RECORD, False)
    assert "## Evaluation" not in bare and "Curves" not in bare and "Windows" not in bare


def test_the_base_is_the_nearest_model_on_the_hub(tmp_path: Path) -> None:
    record = RECORD | {"base": "./models/sft", "bases": ["a/older", "Qwen/Qwen2.5-3B-Instruct", "./models/sft"]}
    assert written(tmp_path / "m", record, peft=False)[0]["base_model"] == "Qwen/Qwen2.5-3B-Instruct"


def test_windows_are_read_from_the_tables_beside_the_pairs(tmp_path: Path) -> None:
    cuts = {"train": 5, "test": 7}
    with open_step(tmp_path / "tables" / "toy", {"step": "prepare", "domain": "toy"}) as step:
        step.finish(cuts=cuts)
    recipe = {"step": "distill", "domains": ["toy", "gone"], "name": "x"}
    with open_step(tmp_path / "pairs" / "x", recipe, PAIRS) as step:
        step.finish(rows=0)
    assert windows(str(tmp_path / "pairs" / "x")) == {"toy": cuts}
    assert windows("owner/name") == {} and windows(str(tmp_path / "nowhere")) == {}


@pytest.mark.parametrize(("tracked", "url"), [("online", "https://wandb.ai/r"), ("offline", None), (None, None)])
def test_only_a_run_tracked_online_has_an_address(tracked: str | None, url: str | None, monkeypatch) -> None:
    import wandb

    open_run = SimpleNamespace(offline=tracked == "offline", url="https://wandb.ai/r")
    monkeypatch.setattr(wandb, "run", open_run if tracked else None)
    assert wandb_url(SimpleNamespace(training=SimpleNamespace(report_to=["wandb"]))) == url
    assert wandb_url(SimpleNamespace(training=SimpleNamespace(report_to=[]))) is None


def test_what_is_unknown_is_said(tmp_path: Path) -> None:
    record = RECORD | {
        "base": "Qwen/Qwen2.5-3B", "bases": ["Qwen/Qwen2.5-3B"], "prompt": None, "git_revision": None,
        "data": RECORD["data"] | {"probe": None, "dropped": {}, "evidence": False},
        "run": RECORD["run"] | {"last_loss": None},
    }  # fmt: skip
    header, text = written(tmp_path / "adapter", record, peft=True)
    assert header["library_name"] == "peft" and header["base_model"] == "Qwen/Qwen2.5-3B"
    for words in (
        "A LoRA adapter", "`that of its rows`", "logged: none\n", "git revision `unknown`", "Rows dropped: none.\n",
        "without an exposure probe",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize("base", ["./models/sft", "tiny-base"])
def test_only_a_model_of_the_hub_is_a_base_model(tmp_path: Path, base: str) -> None:
    assert "base_model" not in written(tmp_path / "model", RECORD | {"base": base}, peft=False)[0]
