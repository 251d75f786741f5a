"""A file of requests in, a file of answers out: portion by portion, resumed after a kill, whatever a line holds."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from usermirrorer.data.artefacts.store import Progress, changes, file_digest, locked, unseen, write_bytes
from usermirrorer.errors import StepFailed, UserError, shorten
from usermirrorer.lines import read_lines
from usermirrorer.llm.paths import model_digest
from usermirrorer.records import read_record, sealed
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
        done, digests = _resumed(state, out, _recipe(user, requests, tables))
        lines = islice(_lines(requests), done["lines"], None)
        while portion := list(islice(lines, PORTION)):
            answers, errors = _answered(user, portion)
            for path, rows in ((out, answers), (errors_file(out), errors)):
                done["written"][path.name] = _append(path, rows, digests[path])
            done["lines"] += len(portion)
            done["answered"] += len(answers)
            done["bad"] += len(errors)
            write_bytes(state, sealed(done))
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
    return ((number, line.rstrip(b"\r\n")) for number, line in read_lines(path) if line.strip())


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


def _append(path: Path, rows: Sequence[Mapping[str, Any]], digest: hashlib.blake2b) -> tuple[int, str]:
    """Add rows to a file; how many bytes it then has, and their digest."""
    content = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    with open(path, "ab") as file:
        file.write(content)
        digest.update(content)
        return file.tell(), digest.hexdigest()


def _resumed(state: Path, out: Path, recipe: Mapping[str, Any]) -> tuple[dict[str, Any], dict[Path, hashlib.blake2b]]:
    """What is done so far, and digests of both files to go on with. What a kill left half written is cut off."""
    digests = {path: hashlib.blake2b(digest_size=8) for path in (out, errors_file(out))}
    remedy = f"delete {out} to start over"
    if state.is_file() and out.is_file():
        done = read_record(state, remedy)
        if not {"recipe", "lines", "answered", "bad", "written"} <= done.keys():
            raise UserError(f"{state} is not the state of a run; {remedy}")
        if done["recipe"] != recipe:
            changed = changes(done["recipe"], recipe)
            raise UserError(f"{out} was made with other settings ({changed}); delete it or give another --out")
        for path, digest in digests.items():
            size, expected = done["written"].get(path.name, (0, digest.hexdigest()))
            if path.is_file():
                with open(path, "rb") as file:
                    digest.update(file.read(size))
            if digest.hexdigest() != expected:
                raise UserError(f"{path} has changed since this command wrote it; {remedy}")
            if path.is_file() and path.stat().st_size > size:
                os.truncate(path, size)
        return done, digests
    if os.path.lexists(out):
        raise UserError(f"{out} is there already, and not from this command; delete it or give another --out")
    done = {"recipe": recipe, "lines": 0, "answered": 0, "bad": 0, "written": {}}
    write_bytes(state, sealed(done))
    errors_file(out).unlink(missing_ok=True)
    out.touch()
    return done, digests


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
