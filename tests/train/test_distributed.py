"""Several processes on the CPU, started as a user starts them: the losses of one, whatever shares out the work.

Under `accelerate launch` on a CPU, FSDP silently becomes DDP: it is not tested here.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from handmade_pairs import write_yaml
from safetensors.numpy import load_file

from usermirrorer.train.launching.launch import command, launch


ROOT = Path(__file__).parents[2]
LORA = {"use_peft": True, "lora_target_modules": ["q_proj", "v_proj"], "lora_r": 4}
TWO = ("--num_processes", "2", "--mixed_precision", "no", "--main_process_port", "0")

pytestmark = [
    pytest.mark.launch,
    pytest.mark.skipif(shutil.which("g++") is None, reason="NOT TESTED: DeepSpeed needs a C++ compiler (g++)"),
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="NOT TESTED: deepspeed is not installed"),
]


@pytest.fixture(scope="module")
def recipe(tiny: Path, pairs: Path) -> dict:
    """Four rows a step, over whatever processes there are."""
    return {
        "model_name_or_path": str(tiny),
        "dataset_name": str(pairs),
        "max_length": 512,
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "global_batch_size": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 2,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "seed": 3,
    }


@pytest.fixture(scope="module")
def trained(recipe: dict, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function (accelerate configuration, method, further settings) that gives a trained model, made once."""
    made: dict[str, Path] = {}

    def train(accelerate: str, method: str = "sft", **settings: object) -> Path:
        key = json.dumps([accelerate, method, settings], default=str)
        if key not in made:
            out = tmp_path_factory.mktemp(f"{accelerate}-{method}") / "model"
            path = write_yaml(out.parent / "recipe.yaml", {**recipe, **settings, "output_dir": str(out)})
            flags = () if accelerate == "cpu" else TWO
            started, _ = command(method, path, accelerate, flags)
            done = subprocess.run(started, cwd=ROOT, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
            shared = "1 accumulated x 2 processes" if flags else "2 accumulated x 1 process"
            # Only one process prints.
            assert done.stderr.count(f"2 per device x {shared} = 4 rows per step; 6 steps of 3 per epoch") == 1
            made[key] = out
        return made[key]

    return train


# The training with a pause before every step, so that a kill finds it at work.
SLOW = """
import sys, time
from transformers import Trainer
from usermirrorer.train import config, sft
step = Trainer.training_step
def slow(*args, **options):
    time.sleep(1)
    return step(*args, **options)
Trainer.training_step = slow
sys.exit(config.exit_status("sft", sft.main))
"""


def run_of(model: Path) -> dict:
    return json.loads((model / "usermirrorer.json").read_text())["run"]


def losses(model: Path) -> list[float]:
    history = json.loads((model / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def weights(model: Path, name: str = "model.safetensors") -> np.ndarray:
    return np.concatenate([weight.ravel() for _, weight in sorted(load_file(model / name).items())])


@pytest.mark.parametrize(
    ("accelerate", "wrapped"),
    [("ddp", "DistributedDataParallel"), ("zero2", "DeepSpeedEngine"), ("zero3", "DeepSpeedEngine")],
)
def test_two_processes_take_the_steps_of_one(trained: Callable[..., Path], accelerate: str, wrapped: str) -> None:
    one, two = trained("cpu"), trained(accelerate)
    for model, processes, kind in ((one, 1, "Qwen2ForCausalLM"), (two, 2, wrapped)):
        run = run_of(model)
        assert (run["world_size"], run["distributed"]) == (processes, kind)
        assert (run["global_batch"], run["steps"]) == (4, 6)
    assert len(losses(one)) == 6
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    assert abs(weights(two) - weights(one)).max() < 1e-5
    # ZeRO-3 alone spreads the weights.
    spread = list(two.glob("checkpoint-6/global_step6/zero_pp_rank_*_model_states.pt"))
    assert len(spread) == (2 if accelerate == "zero3" else 0)


def test_zero3_killed_while_it_saves_ends_in_the_same_weights(
    trained: Callable[..., Path], recipe: dict, tmp_path: Path
) -> None:
    whole, out = trained("zero3"), tmp_path / "model"
    path = write_yaml(tmp_path / "recipe.yaml", {**recipe, "output_dir": str(out)})
    (tmp_path / "slow.py").write_text(SLOW)
    started = ["slow" if part == "usermirrorer.train.sft" else part for part in command("sft", path, "zero3", TWO)[0]]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    with open(tmp_path / "log", "wb") as log:
        launcher = subprocess.Popen(started, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 240
        while not (out / "checkpoint-4").exists() and launcher.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
    finally:
        running = [*psutil.Process(launcher.pid).children(recursive=True), psutil.Process(launcher.pid)]
        for process in running:
            process.kill()
    _, left = psutil.wait_procs(running, timeout=30)
    assert len(running) >= 3 and not left, (tmp_path / "log").read_text()[-3000:]
    assert not (out / "model.safetensors").exists()

    done = subprocess.run(command("sft", path, "zero3", TWO)[0], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert "resuming from " in done.stderr
    assert losses(out) == losses(whole)
    assert weights(out).tobytes() == weights(whole).tobytes()


@pytest.mark.parametrize("accelerate", ["ddp", "zero2", "zero3"])
def test_an_adapter_is_saved_whole_and_loads(trained: Callable[..., Path], tiny: Path, accelerate: str) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out = trained(accelerate, **LORA)
    assert (run_of(out)["world_size"], run_of(out)["steps"]) == (2, 6)
    adapter = load_file(out / "adapter_model.safetensors")
    # Two layers, two modules, A and B of rank 4; none is a stub, and training moved every B from zero.
    assert len(adapter) == 8
    assert all(weight.any() and 4 in weight.shape for weight in adapter.values())
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), out).state_dict()
    for name, weight in adapter.items():
        assert np.array_equal(loaded[name.replace(".weight", ".default.weight")].numpy(), weight), name
    assert losses(out) == pytest.approx(losses(trained("ddp", **LORA)), rel=1e-5)


def test_two_machines_train_as_one(trained: Callable[..., Path], recipe: dict, tmp_path: Path) -> None:
    """examples/train.slurm, with `srun` and `scontrol` that take this machine for two."""
    out = tmp_path / "model"
    path = write_yaml(tmp_path / "recipe.yaml", {**recipe, "output_dir": str(out)})
    programs = {
        "scontrol": "echo 127.0.0.1; echo elsewhere",
        "srun": 'shift; for node in 0 1; do SLURM_NODEID=$node "$@" & done; wait -n && wait -n',
        "usermirrorer": f'exec "{sys.executable}" -m usermirrorer "$@"',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "n",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
    }
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    script = ["bash", str(ROOT / "examples" / "train.slurm"), "sft", str(path), "ddp", "--mixed_precision", "no"]
    done = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert (run_of(out)["world_size"], run_of(out)["distributed"]) == (2, "DistributedDataParallel")
    assert losses(out) == pytest.approx(losses(trained("cpu")), rel=1e-5)


@pytest.mark.parametrize("further", [{}, LORA], ids=["full", "lora"])
def test_dpo_under_zero2_goes_on_from_sft(trained: Callable[..., Path], further: dict) -> None:
    sft = trained("zero2", **further)
    start = {"model_name_or_path": str(sft), "precompute_ref_log_probs": True, "use_peft": bool(further)}
    dpo = trained("zero2", "dpo", **start)
    assert run_of(dpo)["distributed"] == "DeepSpeedEngine"
    name = "adapter_model.safetensors" if further else "model.safetensors"
    assert (weights(dpo, name) != weights(sft, name)).any()
    assert losses(dpo)[0] == pytest.approx(0.6931, abs=1e-3)


def test_launch_is_accelerate_launch(settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`usermirrorer train` does what the script does, flags included, and returns its exit status."""
    monkeypatch.chdir(ROOT)
    recipe = write_yaml(tmp_path / "r.yaml", settings)
    assert launch("sft", recipe, ROOT / "accelerate_configs" / "cpu.yaml", ["--max_steps", "1"]) == 0
    record = json.loads((Path(settings["output_dir"]) / "usermirrorer.json").read_text())
    assert record["recipe"]["max_steps"] == 1 and record["run"]["steps"] == 1
