"""Two processes under DeepSpeed ZeRO-2 on the CPU, started as a user starts them."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from handmade_pairs import write_yaml
from safetensors.numpy import load_file

from usermirrorer.train.launch import launch


ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.launch,
    pytest.mark.skipif(shutil.which("g++") is None, reason="NOT TESTED: DeepSpeed needs a C++ compiler (g++)"),
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="NOT TESTED: deepspeed is not installed"),
]


def run_two(method: str, path: Path, settings: dict) -> Path:
    """`accelerate launch` with our zero2.yaml. Never with --cpu: that silently drops DeepSpeed and one process."""
    recipe = write_yaml(path / f"{method}.yaml", settings)
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(ROOT / "accelerate_configs" / "zero2.yaml")]
    command += ["--num_processes", "2", "--mixed_precision", "no", "--main_process_port", "0"]
    command += ["-m", f"usermirrorer.train.{method}", "--config", str(recipe)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    # Only one process prints.
    assert done.stderr.count("2 per device x 1 accumulated x 2 processes = 4 rows per step") == 1, done.stderr[-3000:]
    return Path(settings["output_dir"])


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_sft_then_dpo_under_zero2(kind, settings, tmp_path):
    settings["output_dir"] = str(tmp_path / "sft")
    if kind == "lora":
        settings |= {"use_peft": True, "lora_target_modules": ["q_proj", "v_proj"]}
    sft = run_two("sft", tmp_path, settings)
    settings |= {"model_name_or_path": str(sft), "output_dir": str(tmp_path / "dpo"), "precompute_ref_log_probs": True}
    dpo = run_two("dpo", tmp_path, settings)

    for out in (sft, dpo):
        run = json.loads((out / "usermirrorer.json").read_text())["run"]
        assert (run["world_size"], run["distributed"]) == (2, "DeepSpeedEngine")
        assert (run["global_batch"], run["steps"]) == (4, 2)
    name = "model.safetensors" if kind == "full" else "adapter_model.safetensors"
    before, after = load_file(sft / name), load_file(dpo / name)
    assert before.keys() == after.keys()
    assert any((after[key] != before[key]).any() for key in after)
    first = json.loads((dpo / "trainer_state.json").read_text())["log_history"][0]
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3)


def test_launch_is_accelerate_launch(settings, tmp_path, monkeypatch):
    """`usermirrorer train` does what the script does, flags included, and returns its exit status."""
    monkeypatch.chdir(ROOT)
    recipe = write_yaml(tmp_path / "r.yaml", settings)
    assert launch("sft", recipe, ROOT / "accelerate_configs" / "cpu.yaml", ["--max_steps", "1"]) == 0
    record = json.loads((Path(settings["output_dir"]) / "usermirrorer.json").read_text())
    assert record["recipe"]["max_steps"] == 1 and record["run"]["steps"] == 1
