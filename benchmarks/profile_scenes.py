"""Wall seconds of each part of `scenes` on existing tables, in the order in which the parts end.

python benchmarks/profile_scenes.py WORK ml-1m 100000 matched
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from usermirrorer.data.scenes import make, window
from usermirrorer.steps import SceneSettings


PARTS = {
    make: (
        "load_tables", "qualifying_choices", "load_vectors", "draw", "fit_half_lives", "score_all", "item_words",
        "run_probe", "fit_baselines", "accuracies",
    ),
    make.SceneWriter: ("write_scenes", "write_baselines"),
    window: ("fit_models",),
}  # fmt: skip
WITHIN = {
    "fit_models": "score_all", "fit_half_lives": "write_baselines", "score_all": "write_baselines",
    "item_words": "write_baselines", "run_probe": "write_baselines", "fit_baselines": "write_baselines",
    "accuracies": "write_baselines",
}  # fmt: skip
"""Part -> the part that contains it."""


def timed(name: str, function: Callable[..., Any], seconds: dict[str, float]) -> Callable[..., Any]:
    def run(*args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            seconds[name] = time.perf_counter() - started

    return run


def main(work: Path, name: str, num: int, exposure: str) -> None:
    seconds: dict[str, float] = {}
    for owner, names in PARTS.items():
        for part in names:
            setattr(owner, part, timed(part, getattr(owner, part), seconds))
    for step in ("scenes", "features", "baselines"):
        shutil.rmtree(work / step, ignore_errors=True)
    started = time.perf_counter()
    make.make_scenes(name, work, SceneSettings("train", num, exposure), workers=2)
    total = time.perf_counter() - started
    for part, spent in seconds.items():
        print(f"{part:16} {spent:6.2f} s{f'  (within {WITHIN[part]})' if part in WITHIN else ''}")
    print(f"{'all':16} {total:6.2f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
