"""What a run reports: its arithmetic in the log, its curves on wandb, its numbers on disk."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usermirrorer.errors import UserError
from usermirrorer.train.config import Run
from usermirrorer.train.launching import lifetime
from usermirrorer.train.records import card, provenance


if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.getLogger("usermirrorer.train")

SILENT = {"USERMIRRORER_SILENT": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
"""Environment of a training that shows nothing but warnings."""


def start_log(run: Run) -> None:
    """Log to stderr, from one process; warnings alone if the training is `SILENT`."""
    logging.basicConfig(format="%(message)s")
    silent = os.environ.get("USERMIRRORER_SILENT") == "1"
    logger.setLevel(logging.INFO if run.training.process_index == 0 and not silent else logging.WARNING)


def announce(run: Run, data: Mapping[str, Any], samples: int) -> None:
    """Log what the run will do: tokens, the arithmetic of the global batch, steps.

    `samples` are seen in an epoch: rows, or for GRPO the answers to them.
    """
    training = run.training
    packed = getattr(training, "packing", False)
    if packed:
        samples = math.ceil(data["tokens"] / training.max_length)
    per_process = math.ceil(samples / (training.per_device_train_batch_size * training.world_size))
    per_epoch = math.ceil(per_process / training.gradient_accumulation_steps)
    steps = training.max_steps if training.max_steps > 0 else math.ceil(per_epoch * training.num_train_epochs)
    if packed:
        logger.info(
            f"packing: {data['kept']:,} rows in at least {samples:,} of {training.max_length:,} tokens, which "
            "count as rows from here on"
        )
    logger.info(
        f"batch: {batch_arithmetic(run)} = {run.global_batch} rows per step; {steps:,} steps of "
        f"{per_epoch:,} per epoch, {data['tokens']:,} tokens per epoch"
    )
    plugin = training.deepspeed_plugin
    if run.model.use_peft and plugin is not None and plugin.zero_stage == 3:
        logger.warning(
            "LoRA under ZeRO-3 has been seen to save empty adapters; zero2 or ddp serve an adapter just as well"
        )


def batch_arithmetic(run: Run) -> str:
    training = run.training
    return (
        f"{training.per_device_train_batch_size} per device x {training.gradient_accumulation_steps} accumulated x "
        f"{training.world_size} process{'es' if training.world_size > 1 else ''}"
    )


def start_wandb(run: Run, record: Mapping[str, Any], resumed: bool) -> None:
    """Open the wandb run if `report_to` names wandb; a resumed training continues the same one.

    Its config is the run's record: recipe, data fingerprint, git revision. wandb's capture of the repository is off,
    as it would upload uncommitted changes.
    """
    if "wandb" not in run.training.report_to or run.training.process_index != 0:
        return
    import wandb

    path = Path(run.training.output_dir) / "wandb_run_id"
    try:
        tracked = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "usermirrorer"),
            name=run.training.run_name,
            id=path.read_text().strip() if resumed and path.is_file() else None,
            resume="allow",
            config=dict(record),
            settings=wandb.Settings(disable_git=True, save_code=False),
        )
    except wandb.errors.UsageError as error:
        raise UserError(f"wandb: {error}; set WANDB_API_KEY, or WANDB_MODE=offline") from None
    path.write_text(tracked.id + "\n")


def wandb_url(run: Run) -> str | None:
    """Where the open wandb run is shown; None for a run that is not tracked, or offline."""
    if "wandb" not in run.training.report_to:
        return None
    import wandb

    return None if wandb.run is None or wandb.run.offline else wandb.run.url


def finish(trainer: Trainer, run: Run, record: Mapping[str, Any], metrics: dict[str, float]) -> None:
    """Save metrics and trainer state, complete the record, write the card; close trackers, lock and processes."""
    import torch

    trainer.log_metrics("train", metrics)
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    if trainer.is_world_process_zero():
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        outcome = {
            "world_size": run.training.world_size,
            "distributed": type(trainer.model_wrapped).__name__,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
            "batch": batch_arithmetic(run),
            "global_batch": run.global_batch,
            "steps": trainer.state.global_step,
            "last_loss": losses[-1] if losses else None,
            "seconds": round(metrics["train_runtime"], 1),
            "wandb": wandb_url(run),
        }
        content = {**record, "run": outcome}
        provenance.write(run.training.output_dir, content)
        card.write_card(run.training.output_dir, content, peft=run.model.use_peft)
        logger.info(f"saved: {run.training.output_dir}")
        if "wandb" in run.training.report_to:
            import wandb

            wandb.finish()
        lifetime.release(Path(run.training.output_dir))
    trainer.accelerator.end_training()
