"""What is measured while a model trains, with `watch_steps`: scenes that it answers, pairs that it weighs.

Every measurement is a line of `watched.jsonl` in the output_dir and goes to the trackers; a run that goes on keeps
the lines up to its checkpoint. Nothing here bears on what is learnt.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainerCallback

from usermirrorer.data.artefacts.store import write_bytes
from usermirrorer.errors import UserError
from usermirrorer.train.config import Run
from usermirrorer.train.watching import watched_pairs, watched_scenes
from usermirrorer.train.watching.in_training import ModelInTraining, unwrapped
from usermirrorer.train.watching.watched_pairs import Pairs


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger("usermirrorer.train")

FILE = "watched.jsonl"


def start(
    trainer: Trainer, run: Run, tokenizer: PreTrainedTokenizerBase, data: Mapping[str, Any], pairs: Pairs | None = None
) -> None:
    """Measure from now on, if the run says so. Raises UserError for scenes that can't be watched."""
    if not run.watch.watch_steps:
        return
    if trainer.accelerator.distributed_type == "FSDP":
        raise UserError("watch_steps: a model spread by FSDP can't be watched; leave it out, or use zero2 or zero3")
    scenes = watched_scenes.load_scenes(run, data)
    if not scenes and not pairs:
        raise UserError("watch_steps: there is nothing to watch; give watch_scenes: a directory of test scenes")
    trainer.add_callback(Watch(trainer, run, tokenizer, data, scenes, pairs or {}))


class Watch(TrainerCallback):
    """Measures before the first step, every `watch_steps` steps and after the last one.

    Scenes and pairs are shared out among the processes; the first one gathers and writes.
    """

    def __init__(
        self,
        trainer: Trainer,
        run: Run,
        tokenizer: PreTrainedTokenizerBase,
        data: Mapping[str, Any],
        scenes: Sequence[Mapping[str, Any]],
        pairs: Pairs,
    ) -> None:
        self.trainer, self.run, self.tokenizer, self.data = trainer, run, tokenizer, data
        self.scenes, self.pairs = scenes, pairs
        self.path = Path(run.training.output_dir) / FILE
        self.lines: list[dict[str, Any]] = []
        self.warned: set[str] = set()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step and self.path.is_file():
            lines = [json.loads(line) for line in self.path.read_text().splitlines()]
            self.lines = [line for line in lines if line["step"] <= state.global_step]
        self._measure(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.run.watch.watch_steps == 0 or state.global_step == state.max_steps:
            due = control.should_log
            self._measure(state.global_step)
            control.should_log = due  # logging what was measured has taken it back

    def _measure(self, step: int) -> None:
        if any(line["step"] == step for line in self.lines):
            return
        from accelerate.utils import gather_object

        rank, processes = self.trainer.accelerator.process_index, self.trainer.accelerator.num_processes
        with unwrapped(self.trainer) as model:
            import torch

            user = ModelInTraining(str(self.run.model.model_name_or_path), self.tokenizer, model)
            with torch.no_grad():
                answers = watched_scenes.answer(
                    user, self.scenes[rank::processes], str(self.data["prompt"]), int(self.data["longest_answer"])
                )
                values = {
                    name: watched_pairs.log_probabilities(user, pairs[rank::processes]).tolist()
                    for name, pairs in self.pairs.items()
                }
        gathered = gather_object([(answers, values)])
        if self.trainer.accelerator.is_main_process:
            self._keep(step, gathered)

    def _keep(self, step: int, gathered: Sequence[tuple[list[Any], Mapping[str, list[Any]]]]) -> None:
        import numpy as np

        line: dict[str, Any] = {"step": step}
        answers: list[Any] = [None] * len(self.scenes)
        for rank, (some, _) in enumerate(gathered):
            answers[rank :: len(gathered)] = some
        if self.scenes:
            line["scenes"] = watched_scenes.measured(self.scenes, answers)
        for name in self.pairs:
            rows = [row for _, values in gathered for row in values[name]]
            line[name] = watched_pairs.summary(np.array(rows))
        self.lines.append(line)
        write_bytes(self.path, "".join(json.dumps(one) + "\n" for one in self.lines).encode())
        named = {
            f"watched/{part}/{name}": value for part in line if part != "step" for name, value in line[part].items()
        }
        Trainer.log(self.trainer, named)  # TRL's own log would also empty the means it is collecting
        self._show_answers(step, answers)
        for name in self.pairs:
            for concern in watched_pairs.concerns(self.lines[0][name], line[name], name.replace("_", "-")):
                kind = concern.split(":")[1]
                if kind not in self.warned:
                    self.warned.add(kind)
                    logger.warning(f"step {step:,}, {concern}")

    def _show_answers(self, step: int, answers: Sequence[Any]) -> None:
        if not self.scenes or "wandb" not in self.run.training.report_to:
            return
        import wandb

        rows = watched_scenes.table(self.scenes, answers)
        shown = wandb.Table(columns=list(watched_scenes.TABLE), data=rows)
        wandb.log({"watched/answers": shown, "train/global_step": step})
