"""`push` of a model: exactly its own files arrive at the Hub, and what stays here is said."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from loopback_hub import Hub, loopback_hub

from usermirrorer.cli import main
from usermirrorer.data.artefacts import hub as sending
from usermirrorer.train.records.publish import split_files


TOKEN = "hf_" + "tokenofthetests" * 2
WHOLE = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
WHOLE |= {"chat_template.jinja", "README.md", "usermirrorer.json"}
STAYS = {
    "checkpoint-10": "a checkpoint",
    "training_args.bin": "a pickle",
    "optimizer.pt": "the optimizer's state",
    "rng_state_0.pth": "the optimizer's state",
    "global_step10": "the optimizer's state",
    "wandb_run_id": "tracking",
    "trainer_state.json": "a log",
    "train_results.json": "a log",
    "watched.jsonl": "a log",
    ".cache": "hidden",
    "pytorch_model.bin": "a pickle",
    "notes.txt": "no part of a model",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with loopback_hub() as hub:
        yield hub


@pytest.fixture
def push(hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """`push` to the hub of the test in this process, expected to end with `status`; what it printed."""
    for name, value in {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True, "ENDPOINT": hub.url}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(sending, "WAIT_SECONDS", 0.001)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: object, status: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["usermirrorer", "push", *map(str, args)])
        ended = 0
        try:
            main()
        except SystemExit as end:
            ended = int(end.code or 0)
        out, err = capsys.readouterr()
        assert ended == status, out + err
        assert TOKEN not in out + err and "Traceback" not in err
        return err if status else out

    return run


@pytest.fixture
def trained(tiny: Path, tmp_path: Path) -> Path:
    """A whole model as a training leaves it, in the midst of what else a training leaves."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = tmp_path / "sft"
    AutoModelForCausalLM.from_pretrained(tiny).save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(path)
    (path / "generation_config.json").write_text("{}")
    (path / "README.md").write_text("---\ntags:\n- usermirrorer\n---\n\n# sft\n")
    (path / "usermirrorer.json").write_text(json.dumps({"prompt": "plain", "bases": ["Qwen/Qwen2.5-0.5B"]}))
    for name in STAYS:
        if "." not in name[1:] and name != "wandb_run_id":
            (path / name).mkdir()
            (path / name / "inside").write_bytes(b"secret work" * 100)
        else:
            (path / name).write_bytes(b"secret work" * 100)
    return path


def test_the_files_of_a_model_arrive_and_no_others(trained: Path, hub: Hub, push: Callable) -> None:
    said = push(trained, "me/sft", "--private")
    assert set(hub.files) == WHOLE
    for name, content in hub.files.items():
        assert content == (trained / name).read_bytes(), name
    assert set(hub.objects.values()) == {(trained / "model.safetensors").read_bytes()}
    assert hub.created == {"name": "sft", "organization": "me", "type": "model", "visibility": "private"}
    assert hub.commits == 1 and hub.tokens == {f"Bearer {TOKEN}"}
    assert not any(b"secret work" in body for body in hub.bodies)
    for name, reason in STAYS.items():
        assert f"withheld: {name} (1.1 kB), {reason}" in said, name
    assert said.splitlines()[-1] == f"push: {hub.url}/me/sft"


def test_a_dry_run_shows_all_and_asks_nobody(trained: Path, hub: Hub, push: Callable) -> None:
    said = push(trained, "me/sft", "--dry-run")
    for name in WHOLE:
        assert name in said
    assert f"withheld: {next(iter(STAYS))}" in said and "(dry run)" in said.splitlines()[-1]
    facts = json.loads(push(trained, "me/sft", "--dry-run", "--json"))
    assert facts["url"] is None and set(facts["withheld"]) == set(STAYS)
    assert facts["files"] == {name: (trained / name).stat().st_size for name in facts["files"]}
    assert set(facts["files"]) == WHOLE and hub.calls == []


def test_another_kind_of_model_takes_the_place_of_an_earlier_one(trained: Path, hub: Hub, push: Callable) -> None:
    hub.files = dict.fromkeys(("adapter_config.json", "adapter_model.safetensors", ".gitattributes", "plot.png"), b"")
    push(trained, "me/sft")
    assert set(hub.files) == {*WHOLE, ".gitattributes", "plot.png"}


