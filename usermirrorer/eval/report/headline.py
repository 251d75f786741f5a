"""The result of an evaluation in sentences, computed from its numbers: no more is said than the intervals allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from usermirrorer.eval.best_possible import FROM_TEXT
from usermirrorer.eval.table import PROBE
from usermirrorer.intervals import Estimate
from usermirrorer.wording import CLASSIFIERS, format_percent, format_points


ROUNDING = 1e-9
"""An accuracy that is exactly chance has no error, and its mean is chance up to this."""


def ranked(metrics: Mapping[str, Any]) -> list[str]:
    """The models that saw whole scenes: trained ones first, each kind in order of arg-max accuracy."""
    full = {name: model for name, model in metrics["models"].items() if "full" in model["contexts"]}
    return sorted(full, key=lambda name: (not full[name]["bases"], -_accuracy(full[name])["value"]))


def headline(metrics: Mapping[str, Any]) -> list[str]:
    """What the best model does, what that is owed to, and what it is ahead of or behind."""
    names = ranked(metrics)
    if not names:
        return ["No model saw whole scenes (context full), so there is no headline."]
    best, baselines = names[0], metrics["baselines"]
    sentences = [_result(best, metrics), *_owed_to(best, metrics)]
    strongest, against = metrics["strongest_baseline"], metrics["models"][best]["against"]
    if against.get(strongest) and (strongest != PROBE or _grouped(metrics)):
        found = format_percent(baselines[strongest]["macro"]["argmax_accuracy"])
        sentences.append(
            f"The strongest baseline, {strongest}, is right in {found}: {_difference(best, 'it', against[strongest])}."
        )
    sentences += [
        f"{pair['b']} was trained from {pair['a']}: {_difference('it', pair['a'], pair)}."
        for pair in metrics["comparisons"]
        if pair["parent"] and "argmax_accuracy" in pair
    ]
    if FROM_TEXT in metrics["best_possible"]:
        most = metrics["best_possible"][FROM_TEXT]["expected"]["argmax_accuracy"]
        sentences.append(f"No predictor that reads what the model reads can expect more than {100 * most:.0f} %.")
    return sentences


def _result(name: str, metrics: Mapping[str, Any]) -> str:
    accuracy, domains = _accuracy(metrics["models"][name]), len(metrics["scenes"]["by_dataset"])
    mean = f", the mean over {domains} domains" if domains > 1 else ""
    right = f"{name} picks what the person chose in {format_percent(accuracy)} of {accuracy['n']:,} lists{mean}"
    return f"{right}; chance is {100 * metrics['chance']:.0f} %."


def _owed_to(name: str, metrics: Mapping[str, Any]) -> list[str]:
    """Whether that is more than chance and, if so, how much of it is owed to knowing the person."""
    model, chance = metrics["models"][name], metrics["chance"]
    accuracy = _accuracy(model)
    if accuracy["low"] is None or accuracy["high"] is None:
        return ["There are too few people for an interval, so that may be chance."]
    if accuracy["low"] - ROUNDING <= chance <= accuracy["high"] + ROUNDING:
        return ["That cannot be told from chance."]
    if accuracy["high"] < chance:
        return ["That is below chance."]
    if _grouped(metrics):
        return ["All of the difference is owed to knowing the person: everybody in a group is shown the same list."]
    return [*_beside_probe(name, metrics), *_with_another_history(model.get("user_gain"))]


def _beside_probe(name: str, metrics: Mapping[str, Any]) -> list[str]:
    """What the lists alone give away, where they are real ones."""
    if isinstance(metrics["probe"], str):
        return ["How much of that the lists alone give away is unknown."]
    found, kind = metrics["probe"]["accuracy"], CLASSIFIERS[metrics["probe"]["classifier"]]
    probe = f"A probe that sees nothing of the person ({kind}) is right in {format_percent(found)} of such lists"
    paired = metrics["models"][name]["against"].get(PROBE)
    return [f"{probe}: {_difference(name, 'it', paired)}."] if paired else [f"{probe}."]


def _with_another_history(gain: Estimate | None) -> list[str]:
    """How much is lost with another person's history, if that was evaluated."""
    if gain is None or gain["low"] is None or gain["high"] is None:
        return []
    if gain["low"] - ROUNDING <= 0 <= gain["high"] + ROUNDING:
        return ["With another person's history in its place, that is the same as far as can be told."]
    lost = "lower" if gain["value"] > 0 else "higher"
    return [f"With another person's history in its place, that is {lost} by {format_points(gain)}."]


def _difference(name: str, other: str, pair: Mapping[str, Estimate]) -> str:
    """`sft is ahead of base by 4.1 points [1.0, 7.2]`, or that the two cannot be told apart."""
    gap = pair["argmax_accuracy"]
    size = format_points(gap)
    way, of = ("ahead", " of") if gap["value"] > 0 else ("behind", "")
    if gap["low"] is None or gap["high"] is None:
        return f"{name} is {way}{of} {other} by {size}, with too few people for an interval"
    if gap["low"] - ROUNDING <= 0 <= gap["high"] + ROUNDING:
        return f"{name} cannot be told from {other} ({size} {way})"
    return f"{name} is {way}{of} {other} by {size}"


def _grouped(metrics: Mapping[str, Any]) -> bool:
    """Whether all scenes belong to groups that share a list."""
    return metrics["scenes"]["grouped"] == metrics["scenes"]["n"]


def _accuracy(model: Mapping[str, Any]) -> Estimate:
    return model["contexts"]["full"]["macro"]["argmax_accuracy"]
