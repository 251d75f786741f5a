"""A tiny random chat model and a handful of pairs, made on the spot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from handmade_pairs import CHATML, pair_rows, write_pairs


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory):
    """No Hub, no telemetry, caches that end with the session, and one thread: tiny tensors don't pay for more."""
    import torch

    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("hf")
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HOME=str(home), WANDB_MODE="offline")
    os.environ.update(HF_DATASETS_CACHE=str(home / "datasets"), OMP_NUM_THREADS="1")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "toy", pair_rows(12))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A Qwen2 of 2 layers with random weights and a byte-level tokenizer without merges."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = CHATML
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(fast),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=1024,
        )
    )
    path = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return path


@pytest.fixture
def settings(tiny, pairs, tmp_path) -> dict:
    """Two steps on the CPU."""
    return {
        "model_name_or_path": str(tiny),
        "dataset_name": str(pairs),
        "output_dir": str(tmp_path / "out"),
        "max_length": 512,
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "seed": 3,
    }
