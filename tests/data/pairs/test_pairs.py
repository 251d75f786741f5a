"""Pairs from synthetic scenes, decisions and predictions, written and read as the real steps do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usermirrorer.data.artefacts import store
from usermirrorer.data.artefacts.schema import DECISIONS, PAIRS, PREDICTIONS, SCENES, scene_id
from usermirrorer.data.artefacts.store import fingerprint, manifest_path, open_step, read_manifest, read_parts
from usermirrorer.data.pairs import candidates, selection
from usermirrorer.data.pairs.candidates import chance_of, min_accepted, predicted_behaviour
from usermirrorer.data.pairs.diagnostics import rule_accuracies, word_accuracy
from usermirrorer.data.pairs.distill import distill
from usermirrorer.data.pairs.selection import SMALL, balanced, quotas
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm import prompts
from usermirrorer.records import sealed
from usermirrorer.steps import DistillSettings
from usermirrorer.train.input.rows import check_columns, read


Row = dict[str, Any]
Decide = Callable[[np.random.Generator, str, int, int], tuple[int | None, str, np.ndarray]]
"""From (generator, variant, choice, options) to (the writer's label, finish reason, the predictor's probabilities)."""


def peaked(options: int, at: int, mass: float) -> np.ndarray:
    probs = np.full(options, (1 - mass) / (options - 1))
    probs[at] = mass
    return probs


def careful(rng: np.random.Generator, variant: str, choice: int, options: int) -> tuple[int | None, str, np.ndarray]:
    """Strong is right more often and sharper; most of the time the predictor names the label, for both variants."""
    strong = variant == "strong"
    label = choice if rng.random() < (0.6 if strong else 0.4) else int(rng.integers(options))
    predicted = label if rng.random() < 0.85 else int(rng.integers(options))
    fate = rng.random()
    reason = "length" if fate < 0.05 else "stop"
    return (
        (None if fate < 0.03 or 0.95 < fate else label),
        reason,
        peaked(options, predicted, rng.uniform(0.6, 0.95) if strong else rng.uniform(0.5, 0.8)),
    )


def lettered(rng: np.random.Generator, variant: str, choice: int, options: int) -> tuple[int | None, str, np.ndarray]:
    """A writer and predictor biased towards A: without balancing, most rejected options are A."""
    biased = 0 if rng.random() < 0.85 else int(rng.integers(options))
    label = choice if rng.random() < 0.55 else biased
    return label, "stop", peaked(options, label, rng.uniform(0.5, 0.95))


def build(
    work: Path,
    name: str = "demo",
    scenes: int = 300,
    sizes: tuple[int, ...] = (2, 3, 5),
    samples: int = 10,
    decide: Decide = careful,
    shed: dict[int, int] | None = None,
    prompt: tuple[str, str] = ("plain", "plain"),
    predictor: tuple[str, str] = ("scripted:reader", "scripted:reader"),
    later: bool = True,
    seed: int = 0,
) -> list[Row]:
    """Write everything that `distill` reads for one domain; returns the scenes' rows."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for k in range(scenes):
        n, user, time = int(rng.choice(sizes)), f"u{k % 60}", 1_600_000_000_000 + k
        pos = int(rng.integers(n))
        others = [i for i in range(n) if i != pos]
        rows.append(
            {
                "scene_id": scene_id(name, user, f"i{k}", time),
                "dataset": name,
                "user_id": user,
                "item_id": f"i{k}",
                "timestamp": time,
                "text": {
                    "profile": "",
                    "history": "chose tea\nchose pie\nchose rice",
                    "action_list": [f"thing {k} {i}" for i in range(n)],
                },
                "impression_list": [f"i{k}.{i}" for i in range(n)],
                "item_pos": pos,
                "choices": [pos],
                "choice_cnt": n,
                "split": "train",
                "exposure": "logged",
                "sources": ["logged"] * n,
                "history_len": 3,
                "user_cnt": 3,
                "item_cnt": rng.integers(1, 100, n).tolist(),
                "later_chosen": [int(rng.choice(others))] if later and n > 2 and rng.random() < 0.4 else [],
            }  # fmt: skip
        )
    rows.sort(key=lambda row: row["scene_id"])
    with open_step(work / "tables" / name, {"step": "prepare"}) as step:
        step.finish(licence=f"licence of {name}")
    probe = {"accuracy": 0.2, "warning": False}
    recipe = {"step": "scenes", "domain": name, "exposure": "logged", "max_exposure": 6, "alike": ""}
    made = {"probe": probe, "counts": {"kept": len(rows)}, "lengths": {}}
    write(work / "scenes" / name / "train", recipe, SCENES, rows, **made)
    for v, variant in enumerate(("strong", "weak")):
        decided, scored = [], []
        for row in rows:
            of_scene = []
            for sample in range(samples):
                label, reason, probs = decide(rng, variant, row["item_pos"], row["choice_cnt"])
                key = {"scene_id": row["scene_id"], "variant": variant, "sample": sample}
                text = f"{variant} thought {sample} of {row['scene_id']}"
                decided.append(key | {"model": variant, "text": text, "behavior": label, "finish_reason": reason})
                of_scene.append(key | {"predictor": predictor[v], "probs": probs.tolist()})
            scored += of_scene[::-1]
        directory = work / "decisions" / name / variant
        recipe = {"step": "decide", "prompt": prompt[v], "scenes": fingerprint(work / "scenes" / name / "train")}
        write(directory, recipe, DECISIONS, decided)
        recipe = {"step": "score", "predictor": predictor[v], "decisions": fingerprint(directory)}
        gone = {rows[i]["scene_id"]: count for i, count in (shed or {}).items()}
        write(work / "predictions" / name / variant, recipe, PREDICTIONS, scored, shed=gone)
    return rows


