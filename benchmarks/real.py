"""A real language model on a real log: SmolLM2-135M on MovieLens 100K, with and without evidence in the options.

    make real RAW=DIR                 # 2,000 train scenes in each arm
    make real RAW=DIR SCENES=400      # a fifth of the time, and of what is learnt

Each arm makes `matched` scenes and decision processes (`scripted:neighbours` strong, SmolLM2 weak). Untuned, SmolLM2
can't bind a title to its label, so `scripted:reader` judges the first pairs, which SFT learns from; the SFT model
judges the pairs that DPO learns from. A fourth model learns the label alone (direct). Base, direct, SFT and DPO then
answer the same test scenes, and SFT's checkpoints some of them. A killed run goes on where it stopped; WORK/RESULT.md
holds the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import yaml


RECIPES = Path(__file__).parent.parent / "recipes"
MODEL = "runs/models/smollm2-135m-instruct"
FILES = ("u.data", "u.item", "u.user")

ARMS = {"evidence": True, "plain": False}
LEARNT = ("sft", "dpo", "direct")
MADE = ("tables", "embeddings", "scenes", "features", "baselines", "decisions")

# Tokens of a prompt with its answer, and of an answer alone, as these scenes have them.
ROW_TOKENS, ANSWER_TOKENS = 340, 30
MOST_TEST_SCENES, CURVE_SCENES, REPEAT = 600, 200, 3
BATCH, CHECKPOINTS, EPOCHS = 8, 4, 2


# Threads that wait in a loop slow each other down ten times over as soon as the machine has anything else to do.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, help="directory of MovieLens 100K")
    parser.add_argument("--scenes", type=int, default=2000, help="train scenes of each arm")
    parser.add_argument("--arms", default=",".join(ARMS), help="evidence, plain or both")
    parser.add_argument("--work", type=Path, default=Path("runs/real"))
    parser.add_argument("--model", default=MODEL, help="SmolLM2, or another small instruction-tuned model")
    args = parser.parse_args()
    arms = args.arms.split(",")
    missing = [name for name in FILES if args.raw is None or not (args.raw / name).is_file()]
    if missing:
        place = args.raw / missing[0] if args.raw else "the directory of MovieLens 100K"
        sys.exit(f"real: {place} is not there; fetch ml-100k from grouplens.org and run make real RAW=DIR")
    if args.model == MODEL and not Path(MODEL).is_dir():
        sys.exit(f"real: {MODEL} is not there; run make smollm2, or pass --model HuggingFaceTB/SmolLM2-135M-Instruct")
    print(forecast(args.model, args.scenes, len(arms)), flush=True)
    for arm in arms:
        run_arm(arm, args)
    result = write_result(args.work, arms, args.scenes)
    print(f"\n{result}\nAll of this is in {args.work / 'RESULT.md'}; pages: {args.work}/*/report/report.html")


def forecast(model: str, scenes: int, arms: int) -> str:
    """How long the whole will take, from a training step and a batch of answers on this machine."""
    import torch
    from transformers import AutoModelForCausalLM

    from usermirrorer.llm.engines.transformers import TransformersModel, cpu_dtype
    from usermirrorer.steps import Sampling

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else getattr(torch, cpu_dtype(model))
    learner = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(device)
    rows = torch.randint(100, 1000, (4, ROW_TOKENS), device=device)
    scored = ANSWER_TOKENS + 1  # an answer's tokens alone reach the output layer, as in training
    for _ in range(2):
        start = time.perf_counter()
        learner(rows, labels=rows[:, -scored:], logits_to_keep=scored).loss.backward()
        row = (time.perf_counter() - start) / len(rows)
    del learner
    reader, prompt = TransformersModel(model), [{"role": "user", "content": "film " * ROW_TOKENS}]
    start = time.perf_counter()
    reader.generate([prompt] * 8, REPEAT, Sampling(max_tokens=ANSWER_TOKENS), list(range(8)))
    answer = (time.perf_counter() - start) / 8
    # SFT and direct see about half of the scenes twice, DPO a fifth in two rows with a reference.
    trained = scenes * (0.5 * EPOCHS + 0.2 * 2 * 4 / 3 + 0.5 * EPOCHS) * row
    answered = (scenes * 1.5 + 3.5 * min(scenes, MOST_TEST_SCENES) + CHECKPOINTS * CURVE_SCENES / 2) * answer
    minutes = arms * (trained + answered) / 60
    return (
        f"About {minutes:,.0f} minutes for {scenes:,} train scenes in {arms} arms on this machine ({machine()}): a "
        f"row trains in {row:.2f} s, a scene is answered in {answer:.2f} s; --scenes makes it shorter"
    )


def run_arm(arm: str, args: argparse.Namespace) -> None:
    """All steps of an arm; those that are finished are skipped."""
    work: Path = args.work / arm
    sft, dpo, direct = (work / "models" / name for name in ("sft", "dpo", "direct"))
    scenes = work / "scenes" / "ml-100k"
    first = build(arm, work, args, judge="scripted:reader")
    if first is None:
        sys.exit(1)
    fit(arm, "sft", "sft/config_full", args.model, first, sft, EPOCHS, kept=CHECKPOINTS)
    again = work / "judged-by-sft"
    for name in MADE:
        if not (again / name).exists():
            shutil.copytree(work / name, again / name)
    second = build(arm, again, args, judge=local(sft))
    if second is None:
        say(arm, "the SFT model judges too few decision processes alike: DPO learns from the first pairs")
        second = first
    fit(arm, "dpo", "dpo/config_full", sft, second, dpo)
    models = {"base": args.model, "sft": sft, "dpo": dpo}
    answer(arm, work / "eval", scenes / "test", models, "--prompt", "plain", "--repeat", REPEAT)
    some = work / "curve.parquet"
    if not some.is_file():
        import polars as pl

        pl.read_parquet(scenes / "test").head(CURVE_SCENES).write_parquet(some)
    steps = {f"step-{path.name.split('-')[1]}": path for path in sorted(sft.glob("checkpoint-*"))}
    answer(arm, work / "eval-curve", some, steps, "--prompt", "plain", "--repeat", 1)
    fit(arm, "sft", "sft/config_direct", args.model, scenes / "train", direct, EPOCHS, rows=count(first))
    answer(arm, work / "eval-direct", scenes / "test", {"direct": direct}, "--mode", "direct")
    run("report", work / "eval", work / "eval-direct", "--out", work / "report")


def build(arm: str, work: Path, args: argparse.Namespace, judge: str) -> Path | None:
    """Scenes, decision processes and pairs, with a judge of what each process names; where the pairs are.

    None if there are fewer than a tenth of those asked for.
    """
    say(arm, f"build, judged by {judge}")
    recipe = yaml.safe_load((RECIPES / "data" / "ml-100k-smollm2.yaml").read_text())
    recipe["domains"][0]["evidence"] = ARMS[arm]
    recipe["domains"][0]["scenes"] |= {"train": args.scenes, "test": min(args.scenes, MOST_TEST_SCENES)}
    recipe["weak"]["llm"], recipe["predictor"]["llm"] = local(args.model), judge
    recipe["distill"]["num"] = args.scenes * 3 // 5 if judge.startswith("scripted") else args.scenes // 5
    work.mkdir(parents=True, exist_ok=True)
    (work / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    done = run(
        "build", "--config", work / "recipe.yaml", "--work", work, "--raw", f"ml-100k={args.raw}", may_fail=True
    )
    return None if done else work / "pairs" / recipe["name"]


def fit(
    arm: str,
    method: str,
    recipe: str,
    base: object,
    data: Path,
    out: Path,
    epochs: int = 1,
    rows: int | None = None,
    kept: int = 1,
) -> None:
    """One training for so many rows (None: all) times epochs, unless it is finished, with checkpoints on the way.

    The last `kept` of them stay.
    """
    if (out / "train_results.json").is_file():
        return
    say(arm, f"train {out.name}")
    steps = max(1, epochs * (rows or count(data)) // BATCH)
    every = max(1, steps // CHECKPOINTS)
    run(
        "train", method, "--config", RECIPES / "smollm2-135m-instruct" / f"{recipe}.yaml", "--accelerate", "cpu",
        "--model_name_or_path", base, "--dataset_name", data, "--output_dir", out,
        "--max_steps", steps, "--save_steps", every, "--save_total_limit", kept,
    )  # fmt: skip


def answer(arm: str, out: Path, scenes: Path, models: dict[str, object], *options: object) -> None:
    """Models on test scenes; answers that are there are reused."""
    say(arm, f"eval {', '.join(models)}")
    chosen = [part for name, model in models.items() for part in ("--model", f"{name}={local(model)}")]
    run("eval", *chosen, "--scenes", scenes, "--out", out, "--max-tokens", 64, *options)


def local(model: object) -> str:
    """The SPEC of a model on this machine: on a CPU, transformers keeps its bfloat16 weights and vLLM does not."""
    import torch

    return f"{'vllm' if torch.cuda.is_available() else 'transformers'}:{model}"


def run(*words: object, may_fail: bool = False) -> int:
    """A command of usermirrorer; its status. One that fails ends the run, unless it failed (status 1) and may."""
    done = subprocess.run([sys.executable, "-m", "usermirrorer", *map(str, words)]).returncode
    if done and not (may_fail and done == 1):
        sys.exit(done)
    return done


def say(arm: str, what: str) -> None:
    print(f"\n== {arm}: {what} ({time.strftime('%H:%M')})", flush=True)


def count(data: Path) -> int:
    import polars as pl

    return len(pl.read_parquet(data, columns=["scene_id"]))


def write_result(work: Path, arms: list[str], scenes: int) -> str:
    """The arms' tables and learning curves as Markdown, in RESULT.md."""
    tests = min(scenes, MOST_TEST_SCENES)
    parts = [f"{scenes:,} train scenes, {tests} test scenes of 5 options, chance 0.200; {machine()}."]
    for arm in arms:
        states = (json.loads((work / arm / "models" / name / "trainer_state.json").read_text()) for name in LEARNT)
        rows = ", ".join(f"{name} {state['max_steps'] * BATCH:,}" for name, state in zip(LEARNT, states, strict=True))
        parts.append(f"## {arm}: rows learnt from, each as often as it was seen: {rows}")
        parts.append((work / arm / "report" / "report.md").read_text())
        parts.append(curve_table(json.loads((work / arm / "eval-curve" / "metrics.json").read_text())))
    text = "\n\n".join(parts) + "\n"
    (work / "RESULT.md").write_text(text)
    return text


def curve_table(metrics: dict) -> str:
    """SFT's checkpoints in the order of their steps."""
    measured = {int(name.removeprefix("step-")): row["contexts"]["full"] for name, row in metrics["models"].items()}
    lines = [f"| SFT, {CURVE_SCENES} test scenes | arg-max accuracy |", "|---|---|"]
    for step, row in sorted(measured.items()):
        accuracy = row["macro"]["argmax_accuracy"]
        lines.append(
            f"| after {step} steps | {accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}] |"
        )
    return "\n".join(lines)


def machine() -> str:
    import torch

    from usermirrorer.llm.engines.transformers import has_bfloat16

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    bits = "bf16" if torch.cuda.is_available() or has_bfloat16() else "fp32"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    return f"{platform.machine()}, {device}, {bits}, {versions}"


if __name__ == "__main__":
    main()
