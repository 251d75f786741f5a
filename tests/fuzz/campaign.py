"""Thousands of damaged inputs: each is refused in one sentence or accepted whole. `make fuzz` runs 10,000.

    python tests/fuzz/campaign.py --cases 10000
    python tests/fuzz/campaign.py --only scenes:1234    # one case again, with its traceback

A case is named by its subject and its seed. A process of its own runs a subject's cases, so that a crash is a finding.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path


HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / place) for place in ("data", "data/sources", "data/sources/own"))]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from consistent import Inconsistent  # noqa: E402
from damage import damage  # noqa: E402
from subjects import SUBJECTS, one_sentence  # noqa: E402

from usermirrorer.console import output  # noqa: E402
from usermirrorer.errors import StepFailed, UserError, told  # noqa: E402


SECONDS = 60
"""A case that takes longer hangs."""


def run_case(name: str, seed: int, base: Path, place: Path) -> tuple[str, str]:
    """What was damaged, and the finding: empty if it was refused in one sentence or accepted consistently."""
    subject, rng = SUBJECTS[name], random.Random(f"{name}:{seed}")
    shutil.copytree(base / name, place, symlinks=True)
    done = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        if candidates := subject.damaged(place):
            done.append(damage(rng, rng.choice(candidates)))
    return ", ".join(done), _finding(name, rng, place)


def _finding(name: str, rng: random.Random, place: Path) -> str:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), output(quiet=True):
        try:
            SUBJECTS[name].run(place, rng)
        except (UserError, StepFailed, OSError, RuntimeError) as error:
            try:
                known = told(error)
                if known is None or isinstance(error, OSError) and not error.strerror:
                    return traceback.format_exc()  # the edge would tell it, but without the file's name
                one_sentence(known)
            except Inconsistent as problem:
                return f"Inconsistent: {problem}"
        except Inconsistent as problem:
            return f"Inconsistent: {problem}"
        except KeyboardInterrupt:
            raise
        except BaseException:  # a panic of polars is no Exception
            return traceback.format_exc()
    return ""


def make_base(names: list[str], base: Path) -> None:
    """The valid inputs of some subjects."""
    for name in names:
        (base / name).mkdir(parents=True)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), output(quiet=True):
            SUBJECTS[name].make(base / name)


def shares(cases: int, names: list[str]) -> dict[str, int]:
    """Cases of each subject."""
    total = sum(SUBJECTS[name].share for name in names)
    return {name: max(1, round(cases * SUBJECTS[name].share / total)) for name in names}


def run_cases(name: str, seeds: range, base: Path) -> Iterator[tuple[int, str, str]]:
    """Seed, damage and finding of every case, in this process."""
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="case-") as place:
            yield seed, *run_case(name, seed, base, Path(place) / "case")


def _child(name: str, first: int, last: int, base: Path) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for seed, done, finding in _announced(name, range(first, last), base):
        print(json.dumps([seed, done, finding]), flush=True)


def _announced(name: str, seeds: range, base: Path) -> Iterator[tuple[int, str, str]]:
    for seed in seeds:
        signal.alarm(SECONDS)
        print(json.dumps([seed]), flush=True)
        yield from run_cases(name, range(seed, seed + 1), base)


def campaign(cases: int, names: list[str], seed: int = 0) -> int:
    """Run all cases; print the findings and a line per subject. Returns the number of findings."""
    findings: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as base:
        wanted = shares(cases, names)
        for name, count in wanted.items():
            began, first = time.monotonic(), seed
            make_base([name], Path(base))
            while first < seed + count:
                reached = first
                command = [sys.executable, __file__, "--child", name, str(first), str(seed + count), base]
                with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
                    assert child.stdout is not None
                    for line in filter(lambda line: line.startswith("["), child.stdout):
                        number, *result = json.loads(line)
                        first = number + 1
                        if result and result[1]:
                            findings[name] += 1
                            print(f"{name}:{number} ({result[0]})\n{result[1].rstrip()}\n", flush=True)
                if first == reached:
                    raise SystemExit(f"{name}: no case could be run; python {' '.join(command[1:])} says why")
                if child.returncode:
                    findings[name] += 1
                    print(f"{name}:{first - 1}: the process ended with {child.returncode}\n", flush=True)
            shutil.rmtree(Path(base) / name)
            print(f"{name}: {count} cases, {findings[name]} findings, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{sum(wanted.values()):,} cases, {findings.total():,} findings")
    return findings.total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="SUBJECT, or SUBJECT:SEED for one case")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        name, first, last, base = given.child
        return _child(name, int(first), int(last), Path(base))
    name, _, seed = (given.only or "").partition(":")
    if not seed:
        sys.exit(min(campaign(given.cases, [name] if name else list(SUBJECTS), given.seed), 1))
    with tempfile.TemporaryDirectory() as base:
        make_base([name], Path(base))
        for number, done, finding in run_cases(name, range(int(seed), int(seed) + 1), Path(base)):
            print(f"{name}:{number} ({done})\n{finding or 'as it should be'}")


if __name__ == "__main__":
    main()
