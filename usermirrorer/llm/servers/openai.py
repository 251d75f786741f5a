"""Language models behind OpenAI-compatible servers, over their chat endpoint.

A server that has vLLM's `/tokenize` is told all that may differ from what was trained: every setting of sampling,
which it would else take from the model's `generation_config.json`, and the variables of the chat template. Other
servers get OpenAI's own parameters alone, since some refuse others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np

from usermirrorer.errors import UserError
from usermirrorer.llm.execution import ask_all
from usermirrorer.llm.injection import without_control_tokens
from usermirrorer.llm.labels import label_tokens
from usermirrorer.llm.prompts import PROMPT_DATE
from usermirrorer.llm.protocol import Conversation, Output
from usermirrorer.llm.requests import Answer, Request, Usage, Weigh, Write
from usermirrorer.llm.servers.background import Ask, wait
from usermirrorer.llm.servers.refusals import RequestFailed
from usermirrorer.llm.servers.replies import read_outputs, read_probs, read_tokens, read_usage, read_vectors
from usermirrorer.llm.servers.server import Patience, Servers
from usermirrorer.llm.servers.session import ServerSession
from usermirrorer.steps import Sampling


T = TypeVar("T")

TEXTS = 256
"""Texts embedded by one request."""

TEMPLATE = {"chat_template_kwargs": {"date_string": PROMPT_DATE, "enable_thinking": False}}
"""What the local backends tell chat templates: a fixed date, and no thought before ours."""

AS_TRAINED = TEMPLATE | {
    "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0
}  # fmt: skip
"""What a vLLM server is told besides, so that no default of its own or of the model's applies."""

OPEN_TURN = {"add_generation_prompt": False, "continue_final_message": True}


