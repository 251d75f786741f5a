"""Learnt frames and shared prompts give the tokens that template and tokenizer give, for every family and text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_injection import FAMILIES, hostile, model, scene

from usermirrorer.llm.engines.rendering import CHECKED, PROMPTS, Renderer
from usermirrorer.llm.injection import control_tokens, without_control_tokens
from usermirrorer.llm.prompts import PROMPT_DATE, conversation, opened
from usermirrorer.llm.protocol import Conversation
from usermirrorer.train.weights.model import end_of_turn


def asked(renderer: Renderer, conversations: Sequence[Conversation]) -> list[list[int]]:
    """What template and tokenizer say, one conversation at a time."""
    tokenizer, control, found = renderer.tokenizer, control_tokens(renderer.tokenizer), []
    for messages in conversations:
        ending = (
            {"continue_final_message": True}
            if messages[-1]["role"] == "assistant"
            else {"add_generation_prompt": True}
        )
        text = tokenizer.apply_chat_template(
            without_control_tokens(messages, control),
            tokenize=False, date_string=PROMPT_DATE, enable_thinking=False, **ending,
        )  # fmt: skip
        found.append(tokenizer(text, add_special_tokens=False)["input_ids"])
    return found


def texts(family: str) -> st.SearchStrategy[str]:
    """Hostile ones, ordinary ones, and ones with space around them, which some templates cut off."""
    return st.one_of(
        hostile(family), st.text(max_size=30), st.sampled_from([" a ", "\n", "", "<think>x</think>", "a\n"])
    )


@pytest.mark.parametrize("family", [*FAMILIES, "tiny-base", "smollm2"])
@settings(max_examples=30)
@given(data=st.data())
def test_tokens_are_those_of_template_and_tokenizer(family: str, data: st.DataObject) -> None:
    renderer = Renderer(model(family).tokenizer, family)
    # More than are checked, so that what follows stands on its own.
    plain = {"profile": "Age: 1", "history": "chose tea", "action_list": ["tea", "cake"]}
    first = [opened(conversation(plain, "plain"), f"I take {number}.") for number in range(CHECKED)]  # type: ignore[arg-type]
    assert renderer.tokens(first) == asked(renderer, first)
    prompts = [conversation(scene(data, family), "plain") for _ in range(data.draw(st.integers(1, 3)))]
    decided = [opened(messages, data.draw(texts(family))) for messages in prompts for _ in range(2)]
    mixed = data.draw(st.permutations([*prompts, *decided]))
    assert renderer.tokens(mixed) == asked(renderer, mixed)


def test_a_shared_prompt_is_tokenised_once_and_forgotten_in_the_end() -> None:
    renderer = Renderer(model("qwen2_5").tokenizer, "qwen2_5")
    encoded: list[str] = []
    encode = renderer.encode

    def counted(rows: Sequence[str]) -> list[list[int]]:
        encoded.extend(rows)
        return encode(rows)

    renderer.encode = counted  # type: ignore[method-assign]
    messages = conversation({"profile": "", "history": "chose tea", "action_list": ["tea", "cake"]}, "plain")
    conversations = [messages, *(opened(messages, f"I take {number}.") for number in range(10))]
    renderer.tokens(conversations)
    whole = [text for text in encoded if "chose tea" in text]
    assert len(whole) == 1 + len(conversations), "one prompt, and what is checked whole"
    many = [[{"role": "user", "content": f"chose {number}"}] for number in range(2 * PROMPTS)]
    renderer.tokens(many)  # type: ignore[arg-type]
    assert len(renderer.prompts) == PROMPTS


def test_a_template_that_looks_at_its_texts_is_asked_itself() -> None:
    """A frame learnt from one text would be wrong for another: the check finds out, and gives the right tokens."""
    tokenizer = model("qwen2_5").tokenizer
    before = tokenizer.chat_template
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['content'] | upper if m['content'] | length > 5 else m['content'] }}"
        "{% endfor %}<|im_start|>"
    )
    try:
        renderer = Renderer(tokenizer, "shouting")
        rows: list[Conversation] = [
            [{"role": "user", "content": text}] for text in ("tea", "cake", "a large cake", "pie")
        ]
        assert renderer.tokens(rows) == asked(renderer, rows)
        assert renderer.tokens(rows[::-1]) == asked(renderer, rows[::-1])
        assert renderer.frames == {("user",): None}
    finally:
        tokenizer.chat_template = before


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_ends_with_the_token_that_ends_a_turn(family: str) -> None:
    """Not with the thought that templates of thinking models put before every answer."""
    tokenizer = model(family).tokenizer
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)) == FAMILIES[family][0][-1]
