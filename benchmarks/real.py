"""A real language model on a real log: SmolLM2-135M on MovieLens 100K, with and without evidence in the options.

    make real RAW=DIR                 # 3,000 train scenes
    make real RAW=DIR SCENES=600      # a fifth of the time, and of what is learnt

Per arm: scenes (`matched`), decision processes (`scripted:neighbours` strong, SmolLM2 weak), pairs, SFT, DPO, and a model
that learns the label alone (direct). Then base, direct, SFT and DPO answer the same test scenes, beside every baseline.
A killed run goes on where it stopped. RESULT.md in the work directory holds the tables.
"""

from __future__ import annotations

import argparse
import json
import platform
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

# Tokens of a prompt with its answer, and of an answer alone, as measured on these scenes.
ROW_TOKENS, ANSWER_TOKENS = 330, 35
TEST_SCENES, REPEAT, CURVE_SCENES = 600, 3, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, default=None, help="directory of MovieLens 100K")
    parser.add_argument("--scenes", type=int, default=3000, help="train scenes per arm")
    parser.add_argument("--work", type=Path, default=Path("runs/real"))
    parser.add_argument("--model", default=MODEL, help="SmolLM2, or another small instruction-tuned model")
    args = parser.parse_args()
    missing = [name for name in FILES if args.raw is None or not (args.raw / name).is_file()]
    if missing:
        sys.exit(
            f"real: {args.raw / missing[0] if args.raw else 'the directory of MovieLens 100K'} is not there; fetch "
            "ml-100k from https://grouplens.org/datasets/movielens/100k/ and run make real RAW=DIR"
        )
    if not Path(args.model).is_dir() and args.model == MODEL:
        sys.exit(f"real: {MODEL} is not there; run make smollm2, or pass --model HuggingFaceTB/SmolLM2-135M-Instruct")
    print(forecast(args.model, args.scenes), flush=True)
    for arm in ARMS:
        run_arm(arm, args)
    result = write_result(args.work, args.scenes)
    print(f"\n{result}\nAll of it is in {args.work / 'RESULT.md'}; pages: {args.work}/*/report/report.html")


def forecast(model: str, scenes: int) -> str:
    """How long the whole will take, from one training step and one batch of answers on this machine."""
    import torch
    from transformers import AutoModelForCausalLM

    from usermirrorer.llm.transformers import TransformersModel, cpu_dtype
    from usermirrorer.steps import Sampling

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else getattr(torch, cpu_dtype(model))
    learner = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(device)
    rows = torch.randint(100, 1000, (4, ROW_TOKENS), device=device)
    for _ in range(2):
        start = time.perf_counter()
        learner(rows, labels=rows).loss.backward()
        row = (time.perf_counter() - start) / len(rows)
    del learner
    reader = TransformersModel(model)
    prompt = [{"role": "user", "content": "film " * ROW_TOKENS}]
    start = time.perf_counter()
    reader.generate([prompt] * 6, REPEAT, Sampling(max_tokens=ANSWER_TOKENS), list(range(6)))
    answered = (time.perf_counter() - start) / 6
    # Trained on: half of the scenes by SFT, as pairs of two rows by DPO (with a reference), all of them by direct.
    trained = scenes * (0.5 + 0.5 * 2 * 4 / 3 + 1.0) * row
    written = scenes * 2 * answered + (3 * TEST_SCENES + 4 * CURVE_SCENES) * 1.5 * answered
    minutes = len(ARMS) * (trained + written) / 60
    return (
        f"About {minutes:,.0f} minutes for {scenes:,} train scenes in {len(ARMS)} arms on this machine ({machine()}): a "
        f"row trains in {row:.2f} s, a scene is answered {REPEAT} times in {answered:.2f} s; fewer with --scenes"
    )


