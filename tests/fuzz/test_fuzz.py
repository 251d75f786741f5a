"""A few of the cases that `make fuzz` runs by the thousand, some of them through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import make_base, run_cases
from subjects import SUBJECTS


CASES = 5
"""Of a subject whose share is 1."""


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_is_damaged_is_refused_in_a_sentence_or_accepted_whole(name: str, tmp_path: Path) -> None:
    make_base([name], tmp_path)
    findings = [
        f"{name}:{seed} ({damage}): {finding}"
        for seed, damage, finding in run_cases(name, range(round(CASES * SUBJECTS[name].share)), tmp_path)
        if finding
    ]
    assert not findings, "\n".join(findings)


@pytest.mark.launch
@pytest.mark.parametrize(
    ("file", "content", "command"),
    [
        (
            "scenes.jsonl",
            b'{"text": "\xff"}\n',
            "eval --model scripted:reader --prompt plain --scenes {} --out {}.out",
        ),
        ("domain.yaml", b"name: [" * 5000, "prepare {} --work {}.work"),
        ("part-00000.parquet", b"PAR1" + b"\0" * 40 + b"PAR1", "validate {}"),
        ("metrics.json", json.dumps({"scenes": 1}).encode(), "report {}/.."),
    ],
)
def test_a_command_says_one_sentence(file: str, content: bytes, command: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.write_bytes(content)
    words = command.replace("{}/..", str(tmp_path)).replace("{}", str(path)).split(" ")
    done = subprocess.run([sys.executable, "-m", "usermirrorer", *words], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("usermirrorer: ") and str(tmp_path) in line
