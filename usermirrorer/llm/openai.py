"""Language models behind an OpenAI-compatible server, over its chat endpoint."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.injection import without_control_tokens
from usermirrorer.llm.labels import label_tokens
from usermirrorer.llm.protocol import Conversation, Output
from usermirrorer.steps import Sampling


if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONCURRENT = 32
"""The most requests in flight at once."""

RETRIES = 5
"""Retries by the `openai` client after 408, 409, 429, 5xx, a timeout or a lost connection: after 0.5, 1, 2, 4 and 8 s,
less up to a quarter at random, or when the server's `retry-after` says."""

TIMEOUT = 600.0

_OPEN_TURN = {"add_generation_prompt": False, "continue_final_message": True}


class ConversationsFailed(StepFailed):
    """Some requests failed after all retries. `outputs` holds the results of the others, None for each failed one."""

    def __init__(self, message: str, outputs: list[Any]) -> None:
        super().__init__(message)
        self.outputs = outputs


class OpenAIModel:
    """A model on the server at `base_url` or OPENAI_BASE_URL. Every call reads the key from OPENAI_API_KEY."""

    def __init__(self, model: str, *, base_url: str | None = None) -> None:
        self.name = f"openai:{model}"
        self.model = model
        self.base_url = (base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1").rstrip("/")
        self._known_labels: dict[tuple[str, ...], list[int]] = {}

    def generate(
        self, conversations: Sequence[Conversation], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Output]]:
        """`n` answers to each conversation, shape `(conversations, n)`; the server decides how reproducible a seed is.

        Raises ConversationsFailed, which holds the other answers, if some conversations failed, and UserError if the
        server refuses the key.
        """

        async def complete(client: AsyncOpenAI, messages: Conversation, count: int, seed: int) -> list[Any]:
            completion = await client.chat.completions.create(
                model=self.model,
                messages=without_control_tokens(messages),
                n=count,
                seed=seed,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
            )
            return _choices(completion)[:count]

        async def answer(client: AsyncOpenAI, request: tuple[Conversation, int]) -> list[Output]:
            from openai import BadRequestError

            messages, seed = request
            choices: list[Any] = []
            try:
                choices = await complete(client, messages, n, seed)
            except BadRequestError:
                if n == 1:
                    raise
            # Servers that give one answer per request refuse n > 1 or ignore it.
            while len(choices) < n:
                choices += await complete(client, messages, 1, seed + len(choices))
            return [Output(choice.message.content or "", choice.finish_reason) for choice in choices]

        return self._all(list(zip(conversations, seeds, strict=True)), answer)

    def choice_probs(self, conversations: Sequence[Conversation], labels: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Probability of each label as the next token of the open turn, `(options,)`.

        Raises UserError if the server can't continue a turn or does not return these probabilities.
        """

        async def answer(client: AsyncOpenAI, request: tuple[Conversation, list[int]]) -> np.ndarray:
            probs, _ = await self._token_probs(client, *request)
            if abs(probs.sum() - 1) > 1e-4:
                raise ValueError(f"probabilities of {len(probs)} labels sum to {probs.sum():.6f}")
            return probs / probs.sum()

        ids = [self._label_tokens(tuple(row)) for row in labels]
        return self._all(list(zip(conversations, ids, strict=True)), answer)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of unit length, `(texts, width)`, float32."""

        async def answer(client: AsyncOpenAI, chunk: list[str]) -> list[list[float]]:
            response = await client.embeddings.create(model=self.model, input=chunk, encoding_format="float")
            return [row.embedding for row in sorted(response.data, key=lambda row: row.index)]

        chunks = self._all([list(texts[start : start + 256]) for start in range(0, len(texts), 256)], answer)
        vectors = np.array([vector for chunk in chunks for vector in chunk], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def count_tokens(self, conversations: Sequence[Conversation]) -> list[int]:
        """Tokens of each conversation as the server renders it; words if it states no limit or can't count tokens."""
        if self.max_length is None:
            return [sum(len(message["content"].split()) for message in messages) for messages in conversations]

        async def answer(client: AsyncOpenAI, messages: Conversation) -> int:
            turn = _OPEN_TURN if messages[-1]["role"] == "assistant" else {}
            return len(await self._tokenize(client, messages=without_control_tokens(messages), **turn))

        return self._all(conversations, answer)

    @cached_property
    def max_length(self) -> int | None:
        """Tokens of prompt and answer together; None unless the server states it and counts tokens, as vLLM's does."""
        from openai import APIStatusError

        async def answer(client: AsyncOpenAI, name: str) -> int | None:
            try:
                models = await client.models.list()
                limits = [getattr(model, "max_model_len", None) for model in models.data if model.id == name]
                if limits and limits[0]:
                    await self._tokenize(client, prompt="A")
                    return limits[0]
            except APIStatusError as error:
                if error.status_code in (401, 403):
                    raise
            return None

        return self._all([self.model], answer)[0]

    def _label_tokens(self, labels: tuple[str, ...]) -> list[int]:
        """Token ids of the labels under the server's tokenizer. The first call checks the server."""
        if not self._known_labels:
            self._check_server()
        if labels not in self._known_labels:
            self._known_labels[labels] = label_tokens(self._encode, labels, self.name)
        return self._known_labels[labels]

    def _check_server(self) -> None:
        """Raise UserError unless the server continues an open turn and returns the probabilities of given tokens."""
        example: Conversation = [
            {"role": "user", "content": "[A] tea\n[B] cake"},
            {"role": "assistant", "content": "Behavior: ["},
        ]

        async def answer(client: AsyncOpenAI, messages: Conversation) -> bool:
            from openai import APIStatusError

            try:
                ids = [(await self._tokenize(client, prompt=f"Behavior: [{label}]"))[-2] for label in "AB"]
                length = len(await self._tokenize(client, messages=messages, **_OPEN_TURN))
                probs, prompt_tokens = await self._token_probs(client, messages, ids)
            except APIStatusError as error:
                if error.status_code in (401, 403) or error.status_code >= 500:
                    raise
                return False
            except (ValueError, IndexError, KeyError, TypeError):
                return False
            return abs(probs.sum() - 1) < 1e-4 and prompt_tokens == length

        if not self._all([example], answer)[0]:
            raise UserError(
                f"The server at {self._host} does not return the probabilities of options for {self.name}: use "
                "vllm:MODEL or start it with `vllm serve --logprobs-mode processed_logprobs`"
            )

    async def _token_probs(
        self, client: AsyncOpenAI, messages: Conversation, ids: list[int]
    ) -> tuple[np.ndarray, int]:
        """Probabilities of the tokens `ids` after the open turn, and the prompt's length in tokens."""
        completion = await client.chat.completions.create(
            model=self.model,
            messages=without_control_tokens(messages),
            max_tokens=1,
            temperature=1.0,
            logprobs=True,
            top_logprobs=len(ids),
            extra_body={**_OPEN_TURN, "allowed_token_ids": ids, "return_tokens_as_token_ids": True},
        )
        logprobs = _choices(completion)[0].logprobs
        if not logprobs or not logprobs.content:
            raise ValueError("the answer has no log-probabilities")
        content = logprobs.content[0]
        found = {entry.token: entry.logprob for entry in [content, *content.top_logprobs]}
        missing = [token for token in ids if f"token_id:{token}" not in found]
        if missing:
            raise ValueError(f"no probability for token {missing[0]}")
        probs = np.exp([found[f"token_id:{token}"] for token in ids])
        return probs, completion.usage.prompt_tokens if completion.usage else 0

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return self._all(texts, lambda client, text: self._tokenize(client, prompt=text))

    async def _tokenize(self, client: AsyncOpenAI, **body: Any) -> list[int]:
        url = self.base_url.removesuffix("/v1") + "/tokenize"
        body = {"model": self.model, "add_special_tokens": False, **body}
        return (await client.post(url, cast_to=dict[str, Any], body=body))["tokens"]

    @property
    def _host(self) -> str:
        # A URL may carry a user and a password.
        return urlsplit(self.base_url).netloc.rpartition("@")[2]

    def _all(self, requests: Sequence[Any], answer: Callable[[AsyncOpenAI, Any], Awaitable[Any]]) -> list[Any]:
        """`answer` to every request, CONCURRENT at a time. Failures are raised once all the others are in."""
        if not requests:
            return []
        key = os.environ.get("OPENAI_API_KEY") or ""
        if not key and self._host == "api.openai.com":
            raise UserError(f"{self.name} needs a server or a key: set OPENAI_BASE_URL (--base-url) or OPENAI_API_KEY")
        # In its own thread: a notebook already runs an event loop in this one.
        with ThreadPoolExecutor(1) as pool:
            results = pool.submit(asyncio.run, self._gather(requests, answer, key or "none")).result()
        failed = [(index, result) for index, result in enumerate(results) if isinstance(result, Exception)]
        if not failed:
            return results
        index, error = failed[0]
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            raise UserError(f"The server at {self._host} refuses the key ({status}): set OPENAI_API_KEY")
        if status == 404:
            raise UserError(f"The server at {self._host} has no '{self.model}' (404): check --base-url and the model")
        reason = " ".join(str(error).split())[:300]
        if key:
            reason = reason.replace(key, "***")
        raise ConversationsFailed(
            f"{len(failed)} of {len(requests)} requests to {self._host} failed, the first (number {index}) with "
            f"'{reason}': check the server and start again",
            [None if isinstance(result, Exception) else result for result in results],
        )

    async def _gather(
        self, requests: Sequence[Any], answer: Callable[[AsyncOpenAI, Any], Awaitable[Any]], key: str
    ) -> list[Any]:
        from openai import APIConnectionError, APITimeoutError, AsyncOpenAI

        gate = asyncio.Semaphore(CONCURRENT)
        connection_lost: list[Exception] = []

        async def one(client: AsyncOpenAI, request: Any) -> Any:
            async with gate:
                # The server is gone: fail queued requests at once.
                if connection_lost:
                    return connection_lost[0]
                try:
                    return await answer(client, request)
                except APIConnectionError as error:
                    if not isinstance(error, APITimeoutError):
                        connection_lost.append(error)
                    return error
                except Exception as error:
                    return error

        async with AsyncOpenAI(base_url=self.base_url, api_key=key, max_retries=RETRIES, timeout=TIMEOUT) as client:
            return await asyncio.gather(*(one(client, request) for request in requests))


def _choices(completion: Any) -> list[Any]:
    choices = getattr(completion, "choices", None)
    if not choices:
        raise ValueError("the answer is no chat completion")
    return choices
