"""Plots as inline SVG: intervals on one scale, reliability, curves, positions. Colours come from the stylesheet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from usermirrorer.intervals import Estimate


WIDTH = 680
LABELS = 230
"""Pixels left for the names of rows, also in the larger letters of a narrow screen."""

LONGEST = 24
"""Letters of a name; of a longer one the middle is left out, and the table beside the plot has it whole."""


@dataclass(frozen=True)
class Row:
    """One line of an interval plot; `kind` is a CSS class: model, baseline or probe."""

    label: str
    estimate: Estimate
    kind: str


def dot_plot(rows: Sequence[Row], lines: Mapping[str, float], title: str, signed: bool = False) -> str:
    """Values and their 95 % intervals, if known, one row each, above a common axis; `lines` are named values."""
    ends = [row.estimate[end] for row in rows for end in ("value", "low", "high")]
    values = [end for end in ends if end is not None] + list(lines.values())
    ticks = _ticks(min(0.0, *values), max(0.0, *values))
    low, high = ticks[0], max(ticks[-1], *values)
    right, top, step = WIDTH - 70, 16 + 16 * len(lines), 26
    bottom = top + step * len(rows)

    def x(value: float) -> float:
        return LABELS + (value - low) / ((high - low) or 1.0) * (right - LABELS)

    parts = []
    for tick in ticks:
        parts.append(_line(x(tick), top - 6, x(tick), bottom, "grid"))
        parts.append(_text(x(tick), bottom + 16, f"{tick:g}", "tick", "middle"))
    for i, (name, value) in enumerate(lines.items()):
        above = 16 * (len(lines) - i)
        parts.append(_line(x(value), top - above + 8, x(value), bottom, "reference"))
        anchor, gap = ("end", -5) if x(value) > (LABELS + right) / 2 else ("start", 5)
        parts.append(_text(x(value) + gap, top - above + 12, f"{name} {value:.3f}", "tick", anchor))
    for i, row in enumerate(rows):
        y, estimate = top + step * i + step / 2, row.estimate
        text = f"{estimate['value']:+.3f}" if signed else f"{estimate['value']:.3f}"
        parts.append(_text(LABELS - 12, y + 4, _short(row.label), "label", "end"))
        if estimate["low"] is not None and estimate["high"] is not None:
            parts.append(_line(x(estimate["low"]), y, x(estimate["high"]), y, f"bar {row.kind}"))
        parts.append(f'<circle cx="{x(estimate["value"]):.1f}" cy="{y:.1f}" r="5" class="dot {row.kind}"/>')
        parts.append(_text(WIDTH, y + 4, text, "value", "end"))
    return _svg(parts, bottom + 24, title)


def reliability_plot(series: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> str:
    """Hits against confidence for each predictor, with intervals and the diagonal of perfect calibration."""
    size, left, top = 300, 46, 10

    def x(value: float) -> float:
        return left + value * size

    def y(value: float) -> float:
        return top + (1 - value) * size

    parts = []
    for i in range(6):
        tick = i / 5
        parts += [_line(x(tick), y(0), x(tick), y(1), "grid"), _line(x(0), y(tick), x(1), y(tick), "grid")]
        parts += [_text(x(tick), y(0) + 16, f"{tick:g}", "tick", "middle")]
        parts += [_text(x(0) - 8, y(tick) + 4, f"{tick:g}", "tick", "end")]
    parts.append(_line(x(0), y(0), x(1), y(1), "reference"))
    parts.append(_text(x(0.5), y(0) + 34, "confidence: highest probability", "tick", "middle"))
    for i, (name, bins) in enumerate(series.items()):
        points = [(x(b["confidence"]), y(b["hit"]["value"])) for b in bins]
        parts += [
            _line(px, y(max(low, 0.0)), px, y(min(high, 1.0)), f"whisker series{i % 6}")
            for (px, _), low, high in (
                (at, b["hit"]["low"], b["hit"]["high"]) for at, b in zip(points, bins, strict=True)
            )
            if low is not None and high is not None
        ]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline points="{path}" class="curve series{i % 6}"/>')
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.2" class="point series{i % 6}"/>' for px, py in points]
        parts.append(_legend(left + size + 28, top + 5 + 22 * i, _short(name), i))
    return _svg(parts, max(top + size + 44, top + 22 * len(series) + 10), title)


def curve_plot(series: Mapping[str, Sequence[Sequence[float]]], title: str) -> str:
    """A value over the steps of each training, (step, value) pairs."""
    left, top, width, height = 72, 12, WIDTH - 96, 180
    values = [value for points in series.values() for _, value in points]
    ticks = _ticks(min(0.0, *values), max(0.0, *values))
    low, high = ticks[0], max(ticks[-1], *values)
    last = max(step for points in series.values() for step, _ in points)

    def x(step: float) -> float:
        return left + step / last * width

    def y(value: float) -> float:
        return top + (high - value) / ((high - low) or 1.0) * height

    parts = []
    for tick in ticks:
        parts += [
            _line(left, y(tick), left + width, y(tick), "grid"),
            _text(left - 8, y(tick) + 4, f"{tick:g}", "tick", "end"),
        ]
    for step in _ticks(0.0, last):
        parts.append(_text(x(step), top + height + 18, f"{step:g}", "tick", "middle"))
    parts.append(_text(left + width / 2, top + height + 34, "step", "tick", "middle"))
    for i, points in enumerate(series.values()):
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        parts.append(f'<polyline points="{path}" class="curve series{i % 6}"/>')
        parts += [f'<circle cx="{x(s):.1f}" cy="{y(v):.1f}" r="2.6" class="point series{i % 6}"/>' for s, v in points]
    legends, bottom = _legends(series, left, top + height + 46)
    return _svg(parts + legends, bottom, title)


def position_plot(series: Mapping[str, Sequence[float]], labels: str, title: str) -> str:
    """Mean predicted probability of every position, one group of bars per position, with the uniform line."""
    options = len(next(iter(series.values())))
    left, top, height = 46, 12, 180
    most = max(1.5 / options, *(share for shares in series.values() for share in shares)) * 1.05
    group = (WIDTH - left) / options
    bar = min(34.0, group * 0.8 / len(series))
    parts = []
    for tick in _ticks(0.0, most):
        y = top + height * (1 - tick / most)
        parts += [_line(left, y, WIDTH, y, "grid"), _text(left - 8, y + 4, f"{tick:g}", "tick", "end")]
    for position in range(options):
        middle = left + group * (position + 0.5)
        parts.append(_text(middle, top + height + 18, labels[position], "label", "middle"))
        for i, shares in enumerate(series.values()):
            tall = height * shares[position] / most
            x = middle + (i - len(series) / 2) * bar
            parts.append(
                f'<rect x="{x + 1:.1f}" y="{top + height - tall:.1f}" width="{bar - 2:.1f}" height="{tall:.1f}" '
                f'rx="1.5" class="point series{i % 6}"/>'
            )
    uniform = top + height * (1 - 1 / options / most)
    parts.append(_line(left, uniform, WIDTH, uniform, "reference"))
    legends, bottom = _legends(series, left, top + height + 32)
    return _svg(parts + legends, bottom, title)


def _ticks(low: float, high: float) -> list[float]:
    """Round values, four to eight of them, from at or below `low` to at or below `high`."""
    span = max(high - low, 1e-6)
    step = next(s * 10.0**e for e in range(-7, 4) for s in (1, 2, 5) if span / (s * 10.0**e) <= 7)
    first = int(low // step)
    return [round(i * step, 9) for i in range(first, int(high / step + 1e-9) + 1)]


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[-LONGEST // 2 + 1 :]}"


def _legends(names: Iterable[str], left: float, top: float) -> tuple[list[str], float]:
    """Names side by side in as many rows as they need, and where the last row ends."""
    parts, x, y = [], left, top
    for i, name in enumerate(map(_short, names)):
        wide = 50 + 9 * len(name)
        if x > left and x + wide > WIDTH:
            x, y = left, y + 22
        parts.append(_legend(x, y, name, i))
        x += wide
    return parts, y + 22


def _legend(x: float, y: float, name: str, series: int) -> str:
    swatch = f'<rect x="{x:.0f}" y="{y:.0f}" width="12" height="12" rx="2" class="point series{series % 6}"/>'
    return swatch + _text(x + 18, y + 10, name, "label", "start")


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