def write(directory: Path, recipe: Row, schema: pa.Schema, rows: list[Row], **results: Any) -> None:
    with open_step(directory, recipe, schema) as step:
        step.put(0, rows)
        step.finish(rows=len(rows), **results)


def pairs_of(work: Path, name: str = "p") -> list[Row]:
    return read_parts(work / "pairs" / name).to_pylist()


def test_sides_of_a_pair(tmp_path: Path) -> None:
    """Chosen names the real choice, rejected an option not chosen later; both finished and lowest in entropy."""
    scenes = {row["scene_id"]: row for row in build(tmp_path, shed={i: 2 for i in range(0, 300, 2)})}
    content = distill(tmp_path, ["demo"], DistillSettings(name="p", num=120, rejected_from="any"))
    decided = {
        (row["scene_id"], row["variant"], row["sample"]): row
        for variant in ("strong", "weak")
        for row in read_parts(tmp_path / "decisions" / "demo" / variant).to_pylist()
    }
    probs = {
        (row["scene_id"], row["variant"], row["sample"]): row["probs"]
        for variant in ("strong", "weak")
        for row in read_parts(tmp_path / "predictions" / "demo" / variant).to_pylist()
    }
    shed = json.loads(manifest_path(tmp_path / "predictions/demo/strong").read_text())["content"]["shed"]
    pairs = pairs_of(tmp_path)
    assert len(pairs) == content["rows"] == 120 and len({pair["scene_id"] for pair in pairs}) == 120
    assert any(pair["scene_id"] in shed for pair in pairs) and any(pair["scene_id"] not in shed for pair in pairs)
    assert {pair["rejected_from"] for pair in pairs} == {"strong", "weak"}
    for pair in pairs:
        scene = scenes[pair["scene_id"]]
        choice, label = (prompts.LABELS.index(pair[f"behavior_{side}"]) for side in ("chosen", "rejected"))
        assert choice == scene["item_pos"] and label != choice and label not in scene["later_chosen"]
        for side, variant, option in (("chosen", "strong", choice), ("rejected", pair["rejected_from"], label)):
            (turn,) = pair[side]
            text, behavior = prompts.parse(turn["content"], scene["choice_cnt"])
            key = (pair["scene_id"], variant, int(text.split()[2]))
            assert decided[key]["text"] == text and decided[key]["behavior"] == behavior == option
            assert decided[key]["finish_reason"] != "length"
            p = np.array(probs[key])
            assert pair[f"entropy_{side}"] == pytest.approx(-(p * np.log2(p)).sum())
        rivals = [
            -(np.array(probs[key]) * np.log2(probs[key])).sum()
            for key, row in decided.items()
            if key[:2] == (pair["scene_id"], "strong") and row["behavior"] == choice
            and row["finish_reason"] == "stop" and np.argmax(probs[key]) == choice
        ]  # fmt: skip
        assert pair["entropy_chosen"] == pytest.approx(min(rivals)) and pair["accepted"] == len(rivals)
        history = "chose rice" if pair["scene_id"] in shed else scene["text"]["history"]
        assert pair["prompt"] == prompts.conversation({**scene["text"], "history": history}, "plain")