class OpenAIModel:
    """A model on the servers at `base_url` (several in a list, or separated by commas) or OPENAI_BASE_URL.

    At most `concurrency` requests are in flight at each of them.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | Sequence[str] | None = None,
        concurrency: int | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.name = f"openai:{model}"
        self.model = model
        self.servers = Servers(model, base_url, concurrency, patience)
        self.usage = Usage()
        self._one_each = False
        self._known_labels: dict[tuple[str, ...], list[int]] = {}

    def session(self) -> ServerSession:
        """The servers, ready for requests."""
        return ServerSession(self.ready, self.servers.slots, self.usage)

    def generate(
        self, conversations: Sequence[Conversation], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Output]]:
        """`n` answers to each conversation, shape `(conversations, n)`; the server decides how reproducible a seed is.

        Raises StepFailed if a request failed after all attempts, UserError if the server refuses the key.
        """
        asked = zip(conversations, seeds, strict=True)
        return ask_all(self.session(), [Write(messages, n, sampling, seed) for messages, seed in asked])

    def choice_probs(self, conversations: Sequence[Conversation], labels: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Probability of each label as the next token of the open turn, `(options,)`.

        Raises UserError if the server can't continue a turn or does not return these probabilities.
        """
        asked = zip(conversations, labels, strict=True)
        return ask_all(self.session(), [Weigh(messages, names) for messages, names in asked])

    def ready(self, request: Request) -> Ask[Answer]:
        """What asks a request. Checks the servers first, so not for use in the background.

        Raises UserError if they can't be asked this.
        """
        if isinstance(request, Write):
            return partial(self._write, request, self.body(request))
        ids = self._label_tokens(tuple(request.labels))
        return partial(self._ask_chat, self._label_body(request.conversation, ids), partial(read_probs, ids=ids))

    def body(self, request: Write) -> dict[str, Any]:
        """The chat request for all answers at once."""
        limit = "max_completion_tokens" if self.servers.official else "max_tokens"
        return {
            "model": self.model,
            "messages": without_control_tokens(request.conversation),
            "n": request.n,
            "seed": request.seed,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            limit: request.sampling.max_tokens,
            **(AS_TRAINED if self.is_vllm else {}),
        }

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of unit length, `(texts, width)`, float32."""
        chunks = [list(texts[start : start + TEXTS]) for start in range(0, len(texts), TEXTS)]
        bodies = [{"model": self.model, "input": chunk, "encoding_format": "float"} for chunk in chunks]
        reads = [partial(read_vectors, count=len(chunk)) for chunk in chunks]
        asks = [partial(self.servers.ask, "/embeddings", *pair) for pair in zip(reads, bodies, strict=True)]
        return np.concatenate(self._all(asks))

    def count_tokens(self, conversations: Sequence[Conversation]) -> list[int]:
        """Tokens of each conversation as the server renders it; words if it states no limit or can't count tokens."""
        if self.max_length is None:
            return [sum(len(message["content"].split()) for message in messages) for messages in conversations]
        return [len(tokens) for tokens in self._all([partial(self._rendered, messages) for messages in conversations])]

    @cached_property
    def max_length(self) -> int | None:
        """Tokens of prompt and answer together; None unless the server states it and counts tokens, as vLLM's does."""

        def read(reply: Any) -> list[int]:
            return [int(model["max_model_len"]) for model in reply["data"] if model["id"] == self.model]

        limits = self._if_offered(self.servers.ask("/models", read, optional=True)) if self.is_vllm else None
        return limits[0] if limits else None

    @cached_property
    def is_vllm(self) -> bool:
        """Whether the servers have vLLM's `/tokenize`, and so know its parameters."""
        if self.servers.official:
            return False
        return self._if_offered(self._tokenize({"prompt": "A"}, optional=True)) is not None

    async def _write(self, request: Write, body: dict[str, Any]) -> list[Output]:
        outputs: list[Output] = []
        refused = False
        if request.n == 1 or not self._one_each:
            try:
                outputs = (await self._ask_chat(body, read_outputs))[: request.n]
            except RequestFailed as error:
                refused = request.n > 1 and error.status in (400, 422)
                if not refused:
                    raise
        # Servers that give one answer per request refuse n > 1 or ignore it.
        rest = [body | {"n": 1, "seed": request.seed + i} for i in range(len(outputs), request.n)]
        answers = await asyncio.gather(*(self._ask_chat(one, read_outputs) for one in rest))
        self._one_each |= refused
        return [*outputs, *(answer[0] for answer in answers)]

    def _ask_chat(
        self, body: dict[str, Any], read: Callable[[Any], T], optional: bool = False
    ) -> Coroutine[Any, Any, T]:
        def counted(reply: Any) -> T:
            found = read(reply)
            self.usage.add(*read_usage(reply))
            return found

        return self.servers.ask("/chat/completions", counted, body, optional=optional)

    def _label_tokens(self, labels: tuple[str, ...]) -> list[int]:
        """Token ids of the labels under the server's tokenizer. The first call checks the server."""
        if not self._known_labels:
            self._check_probabilities()
        if labels not in self._known_labels:
            self._known_labels[labels] = label_tokens(self._encode, labels, self.name)
        return self._known_labels[labels]

    def _label_body(self, messages: Conversation, ids: list[int]) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": without_control_tokens(messages),
            "max_tokens": 1,
            "temperature": 1.0,
            "top_p": 1.0,
            "logprobs": True,
            "top_logprobs": len(ids),
            "allowed_token_ids": ids,
            "return_tokens_as_token_ids": True,
            **OPEN_TURN,
            **AS_TRAINED,
        }

    def _check_probabilities(self) -> None:
        """Raise UserError unless the server continues an open turn and returns the probabilities of given tokens."""
        example: Conversation = [
            {"role": "user", "content": "[A] tea\n[B] cake"},
            {"role": "assistant", "content": "Behavior: ["},
        ]

        def read(reply: Any) -> int:
            read_probs(reply, ids)
            return int(reply["usage"]["prompt_tokens"])

        reason = f"{self.servers.hosts} has no /tokenize"
        if self.is_vllm:
            ids = label_tokens(self._encode, "AB", self.name)
            try:
                length = wait(self._ask_chat(self._label_body(example, ids), read, optional=True))
                if length == len(wait(self._rendered(example))):
                    return
                reason = f"{self.servers.hosts} does not continue an open turn"
            except RequestFailed as error:
                if _is_down(error):
                    raise
                reason = str(error)
        raise UserError(
            f"{self.name} gives no probabilities of options ({reason}): use vllm:MODEL or start it with `vllm serve "
            "--logprobs-mode processed_logprobs`"
        )

    def _rendered(self, messages: Conversation) -> Coroutine[Any, Any, list[int]]:
        turn = OPEN_TURN if messages[-1]["role"] == "assistant" else {}
        return self._tokenize({"messages": without_control_tokens(messages), **TEMPLATE, **turn})

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return self._all([partial(self._tokenize, {"prompt": text}) for text in texts])

    def _tokenize(self, body: dict[str, Any], optional: bool = False) -> Coroutine[Any, Any, list[int]]:
        body = {"model": self.model, "add_special_tokens": False, **body}
        return self.servers.ask("/tokenize", read_tokens, body, root=True, optional=optional)

    def _if_offered(self, answer: Coroutine[Any, Any, T]) -> T | None:
        """The answer; None if the servers are well but have none to this."""
        try:
            return wait(answer)
        except RequestFailed as error:
            if _is_down(error):
                raise
            return None

    def _all(self, asks: Sequence[Ask[T]]) -> list[T]:
        """All answers, in order. Raises the first failure once all others are in."""

        async def gather() -> list[T | BaseException]:
            return await asyncio.gather(*(ask() for ask in asks), return_exceptions=True)

        answers = []
        for answer in wait(gather()):
            if isinstance(answer, BaseException):
                raise answer
            answers.append(answer)
        return answers


def _is_down(error: RequestFailed) -> bool:
    return error.status is None or error.status >= 500 and error.status != 501
