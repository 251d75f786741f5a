"""Language models under transformers, in this process: for processors, Macs, Windows and notebooks, without vLLM."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usermirrorer.llm.engines.local import SMALL, LocalModel, adapter_base, load, model_config
from usermirrorer.llm.execution import BatchSession
from usermirrorer.llm.labels import label_tokens
from usermirrorer.llm.protocol import Conversation, Output
from usermirrorer.records import read_record
from usermirrorer.steps import EngineSettings, Sampling


if TYPE_CHECKING:
    from usermirrorer.llm.engines.decoding import PromptsRead


SLOTS = 192
"""Answers asked for at a time; `decoding.ROWS` of them advance together."""

# (model directory or Hub id, kind of weights, precision) -> the model; at most one entry.
_loaded: dict[tuple[str, str, str], Any] = {}


class TransformersModel(LocalModel):
    """A causal model, or a LoRA adapter on one, given by directory or Hub id. Loaded at its first use.

    Of the settings, `dtype` and `max_model_len` count. `auto` is bfloat16 on a GPU, and on a CPU what the
    saved weights have, but float32 if the processor has no bfloat16 instructions.
    """

    def __init__(self, model: str, settings: EngineSettings | None = None) -> None:
        super().__init__("transformers", model, settings)
        self.dtype = None if self.settings.dtype == "auto" else self.settings.dtype
        self._read: PromptsRead | None = None

    def session(self) -> BatchSession:
        """The model, answering what has been submitted in batches."""
        return BatchSession(self, SLOTS)

    def generate(
        self, conversations: Sequence[Conversation], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Output]]:
        """`n` answers to each conversation, `(conversations, n)`; UserError if a prompt leaves no room for one."""
        import torch

        from usermirrorer.llm.engines.decoding import sample_answers

        prompts = self.fitting_tokens(conversations)
        model, prompts_read = self._model("causal"), self._prompts_read()
        draws = n if sampling.temperature > 0 else 1
        with torch.inference_mode(), _threads(model):
            written = sample_answers(prompts_read, prompts, draws, sampling, seeds, _stops(model), self.max_length)
        return [
            [
                Output(
                    self.tokenizer.decode(job.tokens, skip_special_tokens=True), "stop" if job.stopped else "length"
                )
                for job in row
            ]
            * (n // draws)
            for row in written
        ]

    def choice_probs(self, conversations: Sequence[Conversation], labels: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Probability of each label as the next token of the open turn, given that it is one of them; `(options,)`.

        What conversations share up to their last turn is read once. Raises UserError if a label is not a single,
        distinct token there or a conversation is too long.
        """
        import torch

        from usermirrorer.llm.engines.decoding import read

        contexts = self.fitting_tokens(conversations)
        prompts = self.tokens([messages[:-1] for messages in conversations])
        allowed = {names: label_tokens(self.encode, names, self.name) for names in {tuple(row) for row in labels}}
        model, prompts_read, rows = self._model("causal"), self._prompts_read(), []
        with torch.inference_mode(), _threads(model):
            for context, prompt, names in zip(contexts, prompts, labels, strict=True):
                if context[: len(prompt)] == prompt:
                    logits, _ = read(model, context[len(prompt) :], prompts_read.read(prompt)[1])
                else:
                    logits, _ = read(model, context)
                rows.append(logits[allowed[tuple(names)]].double().softmax(0).cpu().numpy())
        return rows

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of unit length, `(texts, width)`, float32. A text too long for the model is cut at its end."""
        import torch

        model = self._model("encoder")
        vectors = []
        with torch.inference_mode(), _threads(model):
            for text in self.renderer.plain(texts):
                ids = self.tokenizer(text, truncation=True, max_length=self.max_length)["input_ids"]
                states = model(input_ids=torch.tensor([ids], device=model.device)).last_hidden_state[0].float()
                vectors.append(_pooled(states, self.path).cpu().numpy())
        stacked = np.array(vectors, dtype=np.float32)
        return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)

    def _prompts_read(self) -> PromptsRead:
        """The prompts that the loaded model has read."""
        from usermirrorer.llm.engines.decoding import PromptsRead

        model = self._model("causal")
        if self._read is None or self._read.model is not model:
            self._read = PromptsRead(model)
        return self._read

    def _model(self, kind: str) -> Any:
        """The loaded model, on a GPU if there is one; any other model is dropped first."""
        import torch
        from transformers import AutoModel, AutoModelForCausalLM
        from transformers.utils import logging

        from usermirrorer.llm.engines.decoding import ATTENTION

        logging.disable_progress_bar()
        base = adapter_base(self.path) or self.path
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        dtype = self.dtype or ("bfloat16" if accelerator else cpu_dtype(base))
        key = (self.path, kind, dtype)
        if key not in _loaded:
            _loaded.clear()
            gc.collect()
            if kind == "causal":
                options = {"dtype": getattr(torch, dtype), "attn_implementation": ATTENTION}
                model = load(AutoModelForCausalLM, base, **options)
            else:
                model = load(AutoModel, base, dtype=getattr(torch, dtype))
            if base != self.path:
                from peft import PeftModel

                model = PeftModel.from_pretrained(model, self.path)
            _loaded[key] = model.eval().to(accelerator or "cpu")
        return _loaded[key]


def cpu_dtype(model: str) -> str:
    """Precision of a model's weights on this processor: as saved, but float32 without bfloat16 instructions."""
    saved = str(getattr(model_config(model), "dtype", None)).removeprefix("torch.")
    return "bfloat16" if saved in ("bfloat16", "float16") and has_bfloat16() else "float32"


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware (AMX or AVX-512)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


@contextmanager
def _threads(model: Any) -> Iterator[None]:
    """One thread for a small model on a CPU: its steps are shorter than the time threads would wait for each other."""
    import torch

    threads = torch.get_num_threads()
    if model.device.type == "cpu" and model.config.get_text_config().hidden_size <= SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _stops(model: Any) -> set[int]:
    """Tokens that end an answer."""
    stops = model.generation_config.eos_token_id
    return set() if stops is None else {stops} if isinstance(stops, int) else set(stops)


def _pooled(states: Any, path: str) -> Any:
    """One vector `(width,)` for a text's states `(tokens, width)`, as a sentence model's own files say.

    A model without such files gives its last token's state if it reads from left to right, else its first token's.
    """
    config = Path(path) / "1_Pooling" / "config.json"
    modes = read_record(config, "give the directory of another model") if config.is_file() else {}
    if modes.get("pooling_mode_mean_tokens"):
        return states.mean(0)
    reads_both_ways = any("Bert" in name for name in model_config(path).architectures or [])
    return states[0] if modes.get("pooling_mode_cls_token") or (not modes and reads_both_ways) else states[-1]
