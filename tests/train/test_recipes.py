"""Every training recipe that is shipped parses strictly, and its two-step twin trains a tiny model."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import yaml
from test_training import LORA, train, weights

from usermirrorer.shipped import ACCELERATE, headline, shipped
from usermirrorer.train import config


ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "recipes").rglob("*.yaml") if path.parent.name in config.METHODS)
NAMES = [str(path.relative_to(ROOT / "recipes")) for path in RECIPES]

# What a test's machine and model want; all else stays as the recipe has it.
TWIN = {"max_steps": 2, "use_cpu": True, "bf16": False, "output_dir": None, "max_length": 512, "save_strategy": "no"}


def test_every_model_has_its_methods():
    methods = {}
    for name in NAMES:
        model, method, file = Path(name).parts
        methods.setdefault(model, set()).add((method, file.removeprefix("config_").removesuffix(".yaml")))
    for model in ("qwen2.5-3b-instruct", "llama-3.2-3b-instruct", "qwen3-0.6b", "llama-3.2-1b-instruct"):
        wanted = {(method, kind) for method in ("sft", "dpo") for kind in ("full", "lora", "qlora")}
        assert methods[model] >= wanted | {("kto", "full"), ("grpo", "full")}
    assert {method for method, _ in methods["smollm2-135m-instruct"]} == set(config.METHODS)
    assert {method for method, _ in methods["tiny-base"]} == set(config.METHODS)


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_a_recipe_parses_strictly_and_its_header_names_its_own_command(path, monkeypatch):
    if importlib.util.find_spec("bitsandbytes") is None:
        monkeypatch.setattr(config, "need", lambda *_: None)
    method = path.parent.name
    run = config.parse(method, ["--config", str(path), "--use_cpu", "true"])
    if method != "grpo":
        assert run.training.max_length is not None
    if method in ("dpo", "kto"):
        assert run.training.precompute_ref_log_probs
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    command = next(line for line in head if "usermirrorer train" in line).split()
    assert command[1:4] == ["usermirrorer", "train", method]
    assert shipped(method)[command[command.index("--config") + 1]] == path
    if "--accelerate" in command:
        assert command[command.index("--accelerate") + 1] in shipped(ACCELERATE)
    assert any(line.startswith("# Needs: ") for line in head)
    if path.parts[-3] != "tiny-base":
        assert any(line.startswith("# Memory: ") and "Disk: " in line for line in head), headline(path)


@pytest.mark.launch
@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_the_two_step_twin_of_a_recipe_trains(path, tiny, pairs, adapter, tmp_path):
    recipe, method = yaml.safe_load(path.read_text()), path.parent.name
    if recipe.get("load_in_4bit") and importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("NOT TESTED: QLoRA needs bitsandbytes, which requirements/dev.txt installs")
    continued = recipe.get("use_peft") and "lora_r" not in recipe
    recipe |= {**TWIN, "model_name_or_path": str(adapter if continued else tiny), "dataset_name": str(pairs)}
    recipe |= {"output_dir": str(tmp_path / "out"), "dtype": "float32"}
    if recipe.get("optim", "").startswith("paged_"):
        recipe["optim"] = "adamw_torch"  # pages memory of a GPU
    if method == "grpo":
        recipe |= {"max_completion_length": 4, "use_vllm": False}
        recipe.pop("max_length")
    rows = recipe.get("num_generations", 2)
    recipe |= {"per_device_train_batch_size": rows}
    if "global_batch_size" in recipe:
        recipe["global_batch_size"] = rows
    else:
        recipe["gradient_accumulation_steps"] = 1
    out = train(method, tmp_path, recipe)
    record = json.loads((out / "usermirrorer.json").read_text())
    assert record["run"]["steps"] == 2 and record["run"]["global_batch"] == rows
    kind = "adapter_model.safetensors" if recipe.get("use_peft") else "model.safetensors"
    assert (out / kind).is_file()


@pytest.mark.launch
@pytest.mark.parametrize("loss", [["ipo"], ["apo_zero"], ["apo_down"], ["sigmoid", "sft"]])
def test_the_variants_of_dpo_train(loss, settings, tmp_path):
    settings |= {"loss_type": loss, "precompute_ref_log_probs": True}
    if len(loss) == 2:
        settings["loss_weights"] = [1.0, 0.2]
    out = train("dpo", tmp_path, settings)
    assert json.loads((out / "usermirrorer.json").read_text())["recipe"]["loss_type"] == loss


@pytest.fixture(scope="module")
def adapter(tiny, pairs, tmp_path_factory) -> Path:
    """The tiny model with an adapter, as an SFT of LoRA saves it."""
    path = tmp_path_factory.mktemp("adapter")
    settings = {**TWIN, **LORA, "model_name_or_path": str(tiny), "dataset_name": str(pairs)}
    settings |= {"output_dir": str(path / "out"), "report_to": "none", "learning_rate": 1e-2}
    out = train("sft", path, settings)
    return Path(shutil.copytree(out, path / "adapter"))


@pytest.mark.launch
def test_four_bits_learn_in_all_layers_after_a_look_in_evaluation_mode(settings, pairs, tmp_path):
    """The reference's log-probabilities and what is watched read the model in evaluation mode."""
    pytest.importorskip("bitsandbytes", reason="NOT TESTED: QLoRA needs bitsandbytes")
    settings |= {
        **LORA,
        "load_in_4bit": True,
        "precompute_ref_log_probs": True,
        "watch_steps": 1,
        "learning_rate": 1e-2,
    }
    out = train("dpo", tmp_path, settings)
    moved = {name: bool(weight.any()) for name, weight in weights(out).items() if "lora_B" in name}
    assert len(moved) == 4 and all(moved.values())
