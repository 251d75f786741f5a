"""The transformers backend: the same answers as vLLM's, whatever else is in the batch, and without vLLM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_vllm import SAMPLING, decided, scene

from usermirrorer.errors import UserError
from usermirrorer.llm.engines.transformers import TransformersModel, cpu_dtype, has_bfloat16
from usermirrorer.llm.engines.vllm import VLLMModel
from usermirrorer.llm.prompts import LABELS, conversation, opened
from usermirrorer.steps import Sampling


pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def local(model_dir: str) -> TransformersModel:
    return TransformersModel(model_dir)


def test_probabilities_and_vectors_are_those_of_vllm(local: TransformersModel, engine: VLLMModel) -> None:
    conversations = [decided(i, 2 + i % 9) for i in range(20)]
    labels = [list(LABELS[: 2 + i % 9]) for i in range(20)]
    pairs = zip(local.choice_probs(conversations, labels), engine.choice_probs(conversations, labels), strict=True)
    for ours, theirs in pairs:
        assert ours.sum() == pytest.approx(1, abs=1e-9)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert local.count_tokens(conversations) == engine.count_tokens(conversations)
    texts = ["sweet tea", "sour tea with cake", "hot"]
    np.testing.assert_allclose(local.embed(texts), engine.embed(texts), atol=1e-4)
    # A title is no control token where it is embedded, either.
    for model in (local, engine):
        forged, plain = model.embed(["cake <|end|> pie", "cake < |end|> pie"])
        np.testing.assert_allclose(forged, plain, atol=1e-6)


def test_greedy_answers_are_those_of_vllm(local: TransformersModel, engine: VLLMModel) -> None:
    greedy = Sampling(temperature=0.0, max_tokens=12)
    conversations = [scene(i) for i in range(6)]
    ours, theirs = (model.generate(conversations, 1, greedy, list(range(6))) for model in (local, engine))
    assert ours == theirs


def test_answers_depend_on_the_seed_and_not_on_the_batch(local: TransformersModel) -> None:
    conversations = [scene(i) for i in range(8)]
    seeds = list(range(100, 108))
    together = local.generate(conversations, 3, SAMPLING, seeds)
    assert local.generate(conversations[::-1], 3, SAMPLING, seeds[::-1])[::-1] == together
    assert [local.generate([c], 3, SAMPLING, [s])[0] for c, s in zip(conversations[:2], seeds[:2], strict=True)] == (
        together[:2]
    )
    assert local.generate(conversations[:4], 3, SAMPLING, [s + 1 for s in seeds[:4]]) != together[:4]
    # A scene's first answers are the same however many are asked for.
    assert [row[:2] for row in together] == local.generate(conversations, 2, SAMPLING, seeds)


def test_probabilities_do_not_depend_on_the_batch(local: TransformersModel) -> None:
    conversations = [decided(i // 2, 5) for i in range(12)]
    together = local.choice_probs(conversations, [list("ABCDE")] * 12)
    backwards = local.choice_probs(conversations[::-1], [list("ABCDE")] * 12)[::-1]
    np.testing.assert_array_equal(together, backwards)
    np.testing.assert_array_equal(local.choice_probs(conversations[7:8], [list("ABCDE")])[0], together[7])


def test_samples_follow_the_model(local: TransformersModel) -> None:
    """The share of first tokens that are one token comes near its probability, and no token is outside the nucleus."""
    import torch

    from usermirrorer.llm.engines.decoding import read

    prompt = scene(2)
    answers = local.generate([prompt], 400, Sampling(max_tokens=1), [7])[0]
    wide = local.generate([prompt], 400, Sampling(max_tokens=1, top_p=1.0), [7])[0]
    with torch.inference_mode():
        logits, _ = read(local._model("causal"), local.tokens([prompt])[0])
    probs = logits.softmax(0).numpy()
    likeliest = int(probs.argmax())
    text = local.tokenizer.decode([likeliest], skip_special_tokens=True)
    order = np.argsort(-probs)
    nucleus = order[: int(np.searchsorted(np.cumsum(probs[order]), 0.9)) + 1]
    allowed = {local.tokenizer.decode([token], skip_special_tokens=True) for token in nucleus.tolist()}
    assert {answer.text for answer in answers} <= allowed
    share = np.mean([answer.text == text for answer in wide])
    expected = float(probs[likeliest])
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 400) ** 0.5)


def test_an_adapter_answers_unlike_its_base(model_dir: str, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model_dir)
    adapter = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapter.peft_config["default"].base_model_name_or_path = model_dir
    adapter.save_pretrained(tmp_path)
    labels = [list("ABCDE")] * 3
    conversations = [decided(i) for i in range(3)]
    with_adapter = TransformersModel(str(tmp_path)).choice_probs(conversations, labels)
    without = TransformersModel(model_dir).choice_probs(conversations, labels)
    assert np.abs(np.array(with_adapter) - np.array(without)).max() > 1e-3
    assert TransformersModel(str(tmp_path)).max_length == TransformersModel(model_dir).max_length


def test_too_long_a_conversation_is_refused(local: TransformersModel) -> None:
    long = conversation({"profile": "", "history": "hot tea\n" * 9000, "action_list": ["a", "b"]}, "plain")
    with pytest.raises(UserError, match="Conversation 1 has"):
        local.generate([scene(0), long], 1, SAMPLING, [1, 2])
    with pytest.raises(UserError, match="Conversation 0 has"):
        local.choice_probs([opened(long, "x")], [["A", "B"]])


def test_weights_keep_their_precision_where_the_processor_has_it(model_dir: str) -> None:
    assert cpu_dtype(model_dir) == "float32"
    assert isinstance(has_bfloat16(), bool)


def test_without_vllm_a_model_runs_under_transformers_and_one_line_says_so(model_dir: str) -> None:
    program = (
        "import sys; sys.modules['vllm'] = None\n"
        "import importlib.util as util; found = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'vllm' else found(name, *rest)\n"
        "from usermirrorer.llm import load_model\n"
        f"a, b = load_model('vllm:{model_dir}'), load_model('vllm:tiny-base')\n"
        "print(a.name, type(b).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"transformers:{model_dir} TransformersModel\n"
    assert done.stderr == "vLLM is not installed: models run under transformers\n"
