"""What GRPO rewards: the choice that the person really made, and an answer in the form asked for.

Each reward is a function as TRL calls it: completions, as lists of messages, and columns of the rows in, one number
for each completion out. `reward_weights` in a recipe weighs them in the order of `REWARDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from usermirrorer.llm.prompts import LABELS, parse


Completions = Sequence[Sequence[dict[str, str]]]


def choice_reward(completions: Completions, choice: Sequence[int], **_: Any) -> list[float]:
    """1 if the answer names the option that was chosen, else 0: the binary match of the paper's GRPO comparison."""
    return [float(_behavior(answer)[1] == chosen) for answer, chosen in zip(completions, choice, strict=True)]


def format_reward(completions: Completions, **_: Any) -> list[float]:
    """1 for a decision process that ends in one line `Behavior: [X]`, else 0."""
    return [float(_in_form(answer)) for answer in completions]


REWARDS = {"choice": choice_reward, "format": format_reward}
"""By name, in the order of `reward_weights`."""


def _behavior(answer: Sequence[dict[str, str]]) -> tuple[str, int | None]:
    return parse(answer[-1]["content"], len(LABELS))


def _in_form(answer: Sequence[dict[str, str]]) -> bool:
    rationale, behavior = _behavior(answer)
    if behavior is None or not rationale or parse(rationale, len(LABELS))[1] is not None:
        return False
    return answer[-1]["content"].rstrip().endswith(f"Behavior: [{LABELS[behavior]}]")
