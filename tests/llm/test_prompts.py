"""One renderer for deciding, scoring, training and serving: golden texts, and parsing as its inverse."""

from __future__ import annotations

import importlib.resources
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.llm.prompts import (
    INSTRUCTIONS,
    LABELS,
    answered,
    conversation,
    history_entries,
    join_history,
    opened,
    parse,
    shed_history,
)


SCENE = {"profile": "Age: 24", "history": "rated A, 1 day ago: 4/5\nrated B, just now: 2/5", "action_list": ["C", "D"]}
USER = (
    "# User Profile\nAge: 24\n\n## History\nrated A, 1 day ago: 4/5\nrated B, just now: 2/5\n\n"
    "# Exposure List\n[A] C\n[B] D"
)
PLAIN = INSTRUCTIONS["plain"]

GOLDEN = {
    "qwen2_5": f"<|im_start|>system\n{PLAIN}<|im_end|>\n<|im_start|>user\n{USER}<|im_end|>\n<|im_start|>assistant\n",
    "qwen3": f"<|im_start|>system\n{PLAIN}<|im_end|>\n<|im_start|>user\n{USER}<|im_end|>\n<|im_start|>assistant\n"
    "<think>\n\n</think>\n\n",
    "llama3_2": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\n"
    f"Today Date: 26 Jul 2024\n\n{PLAIN}<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\n{USER}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
}


@pytest.mark.parametrize("template", GOLDEN)
def test_golden_text_of_each_chat_template(template: str, model_dir: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    tokenizer.add_special_tokens({"bos_token": "<|begin_of_text|>"})
    source = importlib.resources.files("trl").joinpath(f"chat_templates/{template}.jinja").read_text()
    prompt = conversation(SCENE, "plain")
    options = {"chat_template": source, "tokenize": False, "enable_thinking": False, "date_string": "26 Jul 2024"}
    assert tokenizer.apply_chat_template(prompt, add_generation_prompt=True, **options) == GOLDEN[template]
    trained = tokenizer.apply_chat_template(
        [*prompt, {"role": "assistant", "content": answered("I like D.", 1)}], **options
    )
    scored = tokenizer.apply_chat_template(opened(prompt, "I like D."), continue_final_message=True, **options)
    # What is scored is what is trained up to the label.
    assert trained.startswith(scored)
    assert trained[len(scored) :].startswith("B]")


def test_empty_sections_are_left_out() -> None:
    user = conversation({"profile": "", "history": " ", "action_list": ["C", "D"]}, "ekb")[1]["content"]
    assert user == "# Exposure List\n[A] C\n[B] D"


def test_ekb_names_the_three_stages_and_the_answer() -> None:
    for part in ("Stimulus Factors:", "Knowledge Factors:", "Evaluation Style:", "Behavior: [X]"):
        assert part in INSTRUCTIONS["ekb"]


texts = st.text(string.ascii_letters + string.punctuation + " \n", max_size=80)


@given(texts, st.integers(0, 25))
def test_parse_undoes_answered(decision: str, behavior: int) -> None:
    text, named = parse(answered(decision, behavior), 26)
    assert named == behavior
    assert text == decision.strip()


@given(st.text(max_size=200), st.integers(2, 26))
def test_parse_takes_anything(output: str, options: int) -> None:
    text, named = parse(output, options)
    assert text in output
    assert named is None or named < options


@pytest.mark.parametrize(
    ("output", "named"),
    [
        ("I like it.\nBehavior: [B]", 1),
        ("**Behavior:** B", 1),
        ("Behavior: [A]\nNo.\nBehavior: [C]", 2),
        ("Behavior: [Z]", None),
        ("Behavior: Apple", None),
        ("My Behavior: [A]", None),
        ("Behavior:", None),
    ],
)
def test_labels_that_models_write(output: str, named: int | None) -> None:
    assert parse(output, 3)[1] == named


@given(st.lists(st.text(string.ascii_letters, min_size=1), max_size=6))
def test_history_is_split_as_it_was_joined(lines: list[str]) -> None:
    assert history_entries(join_history(lines)) == lines


@given(st.lists(st.text(string.ascii_letters, min_size=1), min_size=2, max_size=6))
def test_entries_of_several_lines_stay_whole(lines: list[str]) -> None:
    entries = [f"{line}\nmore" for line in lines]
    assert history_entries(join_history(entries)) == entries


@given(st.integers(0, 40))
def test_fit_sheds_the_oldest_history_only(limit: int) -> None:
    scene = {"profile": "p", "history": "\n".join(f"h{i}" for i in range(8)), "action_list": ["x", "y"]}

    def words(conversations: list) -> list[int]:
        return [len(" ".join(m["content"] for m in c).split()) for c in conversations]

    fitted = shed_history(scene, "plain", words, limit)
    bare = words([conversation({**scene, "history": ""}, "plain")])[0]
    if fitted is None:
        assert bare > limit
        return
    text, shed = fitted
    assert words([conversation(text, "plain")])[0] <= limit
    assert text["action_list"] == scene["action_list"] and text["profile"] == scene["profile"]
    assert text["history"] == "\n".join(f"h{i}" for i in range(shed, 8))
    if shed:
        longer = {**scene, "history": "\n".join(f"h{i}" for i in range(shed - 1, 8))}
        assert words([conversation(longer, "plain")])[0] > limit


def test_labels_cover_the_longest_list() -> None:
    assert LABELS == string.ascii_uppercase
