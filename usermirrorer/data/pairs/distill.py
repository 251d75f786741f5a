"""Decisions and predictions → pairs: which decision process a model should prefer to which other, in which scenes.

`candidates` finds which decisions can be chosen or rejected, `selection` which scenes are kept, `diagnostics` what
else tells the two sides apart. This module joins them, writes pairs as messages and accounts for all scenes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from usermirrorer.data.artefacts.schema import PAIRS, VARIANTS
from usermirrorer.data.artefacts.store import SHARD_ROWS, fingerprint, finished_content, open_step
from usermirrorer.data.pairs.candidates import KEY, pair_candidates
from usermirrorer.data.pairs.diagnostics import WARN_ABOVE, letter_positions, rule_accuracies, word_accuracy
from usermirrorer.data.pairs.funnel import funnel, shortage
from usermirrorer.data.pairs.selection import SMALL, item_numbers, select
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.prompts import LABELS, SceneText, answered, conversation, history_entries, join_history
from usermirrorer.steps import DistillSettings


REPEATED = 0.95
"""A predictor that names the writer's own option more often only repeats it: its entropy says little of the text."""


def distill(work: Path, domains: Sequence[str], settings: DistillSettings) -> dict[str, Any]:
    """Write `work/pairs/NAME` from the train scenes of `domains`; returns the manifest's content.

    Raises UserError if decisions or predictions are missing, stale or made with different prompts or predictors,
    StepFailed if fewer than a tenth of the pairs asked for can be made; nothing is written then.
    """
    settings.check()
    if not domains or len(set(domains)) != len(domains):
        raise UserError(f"domains {', '.join(domains) or 'none'}: give at least one domain, and each only once")
    inputs = {name: _inputs(work, name) for name in domains}
    prompt, predictor = (_alike(inputs, key) for key in ("prompt", "predictor"))
    recipe = {
        "step": "distill", "domains": list(domains), **asdict(settings), "prompt": prompt, "predictor": predictor,
        "inputs": {name: found["fingerprints"] for name, found in inputs.items()},
    }  # fmt: skip
    with open_step(work / "pairs" / settings.name, recipe, PAIRS) as step:
        if step.complete:
            return step.content
        found = {name: pair_candidates(work, name, settings) for name in domains}
        counts = {name: one.counts for name, one in found.items()}
        candidates = pl.concat([one.pairs for one in found.values()])
        if too_few := shortage(found, settings.num):
            raise StepFailed(too_few)
        kept, strata = select(pl.concat([one.scenes for one in found.values()]), candidates, settings)
        for side in ("chosen", "rejected"):
            kept = kept.join(_texts(work, kept, side), on="scene_id", maintain_order="left")
        for shard, begin in enumerate(range(0, len(kept), SHARD_ROWS)):
            rows = _rows(work, kept[begin : begin + SHARD_ROWS], prompt, inputs)
            step.write_shard(shard, pa.Table.from_pylist(rows, schema=PAIRS))
        diagnostics = _diagnostics(kept, candidates) | {"uncertainty": _uncertainty(candidates, counts)}
        step.finish(
            rows=len(kept),
            prompt=prompt,
            predictor=predictor,
            funnel=_with_kept(funnel(found), kept),
            counts=counts,
            strata=strata,
            diagnostics=diagnostics,
            warnings=_warnings(len(kept), settings, diagnostics),
            probe={name: one["probe"] for name, one in inputs.items()},
            licences={name: one["licence"] for name, one in inputs.items()},
        )
        return step.content


def _inputs(work: Path, name: str) -> dict[str, Any]:
    """From the manifests of a domain's steps: prompts, predictors, shed history, probe, licence, fingerprints.

    Raises UserError if a step is missing or its inputs have changed since it ran.
    """
    scenes = work / "scenes" / name / "train"
    found: dict[str, Any] = {
        "probe": finished_content(scenes, f"scenes {name} --work {work} --split train").get("probe"),
        "licence": finished_content(work / "tables" / name, f"prepare {name} --work {work}")["licence"],
        "fingerprints": {"scenes": fingerprint(scenes)}, "prompt": {}, "predictor": {}, "shed": {},
    }  # fmt: skip
    for variant in VARIANTS:
        decisions, predictions = (work / step / name / variant for step in ("decisions", "predictions"))
        decided = finished_content(decisions, f"decide {name} --work {work} --variant {variant}")["recipe"]
        scored = finished_content(predictions, f"score {name} --work {work}")
        prints = {"decisions": fingerprint(decisions), "predictions": fingerprint(predictions)}
        if scored["recipe"]["decisions"] != prints["decisions"]:
            raise UserError(f"{predictions} was made from other decisions than {decisions}; delete it and rerun score")
        if decided["scenes"] != found["fingerprints"]["scenes"]:
            raise UserError(f"{decisions} was made from other scenes than {scenes}; delete it and rerun decide")
        found["prompt"][variant], found["predictor"][variant] = decided["prompt"], scored["recipe"]["predictor"]
        found["shed"][variant] = scored["shed"]
        found["fingerprints"] |= {f"{step}/{variant}": print_ for step, print_ in prints.items()}
    if found["shed"]["strong"] != found["shed"]["weak"]:
        directory = work / "predictions" / name
        raise UserError(f"{directory}: strong and weak shed different history; delete it and rerun score")
    return found


def _alike(inputs: Mapping[str, dict[str, Any]], key: str) -> str:
    """The prompt or predictor that all domains and variants share. Raises UserError if there are several."""
    values = {f"{name} {variant}": value for name, one in inputs.items() for variant, value in one[key].items()}
    if len(set(values.values())) > 1:
        listed = ", ".join(f"{place}: {value}" for place, value in values.items())
        step = "decide" if key == "prompt" else "score"
        raise UserError(f"One {key} is needed for all pairs, but there are several ({listed}); rerun {step} with one")
    return next(iter(values.values()))


