"""Before a run: the room it needs against the room there is, and two of its rows as the model will see them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usermirrorer.console.printable import printable
from usermirrorer.errors import StepFailed
from usermirrorer.train.config import Run
from usermirrorer.train.launching.agreement import agreed
from usermirrorer.train.weights import memory
from usermirrorer.wording import format_bytes


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer

logger = logging.getLogger("usermirrorer.train")

SHOWN_ROWS = 2

# Characters of a prompt that are shown: its beginning, and its end, which the answer follows.
_HEAD, _TAIL = 300, 500

_OPEN, _CLOSE = "⟦", "⟧"


def check_room(run: Run, data: Mapping[str, Any]) -> None:
    """Log the memory and the disk that the run needs beside what there is.

    Too little memory is a warning, as the need is an estimate. Raises StepFailed if the disk has no room for a
    checkpoint and the model: training would end with nothing saved.
    """
    agreed(run.training, lambda: _check_room(run, data))


def _check_room(run: Run, data: Mapping[str, Any]) -> None:
    training = run.training
    shape = memory.shape_of(run)
    if shape is None:
        logger.info("memory and disk: not known for a model with code of its own")
        return
    longest = training.max_length if getattr(training, "packing", False) else data["longest"]
    if run.method == "grpo":
        longest += training.max_completion_length
    parts = memory.needed(run, shape, longest)
    device, has = memory.device_bytes()
    logger.info(
        f"memory: about {memory.described(parts)} a process at {longest:,} tokens a row; {device} has "
        f"{format_bytes(has)}"
    )
    processes = training.world_size if device == "CPU" else 1
    if sum(parts.values()) * processes > has:
        logger.warning(f"memory: that is more than there is; to need less, {', or '.join(knobs(run))}")
    output_dir = Path(training.output_dir).absolute()
    output_dir.mkdir(parents=True, exist_ok=True)
    wanted, free = memory.disk_needed(run, shape), shutil.disk_usage(output_dir).free
    kept = format_bytes(round(memory.checkpoint_bytes(run, shape)))
    logger.info(
        f"disk: {format_bytes(round(wanted))} for the model and its checkpoints of {kept} each; {format_bytes(free)} "
        f"are free at {printable(str(output_dir))}"
    )
    if wanted > free:
        raise StepFailed(
            f"{output_dir}: the run needs {format_bytes(round(wanted))} of disk and {format_bytes(free)} are free; "
            "make room, lower save_total_limit, or name another output_dir"
        )


def knobs(run: Run) -> list[str]:
    """What needs less memory, cheapest first, each with its present value."""
    training, model = run.training, run.model
    batch, accumulated = training.per_device_train_batch_size, training.gradient_accumulation_steps
    found = []
    if not training.gradient_checkpointing:
        found.append("set gradient_checkpointing: true (now false; a fifth to a third slower)")
    if batch > 1:
        found.append(
            f"halve per_device_train_batch_size (now {batch}) and double gradient_accumulation_steps (now "
            f"{accumulated}), which trains the same"
        )
    if getattr(training, "precompute_ref_log_probs", True) is False:
        found.append("set precompute_ref_log_probs: true (now false; the reference then need not stay in memory)")
    if str(model.dtype) == "float32" and training.deepspeed_plugin is None:
        found.append("set dtype: bfloat16 (now float32)")
    if memory.sharding(training) < 3 and training.world_size > 1 and not model.use_peft:
        found.append("spread the weights with --accelerate zero3 or fsdp")
    if not model.use_peft:
        found.append("train an adapter with use_peft: true (now false)")
    elif not model.load_in_4bit:
        found.append("load the base in 4 bits with load_in_4bit: true (now false)")
    if getattr(training, "activation_offloading", None) is False:
        found.append("set activation_offloading: true (now false; slower)")
    if getattr(training, "max_length", None):
        found.append(f"lower max_length (now {training.max_length}; longer rows are left out)")
    if getattr(training, "num_generations", None):
        found.append(f"lower num_generations (now {training.num_generations})")
    return found


def show_samples(trainer: Trainer, tokenizer: PreTrainedTokenizerBase) -> None:
    """Log the first rows as the trainer holds them: the end of the prompt, and between ⟦ and ⟧ what is learnt."""
    if not trainer.is_world_process_zero():
        return
    rows: Any = trainer.train_dataset
    for number in range(min(SHOWN_ROWS, len(rows))):
        for title, prompt, learnt in _parts(rows[number]):
            context = tokenizer.decode(prompt)
            if len(context) > _HEAD + _TAIL:
                context = f"{context[:_HEAD]} … {context[-_TAIL:]}"
            trained = f"{_OPEN}{tokenizer.decode(learnt)}{_CLOSE}" if learnt else ""
            logger.info(
                f"row {number + 1}{title}, {len(prompt):,} tokens read, {len(learnt):,} learnt:\n"
                + "\n".join(f"  {printable(line)}" for line in f"{context}{trained}".splitlines())
            )


def _parts(row: Mapping[str, Any]) -> list[tuple[str, Sequence[int], Sequence[int]]]:
    """What a tokenised row is read and learnt from: title, tokens of the prompt, tokens of the answer."""
    if "labels" in row:
        start = next((i for i, label in enumerate(row["labels"]) if label != -100), len(row["labels"]))
        return [("", row["input_ids"][:start], row["input_ids"][start:])]
    if "chosen_ids" in row:
        return [(f", {side}", row["prompt_ids"], row[f"{side}_ids"]) for side in ("chosen", "rejected")]
    if "completion_ids" in row:
        return [(", desirable" if row["label"] else ", undesirable", row["prompt_ids"], row["completion_ids"])]
    return []
