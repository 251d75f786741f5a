"""Several engines of one model: in processes of their own on this machine, or on the nodes of a Ray cluster."""

from __future__ import annotations

from typing import Protocol

from usermirrorer.llm.requests import Session
from usermirrorer.steps import EngineSettings


class Pool(Session, Protocol):
    """A session over several engines."""

    def shut(self) -> None:
        """End them."""


_pools: dict[tuple[str, EngineSettings], Pool] = {}


def pool(path: str, settings: EngineSettings) -> Pool:
    """The engines of a model, started at the first call; those of any other model are closed first."""
    from usermirrorer.llm.engines.engine import close

    key = (path, settings)
    if key not in _pools:
        close()
        if settings.runner == "ray":
            from usermirrorer.llm.engines.ray_pool import RayPool

            _pools[key] = RayPool(path, settings)
        else:
            from usermirrorer.llm.engines.workers import WorkerPool

            _pools[key] = WorkerPool(path, settings)
    return _pools[key]


def close_pools() -> None:
    """End all of them."""
    while _pools:
        _pools.popitem()[1].shut()
