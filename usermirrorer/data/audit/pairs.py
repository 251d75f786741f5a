"""Checks of preference pairs: messages and letters of each row, where the scenes are from, balance of the letters."""

from __future__ import annotations

import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks import SHOWN, Check, Rule, apply, bad_rows, checked, tallies
from usermirrorer.data.audit.splits import ALPHA, scene_key, told_probe
from usermirrorer.llm.prompts import BEHAVIOR, LABELS


SIDES = ("chosen", "rejected")
ANSWER = r"(?s)^(.*\S.*)\nBehavior: \[([A-Z])\]$"
"""An assistant turn: a decision process and the label; the whole of it, so that nothing stands behind the label."""

BLANK_OPTION = r"(?m)^\[[A-Z]\][ \t]*$"
"""An option whose text was taken out."""


def check_pairs(artefact: Artefact) -> list[Check]:
    """All checks of pairs; those that need scenes or a manifest are skipped where there is none."""
    rules = _row_rules(published=artefact.content is None)
    counted, name = tallies(rules), artefact.name
    scenes = _choices(_scenes(artefact, "train"))
    letters: list[pl.DataFrame] = []
    keys: list[pl.DataFrame] = []
    for batch in artefact.rows():
        frame = batch.with_columns(*map(_letter, SIDES), key=scene_key(pl.col("scene_id")))
        if scenes is None:
            frame = frame.with_columns(item_pos=pl.lit(None, pl.Int64), options=pl.lit(None, pl.Int64))
        else:
            frame = frame.join(scenes, on="key", how="left", maintain_order="left")
        apply(rules, frame, counted)
        letters.append(frame.select("choice_cnt", chosen="letter_chosen", rejected="letter_rejected"))
        keys.append(frame.select("key", "scene_id", "_file", "_row", known=pl.col("item_pos").is_not_null()))
    checks = checked(name, counted)
    if not keys:
        return [*checks, Check(name, "balance", "skipped", "there are no rows")]
    rows = pl.concat(keys)
    again = (pl.col("key") != 0) & ~pl.col("key").is_first_distinct()
    checks.append(_failing(name, "unique", rows, again, "is of the scene of an earlier row"))
    if scenes is None:
        checks.append(Check(name, "scenes", "skipped", "there are no scenes beside it"))
    else:
        checks.append(_failing(name, "scenes", rows, ~pl.col("known"), "is of no train scene beside it"))
    test = _choices(_scenes(artefact, "test"))
    if test is not None:
        in_test = pl.col("key").is_in(test["key"].implode())
        checks.append(_failing(name, "disjoint", rows, in_test, "is of a test scene"))
    return [*checks, _balance(name, pl.concat(letters)), *_manifest(artefact)]


def _row_rules(published: bool) -> list[Rule]:
    prompt, count = pl.col("prompt").list, pl.col("choice_cnt")
    roles = prompt.eval(pl.element().struct.field("role")).list.join(",")
    content = pl.element().struct.field("content").fill_null("").str.strip_chars()
    user = prompt.last().struct.field("content")
    rules = []
    for name in ("prompt", *SIDES):
        empty = pl.col(name).is_null() | (pl.col(name).list.len() == 0)
        rules.append(Rule("messages", empty, pl.lit(f"{name} is missing or no list of messages")))
        blank = pl.col(name).list.eval(content == "").list.any()
        rules.append(Rule("messages", blank, pl.lit(f"a message of {name} is blank, as where text is withheld")))
    rules += [
        Rule("messages", ~roles.is_in(["system,user", "user"]), pl.format("the prompt's roles are {}", roles)),
        Rule("messages", user.str.contains(BLANK_OPTION), pl.lit("an option is blank, as where text is withheld")),
    ]
    for side in SIDES:
        turn, letter, column = pl.col(side).list, pl.col(f"letter_{side}"), pl.col(f"behavior_{side}")
        one = (turn.len() == 1) & (turn.first().struct.field("role") == "assistant")
        other = pl.format(f"behavior_{side} is {{}}, the text ends in {{}}", column, letter)
        beyond = pl.format(f"{side} names {{}} of {{}} options", letter, count)
        rules += [
            Rule("messages", ~one, pl.lit(f"{side} is not one assistant message")),
            Rule("letters", letter.is_null(), pl.lit(f"{side} does not end in `{BEHAVIOR}X]`")),
            Rule("letters", column != letter, other),
            Rule("letters", _index(side) >= count, beyond),
        ]
    same = pl.col("letter_chosen") == pl.col("letter_rejected")
    lengths = pl.format("choice_cnt is {}, the scene has {}", count, pl.col("options"))
    rules += [
        Rule("letters", same, pl.lit("both sides name the same option")),
        Rule("choice", _index("chosen") != pl.col("item_pos"), pl.lit("chosen does not name the scene's choice")),
        Rule("choice", pl.col("options") != count, lengths),
    ]
    if not published:
        needed = ("scene_id", "dataset", "user_id", "item_id", "timestamp", "choice_cnt", "score", "accepted")
        rules += [Rule("values", pl.col(n).is_null(), pl.lit(f"{n} is missing or of another type")) for n in needed]
    return rules


