"""Plots keep everything inside their frame, whatever models are called and whatever the values are."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from usermirrorer.eval.report.svg import WIDTH, Row, curve_plot, dot_plot, position_plot, reliability_plot


LETTER = {"label": 9.0, "tick": 8.2, "value": 10.0}
"""Pixels of a letter in the size of a narrow screen, by class."""

names = st.lists(st.text("abcé <&-0123456789", min_size=1, max_size=60), min_size=1, max_size=8, unique=True)
values = st.floats(-2, 2, allow_subnormal=False)


def estimate(value: float, half: float) -> dict:
    return {"value": value, "low": value - half, "high": value + half, "n": 9}


def assert_inside(svg: str) -> None:
    """Every text, line and dot lies in the view box."""
    height = float(re.search(r'viewBox="0 0 \d+ (\d+)"', svg)[1])
    for x, y, kind, anchor, text in re.findall(
        r'<text x="(.*?)" y="(.*?)" class="(.*?)" text-anchor="(.*?)">(.*?)</text>', svg
    ):
        wide = LETTER[kind] * len(re.sub("&.*?;", "x", text))
        begin = float(x) - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
        assert begin >= 0 and begin + wide <= WIDTH + 30 and 0 <= float(y) <= height, text
    for name, value in re.findall(r' ([cxy]+[12]?)="([^"]+)"', svg):
        assert -1 <= float(value) <= (WIDTH if "x" in name else height) + 1, (name, value)


@settings(max_examples=60, deadline=None)
@given(names=names, value=values, half=st.floats(0, 1))
def test_interval_plots(names: list[str], value: float, half: float) -> None:
    rows = [Row(name, estimate(value, half), "model") for name in names]
    assert_inside(dot_plot(rows, {"chance": 0.2, "best possible from the text": 0.77}, "t", signed=True))


@settings(max_examples=60, deadline=None)
@given(names=names, points=st.lists(st.tuples(st.integers(1, 5000), values), min_size=1, max_size=5))
def test_curves(names: list[str], points: list[tuple[int, float]]) -> None:
    assert_inside(curve_plot(dict.fromkeys(names, points), "t"))


@settings(max_examples=30, deadline=None)
@given(names=names, hit=st.floats(0, 1), half=st.floats(0, 1), options=st.integers(2, 26))
def test_reliability_and_positions(names: list[str], hit: float, half: float, options: int) -> None:
    bins = [{"confidence": 0.5, "hit": estimate(hit, half)}, {"confidence": 1.0, "hit": estimate(hit, half)}]
    assert_inside(reliability_plot(dict.fromkeys(names, bins), "t"))
    shares = [1 / options] * options
    assert_inside(position_plot(dict.fromkeys(names, shares), "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "t"))
