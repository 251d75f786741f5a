"""Scripted writers: decision processes without a language model.

`scripted:reader` reads carefully, `scripted:noisy` carelessly. Both see only what the prompt shows: they weight the
words that an option shares with the history, sample an option by these weights, and name the word that decided it.
`scripted:neighbours` writes from the log (`data/decisions/neighbours.py`). As a predictor, each of them reads which
option a decision names: so pairs can be made before there is a model that binds a title to its label.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from usermirrorer.errors import UserError, unknown_name
from usermirrorer.llm.execution import BatchSession
from usermirrorer.llm.prompts import LABELS, answered, history_entries, without_evidence
from usermirrorer.llm.protocol import Conversation, Output
from usermirrorer.steps import Sampling


NEIGHBOURS = "scripted:neighbours"

SHARPNESS = {"reader": 3.0, "noisy": 0.7, "neighbours": 3.0}
"""How closely each writer follows the weights: the inverse temperature of its softmax, or for `neighbours`, whose
weights have no scale, the power to which they are raised."""

NAMED = 0.9
"""Probability that a scripted predictor gives the option that a decision names."""

SLOTS = 1024

_HISTORY = re.compile(r"^## History\n", re.MULTILINE)
_OPTIONS = re.compile(r"^# Exposure List\n(?=\[A\] )", re.MULTILINE)
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_STOP_WORDS = frozenset("a an and at by for from in is it of on or the to with".split())


@dataclass
class ScriptedWriter:
    """A `LanguageModel` that writes decisions and tells which option one names; it has no embeddings."""

    name: str
    sharpness: float
    max_length: int | None = None

    def session(self) -> BatchSession:
        """The writer, answering what has been submitted in batches."""
        return BatchSession(self, SLOTS)

    def generate(
        self, conversations: Sequence[Conversation], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Output]]:
        """`n` decisions per conversation, sampled with its own seed; `sampling` has no effect.

        Raises UserError if a conversation shows no exposure list.
        """
        if self.name == NEIGHBOURS:
            raise UserError(f"{NEIGHBOURS} writes from the log: use it as a writer of decide or build")
        return [self._decide(messages, n, seed) for messages, seed in zip(conversations, seeds, strict=True)]

    def _decide(self, messages: Conversation, n: int, seed: int) -> list[Output]:
        entries, options = read_prompt(messages)
        weights = shared_words(entries, options)
        logits = self.sharpness * np.array([sum(weight.values()) for weight in weights])
        probs = np.exp(logits - logits.max())
        picks = np.random.default_rng(seed).choice(len(options), size=n, p=probs / probs.sum())
        written = [_by_words(messages[0]["content"], options[pick], weights[pick]) for pick in picks]
        return [Output(answered(text, int(pick)), "stop") for text, pick in zip(written, picks, strict=True)]

    def choice_probs(self, conversations: Sequence[Conversation], labels: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """The option whose title the open turn names last has probability `NAMED`, the others share the rest.

        If it names none, all are equally probable.
        """
        return [self._named(messages, len(names)) for messages, names in zip(conversations, labels, strict=True)]

    def _named(self, messages: Conversation, count: int) -> np.ndarray:
        decision = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        options = read_prompt([turn for turn in messages if turn["role"] != "assistant"])[1]
        places = [decision.rfind(title(option)) for option in options]
        if max(places) < 0:
            return np.full(count, 1 / count)
        # Of titles that begin at one place, the longest is meant.
        named = max(range(count), key=lambda option: (places[option], len(title(options[option]))))
        return np.where(np.arange(count) == named, NAMED, (1 - NAMED) / (count - 1))

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        raise UserError(f"{self.name} has no embeddings: use tfidf or vllm:MODEL as the embedder.")

    def count_tokens(self, conversations: Sequence[Conversation]) -> list[int]:
        """Length of each conversation in words."""
        return [sum(len(message["content"].split()) for message in messages) for messages in conversations]


def load_scripted(name: str) -> ScriptedWriter:
    """The writer `reader`, `noisy` or `neighbours`. Raises UserError for another name."""
    if name not in SHARPNESS:
        raise unknown_name("scripted writer", name, SHARPNESS)
    return ScriptedWriter(f"scripted:{name}", SHARPNESS[name])


def read_prompt(messages: Conversation) -> tuple[list[str], list[str]]:
    """History entries, oldest first, and option texts, in order, of a prompt laid out by `prompts.conversation`.

    Raises UserError if there is no exposure list.
    """
    before, *found = _OPTIONS.split(messages[-1]["content"])
    if not found:
        raise UserError("A scripted writer got a prompt without '# Exposure List': give it the prompt of a scene.")
    options = [line.removeprefix(f"[{label}] ") for label, line in zip(LABELS, found[0].split("\n"), strict=False)]
    history = "".join(_HISTORY.split(before)[1:])
    return history_entries(history.rstrip("\n")), options


def shared_words(entries: Sequence[str], options: Sequence[str]) -> list[dict[str, float]]:
    """For each option, the words it shares with the history and their weights.

    A word's weight is its share of the history entries times log(options / options that have it), so words count that
    are common in the history and rare among the options (tf-idf).
    """
    in_history = Counter(word for entry in entries for word in _words(entry))
    in_options = Counter(word for option in options for word in _words(option))
    return [
        {
            written: in_history[word] / len(entries) * float(np.log(len(options) / in_options[word]))
            for word, written in _words(option).items()
            if in_history[word] and in_options[word] < len(options)
        }
        for option in options
    ]


def _words(text: str) -> dict[str, str]:
    """The distinct words of a text in lower case, each with its first spelling, without stop words."""
    words: dict[str, str] = {}
    for written in _WORD.findall(text):
        words.setdefault(written.lower(), written)
    return {word: written for word, written in words.items() if word not in _STOP_WORDS}


def title(text: str) -> str:
    """What an item's text calls it: the first line up to " - ", without the word of the evidence."""
    return without_evidence(text).split("\n", 1)[0].split(" - ", 1)[0].strip()


def decision(instruction: str, name: str, plain: str, knowledge: str, evaluation: str, style: str) -> str:
    """A decision process for the option called `name`, in the form that the instruction asks for.

    `plain` is the reason in one sentence; the form of `ekb` has seven lines, of which the others tell the reason.
    """
    if "Stimulus Factors:" not in instruction:
        return f"{plain} I take {name}."
    return f"""\
Thought:
Stimulus: I have some time and look for something to pick.
Stimulus Factors: Internal States (curiosity)
Knowledge: {knowledge}
Knowledge Factors: Product or Service (personal relevance); Prior Knowledge (preferences and history)
Evaluation: {evaluation}
Evaluation Style: {style}"""


def _by_words(instruction: str, option: str, weights: dict[str, float]) -> str:
    """A decision process that names the word of the option that weighs most."""
    name = title(option)
    if not weights:
        nothing = f"Nothing here reminds me of what I chose before; {name} is something new."
        stands_out = f"Nothing stands out, so I take {name}."
        return decision(instruction, name, "Nothing stands out.", nothing, stands_out, "Impulsive")
    word = max(weights, key=weights.__getitem__)
    known = f"I know {word} from what I chose before, and {name} has it."
    return decision(
        instruction, name, f"I like {word}.", known, f"{name} is closest to what I usually like.", "Habitual"
    )
