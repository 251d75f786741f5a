"""A file of requests in, a file of answers out: in its order, resumed after a kill, whatever a line holds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from usermirrorer.data.artefacts.journal import Journal, Row
from usermirrorer.data.artefacts.store import Progress, changes, file_digest, locked, unseen, write_bytes
from usermirrorer.errors import StepFailed, UserError, shorten
from usermirrorer.lines import read_lines
from usermirrorer.llm.identity import made_with
from usermirrorer.llm.paths import model_digest
from usermirrorer.llm.requests import Usage
from usermirrorer.records import read_record, sealed
from usermirrorer.simulate.choice import Choice
from usermirrorer.simulate.requests import Offer
from usermirrorer.simulate.simulator import Simulator


READ, PORTION = 256, 1024
"""Requests that are read at a time, and answers that are added to the file at a time."""


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
    could be answered, or if the model failed for some; the others are kept.
    """
    if not requests.is_file():
        raise UserError(f"{requests}: no such file; give JSONL with lines {{user_id, items[, timestamp]}}")
    total = sum(1 for _ in _lines(requests))
    if not total:
        raise UserError(f"{requests}: there is no request in this file; write lines {{user_id, items[, timestamp]}}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.with_name(f".{out.name}.lock"), out):
        written = _Written(out, _recipe(user, requests, tables), total)
        if not written.complete:
            written.begin(made_with(user.model, user.prompt))
            _answer(user, requests, written, total, progress)
        shutil.rmtree(written.answers, ignore_errors=True)
        if not written.done["bad"]:
            errors_file(out).unlink(missing_ok=True)
        if not written.done["answered"]:
            first = json.loads(errors_file(out).read_text(encoding="utf-8").splitlines()[0])
            out.unlink()
            raise StepFailed(
                f"{requests}: none of its {total:,} requests could be answered; the first, in line {first['line']}: "
                f"{first['error']}"
            )
        return {name: written.done[name] for name in ("answered", "bad")}


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


class _Written:
    """The file of answers, the file of errors, and what `.NAME.state` says of them."""

    def __init__(self, out: Path, recipe: Mapping[str, Any], total: int) -> None:
        self.out, self.total = out, total
        self.state = out.with_name(f".{out.name}.state")
        self.answers = out.with_name(f".{out.name}.answers")
        """Where answers wait for those before them"""
        self.digests = {path: hashlib.blake2b(digest_size=8) for path in (out, errors_file(out))}
        remedy = f"delete {out} to start over"
        if self.state.is_file() and out.is_file():
            self.done = read_record(self.state, remedy)
            if not {"recipe", "made_with", "portions", "answered", "bad", "written"} <= self.done.keys():
                raise UserError(f"{self.state} is not the state of a run; {remedy}")
            if self.done["recipe"] != recipe:
                changed = changes(self.done["recipe"], recipe)
                raise UserError(f"{out} was made with other settings ({changed}); delete it or give another --out")
            self._cut_off(remedy)
            return
        if os.path.lexists(out):
            raise UserError(f"{out} is there already, and not from this command; delete it or give another --out")
        self.done = {"recipe": recipe, "made_with": None, "portions": 0, "answered": 0, "bad": 0, "written": {}}
        write_bytes(self.state, sealed(self.done))
        shutil.rmtree(self.answers, ignore_errors=True)
        errors_file(out).unlink(missing_ok=True)
        out.touch()

    @property
    def complete(self) -> bool:
        return bool(self.done["answered"] + self.done["bad"] == self.total)

    def begin(self, source: Mapping[str, Any]) -> None:
        """Note with what the answers are made. Raises UserError if those that are there were made with another."""
        before, now = self.done["made_with"], json.loads(json.dumps(source))
        if before not in (None, now):
            raise UserError(
                f"{self.out} was begun with something else ({changes(before, now)}); finish it with that, or delete it"
            )
        self.done["made_with"] = now
        write_bytes(self.state, sealed(self.done))
        self.answers.mkdir(exist_ok=True)

    def add(self, portion: int, rows: Sequence[Row]) -> None:
        """Add the next rows, each to its file."""
        listed = [row for row in rows if "error" in row]
        given = [row for row in rows if "error" not in row]
        for path, some in ((self.out, given), (errors_file(self.out), listed)):
            content = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in some)
            with open(path, "ab") as file:
                file.write(content)
                self.digests[path].update(content)
                self.done["written"][path.name] = (file.tell(), self.digests[path].hexdigest())
        self.done["portions"] = portion + 1
        self.done["answered"] += len(given)
        self.done["bad"] += len(listed)
        write_bytes(self.state, sealed(self.done))

    def _cut_off(self, remedy: str) -> None:
        """Cut off what a kill left half written. Raises UserError if the rest has changed."""
        for path, digest in self.digests.items():
            size, expected = self.done["written"].get(path.name, (0, digest.hexdigest()))
            if path.is_file():
                with open(path, "rb") as file:
                    digest.update(file.read(size))
            if digest.hexdigest() != expected:
                raise UserError(f"{path} has changed since this command wrote it; {remedy}")
            if path.is_file() and path.stat().st_size > size:
                os.truncate(path, size)


def _answer(user: Simulator, requests: Path, written: _Written, total: int, progress: Progress) -> None:
    """Answer what is not answered yet; an answer is kept from the moment that it is there."""
    journal = Journal(written.answers, PORTION, written.add)
    journal.resume(written.done["portions"])
    asked: dict[int, tuple[int, bytes, Offer | UserError]] = {}

    def offers() -> Iterator[tuple[int, Offer | UserError]]:
        lines = enumerate(_lines(requests))
        while portion := list(islice(lines, READ)):
            missing = [(unit, line) for unit, line in portion if unit not in journal]
            found = _offers(user, [line for _, (_, line) in missing])
            for (unit, (number, line)), offer in zip(missing, found, strict=True):
                asked[unit] = (number, line, offer)
                yield unit, offer

    def keep(unit: int, answer: Choice | UserError, usage: Usage) -> None:
        number, line, offer = asked.pop(unit)
        if isinstance(offer, Offer) and isinstance(answer, Choice):
            row = _row(number, offer, answer)
        else:
            row = {"line": number, "error": str(answer), "request": line.decode("utf-8", "replace")}
        journal.put(unit, [row])
        progress(journal.units, total, usage.prompt_tokens, usage.completion_tokens)

    try:
        user.answer_each(offers(), keep)
        journal.finish()
    finally:
        journal.close()


def _offers(user: Simulator, lines: Sequence[bytes]) -> list[Offer | UserError]:
    """What lines ask, with an error in place of each that is wrong."""
    parsed = [_parsed(line) for line in lines]
    offered = iter(user.offers([row for row in parsed if not isinstance(row, UserError)]))
    return [row if isinstance(row, UserError) else next(offered) for row in parsed]


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
