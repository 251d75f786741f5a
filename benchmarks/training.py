"""Our training against a bare TRL script on the same rows, and what packing and a precomputed reference are worth.

    python benchmarks/training.py                                # a made-up model of a million weights, on a CPU
    python benchmarks/training.py --model runs/models/smollm2-135m-instruct --pairs 3
    python benchmarks/training.py --shape qwen2.5-3b --lora --tokens 1024   # random weights, on a GPU

Each measurement is a process of its own: `ours` is `python -m usermirrorer.train.METHOD`, `bare` is TRL's trainer with
the same settings on the same rows. They alternate. What is compared is the time in the trainer's loop; beside it stand
the whole process, the peak of memory, and the losses, which must be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml


LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
LORA = {"use_peft": True, "lora_r": 16, "lora_target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}

# bf16 products of a device, per second.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}

# Shapes of the recipes' models, for random weights.
SHAPES = {
    "qwen2.5-3b": ("Qwen2", {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
                             "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936}),
    "llama-3.2-3b": ("Llama", {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
                               "num_attention_heads": 24, "num_key_value_heads": 8, "vocab_size": 128256}),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-base")
    parser.add_argument("--shape", choices=SHAPES, help="random weights of this shape instead of a model")
    parser.add_argument("--lora", action="store_true", help="train an adapter")
    parser.add_argument("--pairs", type=int, default=7, help="alternating pairs of runs")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=0, help="about how long the rows are; 0: as they come")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(*given.child)))
        return
    with tempfile.TemporaryDirectory() as directory:
        measure(given, Path(directory))


def measure(given: argparse.Namespace, directory: Path) -> None:
    """Print everything: the machine, the pairs of runs, and what the two ways to save time are worth."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    print(f"{platform.processor() or platform.machine()}, {device}, Python {platform.python_version()}")
    print(", ".join(f"{name} {installed(name)}" for name in LIBRARIES))
    model = random_model(given.shape, directory) if given.shape else given.model
    data = write_rows(directory / "pairs", given.batch * given.steps, given.tokens)
    for method in ("sft", "dpo"):
        common = settings(given, method, model, data)
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "bare": []}
        for turn in range(given.pairs):
            for kind in ("ours", "bare") if turn % 2 == 0 else ("bare", "ours"):
                runs[kind].append(run(kind, method, common, directory / f"{method}-{kind}-{turn}"))
        report(method, runs)
    variants = [("sft", "packing", {"packing": True}), ("dpo", "precompute_ref_log_probs", {})]
    for method, name, change in variants:
        common = settings(given, method, model, data) | {"max_steps": -1, "num_train_epochs": 2}
        without = {**common, "precompute_ref_log_probs": False} if method == "dpo" else common
        ratios, losses = [], []
        for turn in range(max(1, given.pairs // 2)):
            slow = run("ours", method, without, directory / f"{method}-without-{turn}")
            fast = run("ours", method, {**common, **change}, directory / f"{method}-with-{turn}")
            ratios.append(slow["whole_loop"] / fast["whole_loop"])
            losses.append((slow["losses"][0], fast["losses"][0]))
        print(f"{method}, {name}: {statistics.median(ratios):.2f} times as fast over two epochs "
              f"(first losses {losses[0][0]:.4f} without, {losses[0][1]:.4f} with)")  # fmt: skip


def report(method: str, runs: dict[str, list[dict[str, Any]]]) -> None:
    ratios = [ours["seconds"] / bare["seconds"] for ours, bare in zip(runs["ours"], runs["bare"], strict=True)]
    whole = [ours["whole"] / bare["whole"] for ours, bare in zip(runs["ours"], runs["bare"], strict=True)]
    apart = max(
        abs(a - b)
        for ours, bare in zip(runs["ours"], runs["bare"], strict=True)
        for a, b in zip(ours["losses"], bare["losses"], strict=True)
    )
    for kind, found in runs.items():
        one = found[0]
        seconds = statistics.median(each["seconds"] for each in found)
        print(
            f"{method} {kind}: {one['samples'] / seconds:.2f} samples/s, {one['tokens'] / seconds:,.0f} tokens/s, "
            f"peak {max(each['peak'] for each in found) / 2**30:.2f} GiB{utilisation(one, seconds)}"
        )
    spread = f"{min(ratios):.3f}-{max(ratios):.3f}"
    print(f"{method}: ours takes {statistics.median(ratios):.3f} of bare TRL's time in the loop ({spread}), "
          f"{statistics.median(whole):.3f} of the whole process; losses differ by at most {apart:.2g}")  # fmt: skip


def utilisation(one: dict[str, Any], seconds: float) -> str:
    """Share of the device's products that the training needed: 6 for each weight and token, 8 with checkpointing."""
    flops = next((flops for name, flops in PEAK_FLOPS.items() if name in one["device"]), None)
    if flops is None:
        return ""
    return f", MFU {6 * one['weights'] * one['tokens'] / seconds / flops:.1%}"


def settings(given: argparse.Namespace, method: str, model: str, data: Path) -> dict[str, Any]:
    """One recipe for both kinds."""
    import torch

    gpu = torch.cuda.is_available()
    recipe: dict[str, Any] = {
        "model_name_or_path": model,
        "dtype": "bfloat16" if gpu else "float32",
        "dataset_name": str(data),
        "max_length": 8192,
        "per_device_train_batch_size": given.batch,
        "max_steps": given.steps,
        "learning_rate": 1e-5,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": not gpu,
        "bf16": gpu,
        "gradient_checkpointing": gpu,
        "seed": 0,
        **(LORA if given.lora else {}),
    }
    return {**recipe, "precompute_ref_log_probs": True} if method == "dpo" else recipe


def run(kind: str, method: str, recipe: dict[str, Any], path: Path) -> dict[str, Any]:
    """One training in a process of its own."""
    path.mkdir(parents=True)
    file = path / "recipe.yaml"
    file.write_text(yaml.safe_dump({**recipe, "output_dir": str(path / "out")}))
    command = [sys.executable, __file__, "--child", f"{method}-{kind}", str(file)]
    start = time.perf_counter()
    # A cache of its own: TRL keeps a reference's log-probabilities, and the next run would find them.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "whole": time.perf_counter() - start}


def child(kind: str, recipe: str) -> dict[str, Any]:
    """Train as `ours` or `bare`; what the loop took, read and needed."""
    import importlib

    import torch

    from usermirrorer.llm.paths import model_path

    method, way = kind.split("-")
    given = yaml.safe_load(Path(recipe).read_text())
    out = Path(given["output_dir"])
    start = time.perf_counter()
    if way == "ours":
        importlib.import_module(f"usermirrorer.train.{method}").main(["--config", recipe])
    else:
        bare(method, given, model_path(given["model_name_or_path"]))
    whole_loop = time.perf_counter() - start
    state = json.loads((out / "trainer_state.json").read_text())
    steps = [entry for entry in state["log_history"] if "loss" in entry]
    loop = next(entry for entry in reversed(state["log_history"]) if "train_runtime" in entry)
    gpu = torch.cuda.is_available()
    return {
        "seconds": loop["train_runtime"],
        "whole_loop": whole_loop,
        "samples": state["global_step"] * given["per_device_train_batch_size"],
        "tokens": steps[-1]["num_tokens"],
        "losses": [entry["loss"] for entry in steps],
        "peak": torch.cuda.max_memory_allocated()
        if gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "device": torch.cuda.get_device_name() if gpu else "CPU",
        "weights": weights_of(model_path(given["model_name_or_path"])),
    }


def bare(method: str, given: dict[str, Any], model: str) -> None:
    """The shortest script that trains on these rows with TRL alone."""
    import trl
    from datasets import load_dataset
    from transformers import AutoTokenizer

    config, trainer = {"sft": (trl.SFTConfig, trl.SFTTrainer), "dpo": (trl.DPOConfig, trl.DPOTrainer)}[method]
    ours = {"dataset_name", "model_name_or_path", "dtype", *LORA}
    args = config(**{name: value for name, value in given.items() if name not in ours})
    args.model_init_kwargs = {"dtype": given["dtype"]}
    rows = load_dataset("parquet", data_files=str(Path(given["dataset_name"]) / "*.parquet"), split="train")
    rows = rows.select_columns(["prompt", "chosen", *(["rejected"] if method == "dpo" else [])])
    if method == "sft":
        rows = rows.rename_column("chosen", "completion")
    peft = (
        trl.get_peft_config(trl.ModelConfig(**{name: given[name] for name in LORA})) if "use_peft" in given else None
    )
    tokenizer = AutoTokenizer.from_pretrained(model)
    trained = trainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer, peft_config=peft)
    trained.train()
    trained.save_model(given["output_dir"])
    trained.save_state()


def write_rows(directory: Path, count: int, tokens: int) -> Path:
    """Pairs in the toy's own words, as `distill` writes them; `tokens` is about how long a row becomes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from usermirrorer.data.artefacts.schema import PAIRS
    from usermirrorer.llm.prompts import LABELS, answered, conversation

    tastes, things = ("sweet", "sour", "salty", "bitter", "hot"), ("cake", "tea", "soup", "bread", "jam")
    draw = random.Random(0)
    found = []
    for number in range(count):
        chosen, rejected = draw.sample(range(5), 2)
        eaten = max(draw.randrange(4, 12), tokens // 4)
        text = {
            "profile": "",
            "history": "\n".join(f"chose {tastes[chosen]} {draw.choice(things)}" for _ in range(eaten)),
            "action_list": [f"{taste} {draw.choice(things)}" for taste in tastes],
        }
        sides = {"chosen": chosen, "rejected": rejected}
        answers = {side: answered(f"I like {tastes[at]} {draw.choice(things)}.", at) for side, at in sides.items()}
        found.append(
            {
                "scene_id": f"{number:016x}",
                "dataset": "toy",
                "user_id": f"u{number}",
                "item_id": str(chosen),
                "prompt": conversation(text, "plain"),
                **{side: [{"role": "assistant", "content": answer}] for side, answer in answers.items()},
                "behavior_chosen": LABELS[chosen],
                "behavior_rejected": LABELS[rejected],
                "choice_cnt": 5,
            }
        )
    directory.mkdir()
    pq.write_table(pa.Table.from_pylist(found, schema=PAIRS), directory / "part-00000.parquet")
    return directory


def random_model(shape: str, directory: Path) -> str:
    """Random weights of a recipe's shape, behind the tokenizer of the tiny base."""
    import torch
    import transformers
    from transformers import AutoTokenizer

    from usermirrorer.llm.paths import model_path

    family, widths = SHAPES[shape]
    tokenizer = AutoTokenizer.from_pretrained(model_path("tiny-base"))
    config = getattr(transformers, f"{family}Config")(
        **widths, tie_word_embeddings=True, max_position_embeddings=8192, eos_token_id=tokenizer.eos_token_id
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config).to(torch.bfloat16)
    model.save_pretrained(directory / shape)
    tokenizer.save_pretrained(directory / shape)
    return str(directory / shape)


def weights_of(model: str) -> int:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return sum(
            weight.numel()
            for weight in AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model)).parameters()
        )


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


if __name__ == "__main__":
    main()
