"""Checks of preference pairs: each row's messages and letters, its scene, and the balance of the letters."""

from __future__ import annotations

import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks.joins import scenes_beside, with_scene
from usermirrorer.data.audit.checks.result import Check
from usermirrorer.data.audit.checks.rules import RowRules, Rule, check_rows, missing_values, repeats
from usermirrorer.data.audit.checks.splits import ALPHA
from usermirrorer.llm.prompts import BEHAVIOR, LABELS
from usermirrorer.wording import describe_probe


SIDES = ("chosen", "rejected")
REQUIRED = ("scene_id", "dataset", "user_id", "item_id", "timestamp", "choice_cnt", "score", "accepted")
ANSWER = r"(?s)^(.*\S.*)\nBehavior: \[([A-Z])\]$"
"""A whole assistant turn, a decision process and then the label, so nothing may follow the label."""

BLANK_OPTION = r"(?m)^\[[A-Z]\][ \t]*$"
"""An option whose text was taken out."""


def check_pairs(artefact: Artefact) -> list[Check]:
    """All checks of pairs; those that need scenes or a manifest are skipped if it is missing."""
    rules, name = RowRules(_row_rules(published=not artefact.content)), artefact.name
    scenes, test_scenes = scenes_beside(artefact, "train"), scenes_beside(artefact, "test")
    letters: list[pl.DataFrame] = []
    keys: list[pl.DataFrame] = []
    for batch in artefact.rows():
        frame = with_scene(batch, scenes).with_columns(map(_letter, SIDES))
        rules.add(frame)
        letters.append(frame.select("choice_cnt", chosen="letter_chosen", rejected="letter_rejected"))
        keys.append(frame.select("key", "scene_id", "_file", "_row", known=pl.col("item_pos").is_not_null()))
    checks = rules.checks(name)
    if not keys:
        return [*checks, Check(name, "balance", "skipped", "there are no rows")]
    rows = pl.concat(keys)
    checks.append(check_rows(name, "unique", rows, repeats("key"), "is of the same scene as an earlier row"))
    if len(scenes):
        checks.append(check_rows(name, "scenes", rows, ~pl.col("known"), "is of no train scene beside it"))
    else:
        checks.append(Check(name, "scenes", "skipped", "no scenes beside it"))
    if len(test_scenes):
        in_test = pl.col("key").is_in(test_scenes["key"].implode())
        checks.append(check_rows(name, "disjoint", rows, in_test, "is of a test scene"))
    return [*checks, _check_balance(name, pl.concat(letters)), *_check_manifest(artefact)]


def _row_rules(published: bool) -> list[Rule]:
    prompt, count = pl.col("prompt").list, pl.col("choice_cnt")
    roles = prompt.eval(pl.element().struct.field("role")).list.join(",")
    content = pl.element().struct.field("content").fill_null("").str.strip_chars()
    blank_option = prompt.last().struct.field("content").str.contains(BLANK_OPTION)
    rules = []
    for name in ("prompt", *SIDES):
        messages = pl.col(name).list
        empty, blank = messages.len().fill_null(0) == 0, messages.eval(content == "").list.any()
        rules += [
            Rule("messages", empty, pl.lit(f"{name} is missing or not a list of messages")),
            Rule("messages", blank, pl.lit(f"a message of {name} is blank, as in withheld text")),
        ]
    rules += [
        Rule("messages", ~roles.is_in(["system,user", "user"]), pl.format("the prompt's roles are {}", roles)),
        Rule("messages", blank_option, pl.lit("an option is blank, as in withheld text")),
    ]
    for side in SIDES:
        turn, letter, column = pl.col(side).list, pl.col(f"letter_{side}"), pl.col(f"behavior_{side}")
        one_answer = (turn.len() == 1) & (turn.first().struct.field("role") == "assistant")
        mismatch = pl.format(f"behavior_{side} is {{}}, the text ends in {{}}", column, letter)
        out_of_range = pl.format(f"{side} names {{}} of {{}} options", letter, count)
        rules += [
            Rule("messages", ~one_answer, pl.lit(f"{side} is not one assistant message")),
            Rule("letters", letter.is_null(), pl.lit(f"{side} does not end in `{BEHAVIOR}X]`")),
            Rule("letters", column != letter, mismatch),
            Rule("letters", _index(side) >= count, out_of_range),
        ]
    same = pl.col("letter_chosen") == pl.col("letter_rejected")
    lengths = pl.format("choice_cnt is {}, the scene has {}", count, pl.col("options"))
    rules += [
        Rule("letters", same, pl.lit("both sides name the same option")),
        Rule("choice", _index("chosen") != pl.col("item_pos"), pl.lit("chosen does not name the scene's choice")),
        Rule("choice", pl.col("options") != count, lengths),
    ]
    return rules if published else [*rules, *missing_values(*REQUIRED)]


def _letter(side: str) -> pl.Expr:
    """The label at the end of a side's message; null if it does not end in one."""
    text = pl.col(side).list.last().struct.field("content")
    return text.str.extract(ANSWER, 2).alias(f"letter_{side}")


def _index(side: str) -> pl.Expr:
    labels = {label: index for index, label in enumerate(LABELS)}
    return pl.col(f"letter_{side}").replace_strict(labels, default=None, return_dtype=pl.Int64)


def _check_balance(name: str, letters: pl.DataFrame) -> Check:
    """Whether a letter is chosen more or less often than it is rejected, in lists of one length (binomial test)."""
    from scipy.stats import binomtest

    sides = [letters.group_by("choice_cnt", pl.col(side).alias("letter")).len(side) for side in SIDES]
    counts = sides[0].join(sides[1], on=["choice_cnt", "letter"], how="full", coalesce=True, nulls_equal=True)
    rows = counts.drop_nulls("letter").fill_null(0).sort("choice_cnt", "letter").to_dicts()
    if not rows:
        return Check(name, "balance", "skipped", "no row names letters")
    p_values = [binomtest(row["chosen"], row["chosen"] + row["rejected"]).pvalue for row in rows]
    lowest, worst = min(zip(p_values, rows, strict=True), key=lambda pair: pair[0])
    p = min(1.0, lowest * len(rows))
    summary = (
        f"most uneven: {worst['letter']}, chosen {worst['chosen']:,} times and rejected {worst['rejected']:,}; "
        f"lowest p = {p:.2g} of {len(rows)} tests"
    )
    return Check(name, "balance", "warning" if p < ALPHA else "ok", summary)


def _check_manifest(artefact: Artefact) -> list[Check]:
    """What `distill` recorded: the probe of every domain, and its warnings."""
    if not artefact.content:
        return []
    probes = artefact.content.get("probe") or {"any domain": None}
    missing = [domain for domain, probe in probes.items() if not probe]
    if missing:
        checks = [Check(artefact.name, "probe", "failed", f"no probe of {', '.join(missing)}")]
    else:
        summary = "; ".join(f"{domain} {describe_probe(probe)}" for domain, probe in probes.items())
        warned = any(probe["warning"] for probe in probes.values())
        checks = [Check(artefact.name, "probe", "warning" if warned else "ok", summary)]
    warnings = artefact.content.get("warnings") or []
    rules = artefact.content.get("diagnostics", {}).get("rules", {})
    found = ", ".join(f"{name} {rule['value']:.2f}" for name, rule in rules.items()) or "no rule was tried"
    summary = "; ".join(["chosen told from rejected, where one half is chance: " + found, *warnings])
    return [*checks, Check(artefact.name, "distill", "warning" if warnings else "ok", summary)]
