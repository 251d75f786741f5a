"""Settings under which a run would train something else than its recipe says, refused before a model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from usermirrorer.errors import UserError, unknown_name


if TYPE_CHECKING:
    from usermirrorer.train.config import Run


REJECTED_FROM = ("pair", "group")

_WHOLE_TEXT = "the loss would be on the prompt as well, most of which no model is asked to write; leave it out"

# Setting -> whether its value is refused, and why.
_REFUSED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "completion_only_loss": (lambda value: value is False, _WHOLE_TEXT),
    "assistant_only_loss": (bool, "rows are prompt and completion, and the loss is on the completion; leave it out"),
    "packing_strategy": (
        lambda value: value == "wrapped",
        "rows would be cut and would read each other; write packing_strategy: bfd",
    ),
    "dataset_text_field": (lambda value: value != "text", "rows are prompt and completion; leave it out"),
    "skip_prepare_dataset": (bool, "rows would reach the model without its chat template; leave it out"),
    "label_smoothing_factor": (bool, "TRL's loss ignores it; leave it out"),
    "sync_ref_model": (bool, "the reference would follow the model; leave it out"),
}

_REFUSED_IN: Mapping[str, Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "dpo": {"padding_free": (bool, "this TRL ignores it for DPO; leave it out")}
}


def check_objective(run: Run) -> None:
    """Raise UserError for the first setting that changes the objective of the run's method, or does nothing for it."""
    method, training = run.method, run.training
    values = {**vars(training), **(getattr(training, "dataset_kwargs", None) or {})}
    for name, (refused, reason) in {**_REFUSED, **_REFUSED_IN.get(method, {})}.items():
        value = values.get(name)
        if value is not None and refused(value):
            raise UserError(f"{name}: {value} is refused: {reason}")
    if method != "dpo" and run.watch.held_out_pairs:
        raise UserError(f"held_out_pairs: {run.watch.held_out_pairs} is refused: only DPO watches pairs; leave it out")
    _check_groups(run)
    if method == "kto" and training.per_device_train_batch_size < 2:
        raise UserError(
            "per_device_train_batch_size: KTO compares answers within a batch and needs at least 2; for a smaller "
            "step lower gradient_accumulation_steps"
        )


def _check_groups(run: Run) -> None:
    groups, method = run.groups, run.method
    if groups.rejected_from not in REJECTED_FROM:
        raise unknown_name("rejected_from", groups.rejected_from, REJECTED_FROM)
    if groups.rejected_from == "group" and method not in ("dpo", "kto"):
        raise UserError(f"rejected_from: group is refused: {method} reads no rejected answers; leave it out")
    if groups.group_contrast and method != "sft":
        raise UserError(
            f"group_contrast: {groups.group_contrast} is refused: it is an objective of sft; for {method}, "
            "rejected_from: group sets the members of a group against each other"
        )
    if (groups.group_batches or groups.group_contrast) and (
        method not in ("sft", "dpo") or getattr(run.training, "packing", False)
    ):
        raise UserError("group_batches is refused: kto, grpo and packing make batches of their own; leave it out")
