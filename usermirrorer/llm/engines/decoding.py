"""Sampling many answers at a time from a transformers model, each with its own seed and the same in any batch.

Rows of a fixed number advance together, one token a step; a row that has ended takes the next answer to write. How a
sum is rounded depends on the shapes of the matrices, so all shapes are fixed: a prompt is read alone, and an answer's
row is one of `ROWS` over a cache whose length is a multiple of `BLOCK`, whatever the other rows hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from usermirrorer.steps import Sampling


ATTENTION = "usermirrorer"
"""Name under which transformers knows `attention`."""

ROWS = 32
BLOCK = 256

UNLIKELY = 1e-5
"""Tokens below it are left out of the search for the nucleus, unless that needs them."""


@dataclass
class Job:
    """One answer to write: sample number `sample` of conversation `conversation`."""

    conversation: int
    sample: int
    most: int
    random: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    stopped: bool = False


@dataclass
class PromptsRead:
    """The latest prompts that a model has read, up to `most` bytes: what is scored was mostly just answered."""

    model: Any
    most: int = 2**30
    kept: dict[tuple[int, ...], tuple[torch.Tensor, Any]] = field(default_factory=dict)

    def read(self, prompt: list[int]) -> tuple[torch.Tensor, Any]:
        """What `read` gives for a prompt."""
        key = tuple(prompt)
        if key not in self.kept:
            self.kept[key] = read(self.model, prompt)
            layers = self.kept[key][1].layers
            size = sum(2 * layer.keys.numel() * layer.keys.element_size() for layer in layers)
            while len(self.kept) > max(1, self.most // size):
                self.kept.pop(next(iter(self.kept)))
        return self.kept[key]


def sample_answers(
    read_prompts: PromptsRead,
    prompts: Sequence[list[int]],
    n: int,
    sampling: Sampling,
    seeds: Sequence[int],
    stops: set[int],
    longest: int,
) -> list[list[Job]]:
    """`n` answers to each prompt, `(prompts, n)`; a prompt and its answer have at most `longest` tokens."""
    jobs: list[list[Job]] = []
    for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        most = min(sampling.max_tokens, longest - len(prompt))
        jobs.append([Job(index, j, most, np.random.default_rng([seed, j])) for j in range(n)])
    capacities = np.array([-(-(len(p) + row[0].most) // BLOCK) * BLOCK for p, row in zip(prompts, jobs, strict=True)])
    for capacity in np.unique(capacities).tolist():
        waiting = deque(job for index in np.flatnonzero(capacities == capacity) for job in jobs[index])
        _decode(read_prompts, prompts, waiting, sampling, stops, capacity)
    return jobs


class RowLayer(CacheLayerMixin):
    """Keys and values of `ROWS` answers, each at a position of its own: `(rows, heads, capacity, width)`."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, capacity: int) -> None:
        super().__init__()
        self.keys, self.values = (
            torch.zeros(ROWS, one.shape[1], capacity, one.shape[3], dtype=one.dtype, device=one.device)
            for one in (keys, values)
        )
        self.rows = torch.arange(ROWS, device=keys.device)
        self.position = torch.zeros(ROWS, dtype=torch.long, device=keys.device)
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: the tensors exist."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token of every row at that row's position; returns all keys and values."""
        self.keys[self.rows, :, self.position] = key_states[:, :, 0]
        self.values[self.rows, :, self.position] = value_states[:, :, 0]
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        return int(self.position.max())

    def get_max_length(self) -> int:
        return self.keys.shape[2]

    def take(self, row: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Start a row after a prompt's keys and values, `(1, heads, tokens, width)`."""
        self.keys[row, :, : keys.shape[2]] = keys[0]
        self.values[row, :, : values.shape[2]] = values[0]


def attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, **options: Any
) -> tuple[torch.Tensor, None]:
    """Attention of transformers' `sdpa`, but a step of decoding reads keys that heads share without copying them.

    `query` is `(rows, heads, tokens, width)`, `key` and `value` are `(rows, shared heads, tokens, width)`. The copies
    that `sdpa` makes under a mask take most of a small model's step.
    """
    if query.shape[2] > 1 or mask is None or options.get("sliding_window") or options.get("softcap"):
        return sdpa_attention_forward(module, query, key, value, mask, **options)
    rows, heads, _, width = query.shape
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], width)
    scores = torch.matmul(grouped, key.transpose(2, 3)).float() * options.get("scaling", width**-0.5)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1).to(value.dtype)
    return torch.matmul(weights, value).reshape(rows, 1, heads, width), None


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def read(model: Any, tokens: list[int], before: Any = None) -> tuple[torch.Tensor, Any]:
    """Float32 logits `(vocabulary,)` after the tokens, and the cache that holds them.

    `before` is the cache of a text that precedes them; it is left as it is.
    """
    cache = DynamicCache(config=model.config)
    if before is not None:
        for index, layer in enumerate(before.layers):
            cache.update(layer.keys, layer.values, index)
    start = 0 if before is None else before.get_seq_length()
    positions = torch.arange(start, start + len(tokens), device=model.device)[None]
    ids = torch.tensor([tokens], device=model.device)
    output = model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return output.logits[0, -1].float(), cache