def _texts(work: Path, kept: pl.DataFrame, side: str) -> pl.DataFrame:
    """Texts of the `chosen` or `rejected` decisions of these pairs by `scene_id`; the others stay on disk."""
    writer = pl.lit("strong") if side == "chosen" else pl.col("rejected_from")
    wanted = kept.select("scene_id", variant=writer, sample=pl.col(f"sample_{side}"))
    names = sorted(set(kept["dataset"]))
    parts = [work / "decisions" / name / variant / "*.parquet" for name in names for variant in VARIANTS]
    return pl.scan_parquet(parts).join(wanted.lazy(), on=KEY).select("scene_id", pl.col("text").alias(side)).collect()


def _rows(work: Path, kept: pl.DataFrame, prompt: str, inputs: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the pairs artefact. The prompt is the predictor's, with the same history shed."""
    parts = [work / "scenes" / name / "train" / "*.parquet" for name in sorted(set(kept["dataset"]))]
    texts = pl.scan_parquet(parts).join(kept.lazy().select("scene_id"), on="scene_id").select("scene_id", "text")
    text_of: dict[str, SceneText] = dict(texts.collect().iter_rows())
    rows = []
    for row in kept.iter_rows(named=True):
        text, shed = text_of[row["scene_id"]], inputs[row["dataset"]]["shed"]["strong"].get(row["scene_id"], 0)
        if shed:
            text = {**text, "history": join_history(history_entries(text["history"])[shed:])}
        labels = {"chosen": row["item_pos"], "rejected": row["label"]}
        turns = {side: answered(row[side], option) for side, option in labels.items()}
        rows.append(
            {column: row[column] for column in PAIRS.names if column in row}
            | {"prompt": conversation(text, prompt)}
            | {side: [{"role": "assistant", "content": turn}] for side, turn in turns.items()}
            | {f"behavior_{side}": LABELS[option] for side, option in labels.items()}
        )
    return rows


def _diagnostics(kept: pl.DataFrame, candidates: pl.DataFrame) -> dict[str, Any]:
    """What tells chosen from rejected, the balance of letters, and where the rejected come from."""
    choice, label = kept["item_pos"].to_numpy(), kept["label"].to_numpy()
    shown = [kept.select(pl.col("item_cnt").list.get(pl.col(c)))["item_cnt"].to_numpy() for c in ("item_pos", "label")]
    lengths = [kept[side].str.len_chars().cast(pl.Int64).to_numpy() for side in ("chosen", "rejected")]
    weak = (kept["rejected_from"] == "weak").to_numpy().astype(np.int64)
    items = item_numbers(kept)
    users = kept.select(pl.struct("dataset", "user_id").rank("dense")).to_series()
    together = kept.select(pl.coalesce("group_id", users.cast(pl.String))).to_series()
    rules = rule_accuracies(
        {"length": (lengths[0], lengths[1]), "popularity": (shown[0], shown[1])},
        {"letter": (choice, label), "writer": (np.zeros_like(weak), weak), "item": (items[:, 0], items[:, 1])},
        users.to_numpy(),
        together.to_numpy(),
    )
    rules["words"] = word_accuracy(kept["chosen"], kept["rejected"], users.to_numpy(), together.to_numpy())
    return {
        "rules": rules,
        "positions": letter_positions(kept, candidates.unique("scene_id")),
        "rejected_from_weak": float(weak.mean()),
        "rejected_reads_otherwise": float((label != kept["predicted_rejected"].to_numpy()).mean()),
        "warning": any(rule["value"] > WARN_ABOVE for rule in rules.values()),
    }


def _uncertainty(candidates: pl.DataFrame, counts: Mapping[str, dict[str, Any]]) -> dict[str, float]:
    """Whether uncertainty can select: the standard deviation of the score over the scenes that give a pair, and the
    share of decisions whose own option is the one that the predictor names.
    """
    decided = [one[variant] for one in counts.values() for variant in VARIANTS]
    alike, usable = (sum(one[key] for one in decided) for key in ("read_as_named", "usable"))
    spread = candidates.unique("scene_id")["score"].to_numpy().std()
    return {"score_spread": float(spread), "read_as_named": alike / max(usable, 1)}


def _with_kept(left: Mapping[str, dict[str, int]], kept: pl.DataFrame) -> dict[str, dict[str, int]]:
    return {name: {**counts, "kept": int((kept["dataset"] == name).sum())} for name, counts in left.items()}


def _warnings(kept: int, settings: DistillSettings, diagnostics: Mapping[str, Any]) -> list[str]:
    """One line for each problem of these pairs."""
    lines = []
    if kept < settings.num:
        lines.append(f"{kept:,} pairs where {settings.num:,} were asked for: no more scenes give one")
    found = diagnostics["uncertainty"]
    if settings.selector == "uncertainty" and found["score_spread"] < SMALL:
        lines.append(f"uncertainty cannot select: scores spread by {found['score_spread']:.4f}, less than {SMALL}")
    if settings.selector == "uncertainty" and found["read_as_named"] > REPEATED:
        share = f"{found['read_as_named']:.1%}"
        lines.append(f"uncertainty says little: the predictor names the writer's own option in {share} of decisions")
    for name, rule in diagnostics["rules"].items():
        if rule["value"] > WARN_ABOVE:
            remedy = "; fewer pairs from more scenes can be balanced better" if name == "letter" else ""
            lines.append(f"{name} alone tells chosen from rejected in {rule['value']:.0%} of pairs{remedy}")
    return lines
