"""`accelerate launch`, as it should end: with the exit status of the training, and without a traceback of its own.

    python -m usermirrorer.train.launching.start --num_processes 2 … -m usermirrorer.train.sft --config FILE

Ctrl-C and SIGTERM are passed on to the training, which saves and stops in good order (`interrupt.py`), and waited for.
torchrun would give it thirty seconds.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

import psutil


PASSED_ON = (signal.SIGINT, signal.SIGTERM)


def run(command: Sequence[str], environment: Mapping[str, str], stdout: int | None = None) -> int:
    """Run a command to its end, whatever signals come meanwhile; its exit status, as shells count."""
    process = subprocess.Popen(command, env=environment, stdout=stdout)
    pass_signals_on()
    return _as_shells_do(process.wait())


def pass_signals_on() -> None:
    """From now on, give SIGINT and SIGTERM to the processes that this one has started, and go on waiting for them."""
    for number in PASSED_ON:
        signal.signal(number, _give)


def main(args: Sequence[str]) -> int:
    """`accelerate launch` with `args`; the exit status of the first process that failed, 0 if none did."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing import api
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # torchrun puts its own handler in the place of any other, and its log would tell what the training tells already.
    api._terminate_process_handler = _give
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    pass_signals_on()
    try:
        launch_command(launch_command_parser().parse_args(list(args)))
    except subprocess.CalledProcessError as error:
        return _as_shells_do(error.returncode)
    except ChildFailedError as error:
        return _as_shells_do(error.get_first_failure()[1].exitcode)
    return 0


def _give(number: int, frame: FrameType | None) -> None:
    for child in psutil.Process().children():
        child.send_signal(number)


def _as_shells_do(status: int) -> int:
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