def test_ranks_by_normalised_difference(tmp_path: Path) -> None:
    build(tmp_path, scenes=200, sizes=(5,), later=False)
    distill(tmp_path, ["demo"], DistillSettings(name="all", num=1000))
    distill(tmp_path, ["demo"], DistillSettings(name="p", num=50))
    distill(tmp_path, ["demo"], DistillSettings(name="r", num=50, selector="random"))
    every, top, drawn = (pairs_of(tmp_path, name) for name in ("all", "p", "r"))
    for pair in every:
        gained = pair["entropy_expected_weak"] - pair["entropy_expected_strong"]
        assert pair["score"] == pytest.approx(gained / np.log2(5))
    for letter in "ABCDE":  # for each letter of the choice the best are kept
        scores = sorted((p["score"] for p in every if p["behavior_chosen"] == letter), reverse=True)
        kept = sorted((p["score"] for p in top if p["behavior_chosen"] == letter), reverse=True)
        assert len(kept) == 10 and np.mean(kept) > np.mean(scores[:14])
    assert np.mean([p["score"] for p in top]) > np.mean([p["score"] for p in drawn])
    assert [p["scene_id"] for p in top] != sorted(p["scene_id"] for p in top)
    both = [p["scene_id"] for p in every if p["scene_id"] in {q["scene_id"] for q in top}]
    assert both == [p["scene_id"] for p in top], "the order depends only on (seed, scene_id)"


def test_letters_of_a_biased_writer_are_balanced(tmp_path: Path) -> None:
    build(tmp_path, scenes=1500, sizes=(4,), decide=lettered, later=False)
    content = distill(tmp_path, ["demo"], DistillSettings(name="all", num=1000))
    assert content["diagnostics"]["rules"]["letter"]["value"] > 0.6 and content["diagnostics"]["warning"]
    assert any(line.startswith("letter alone") for line in content["warnings"])
    content = distill(tmp_path, ["demo"], DistillSettings(name="p", num=400))
    position = content["diagnostics"]["positions"]["4"]
    assert position["chosen"] == [100, 100, 100, 100] and position["rejected"] == [100, 100, 100, 100]
    assert 0.4 < content["diagnostics"]["rules"]["letter"]["value"] < 0.55
    assert content["diagnostics"]["uncertainty"]["read_as_named"] == 1.0
    [warning] = content["warnings"]
    assert warning == "uncertainty says little: the predictor names the writer's own option in 100.0% of decisions"


@pytest.mark.parametrize("behaviour", ["argmax", "sample"])
def test_restart_and_order_of_inputs_give_the_same_bytes(tmp_path: Path, behaviour: str) -> None:
    wanted = DistillSettings(name="p", num=60, behaviour=behaviour, seed=3)
    build(tmp_path / "a")
    distill(tmp_path / "a", ["demo"], wanted)
    part = tmp_path / "a/pairs/p/part-00000.parquet"
    first = part.read_bytes()
    content = distill(tmp_path / "a", ["demo"], wanted)
    assert part.read_bytes() == first
    manifest_path(tmp_path / "a/pairs/p").unlink()  # killed before the end
    assert distill(tmp_path / "a", ["demo"], wanted) == content and part.read_bytes() == first
    with pytest.raises(UserError, match="other settings"):
        distill(tmp_path / "a", ["demo"], DistillSettings(name="p", num=61, behaviour=behaviour, seed=3))


