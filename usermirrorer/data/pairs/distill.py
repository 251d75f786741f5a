"""Decisions and predictions → pairs: which decision process a model should prefer over which, in which scenes.

`pair_candidates` says which decisions are accepted or rejected, `selection` which scenes are kept, `pair_diagnostics`
what else would tell the two sides apart; here they are put together, written out as messages, and accounted for.
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
from usermirrorer.data.pairs.candidates import KEY, Candidates, candidates
from usermirrorer.data.pairs.diagnostics import WARN_ABOVE, letter_positions, rule_accuracies
from usermirrorer.data.pairs.selection import select
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.prompts import LABELS, SceneText, answered, conversation, history_entries, join_history
from usermirrorer.measures import normalised
from usermirrorer.seeds import Stream, scene_keys, uniforms
from usermirrorer.steps import DistillSettings


def distill(work: Path, domains: Sequence[str], settings: DistillSettings) -> dict[str, Any]:
    """Write `work/pairs/NAME` from the train scenes of `domains`; returns the manifest's content.

    Raises UserError where decisions or predictions are missing, stale or not made alike, StepFailed where no scene
    gives a pair.
    """
    settings.check()
    if not domains or len(set(domains)) != len(domains):
        raise UserError(f"domains {', '.join(domains) or 'none'}: name at least one domain, and each once")
    inputs = {name: _inputs(work, name) for name in domains}
    prompt, predictor = (_alike(inputs, key) for key in ("prompt", "predictor"))
    recipe = {
        "step": "distill", "domains": list(domains), **asdict(settings), "prompt": prompt, "predictor": predictor,
        "inputs": {name: found["fingerprints"] for name, found in inputs.items()},
    }  # fmt: skip
    with open_step(work / "pairs" / settings.name, recipe, PAIRS) as step:
        if step.complete:
            return step.content
        found = {
            name: candidates(
                work, name, settings.seed, settings.behaviour, settings.rejected_from, settings.min_accepted
            )
            for name in domains
        }
        counts = {name: one.counts for name, one in found.items()}
        ways = pl.concat([one.ways for one in found.values()])
        if not len(ways):
            raise StepFailed(f"{', '.join(domains)}: no scene gives a pair; counted: {counts}")
        kept, strata = _select(pl.concat([one.scenes for one in found.values()]), ways, settings)
        for side in ("chosen", "rejected"):
            kept = kept.join(_texts(work, kept, side), on="scene_id", maintain_order="left")
        for shard, begin in enumerate(range(0, len(kept), SHARD_ROWS)):
            rows = _rows(work, kept[begin : begin + SHARD_ROWS], prompt, inputs)
            step.write_shard(shard, pa.Table.from_pylist(rows, schema=PAIRS))
        diagnostics = _diagnostics(kept, ways)
        step.finish(
            rows=len(kept),
            prompt=prompt,
            predictor=predictor,
            funnel=_funnel(found, kept),
            counts=counts,
            strata=strata,
            diagnostics=diagnostics,
            warnings=_warnings(len(kept), settings.num, diagnostics),
            probe={name: one["probe"] for name, one in inputs.items()},
            licences={name: one["licence"] for name, one in inputs.items()},
        )
        return step.content


def _inputs(work: Path, name: str) -> dict[str, Any]:
    """What the manifests of a domain's steps say: prompts, predictors, shed history, probe, licence, fingerprints."""
    scenes = work / "scenes" / name / "train"
    found: dict[str, Any] = {
        "probe": finished_content(scenes, f"scenes {name} --work {work} --split train").get("probe"),
        "licence": finished_content(work / "tables" / name, f"prepare {name} --work {work}")["licence"],
        "fingerprints": {"scenes": fingerprint(scenes)},
    }
    for key in ("prompt", "predictor", "shed"):
        found[key] = {}
    for variant in VARIANTS:
        decisions, predictions = (work / step / name / variant for step in ("decisions", "predictions"))
        decided = finished_content(decisions, f"decide {name} --work {work} --variant {variant}")["recipe"]
        scored = finished_content(predictions, f"score {name} --work {work}")
        prints = {"decisions": fingerprint(decisions), "predictions": fingerprint(predictions)}
        if scored["recipe"]["decisions"] != prints["decisions"]:
            raise UserError(f"{predictions} was made from other decisions than {decisions}; delete it and score again")
        if decided["scenes"] != found["fingerprints"]["scenes"]:
            raise UserError(f"{decisions} was made from other scenes than {scenes}; delete it and decide again")
        found["prompt"][variant], found["predictor"][variant] = decided["prompt"], scored["recipe"]["predictor"]
        found["shed"][variant] = scored["shed"]
        found["fingerprints"] |= {f"{step}/{variant}": print_ for step, print_ in prints.items()}
    if found["shed"]["strong"] != found["shed"]["weak"]:
        raise UserError(f"{work / 'predictions' / name}: strong and weak shed different history; score both again")
    return found


def _alike(inputs: Mapping[str, dict[str, Any]], key: str) -> str:
    """The one prompt or predictor of all domains and variants."""
    values = {f"{name} {variant}": value for name, one in inputs.items() for variant, value in one[key].items()}
    if len(set(values.values())) > 1:
        listed = ", ".join(f"{place}: {value}" for place, value in values.items())
        step = "decide" if key == "prompt" else "score"
        raise UserError(f"One {key} is needed for all pairs, but there are several ({listed}); {step} again with one")
    return next(iter(values.values()))


