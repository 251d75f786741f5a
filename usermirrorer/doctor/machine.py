"""What this machine has: GPUs, processor, memory, disk, a compiler."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

from usermirrorer.errors import shorten
from usermirrorer.llm.engines.transformers import has_bfloat16


NATIVE = ("torch", "lightgbm")
"""Libraries that load libraries of the system, which may be missing."""

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def gpus() -> list[dict[str, Any]]:
    """Every GPU that torch can use: name, GiB of memory, compute capability."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        memory = round(device.total_memory / 2**30, 1)
        found.append({"name": device.name, "gib": memory, "capability": f"{device.major}.{device.minor}"})
    return found


def has_nvidia_driver() -> bool:
    """Whether an NVIDIA driver is loaded, whatever torch makes of it."""
    return Path("/proc/driver/nvidia/version").exists()


def broken() -> dict[str, str]:
    """Installed libraries that can't be loaded -> why."""
    reasons = {}
    for name in NATIVE:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError) as error:
            reasons[name] = shorten(" ".join(str(error).split()), 200)
    return reasons


def processor() -> dict[str, Any]:
    """Cores that this process may use, and whether they multiply bfloat16 in hardware."""
    return {"cores": len(os.sched_getaffinity(0)), "bfloat16": has_bfloat16()}


def memory() -> dict[str, float]:
    """GiB of main memory, in all (of a container: its limit) and available now."""
    import psutil

    found = psutil.virtual_memory()
    total, available = found.total, found.available
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else "max"
    if limit != "max":
        total, available = min(total, int(limit)), min(available, int(limit))
    return {"gib": round(total / 2**30, 1), "available_gib": round(available / 2**30, 1)}


def free_disk(place: Path) -> float:
    """Free GiB where a directory is, or will be."""
    existing = next(path for path in (place.absolute(), *place.absolute().parents) if path.is_dir())
    return round(shutil.disk_usage(existing).free / 2**30, 1)


def compiler() -> str | None:
    """The C++ compiler that DeepSpeed and vLLM would start; None without one."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)
