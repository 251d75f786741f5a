"""The model card says where the model comes from, from its record alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from usermirrorer.train.card import write_card


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
