"""LoRA adapters of random weights, as a training leaves them."""

from __future__ import annotations

import json
from pathlib import Path


def write_adapter(directory: Path, base: Path, strength: float = 0.5, record: dict | None = None) -> Path:
    """An adapter on `base` whose matrices B have entries of that size, with tokenizer and, if given, a record."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=strength)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(base).save_pretrained(directory)
    if record is not None:
        (directory / "usermirrorer.json").write_text(json.dumps(record))
    return directory
