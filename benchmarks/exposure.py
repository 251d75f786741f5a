"""What each exposure mode gives away, and what knowing the user is worth, on real and on generated logs.

    python benchmarks/exposure.py --ml-100k DIR --lastfm DIR

Prints one Markdown table: arg-max accuracy on test scenes of five options (chance 0.200) with 95 % intervals. Every
cell comes from `scenes`: up to 12,000 train scenes of 2 to 12 options, then all test scenes. "Most popular" is how
often the choice is the option with the most interactions in the whole log.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
from generated_domains import write_news, write_reviews, write_shop

from usermirrorer.data.artefacts.store import finished_content


MODES = ("matched", "hard", "published")
BASELINES = (
    "popularity", "content", "item-knn", "recent item-knn", "gf-cf", "recent gf-cf", "friends", "reference"
)  # fmt: skip


def usermirrorer(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "usermirrorer", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")


def measured(work: Path, domain: str, mode: str, train: int, test: int) -> dict[str, Any]:
    """The content of the manifest of the test scenes."""
    for step in ("scenes", "features", "baselines"):
        subprocess.run(["rm", "-rf", str(work / step / domain)], check=True)
    for split, num in (("train", train), ("test", test)):
        usermirrorer("scenes", domain, "--work", str(work), "--split", split, "--num", str(num), "--exposure", mode)
    return finished_content(work / "scenes" / domain / "test", "scenes")


def most_popular(work: Path, domain: str) -> float:
    """Share of test scenes whose choice has the most interactions in the whole log; ties are shared."""
    log = pl.read_parquet(work / "tables" / domain / "interactions.parquet", columns=["item_id"])
    counts = dict(log["item_id"].value_counts().iter_rows())
    scenes = pl.read_parquet(work / "scenes" / domain / "test" / "*.parquet", columns=["impression_list", "item_pos"])
    hits = 0.0
    for options, choice in scenes.iter_rows():
        of = [counts[item] for item in options]
        hits += (of[choice] == max(of)) / of.count(max(of))
    return hits / len(scenes)


def cell(estimate: dict[str, Any] | None, exact: bool = False) -> str:
    if estimate is None:
        return "–"
    interval = "" if estimate["low"] is None else f" [{estimate['low']:.3f}, {estimate['high']:.3f}]"
    return f"{estimate['value']:.3f} exactly" if exact else f"{estimate['value']:.3f}{interval}"


def row(log: str, mode: str, content: dict[str, Any], popular: float) -> str:
    probe, baselines, counts = content["probe"], content["baselines"], content["counts"]
    used = content["rows"] / min(counts["qualifying"], content["asked"])
    cells = [cell(probe["accuracy"], probe["exact"]), cell(probe.get("time_aware")), f"{popular:.3f}"]
    cells += [cell(baselines[name]["argmax_accuracy"]) if name in baselines else "–" for name in BASELINES]
    return f"| {log}, {mode} | {content['rows']:,} ({used:.1%}) | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ml-100k", type=Path, help="directory of u.data, u.item, u.user")
    parser.add_argument("--lastfm", type=Path, help="directory of HetRec's Last.fm files")
    parser.add_argument("--train", type=int, default=12_000)
    parser.add_argument("--test", type=int, default=20_000)
    parser.add_argument("--mode", nargs="*", default=MODES)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; ", end="")
    print(", ".join(f"{name} {version(name)}" for name in ("numpy", "lightgbm", "scikit-learn")), end="\n\n")
    print(f"| log, mode | test scenes | probe | time-aware trees | most popular | {' | '.join(BASELINES)} |")
    print("|---" * (len(BASELINES) + 5) + "|")
    with tempfile.TemporaryDirectory() as temporary:
        raw, work = Path(temporary) / "raw", Path(temporary) / "work"
        sources = {"ml-100k": arguments.ml_100k, "lastfm": arguments.lastfm}
        given = [(name, name, directory) for name, directory in sources.items() if directory]
        given += [("shop", write_shop(raw, listed=False), raw), ("shop-listed", write_shop(raw, listed=True), raw)]
        given += [("reviews", write_reviews(raw), raw), ("news", write_news(raw), raw)]
        for name, source, directory in given:
            usermirrorer("prepare", source, "--raw", str(directory), "--work", str(work))
            for mode in arguments.mode:
                content = measured(work, name, mode, arguments.train, arguments.test)
                print(row(name, mode, content, most_popular(work, name)), flush=True)


if __name__ == "__main__":
    main()
