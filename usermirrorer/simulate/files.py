"""A file of requests in, a file of answers out: portion by portion, resumed after a kill, whatever a line holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from usermirrorer.data.artefacts.store import Progress, changes, file_digest, locked, unseen, write_bytes
from usermirrorer.errors import StepFailed, UserError, shorten
from usermirrorer.llm.paths import model_digest
from usermirrorer.simulate.choice import Choice
from usermirrorer.simulate.requests import Offer
from usermirrorer.simulate.simulator import Simulator


PORTION = 256
"""Requests answered at a time: the most work that a kill or a dead server can cost."""


def errors_file(out: Path) -> Path:
    """Where the requests without an answer are listed."""
    return out.with_name(f"{out.stem}.errors.jsonl")


def simulate_file(
    user: Simulator, requests: Path, out: Path, tables: str, progress: Progress = unseen
) -> dict[str, int]:
    """Answer the requests of a JSONL file, one JSON line each, in order; returns how many were `answered` and `bad`.

    A line that can't be answered is counted and listed in `errors_file`: its number, why, and the line. A killed run
    goes on where it stopped and ends with the same bytes; a finished one is left as it is. `tables` is the fingerprint
    of the log. Raises UserError if there is no request, or if `out` holds something else, StepFailed if no request
    could be answered.
    """
    if not requests.is_file():
        raise UserError(f"{requests}: no such file; give JSONL with lines {{user_id, items[, timestamp]}}")
    total = sum(1 for _ in _lines(requests))
    if not total:
        raise UserError(f"{requests}: there is no request in this file; write lines {{user_id, items[, timestamp]}}")
    out.parent.mkdir(parents=True, exist_ok=True)
    state = out.with_name(f".{out.name}.state")
    with locked(out.with_name(f".{out.name}.lock"), out):
        done = _resumed(state, out, _recipe(user, requests, tables))
        lines = islice(_lines(requests), done["lines"], None)
        while portion := list(islice(lines, PORTION)):
            answers, errors = _answered(user, portion)
            for name, rows in (("bytes", answers), ("error_bytes", errors)):
                with open(out if name == "bytes" else errors_file(out), "ab") as file:
                    file.write(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
                    done[name] = file.tell()
            done["lines"] += len(portion)
            done["answered"] += len(answers)
            done["bad"] += len(errors)
            write_bytes(state, json.dumps(done).encode())
            progress(done["lines"], total)
        if not done["bad"]:
            errors_file(out).unlink(missing_ok=True)
        if not done["answered"]:
            first = json.loads(errors_file(out).read_text(encoding="utf-8").splitlines()[0])
            out.unlink()
            raise StepFailed(
                f"{requests}: none of its {total:,} requests could be answered; the first, in line {first['line']}: "
                f"{first['error']}"
            )
        return {"answered": done["answered"], "bad": done["bad"]}


def listed_errors(out: Path, requests: Path, most: int) -> list[str]:
    """The first requests without an answer, as `FILE:LINE: why`."""
    with open(errors_file(out), encoding="utf-8") as file:
        rows = map(json.loads, islice(file, most))
        return [f"{requests}:{row['line']}: {row['error']}" for row in rows]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers from 1."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip(b"\r\n")


def _recipe(user: Simulator, requests: Path, tables: str) -> dict[str, Any]:
    """Everything that the answers depend on."""
    settings = {**asdict(user.settings), "prompt": user.prompt}
    settings["calibration"] = None if user.calibration is None else asdict(user.calibration)
    evidence = None if user.renderer is None else user.renderer.evidence
    settings["evidence"] = None if evidence is None else evidence.evidence.record
    return {
        "model": user.model.name, "model_digest": model_digest(user.model.name), "tables": tables,
        "requests": file_digest(requests), **settings,
    }  # fmt: skip


def _resumed(state: Path, out: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What is done so far. What a kill left half written is cut off."""
    if state.is_file() and out.is_file():
        done: dict[str, Any] = json.loads(state.read_text())
        if done["recipe"] != recipe:
            changed = changes(done["recipe"], recipe)
            raise UserError(f"{out} was made with other settings ({changed}); delete it or give another --out")
        for name, path in (("bytes", out), ("error_bytes", errors_file(out))):
            size = path.stat().st_size if path.is_file() else 0
            if size < done[name]:
                raise UserError(f"{path} has changed since this command wrote it; delete {out} to start over")
            if size > done[name]:
                os.truncate(path, done[name])
        return done
    if out.exists():
        raise UserError(f"{out} is there already, and not from this command; delete it or give another --out")
    done = {"recipe": recipe, "lines": 0, "answered": 0, "bad": 0, "bytes": 0, "error_bytes": 0}
    write_bytes(state, json.dumps(done).encode())
    errors_file(out).unlink(missing_ok=True)
    out.touch()
    return done


def _answered(user: Simulator, portion: list[tuple[int, bytes]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of answers and of errors for some lines."""
    parsed = [_parsed(line) for _, line in portion]
    offered = iter(user.offers([row for row in parsed if not isinstance(row, UserError)]))
    offers = [row if isinstance(row, UserError) else next(offered) for row in parsed]
    answers, errors = [], []
    for (number, line), offer, choice in zip(portion, offers, user.answer(offers), strict=True):
        if isinstance(offer, Offer) and isinstance(choice, Choice):
            answers.append(_row(number, offer, choice))
        else:
            errors.append({"line": number, "error": str(choice), "request": line.decode("utf-8", "replace")})
    return answers, errors


def _parsed(line: bytes) -> Any:
    try:
        row = json.loads(line.decode("utf-8-sig"))
        json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        return row
    except (ValueError, RecursionError) as error:
        return UserError(f'not JSON ({shorten(str(error))}); write {{"user_id": …, "items": […]}}')


def _row(number: int, offer: Offer, choice: Choice) -> dict[str, Any]:
    """An answer as a JSON line."""
    return {
        "line": number,
        "user_id": offer.user_id,
        "timestamp": offer.at,
        "items": choice.items,
        "choice": choice.item,
        "sampled": choice.sampled,
        "probs": [round(p, 6) for p in choice.probs.tolist()],
        "calibrated": None if choice.calibrated is None else [round(p, 6) for p in choice.calibrated.tolist()],
        "rationales": [process.text for process in choice.rationales],
        "unfinished": choice.unfinished,
        "shed": choice.shed,
    }