def _letter(side: str) -> pl.Expr:
    """The label that a side's message ends in; null where it ends otherwise."""
    text = pl.col(side).list.last().struct.field("content")
    return text.str.extract(ANSWER, 2).alias(f"letter_{side}")


def _index(side: str) -> pl.Expr:
    labels = {label: index for index, label in enumerate(LABELS)}
    return pl.col(f"letter_{side}").replace_strict(labels, default=None, return_dtype=pl.Int64)


def _scenes(artefact: Artefact, split: str) -> list[Artefact]:
    """The scenes of all domains of the pairs, where they lie beside them."""
    found = [artefact.beside("scenes", split, domain) for domain in artefact.domains]
    return [scenes for scenes in found if scenes is not None]


def _choices(scenes: list[Artefact]) -> pl.DataFrame | None:
    """Key, choice and number of options of scenes; None where there are none."""
    columns = ("scene_id", "item_pos", "choice_cnt")
    parts = [
        rows.select("item_pos", key=scene_key(pl.col("scene_id")), options="choice_cnt")
        for one in scenes
        for rows in one.rows(columns)
    ]
    return pl.concat(parts) if parts else None


def _failing(name: str, check: str, rows: pl.DataFrame, bad: pl.Expr, reason: str) -> Check:
    wrong = rows.filter(bad)
    told = f"{len(wrong):,} of {len(rows):,} rows" if len(wrong) else f"{len(rows):,} rows"
    first = tuple(bad_rows(wrong.head(SHOWN).with_columns(_reason=pl.lit(reason))))
    return Check(name, check, "failed" if len(wrong) else "ok", told, first)


def _balance(name: str, letters: pl.DataFrame) -> Check:
    """Whether some letter is chosen oftener than it is rejected, or less often, in lists of one length (binomial)."""
    from scipy.stats import binomtest

    sides = [letters.group_by("choice_cnt", pl.col(side).alias("letter")).len(side) for side in SIDES]
    counts = sides[0].join(sides[1], on=["choice_cnt", "letter"], how="full", coalesce=True, nulls_equal=True)
    counts = counts.drop_nulls("letter").fill_null(0).sort("choice_cnt", "letter")
    if not len(counts):
        return Check(name, "balance", "skipped", "no row names letters")
    values = [binomtest(row["chosen"], row["chosen"] + row["rejected"]).pvalue for row in counts.to_dicts()]
    worst = min(range(len(values)), key=values.__getitem__)
    row = counts.row(worst, named=True)
    least = min(1.0, values[worst] * len(values))
    told = (
        f"most uneven: {row['letter']}, chosen {row['chosen']:,} times and rejected {row['rejected']:,}; "
        f"p = {least:.2g}, least of {len(values)}"
    )
    return Check(name, "balance", "warning" if least < ALPHA else "ok", told)


def _manifest(artefact: Artefact) -> list[Check]:
    """What `distill` wrote down: the probe of every domain, and its warnings."""
    if artefact.content is None:
        return []
    probes = artefact.content.get("probe") or {}
    missing = [domain for domain, probe in probes.items() if not probe] if probes else ["any domain"]
    if missing:
        checks = [Check(artefact.name, "probe", "failed", f"there is none of {', '.join(missing)}")]
    else:
        told = "; ".join(f"{domain} {told_probe(probe)}" for domain, probe in probes.items())
        warned = any(probe["warning"] for probe in probes.values())
        checks = [Check(artefact.name, "probe", "warning" if warned else "ok", told)]
    warnings = artefact.content.get("warnings") or []
    told = (
        f"distill warned: {'; '.join(warnings)}" if warnings else "length, letter, writer, popularity tell too little"
    )
    return [*checks, Check(artefact.name, "shortcuts", "warning" if warnings else "ok", told)]
