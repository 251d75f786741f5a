"""People who were shown one list: their rows in one batch, and each other's answers as the ones to reject.

Members of a group (exposure `matched` or `hard`) read the same options in the same order, and each took another one.
So the options alone say nothing of who chose which, and what one member answered is wrong for every other.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import EVIDENCE_LINE, EXPOSURE_LIST


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

logger = logging.getLogger("usermirrorer.train")


def groups_of(prompts: Sequence[Any]) -> list[int]:
    """The group of each prompt as a number from 0, in order of appearance: prompts with the same options share one.

    The words of the evidence are about the person, so they do not count.
    """
    numbers: dict[str, int] = {}
    found = []
    for prompt in prompts:
        question = next((turn["content"] for turn in reversed(prompt) if turn["role"] == "user"), "")
        options = EVIDENCE_LINE.sub("", question.rpartition(EXPOSURE_LIST)[2])
        found.append(numbers.setdefault(options, len(numbers)))
    return found


def members_of(groups: Sequence[int]) -> list[list[int]]:
    """The rows of each group."""
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    return list(members.values())


def rejected_from_group(rows: Dataset) -> Dataset:
    """Pairs whose rejected answer is what another member of the group answered; without mates it stays as it is.

    Within a group every answer is rejected once, by the member before its writer. Raises UserError if there are no
    mates at all.
    """
    chosen, rejected = rows["chosen"], list(rows["rejected"])
    changed = 0
    for members in members_of(groups_of(rows["prompt"])):
        for place, row in enumerate(members):
            mate = members[(place + 1) % len(members)]
            if mate != row and chosen[mate] != chosen[row]:
                rejected[row] = chosen[mate]
                changed += 1
    if not changed:
        raise UserError(
            "rejected_from: group: no two pairs have the same options; build scenes with exposure: matched"
        )
    logger.info(f"rejected_from: group: {changed:,} of {len(rows):,} pairs reject what a mate answered")
    return rows.remove_columns("rejected").add_column("rejected", rejected, feature=rows.features["rejected"])


class GroupSampler:
    """Rows in batches of `size`, groups whole where they fit: another order every epoch, the same for one seed."""

    def __init__(self, groups: Sequence[int], size: int, seed: int) -> None:
        self.members, self.size, self.seed, self.epoch = members_of(groups), size, seed, 0

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.members)

    def __iter__(self) -> Iterator[int]:
        order = random.Random(f"{self.seed} {self.epoch}")
        waiting: dict[int, list[list[int]]] = defaultdict(list)
        for rows in order.sample(self.members, len(self.members)):
            for start in range(0, len(rows), self.size):
                part = rows[start : start + self.size]
                waiting[len(part)].append(order.sample(part, len(part)))
        batches = []
        while any(waiting.values()):
            batch: list[int] = []
            while len(batch) < self.size and any(waiting.values()):
                room = self.size - len(batch)
                fitting = [length for length, parts in waiting.items() if parts and length <= room]
                if not fitting:  # a group is broken rather than a batch left short
                    length = min(length for length, parts in waiting.items() if parts)
                    part = waiting[length].pop()
                    batch += part[:room]
                    waiting[length - room].append(part[room:])
                else:
                    batch += waiting[max(fitting)].pop()
            batches.append(batch)
        last = batches.pop() if len(batches[-1]) < self.size else []
        yield from (row for batch in [*order.sample(batches, len(batches)), last] for row in batch)

    def set_epoch(self, epoch: int) -> None:
        """Called before every epoch."""
        self.epoch = epoch


def batch_by_group(trainer: Trainer, groups: Sequence[int]) -> None:
    """Let the trainer put all members of a group into one batch of a device. `groups` has a number for each row."""
    args, sizes = trainer.args, [len(rows) for rows in members_of(groups)]
    size = args.per_device_train_batch_size
    if max(sizes) < 2:
        raise UserError("group_batches: no two rows have the same options; build scenes with exposure: matched")
    if max(sizes) > size:
        logger.warning(
            f"group_batches: the largest group has {max(sizes)} members and a batch {size} rows, so it is divided; "
            "raise per_device_train_batch_size and lower gradient_accumulation_steps"
        )
    logger.info(f"group_batches: {sum(n > 1 for n in sizes):,} groups of up to {max(sizes)}, {sizes.count(1):,} alone")
    sampler = GroupSampler(groups, size, args.data_seed if args.data_seed is not None else args.seed)
    trainer._get_train_sampler = lambda dataset=None: sampler
