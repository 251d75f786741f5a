"""Files of requests: bad lines are listed and the rest is answered; a killed run ends in the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from usermirrorer import Simulator, StepFailed, UserError
from usermirrorer.data.artefacts.journal import Journal
from usermirrorer.simulate import files
from usermirrorer.simulate.files import errors_file, listed_errors, simulate_file


ITEMS = ["0001", "0002", "0003"]
GOOD = [{"user_id": f"u{number}", "items": ITEMS} for number in range(8)]
PERSON = {"profile": {"town": "Rom"}, "history": [{"item_id": "0007", "rating": 5}], "items": ITEMS}


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PORTION", 3)


def written(path: Path, *lines: Any) -> Path:
    texts = [line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines]
    path.write_bytes(b"\n".join(texts) + b"\n")
    return path


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def test_answers_are_those_of_python(user: Simulator, tmp_path: Path) -> None:
    requests = written(tmp_path / "r.jsonl", *GOOD, PERSON)
    assert simulate_file(user, requests, tmp_path / "deep/o.jsonl", "t") == {"answered": 9, "bad": 0}
    answers = rows(tmp_path / "deep/o.jsonl")
    assert not errors_file(tmp_path / "deep/o.jsonl").exists()
    for number, (answer, choice) in enumerate(zip(answers, user.choose_all([*GOOD, PERSON]), strict=True), start=1):
        assert answer["line"] == number and answer["items"] == ITEMS == choice.items
        assert answer["probs"] == pytest.approx(choice.probs.tolist(), abs=1e-6)
        assert (answer["choice"], answer["sampled"]) == (choice.item, choice.sampled)
        assert answer["rationales"] == [process.text for process in choice.rationales]
    assert [answer["user_id"] for answer in answers] == [*(f"u{number}" for number in range(8)), ""]


BAD = [
    (b"{", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b'{"profile": "\\ud800", "items": ["0001", "0002"]}', "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b"7", "7 is not a request"),
    ({"user_id": "u1"}, "there are no items"),
    ({"user_id": "u999", "items": ITEMS}, "user: 'u999' is not in the tables"),
    ({"user_id": "u1", "items": ["0001"]}, "items: there are 1"),
    ({"user_id": "u1", "items": ITEMS, "timestamp": 10**30}, "is not a time"),
    ({"user_id": "u1", "items": "0001"}, "items: '0001' is not a list"),
    ({"history": [{"item_id": "0007", "rating": "x"}], "items": ITEMS}, "history[0] rating: 'x' is not a number"),
    ({"profile": [1], "items": ITEMS}, "profile: [1] is neither text nor a dictionary"),
]


def test_a_bad_line_costs_only_itself(user: Simulator, tmp_path: Path) -> None:
    lines: list[Any] = [b"\xef\xbb\xbf" + json.dumps(GOOD[0]).encode(), b"", b"  "]
    lines += [line for pair in zip(GOOD[1:], BAD, strict=False) for line in (pair[0], pair[1][0])]
    lines += [line for line, _ in BAD[7:]]
    lines.append({"user_id": "u7", "items": ITEMS, "timestamp": "2024-01-10"})
    requests, out = written(tmp_path / "r.jsonl", *lines), tmp_path / "o.jsonl"
    assert simulate_file(user, requests, out, "t") == {"answered": 9, "bad": len(BAD)}
    errors = rows(errors_file(out))
    for error, (line, message) in zip(errors, BAD, strict=True):
        assert message in error["error"]
        assert requests.read_bytes().split(b"\n")[error["line"] - 1].decode("utf-8", "replace") == error["request"]
        assert line in (error["request"].encode(), json.loads(error["request"]) if isinstance(line, dict) else line)
    answered = {row["line"] for row in rows(out)}
    assert 1 in answered and answered.isdisjoint(error["line"] for error in errors)
    assert listed_errors(out, requests, 2)[0].startswith(f"{requests}:5: not JSON")
    assert len(listed_errors(out, requests, 2)) == 2


def test_a_list_that_is_too_long_for_the_model_is_listed(user: Simulator, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(type(user.model), "max_length", 400, raising=False)
    long = {"user_id": "u1", "items": [{"item_id": "x", "title": "word " * 300}, "0001"]}
    out = tmp_path / "o.jsonl"
    assert simulate_file(user, written(tmp_path / "r.jsonl", GOOD[0], long), out, "t") == {"answered": 1, "bad": 1}
    assert "even without history" in rows(errors_file(out))[0]["error"]


class Killed(BaseException):
    pass


def killed_at(patch: pytest.MonkeyPatch, where: Any, name: str, call: int) -> None:
    """Whatever `name` does, the process ends there at its call with this number, from 0."""
    real, calls = getattr(where, name), []

    def killed(*args: Any, **kwargs: Any) -> Any:
        if len(calls) == call:
            raise Killed
        calls.append(args)
        return real(*args, **kwargs)

    patch.setattr(where, name, killed)


MIXED = [*GOOD[:4], b"{", *GOOD[4:], PERSON]


@pytest.mark.parametrize(
    ("where", "name", "call"),
    [
        *((files, "write_bytes", call) for call in range(6)),
        *((Journal, "put", call) for call in (0, 1, 5, 9)),
        *((Journal, "_rewrite", call) for call in range(4)),
        (files.shutil, "rmtree", 1),
    ],
)
def test_a_killed_run_ends_in_the_same_bytes(user: Simulator, tmp_path: Path, where, name: str, call: int) -> None:
    requests = written(tmp_path / "r.jsonl", *MIXED)
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    simulate_file(user, requests, whole, "t")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, where, name, call)
        simulate_file(user, requests, broken, "t")
    assert simulate_file(user, requests, broken, "t") == {"answered": 9, "bad": 1}
    assert broken.read_bytes() == whole.read_bytes()
    assert errors_file(broken).read_bytes() == errors_file(whole).read_bytes()
    assert not list(tmp_path.glob(".*.answers"))


def test_answers_are_kept_one_by_one(user: Simulator, tmp_path: Path, monkeypatch) -> None:
    requests, out = written(tmp_path / "r.jsonl", *MIXED), tmp_path / "o.jsonl"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, Journal, "put", 5)
        simulate_file(user, requests, out, "t")
    user.model.batches.clear()
    simulate_file(user, requests, out, "t")
    assert sum(user.model.batches) in (5, 4)  # five were kept, the line that is not JSON perhaps among them


def test_a_run_is_not_continued_with_another_engine(user: Simulator, tmp_path: Path, monkeypatch) -> None:
    requests, out = written(tmp_path / "r.jsonl", *GOOD), tmp_path / "o.jsonl"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, Journal, "put", 5)
        simulate_file(user, requests, out, "t")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "made_with", lambda model, prompt: {"libraries": {"vllm": "9"}})
        with pytest.raises(UserError, match=r"was begun with something else .*9.*; finish it with that, or delete it"):
            simulate_file(user, requests, out, "t")
    assert simulate_file(user, requests, out, "t") == {"answered": 8, "bad": 0}


def test_a_finished_run_asks_nothing_again(user: Simulator, tmp_path: Path) -> None:
    requests, out = written(tmp_path / "r.jsonl", *GOOD, b"{"), tmp_path / "o.jsonl"
    counts = simulate_file(user, requests, out, "t")
    before = out.read_bytes()
    user.model.batches.clear()
    assert simulate_file(user, requests, out, "t") == counts
    assert user.model.batches == [] and out.read_bytes() == before


def test_other_settings_are_refused_until_the_file_is_gone(fake, shop: Path, user: Simulator, tmp_path: Path) -> None:
    requests, out = written(tmp_path / "r.jsonl", *GOOD), tmp_path / "o.jsonl"
    simulate_file(user, requests, out, "t")
    other = Simulator.open(fake, shop, "shop", prompt="plain", samples=2)
    with pytest.raises(UserError, match=r"made with other settings \(samples: 3 → 2\); delete it or give another"):
        simulate_file(other, requests, out, "t")
    out.unlink()
    assert simulate_file(other, requests, out, "t")["answered"] == 8
    assert len(rows(out)) == 8 and len(rows(out)[0]["rationales"]) == 2


def test_a_file_that_was_edited_is_not_continued(user: Simulator, tmp_path: Path) -> None:
    requests, out = written(tmp_path / "r.jsonl", *GOOD, b"{"), tmp_path / "o.jsonl"
    simulate_file(user, requests, out, "t")
    errors_file(out).unlink()
    with pytest.raises(UserError, match=r"o.errors.jsonl has changed since .*; delete .*o.jsonl to start over"):
        simulate_file(user, requests, out, "t")
    out.unlink()
    assert simulate_file(user, requests, out, "t") == {"answered": 8, "bad": 1}
    out.write_bytes(out.read_bytes()[:100])
    with pytest.raises(UserError, match="has changed since"):
        simulate_file(user, requests, out, "t")


def test_a_file_of_somebody_else_is_left_alone(user: Simulator, tmp_path: Path) -> None:
    (tmp_path / "o.jsonl").write_text("mine")
    with pytest.raises(UserError, match="not from this command"):
        simulate_file(user, written(tmp_path / "r.jsonl", *GOOD), tmp_path / "o.jsonl", "t")
    assert (tmp_path / "o.jsonl").read_text() == "mine"


def test_if_nothing_is_answered_the_step_has_failed(user: Simulator, tmp_path: Path) -> None:
    requests, out = written(tmp_path / "r.jsonl", b"{", {"user_id": "u1"}), tmp_path / "o.jsonl"
    with pytest.raises(StepFailed, match="none of its 2 requests could be answered; the first, in line 1: not JSON"):
        simulate_file(user, requests, out, "t")
    written(requests, *GOOD)  # mended, it is answered at once
    assert simulate_file(user, requests, out, "t") == {"answered": 8, "bad": 0}
    assert not errors_file(out).exists()


def test_a_file_without_requests_is_refused(user: Simulator, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no request in this file"):
        simulate_file(user, written(tmp_path / "r.jsonl", b"", b" "), tmp_path / "o.jsonl", "t")
    with pytest.raises(UserError, match="no such file"):
        simulate_file(user, tmp_path / "none.jsonl", tmp_path / "o.jsonl", "t")
