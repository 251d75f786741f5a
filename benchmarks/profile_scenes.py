"""Wall seconds of each part of `scenes` on existing tables, in the order in which the parts end.

python benchmarks/profile_scenes.py WORK ml-1m 100000 retrieved
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from usermirrorer.data.scenes import draw, make
from usermirrorer.steps import SceneSettings


PARTS = {
    make: ("load_tables", "eligible_targets", "load_vectors", "draw_until", "score_all", "run_probe", "fit_baselines"),
    make.SceneWriter: ("write_scenes", "write_baselines"),
    draw: ("_precompute",),
}


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
    within = {"_precompute": "draw_until", "score_all": "write_baselines", "run_probe": "write_baselines"}
    within["fit_baselines"] = "write_baselines"
    for part, spent in seconds.items():
        print(f"{part:16} {spent:6.2f} s{f'  (within {within[part]})' if part in within else ''}")
    print(f"{'all':16} {total:6.2f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
