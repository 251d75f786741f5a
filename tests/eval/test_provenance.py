"""What is recorded of an evaluation and of how its models were trained."""

from __future__ import annotations

import json
import shlex
import sys

import pyarrow as pa
import pytest

from usermirrorer.data.artefacts.store import fingerprint, open_step
from usermirrorer.eval.provenance import run_record, training_of


@pytest.fixture
def trained(tmp_path):
    """A model's directory with its record, its log, and pairs with a funnel."""
    schema = pa.schema([("scene_id", pa.string())])
    with open_step(tmp_path / "pairs" / "x", {"step": "distill"}, schema) as step:
        step.put(0, [{"scene_id": "0"}])
        step.finish(rows=1, funnel={"shop": {"scenes": 9, "kept": 1}})
    data = {"path": str(tmp_path / "pairs" / "x"), "fingerprint": fingerprint(tmp_path / "pairs" / "x"), "kept": 1}
    model = tmp_path / "model"
    model.mkdir()
    (model / "usermirrorer.json").write_text(json.dumps({"method": "dpo", "base": "b", "data": data, "run": {}}))
    log = [
        {"step": 10, "loss": 0.5, "rewards/accuracies": 0.25, "learning_rate": 1.0},
        {"step": 20, "loss": "0.25"},
        {"step": 20, "train_runtime": 3.0},
    ]
    (model / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    return model


def test_curves_and_funnel_are_found_through_the_record(trained):
    found = training_of(f"vllm:{trained}")
    assert found["curves"] == {"loss": [[10, 0.5], [20, 0.25]], "rewards/accuracies": [[10, 0.25]]}
    assert found["pairs"] == {"shop": {"scenes": 9, "kept": 1}} and found["method"] == "dpo"


def test_what_is_not_there_is_said(trained):
    (trained / "trainer_state.json").unlink()
    record = json.loads((trained / "usermirrorer.json").read_text())
    record["data"]["fingerprint"] = "f" * 16
    (trained / "usermirrorer.json").write_text(json.dumps(record))
    found = training_of(f"vllm:{trained}")
    assert found["curves"] == {} and found["pairs"].endswith("pairs/x was built anew since")
    record["data"]["path"] = "nowhere"
    (trained / "usermirrorer.json").write_text(json.dumps(record))
    assert training_of(f"vllm:{trained}")["pairs"] == "the manifest of nowhere is not there"


@pytest.mark.parametrize("spec", ["vllm:tiny-base", "scripted:reader", "openai:gpt", "vllm:owner/name"])
def test_a_model_that_was_not_trained_here_has_no_record(spec):
    assert training_of(spec) is None


def test_a_run_is_recorded_without_secrets(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "sk-very-secret-1")
    arguments = ["eval", "--base-url", "http://u:sk-very-secret-1@h", "a b"]
    monkeypatch.setattr(sys, "argv", ["/x/bin/usermirrorer", *arguments])
    record = run_record()
    assert shlex.split(record["command"]) == ["usermirrorer", "eval", "--base-url", "http://u:***@h", "a b"]
    assert record["versions"]["usermirrorer"]