def test_pairs_do_not_depend_on_how_many_scenes_are_read_at_a_time(tmp_path: Path, monkeypatch) -> None:
    wanted = DistillSettings(name="p", num=60)
    build(tmp_path / "whole")
    content = distill(tmp_path / "whole", ["demo"], wanted)
    monkeypatch.setattr(store, "SHARD_ROWS", 32)
    monkeypatch.setattr(candidates, "TOGETHER", 1)
    build(tmp_path / "parts")
    assert len(list((tmp_path / "parts/predictions/demo/weak").glob("*.parquet"))) > 90
    again = distill(tmp_path / "parts", ["demo"], wanted)
    assert pairs_of(tmp_path / "parts") == pairs_of(tmp_path / "whole")
    assert [again[key] for key in ("funnel", "counts", "strata")] == [
        content[key] for key in ("funnel", "counts", "strata")
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[10:] + rows[:10], "is not where .* has it; delete it and rerun its step"),
        (lambda rows: [*rows[:5], rows[4], *rows[5:]], "occurs twice"),
        (lambda rows: [*rows, rows[0] | {"scene_id": "f" * 16}], "scene ffffffffffffffff is not where"),
    ],
)
def test_rows_out_of_order_are_refused(tmp_path: Path, monkeypatch, change: Callable, told: str) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 100)
    monkeypatch.setattr(candidates, "TOGETHER", 1)
    build(tmp_path)
    predictions = tmp_path / "predictions/demo/weak"
    rows, made = read_parts(predictions).to_pylist(), read_manifest(predictions)["content"]
    shutil.rmtree(predictions)
    write(predictions, made["recipe"], PREDICTIONS, change(rows), shed={})
    with pytest.raises(UserError, match=told):
        distill(tmp_path, ["demo"], DistillSettings(name="p", num=60))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from([0.0, 0.02, 0.3]))
