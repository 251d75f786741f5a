"""Recipes are read strictly: every one we ship parses, and no misspelt setting gets through."""

import os
import sys
from pathlib import Path

import pytest
from handmade_pairs import write_yaml

from usermirrorer.errors import UserError
from usermirrorer.train import config


ROOT = Path(__file__).parents[2]
ACCELERATE = sorted((ROOT / "accelerate_configs").glob("*.yaml"))


def test_accelerate_configs_are_found():
    assert {path.stem for path in ACCELERATE} == {"cpu", "single_gpu", "ddp", "zero2", "zero3", "fsdp"}


@pytest.mark.parametrize("model", ["qwen2.5-3b-instruct", "llama-3.2-3b-instruct"])
def test_published_settings(model):
    path = ROOT / "recipes" / model
    sft = config.parse("sft", ["--config", str(path / "sft/config_full.yaml"), "--use_cpu", "true"])
    dpo = config.parse("dpo", ["--config", str(path / "dpo/config_full.yaml"), "--use_cpu", "true"])
    assert (sft.training.num_train_epochs, sft.training.learning_rate) == (1, 2e-4)
    assert (dpo.training.num_train_epochs, dpo.training.learning_rate) == (2, 1e-5)
    assert (dpo.training.beta, dpo.training.weight_decay) == (0.1, 0.05)
    for run in (sft, dpo):
        training = run.training
        assert (training.per_device_train_batch_size, run.pairs.global_batch_size) == (1, 32)
        assert (training.lr_scheduler_type, training.warmup_steps, training.max_length) == ("cosine", 10, 8192)
        assert (run.model.dtype, training.bf16) == ("float32", True)
    assert dpo.model.model_name_or_path == sft.training.output_dir


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda path: path.stem)
def test_every_accelerate_config_loads(path):
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(path))
    assert loaded.num_processes == (1 if path.stem in ("cpu", "single_gpu") else 8)


def test_flags_win_over_the_recipe(settings, tmp_path):
    path = write_yaml(tmp_path / "r.yaml", settings)
    run = config.parse("dpo", ["--config", str(path), "--learning_rate", "5e-7", "--beta=0.3"])
    assert (run.training.learning_rate, run.training.beta) == (5e-7, 0.3)
    assert (float(run.recipe["learning_rate"]), run.recipe["beta"], run.recipe["max_steps"]) == (5e-7, 0.3, 2)


def refusal(method, settings, tmp_path, *flags):
    path = write_yaml(tmp_path / "r.yaml", settings)
    with pytest.raises(UserError) as error:
        config.parse(method, ["--config", str(path), *flags])
    assert "\n" not in str(error.value)
    return str(error.value), str(path)


def test_a_misspelt_setting_is_named_with_its_line(settings, tmp_path):
    settings["learning_rat"] = settings.pop("learning_rate")
    message, path = refusal("dpo", settings, tmp_path)
    line = list(settings).index("learning_rat") + 1
    assert f"{path}:{line}" in message and "did you mean learning_rate?" in message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch_dtype", "dtype"),
        ("warmup_ratio", "warmup_steps: 0.1"),
        ("max_seq_length", "max_length"),
        ("max_prompt_length", "max_length"),
        ("overwrite_output_dir", "--fresh"),
        ("dataset_mixture", "dataset_name"),
    ],
)
def test_a_removed_setting_says_what_takes_its_place(settings, tmp_path, old, new):
    message, path = refusal("sft", {**settings, old: 1}, tmp_path)
    assert f"{path}:{len(settings) + 1}" in message and f"'{old}' is no longer a setting" in message
    assert new in message.partition(";")[2]


def test_a_misspelt_flag_is_refused(settings, tmp_path):
    message, _ = refusal("dpo", settings, tmp_path, "--learning_rat", "1e-5")
    assert "--learning_rat" in message and "did you mean learning_rate?" in message


def test_a_value_of_the_wrong_type_is_named_with_its_line(settings, tmp_path):
    message, path = refusal("dpo", {**settings, "beta": "high"}, tmp_path)
    assert f"{path}:{len(settings) + 1}" in message and "'high'" in message


def test_other_wrong_recipes(settings, tmp_path):
    assert "model_name_or_path" in refusal("sft", {**settings, "model_name_or_path": None}, tmp_path)[0]
    assert "dataset_name" in refusal("sft", {k: v for k, v in settings.items() if k != "dataset_name"}, tmp_path)[0]
    assert "usermirrorer eval" in refusal("sft", {**settings, "eval_strategy": "steps"}, tmp_path)[0]
    assert "`usermirrorer push" in refusal("sft", {**settings, "push_to_hub": True}, tmp_path)[0]
    assert "HF_TOKEN" in refusal("sft", settings, tmp_path, "--hub_token", "hf_abcdefgh")[0]
    assert "name another" in refusal("sft", {**settings, "output_dir": settings["model_name_or_path"]}, tmp_path)[0]
    twice = tmp_path / "twice.yaml"
    twice.write_text("seed: 1\nbeta: 0.1\nseed: 2\n")
    with pytest.raises(UserError, match=r"twice.yaml:3: 'seed' is already set in line 1"):
        config.parse("dpo", ["--config", str(twice)])
    (tmp_path / "bad.yaml").write_text("seed: [1\nbeta: 0.1\n")
    with pytest.raises(UserError, match=r"bad.yaml:\d+: not YAML"):
        config.parse("dpo", ["--config", str(tmp_path / "bad.yaml")])
    with pytest.raises(UserError, match="no.yaml"):
        config.parse("dpo", ["--config", "no.yaml"])


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "grpo"])
def test_bad_input_ends_in_one_sentence_and_status_2(method, settings, tmp_path, monkeypatch, capsys):
    if method == "grpo":
        settings.pop("max_length")
    path = write_yaml(tmp_path / "r.yaml", {**settings, "learning_rat": 1})
    monkeypatch.setattr(sys, "argv", [method, "--config", str(path)])
    module = __import__(f"usermirrorer.train.{method}", fromlist=["main"])
    assert config.exit_status(method, module.main) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and "learning_rate" in err and not out


@pytest.mark.parametrize(
    ("setting", "value", "library", "extra"),
    [
        ("report_to", "wandb", "wandb", "wandb"),
        ("report_to", ["wandb"], "wandb", "wandb"),
        ("load_in_4bit", True, "bitsandbytes", "quantization"),
        ("load_in_8bit", True, "bitsandbytes", "quantization"),
    ],
)
def test_a_missing_library_is_named_with_the_line_that_needs_it(
    setting, value, library, extra, settings, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    settings.pop("report_to")
    message, path = refusal("sft", {**settings, setting: value}, tmp_path)
    assert message.startswith(f"{path}:{len(settings) + 1}: {setting}")
    assert message.endswith(f"needs {library}, which is not installed: pip install 'usermirrorer[{extra}]'")


def test_env_of_a_recipe_reaches_the_process(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "before")
    config.parse(
        "sft", ["--config", str(write_yaml(tmp_path / "r.yaml", {**settings, "env": {"WANDB_PROJECT": "p"}}))]
    )
    assert os.environ["WANDB_PROJECT"] == "p"