def _select(
    scenes: pl.DataFrame, ways: pl.DataFrame, settings: DistillSettings
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """The pairs to keep, in an order that is a function of (seed, scene_id), and each stratum's account."""
    strata = scenes.group_by("dataset", "choice_cnt").agg(pl.len().alias("scenes")).sort("dataset", "choice_cnt")
    stratum = ways.join(strata.with_row_index("stratum"), on=["dataset", "choice_cnt"], maintain_order="left")
    ids, scene = np.unique(ways["scene_id"].to_numpy().astype("S16"), return_inverse=True)
    keys = scene_keys(settings.seed, ids)
    by_score = settings.selector == "uncertainty"
    rank = ways["score"].to_numpy() if by_score else uniforms(keys, Stream.SELECT, 1)[scene, 0]
    rows, report = select(
        stratum["stratum"].to_numpy().astype(np.int64),
        strata["scenes"].to_numpy().astype(np.int64),
        strata["choice_cnt"].to_numpy(),
        scene,
        ways["item_pos"].to_numpy(),
        ways["label"].to_numpy(),
        rank,
        normalised(ways["entropy_rejected"].to_numpy(), ways["choice_cnt"].to_numpy()),
        settings.num,
        settings.seed,
    )
    rows = rows[np.lexsort((scene[rows], keys[scene[rows]]))]
    named = strata.select("dataset", "choice_cnt").to_dicts()
    return ways[rows], [name | account for name, account in zip(named, report, strict=True)]


def _texts(work: Path, kept: pl.DataFrame, side: str) -> pl.DataFrame:
    """Texts of the `chosen` or `rejected` decisions of some pairs, by `scene_id`; the others stay on disk."""
    variant = pl.lit("strong") if side == "chosen" else pl.col("rejected_from")
    wanted = kept.select("scene_id", variant=variant, sample=pl.col(f"sample_{side}"))
    parts = [
        pl.scan_parquet(work / "decisions" / name / v / "part-*.parquet").select(*KEY, "text")
        for name in sorted(set(kept["dataset"]))
        for v in VARIANTS
    ]
    return pl.concat(parts).join(wanted.lazy(), on=KEY).select("scene_id", pl.col("text").alias(side)).collect()


def _rows(work: Path, kept: pl.DataFrame, prompt: str, inputs: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the pairs artefact. The prompt is what the predictor read: with the same history shed."""
    shown = [
        pl.scan_parquet(work / "scenes" / name / "train" / "part-*.parquet").select("scene_id", "text")
        for name in sorted(set(kept["dataset"]))
    ]
    texts = pl.concat(shown).join(kept.lazy().select("scene_id"), on="scene_id").collect()
    text_of: dict[str, SceneText] = dict(texts.iter_rows())
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


def _diagnostics(kept: pl.DataFrame, ways: pl.DataFrame) -> dict[str, Any]:
    """What tells chosen from rejected without reading, where the letters lie, and what the rejected are."""
    choice, label = kept["item_pos"].to_numpy(), kept["label"].to_numpy()
    shown = [kept.select(pl.col("item_cnt").list.get(pl.col(c)))["item_cnt"].to_numpy() for c in ("item_pos", "label")]
    lengths = [kept[side].str.len_chars().cast(pl.Int64).to_numpy() for side in ("chosen", "rejected")]
    weak = (kept["rejected_from"] == "weak").to_numpy().astype(np.int64)
    rules = rule_accuracies(
        {"length": (lengths[0], lengths[1]), "popularity": (shown[0], shown[1])},
        {"letter": (choice, label), "writer": (np.zeros_like(weak), weak)},
        kept["user_id"].to_numpy(),
    )
    able = ways.unique("scene_id")
    return {
        "rules": rules,
        "positions": letter_positions(
            kept["choice_cnt"].to_numpy(), choice, label, able["choice_cnt"].to_numpy(), able["item_pos"].to_numpy()
        ),
        "rejected_from_weak": float(weak.mean()),
        "rejected_reads_otherwise": float((label != kept["read_rejected"].to_numpy()).mean()),
        "warning": any(rule["value"] > WARN_ABOVE for rule in rules.values()),
    }


def _funnel(found: Mapping[str, Candidates], kept: pl.DataFrame) -> dict[str, dict[str, int]]:
    """For every dataset, how many scenes came how far."""
    return {
        name: {
            "scenes": one.counts["scenes"],
            "scored": len(one.scenes),
            "with_accepted": int((one.scenes["accepted"] > 0).sum()),
            "with_enough_accepted": int((one.scenes["accepted"] >= one.scenes["needed"]).sum()),
            "available": one.ways["scene_id"].n_unique(),
            "kept": int((kept["dataset"] == name).sum()),
        }
        for name, one in found.items()
    }


def _warnings(kept: int, num: int, diagnostics: Mapping[str, Any]) -> list[str]:
    """One line for each thing that the maker of these pairs should know."""
    lines = []
    if kept < num:
        lines.append(f"{kept:,} pairs where {num:,} were asked for: no more scenes give one")
    for name, rule in diagnostics["rules"].items():
        if rule["value"] > WARN_ABOVE:
            remedy = "; fewer pairs from more scenes can be balanced better" if name == "letter" else ""
            lines.append(f"{name} alone tells chosen from rejected in {rule['value']:.0%} of pairs{remedy}")
    return lines
