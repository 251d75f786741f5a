"""Going on where a run was broken off."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usermirrorer.errors import UserError
from usermirrorer.train import provenance


if TYPE_CHECKING:
    from usermirrorer.train.config import Run

logger = logging.getLogger("usermirrorer.train")


def start(run: Run, record: dict[str, Any]) -> str | None:
    """The checkpoint to go on from, None for a fresh start; leaves the run's record in output_dir.

    Without `resume_from_checkpoint` that is the last whole one in output_dir. Raises UserError where output_dir holds
    another run, or the checkpoint asked for is not there.
    """
    output_dir, given = run.training.output_dir, run.training.resume_from_checkpoint
    with run.training.main_process_first(local=False, desc="looking for checkpoints"):
        if run.training.process_index == 0:
            changed = provenance.check_same_run(output_dir, record)
            if changed:
                logger.warning(f"going on with other settings than before: {'; '.join(changed)}")
            provenance.write(output_dir, record)
    if given and str(given).lower() != "true":
        if not (Path(given) / "trainer_state.json").is_file():
            raise UserError(f"resume_from_checkpoint: {given} is no checkpoint; leave it out to take the last one")
        return str(given)
    checkpoint = last_checkpoint(output_dir)
    if checkpoint:
        logger.info(f"resuming from {checkpoint}")
    return checkpoint


def last_checkpoint(output_dir: str) -> str | None:
    """The checkpoint of most steps that was written to its end (the trainer's state is its last file)."""
    folders = {
        int(match.group(1)): path
        for path in Path(output_dir).glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and (path / "trainer_state.json").is_file()
    }
    return str(folders[max(folders)]) if folders else None
