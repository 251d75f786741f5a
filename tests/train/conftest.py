"""A tiny random chat model and a handful of pairs, made on the spot."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from usermirrorer.data.artefacts.schema import PAIRS
from usermirrorer.llm.prompts import LABELS, answered, conversation


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINGS = ("cake", "tea", "soup", "bread", "jam")
TASTES = ("sweet", "sour", "salty", "bitter", "hot")


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory):
    """No Hub, no telemetry, caches that end with the session, and one thread: tiny tensors don't pay for more."""
    import torch

    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("hf")
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HOME=str(home), WANDB_MODE="offline")
    os.environ.update(HF_DATASETS_CACHE=str(home / "datasets"), OMP_NUM_THREADS="1")


def pair_rows(count: int, options: int = 5, seed: int = 0) -> list[dict]:
    """Pairs in which the user chooses by taste; the rejected answer names another option."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        tastes = draw.sample(TASTES, options)
        items = [f"{taste} {draw.choice(THINGS)}" for taste in tastes]
        pos = draw.randrange(options)
        other = (pos + 1 + draw.randrange(options - 1)) % options
        history = "\n".join(f"chose {tastes[pos]} {draw.choice(THINGS)}" for _ in range(3))
        prompt = conversation({"profile": "", "history": history, "action_list": items}, "plain")
        rows.append(
            {
                "scene_id": f"{i:016x}",
                "dataset": "toy",
                "user_id": f"u{i}",
                "item_id": items[pos],
                "prompt": prompt,
                "chosen": [{"role": "assistant", "content": answered(f"I like {tastes[pos]}.", pos)}],
                "rejected": [{"role": "assistant", "content": answered(f"I like {tastes[other]}.", other)}],
                "behavior_chosen": LABELS[pos],
                "behavior_rejected": LABELS[other],
                "choice_cnt": options,
            }
        )
    return rows


def write_pairs(directory: Path, rows: list[dict], prompt: str = "plain") -> Path:
    directory.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=PAIRS), directory / "part-00000.parquet")
    probe = {"accuracy": 0.21, "chance": 0.2}
    content = {"recipe": {"prompt": prompt}, "finished": True, "fingerprint": "0123456789abcdef", "probe": probe}
    (directory / ".manifest.json").write_text(json.dumps({"content": content, "run": {}}))
    return directory


def write_yaml(path: Path, settings: dict) -> Path:
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


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
            hidden_size=32,
            intermediate_size=64,
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
