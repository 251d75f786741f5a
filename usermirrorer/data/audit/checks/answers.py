"""Checks of answers to scenes: decisions, predictions and baselines, each row joined to its scene by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks.result import MAX_BAD_ROWS, BadRow, Check, Result
from usermirrorer.data.audit.checks.rules import (
    Rule,
    Violations,
    bad_rows,
    count_violations,
    missing_values,
    no_violations,
    rule_checks,
)
from usermirrorer.data.audit.checks.splits import scene_key


TOLERANCE = 1e-5
"""Probabilities are rounded to six digits, so their sum may be off by this much per option."""

TOTALS = {
    "key": pl.UInt64, "_file": pl.String, "_row": pl.Int64, "scene_id": pl.String, "rows": pl.Int64,
    "sum": pl.Int64, "squares": pl.Int64, "no_label": pl.Int64, "cut_off": pl.Int64,
}  # fmt: skip
"""One row per scene: the place of its first row, its number of rows, and sums over them."""


def check_decisions(artefact: Artefact) -> list[Check]:
    """Rows, their scenes, n decisions per scene, and how they ended."""
    behavior, count = pl.col("behavior"), pl.col("choice_cnt")
    rules = [
        *_required("variant", "model", "sample", "text", "finish_reason"),
        _one_of("finish_reason", ["stop", "length"]),
        _variant_rule(artefact),
        Rule("scenes", ~behavior.is_between(0, count - 1), pl.format("names option {} of {}", behavior, count)),
    ]
    scenes = _scenes(artefact, "train")
    violations, totals = _read(artefact, rules, scenes)
    content, name = artefact.content or {}, artefact.name
    samples = content.get("recipe", {}).get("samples") or int(totals["rows"].max() or 0)  # type: ignore[arg-type]
    return [
        *rule_checks(name, violations),
        _check_each_once(name, "samples", totals, samples),
        _check_coverage(name, totals, scenes, content.get("counts", {}).get("too_long", 0)),
        _check_endings(name, totals, content.get("counts", {})),
    ]


def check_predictions(artefact: Artefact) -> list[Check]:
    """Rows, their scenes and decisions, and whether probabilities are in 0 to 1 and sum to 1."""
    rules = [*_required("variant", "sample", "predictor", "probs"), _variant_rule(artefact), *_probability_rules()]
    violations, totals = _read(artefact, rules, _scenes(artefact, "train"))
    checks = rule_checks(artefact.name, violations)
    decisions = artefact.beside("decisions", artefact.part)
    if decisions is None:
        return [*checks, Check(artefact.name, "decisions", "skipped", "no decisions beside it")]
    decided = _read(decisions, [], None)[1]
    both = totals.join(decided, on="key", how="left", suffix="_decided")
    extra = both.filter(pl.col("rows_decided").is_null() | (pl.col("rows") > pl.col("rows_decided")))
    scored, total = int(totals["rows"].sum()), int(decided["rows"].sum())
    too_long = (artefact.content or {}).get("counts", {}).get("too_long", 0)
    result: Result = "failed" if len(extra) or total - scored != too_long else "ok"
    summary = f"{scored:,} of {total:,} are scored; {too_long:,} were too long"
    bad = _bad_rows(extra, "its scene has more predictions than decisions")
    return [*checks, Check(artefact.name, "decisions", result, summary, bad)]


def check_baselines(artefact: Artefact) -> list[Check]:
    """Rows, their scenes, every baseline once per scene, and whether probabilities are in 0 to 1 and sum to 1."""
    names = sorted((artefact.content or {}).get("accuracy", {}))
    rules = [*_required("baseline", "probs"), *_probability_rules()]
    if names:
        rules.append(_one_of("baseline", names))
    scenes = _scenes(artefact, artefact.part)
    violations, totals = _read(artefact, rules, scenes, names)
    checks = rule_checks(artefact.name, violations)
    if names:
        checks.append(_check_each_once(artefact.name, "each once", totals, len(names)))
    return [*checks, _check_coverage(artefact.name, totals, scenes, 0)]


def _required(*columns: str) -> list[Rule]:
    return [Rule("values", pl.col("key") == 0, pl.lit("scene_id is missing or not an id")), *missing_values(*columns)]


def _one_of(column: str, allowed: Sequence[str]) -> Rule:
    return Rule("values", ~pl.col(column).is_in(allowed), pl.format(f"{column} is {{}}", pl.col(column)))


def _variant_rule(artefact: Artefact) -> Rule:
    return _one_of("variant", [artefact.part] if artefact.part else ["strong", "weak"])


def _probability_rules() -> list[Rule]:
    probs, count = pl.col("probs").list, pl.col("choice_cnt")
    outside, total = probs.eval(~pl.element().is_between(0, 1).fill_null(False)).list.any(), probs.sum()
    other_length = pl.format("{} probabilities for {} options", probs.len(), count)
    return [
        Rule("probabilities", probs.len() == 0, pl.lit("probs is empty")),
        Rule("probabilities", probs.len() != count, other_length),
        Rule("probabilities", outside, pl.lit("one is not in 0 to 1")),
        Rule(
            "probabilities", (total - 1).abs() > TOLERANCE * probs.len(), pl.format("they sum to {}", total.round(4))
        ),
    ]


def _scenes(artefact: Artefact, split: str) -> pl.DataFrame | None:
    """Key and number of options of the scenes beside the artefact, None if there are none."""
    scenes = artefact.beside("scenes", split) if split else None
    if scenes is None:
        return None
    columns = ("scene_id", "choice_cnt")
    parts = [rows.select("choice_cnt", key=scene_key(pl.col("scene_id"))) for rows in scenes.rows(columns)]
    return pl.concat(parts) if parts else pl.DataFrame(schema={"choice_cnt": pl.Int64, "key": pl.UInt64})


def _read(
    artefact: Artefact, rules: Sequence[Rule], scenes: pl.DataFrame | None, baselines: Sequence[str] = ()
) -> tuple[dict[str, Violations], pl.DataFrame]:
    """The rules' violations over all rows, each joined to its scene's `choice_cnt`; and TOTALS of each scene.

    A baseline counts as the sample with its index in `baselines`.
    """
    rules = list(rules)
    if scenes is not None:
        rules.append(Rule("scenes", pl.col("choice_cnt").is_null(), pl.lit("no such scene beside it")))
    violations, parts = no_violations(rules), []
    for batch in artefact.rows():
        frame = batch.with_columns(key=scene_key(pl.col("scene_id")))
        if scenes is None:
            frame = frame.with_columns(choice_cnt=pl.lit(None, pl.Int64))
        else:
            frame = frame.join(scenes, on="key", how="left", maintain_order="left")
        if artefact.kind == "baselines":
            index = {name: index for index, name in enumerate(baselines)}
            frame = frame.with_columns(
                sample=pl.col("baseline").replace_strict(index, default=-1, return_dtype=pl.Int64)
            )
        count_violations(rules, frame, violations)
        parts.append(_totals(frame))
    if not parts:
        return violations, pl.DataFrame(schema=TOTALS)
    sums = [pl.col(name).sum() for name in ("rows", "sum", "squares", "no_label", "cut_off")]
    scenes_of_all = pl.concat(parts).group_by("key", maintain_order=True)
    return violations, scenes_of_all.agg(pl.first("_file", "_row", "scene_id"), *sums)


def _totals(frame: pl.DataFrame) -> pl.DataFrame:
    """TOTALS of the scenes in a batch."""
    decisions = "behavior" in frame.columns
    return frame.group_by("key", maintain_order=True).agg(
        pl.first("_file", "_row", "scene_id"),
        pl.len().cast(pl.Int64).alias("rows"),
        pl.col("sample").sum().alias("sum"),
        (pl.col("sample") ** 2).sum().alias("squares"),
        (pl.col("behavior").is_null() if decisions else pl.lit(False)).sum().alias("no_label"),
        (pl.col("finish_reason") == "length" if decisions else pl.lit(False)).sum().alias("cut_off"),
    )


def _check_each_once(name: str, check: str, totals: pl.DataFrame, n: int) -> Check:
    """Whether every scene has each of 0 … n − 1 once: by their number, their sum and their sum of squares."""
    rows, total, squares = n, n * (n - 1) // 2, (n - 1) * n * (2 * n - 1) // 6
    wrong = totals.filter((pl.col("rows") != rows) | (pl.col("sum") != total) | (pl.col("squares") != squares))
    if not len(wrong):
        return Check(name, check, "ok", f"{n} per scene, each once")
    summary = f"{len(wrong):,} of {len(totals):,} scenes don't have each of {n} once"
    return Check(name, check, "failed", summary, _bad_rows(wrong, f"its scene does not have each of {n} once"))


def _check_coverage(name: str, totals: pl.DataFrame, scenes: pl.DataFrame | None, too_long: int) -> Check:
    """Whether every scene beside the artefact has rows, except those that the manifest counts as too long."""
    if scenes is None:
        return Check(name, "scenes", "skipped", "no scenes beside it")
    missing = scenes.join(totals, on="key", how="anti")
    summary = f"{len(scenes) - len(missing):,} of {len(scenes):,} have rows; {too_long:,} were too long"
    if len(missing) == too_long:
        return Check(name, "coverage", "ok", summary)
    bad = tuple(BadRow("scene", f"{key:016x}", "has no row") for key in missing["key"].head(MAX_BAD_ROWS))
    return Check(name, "coverage", "failed", summary, bad)


def _check_endings(name: str, totals: pl.DataFrame, recorded: Mapping[str, int]) -> Check:
    """Whether as many were cut off or name no option as the manifest says."""
    found = {reason: int(totals[reason].sum()) for reason in ("cut_off", "no_label")}
    summary = ", ".join(f"{reason} {count:,}" for reason, count in found.items())
    wrong = [reason for reason, count in found.items() if recorded.get(reason, count) != count]
    bad = tuple(BadRow("manifest", "", f"says {reason} {recorded[reason]:,}") for reason in wrong)
    return Check(name, "endings", "failed" if wrong else "ok", summary, bad)


def _bad_rows(totals: pl.DataFrame, reason: str) -> tuple[BadRow, ...]:
    return tuple(bad_rows(totals.head(MAX_BAD_ROWS), pl.lit(reason)))
