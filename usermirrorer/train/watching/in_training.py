"""A model in the middle of its training, answering as it will when it is served: one renderer, one way to choose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from usermirrorer.llm.engines.transformers import TransformersModel


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer


class ModelInTraining(TransformersModel):
    """Weights that a trainer holds, behind the protocol of every other model."""

    def __init__(self, name: str, tokenizer: PreTrainedTokenizerBase, model: Any) -> None:
        super().__init__(name)
        self.tokenizer = tokenizer
        self.model = model

    def _model(self, kind: str) -> Any:
        return self.model


@contextmanager
def unwrapped(trainer: Trainer) -> Iterator[Any]:
    """The model as one process alone can use it, in evaluation mode with its cache; afterwards it is as before.

    Under ZeRO-3 its weights are gathered in every process meanwhile, and a device must have room for all of them.
    """
    from trl.models.utils import unwrap_model_for_generation

    from usermirrorer.llm.engines.decoding import ATTENTION

    options = {"gradient_checkpointing_kwargs": trainer.args.gradient_checkpointing_kwargs}
    with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator, **options) as model:
        base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
        before = base.config._attn_implementation, base.config.use_cache, model.training
        base.set_attn_implementation(ATTENTION)
        base.config.use_cache = True
        model.eval()
        try:
            yield model
        finally:
            base.set_attn_implementation(before[0])
            base.config.use_cache = before[1]
            model.train(before[2])
