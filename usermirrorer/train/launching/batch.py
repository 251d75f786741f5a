"""The global batch: the rows of an optimiser step over all processes, however many of these there are."""

from __future__ import annotations

import os

from usermirrorer.settings import Places


def world_size() -> int:
    """Processes of this training, as torchrun and accelerate tell each of them; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def accumulation_steps(global_batch: int, per_device: int, processes: int, given: int | None, places: Places) -> int:
    """Batches that each process accumulates for one step of `global_batch` rows.

    `given` is what recipe or flags say of it, None if nothing. Raises UserError if that contradicts, or if the
    processes can't share the rows evenly.
    """
    if not isinstance(global_batch, int) or global_batch < 1:
        places.refuse("global_batch_size", f"{global_batch} must be a whole number of rows, at least 1")
    at_once = per_device * processes
    shared = f"{per_device} per device x {processes} process{'es' if processes > 1 else ''}"
    if global_batch % at_once:
        below = global_batch // at_once * at_once
        nearest = (below, below + at_once) if below else (at_once, 2 * at_once)
        places.refuse(
            "global_batch_size",
            f"{global_batch} is no multiple of {shared} = {at_once}; write {nearest[0]} or {nearest[1]}",
        )
    steps = global_batch // at_once
    if given is not None and given != steps:
        places.refuse(
            "gradient_accumulation_steps",
            f"{given} contradicts global_batch_size {global_batch}: {shared} accumulate {steps}; leave it out",
        )
    return steps
