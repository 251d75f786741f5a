"""An evaluation on the card of the model that it measured, and of no other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from handmade import groups

from usermirrorer.cli import app
from usermirrorer.data.artefacts.store import write_parquet
from usermirrorer.errors import UserError
from usermirrorer.eval.of_model import evaluation_of
from usermirrorer.eval.run import run_eval
from usermirrorer.steps import EvalSettings
from usermirrorer.wording import format_estimate


pytestmark = pytest.mark.engine

RECORD = {
    "prompt": "plain", "method": "sft", "base": "tiny", "bases": ["tiny"],
    "data": {"path": "pairs", "fingerprint": "f", "rows": 5, "kept": 5, "dropped": {}},
    "recipe": {"seed": 0}, "git_revision": "abc", "versions": {"torch": "2"},
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., str]) -> tuple[Path, Path, dict]:
    """A model, the directory of its evaluation in direct mode beside a scripted one, and the metrics."""
    path = tmp_path_factory.mktemp("measured")
    model = Path(make_model(path / "student"))
    (model / "usermirrorer.json").write_text(json.dumps(RECORD))
    write_parquet(groups(24).to_arrow(), path / "scenes.parquet")
    models = {"tuned": f"transformers:{model}", "other": "transformers:tiny-base"}
    metrics = run_eval(models, str(path / "scenes.parquet"), path / "eval", EvalSettings(mode="direct"))
    return model, path / "eval", metrics


def test_the_row_of_the_model_stands_beside_what_it_is_to_be_compared_with(measured: tuple) -> None:
    model, directory, metrics = measured
    found = evaluation_of(directory, model)
    rows = {label: cells for label, *cells in found["rows"]}
    ours, strongest = metrics["models"]["tuned"], metrics["strongest_baseline"]
    assert rows["this model"] == [
        format_estimate(ours["contexts"]["full"]["macro"]["argmax_accuracy"]),
        format_estimate(ours["contexts"]["full"]["macro"]["calibrated_gain"], signed=True),
        format_estimate(ours["user_gain"], signed=True),
    ]
    assert "[" in rows["this model"][0]
    best = metrics["baselines"][strongest]["macro"]["argmax_accuracy"]
    assert rows[f"strongest baseline: {strongest}"][0] == format_estimate(best)
    assert rows["chance"] == ["0.200", "", ""]
    assert "120 scenes" in found["scenes"] and "the label alone" in found["asked"]
    assert any("no probe" in remark for remark in found["remarks"])


def test_a_model_that_was_not_measured_is_refused(measured: tuple, tmp_path: Path) -> None:
    model, directory, _ = measured
    other = Path(shutil.copytree(model, tmp_path / "moved"))
    assert evaluation_of(directory, other)["rows"], "the same files elsewhere are the same model"
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match=r"did not measure .*moved as it is now, but tuned .*usermirrorer eval"):
        evaluation_of(directory, other)
    with pytest.raises(UserError, match="holds no metrics.json"):
        evaluation_of(tmp_path, model)


def test_the_card_that_would_be_sent_has_the_table(measured: tuple, capsys: pytest.CaptureFixture) -> None:
    model, directory, _ = measured
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    app(["push", str(model), "me/student", "--evaluation", str(directory), "--dry-run"], standalone_mode=False)
    assert "README.md" in capsys.readouterr().out
    card = (model.parent / "publish" / "me--student" / "README.md").read_text()
    table = [line for line in card.splitlines() if line.startswith("|")]
    assert table[0] == "| | arg-max accuracy | calibrated gain (bits) | user gain |"
    assert table[1] == "|---|---:|---:|---:|" and {line.count("|") for line in table} == {5}
    assert table[2].startswith("| this model | 0.") and table[-1].startswith("| chance | 0.200 |")
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before, "the model stays as it was measured"
