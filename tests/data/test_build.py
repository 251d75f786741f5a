"""A recipe as a whole: in which order its models answer, and what it would take."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from usermirrorer.data import build as module
from usermirrorer.data.build import build
from usermirrorer.data.forecast import NOTHING, forecast
from usermirrorer.data.recipe import DataRecipe, read_data_recipe


def recipe(path: Path, **changes: object) -> DataRecipe:
    written = {
        "name": "small", "prompt": "plain",
        "domains": [{"name": "toy", "exposure": "logged", "scenes": {"train": 60, "test": 20}}],
        "strong": {"llm": "scripted:reader", "n": 4}, "weak": {"llm": "scripted:noisy", "n": 2},
        "predictor": {"llm": "scripted:reader"}, "distill": {"num": 20, "min_accepted": 1},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(written | changes))
    return read_data_recipe(path)


def test_the_writer_that_is_the_predictor_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So its engine is started once."""
    order, decide = [], module.run_decide

    def seen(name: str, work: Path, variant: str, *rest: object, **others: object) -> object:
        order.append(variant)
        return decide(name, work, variant, *rest, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "run_decide", seen)
    build(recipe(tmp_path / "a.yaml"), tmp_path / "a", {})
    build(recipe(tmp_path / "b.yaml", predictor={"llm": "scripted:noisy"}), tmp_path / "b", {})
    assert order == ["weak", "strong", "strong", "weak"]


def test_a_dry_run_makes_scenes_and_asks_little(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    reports = build(recipe(tmp_path / "r.yaml"), tmp_path / "work", {}, dry_run=True)
    assert [report.rows for report in reports][-2:] == [60, 20]
    assert not (tmp_path / "work/decisions").exists() and not (tmp_path / "work/pairs").exists()
    told = " ".join(capsys.readouterr().out.split())
    assert "decide toy strong 60" in told and "score toy 360" in told


@pytest.mark.engine
def test_a_forecast_is_of_the_size_of_what_happens(tmp_path: Path, engine, capsys: pytest.CaptureFixture) -> None:
    paid = {"dollars_per_million": [1.0, 4.0], "tokens_per_second": 1000.0}
    strong = {"llm": engine.name, "n": 2, "max_tokens": 24, **paid}
    wanted = recipe(tmp_path / "r.yaml", strong=strong, predictor={"llm": engine.name, **paid})
    work, loaded = tmp_path / "work", {"strong": engine, "weak": module.load(wanted.weak)}
    build(wanted, work, {}, dry_run=True)
    strong_row, weak_row, score_row = forecast(wanted, work, ["toy"], loaded, engine)
    assert (strong_row.calls, weak_row.calls, score_row.calls) == (60, 60, 240)
    assert weak_row.prompt == NOTHING and weak_row.dollars is None
    # All 60 prompts are counted, so there is nothing left to estimate.
    assert strong_row.prompt.low == strong_row.prompt.value == strong_row.prompt.high > 60 * 50
    assert 0 < strong_row.completion.low <= strong_row.completion.value <= strong_row.completion.high <= 60 * 2 * 24
    tokens = strong_row.prompt.value + strong_row.completion.value
    assert strong_row.seconds is not None and strong_row.seconds.value == pytest.approx(tokens / 1000)
    price = (strong_row.prompt.value + 4 * strong_row.completion.value) / 1e6
    assert strong_row.dollars is not None and strong_row.dollars.value == pytest.approx(price)
    assert 0.5 < score_row.known < 1

    usage = {}
    build(wanted, work, {})
    for name, rows in (("strong", strong_row), ("weak", weak_row)):
        size = sum(path.stat().st_size for path in (work / "decisions/toy" / name).glob("*.parquet"))
        usage[name] = rows.disk / size
    assert 0.5 < usage["strong"] < 2.5, usage
