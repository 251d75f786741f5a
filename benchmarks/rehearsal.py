"""A rehearsal of a large build: scripted writers over a million scenes, decide → score → distill, with peak memory.

    python benchmarks/rehearsal.py
    python benchmarks/rehearsal.py --scenes 20000

Each line times a whole process, from what is on disk before to what is on disk after. A language model in the place
of the scripted ones takes its own time; what is seen here is what this package adds, and that its memory stays flat.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from generated_log import write_log
from scenes import _model, run

from usermirrorer.data.artefacts.store import finished_content


LIMIT_MB = 4096
STRONG, WEAK = 4, 2
"""Decision processes per scene"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, help="directory to keep, or to go on in; default: a temporary one")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, {_model()}")
    with tempfile.TemporaryDirectory() as temporary:
        rehearse(args.work or Path(temporary), args.scenes)


def rehearse(directory: Path, scenes: int) -> None:
    raw, work = directory / "raw", directory / "work"
    if not raw.exists():
        # In a process of its own: a child's peak of memory counts what its parent held when it was started.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(write_log, raw, max(scenes // 20, 200), max(scenes // 200, 200), 12 * scenes).result()
    command = [sys.executable, "-m", "usermirrorer"]
    num = scenes // 100
    steps = {
        "prepare": [*command, "prepare", "ml-1m", "--raw", str(raw)],
        "scenes": [*command, "scenes", "ml-1m", "--split", "train", "--exposure", "matched", "--num", str(scenes)],
        "decide strong": [*command, "decide", "ml-1m", "--variant", "strong", "--llm", "scripted:reader"],
        "decide weak": [*command, "decide", "ml-1m", "--variant", "weak", "--llm", "scripted:noisy"],
        "score": [*command, "score", "ml-1m", "--predictor", "scripted:reader"],
        "distill": [*command, "distill", "--domain", "ml-1m", "--name", "pairs", "--num", str(num)],
    }
    steps["decide strong"] += ["--prompt", "plain", "--n", str(STRONG)]
    steps["decide weak"] += ["--prompt", "plain", "--n", str(WEAK)]
    steps["distill"] += ["--min-accepted", "1"]
    worst = 0.0
    for name, words in steps.items():
        seconds, peak, _ = run([*words, "--work", str(work)])
        each = "" if name in ("prepare", "distill") else f", {1000 * seconds / scenes:.2f} ms a scene"
        print(f"{name}: {seconds:,.0f} s{each}, {peak:,.0f} MB", flush=True)
        worst = max(worst, peak if name not in ("prepare", "scenes") else 0.0)
    made = {
        place: finished_content(work / place, place)["rows"]
        for place in ("scenes/ml-1m/train", "decisions/ml-1m/strong", "predictions/ml-1m/weak", "pairs/pairs")
    }
    print("; ".join(f"{place}: {rows:,} rows" for place, rows in made.items()))
    for place in ("scenes", "decisions", "predictions", "pairs"):
        size = sum(path.stat().st_size for path in (work / place).rglob("*.parquet"))
        print(f"{place}: {size / 1e6:,.0f} MB on disk")
    told = "within" if worst <= LIMIT_MB else "OVER"
    print(f"decide, score and distill took at most {worst:,.0f} MB, {told} {LIMIT_MB:,} MB")


if __name__ == "__main__":
    main()
