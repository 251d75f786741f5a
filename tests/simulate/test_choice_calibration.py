"""Calibration from an evaluation: the numbers of its own fit, for the same model under the same conditions only."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from built import build

from usermirrorer import Request, Simulator, UserError
from usermirrorer.calibration import calibrate, fit_calibration
from usermirrorer.eval import run as evaluation
from usermirrorer.eval.scene_predictions import per_scene
from usermirrorer.eval.scenes import load_scenes
from usermirrorer.llm.prompts import conversation
from usermirrorer.seeds import draw
from usermirrorer.steps import EvalSettings


@pytest.fixture(scope="module")
def measured(new_fake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A --work of toy with an evaluation of the fake model, 4 decision processes per scene, in `eval`."""
    work = build(tmp_path_factory.mktemp("toy"), "toy", train=60, test=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "load_model", lambda spec, **servers: new_fake())
        settings = EvalSettings(repeat=4, prompt="plain", context="full,no-history")
        evaluation.run_eval({"fake": "openai:fake"}, str(work / "scenes/toy/test"), work / "eval", settings)
    return work


@pytest.fixture
def open_toy(fake, measured: Path) -> Callable[..., Simulator]:
    """A simulator of the fake model, calibrated on its evaluation."""
    return partial(Simulator.open, fake, measured, "toy", prompt="plain", calibration=measured / "eval")


@pytest.mark.parametrize("samples", [4, 2])
def test_it_is_the_fit_of_all_scenes_with_as_many_processes(open_toy, measured: Path, samples: int) -> None:
    rows = pl.read_parquet(measured / "eval/predictions.parquet")
    rows = rows.filter((pl.col("context") == "full") & (pl.col("sample") < samples))
    whole = per_scene(rows, load_scenes(str(measured / "scenes/toy/test"))[0])
    votes = np.full(len(whole.probs), samples)
    fit = fit_calibration(whole.probs, whole.choice, whole.counts, votes)
    user = open_toy(samples=samples)
    assert user.calibration is not None and user.calibration.scenes == 60
    assert (user.calibration.smoothing, user.calibration.temperature) == pytest.approx(fit)
    choice = user.choose("u0001", ["sweet-cake", "sour-tea", "salty-pie"])
    expected = calibrate(choice.probs[None], np.array([3]), np.array([samples]), *fit)[0]
    np.testing.assert_allclose(choice.calibrated, expected)
    assert choice.calibrated.argmax() == choice.picked


def test_what_is_drawn_is_drawn_from_the_calibrated_probabilities(open_toy) -> None:
    user, items = open_toy(samples=4), ["sweet-cake", "sour-tea", "salty-pie", "bitter-soup"]
    requests = [Request(f"u{number:04d}", items) for number in range(300)]
    choices = user.choose_all(requests)
    drawn = [
        draw(choice.calibrated, 0, f"{request.user}\x1f{conversation(offer.text, 'plain')[-1]['content']}")
        for choice, request, offer in zip(choices, requests, user.offers(requests), strict=True)
    ]
    assert [choice.drawn for choice in choices] == drawn
    hits = np.mean([choice.drawn == choice.picked for choice in choices])
    raw, calibrated = (
        np.mean([getattr(choice, name).max() for choice in choices]) for name in ("probs", "calibrated")
    )
    assert abs(hits - calibrated) < 0.07 < abs(raw - calibrated)


def test_calibration_improves_the_log_loss(open_toy, measured: Path) -> None:
    rows = pl.read_parquet(measured / "eval/predictions.parquet").filter(context="full")
    whole = per_scene(rows, load_scenes(str(measured / "scenes/toy/test"))[0])
    calibration = open_toy(samples=4).calibration
    calibrated = np.array([calibration.of(probs) for probs in whole.probs])

    def loss(probs: np.ndarray) -> float:
        return -np.log(np.maximum(probs[np.arange(len(probs)), whole.choice], 1e-10)).mean()

    assert loss(calibrated) < loss(whole.probs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 5}, "measured with 4 decision processes per scene, fewer than samples 5"),
        ({"temperature": 0.5}, "was measured with temperature 1.0, not 0.5"),
        ({"max_tokens": 5}, "was measured with max_tokens 1024, not 5"),
        ({"mode": "direct"}, "was measured with mode decision, not direct"),
    ],
)
def test_another_condition_is_refused(open_toy, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_toy(**{"samples": 4, **options})


def test_another_model_is_refused(fake, measured: Path) -> None:
    fake.name = "openai:other"
    with pytest.raises(UserError, match="it has not measured openai:other, only openai:fake"):
        Simulator(fake, prompt="plain", samples=4, calibration=measured / "eval")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"contexts": ["no-history"]}, "without --context full"), ({"anonymise": True}, "with anonymise True")],
)
def test_an_evaluation_of_other_texts_is_refused(
    fake, measured: Path, tmp_path: Path, change: dict, message: str
) -> None:
    metrics = json.loads((measured / "eval/metrics.json").read_text())
    metrics["settings"] |= change
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "predictions.parquet").write_bytes((measured / "eval/predictions.parquet").read_bytes())
    with pytest.raises(UserError, match=message):
        Simulator(fake, prompt="plain", samples=4, calibration=tmp_path)