def _decode(
    read_prompts: PromptsRead,
    prompts: Sequence[list[int]],
    waiting: deque[Job],
    sampling: Sampling,
    stops: set[int],
    capacity: int,
) -> None:
    """Write the waiting answers, whose prompts leave them room within `capacity` tokens."""
    writing: list[Job | None] = [None] * ROWS
    layers: list[RowLayer] = []
    position, last = torch.zeros(ROWS, dtype=torch.long), torch.zeros(ROWS, dtype=torch.long)
    while waiting or any(writing):
        for row in range(ROWS):
            while writing[row] is None and waiting:
                job = waiting.popleft()
                first, cache = read_prompts.read(prompts[job.conversation])
                if not layers:
                    layers = [RowLayer(layer.keys, layer.values, capacity) for layer in cache.layers]
                if _advance(job, first.cpu().numpy(), sampling, stops):
                    continue
                for layer, one in zip(layers, cache.layers, strict=True):
                    layer.take(row, one.keys, one.values)
                writing[row], position[row], last[row] = job, len(prompts[job.conversation]), job.tokens[-1]
        if not any(writing):
            return
        logits = _step(read_prompts.model, layers, last, position)
        for row, at in enumerate(writing):
            if at is None:
                continue
            if _advance(at, logits[row], sampling, stops):
                writing[row] = None
            else:
                position[row] += 1
                last[row] = at.tokens[-1]


def _step(model: Any, layers: list[RowLayer], last: torch.Tensor, position: torch.Tensor) -> np.ndarray:
    """Logits `(rows, vocabulary)` after each row's last token, which is at that row's position."""
    device = model.device
    position = position.to(device)
    for layer in layers:
        layer.position = position
    seen = torch.arange(layers[0].get_max_length(), device=device) <= position[:, None]
    output = model(
        input_ids=last.to(device)[:, None],
        position_ids=position[:, None],
        attention_mask=seen[:, None, None],
        past_key_values=Cache(layers=layers),
        use_cache=True,
    )
    return output.logits[:, -1].float().cpu().numpy()


def _advance(job: Job, logits: np.ndarray, sampling: Sampling, stops: set[int]) -> bool:
    """Add the next token to an answer; whether that ends it."""
    token = _sampled(logits, sampling, job.random)
    if token in stops:
        job.stopped = True
        return True
    job.tokens.append(token)
    return len(job.tokens) >= job.most


def _sampled(logits: np.ndarray, sampling: Sampling, random: np.random.Generator) -> int:
    """A token drawn from the nucleus: the likeliest tokens that together reach top_p."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / sampling.temperature
    probs = np.exp(scaled - scaled.max())
    probs /= probs.sum()
    for least in (UNLIKELY, 0.0):
        tokens = np.flatnonzero(probs >= least)
        order = tokens[np.argsort(-probs[tokens], kind="stable")]
        reached = np.cumsum(probs[order])
        size = int(np.searchsorted(reached, sampling.top_p)) + 1
        if size <= len(order):
            break
    size = min(size, len(order))
    return int(order[np.searchsorted(reached[:size], random.random() * reached[size - 1], side="right")])
