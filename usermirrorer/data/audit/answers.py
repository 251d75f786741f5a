"""Checks of what was answered to scenes: decisions, predictions and baselines, each row joined to its scene by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks import SHOWN, BadRow, Check, Result, Rule, Tally, apply, bad_rows, checked, tallies
from usermirrorer.data.audit.splits import scene_key


TOLERANCE = 1e-5
"""Probabilities are rounded to six digits; more than this per option is no rounding."""

GROUPS = {
    "key": pl.UInt64, "_file": pl.String, "_row": pl.Int64, "scene_id": pl.String, "rows": pl.Int64,
    "sum": pl.Int64, "squares": pl.Int64, "no_label": pl.Int64, "cut_off": pl.Int64,
}  # fmt: skip
"""What the rows of one scene add up to."""


def check_decisions(artefact: Artefact) -> list[Check]:
    """Rows, their scenes, n decision processes a scene, and how they ended."""
    behavior, count = pl.col("behavior"), pl.col("choice_cnt")
    rules = [
        *_values("variant", "model", "sample", "text", "finish_reason"),
        Rule("values", ~pl.col("finish_reason").is_in(["stop", "length"]), _said("finish_reason")),
        *_variant(artefact),
        Rule("scenes", ~behavior.is_between(0, count - 1), pl.format("names option {} of {}", behavior, count)),
    ]
    scenes = _scenes(artefact, "train")
    counted, asked = _joined(artefact, rules, scenes)
    content, name = artefact.content or {}, artefact.name
    samples = content.get("recipe", {}).get("samples") or int(asked["rows"].max() or 0)  # type: ignore[arg-type]
    return [
        *checked(name, counted),
        _each_once(name, "samples", asked, samples),
        _covered(name, asked, scenes, content.get("counts", {}).get("too_long", 0)),
        _endings(name, asked, content.get("counts", {})),
    ]


def check_predictions(artefact: Artefact) -> list[Check]:
    """Rows, their scenes and decisions, and probabilities that are such."""
    rules = [*_values("variant", "sample", "predictor", "probs"), *_variant(artefact), *_probability_rules()]
    counted, scored = _joined(artefact, rules, _scenes(artefact, "train"))
    checks = checked(artefact.name, counted)
    decisions = artefact.beside("decisions", artefact.part)
    if decisions is None:
        return [*checks, Check(artefact.name, "decisions", "skipped", "there are no decisions beside it")]
    decided = _joined(decisions, [], None)[1]
    both = scored.join(decided, on="key", how="left", suffix="_decided")
    odd = both.filter(pl.col("rows_decided").is_null() | (pl.col("rows") > pl.col("rows_decided")))
    left = int(decided["rows"].sum()) - int(scored["rows"].sum())
    expected = (artefact.content or {}).get("counts", {}).get("too_long", 0)
    told = f"{scored['rows'].sum():,} of {decided['rows'].sum():,} are scored; {expected:,} were too long"
    result: Result = "failed" if len(odd) or left != expected else "ok"
    return [*checks, Check(artefact.name, "decisions", result, told, _first(odd, "has more than its decisions"))]


def check_baselines(artefact: Artefact) -> list[Check]:
    """Rows, their scenes, every baseline once a scene, and probabilities that are such."""
    names = sorted((artefact.content or {}).get("accuracy", {}))
    rules = [*_values("baseline", "probs"), *_probability_rules()]
    if names:
        rules.append(Rule("values", ~pl.col("baseline").is_in(names), _said("baseline")))
    scenes = _scenes(artefact, artefact.part)
    counted, told = _joined(artefact, rules, scenes, names)
    checks = checked(artefact.name, counted)
    if names:
        checks.append(_each_once(artefact.name, "each once", told, len(names)))
    return [*checks, _covered(artefact.name, told, scenes, 0)]


def _values(*names: str) -> list[Rule]:
    missing = [Rule("values", pl.col(n).is_null(), pl.lit(f"{n} is missing or of another type")) for n in names]
    return [Rule("values", pl.col("key") == 0, pl.lit("scene_id is none")), *missing]


def _said(name: str) -> pl.Expr:
    return pl.format(f"{name} is {{}}", pl.col(name))


def _variant(artefact: Artefact) -> list[Rule]:
    known = [artefact.part] if artefact.part else ["strong", "weak"]
    return [Rule("values", ~pl.col("variant").is_in(known), _said("variant"))]


def _probability_rules() -> list[Rule]:
    probs, count = pl.col("probs").list, pl.col("choice_cnt")
    outside, total = probs.eval(~pl.element().is_between(0, 1).fill_null(False)).list.any(), probs.sum()
    summed = pl.format("they sum to {}", total.round(4))
    short = pl.format("{} probabilities for {} options", probs.len(), count)
    return [
        Rule("probabilities", probs.len() == 0, pl.lit("there is none")),
        Rule("probabilities", probs.len() != count, short),
        Rule("probabilities", outside, pl.lit("one is not in 0 to 1")),
        Rule("probabilities", (total - 1).abs() > TOLERANCE * probs.len(), summed),
    ]


def _scenes(artefact: Artefact, split: str) -> pl.DataFrame | None:
    """Key and number of options of the scenes that were asked, None where they are not beside the artefact."""
    scenes = artefact.beside("scenes", split) if split else None
    if scenes is None:
        return None
    columns = ("scene_id", "choice_cnt")
    parts = [rows.select("choice_cnt", key=scene_key(pl.col("scene_id"))) for rows in scenes.rows(columns)]
    return pl.concat(parts) if parts else pl.DataFrame(schema={"choice_cnt": pl.Int64, "key": pl.UInt64})


def _joined(
    artefact: Artefact, rules: list[Rule], scenes: pl.DataFrame | None, baselines: Sequence[str] = ()
) -> tuple[dict[str, Tally], pl.DataFrame]:
    """The rules' tallies over the rows with their scenes' `choice_cnt`, and what the rows of each scene add up to."""
    rules = list(rules)
    if scenes is not None:
        rules.append(Rule("scenes", pl.col("choice_cnt").is_null(), pl.lit("there is no such scene beside it")))
    counted, parts = tallies(rules), []
    for batch in artefact.rows():
        frame = batch.with_columns(key=scene_key(pl.col("scene_id")))
        if scenes is None:
            frame = frame.with_columns(choice_cnt=pl.lit(None, pl.Int64))
        else:
            frame = frame.join(scenes, on="key", how="left", maintain_order="left")
        if artefact.kind == "baselines":
            order = {name: index for index, name in enumerate(baselines)}
            frame = frame.with_columns(
                sample=pl.col("baseline").replace_strict(order, default=-1, return_dtype=pl.Int64)
            )
        ended = "behavior" in frame.columns
        apply(rules, frame, counted)
        parts.append(
            frame.group_by("key", maintain_order=True).agg(
                pl.first("_file", "_row", "scene_id"),
                pl.len().cast(pl.Int64).alias("rows"),
                pl.col("sample").sum().alias("sum"),
                (pl.col("sample") ** 2).sum().alias("squares"),
                (pl.col("behavior").is_null() if ended else pl.lit(False)).sum().alias("no_label"),
                (pl.col("finish_reason") == "length" if ended else pl.lit(False)).sum().alias("cut_off"),
            )
        )
    if not parts:
        return counted, pl.DataFrame(schema=GROUPS)
    sums = [pl.col(name).sum() for name in ("rows", "sum", "squares", "no_label", "cut_off")]
    every = pl.concat(parts).group_by("key", maintain_order=True)
    return counted, every.agg(pl.first("_file", "_row", "scene_id"), *sums)


def _each_once(name: str, check: str, rows: pl.DataFrame, n: int) -> Check:
    """Whether every scene has each of 0 … n − 1 once: as many, with their sum and their sum of squares."""
    wanted = (n, n * (n - 1) // 2, (n - 1) * n * (2 * n - 1) // 6)
    wrong = rows.filter(
        (pl.col("rows") != wanted[0]) | (pl.col("sum") != wanted[1]) | (pl.col("squares") != wanted[2])
    )
    told = f"{len(wrong):,} of {len(rows):,} scenes have other than {n}" if len(wrong) else f"{n} a scene, each once"
    return Check(
        name, check, "failed" if len(wrong) else "ok", told, _first(wrong, f"its scene has not each of {n} once")
    )


def _covered(name: str, rows: pl.DataFrame, scenes: pl.DataFrame | None, too_long: int) -> Check:
    """Whether every scene beside the artefact has rows, but for those that the manifest counts as too long."""
    if scenes is None:
        return Check(name, "scenes", "skipped", "there are no scenes beside it")
    missing = scenes.join(rows, on="key", how="anti")
    told = f"{len(scenes) - len(missing):,} of {len(scenes):,} have rows; {too_long:,} were too long"
    bad = tuple(BadRow("scene", f"{key:016x}", "has no row") for key in missing["key"].head(SHOWN))
    return Check(
        name,
        "coverage",
        "failed" if len(missing) != too_long else "ok",
        told,
        bad if bad and too_long != len(missing) else (),
    )


def _endings(name: str, rows: pl.DataFrame, recorded: Mapping[str, int]) -> Check:
    """How many were cut off or name no option, as the manifest has it."""
    found = {reason: int(rows[reason].sum()) for reason in ("cut_off", "no_label")}
    told = ", ".join(f"{reason} {count:,}" for reason, count in found.items())
    wrong = [reason for reason, count in found.items() if recorded.get(reason, count) != count]
    bad = tuple(BadRow("manifest", "", f"says {reason} {recorded[reason]:,}") for reason in wrong)
    return Check(name, "endings", "failed" if wrong else "ok", told, bad)


def _first(rows: pl.DataFrame, reason: str) -> tuple[BadRow, ...]:
    return tuple(bad_rows(rows.head(SHOWN).with_columns(_reason=pl.lit(reason))))
