"""Instructions and layout: the only module that writes text for a model.

A conversation is a system message (the instruction), a user message (the scene) and, once decided, an assistant
message `<decision process>\\nBehavior: [X]`. The same functions serve decide, score, distill, eval and simulate, so
what is scored is what is trained is what is served. No text of a scene can pass for the layout (`injection.py`).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TypedDict

from usermirrorer.llm.injection import NAMES_LABEL, as_option, as_section
from usermirrorer.llm.protocol import Conversation


LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

INSTRUCTIONS = {
    # The three-stage process after Engel, Kollat and Blackwell; stages and factor lists as in the paper's section 3.
    "ekb": """\
You are the person described below, not an assistant. From the profile, the history and the list of options, work \
out how this person comes to pick one option, and tell it in the first person. Go through three stages, then give \
the one choice.

Stimulus: what need or occasion sets the choice off; tie it to place, time, theme, cause or company where the text \
allows.
Stimulus Factors: one to three of
  Internal States: boredom, hunger, thirst, fatigue or restlessness, emotional state, curiosity, need for \
achievement, inspiration;
  External Cues: time of day, day of week, weather, location, social factors, special occasion, notification, \
advertising, financial situation, availability.
Knowledge: which attributes of the options speak to this person, and what the person already knows.
Knowledge Factors: two to four of
  Product or Service: price, quality, features, convenience, novelty, brand reputation, personal relevance, \
emotional appeal, time commitment, risk;
  Information: visual presentation, recommendation source, review content, rating score, social proof;
  Prior Knowledge: past experience, user preferences and history.
Evaluation: why the chosen option wins over the others.
Evaluation Style: one of Logical, Intuitive, Impulsive, Habitual.

Answer in exactly this form, with a single letter at the end:
Thought:
Stimulus: ...
Stimulus Factors: ...
Knowledge: ...
Knowledge Factors: ...
Evaluation: ...
Evaluation Style: ...
Behavior: [X]""",
    "plain": "You are this user. Say what you like, then choose.",
    "direct": "You are this user. Answer with the one option of the exposure list that you choose, as Behavior: [X].",
}

PROMPT_DATE = "26 Jul 2024"
"""Given to chat templates that write today's date, so that the prompt is the same every day."""

EXPOSURE_LIST = "# Exposure List\n"
"""What stands before the options."""

BEHAVIOR = "Behavior: ["

# The last line that names a label counts.
_BEHAVIOR_LINE = re.compile(rf"^{NAMES_LABEL}.*$", re.MULTILINE)
_BEHAVIOR_START = re.compile(r"^[ \t*]*+Behavior[ \t*]*+:", re.MULTILINE)


EVIDENCE = " (chosen {} after these)"
"""What may follow an option's text: a word for how strongly the log leads from the person's history to it."""

EVIDENCE_WORDS = ("rarely", "sometimes", "often")

EVIDENCE_PATTERN = re.escape(EVIDENCE).replace(re.escape("{}"), f"(?:{'|'.join(EVIDENCE_WORDS)})")

EVIDENCE_LINE = re.compile(EVIDENCE_PATTERN + "$", re.MULTILINE)
"""The words of the evidence at the end of any line of a prompt."""


ROOM_FOR_TEMPLATE = 512
"""A generous bound on the tokens that a chat template adds."""

CountTokens = Callable[[Sequence[Conversation]], list[int]]


class SceneText(TypedDict):
    """What a model sees of a scene."""

    profile: str
    history: str
    action_list: list[str]


def history_entries(history: str) -> list[str]:
    """Entries of a rendered history, oldest first: separated by blank lines if one has more lines, else by lines."""
    separator = "\n\n" if "\n\n" in history else "\n"
    return [entry for entry in history.split(separator) if entry.strip()]


def join_history(entries: Sequence[str]) -> str:
    """Inverse of `history_entries`."""
    return ("\n\n" if any("\n" in entry for entry in entries) else "\n").join(entries)


