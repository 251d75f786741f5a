"""On a CPU only an answer's tokens go through the output layer: the same loss and gradients, and less work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.kernels import chunked_logprob
from trl.trainer import utils

from usermirrorer.train.weights.model import score_answers_alone


pytestmark = pytest.mark.engine


def test_loss_and_gradients_are_those_of_trl(model_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    utils.add_fused_lm_head(learner, outputs=("log_probs", "entropy", "is_top1"))
    tokens = torch.randint(0, learner.config.vocab_size, (3, 40), generator=torch.Generator().manual_seed(0))
    labels = tokens.clone()
    for row, answer in enumerate((5, 1, 9)):
        labels[row, :-answer] = -100
    positions: list[int] = []
    compute: Callable = utils._ChunkedLogProbFunction.apply

    def counted(hidden: torch.Tensor, *rest: object) -> object:
        positions.append(len(hidden))
        return compute(hidden, *rest)

    monkeypatch.setattr(utils._ChunkedLogProbFunction, "apply", counted)

    def step() -> tuple[torch.Tensor, list[torch.Tensor]]:
        learner.zero_grad()
        loss = learner(input_ids=tokens, labels=labels, fused_lm_head=True).loss
        loss.backward()
        return loss.detach(), [weight.grad.clone() for weight in learner.parameters()]

    # As TRL has it: a training in this process may have changed it.
    monkeypatch.setattr(utils, "_use_triton", chunked_logprob._use_triton)
    before, gradients = step()
    score_answers_alone()
    score_answers_alone()
    after, ours = step()
    assert positions == [3 * 39, 5 + 1 + 9]
    torch.testing.assert_close(after, before, rtol=1e-6, atol=0)
    for one, other in zip(ours, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