def test_only_rows_that_cannot_be_among_the_best_are_left_out(seed: int, quota: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    pairs = guessed(rng, 40)
    scene, choice, label = (pairs[name].to_numpy() for name in ("scene", "choice", "label"))
    value, items = spread * rng.normal(size=len(pairs)), pairs.select("chosen", "rejected").to_numpy()
    inputs = scene, choice, label, items, value, quota, np.arange(5), np.zeros(items.max() + 1)
    reached: list[float] = []
    best_shares = selection._best_shares

    def seen(value, counts, target, by_item, net) -> np.ndarray:
        """Notes what the best shares are worth: value, less the imbalance of letters and of items."""
        shares = best_shares(value, counts, target, by_item, net)
        excess = np.maximum(counts[2] @ shares - target, 0).sum()
        reached.append(value @ shares - 1000 * excess - SMALL * np.abs(by_item @ shares + net).sum())
        return shares

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_best_shares", seen)
        patch.setattr(selection, "MOST_ALIKE", 10**9)
        found = balanced(*inputs)
        patch.setattr(selection, "contenders", lambda choice, *rest: np.arange(len(choice)))
        whole = balanced(*inputs)
    assert len(found) == len(whole)
    assert reached[0] == pytest.approx(reached[2], abs=1e-6)


def sure(rng: np.random.Generator, variant: str, choice: int, options: int) -> tuple[int | None, str, np.ndarray]:
    """Both writers are right half of the time, and whatever they write, the predictor is as sure."""
    label = choice if rng.random() < 0.5 else int(rng.integers(options))
    predicted = label if rng.random() < 0.9 else int(rng.integers(options))
    return label, "stop", peaked(options, predicted, rng.uniform(0.95, 0.952))


def test_scores_that_do_not_differ_select_nothing(tmp_path: Path) -> None:
    build(tmp_path, sizes=(5,), decide=sure)
    content = distill(tmp_path, ["demo"], DistillSettings(name="p", num=50))
    assert 0 < content["diagnostics"]["uncertainty"]["score_spread"] < 0.02
    assert [line for line in content["warnings"] if line.startswith("uncertainty cannot select: scores spread by 0.0")]
    content = distill(tmp_path, ["demo"], DistillSettings(name="drawn", num=50, selector="random"))
    assert not [line for line in content["warnings"] if "uncertainty" in line]


def guessed(rng: np.random.Generator, groups: int) -> pl.DataFrame:
    """Candidate pairs of groups of 5 items out of 300: a writer who prefers some items is rejected for them."""
    fame, rows = rng.normal(size=300), []
    for group in range(groups):
        items = rng.choice(300, 5, replace=False)
        for position in range(5):
            labels = np.flatnonzero(rng.gumbel(size=5) + 1.5 * fame[items] > 1.0)
            score = 0.15 * rng.normal()
            rows += [
                {"scene": 5 * group + position, "choice": position, "label": label, "chosen": items[position],
                 "rejected": items[label], "value": score, "group": group}
                for label in labels if label != position
            ]  # fmt: skip
    return pl.DataFrame(rows)


def test_items_are_chosen_as_often_as_rejected_and_letters_stay_balanced() -> None:
    """A selection by letters and score alone rejects preferred items more often than it chooses them."""
    pairs = guessed(np.random.default_rng(0), 600)
    scene, choice, label, value = (pairs[name].to_numpy() for name in ("scene", "choice", "label", "value"))
    items, far = pairs.select("chosen", "rejected").to_numpy(), np.arange(2 * len(pairs)).reshape(-1, 2)
    imbalance, scores = {}, {}
    for name, shown in (("letters", far), ("items", items)):
        kept = balanced(scene, choice, label, shown, value, 500, np.arange(5), np.zeros(shown.max() + 1))
        assert np.bincount(choice[kept]).tolist() == np.bincount(label[kept]).tolist() == [100] * 5
        assert len(np.unique(scene[kept])) == 500
        net = np.bincount(items[kept, 0], minlength=300) - np.bincount(items[kept, 1], minlength=300)
        imbalance[name], scores[name] = np.abs(net).sum() / 500, value[kept].mean()
    assert imbalance["letters"] > 0.9 and imbalance["items"] < 0.5
    assert scores["letters"] - scores["items"] < 0.02, "a balanced pair is worth as much as a score higher by 0.02"


def test_items_balance_over_all_strata() -> None:
    """An item that another stratum chose once more than it rejected it is now rejected, at the same score."""
    scene, none = np.array([0, 1]), np.zeros(2, dtype=int)
    items, owed = np.array([[0, 1], [0, 2]]), np.array([0.0, 0.0, 1.0])
    assert balanced(scene, none, none + 1, items, np.zeros(2), 1, np.arange(2), owed).tolist() == [1]
    assert balanced(scene, none, none + 1, items, np.zeros(2), 1, np.arange(2), owed[[0, 2, 1]]).tolist() == [0]


def test_training_reads_the_directory(tmp_path: Path) -> None:
    build(tmp_path)
    distill(tmp_path, ["demo"], DistillSettings(name="p", num=40))
    directory = tmp_path / "pairs" / "p"
    assert pq.read_schema(directory / "part-00000.parquet").equals(PAIRS)
    for method in ("sft", "dpo"):
        check_columns(str(directory), method)
        rows = read(str(directory), "train", method)
        assert len(rows) == 40 and [m["role"] for m in rows[0]["prompt"]] == ["system", "user"]


def test_manifest_accounts_for_every_scene_and_domain(tmp_path: Path) -> None:
    build(tmp_path, "one", scenes=300)
    build(tmp_path, "two", scenes=100, seed=1)
    content = distill(tmp_path, ["one", "two"], DistillSettings(name="p", num=100))
    assert content["prompt"] == "plain" and content["predictor"] == "scripted:reader"
    assert content["licences"] == {"one": "licence of one", "two": "licence of two"}
    assert content["probe"]["two"] == {"accuracy": 0.2, "warning": False}
    for name, steps in content["funnel"].items():
        counts = content["counts"][name]
        lost = counts["no_choice"] + counts["no_strong_decision"] + counts["no_weak_decision"]
        assert steps["scenes"] - lost == steps["scored"]
        assert steps["scored"] - counts["too_few_accepted"] == steps["with_enough_accepted"]
        assert steps["with_enough_accepted"] - counts["nothing_to_reject"] == steps["available"] >= steps["kept"] > 0
        assert all(0 < counts["strong"][reason] < 1000 for reason in ("cut_off", "no_label"))
    assert sum(row["kept"] for row in content["strata"]) == sum(row["quota"] for row in content["strata"]) == 100
    assert content["funnel"]["one"]["kept"] == pytest.approx(75, abs=4)
    acceptance = content["counts"]["one"]["acceptance"]
    assert {n: row["min_accepted"] for n, row in acceptance.items()} == {"2": [7], "3": [5], "5": [4]}
    assert all(row["kept_by_chance"] <= 0.25 < row["kept"] for row in acceptance.values())


def test_fewer_pairs_than_asked_for_are_a_warning(tmp_path: Path) -> None:
    build(tmp_path, decide=careful, scenes=60, later=False)
    content = distill(tmp_path, ["demo"], DistillSettings(name="p", num=300))
    assert content["rows"] == content["funnel"]["demo"]["available"] < 60
    assert sum("were asked for" in line for line in content["warnings"]) == 1


def misread(rng: np.random.Generator, variant: str, choice: int, options: int) -> tuple[int | None, str, np.ndarray]:
    """A writer that is always right, under a predictor that never follows it."""
    return choice, "stop", peaked(options, (choice + 1) % options, 0.5)


def sloppy(rng: np.random.Generator, variant: str, choice: int, options: int) -> tuple[int | None, str, np.ndarray]:
    return None, "length", peaked(options, choice, 0.5)


def flawless(rng: np.random.Generator, variant: str, choice: int, options: int) -> tuple[int | None, str, np.ndarray]:
    return choice, "stop", peaked(options, choice, 0.9)


def hopeless(rng: np.random.Generator, variant: str, choice: int, options: int) -> tuple[int | None, str, np.ndarray]:
    wrong = (choice + 1) % options
    return wrong, "stop", peaked(options, wrong, 0.9)


@pytest.mark.parametrize(
    ("decide", "changed", "told"),
    [
        (careful, {"num": 1000}, "there are no more than 60 train scenes; make more scenes, or ask for --num "),
        (careful, {"min_accepted": 11}, "60 of 60 scenes have fewer accepted decisions than they need"),
        (misread, {}, "the decisions, where guessing gives 20%, so it can't read them; score with another"),
        (sloppy, {}, "100% of the decisions are cut off or name no option; decide with a larger --max-tokens"),
        (hopeless, {}, "in 60 of 60 scenes no strong decision is accepted, because writer and predictor must both"),
        (flawless, {}, "60 of 60 scenes have no decision to reject; decide more samples"),
    ],
)
def test_hardly_any_pair_is_a_failure_that_says_why(tmp_path: Path, decide: Decide, changed: Row, told: str) -> None:
    build(tmp_path, decide=decide, scenes=60, sizes=(5,), later=False)
    with pytest.raises(StepFailed) as error:
        distill(tmp_path, ["demo"], DistillSettings(**({"name": "p", "num": 300} | changed)))
    assert told in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "pairs" / "p").glob("*.parquet"))


