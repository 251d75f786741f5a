"""What `distill` kept, what it lost at each stage, and what tells chosen from rejected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from usermirrorer.console import say
from usermirrorer.console.tables import Row, show_table
from usermirrorer.wording import RULES, format_estimate, in_words


LETTER_MEASURES = ("chosen_from_uniform", "rejected_from_uniform", "chosen_from_rejected")


def show_pairs(content: Mapping[str, Any]) -> None:
    """For every domain scenes and decisions by stage, then what the two sides of the pairs give away."""
    for domain, counts in content["counts"].items():
        _funnel(domain, content["funnel"][domain])
        _decisions(counts)
        _acceptance(counts)
    _diagnostics(content["diagnostics"])


def _funnel(domain: str, stages: Mapping[str, int]) -> None:
    left = list(stages.values())
    lost = ["", *(before - after for before, after in zip(left, left[1:], strict=False))]
    rows = [
        (in_words(stage), f"{count:,}", f"−{loss:,}" if loss else "")
        for (stage, count), loss in zip(stages.items(), lost, strict=True)
    ]
    show_table((f"scenes of {domain}", "left", "lost"), rows)


def _decisions(counts: Mapping[str, Any]) -> None:
    """What became of the decisions of both models, and of those of the scenes that are left."""
    both = {variant: counts[variant] for variant in ("strong", "weak")}
    rows: list[Row] = [
        (in_words(reason), *(f"{one[reason]:,}" for one in both.values()))
        for reason in both["strong"]
        if any(one[reason] for one in both.values())
    ]
    show_table(("decisions", *both), rows)
    neither = [(in_words(reason), f"{count:,}") for reason, count in counts["not_rejected"].items() if count]
    if neither:
        show_table(("neither accepted nor rejected", "decisions"), neither)


def _acceptance(counts: Mapping[str, Any]) -> None:
    """By number of options: how often decisions are accepted and scenes kept, beside random guesses."""
    rows = [
        (
            f"{options} options", f"{one['scenes']:,}", f"{one['accepted']:.1%}", f"{one['accepted_by_chance']:.1%}",
            ", ".join(map(str, one["min_accepted"])), f"{one['kept']:.1%}", f"{one['kept_by_chance']:.1%}",
        )
        for options, one in counts["acceptance"].items()
    ]  # fmt: skip
    headings = ("scenes with", "scenes", "accepted", "guesses", "needed", "scenes kept", "guesses")
    show_table(headings, rows, title="Decisions accepted, and scenes with enough of them, beside random guesses")


def _diagnostics(found: Mapping[str, Any]) -> None:
    rules = [(name, format_estimate(rule), RULES[name]) for name, rule in found["rules"].items()]
    title = "Pairs whose chosen side is found without the user; one half is chance"
    show_table(("rule", "pairs [95 %]", "it looks at"), rules, align="lrp", title=title)
    letters = [
        (f"{options} options", *(f"{one[measure]:.3f}" for measure in LETTER_MEASURES))
        for options, one in found["positions"].items()
    ]
    headings = ("pairs with", "chosen from uniform", "rejected from uniform", "chosen from rejected")
    show_table(headings, letters, title="Letters: total variation, 0 if balanced")
    spread, read = found["uncertainty"]["score_spread"], found["uncertainty"]["read_as_named"]
    say(f"  Uncertainty, by which pairs are selected, has a standard deviation of {spread:.4f} over the scenes.")
    say(f"  The predictor reads {read:.1%} of the decisions as the option that they name.")
    say(f"  {found['rejected_from_weak']:.1%} of the rejected sides were written by the weak model.")
    if found["rejected_reads_otherwise"]:
        share = f"{found['rejected_reads_otherwise']:.1%}"
        say(f"  {share} of the rejected sides name an option other than the predictor reads.")
