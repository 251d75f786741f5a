"""Findings in words, the same in the terminal, on the page and on cards: estimates, the probe, the exposure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


CLASSIFIERS = {"identity": "item identity", "trees": "boosted trees", "words": "words of the options"}

SHARED = "each group of people is shown one list, on which every item is the choice of exactly one of them"


def format_estimate(estimate: Mapping[str, Any] | None, signed: bool = False) -> str:
    """`0.512 [0.480, 0.544]`, only the value if it has no interval, or a dash for None."""
    if estimate is None:
        return "–"
    form, low, high = "+.3f" if signed else ".3f", estimate["low"], estimate["high"]
    value = f"{estimate['value']:{form}}"
    return value if low is None or high is None else f"{value} [{low:{form}}, {high:{form}}]"


def format_percent(estimate: Mapping[str, Any]) -> str:
    """A share as `55 % [52, 58]`."""
    value = f"{100 * estimate['value']:.0f} %"
    return value if estimate["low"] is None else f"{value} [{100 * estimate['low']:.0f}, {100 * estimate['high']:.0f}]"


def format_points(estimate: Mapping[str, Any]) -> str:
    """The size of a difference of shares as `4.1 points [1.0, 7.2]`, whichever way it goes."""
    value, low, high = (None if estimate[end] is None else 100 * estimate[end] for end in ("value", "low", "high"))
    assert value is not None
    points = f"{abs(value):.1f} points"
    if low is None or high is None:
        return points
    low, high = (low, high) if value >= 0 else (-high, -low)
    return f"{points} [{low:.1f}, {high:.1f}]"


def format_exact(estimate: Mapping[str, Any], exact: bool) -> str:
    """`0.200 exactly` if the value follows from how the lists are made, else as `format_estimate`."""
    return f"{estimate['value']:.3f} exactly" if exact else format_estimate(estimate)


def describe_probe(probe: Mapping[str, Any]) -> str:
    """What a classifier finds that sees nothing of the user, in one line; `probe` is the block of a manifest."""
    found, chance = format_exact(probe["accuracy"], probe["exact"]), f"chance {probe['chance']:.3f}"
    if not probe["exact"]:
        return f"{found} ({CLASSIFIERS[probe['classifier']]}), {chance}"
    return f"{found}, as people share lists; {format_estimate(probe['time_aware'])} knowing when each chose; {chance}"


def describe_exposure(content: Mapping[str, Any]) -> list[str]:
    """Sentences on how the lists of a set of scenes are made; `content` is that of its manifest."""
    recipe, counts = content["recipe"], content["counts"]
    exposure, most = recipe["exposure"], recipe["max_exposure"]
    means = {
        "matched": f"{SHARED}, so the list does not give the choice away",
        "hard": f"{SHARED}, and the items are alike in {recipe['alike']}; the list does not give the choice away",
        "logged": "the lists that people were really shown; one of more than "
        f"{most} items keeps the click and {most - 1} of the others, each as likely as any",
        "published": "distractors sampled as published, for comparison only: this gives the choice away, and it knows "
        "the future",
    }
    sentences = [f"Exposure `{exposure}`: {means[exposure]}."]
    if "groups" in content:
        spans = ", ".join(f"{share}: {days:.3g}" for share, days in content["groups"]["span_days"].items())
        sentences += [
            f"{content['groups']['number']:,} groups; quantiles of the days from first choice to last: {spans}.",
            f"Left over without a group: {counts['left_over']:,} of {counts['searched']:,} choices searched.",
        ]
    if "evidence" in content:
        sentences.append(
            f"Evidence: with each option stands how strongly {content['evidence']['model']}, fitted on the log before "
            f"the window, leads to it from the person's history: {', '.join(content['evidence']['words'])}."
        )
    lengths = ", ".join(f"{scenes:,} with {options}" for options, scenes in content["lengths"].items())
    return [*sentences, f"Scenes by number of options: {lengths}."]
