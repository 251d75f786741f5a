"""What answers were made with: recorded, and not mixed in one step."""

from __future__ import annotations

from pathlib import Path

import pytest

from usermirrorer.data.artefacts.store import open_step, read_manifest
from usermirrorer.errors import UserError
from usermirrorer.llm import identity, load_model
from usermirrorer.llm.identity import made_with, prompt_digest, revision
from usermirrorer.steps import EngineSettings


def test_the_record_names_versions_settings_and_the_prompt(model_dir: str) -> None:
    here = made_with(load_model(f"transformers:{model_dir}", engine=EngineSettings(dtype="float32")), "plain")
    assert here["engine"]["dtype"] == "float32" and here["revision"] == "" and here["device"]
    assert set(here["libraries"]) == {"transformers", "torch"}
    assert here["prompt_digest"] == prompt_digest("plain") != prompt_digest("ekb")
    assert made_with(load_model("scripted:reader"), "plain") == {
        "prompt_digest": prompt_digest("plain"), "libraries": {},
    }  # fmt: skip


def test_a_change_of_the_layout_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompt_digest("plain")
    monkeypatch.setattr(identity, "conversation", lambda text, prompt: [{"role": "user", "content": "other"}])
    assert prompt_digest("plain") != before


def test_the_commit_of_a_hub_model_is_that_of_its_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    config = tmp_path / "models--a--b" / "snapshots" / commit / "config.json"
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: str(config))
    assert revision("a/b") == commit
    assert revision("tiny-base") == ""


def test_an_unfinished_step_is_not_continued_with_another_engine(tmp_path: Path) -> None:
    recipe, directory = {"step": "decide"}, tmp_path / "step"
    with open_step(directory, recipe, None, lambda: {"libraries": {"vllm": "1"}}) as step:
        step.resume()
        step.put(0, [{"a": 1}])
    with pytest.raises(UserError, match="begun with something else.*vllm"):
        with open_step(directory, recipe, None, lambda: {"libraries": {"vllm": "2"}}):
            pass
    with open_step(directory, recipe, None, lambda: {"libraries": {"vllm": "1"}}) as step:
        step.resume()
        assert 0 in step
        step.finish(rows=1)
    with open_step(directory, recipe, None, lambda: {"libraries": {"vllm": "2"}}) as step:
        assert step.complete
    manifest = read_manifest(directory)
    assert manifest is not None and manifest["content"]["made_with"] == {"libraries": {"vllm": "1"}}