def run_arm(arm: str, args: argparse.Namespace) -> None:
    """All steps of an arm; those that are finished are skipped."""
    work: Path = args.work / arm
    work.mkdir(parents=True, exist_ok=True)
    recipe = yaml.safe_load((RECIPES / "data" / "ml-100k-smollm2.yaml").read_text())
    recipe["domains"][0]["evidence"] = ARMS[arm]
    recipe["domains"][0]["scenes"] |= {"train": args.scenes, "test": TEST_SCENES}
    recipe["distill"]["num"] = args.scenes // 2
    for writer in ("weak", "predictor"):
        recipe[writer]["llm"] = f"transformers:{args.model}"
    (work / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    say(arm, "build")
    run("build", "--config", work / "recipe.yaml", "--work", work, "--raw", f"ml-100k={args.raw}")
    pairs, scenes = work / "pairs" / recipe["name"], work / "scenes" / "ml-100k"
    models = {"base": args.model, "direct": work / "direct", "sft": work / "sft", "dpo": work / "dpo"}
    found = pairs_found(pairs)
    quarter = max(1, found // 8 // 4)
    train(arm, "sft", "sft/config_full", args.model, pairs, models["sft"], quarter)
    train(arm, "dpo", "dpo/config_full", models["sft"], pairs, models["dpo"], quarter)
    train(arm, "sft", "sft/config_direct", args.model, scenes / "train", models["direct"], args.scenes // 8 // 4)
    answer(arm, work / "eval", scenes / "test", {name: models[name] for name in ("base", "sft", "dpo")}, "decision")
    answer(arm, work / "eval-direct", scenes / "test", {"direct": models["direct"]}, "direct")
    run("report", work / "eval", work / "eval-direct", "--out", work / "report")


def train(arm: str, method: str, recipe: str, base: object, data: Path, out: Path, save_steps: int) -> None:
    """One training, unless it is finished."""
    if (out / "train_results.json").is_file():
        return
    say(arm, f"train {out.name}")
    run(
        "train", method, "--config", RECIPES / "smollm2-135m-instruct" / f"{recipe}.yaml", "--accelerate", "cpu",
        "--model_name_or_path", base, "--dataset_name", data, "--output_dir", out, "--save_steps", save_steps,
        "--save_total_limit", 4,
    )  # fmt: skip


def answer(arm: str, out: Path, scenes: Path, models: dict[str, object], mode: str) -> None:
    """Models on test scenes; answers that are there are reused."""
    say(arm, f"eval {', '.join(models)}")
    chosen = [part for name, model in models.items() for part in ("--model", f"{name}=transformers:{model}")]
    prompt = ["--prompt", "plain"] if mode == "decision" else []
    run("eval", *chosen, "--scenes", scenes, "--out", out, "--mode", mode, "--repeat", REPEAT, "--max-tokens", 64, *prompt)


def say(arm: str, what: str) -> None:
    print(f"\n== {arm}: {what} ({time.strftime('%H:%M')})", flush=True)


def run(*words: object) -> None:
    """A command of usermirrorer; its failure ends the run with its status."""
    done = subprocess.run([sys.executable, "-m", "usermirrorer", *map(str, words)])
    if done.returncode:
        sys.exit(done.returncode)


def pairs_found(pairs: Path) -> int:
    import polars as pl

    return len(pl.read_parquet(pairs))


def write_result(work: Path, scenes: int) -> str:
    """Both arms' tables as Markdown, written to RESULT.md."""
    parts = [f"{scenes:,} train scenes, {TEST_SCENES} test scenes of 5 options, chance 0.200; {machine()}."]
    for arm in ARMS:
        summary = json.loads((work / arm / "report" / "summary.json").read_text())
        parts.append(f"\n{arm}: {pairs_found(work / arm / 'pairs' / 'ml-100k-smollm2'):,} pairs\n")
        parts.append((work / arm / "report" / "report.md").read_text())
        del summary
    text = "\n".join(parts)
    (work / "RESULT.md").write_text(text)
    return text


def machine() -> str:
    import torch

    from usermirrorer.llm.transformers import has_bfloat16

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    bits = "bf16" if torch.cuda.is_available() or has_bfloat16() else "fp32"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    return f"{platform.machine()}, {device}, {bits}, {versions}"


if __name__ == "__main__":
    main()
