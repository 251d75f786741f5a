"""Resuming an interrupted run."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from usermirrorer.errors import UserError
from usermirrorer.train import lifetime, provenance
from usermirrorer.train.config import Run


logger = logging.getLogger("usermirrorer.train")


def start(run: Run, record: dict[str, Any]) -> str | None:
    """The checkpoint to resume from, or None for a fresh start; writes the run's record to output_dir and locks it.

    Without `resume_from_checkpoint` it is the last complete one in output_dir. Raises UserError if another process
    trains there, if it holds another run, or if the requested checkpoint does not exist.
    """
    output_dir, given = run.training.output_dir, run.training.resume_from_checkpoint
    with run.training.main_process_first(local=False, desc="looking for checkpoints"):
        if run.training.process_index == 0:
            lifetime.hold(Path(output_dir))
            changed = provenance.check_same_run(output_dir, record)
            if changed:
                logger.warning(f"resuming with changed settings: {'; '.join(changed)}")
            provenance.write(output_dir, record)
    if given and str(given).lower() != "true":
        if not (Path(given) / "trainer_state.json").is_file():
            raise UserError(
                f"resume_from_checkpoint: {given} is not a checkpoint; leave it out to resume from the last one"
            )
        return str(given)
    checkpoint = last_checkpoint(output_dir)
    if checkpoint:
        logger.info(f"resuming from {checkpoint}")
    return checkpoint


def last_checkpoint(output_dir: str) -> str | None:
    """The latest complete checkpoint: the trainer writes its state last."""
    folders = {
        int(match.group(1)): path
        for path in Path(output_dir).glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and (path / "trainer_state.json").is_file()
    }
    return str(folders[max(folders)]) if folders else None
