"""A training ends with the processes that started it: a launcher that is killed leaves no worker behind."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import psutil

from usermirrorer.data.artefacts.store import locked


LAUNCHER = "USERMIRRORER_LAUNCHER"
"""Environment variable that `usermirrorer train` sets to its process id."""

_STARTED_BY_ACCELERATE = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")

EVERY_SECONDS = 1.0

_held: dict[Path, ExitStack] = {}


def end_with_launcher() -> None:
    """From now on, end this process within a second or two of `accelerate launch` or `usermirrorer train`.

    One that was started by hand, such as with `nohup python -m`, has no launcher and goes on.
    """
    launchers = _launchers()
    if launchers:
        Thread(target=_watch, args=(launchers,), daemon=True).start()


def hold(output_dir: Path) -> None:
    """Lock `output_dir` until `release`, or until this process ends. Raises UserError if another trains there."""
    path = lock_of(output_dir)
    if path not in _held:
        lock = ExitStack()
        lock.enter_context(locked(path, output_dir))
        _held[path] = lock


def release(output_dir: Path) -> None:
    """Give the lock back: the training is over."""
    if lock := _held.pop(lock_of(output_dir), None):
        lock.close()


def lock_of(output_dir: Path) -> Path:
    """The lock file of a training, beside `output_dir`, whose files may be uploaded."""
    output_dir = output_dir.absolute()
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    return output_dir.with_name(f".{output_dir.name}.lock")


def _launchers() -> list[psutil.Process]:
    found = [os.getppid()] if any(name in os.environ for name in _STARTED_BY_ACCELERATE) else []
    if given := os.environ.get(LAUNCHER):
        found.append(int(given))
    return [psutil.Process(pid) for pid in found if psutil.pid_exists(pid)]


def _watch(launchers: list[psutil.Process]) -> None:
    while all(_alive(one) for one in launchers):
        time.sleep(EVERY_SECONDS)
    print("usermirrorer: the launcher of this training is gone, so it ends", file=sys.stderr, flush=True)
    os._exit(1)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