def test_after_a_failure_fewer_can_be_asked_for(tmp_path: Path) -> None:
    build(tmp_path, scenes=60, later=False)
    with pytest.raises(StepFailed, match=r"demo: \d+ of 9,000 pairs can be made.* or ask for --num (\d+)") as error:
        distill(tmp_path, ["demo"], DistillSettings(name="p", num=9000))
    fewer = int(str(error.value).split("--num ")[1].split()[0])
    assert distill(tmp_path, ["demo"], DistillSettings(name="p", num=fewer))["rows"] == fewer


def test_inputs_must_share_prompt_and_predictor_and_be_current(tmp_path: Path) -> None:
    build(tmp_path / "prompt", scenes=5, prompt=("ekb", "plain"))
    with pytest.raises(UserError, match="One prompt .*demo strong: ekb, demo weak: plain"):
        distill(tmp_path / "prompt", ["demo"], DistillSettings(name="p"))
    build(tmp_path / "predictor", scenes=5, predictor=("vllm:a", "vllm:b"))
    with pytest.raises(UserError, match="One predictor .*vllm:a.*vllm:b"):
        distill(tmp_path / "predictor", ["demo"], DistillSettings(name="p"))
    build(tmp_path / "stale", scenes=5)
    manifest = manifest_path(tmp_path / "stale/decisions/demo/weak")
    found = json.loads(manifest.read_text())
    manifest.write_bytes(sealed({"content": {**found["content"], "rows": 51}, "run": found["run"]}))
    with pytest.raises(UserError, match="other decisions"):
        distill(tmp_path / "stale", ["demo"], DistillSettings(name="p"))


@pytest.mark.parametrize(
    "wrong", [{"selector": "best"}, {"behaviour": "max"}, {"rejected_from": "weak"}, {"num": 0}, {"name": "a/b"}]
)
def test_wrong_settings_are_named(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=str(next(iter(wrong.values())))):
        distill(tmp_path, ["demo"], DistillSettings(**({"name": "p"} | wrong)))


strata = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), min_size=1, max_size=40)


@given(strata, st.integers(1, 20000))
def test_quotas(pairs: list[tuple[int, int]], num: int) -> None:
    """They sum to what is available, respect every cap, and without caps differ from the share by less than one."""
    weights, caps = np.array(pairs).T
    given_ = quotas(weights, caps, num)
    assert given_.sum() == min(num, caps[weights > 0].sum()) and (given_ <= caps).all() and (given_ >= 0).all()
    if weights.sum():
        free = quotas(weights, np.full(len(weights), num), num)
        assert free.sum() == num and (np.abs(free - num * weights / weights.sum()) < 1).all()
        # No stratum that could take more is left below the share it would have had without caps.
        assert (given_[given_ < caps] >= np.floor(num * weights / weights.sum())[given_ < caps]).all()