def test_a_dropped_connection_is_tried_again(trained: Path, hub: Hub, push: Callable) -> None:
    hub.drop, hub.drop_at = 2, "/commit/"
    said = push(trained, "me/sft")
    assert said.count("attempt ") == 2 and "attempt 3 of 4" in said
    assert set(hub.files) == WHOLE and hub.commits == 1


def test_a_connection_that_never_holds_is_given_up(trained: Path, hub: Hub, push: Callable) -> None:
    hub.drop, hub.drop_at = 1000, "/repos/create"
    error = push(trained, "me/sft", status=1)
    [sentence] = [line for line in error.splitlines() if line.startswith("usermirrorer: ")]
    assert f"no connection to {hub.url} in 4 attempts" in sentence and "check the network" in sentence
    assert len(hub.calls) == sending.ATTEMPTS and hub.files == {}


@pytest.mark.parametrize(("status", "words"), [(401, "knows no such token"), (403, "may not write to me")])
def test_a_refused_token_is_one_sentence_at_once(
    trained: Path, hub: Hub, push: Callable, status: int, words: str
) -> None:
    hub.refuse = status
    error = push(trained, "me/sft", status=1)
    assert error.count("\n") == 1 and words in error
    assert len([call for call in hub.calls if "/repos/create" in call]) == 1 and hub.files == {}


def test_without_a_network_there_is_one_sentence(
    trained: Path, push: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    error = push(trained, "me/sft", status=1)
    assert error.count("\n") == 1 and "no connection to http://127.0.0.1:9" in error
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in push(trained, "me/sft", status=1)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("README.md", "hf_" + "a1B2" * 9, "a token (hf_a1…)"),
        ("usermirrorer.json", '{"bases": [], "env": "correct-horse"}', "the value of MY_API_KEY"),
        ("config.json", '{"url": "https://me:hush@host/x"}', "the password of a URL"),
    ],
)
def test_a_secret_is_not_sent(
    trained: Path, hub: Hub, push: Callable, monkeypatch: pytest.MonkeyPatch, file: str, text: str, words: str
) -> None:
    monkeypatch.setenv("MY_API_KEY", "correct-horse")
    (trained / file).write_text(text)
    error = push(trained, "me/sft", status=2)
    assert words in error and file in error and "nothing was sent" in error and hub.calls == []
    assert "correct-horse" not in error and "a1B2a1B2" not in error and "hush" not in error


def test_wrong_use_is_one_sentence(trained: Path, tiny: Path, hub: Hub, push: Callable, tmp_path: Path) -> None:
    assert "OWNER/NAME" in push(trained, "sft", status=2)
    assert "push it by itself" in push(trained, tiny, "me/sft", status=2)
    assert "--include-text is about data sets" in push(trained, "me/sft", "--include-text", status=2)
    assert "belongs on the card of a model" in push(tmp_path, "me/x", "--evaluation", tmp_path, status=2)
    (trained / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    assert "lacks model-00001-of-00002.safetensors" in push(trained, "me/sft", status=2)
    (trained / "model.safetensors.index.json").unlink()
    (trained / "model.safetensors").unlink()
    assert "holds no weights" in push(trained, "me/sft", status=2)
    assert hub.calls == []


def test_an_adapter_whose_base_nobody_has_is_pushed_with_a_warning(
    tiny: Path, hub: Hub, push: Callable, tmp_path: Path
) -> None:
    from adapters import write_adapter

    adapter = write_adapter(tmp_path / "adapter", tiny)
    (adapter / "README.md").unlink()
    said = push(adapter, "me/adapter")
    assert "WARNING: the base of this adapter is a directory of this machine" in said and "usermirrorer merge" in said
    assert "WARNING: there is no README.md" in said
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(hub.files)


def test_a_link_to_nothing_is_withheld(trained: Path) -> None:
    (trained / "LICENSE").symlink_to(trained / "nowhere")
    sent, withheld = split_files(trained)
    assert set(sent) == WHOLE and "LICENSE" in withheld and os.path.lexists(trained / "LICENSE")
