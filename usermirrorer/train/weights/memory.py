"""How much memory and disk a training needs: arithmetic on shapes, before a weight is loaded.

It leaves out what libraries take for themselves and what allocators waste; expect a run to need a tenth more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from usermirrorer.llm.engines.local import adapter_base
from usermirrorer.llm.paths import model_path
from usermirrorer.train.config import Run
from usermirrorer.wording import format_bytes


_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}

# Optimiser -> bytes of its state for each trained weight.
_STATE = {"adamw_bnb_8bit": 2, "adamw_8bit": 2, "paged_adamw_8bit": 2, "adamw_torch_8bit": 2, "lion_8bit": 1, "sgd": 0}
_ADAM_STATE = 8

# Bytes of a 4-bit weight, with its share of the scales of blocks of 64.
_FOUR_BIT = 0.52

# TRL multiplies hidden states with at most this many tokens and words of the vocabulary at a time.
_TILE = (4096, 32768)


@dataclass(frozen=True)
class Shape:
    """What of a model's shape its memory depends on: `trained` of its `weights`, and its widths."""

    weights: int
    trained: int
    layers: int
    width: int
    inner: int
    heads_width: int
    vocabulary: int


def shape_of(run: Run) -> Shape | None:
    """The shape of the model that a run trains, without loading it; None for a model with code of its own."""
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig
    from trl import get_peft_config

    name = model_path(str(run.model.model_name_or_path))
    base = adapter_base(name)
    trust = run.training.trust_remote_code
    config = AutoConfig.from_pretrained(base or name, revision=run.model.model_revision, trust_remote_code=trust)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return None
    # Not `from_config`: under ZeRO-3 it would spread the weights over processes that are not here.
    with torch.device("meta"):
        model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
    weights = trained = sum(weight.numel() for weight in model.parameters())
    if run.model.use_peft:
        from peft import PeftConfig, get_peft_model

        adapter = PeftConfig.from_pretrained(name) if base else get_peft_config(run.model)
        adapter.inference_mode = False
        adapted = get_peft_model(model, adapter, low_cpu_mem_usage=True)
        trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    text = config.get_text_config()
    heads = text.num_attention_heads + 2 * (getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Shape(
        weights=weights,
        trained=trained,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        inner=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        heads_width=heads * head,
        vocabulary=text.vocab_size,
    )


def needed(run: Run, shape: Shape, longest: int) -> dict[str, float]:
    """Bytes that each process needs on its device, by what for; `longest` is the longest row in tokens.

    Counted at the step's peak. Under DeepSpeed and FSDP shards are counted for the processes at hand.
    """
    training, processes = run.training, run.training.world_size
    stage = sharding(training)
    deepspeed = training.deepspeed_plugin is not None
    wide = _BYTES.get(str(run.model.dtype), 4)
    held = 2 if deepspeed and training.bf16 else wide  # what the forward pass reads
    frozen = shape.weights - shape.trained if run.model.use_peft else 0
    own = held if not run.model.use_peft else 4  # an adapter is float32
    shared = {
        name: processes if stage >= level else 1 for name, level in (("state", 1), ("gradient", 2), ("weight", 3))
    }
    base = _FOUR_BIT if run.model.load_in_4bit else 1 if run.model.load_in_8bit else held
    weights = (frozen * base + shape.trained * own) / shared["weight"]
    masters = 4 if own == 2 else 0
    state = _state(training)
    sequences = training.per_device_train_batch_size * {"dpo": 2, "kto": 2}.get(run.method, 1)
    tokens = sequences * longest
    found = {
        "weights": weights,
        "gradients": shape.trained * own / shared["gradient"],
        "optimizer": shape.trained * (state + masters) / shared["state"],
        "activations": _activations(shape, tokens, training),
        "logits": _logits(run, shape, tokens, held),
    }
    if _has_reference(run):
        found["reference"] = shape.weights * held / shared["weight"]
    return found


def sharding(training: Any) -> int:
    """What is spread over processes: 0 nothing, 1 optimizer state, 2 gradients too, 3 weights too (and FSDP)."""
    if training.deepspeed_plugin is not None:
        return int(training.deepspeed_plugin.zero_stage)
    return 3 if os.environ.get("ACCELERATE_USE_FSDP") == "true" else 0


def checkpoint_bytes(run: Run, shape: Shape) -> float:
    """Disk that one checkpoint needs: what is trained, and its optimizer state with float32 copies."""
    wide = 4 if run.model.use_peft else _BYTES.get(str(run.model.dtype), 4)
    if run.training.deepspeed_plugin is not None and run.training.bf16:
        wide = 2
    masters = 4 if wide == 2 else 0
    return shape.trained * (wide + masters + _state(run.training))


def disk_needed(run: Run, shape: Shape) -> float:
    """Bytes that the checkpoints kept, the one being written and the final model need at most."""
    training = run.training
    final = shape.trained * (4 if run.model.use_peft else _BYTES.get(str(run.model.dtype), 4))
    if str(training.save_strategy.value) == "no":
        return final
    kept = training.save_total_limit or 10
    return final + (kept + 1) * checkpoint_bytes(run, shape)


def _state(training: Any) -> int:
    return _STATE.get(str(getattr(training.optim, "value", training.optim)), _ADAM_STATE)


def _activations(shape: Shape, tokens: int, training: Any) -> float:
    """What a backward pass keeps of the forward pass, in the precision of the computation.

    A layer keeps its inputs to norms, projections and the gated product: about 6 widths, the heads, and 3 inner
    widths. With gradient checkpointing, one width a layer and one layer in full.
    """
    wide = 2 if training.bf16 or training.fp16 else 4
    layer = tokens * (6 * shape.width + shape.heads_width + 3 * shape.inner) * wide
    if training.gradient_checkpointing:
        return shape.layers * tokens * shape.width * wide + layer
    return shape.layers * layer


def _logits(run: Run, shape: Shape, tokens: int, wide: int) -> float:
    """One tile of logits, and float32 gradients of the output layer and of the hidden states before it."""
    tile = min(tokens, _TILE[0]) * min(shape.vocabulary, _TILE[1]) * wide
    output = 0 if run.model.use_peft else shape.vocabulary * shape.width * 4
    return tile + output + tokens * shape.width * 4


def _has_reference(run: Run) -> bool:
    if run.model.use_peft or run.method == "sft":
        return False
    if run.method == "grpo":
        return bool(run.training.beta)
    return not run.training.precompute_ref_log_probs


def device_bytes() -> tuple[str, int]:
    """The device that a process trains on, and the bytes it has: of a GPU all, of a CPU what is free."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(), int(torch.cuda.mem_get_info()[1])
    return "CPU", int(psutil.virtual_memory().available)


def described(parts: Mapping[str, float]) -> str:
    """The sum of parts, spelt out."""
    spelt = " + ".join(f"{name} {format_bytes(round(size))}" for name, size in parts.items())
    return f"{format_bytes(round(sum(parts.values())))} ({spelt})"
