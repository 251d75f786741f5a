"""The real engine: samples depend on the seed alone, and probabilities are the model's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from usermirrorer.errors import UserError
from usermirrorer.llm import load_model
from usermirrorer.llm.engines.vllm import VLLMModel
from usermirrorer.llm.paths import model_path
from usermirrorer.llm.prompts import LABELS, conversation, opened
from usermirrorer.llm.protocol import Conversation
from usermirrorer.steps import Sampling


SAMPLING = Sampling(max_tokens=12)


def scene(number: int, options: int = 5) -> Conversation:
    tastes = ["sweet", "sour", "salty", "bitter", "hot", "mild"]
    history = f"chose {tastes[number % 6]} cake"
    lines = [f"{tastes[(number + i) % 6]} tea {i}" for i in range(options)]
    return conversation({"profile": "", "history": history, "action_list": lines}, "plain")


def decided(number: int, options: int = 5) -> Conversation:
    return opened(scene(number, options), "I take tea.")


def test_answers_depend_on_the_seed_and_not_on_the_batch(engine: VLLMModel) -> None:
    conversations = [scene(i) for i in range(12)]
    seeds = list(range(100, 112))
    together = engine.generate(conversations, 3, SAMPLING, seeds)
    backwards = engine.generate(conversations[::-1], 3, SAMPLING, seeds[::-1])[::-1]
    alone = [engine.generate([c], 3, SAMPLING, [s])[0] for c, s in zip(conversations[:4], seeds[:4], strict=True)]
    assert together == backwards
    assert together[:4] == alone
    assert engine.generate(conversations, 3, SAMPLING, [s + 1 for s in seeds]) != together
    assert all(len(row) == 3 for row in together)
    assert {output.finish_reason for row in together for output in row} <= {"stop", "length"}


def test_probabilities_do_not_depend_on_the_batch(engine: VLLMModel) -> None:
    conversations = [decided(i, 2 + i % 5) for i in range(20)]
    labels = [list(LABELS[: 2 + i % 5]) for i in range(20)]
    together = engine.choice_probs(conversations, labels)
    backwards = engine.choice_probs(conversations[::-1], labels[::-1])[::-1]
    for number, (one, other) in enumerate(zip(together, backwards, strict=True)):
        assert one.shape == (2 + number % 5,)
        assert one.sum() == pytest.approx(1, abs=1e-9)
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(engine.choice_probs(conversations[7:8], labels[7:8])[0], together[7])


def test_probabilities_are_those_of_the_model(engine: VLLMModel, model_dir: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    conversations = [decided(i) for i in range(8)]
    probs = engine.choice_probs(conversations, [list("ABCDE")] * 8)
    for messages, row in zip(conversations, probs, strict=True):
        text = tokenizer.apply_chat_template(messages, tokenize=False, continue_final_message=True)
        assert text.endswith("Behavior: [")
        tokens = tokenizer(text + "A", add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(tokens).logits[0, -2].double()
        letters = [tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "ABCDE"]
        np.testing.assert_allclose(row, logits[letters].softmax(0).numpy(), atol=1e-3)
    assert len({tuple(row) for row in probs}) > 1


def test_all_26_labels_come_back(engine: VLLMModel) -> None:
    """More than vLLM's default limit of 20."""
    [probs] = engine.choice_probs([decided(0, 26)], [list(LABELS)])
    assert probs.shape == (26,)
    assert (probs > 0).all()


def test_greedy_answers_are_the_same_text_n_times(engine: VLLMModel) -> None:
    [answers] = engine.generate([scene(1)], 3, Sampling(temperature=0.0, max_tokens=6), [5])
    assert len(answers) == 3
    assert len({answer.text for answer in answers}) == 1


def test_lengths_are_those_of_the_template(engine: VLLMModel) -> None:
    prompt, continued = engine.count_tokens([scene(0), decided(0)])
    content = engine.tokenizer("I take tea.\nBehavior: [", add_special_tokens=False)["input_ids"]
    assert continued == prompt + len(content)


def test_too_long_a_conversation_is_refused_by_index_and_length(engine: VLLMModel) -> None:
    long = conversation({"profile": "", "history": "hot tea\n" * 9000, "action_list": ["a", "b"]}, "plain")
    [length] = engine.count_tokens([long])
    with pytest.raises(UserError, match=f"Conversation 1 has {length} tokens"):
        engine.generate([scene(0), long], 1, SAMPLING, [1, 2])
    with pytest.raises(UserError, match="Conversation 0 has"):
        engine.choice_probs([opened(long, "x")], [["A", "B"]])


