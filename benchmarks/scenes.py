"""Time and memory of `scenes` on a generated log, shaped like MovieLens 1M or with 20 M interactions.

    python benchmarks/scenes.py --shape 1m
    python benchmarks/scenes.py --shape 20m --num 1000000 --exposure matched

Every line times a whole process: from tables on disk to scenes, probe and baselines on disk. "Written after" is the
time until the last shard of scenes was on disk. The baseline, in the same run, is the published sampler re-created
from its description (`published_way.py`). The published code itself, on a similar machine and the same log with
embeddings given, took 23 s for 1,024 scenes, 47 s for 8,192, and 2.2 GB.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from generated_log import write_log

from usermirrorer.data.artefacts.store import finished_content


SHAPES = {"1m": (6040, 3706, 1_000_000), "20m": (138_000, 27_000, 20_000_000), "small": (600, 400, 60_000)}
MEGABYTE = 1024


def run(command: list[str]) -> tuple[float, float, str]:
    """Wall seconds, peak memory in MB, and the output of a command."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}:\n{output}")
    return time.perf_counter() - started, usage.ru_maxrss / MEGABYTE, output


def scenes(work: Path, num: int, exposure: str, workers: int) -> tuple[float, float, float, int]:
    """Wall seconds in total and until the scenes were written, peak memory in MB, number of scenes."""
    for step in ("scenes", "features", "baselines"):
        subprocess.run(["rm", "-rf", str(work / step)], check=True)
    began = time.time()
    command = [
        sys.executable, "-m", "usermirrorer", "scenes", "ml-1m", "--work", str(work), "--split", "train",
        "--num", str(num), "--exposure", exposure, "--workers", str(workers),
    ]  # fmt: skip
    seconds, peak, _ = run(command)
    directory = work / "scenes" / "ml-1m" / "train"
    written = max(path.stat().st_mtime for path in directory.glob("*.parquet")) - began
    manifest = finished_content(directory, "scenes")
    return seconds, written, peak, manifest["rows"]


def floor(work: Path) -> float:
    """Seconds to start Python, read the tables and copy the same scenes on disk: the least that any run takes."""
    code = (
        "import sys, pyarrow.parquet as pq; from pathlib import Path;"
        "from usermirrorer.data.log.tables import load_tables;"
        "from usermirrorer.data.artefacts.store import write_parquet; w = Path(sys.argv[1]); load_tables(w, 'ml-1m');"
        "[write_parquet(pq.read_table(p), w / 'copy.parquet') for p in (w / 'scenes/ml-1m/train').glob('*.parquet')]"
    )
    return run([sys.executable, "-c", code, str(work)])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="1m")
    parser.add_argument("--num", type=int, nargs="*", default=[8192, 10_000, 100_000])
    parser.add_argument("--exposure", nargs="*", default=["matched", "hard"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--baseline", type=int, nargs="*", default=[1024, 8192], help="scenes of the baseline")
    parser.add_argument("--work", type=Path, help="directory to keep; default: a temporary one")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {_model()}; Python {platform.python_version()}")
    print(", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "polars", "pyarrow", "lightgbm")))
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.work or Path(temporary)
        raw, work = directory / "raw", directory / "work"
        # In a process of its own: a child's peak of memory counts what its parent held when it was started.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(write_log, raw, *SHAPES[arguments.shape]).result()
        prepare = [sys.executable, "-m", "usermirrorer", "prepare", "ml-1m", "--raw", str(raw), "--work", str(work)]
        tables = "import sys; from pathlib import Path; from usermirrorer.data.log.prepare import prepare as p;"
        tables += "p('ml-1m', Path(sys.argv[1]), Path(sys.argv[2]))"
        seconds, peak, _ = run([sys.executable, "-c", tables, str(raw), str(work)])
        print(f"prepare, tables: {seconds:.1f} s, {peak:,.0f} MB")
        seconds, peak, output = run(prepare)
        print(f"prepare, item vectors: {seconds:.1f} s, {peak:,.0f} MB; {output.splitlines()[-1]}")
        baseline = {}
        for num in arguments.baseline:
            command = [sys.executable, str(Path(__file__).parent / "published_way.py"), str(work), "ml-1m", str(num)]
            seconds, peak, _ = run(command)
            baseline[num] = seconds
            print(f"baseline, {num:,} scenes: {seconds:.1f} s, {peak:,.0f} MB")
        for exposure in arguments.exposure:
            totals = {}
            for num in arguments.num:
                seconds, written, peak, kept = scenes(work, num, exposure, arguments.workers)
                totals[num] = seconds, written
                ratio = f", {baseline[num] / seconds:.1f} x the baseline's speed" if num in baseline else ""
                times = f"{seconds:.1f} s in total, written after {written:.1f} s, {peak:,.0f} MB"
                print(f"{exposure}, {kept:,} scenes: {times}{ratio}")
            if len(totals) > 1:
                (few, first), (many, last) = list(totals.items())[-2:]
                each, each_written = ((last[k] - first[k]) / (many - few) * 1000 for k in (0, 1))
                print(f"{exposure}, each further scene: {each:.3f} ms in total, {each_written:.3f} ms to be written")
            num = arguments.num[-1]
            print(f"{exposure}, floor of {num:,} scenes (read tables, copy scenes): {floor(work):.1f} s")


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
