"""The command: what it prints of bad lines, how it ends, and that its options reach the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from usermirrorer.cli import app
from usermirrorer.errors import StepFailed, UserError


ITEMS = ["0001", "0002", "0003"]


@pytest.fixture
def simulate(fake, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the command on lines of requests; errors are raised as `main` gets them."""
    monkeypatch.setattr("usermirrorer.llm.load_model", lambda spec, **servers: fake)

    def run(lines: list, *options: str) -> Result:
        (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        place = ["--work", str(shop), "--requests", str(tmp_path / "r.jsonl"), "--out", str(tmp_path / "o.jsonl")]
        arguments = ["simulate", "--model", "fake", "--domain", "shop", "--prompt", "plain", *place, *options]
        done = CliRunner().invoke(app, arguments)
        if isinstance(done.exception, (UserError, StepFailed)):
            raise done.exception
        return done

    return run


def test_bad_lines_are_printed_and_the_rest_is_answered(simulate, tmp_path: Path) -> None:
    bad = [{"user_id": f"stranger {number}", "items": ITEMS} for number in range(12)]
    done = simulate([{"user_id": "u1", "items": ITEMS}, *bad, {"history": [{"item_id": "0007"}], "items": ITEMS}])
    assert done.exit_code == 0, done.output
    assert "2 choices in" in done.output and "WARNING: 12 requests could not be answered" in done.output
    said = " ".join(done.output.split())
    assert f"{tmp_path / 'r.jsonl'}:2: user: 'stranger 0' is not in the tables" in said
    assert said.count("is not in the tables") == 10 and str(tmp_path / "o.errors.jsonl") in said
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 2


def test_nothing_answered_is_a_failed_step(simulate) -> None:
    with pytest.raises(StepFailed, match="none of its 1 requests could be answered"):
        simulate([{"user_id": "stranger", "items": ITEMS}])


def test_its_options_are_those_of_python(simulate, fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, generate = [], fake.generate

    def watched(conversations, n, sampling, seeds):
        seen.append((n, sampling))
        return generate(conversations, n, sampling, seeds)

    monkeypatch.setattr(fake, "generate", watched)
    simulate(
        [{"user_id": "u1", "items": ITEMS}], "--samples", "2", "--temperature", "0.5", "--top-p", "0.8",
        "--max-tokens", "77",
    )  # fmt: skip
    [(n, sampling)] = seen
    assert (n, sampling.temperature, sampling.top_p, sampling.max_tokens) == (2, 0.5, 0.8, 77)
    with pytest.raises(UserError, match="calibration nowhere"):
        simulate([{"user_id": "u1", "items": ITEMS}], "--calibration", "nowhere")
