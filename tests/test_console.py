"""What `scenes` prints of a finished set: what the lists give away, and whether the log gave what was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from usermirrorer.console import show_scenes


ESTIMATE = {"value": 0.2, "low": 0.15, "high": 0.25, "n": 95}


def printed(capsys: pytest.CaptureFixture[str], beyond_num: int, warning: bool = False) -> str:
    probe = {
        "accuracy": ESTIMATE, "classifier": "trees", "classifiers": {"trees": ESTIMATE}, "permuted": ESTIMATE,
        "time_aware": {**ESTIMATE, "value": 0.4}, "exact": True, "chance": 0.2, "warning": warning,
    }  # fmt: skip
    content = {
        "recipe": {"domain": "shop", "split": "test", "exposure": "matched", "max_exposure": 5, "alike": ""},
        "rows": 95, "asked": 98, "lengths": {"5": 95}, "groups": {"number": 19, "span_days": {"longest": 2.0}},
        "counts": {"searched": 95 + beyond_num, "left_over": 0, "beyond_num": beyond_num, "kept": 95},
        "probe": probe, "baselines": {"popularity": {"accuracy": ESTIMATE, "argmax_accuracy": ESTIMATE}},
    }  # fmt: skip
    show_scenes(content, Path("scenes/shop/test"))
    return capsys.readouterr().out


def test_fewer_scenes_are_a_warning_only_if_the_choices_ran_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert "98 scenes were requested; the choices ran out at 95" in printed(capsys, beyond_num=0)
    # A whole group more would have been too many.
    assert "ran out" not in printed(capsys, beyond_num=40)


def test_what_is_exact_is_said_to_be_and_a_warning_says_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, beyond_num=0)
    assert "19 groups" in text and "0.200 exactly" in text and "0.400 [0.150, 0.250]" in text
    assert "WARNING" not in text
    assert "0.400 [0.150, 0.250] knowing when each chose" in printed(capsys, beyond_num=0, warning=True)
