"""Scripted writers: they read the prompt, only the prompt, and the careful one reads better."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.data.sources import toy
from usermirrorer.errors import UserError
from usermirrorer.llm.injection import as_section
from usermirrorer.llm.prompts import conversation, opened, parse
from usermirrorer.llm.scripted import load_scripted, read_prompt, shared_words
from usermirrorer.steps import Sampling


MOVIES = {
    "profile": "25 years old, programmer",
    "history": "rated Toy Story (1995) - Animation|Comedy, 3 days ago: 4/5\nrated Aladdin (1992) - Animation: 5/5",
    "action_list": ["Casablanca (1942) - Drama|Romance", "The Lion King (1994) - Animation\nnew", "Heat - Crime"],
}
characters = st.characters(categories=("L", "N"), include_characters=" -'|[]():")
words = st.text(alphabet=characters, min_size=1).map(str.strip).filter(bool)


def decide(name, text, seed=0, n=1, instruction="plain"):
    [outputs] = load_scripted(name).generate([conversation(text, instruction)], n, Sampling(), [seed])
    return outputs


def toy_scenes(count, seed=0):
    """(text, probability of every option under the law, given the taste)."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        taste = rng.choice(toy.TASTES)
        history = []
        for _ in range(rng.integers(3, 9)):
            shown = rng.permutation(toy.TASTES)[: toy.LIST_LENGTH]
            history.append(rng.choice(shown, p=toy.best_given_taste(taste, shown)))
        options = list(rng.permutation(toy.TASTES)[: toy.LIST_LENGTH])
        text = {
            "profile": "",
            "history": "\n".join(f"chose {chosen} {rng.choice(toy.THINGS)}" for chosen in history),
            "action_list": [f"{option} {rng.choice(toy.THINGS)}" for option in options],
        }
        yield text, toy.best_given_taste(taste, options)


def test_reader_is_far_better_than_noisy_and_noisy_better_than_chance():
    hits = {"reader": [], "noisy": []}
    for number, (text, law) in enumerate(toy_scenes(300)):
        for name, seen in hits.items():
            seen += [law[parse(output.text, 5)[1]] for output in decide(name, text, seed=number, n=4)]
    reader, noisy = np.mean(hits["reader"]), np.mean(hits["noisy"])
    assert reader > noisy + 0.15 and noisy > 0.25


def test_a_decision_names_the_word_the_title_and_the_label():
    outputs = {output.text for output in decide("reader", MOVIES, n=20)}
    assert "I like Animation. I take The Lion King (1994).\nBehavior: [B]" in outputs


def test_without_a_shared_word_it_says_so():
    for output in decide("reader", {**MOVIES, "history": ""}, n=5):
        assert output.text.startswith("Nothing stands out. I take ")


def test_ekb_instruction_gives_its_eight_lines():
    [output] = decide("noisy", MOVIES, instruction="ekb")
    names = [each.split(":")[0] for each in output.text.split("\n")]
    assert names == [
        *("Thought", "Stimulus", "Stimulus Factors", "Knowledge", "Knowledge Factors"),
        *("Evaluation", "Evaluation Style", "Behavior"),
    ]
    assert parse(output.text, 3)[1] is not None


def test_words_common_in_the_history_that_tell_options_apart_count():
    weights = shared_words(["sour tea", "sour pie", "hot tea"], ["sour cake", "hot cake", "sour pie", "flat cake"])
    assert weights[0]["sour"] == pytest.approx(2 / 3 * np.log(2)) and weights[3] == {}
    everywhere = shared_words(["sour tea"], ["sour cake", "sour pie"])
    assert everywhere == [{}, {}]


@given(st.lists(words, max_size=5), st.lists(words, min_size=2, max_size=12), st.integers(0, 2**63 - 1))
def test_output_depends_on_prompt_and_own_seed_alone(history, options, seed):
    text = {"profile": "", "history": "\n".join(history), "action_list": options}
    prompt = conversation(text, "plain")
    other = conversation(MOVIES, "plain")
    writer = load_scripted("reader")
    alone = writer.generate([prompt], 3, Sampling(), [seed])[0]
    assert writer.generate([other, prompt, other], 3, Sampling(), [1, seed, 2])[1] == alone
    for output in alone:
        decision, behavior = parse(output.text, len(options))
        assert behavior is not None and decision and output.finish_reason == "stop"


@given(st.lists(words, max_size=5), st.lists(words, min_size=2, max_size=26))
def test_a_prompt_is_read_back(history, options):
    text = {"profile": "someone", "history": "\n".join(history), "action_list": options}
    assert read_prompt(conversation(text, "plain")) == ([as_section(entry) for entry in history], options)


def test_blank_lines_between_entries_are_read_back_and_options_are_one_line_each():
    text = {**MOVIES, "history": "rated a\nb\n\nrated c"}
    options = [option.replace("\n", " ") for option in MOVIES["action_list"]]
    assert read_prompt(conversation(text, "ekb")) == (["rated a\nb", "rated c"], options)


def test_as_a_predictor_it_reads_which_option_a_decision_names():
    writer, scene = load_scripted("reader"), conversation(MOVIES, "plain")
    options = [option.split(" - ")[0] for option in MOVIES["action_list"]]
    said = ["", f"{options[0]} is fine. I take {options[2]}.", f"I take {options[1]}."]
    none, last, second = writer.choice_probs([opened(scene, text) for text in said], [["A", "B", "C"]] * 3)
    np.testing.assert_allclose(none, 1 / 3)
    np.testing.assert_allclose(last, [0.05, 0.05, 0.9])
    np.testing.assert_allclose(second, [0.05, 0.9, 0.05])
    # A title that begins another one is not that one.
    alike = conversation({"profile": "", "history": "", "action_list": ["Alien", "Alien 3 - Horror", "Heat"]}, "plain")
    for taken, expected in (("Alien 3", 1), ("Alien", 0)):
        [probs] = writer.choice_probs([opened(alike, f"I take {taken}.")], [["A", "B", "C"]])
        assert probs.argmax() == expected


def test_it_has_no_embeddings_and_says_so():
    writer = load_scripted("noisy")
    with pytest.raises(UserError, match="embedder"):
        writer.embed(["x"])
    assert writer.count_tokens([[{"role": "user", "content": "three short words"}]]) == [3]


def test_an_unknown_name_and_a_foreign_prompt_are_refused():
    with pytest.raises(UserError, match="one of reader, noisy, neighbours; did you mean reader"):
        load_scripted("raeder")
    with pytest.raises(UserError, match="Exposure List"):
        load_scripted("reader").generate([[{"role": "user", "content": "hello"}]], 1, Sampling(), [0])