def test_an_answer_is_cut_to_what_the_length_leaves(engine: VLLMModel) -> None:
    [[answer]] = engine.generate([scene(0)], 1, Sampling(max_tokens=10**6), [3])
    tokens = engine.tokenizer(answer.text, add_special_tokens=False)["input_ids"]
    assert answer.finish_reason == "stop" or len(tokens) > engine.max_length / 4


@pytest.mark.parametrize(("merge", "label"), [("[C", "C"), ("D]", "D")])
@pytest.mark.engine
def test_a_label_that_is_not_a_token_of_its_own_is_named(
    make_model: Callable[..., str], tmp_path: Path, merge: str, label: str
) -> None:
    """`[C` leaves no token for C after the bracket; with `D]`, training sees another token than scoring."""
    from transformers import PreTrainedTokenizerFast

    model = VLLMModel(make_model(tmp_path, merges=(merge,)))
    # As saved: AutoTokenizer would give every Qwen2 that family's own splitting, under which neither can merge.
    model.tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"label '{label}'") as error:
        model.choice_probs([decided(0)], [list("ABCDE")])
    assert str(tmp_path) in str(error.value)


def test_an_adapter_and_another_model_in_the_same_process(engine: VLLMModel, model_dir: str, tmp_path: Path) -> None:
    """Engines in turn. An adapter changes its base's probabilities; the base itself still has the same afterwards."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    conversations, labels = [decided(i) for i in range(3)], [list("ABCDE")] * 3
    before = engine.choice_probs(conversations, labels)
    torch.manual_seed(1)
    lora = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32), lora)
    adapted.save_pretrained(tmp_path / "adapter")
    assert (
        json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == model_dir
    )
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    engine.tokenizer.save_pretrained(tmp_path / "merged")

    with_adapter = VLLMModel(str(tmp_path / "adapter")).choice_probs(conversations, labels)
    merged = VLLMModel(str(tmp_path / "merged")).choice_probs(conversations, labels)
    np.testing.assert_allclose(with_adapter, merged, atol=1e-3)
    assert not np.allclose(with_adapter, before, atol=1e-2)
    np.testing.assert_array_equal(engine.choice_probs(conversations, labels), before)


def test_embeddings_have_unit_length_and_tell_texts_apart(engine: VLLMModel) -> None:
    texts = ["sweet cake", "sour tea", "sweet cake"]
    vectors = engine.embed(texts)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)
    assert vectors[0] @ vectors[1] < 0.9999


@pytest.mark.parametrize("spec", ["tiny-base", "gpt:x", "vllm:", ""])
def test_the_refusal_of_a_bad_spec_names_the_forms(spec: str) -> None:
    with pytest.raises(UserError, match="vllm:MODEL, transformers:MODEL, openai:MODEL or scripted:NAME"):
        load_model(spec)


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model at"):
        model_path(str(tmp_path / "missing"))
    assert model_path(str(tmp_path)) == str(tmp_path)
    assert model_path("Qwen/Qwen2.5-3B-Instruct") == "Qwen/Qwen2.5-3B-Instruct"


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a model that can be loaded"):
        load_model(f"vllm:{tmp_path}").count_tokens([scene(0)])


@pytest.mark.engine
def test_an_engine_closes_and_starts_again_after_a_training_destroyed_the_process_groups(model_dir: str) -> None:
    code = (
        "import sys, torch.distributed\n"
        "from usermirrorer.llm.engines.engine import close\n"
        "from usermirrorer.llm.engines.vllm import VLLMModel\n"
        "model = VLLMModel(sys.argv[1])\n"
        "score = lambda: model.choice_probs([[{'role': 'user', 'content': 'x'}, "
        "{'role': 'assistant', 'content': 'Behavior: ['}]], [['A', 'B']])[0].tolist()\n"
        "before = score()\n"
        "torch.distributed.destroy_process_group()\n"
        "close()\n"
        "assert score() == before\n"
        "close()\n"
        "print('closed')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, model_dir], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.strip().endswith("closed"), done.stderr[-2000:]
