"""Checks of answers to scenes: decisions, predictions and baselines, each row joined to its scene by id."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.artefacts.schema import VARIANTS
from usermirrorer.data.audit.checks.joins import scenes_beside, with_scene
from usermirrorer.data.audit.checks.result import MAX_BAD_ROWS, BadRow, Check, verdict
from usermirrorer.data.audit.checks.rules import RowRules, Rule, bad_rows, missing_values


TOLERANCE = 1e-5
"""Probabilities are rounded to six digits, so their sum may be off by this much per option."""

PLACE = {"_file": pl.String, "_row": pl.Int64, "scene_id": pl.String}
SUMS = dict.fromkeys(("rows", "sum", "squares", "no_label", "cut_off"), pl.Int64)
TOTALS = pl.Schema({"key": pl.UInt64, **PLACE, **SUMS})
"""One row per scene: the place of its first row, its number of rows, and sums over them."""


def check_decisions(artefact: Artefact) -> list[Check]:
    """Rows, their scenes, n decisions per scene, and how they ended."""
    behavior, count = pl.col("behavior"), pl.col("options")
    rules = [
        *_required("variant", "model", "sample", "text", "finish_reason"),
        _one_of("finish_reason", ["stop", "length"]),
        _variant_rule(artefact),
        Rule("scenes", ~behavior.is_between(0, count - 1), pl.format("names option {} of {}", behavior, count)),
    ]
    scenes = scenes_beside(artefact, "train")
    checks, totals = _read(artefact, rules, scenes)
    samples = artefact.content.get("recipe", {}).get("samples") or int(totals["rows"].max() or 0)  # type: ignore[arg-type]
    return [
        *checks,
        _check_each_once(artefact, "samples", totals, samples),
        _check_coverage(artefact, totals, scenes),
        _check_endings(artefact, totals),
    ]


def check_predictions(artefact: Artefact) -> list[Check]:
    """Rows, their scenes and decisions, and whether probabilities are in 0 to 1 and sum to 1."""
    rules = [*_required("variant", "sample", "predictor", "probs"), _variant_rule(artefact), *_probability_rules()]
    scenes = scenes_beside(artefact, "train")
    checks, totals = _read(artefact, rules, scenes)
    decisions = artefact.beside("decisions", artefact.part)
    if decisions is None:
        return [*checks, Check(artefact.name, "decisions", "skipped", "no decisions beside it")]
    decided = _read(decisions, [], scenes.clear())[1]
    both = totals.join(decided, on="key", how="left", suffix="_decided")
    extra = both.filter(pl.col("rows_decided").is_null() | (pl.col("rows") > pl.col("rows_decided")))
    scored, total, too_long = int(totals["rows"].sum()), int(decided["rows"].sum()), _too_long(artefact)
    summary = f"{scored:,} of {total:,} are scored; {too_long:,} were too long"
    bad = _bad_rows(extra, "its scene has more predictions than decisions")
    failed = len(extra) or total - scored != too_long
    return [*checks, Check(artefact.name, "decisions", "failed" if failed else "ok", summary, bad)]


def check_baselines(artefact: Artefact) -> list[Check]:
    """Rows, their scenes, every baseline once per scene, and whether probabilities are in 0 to 1 and sum to 1."""
    names = sorted(artefact.content.get("accuracy", {}))
    rules = [*_required("baseline", "probs"), *_probability_rules()]
    if names:
        rules.append(_one_of("baseline", names))
    scenes = scenes_beside(artefact, artefact.part)
    checks, totals = _read(artefact, rules, scenes, names)
    if names:
        checks.append(_check_each_once(artefact, "each once", totals, len(names)))
    return [*checks, _check_coverage(artefact, totals, scenes)]


def _required(*columns: str) -> list[Rule]:
    return [Rule("values", pl.col("key") == 0, pl.lit("scene_id is missing or not an id")), *missing_values(*columns)]


def _one_of(column: str, allowed: Sequence[str]) -> Rule:
    return Rule("values", ~pl.col(column).is_in(allowed), pl.format(f"{column} is {{}}", pl.col(column)))


def _variant_rule(artefact: Artefact) -> Rule:
    return _one_of("variant", [artefact.part] if artefact.part else VARIANTS)


def _probability_rules() -> list[Rule]:
    probs, count = pl.col("probs").list, pl.col("options")
    outside, total = probs.eval(~pl.element().is_between(0, 1).fill_null(False)).list.any(), probs.sum()
    off = (total - 1).abs() > TOLERANCE * probs.len()
    reasons = [
        (probs.len() == 0, pl.lit("probs is empty")),
        (probs.len() != count, pl.format("{} probabilities for {} options", probs.len(), count)),
        (outside, pl.lit("one is not in 0 to 1")),
        (off, pl.format("they sum to {}", total.round(4))),
    ]
    return [Rule("probabilities", bad, reason) for bad, reason in reasons]


def _read(
    artefact: Artefact, rules: Sequence[Rule], scenes: pl.DataFrame, baselines: Sequence[str] = ()
) -> tuple[list[Check], pl.DataFrame]:
    """The rules' checks of all rows, each joined to its scene; and TOTALS of each scene.

    A baseline counts as the sample with its index in `baselines`.
    """
    if len(scenes):
        rules = [*rules, Rule("scenes", pl.col("options").is_null(), pl.lit("no such scene beside it"))]
    row_rules, parts = RowRules(rules), [pl.DataFrame(schema=TOTALS)]
    index = {name: index for index, name in enumerate(baselines)}
    no, sample = pl.lit(False), pl.col("sample")
    columns = {"rows": pl.lit(1), "sum": sample, "squares": sample**2, "no_label": no, "cut_off": no}
    if artefact.kind == "decisions":
        columns |= {"no_label": pl.col("behavior").is_null(), "cut_off": pl.col("finish_reason") == "length"}
    for batch in artefact.rows():
        frame = with_scene(batch, scenes)
        if artefact.kind == "baselines":
            number = pl.col("baseline").replace_strict(index, default=-1, return_dtype=pl.Int64)
            frame = frame.with_columns(sample=number)
        row_rules.add(frame)
        parts.append(_per_scene(frame.select("key", *PLACE, **columns).cast(TOTALS)))
    return row_rules.checks(artefact.name), _per_scene(pl.concat(parts))


def _per_scene(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by("key", maintain_order=True).agg(pl.first(*PLACE), pl.sum(*SUMS))


def _check_each_once(artefact: Artefact, check: str, totals: pl.DataFrame, n: int) -> Check:
    """Whether every scene has each of 0 … n − 1 once: by their number, their sum and their sum of squares."""
    rows, total, squares = n, n * (n - 1) // 2, (n - 1) * n * (2 * n - 1) // 6
    wrong = totals.filter((pl.col("rows") != rows) | (pl.col("sum") != total) | (pl.col("squares") != squares))
    summary = f"{n} per scene, each once"
    if len(wrong):
        summary = f"{len(wrong):,} of {len(totals):,} scenes don't have each of {n} once"
    return verdict(artefact.name, check, _bad_rows(wrong, f"its scene does not have each of {n} once"), summary)


def _check_coverage(artefact: Artefact, totals: pl.DataFrame, scenes: pl.DataFrame) -> Check:
    """Whether every scene beside the artefact has rows, except those that the manifest counts as too long."""
    if not len(scenes):
        return Check(artefact.name, "scenes", "skipped", "no scenes beside it")
    missing, too_long = scenes.join(totals, on="key", how="anti"), _too_long(artefact)
    summary = f"{len(scenes) - len(missing):,} of {len(scenes):,} have rows; {too_long:,} were too long"
    if len(missing) == too_long:
        return Check(artefact.name, "coverage", "ok", summary)
    bad = tuple(BadRow("scene", f"{key:016x}", "has no row") for key in missing["key"].head(MAX_BAD_ROWS))
    return Check(artefact.name, "coverage", "failed", summary, bad)


def _check_endings(artefact: Artefact, totals: pl.DataFrame) -> Check:
    """Whether as many were cut off or name no option as the manifest says."""
    recorded = artefact.content.get("counts", {})
    found = {reason: int(totals[reason].sum()) for reason in ("cut_off", "no_label")}
    summary = ", ".join(f"{reason} {count:,}" for reason, count in found.items())
    wrong = [reason for reason, count in found.items() if recorded.get(reason, count) != count]
    bad = [BadRow("manifest", "", f"says {reason} {recorded[reason]:,}") for reason in wrong]
    return verdict(artefact.name, "endings", bad, summary)


def _too_long(artefact: Artefact) -> int:
    """How many rows the manifest counts as left out because their text was too long."""
    return artefact.content.get("counts", {}).get("too_long", 0)


def _bad_rows(totals: pl.DataFrame, reason: str) -> tuple[BadRow, ...]:
    return tuple(bad_rows(totals.head(MAX_BAD_ROWS), pl.lit(reason)))
