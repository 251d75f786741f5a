"""The processes of a training: accelerate's own flags among those of `usermirrorer train`, and what they will start.

`accelerate launch` ends in a traceback or a page of usage where two of its settings do not go together, and starts one
process where two were asked for; here each of these is one sentence, before anything starts.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NoReturn

from usermirrorer.errors import UserError


REFUSED = {
    "cpu": "it silently drops DeepSpeed and all processes but one; to train on CPUs, write use_cpu: true and "
    "bf16: false in the recipe, and --accelerate cpu or, with several processes, --mixed_precision no",
    "config_file": "write --accelerate NAME|FILE",
    "module": "the training method says what is launched",
    "no_python": "the training method says what is launched",
    "tpu": "trainings run on GPUs and CPUs",
    "use_megatron_lm": "trainings run under DDP, DeepSpeed or FSDP",
    "use_parallelism_config": "every process takes whole rows; spread a large model with --accelerate zero3 or fsdp",
}
"""Flags of accelerate that are not passed on, and why."""

REFUSED_GROUPS = {
    "TPU": "tpu",
    "AWS Arguments": "tpu",
    "MPI Arguments": "tpu",
    "Megatron-LM Arguments": "use_megatron_lm",
    "ParallelismConfig Arguments": "use_parallelism_config",
}
"""Groups of accelerate's flags that only such a flag gives a meaning to."""

TYPES = {"use_deepspeed": "DEEPSPEED", "use_fsdp": "FSDP", "multi_gpu": "MULTI_GPU"}
"""Flags that say how the processes share the work -> the `distributed_type` of a configuration."""


@dataclass(frozen=True)
class Plan:
    """What `accelerate launch` will start: `processes` over all `machines`, of which this one has the rank `rank`."""

    processes: int
    machines: int
    rank: int
    distributed_type: str
    gpus: int
    """Of this machine, that the processes may use"""

    def check_gpus(self) -> None:
        """Raises UserError if this machine has GPUs, but fewer than processes."""
        here = self.processes // self.machines
        if 0 < self.gpus < here:
            raise UserError(
                f"num_processes: {here} on this machine, where {self.gpus} GPU{'s' if self.gpus > 1 else ''} can be "
                f"used; write --num_processes {self.gpus * self.machines}"
            )


def split(args: Sequence[str], settings: Set[str]) -> tuple[list[str], list[str]]:
    """(accelerate's flags with their values, all others). What is in `settings` is the recipe's.

    Raises UserError for a flag of accelerate that is not passed on, and for a second value of one.
    """
    parser = _parser()
    reasons = _reasons(parser)
    known = {name: action for name, action in parser._option_string_actions.items() if name.startswith("--")}
    passed, others, left = [], [], list(args)
    while left:
        arg = left.pop(0)
        name, equals, _ = arg.partition("=")
        if name not in known or known[name].dest in settings:
            others.append(arg)
            continue
        if reason := reasons.get(known[name].dest):
            raise UserError(f"{name} of accelerate is not passed on: {reason}")
        takes_value = known[name].nargs != 0
        passed.append(arg)
        if takes_value and not equals and left and not left[0].startswith("--"):
            passed.append(left.pop(0))
        if left and not left[0].startswith("-"):
            takes = "one value, without spaces" if takes_value else "no value"
            raise UserError(f"{name} takes {takes}: leave out {left[0]!r}")
    return passed, others


def names() -> set[str]:
    """The flags that are passed on, as they are spelt in `accelerate launch --help`."""
    parser = _parser()
    return {action.dest for action in parser._actions if action.option_strings} - set(_reasons(parser))


def plan(flags: Sequence[str], configuration: Mapping[str, Any], source: str) -> Plan:
    """What `flags` and an accelerate configuration (`source` names it in errors) start together.

    Raises UserError for values that accelerate does not take, or that do not go together.
    """
    import torch

    given = _parser().parse_args([*flags, "--module", "usermirrorer.train"])

    def value(name: str) -> Any:
        flag = getattr(given, name)
        return configuration.get(name) if flag is None else flag

    chosen = [name for name in TYPES if getattr(given, name)]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(f'--{name}' for name in chosen)} exclude each other: keep one")
    gpus = torch.cuda.device_count()
    several = "MULTI_GPU" if gpus > 1 else "NO"
    distributed_type = TYPES[chosen[0]] if chosen else str(configuration.get("distributed_type", several))
    processes = max(1, gpus) if value("num_processes") is None else value("num_processes")
    machines = 1 if value("num_machines") is None else value("num_machines")
    for name, number in (("num_processes", processes), ("num_machines", machines)):
        if not isinstance(number, int) or number < 1:
            raise UserError(f"{name}: {value(name)} must be a whole number, at least 1")
    if processes > 1 and distributed_type in ("NO", "MULTI_CPU"):
        raise UserError(
            f"num_processes: {processes}, but {source} (distributed_type: {distributed_type}) starts one process; "
            "take --accelerate ddp, zero2, zero3 or fsdp"
        )
    rank, here = _rank(processes, machines, value), processes // machines
    ids = value("gpu_ids")
    if ids in (None, "all"):
        return Plan(processes, machines, rank, distributed_type, gpus)
    listed = len(str(ids).split(","))
    # accelerate takes one GPU for no MULTI_GPU, even with one process.
    if listed < max(here, 2 if distributed_type == "MULTI_GPU" and machines == 1 else 1):
        raise UserError(
            f"gpu_ids: {ids} names {listed} for {here} process{'es' if here > 1 else ''} under {source}; name one for "
            "each process, or take --accelerate single_gpu"
        )
    return Plan(processes, machines, rank, distributed_type, min(gpus, listed))


def _rank(processes: int, machines: int, value: Any) -> int:
    """The rank of this machine. Raises UserError if one of several machines can't find the others."""
    if machines == 1:
        return 0
    for name in ("main_process_ip", "main_process_port", "machine_rank"):
        if value(name) is None:
            raise UserError(f"num_machines: {machines} needs {name}; add --{name} …")
    rank = value("machine_rank")
    if not isinstance(rank, int) or not 0 <= rank < machines:
        raise UserError(f"machine_rank: {rank} must be one of 0 … {machines - 1}, another on each machine")
    if processes % machines:
        raise UserError(
            f"num_processes: {processes} counts those of all {machines} machines; write a multiple of {machines}"
        )
    return rank


def _reasons(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Names of the flags that are not passed on -> why."""
    return REFUSED | {
        action.dest: REFUSED[REFUSED_GROUPS[group.title]]
        for group in parser._action_groups
        if group.title in REFUSED_GROUPS
        for action in group._group_actions
    }


def _parser() -> argparse.ArgumentParser:
    """accelerate's own, which ends in one sentence."""
    from accelerate.commands.launch import launch_command_parser

    parser: argparse.ArgumentParser = launch_command_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    return parser


def _refuse(message: str) -> NoReturn:
    named = re.match(r"argument (?:-\w/)?(--\w+)[^:]*: (.*)", message)
    what = f"{named[1]}: {named[2]}" if named else message
    raise UserError(f"{what}; `accelerate launch --help` says what it takes")
