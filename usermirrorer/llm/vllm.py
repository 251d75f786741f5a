"""Language models under vLLM, in this process. At most one engine is alive; all steps share it."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm import model_path
from usermirrorer.llm.labels import label_tokens
from usermirrorer.llm.prompts import LABELS, PROMPT_DATE
from usermirrorer.llm.protocol import Conversation, Output, Sampling


if TYPE_CHECKING:
    from vllm import LLM

LONGEST = 8192

# (model directory or Hub id, runner) -> the engine; at most one entry, since a GPU holds no two.
_engines: dict[tuple[str, str], LLM] = {}
_cpu_threads: list[tuple[Any, int]] = []


class VLLMModel:
    """A causal model, or a LoRA adapter on one, given by directory or Hub id. Loaded at its first use."""

    def __init__(self, model: str) -> None:
        self.name = f"vllm:{model}"
        self.path = model_path(model)

    def generate(
        self, conversations: Sequence[Conversation], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Output]]:
        """`n` answers to each conversation, sampled with its own seed; shape `(conversations, n)`.

        An answer is at most as long as the model's length leaves room for. Raises UserError if it leaves none.
        """
        from vllm import SamplingParams

        prompts = self._tokens(conversations, add_generation_prompt=True)
        self._check_lengths(prompts)
        # vLLM refuses several greedy samples, which would be the same text anyway.
        draws = n if sampling.temperature > 0 else 1
        params = [
            SamplingParams(
                n=draws,
                seed=seed,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=min(sampling.max_tokens, self.max_length - len(prompt)),
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        results = self._run(prompts, params)
        return [[Output(out.text, out.finish_reason) for out in result.outputs] * (n // draws) for result in results]

    def choice_probs(self, conversations: Sequence[Conversation], labels: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Probability of each label as the next token of the last, open assistant turn; `(options,)` each.

        All other tokens are masked, so each row is the model's distribution given that it names one of the options.
        Raises UserError if a label is not a single, distinct token there or a conversation is too long.
        """
        from vllm import SamplingParams

        prompts = self._tokens(conversations, continue_final_message=True)
        self._check_lengths(prompts)
        allowed = {names: label_tokens(self._encode, names, self.name) for names in {tuple(row) for row in labels}}
        params = {
            names: SamplingParams(
                max_tokens=1, temperature=1.0, allowed_token_ids=ids, logprobs=len(ids), detokenize=False
            )
            for names, ids in allowed.items()
        }
        results = self._run(prompts, [params[tuple(row)] for row in labels])
        rows = []
        for result, names in zip(results, labels, strict=True):
            found = result.outputs[0].logprobs[0]
            ids = allowed[tuple(names)]
            missing = [name for name, token in zip(names, ids, strict=True) if token not in found]
            if missing:
                raise StepFailed(f"vLLM gave no probability for the label '{missing[0]}' of {self.name}")
            probs = np.exp([found[token].logprob for token in ids])
            if abs(probs.sum() - 1) > 1e-4:
                raise StepFailed(f"vLLM's probabilities of {len(ids)} labels of {self.name} sum to {probs.sum():.6f}")
            rows.append(probs / probs.sum())
        return rows

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of unit length, `(texts, width)`, float32. A text too long for the model is cut at its end."""
        llm = engine(self.path, "pooling")
        limit = llm.model_config.max_model_len
        tokenize = {"truncate_prompt_tokens": limit}
        outputs = llm.embed(list(texts), use_tqdm=False, tokenization_kwargs=tokenize)
        vectors = np.array([output.outputs.embedding for output in outputs], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def count_tokens(self, conversations: Sequence[Conversation]) -> list[int]:
        """Tokens of each conversation as it is sent: ready for an answer, or with its last, open answer continued."""
        prompts = [messages for messages in conversations if messages[-1]["role"] != "assistant"]
        opened = [messages for messages in conversations if messages[-1]["role"] == "assistant"]
        prompt_lengths = map(len, self._tokens(prompts, add_generation_prompt=True))
        opened_lengths = map(len, self._tokens(opened, continue_final_message=True))
        return [
            next(opened_lengths if messages[-1]["role"] == "assistant" else prompt_lengths)
            for messages in conversations
        ]

    @cached_property
    def max_length(self) -> int:
        """Tokens of prompt and answer together: the model's context length, at most 8,192."""
        from transformers import AutoConfig

        config = _load(AutoConfig, adapter_base(self.path) or self.path).get_text_config()
        return min(getattr(config, "max_position_embeddings", LONGEST), LONGEST)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's own tokenizer; for an adapter saved without one, its base's."""
        from transformers import AutoTokenizer

        base = adapter_base(self.path)
        has_own = (Path(self.path) / "tokenizer_config.json").is_file()
        tokenizer = _load(AutoTokenizer, base if base and not has_own else self.path)
        if not tokenizer.chat_template:
            raise UserError(f"{self.name} has no chat template: use an instruction-tuned model")
        return tokenizer

    def close(self) -> None:
        """Free the engine. The next request starts it again."""
        if any(path == self.path for path, _ in _engines):
            close()

    def _tokens(self, conversations: Sequence[Conversation], **mode: bool) -> list[list[int]]:
        # Templates of thinking models (Qwen3) write an empty thought: our decision process replaces it.
        if not conversations:
            return []
        thinking = {"enable_thinking": False} if "enable_thinking" in self.tokenizer.chat_template else {}
        texts = self.tokenizer.apply_chat_template(
            list(conversations), tokenize=False, date_string=PROMPT_DATE, **mode, **thinking
        )
        return self._encode(texts)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]

    def _check_lengths(self, prompts: Sequence[Sequence[int]]) -> None:
        for index, prompt in enumerate(prompts):
            if len(prompt) >= self.max_length:
                raise UserError(
                    f"Conversation {index} has {len(prompt)} tokens, which leaves no room for an answer in the "
                    f"{self.max_length} of {self.name}: shorten its history"
                )

    def _run(self, prompts: Sequence[list[int]], params: Sequence[Any]) -> Any:
        llm = engine(self.path)
        lora = None
        if adapter_base(self.path):
            from vllm.lora.request import LoRARequest

            lora = LoRARequest("adapter", 1, self.path)
        inputs: list[Any] = [{"prompt_token_ids": prompt} for prompt in prompts]
        return llm.generate(inputs, list(params), use_tqdm=False, lora_request=lora)


def engine(path: str, runner: str = "generate") -> LLM:
    """The engine of a model, started at the first call; any other model's engine is closed first.

    Without a GPU it runs in float32, eagerly, in this process, and without chunked prefill, with which seeded requests
    crash on a CPU. Text and probabilities are then the same bits alone and in any batch. On a GPU it has vLLM's own
    settings, and rounding makes results depend on the batch.
    """
    key = (path, runner)
    if key not in _engines:
        close()
        _engines[key] = _start(path, runner)
    return _engines[key]


def close() -> None:
    """Free the engine, its memory and its processes."""
    engines = list(_engines.values())
    _engines.clear()
    for llm in engines:
        try:
            llm.llm_engine.engine_core.shutdown()
        except ValueError as error:
            # A training in this process has destroyed torch's process groups, the engine's among them.
            if "process group" not in str(error):
                raise
    gc.collect()
    if _cpu_threads:
        import torch

        # vLLM reduces torch to one thread and disables the setter; a training that follows needs both back.
        torch.set_num_threads, threads = _cpu_threads.pop()
        torch.set_num_threads(threads)


def adapter_base(path: str) -> str | None:
    """The base model if `path` is the directory of a LoRA adapter; None for a whole model."""
    config = Path(path) / "adapter_config.json"
    if not config.is_file():
        return None
    return model_path(json.loads(config.read_text())["base_model_name_or_path"])


def _start(path: str, runner: str) -> LLM:
    on_cpu = _prepare_environment()
    import torch
    from vllm import LLM

    base = adapter_base(path)
    model = base or path
    settings: dict[str, Any] = {"model": model, "runner": runner, "seed": 0, "enable_prefix_caching": True}
    if runner == "generate":
        settings |= {
            "max_model_len": VLLMModel(path).max_length,
            # By default the probabilities are those before masking, and labels outside the top ones are missing.
            "logprobs_mode": "processed_logprobs",
            "max_logprobs": len(LABELS),
        }
    if base:
        rank = json.loads((Path(path) / "adapter_config.json").read_text())["r"]
        settings |= {"enable_lora": True, "max_lora_rank": max(8, 1 << (rank - 1).bit_length())}
    if on_cpu:
        settings |= {"dtype": "float32", "enforce_eager": True, "use_tqdm_on_load": False}
        if runner == "generate":
            settings["enable_chunked_prefill"] = False
        _cpu_threads.append((torch.set_num_threads, torch.get_num_threads()))
        if _width(model) <= 512:
            # A small model's steps are shorter than the time threads would spend on waiting for each other.
            torch.set_num_threads(1)
        _register_architecture(model)
    else:
        settings |= {"dtype": "bfloat16", "gpu_memory_utilization": 0.9}
    try:
        with warnings.catch_warnings(), _stdout_with_a_descriptor():
            warnings.simplefilter("ignore", FutureWarning)
            return LLM(**settings)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"vLLM can't load '{path}': {reason}") from error


@contextmanager
def _stdout_with_a_descriptor() -> Iterator[None]:
    """vLLM silences file descriptor 1 while it starts; a notebook's stdout has none."""
    stdout = sys.stdout
    try:
        stdout.fileno()
    except (OSError, ValueError):
        sys.stdout = sys.__stdout__ or stdout
    try:
        yield
    finally:
        sys.stdout = stdout


def _prepare_environment() -> bool:
    """Set what vLLM and torch read at import, unless the user has; True without a GPU."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    import torch

    if torch.cuda.device_count() > 0:
        return False
    # An engine in this process starts in a second; one in a process of its own has to import vLLM first.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    # Otherwise the first masked request waits for the compiler.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    if "torch._dynamo" in sys.modules and os.environ["TORCHDYNAMO_DISABLE"] == "1":
        torch._dynamo.config.disable = True
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    return True


def _register_architecture(model: str) -> None:
    """Register the model's class in this process: vLLM would start another process to inspect it (15 s)."""
    from transformers import AutoConfig
    from vllm.model_executor.models.registry import ModelRegistry

    for name in _load(AutoConfig, model).architectures or []:
        if name in ModelRegistry.models and hasattr(ModelRegistry.models[name], "module_name"):
            ModelRegistry.register_model(name, ModelRegistry.models[name].load_model_cls())


def _width(model: str) -> int:
    from transformers import AutoConfig

    return _load(AutoConfig, model).get_text_config().hidden_size


def _load(kind: Any, model: str) -> Any:
    try:
        return kind.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise UserError(
            f"'{model}' is not a model that can be loaded: give the directory of one, a Hub id or tiny-base"
        ) from error
