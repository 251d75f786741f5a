"""A model as serving and training see it: its special tokens, and whether its chat template keeps them consistent."""

from __future__ import annotations

from typing import Any

from usermirrorer.llm.engines.local import LocalModel, adapter_base, model_config
from usermirrorer.llm.engines.rendering import trained_tokens
from usermirrorer.llm.identity import EXAMPLE
from usermirrorer.llm.labels import label_tokens
from usermirrorer.llm.prompts import LABELS, answered, conversation
from usermirrorer.llm.protocol import Conversation
from usermirrorer.train.input.survey import check_prefix
from usermirrorer.train.weights.model import end_of_turn


def check_model(name: str) -> tuple[dict[str, Any], list[str]]:
    """The special tokens that a model's files name, and warnings. Its weights are not read.

    Raises UserError if it can't be loaded, has no chat template or one that would train other tokens than it serves,
    or if the options' letters are not single tokens.
    """
    from transformers import GenerationConfig

    model = LocalModel("transformers", name)
    tokenizer, path = model.tokenizer, model.path
    config = model_config(adapter_base(path) or path).get_text_config()
    try:
        generation = GenerationConfig.from_pretrained(path)
    except OSError:  # it has none, so that of its configuration holds
        generation = GenerationConfig.from_model_config(config)
    question = conversation(EXAMPLE, "plain")
    [prompt] = model.tokens([question])
    answer: Conversation = [*question, {"role": "assistant", "content": answered("I like tea.", 0)}]
    [text] = trained_tokens(tokenizer, [answer])
    check_prefix(tokenizer, prompt, text, name)
    label_tokens(model.encode, LABELS, name)
    end = end_of_turn(tokenizer)
    stops = _ids(generation.eos_token_id)
    facts = {
        "tokenizer": {"pad": tokenizer.pad_token_id, "eos": _ids(tokenizer.eos_token_id)},
        "config": {"pad": config.pad_token_id, "eos": _ids(config.eos_token_id)},
        "generation_config": {"pad": generation.pad_token_id, "eos": stops},
        "end_of_turn": {"id": end, "token": tokenizer.convert_ids_to_tokens(end), "stops": end in stops},
    }
    warnings = []
    if end not in stops:
        warnings.append(
            f"{name} ends an answer with {facts['end_of_turn']['token']} ({end}), which is no stop token of its "
            "generation_config, so it would go on after it; models that are trained here stop there"
        )
    return facts, warnings


def _ids(tokens: int | list[int] | None) -> list[int]:
    return [] if tokens is None else [tokens] if isinstance(tokens, int) else list(tokens)
