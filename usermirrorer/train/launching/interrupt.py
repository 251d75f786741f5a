"""Ctrl-C and SIGTERM end a training in good order: after the step at hand it is saved and says how to go on."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from usermirrorer.train.launching import lifetime


if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.getLogger("usermirrorer.train")

SIGNALS = (signal.SIGINT, signal.SIGTERM)

SAME_SECONDS = 3.0
"""A signal so soon after the first is the same one: a terminal gives it to every process, and launchers pass it on."""


class StopInOrder(TrainerCallback):
    """At the first signal, saves a checkpoint after the step at hand and stops; at a later one, ends at once.

    The processes ask each other after every step, so that all stop after the same one.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.accelerator = trainer.accelerator
        self.received = 0
        self.at = 0.0
        self.before: dict[int, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._any_received():
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received, self.at = number, time.monotonic()
        elif time.monotonic() - self.at > SAME_SECONDS:
            os._exit(128 + number)

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _any_received(self) -> bool:
        if self.accelerator.num_processes > 1:
            import torch

            signals = torch.tensor(self.received, device=self.accelerator.device)
            self.received = int(self.accelerator.gather(signals.reshape(1)).max())
        return self.received > 0


def train(trainer: Trainer, checkpoint: str | None) -> dict[str, float]:
    """Train, from the checkpoint if there is one. Returns the metrics.

    Ends the process with 128 + the signal's number, as shells do, if a signal stopped it.
    """
    import torch

    if trainer.args.device.type == "cpu":
        # DDP numbers CPUs as if they were GPUs, and torch does not know how to load a checkpoint to "cpu:0".
        trainer.args.__dict__["_setup_devices"] = torch.device("cpu")
    stop = StopInOrder(trainer)
    trainer.add_callback(stop)
    metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
    if stop.received and trainer.state.global_step < trainer.state.max_steps:
        logger.info(
            f"stopped by {signal.Signals(stop.received).name} after step {trainer.state.global_step:,} of "
            f"{trainer.state.max_steps:,} and saved; the same command goes on from there"
        )
        if trainer.is_world_process_zero():
            lifetime.release(Path(str(trainer.args.output_dir)))
        trainer.accelerator.end_training()
        sys.exit(128 + stop.received)
    return dict(metrics)