@given(st.integers(1, 12), st.integers(2, 12))
def test_min_accepted_is_the_smallest_that_guesses_rarely_reach(samples: int, options: int) -> None:
    k = min_accepted(samples, options)
    exact = sum(chance_of(j, samples, options) - chance_of(j + 1, samples, options) for j in range(k, samples + 1))
    assert exact <= 0.25 + 1e-9 and chance_of(k - 1, samples, options) > 0.25


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_predicted_behaviour(seed: int) -> None:
    """`argmax` uses the draw only for ties, shared evenly; `sample` follows the probabilities and skips padding."""
    rng = np.random.default_rng(seed)
    probs, draws = rng.dirichlet(np.ones(4), 2000), rng.random(2000)
    assert (predicted_behaviour(probs, draws, "argmax") == probs.argmax(axis=1)).all()
    even = np.tile([0.4, 0.0, 0.4, 0.2, 0.0], (2000, 1))
    for how, shares in (("argmax", [0.5, 0, 0.5, 0, 0]), ("sample", even[0])):
        found = np.bincount(predicted_behaviour(even, draws, how), minlength=5) / 2000
        assert found == pytest.approx(shares, abs=0.08)


def test_rules_find_what_is_there_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    users, noise = np.arange(2000) % 300, rng.integers(0, 50, (2, 2000))
    rules = rule_accuracies(
        {"length": (noise[0] + 20, noise[1]), "popularity": (noise[0], noise[1])},
        {"writer": (np.zeros(2000, dtype=int), (rng.random(2000) < 0.5).astype(int)), "letter": (noise[0], noise[1])},
        users,
        users,
    )
    assert rules["length"]["value"] == pytest.approx((noise[0] + 20 > noise[1]).mean(), abs=0.02)
    assert rules["writer"]["value"] == pytest.approx(0.75, abs=0.03), "half of the pairs tie"
    assert rules["popularity"]["low"] < 0.5 < rules["popularity"]["high"] + 0.02
    assert 0.45 < rules["letter"]["value"] < 0.55


def test_items_of_a_group_are_judged_together() -> None:
    """Where nothing tells, a rule that knows a part of a group is misled: its items are chosen once each."""
    rng = np.random.default_rng(0)
    items = np.argsort(rng.random((400, 100)), axis=1)[:, :4]
    rejected = np.take_along_axis(items, (np.arange(4) + rng.integers(1, 4, (400, 1))) % 4, axis=1)
    group, users, sides = np.repeat(np.arange(400), 4), rng.integers(0, 90, 1600), (items.ravel(), rejected.ravel())
    whole, divided = (rule_accuracies({}, {"item": sides}, users, unit)["item"]["value"] for unit in (group, users))
    assert divided < 0.4 and 0.47 < whole < 0.53
    liked = rng.random(100) < 0.5  # now a chosen item is liked, a rejected one is not, in three of four pairs
    keep = (liked[sides[0]] & ~liked[sides[1]]) | (rng.random(1600) < 0.15)
    found = rule_accuracies({}, {"item": tuple(side[keep] for side in sides)}, users[keep], group[keep])["item"]
    assert found["low"] > 0.6


def test_words_of_the_text_are_read() -> None:
    rng = np.random.default_rng(0)
    words, users = np.array([f"word{i}" for i in range(60)]), np.arange(1000) % 80
    texts = [[" ".join(row) for row in words[rng.integers(0, 60, (1000, 12))]] for _ in range(2)]
    plain = word_accuracy(pl.Series(texts[0]), pl.Series(texts[1]), users, users)
    assert plain["low"] < 0.5 < plain["high"]
    because = pl.Series([text + " Because" * (i % 2) for i, text in enumerate(texts[0])])
    assert 0.7 < word_accuracy(because, pl.Series(texts[1]), users, users)["value"] < 0.8, "half of the pairs tell"
    once = pl.Series(words[rng.integers(0, 60, 1000)])
    assert word_accuracy(once + " " + once, once, users, users)["value"] == 1.0, "words count as often as they occur"
