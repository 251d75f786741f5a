"""Language models under vLLM, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from usermirrorer.errors import StepFailed
from usermirrorer.llm.engines.engine import engine
from usermirrorer.llm.engines.local import LocalModel, adapter_base
from usermirrorer.llm.engines.pools import pool
from usermirrorer.llm.execution import ask_all
from usermirrorer.llm.labels import label_tokens
from usermirrorer.llm.protocol import Conversation, Output
from usermirrorer.llm.requests import Answer, Request, Session, Usage, Weigh, Write
from usermirrorer.steps import EngineSettings, Sampling


class VLLMModel(LocalModel):
    """A causal model, or a LoRA adapter on one, given by directory or Hub id. Loaded at its first use."""

    def __init__(self, model: str, settings: EngineSettings | None = None) -> None:
        super().__init__("vllm", model, settings)

    def session(self) -> Session:
        """The engine, ready for requests; several, in other processes or on other nodes, if the settings say so."""
        if self.settings.runner == "local" and self.settings.data_parallel_size == 1:
            return VLLMSession(self)
        return pool(self.path, self.settings)

    def generate(
        self, conversations: Sequence[Conversation], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Output]]:
        """`n` answers to each conversation, `(conversations, n)`; UserError if a prompt leaves no room for one."""
        asked = zip(conversations, seeds, strict=True)
        return ask_all(self.session(), [Write(messages, n, sampling, seed) for messages, seed in asked])

    def choice_probs(self, conversations: Sequence[Conversation], labels: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Probability of each label as the next token of the open turn, given that it is one of them; `(options,)`.

        Raises UserError if a label is not a single, distinct token there or a conversation is too long.
        """
        asked = zip(conversations, labels, strict=True)
        return ask_all(self.session(), [Weigh(messages, names) for messages, names in asked])

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of unit length, `(texts, width)`, float32. A text too long for the model is cut at its end."""
        import torch
        from vllm.inputs.engine import tokens_input

        llm = engine(self.path, "pooling", self.settings)
        longest = llm.model_config.max_model_len
        plain = self.renderer.plain(texts)
        ids = self.tokenizer(plain, truncation=True, max_length=longest, return_attention_mask=False)["input_ids"]
        # As `embed`, whose vectors are lists of Python numbers.
        outputs = llm.encode([tokens_input(row) for row in ids], pooling_task="embed", use_tqdm=False)
        vectors = torch.stack([output.outputs.data for output in outputs]).float().cpu().numpy()
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class VLLMSession:
    """Requests to the engine of a model: they join the running batch as soon as there is room."""

    def __init__(self, model: VLLMModel) -> None:
        self.model = model
        self.engine = engine(model.path, settings=model.settings).llm_engine
        # The engine sets what vLLM reads at import.
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        self.tokens_input = tokens_input
        self.params = partial(SamplingParams, output_kind=RequestOutputKind.FINAL_ONLY)
        # As many again wait inside the engine, which in a process of its own does not wait for this one then.
        self.slots = 2 * self.engine.vllm_config.scheduler_config.max_num_seqs
        self.lora = None
        if adapter_base(model.path):
            from vllm.lora.request import LoRARequest

            self.lora = LoRARequest("adapter", 1, model.path)
        self.usage = Usage()
        self.weighing: dict[tuple[str, ...], tuple[list[int], Any]] = {}
        """By the labels, their tokens and the sampling parameters"""
        self.asked: dict[str, tuple[int, Request]] = {}

    def prepare(self, requests: Sequence[Request]) -> list[tuple[Request, list[int], Any]]:
        """Each request with its tokens and sampling parameters. UserError if one leaves no room for an answer."""
        tokens = self.model.fitting_tokens([request.conversation for request in requests])
        return [
            (request, prompt, self._params(request, len(prompt)))
            for request, prompt in zip(requests, tokens, strict=True)
        ]

    def submit(self, key: int, prepared: Any) -> None:
        request, prompt, params = prepared
        self.asked[str(key)] = (key, request)
        self.engine.add_request(str(key), self.tokens_input(prompt), params, lora_request=self.lora)

    def collect(self) -> list[tuple[int, Answer | Exception]]:
        while True:
            if ended := [result for result in self.engine.step() if result.finished]:
                return [self._answer(result) for result in ended]

    def close(self) -> None:
        if self.asked:
            self.engine.abort_request(list(self.asked))
            self.asked.clear()

    def _params(self, request: Request, prompt: int) -> Any:
        if isinstance(request, Weigh):
            return self._weighing(request)[1]
        sampling = request.sampling
        return self.params(
            # vLLM refuses several greedy samples, which would be the same text anyway.
            n=request.n if sampling.temperature > 0 else 1,
            seed=request.seed,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_tokens, self.model.max_length - prompt),
        )

    def _weighing(self, request: Weigh) -> tuple[list[int], Any]:
        names = tuple(request.labels)
        if names not in self.weighing:
            ids = label_tokens(self.model.encode, names, self.model.name)
            params = self.params(
                max_tokens=1, temperature=1.0, allowed_token_ids=ids, logprobs=len(ids), detokenize=False
            )
            self.weighing[names] = ids, params
        return self.weighing[names]

    def _answer(self, result: Any) -> tuple[int, Answer | Exception]:
        key, request = self.asked.pop(result.request_id)
        written = sum(len(out.token_ids) for out in result.outputs)
        self.usage.add(len(result.prompt_token_ids), result.num_cached_tokens or 0, written)
        if isinstance(request, Weigh):
            return key, self._probs(result, request)
        outputs = [Output(out.text, out.finish_reason) for out in result.outputs]
        return key, outputs * (request.n // len(outputs))

    def _probs(self, result: Any, request: Weigh) -> np.ndarray | StepFailed:
        found, name = result.outputs[0].logprobs[0], self.model.name
        ids, _ = self._weighing(request)
        missing = [label for label, token in zip(request.labels, ids, strict=True) if token not in found]
        if missing:
            return StepFailed(f"vLLM gave no probability for the label '{missing[0]}' of {name}")
        probs = np.exp([found[token].logprob for token in ids])
        if not abs(probs.sum() - 1) <= 1e-4:
            return StepFailed(f"vLLM's probabilities of {len(ids)} labels of {name} sum to {probs.sum():.6f}")
        return probs / probs.sum()
