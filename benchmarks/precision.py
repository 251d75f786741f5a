"""What a training step of a small model costs on this processor, by how its weights are kept.

    python benchmarks/precision.py runs/models/smollm2-135m-instruct

fp32 throughout (the baseline), bf16 autocast over fp32 weights (`bf16: true`), bf16 weights with fp32 masters, the
same with the output layer at the answer's tokens alone (our recipes), bf16 weights alone (TRL with `dtype: bfloat16`:
small steps are lost), and fp32 adapters over a bf16 base (`use_peft: true`).
"""

from __future__ import annotations

import os
import platform
import sys
import time
from contextlib import nullcontext
from importlib.metadata import version


os.environ.setdefault("OMP_WAIT_POLICY", "passive")

ROWS, TOKENS, ANSWER, STEPS = 8, 340, 40, 3


def main() -> None:
    import torch

    model = sys.argv[1] if len(sys.argv) > 1 else "runs/models/smollm2-135m-instruct"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    flags = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in open("/proc/cpuinfo").read()]
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, {flags or 'no bf16 instructions'}; {libraries}")
    print(f"{ROWS} rows of {TOKENS} tokens, the last {ANSWER} of them learnt; median of {STEPS} steps after one")
    baseline = 0.0
    for name in ("fp32", "autocast", "masters", "answers", "bf16 alone", "adapters"):
        seconds = median_step(model, name)
        baseline = baseline or seconds
        print(f"{name:12} {seconds:6.2f} s a step, {ROWS / seconds:5.2f} rows/s, {baseline / seconds:.2f} x fp32")


def median_step(model: str, name: str) -> float:
    """Seconds of one step: forward, backward and optimizer."""
    import torch
    from transformers import AutoModelForCausalLM

    from usermirrorer.train.weights.masters import MasterAdamW

    whole = name in ("fp32", "autocast")
    learner = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32 if whole else torch.bfloat16)
    if name == "adapters":
        from peft import LoraConfig, get_peft_model

        learner = get_peft_model(learner, LoraConfig(r=16, target_modules="all-linear"))
    trained = [{"params": [weight for weight in learner.parameters() if weight.requires_grad]}]
    optimizer = (MasterAdamW if name in ("masters", "answers") else torch.optim.AdamW)(trained, lr=1e-5)
    tokens = torch.randint(100, 1000, (ROWS, TOKENS))
    labels = tokens.clone()
    labels[:, : TOKENS - ANSWER] = -100
    scored = ANSWER + 1 if name == "answers" else TOKENS
    seconds = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16) if name == "autocast" else nullcontext():
            loss = learner(tokens, labels=labels[:, -scored:], logits_to_keep=scored).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds[1:])[STEPS // 2]


if __name__ == "__main__":
    main()
