"""Settings under which a run would train something else than its recipe says, refused before a model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from usermirrorer.errors import UserError


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


def check_objective(method: str, training: Any, watch: Any) -> None:
    """Raise UserError for the first setting that changes the objective of `method`, or does nothing for it."""
    for name, (refused, reason) in {**_REFUSED, **_REFUSED_IN.get(method, {})}.items():
        value = getattr(training, name, None)
        if value is not None and refused(value):
            raise UserError(f"{name}: {value} is refused: {reason}")
    for name, value in (getattr(training, "dataset_kwargs", None) or {}).items():
        if name == "skip_prepare_dataset" and value:
            raise UserError(f"dataset_kwargs: {name}: {value} is refused: {_REFUSED[name][1]}")
    if method != "dpo" and watch.held_out_pairs:
        raise UserError(f"held_out_pairs: {watch.held_out_pairs} is refused: only DPO watches pairs; leave it out")
    if method == "kto" and training.per_device_train_batch_size < 2:
        raise UserError(
            "per_device_train_batch_size: KTO compares answers within a batch and needs at least 2; for a smaller "
            "step lower gradient_accumulation_steps"
        )
