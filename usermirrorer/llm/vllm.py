"""Language models under vLLM, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from usermirrorer.errors import StepFailed
from usermirrorer.llm.engine import engine
from usermirrorer.llm.labels import label_tokens
from usermirrorer.llm.local import LocalModel, adapter_base
from usermirrorer.llm.protocol import Conversation, Output
from usermirrorer.steps import Sampling


class VLLMModel(LocalModel):
    """A causal model, or a LoRA adapter on one, given by directory or Hub id. Loaded at its first use."""

    def __init__(self, model: str) -> None:
        super().__init__("vllm", model)

    def generate(
        self, conversations: Sequence[Conversation], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Output]]:
        """`n` answers to each conversation, `(conversations, n)`; UserError if a prompt leaves no room for one."""
        from vllm import SamplingParams

        prompts = self.fitting_tokens(conversations)
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
        """Probability of each label as the next token of the open turn, given that it is one of them; `(options,)`.

        Raises UserError if a label is not a single, distinct token there or a conversation is too long.
        """
        from vllm import SamplingParams

        prompts = self.fitting_tokens(conversations)
        tokens = {names: label_tokens(self.encode, names, self.name) for names in {tuple(row) for row in labels}}
        allowed = [tokens[tuple(names)] for names in labels]
        params = [
            SamplingParams(max_tokens=1, temperature=1.0, allowed_token_ids=ids, logprobs=len(ids), detokenize=False)
            for ids in allowed
        ]
        rows = []
        for result, names, ids in zip(self._run(prompts, params), labels, allowed, strict=True):
            found = result.outputs[0].logprobs[0]
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
        cut = {"truncate_prompt_tokens": llm.model_config.max_model_len}
        outputs = llm.embed(list(texts), use_tqdm=False, tokenization_kwargs=cut)
        vectors = np.array([output.outputs.embedding for output in outputs], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _run(self, prompts: Sequence[list[int]], params: Sequence[Any]) -> Any:
        llm = engine(self.path)
        lora = None
        if adapter_base(self.path):
            from vllm.lora.request import LoRARequest

            lora = LoRARequest("adapter", 1, self.path)
        inputs: list[Any] = [{"prompt_token_ids": prompt} for prompt in prompts]
        return llm.generate(inputs, list(params), use_tqdm=False, lora_request=lora)
