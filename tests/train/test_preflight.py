"""What is said before a run: room, rows as the model sees them, and settings that would train something else."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from handmade_pairs import write_yaml
from test_training import LORA, train

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.train import config, preflight
from usermirrorer.train.weights import memory


def parsed(settings: dict, path: Path, method: str = "dpo") -> config.Run:
    return config.parse(method, ["--config", str(write_yaml(path / "r.yaml", settings))])


@pytest.mark.parametrize(
    ("method", "change", "named"),
    [
        ("sft", {"completion_only_loss": False}, "the loss would be on the prompt"),
        ("sft", {"assistant_only_loss": True}, "the loss is on the completion"),
        ("sft", {"packing": True, "packing_strategy": "wrapped"}, "rows would be cut"),
        ("sft", {"dataset_kwargs": {"skip_prepare_dataset": True}}, "without its chat template"),
        ("dpo", {"padding_free": True}, "this TRL ignores it"),
        ("dpo", {"sync_ref_model": True}, "the reference would follow"),
    ],
)
def test_a_setting_that_trains_something_else_is_refused(method, change, named, settings, tmp_path):
    with pytest.raises(UserError, match=named):
        parsed({**settings, **change}, tmp_path, method)


def test_weights_are_counted_as_the_model_has_them(settings, tiny, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny)
    shape = memory.shape_of(parsed(settings, tmp_path))
    assert shape.weights == shape.trained == sum(weight.numel() for weight in model.parameters())
    adapted = memory.shape_of(parsed({**settings, **LORA}, tmp_path))
    # Two layers of q (64 -> 64) and v (64 -> 64), rank 4.
    assert (adapted.weights, adapted.trained) == (shape.weights, 2 * 2 * 4 * (64 + 64))


def test_each_way_to_save_memory_saves_some(settings, tmp_path):
    base = {**settings, "precompute_ref_log_probs": False, "gradient_checkpointing": False}

    def total(**change) -> float:
        run = parsed({**base, **change}, tmp_path)
        return sum(memory.needed(run, memory.shape_of(run), 200).values())

    whole = total()
    assert total(precompute_ref_log_probs=True) < whole
    assert total(gradient_checkpointing=True) < whole
    assert total(per_device_train_batch_size=1) < whole
    assert total(optim="adamw_bnb_8bit") < whole
    assert total(**LORA) < total(precompute_ref_log_probs=True)


def test_float32_adam_is_sixteen_bytes_a_weight(settings, tmp_path):
    run = parsed({**settings, "precompute_ref_log_probs": True}, tmp_path)
    shape = memory.shape_of(run)
    parts = memory.needed(run, shape, 100)
    assert parts["weights"] + parts["gradients"] + parts["optimizer"] == 16 * shape.weights
    assert memory.checkpoint_bytes(run, shape) == 12 * shape.weights


def test_a_bfloat16_checkpoint_is_fourteen_bytes_a_weight(settings, tmp_path):
    run = parsed({**settings, "dtype": "bfloat16"}, tmp_path)
    shape = memory.shape_of(run)
    assert memory.checkpoint_bytes(run, shape) == 14 * shape.weights


def test_a_disk_without_room_ends_the_run_before_it_starts(settings, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(1, 1, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StepFailed, match=r"needs .* of disk and 1.0 kB are free; make room"):
        preflight.check_room(parsed(settings, tmp_path), {"longest": 100})


def test_too_little_memory_names_what_needs_less(settings, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(memory, "device_bytes", lambda: ("CPU", 1000))
    with caplog.at_level("INFO", logger="usermirrorer.train"):
        preflight.check_room(parsed({**settings, "gradient_checkpointing": False}, tmp_path), {"longest": 100})
    warning = next(record.message for record in caplog.records if record.levelname == "WARNING")
    assert "gradient_checkpointing: true (now false" in warning
    assert "per_device_train_batch_size (now 2)" in warning and "use_peft: true (now false)" in warning


@pytest.mark.launch
@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
def test_two_rows_are_shown_with_the_part_that_is_learnt(method, settings, pairs, tmp_path, caplog):
    with caplog.at_level("INFO", logger="usermirrorer.train"):
        train(method, tmp_path, {**settings, "max_steps": 1})
    shown = [record.message for record in caplog.records if record.message.startswith("row ")]
    assert len(shown) == (4 if method == "dpo" else 2)
    for text in shown:
        learnt = text[text.index("⟦") :]
        assert "I like" in learnt and "Behavior: [" in learnt and "<|im_end|>" in learnt
        assert "# Exposure List" not in learnt and "<|im_start|>assistant" in text[: text.index("⟦")]


@pytest.mark.launch
def test_out_of_memory_is_one_sentence_with_the_settings_in_order(settings, tmp_path, monkeypatch, capsys):
    import torch
    from transformers import Trainer

    from usermirrorer.train import sft

    def fails(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Trainer, "training_step", fails)
    recipe = write_yaml(tmp_path / "r.yaml", {**settings, "gradient_checkpointing": False})
    monkeypatch.setattr("sys.argv", ["sft", "--config", str(recipe)])
    assert config.exit_status("sft", sft.main) == 1
    said = capsys.readouterr().err
    [sentence] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "out of memory" in sentence and "1. set gradient_checkpointing: true (now false" in sentence
    assert "Traceback" not in said
