"""AdamW for bfloat16 weights: steps are taken on float32 copies of them.

A bfloat16 number has 8 significant bits, so a step of less than 0.4 % of a weight would be lost. DeepSpeed keeps
float32 copies itself; TRL and the trainer of transformers step on the weights as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class MasterAdamW(torch.optim.AdamW):
    """AdamW on float32 master copies of the parameters; after every step the parameters are their rounded values."""

    def __init__(self, params: Iterable[dict[str, Any]], **options: Any) -> None:
        self.rounded: list[torch.Tensor] = []
        groups = []
        for group in params:
            weights = [weight for weight in group["params"] if weight.requires_grad]
            self.rounded += weights
            groups.append({**group, "params": [torch.nn.Parameter(weight.detach().float()) for weight in weights]})
        super().__init__(groups, **options)

    @property
    def masters(self) -> list[torch.Tensor]:
        """The float32 copies, in the order of `rounded`."""
        return [weight for group in self.param_groups for weight in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step by the gradients of the rounded weights."""
        for master, weight in zip(self.masters, self.rounded, strict=True):
            master.grad = None if weight.grad is None else weight.grad.float()
        loss = super().step(closure)
        for master, weight in zip(self.masters, self.rounded, strict=True):
            weight.copy_(master)
            master.grad = None
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of the rounded weights."""
        for weight in self.rounded:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state with the float32 copies, without which a resumed run would start from rounded ones."""
        return {**super().state_dict(), "masters": [master.detach() for master in self.masters]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state that `state_dict` returned."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "masters"})
        for master, weight, saved in zip(self.masters, self.rounded, state_dict["masters"], strict=True):
            master.copy_(saved)
            weight.copy_(saved)
