"""What the processes of one training agree on: one works it out, all act on it, in success and in failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from usermirrorer.errors import StepFailed, UserError


if TYPE_CHECKING:
    from transformers import TrainingArguments

T = TypeVar("T")


def agreed(training: TrainingArguments, work: Callable[[], T]) -> T:
    """What `work` returns in the first process, in all of them. Its UserError or StepFailed is raised in all, too.

    A process that failed alone would leave the others waiting for it until they time out.
    """
    from accelerate.utils import broadcast_object_list

    found: list[Any] = [None]
    if training.process_index == 0:
        try:
            found = [work()]
        except (UserError, StepFailed) as error:
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]