def without_evidence(option: str) -> str:
    """An option's text without the word of the evidence."""
    return re.sub(EVIDENCE_PATTERN + r"\Z", "", option)


def evidence_word(option: str) -> str:
    """The word of the evidence in an option's text, empty if it carries none."""
    return next((word for word in EVIDENCE_WORDS if option.endswith(EVIDENCE.format(word))), "")


def has_evidence(text: SceneText) -> bool:
    """Whether the options of a scene carry the words of the evidence."""
    return bool(text["action_list"]) and bool(evidence_word(text["action_list"][0]))


def conversation(text: SceneText, instruction: str) -> Conversation:
    """System and user message of a scene, without empty sections. `instruction` is a key of `INSTRUCTIONS`."""
    sections = []
    if text["profile"].strip():
        sections.append("# User Profile\n" + as_section(text["profile"]))
    if text["history"].strip():
        sections.append("## History\n" + as_section(text["history"]))
    options = [f"[{LABELS[i]}] {as_option(option)}" for i, option in enumerate(text["action_list"])]
    sections.append(EXPOSURE_LIST + "\n".join(options))
    return [
        {"role": "system", "content": INSTRUCTIONS[instruction]},
        {"role": "user", "content": "\n\n".join(sections)},
    ]


def answered(decision: str, behavior: int) -> str:
    """The assistant turn: the decision process, then option `behavior` (0-based)."""
    return f"{decision}\n{BEHAVIOR}{LABELS[behavior]}]"


def answered_directly(behavior: int) -> str:
    """The assistant turn of direct mode: option `behavior` (0-based) and no decision process."""
    return f"{BEHAVIOR}{LABELS[behavior]}]"


def opened(messages: Conversation, decision: str | None) -> Conversation:
    """The conversation with an open assistant turn whose next token is a label; None for no decision process."""
    content = BEHAVIOR if decision is None else f"{decision}\n{BEHAVIOR}"
    return [*messages, {"role": "assistant", "content": content}]


def parse(output: str, options: int) -> tuple[str, int | None]:
    """Split a model's output into the decision process and the 0-based option it names.

    The text ends before the last `Behavior:` line. The option is None if there is no such line or its label is not
    one of the `options` offered.
    """
    starts = list(_BEHAVIOR_START.finditer(output))
    if not starts:
        return output.strip(), None
    named = _BEHAVIOR_LINE.match(output, starts[-1].start())
    behavior = LABELS.index(named.group(1)) if named else None
    return output[: starts[-1].start()].strip(), behavior if behavior is not None and behavior < options else None


def shed_history(
    text: SceneText, instruction: str, count_tokens: CountTokens, limit: int | None
) -> tuple[SceneText, int] | None:
    """Drop the oldest history until the prompt has at most `limit` tokens; the text and the number of entries dropped.

    None if it does not fit even without history: instruction and options are never cut. With no limit it always fits.
    """
    if limit is None:
        return text, 0
    entries = history_entries(text["history"])

    def shed(dropped: int) -> SceneText:
        return {**text, "history": join_history(entries[dropped:])} if dropped else text

    def fits_without(dropped: int) -> bool:
        return fits(conversation(shed(dropped), instruction), count_tokens, limit)

    if fits_without(0):
        return text, 0
    dropped = bisect_left(range(len(entries)), True, lo=1, key=fits_without) if entries else 0
    return (shed(dropped), dropped) if entries and fits_without(dropped) else None


def fits(messages: Conversation, count_tokens: CountTokens, limit: int | None) -> bool:
    """Whether a conversation has at most `limit` tokens. A token has a byte or more, so only long ones are counted."""
    if limit is None or sum(len(turn["content"].encode()) for turn in messages) + ROOM_FOR_TEMPLATE <= limit:
        return True
    return count_tokens([messages])[0] <= limit
