"""Findings in words, the same in the terminal, on the page and on cards: counts, times, estimates, probe, exposure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any


CLASSIFIERS = {"identity": "item identity", "trees": "boosted trees", "words": "words of the options"}

COUNTS = {
    # tables
    "users": "users",
    "items": "items",
    "interactions": "interactions",
    "impressions": "impressions",
    "friends": "friendships",
    "item_statistics": "statistics of items",
    "item_labels": "labels of items",
    # rows that `prepare` leaves out
    "unknown_user": "user in no table",
    "unknown_item": "item in no table",
    "duplicate_event": "repeated event",
    "item_never_available": "item without release date or event",
    "impossible_time": "impossible time",
    # choices that become scenes, or do not
    "not_one_click": "impressions without exactly one click",
    "unknown_user_or_item": "clicks of a user or on an item in no table",
    "choices_in_window": "choices in the window",
    "item_not_yet_available": "item not yet released",
    "too_little_history": "fewer than three earlier occasions",
    "had_before": "item that the user had before",
    "same_occasion": "other choice of the same occasion",
    "over_user_cap": "over the cap per user",
    "qualifying": "choices that can become scenes",
    "searched": "choices searched for groups",
    "left_over": "no group found",
    "beyond_num": "in groups that were not needed",
    "tried": "choices tried",
    "exposure_too_short": "list too short, or with an unknown item",
    # decisions and predictions
    "shed_history": "scenes that lost their oldest history to fit",
    "too_long": "too long even without history",
    "cut_off": "cut off at the most tokens allowed",
    "no_label": "naming no option",
    "decisions": "decisions",
    "not_scored": "too long to be scored",
    "usable": "finished, naming an option",
    "read_as_named": "read by the predictor as what they name",
    # pairs
    "scenes": "scenes",
    "scored": "with scored decisions of both models",
    "with_accepted": "with an accepted decision",
    "with_enough_accepted": "with enough accepted decisions",
    "available": "with a decision to reject",
    "kept": "kept",
    "no_choice": "without a choice",
    "no_strong_decision": "without a strong decision",
    "no_weak_decision": "without a weak decision",
    "too_few_accepted": "with too few accepted decisions",
    "nothing_to_reject": "with nothing to reject",
    "cut_off_or_no_label": "cut off, or naming no option",
    "names_choice_but_reads_otherwise": "naming the choice, read as another option",
    "reads_as_choice_but_names_another": "naming another option, read as the choice",
    "chosen_later_too": "naming what the user chose later",
    "entropy_expected_strong": "expected entropy of strong",
    "entropy_expected_weak": "of weak",
    "entropy_total_strong": "total entropy of strong",
    "entropy_total_weak": "of weak",
    "entropy_chosen": "entropy of the chosen",
    "entropy_rejected": "of the rejected",
    "accepted": "accepted decisions",
    "rejected_from": "rejected from",
    # evaluations
    "read": "rows read",
    "blanked": "text withheld because of its licence",
    "duplicate": "repeated rows",
    "answered": "scenes answered",
    "shed": "scenes that lost their oldest history to fit",
    "rows": "decisions",
    "unfinished": "naming no option, so closed for the model",
    "disagrees": "favouring another option than they name",
}
"""What a count in a manifest or in metrics.json counts. Domains add reasons of their own, which read as they are."""

TOTALS = ("choices_in_window", "qualifying", "searched", "tried", "kept")
"""Counts of choices that went on; what is between two of them was lost."""

RULES = {
    "length": "the longer or the shorter text",
    "popularity": "the item chosen more or less often before",
    "letter": "the letter of the option",
    "writer": "the model that wrote it",
    "item": "the item itself",
    "words": "the words of the text",
}
"""What each rule sees that tells chosen from rejected without knowing the user."""

SHARED = "each group of people is shown one list, on which every item is the choice of exactly one of them"


def in_words(count: str) -> str:
    """What a count counts: `choices in the window` for `choices_in_window`."""
    return COUNTS.get(count, count.replace("_", " "))


def list_counts(counts: Mapping[str, int]) -> str:
    """`choices in the window 9,812, fewer than three earlier occasions 2,082`; `none` if all are 0."""
    return ", ".join(f"{in_words(count)} {number:,}" for count, number in counts.items() if number) or "none"


def format_time(milliseconds: int) -> str:
    """A time as a date, `1997-12-22 21:09 UTC`; the number itself if no calendar has it."""
    try:
        return f"{datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds):%Y-%m-%d %H:%M} UTC"
    except OverflowError:
        return f"{milliseconds} ms"


def format_seconds(seconds: float) -> str:
    """`0.3 s`, `12 s`, `4 min 10 s` or `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def format_bytes(size: int) -> str:
    """`512 B`, `3.5 MB` or `6.2 GB`: in powers of 1,000, as disks and the Hub count."""
    amount, units = float(size), ["B", "kB", "MB", "GB"]
    while amount >= 999.95 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{size} B" if units[0] == "B" else f"{amount:,.1f} {units[0]}"


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


def scene_warnings(content: Mapping[str, Any]) -> list[str]:
    """What whoever uses a set of scenes has to know; `content` is that of its manifest."""
    found, probe = [], content["probe"]
    # If choices are left, a further group would not have fitted.
    if content["rows"] < content["asked"] and not content["counts"].get("beyond_num"):
        found.append(f"{content['asked']:,} scenes were requested; the choices ran out at {content['rows']:,}")
    if probe["warning"]:
        found.append(
            "the exposure gives the choice away to a classifier that sees nothing of the user: "
            f"{describe_probe(probe)}; judge every accuracy against it"
        )
    return found
