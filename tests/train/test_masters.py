"""bfloat16 weights learn as float32 ones do, and a resumed optimizer goes on with the same bits."""

from __future__ import annotations

import copy

import pytest
import torch

from usermirrorer.train.weights.masters import MasterAdamW


pytestmark = pytest.mark.engine


def train(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        (weight.float() - 0.5).square().sum().backward()
        optimizer.step()


def groups(weight: torch.nn.Parameter) -> list[dict]:
    return [{"params": [weight], "weight_decay": 0.0}]


def test_small_steps_add_up() -> None:
    """A thousand steps of 1e-4 from 1.0: bfloat16 alone can't take the first, its neighbours are 0.004 away."""
    start = torch.ones(4)
    exact, alone, rounded = (
        torch.nn.Parameter(start.to(kind)) for kind in (torch.float32, torch.bfloat16, torch.bfloat16)
    )
    train(exact, torch.optim.AdamW(groups(exact), lr=1e-4), 1000)
    train(alone, torch.optim.AdamW(groups(alone), lr=1e-4), 1000)
    train(rounded, MasterAdamW(groups(rounded), lr=1e-4), 1000)
    assert (alone == 1).all()
    assert rounded.dtype == torch.bfloat16 and rounded.grad is not None
    torch.testing.assert_close(rounded.float(), exact.detach(), atol=0.005, rtol=0)
    assert exact.max() < 0.95


def test_a_resumed_optimizer_goes_on_with_the_same_bits() -> None:
    torch.manual_seed(0)
    start = torch.randn(50)
    whole, first = (torch.nn.Parameter(start.to(torch.bfloat16)) for _ in range(2))
    one = MasterAdamW(groups(whole), lr=1e-3)
    train(whole, one, 40)
    begun = MasterAdamW(groups(first), lr=1e-3)
    train(first, begun, 15)
    saved = copy.deepcopy(begun.state_dict())
    second = torch.nn.Parameter(first.detach().clone())
    resumed = MasterAdamW(groups(second), lr=1e-3)
    resumed.load_state_dict(saved)
    train(second, resumed, 25)
    assert torch.equal(second, whole)
    assert all(torch.equal(a, b) for a, b in zip(resumed.masters, one.masters, strict=True))
    assert all(state["exp_avg"].dtype == torch.float32 for state in resumed.state.values())


def test_frozen_weights_are_left_alone() -> None:
    weight, frozen = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)), torch.nn.Parameter(torch.ones(2))
    frozen.requires_grad = False
    optimizer = MasterAdamW([{"params": [weight, frozen]}], lr=0.1)
    train(weight, optimizer, 3)
    assert len(optimizer.masters) == 1 and (frozen == 1).all()
