"""The tiny base: a reader that knows nobody's taste."""

from collections import Counter

import numpy as np
import pytest

from usermirrorer.data.sources import toy
from usermirrorer.llm.paths import model_path
from usermirrorer.llm.prompts import INSTRUCTIONS, LABELS, answered, conversation, history_entries, opened
from usermirrorer.train.pretrain import build_model, build_tokenizer, lesson


SCENE = {"profile": "", "history": "chose sweet cake\nchose sour tea", "action_list": ["salty soup", "sweet pie"]}


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_path("tiny-base"))


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_path("tiny-base")).eval()


def label_probs(model, tokenizer, conversations, options):
    """Probability of every label after an open assistant turn, `(conversations, options)`."""
    import torch

    texts = tokenizer.apply_chat_template(conversations, continue_final_message=True, tokenize=False)
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    labels = tokenizer.convert_tokens_to_ids(list(LABELS[:options]))
    with torch.no_grad():
        return model(**inputs).logits[:, -1, labels].softmax(-1).numpy()


def random_scenes(count, seed=0):
    """(scene, position, tastes): toy scenes of users with a taste, with the choice that they made."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        taste = rng.choice(toy.TASTES)
        lists = [rng.permutation(toy.TASTES)[: toy.LIST_LENGTH] for _ in range(7)]
        picks = [rng.choice(toy.LIST_LENGTH, p=toy.best_given_taste(taste, shown)) for shown in lists]
        chosen = [f"chose {shown[pick]} {rng.choice(toy.THINGS)}" for shown, pick in zip(lists, picks, strict=True)]
        options = [f"{option} {rng.choice(toy.THINGS)}" for option in lists[-1]]
        yield {"profile": "", "history": "\n".join(chosen[:-1]), "action_list": options}, picks[-1]


def test_every_label_is_one_token_of_its_own_after_the_bracket(tokenizer):
    tokens = [tokenizer.tokenize(f"Behavior: [{label}]")[-3:] for label in LABELS]
    assert tokens == [["[", label, "]"] for label in LABELS]


def test_the_package_holds_what_the_script_builds(tokenizer, model):
    rebuilt = build_tokenizer()
    assert rebuilt.get_vocab() == tokenizer.get_vocab() and len(tokenizer) <= 1500
    assert rebuilt.chat_template == tokenizer.chat_template
    shapes = {name: tensor.shape for name, tensor in build_model(rebuilt).state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("text", ["Amélie (2001) – Comedy|Romance\n\n[Z] 4/5", INSTRUCTIONS["ekb"]])
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_prompt_is_a_prefix_and_the_answer_ends_the_turn(tokenizer):
    prompt = conversation(SCENE, "plain")
    question = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    answer = {"role": "assistant", "content": answered("I like sweet. I take sweet pie.", 1)}
    whole = tokenizer.apply_chat_template([*prompt, answer], return_dict=False)
    begun = tokenizer.apply_chat_template(
        opened(prompt, "I like sweet. I take sweet pie."), continue_final_message=True, return_dict=False
    )
    assert whole[: len(question)] == question and whole[: len(begun)] == begun
    assert whole[-1] == tokenizer.eos_token_id and tokenizer.decode(whole[len(begun) : -1]) == "B]"
    assert len(question) <= 80


def test_lessons_never_link_a_decision_to_the_history():
    rng = np.random.default_rng(0)
    followed = []
    for _ in range(4000):
        messages = lesson(rng, turns=1)
        shown, _, offered = messages[1]["content"].removeprefix("## History\n").partition("# Exposure List\n")
        tastes = Counter(entry.split()[1] for entry in history_entries(shown.strip()) if entry)
        options = [line.split()[1] for line in offered.split("\n")]
        if not tastes or not set(toy.TASTES) >= {*tastes, *options} or len(options) != 5 or len(set(options)) != 5:
            continue
        favourite = tastes.most_common(1)[0][0]
        if favourite in options:
            followed.append(LABELS.index(messages[-1]["content"][-2]) == options.index(favourite))
    assert len(followed) > 1000 and np.mean(followed) == pytest.approx(0.2, abs=0.035)


@pytest.mark.engine
def test_base_finds_the_label_behind_a_statement(model, tokenizer):
    scenes = list(random_scenes(200))
    picks = np.random.default_rng(1).integers(5, size=len(scenes))
    decided = [
        opened(conversation(text, "plain"), f"I like {title.split()[0]}. I take {title}.")
        for (text, _), pick in zip(scenes, picks, strict=True)
        for title in [text["action_list"][pick]]
    ]
    probs = label_probs(model, tokenizer, decided, 5)
    assert (probs.argmax(axis=1) == picks).mean() > 0.95


@pytest.mark.engine
def test_base_knows_nobodys_taste(model, tokenizer):
    """Its own first words name the taste that was really chosen with the probability of chance."""
    import torch

    scenes = list(random_scenes(400, seed=2))
    texts = [[*conversation(text, "plain"), {"role": "assistant", "content": "I like"}] for text, _ in scenes]
    inputs = tokenizer(
        tokenizer.apply_chat_template(texts, continue_final_message=True, tokenize=False),
        return_tensors="pt",
        padding=True,
        padding_side="left",
        add_special_tokens=False,
    )
    with torch.no_grad():
        probs = model(**inputs).logits[:, -1].softmax(-1).numpy()
    tastes = [[tokenizer.convert_tokens_to_ids("Ġ" + o.split()[0]) for o in text["action_list"]] for text, _ in scenes]
    chosen = [row[ids[pick]] / row[ids].sum() for row, ids, (_, pick) in zip(probs, tastes, scenes, strict=True)]
    assert np.mean(chosen) == pytest.approx(0.2, abs=0.03)
