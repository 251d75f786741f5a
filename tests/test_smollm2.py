"""A real small model down the whole path. Without it (`make smollm2`) these tests skip, and say so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_log import write_small_log

from usermirrorer.cli import app
from usermirrorer.llm.engines.transformers import TransformersModel
from usermirrorer.llm.prompts import conversation, opened
from usermirrorer.steps import Sampling


pytestmark = [pytest.mark.engine, pytest.mark.launch]

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
FILMS = {
    "profile": "Age: 31",
    "history": "rated Heat (1995) - Action|Crime, 2 days ago: 5/5\nrated Alien (1979) - Horror, just now: 4/5",
    "action_list": ["Kolya (1996) - Comedy", "Alien 3 (1992) - Action|Horror", "Brazil (1985) - Sci-Fi"],
}


@pytest.fixture(scope="module")
def smollm2() -> str:
    path = Path(os.environ.get("USERMIRRORER_TEST_MODEL", ROOT / "runs" / "models" / "smollm2-135m-instruct"))
    if not (path / "model.safetensors").is_file():
        pytest.skip(f"NO REAL MODEL at {path}: run make smollm2, or set USERMIRRORER_TEST_MODEL to its directory")
    return str(path)


def run(*words: object) -> None:
    app([str(word) for word in words], standalone_mode=False)


def test_a_real_model_goes_down_the_whole_path(smollm2: str, tmp_path: Path) -> None:
    raw, work, model = tmp_path / "raw", tmp_path / "work", f"transformers:{smollm2}"
    raw.mkdir()
    write_small_log(raw)
    recipe = yaml.safe_load((RECIPES / "data" / "ml-100k-smollm2.yaml").read_text())
    recipe["domains"][0]["scenes"] = {"train": 30, "test": 5, "min": 5, "max": 5}
    recipe["weak"] |= {"llm": model, "max_tokens": 6}
    recipe["distill"]["num"] = 10
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run("build", "--config", tmp_path / "recipe.yaml", "--work", work, "--raw", f"ml-100k={raw}", "--quiet")
    run(
        "train", "sft", "--config", RECIPES / "smollm2-135m-instruct" / "sft" / "config_full.yaml",
        "--model_name_or_path", smollm2, "--dataset_name", work / "pairs" / recipe["name"],
        "--output_dir", tmp_path / "sft", "--max_steps", 1, "--per_device_train_batch_size", 1,
        "--gradient_accumulation_steps", 1, "--save_strategy", "no",
    )  # fmt: skip
    record = json.loads((tmp_path / "sft" / "usermirrorer.json").read_text())
    assert record["data"]["evidence"] is True and record["run"]["steps"] == 1
    out, test = tmp_path / "eval", work / "scenes" / "ml-100k" / "test"
    run(
        "eval", "--model", f"base={model}", "--model", f"sft=transformers:{tmp_path / 'sft'}", "--scenes", test,
        "--out", out, "--prompt", "plain", "--repeat", 1, "--max-tokens", 6, "--quiet",
    )  # fmt: skip
    measured = json.loads((out / "metrics.json").read_text())
    assert measured["scenes"]["evidence"] == 5
    assert {name: row["counts"]["full"]["answered"] for name, row in measured["models"].items()} == {
        "base": 5,
        "sft": 5,
    }


def test_its_answers_do_not_depend_on_the_batch(smollm2: str) -> None:
    """In bfloat16, if this processor has it, where the rounding of a sum shows in the text."""
    model = TransformersModel(smollm2)
    prompts = [
        conversation({**FILMS, "history": "\n".join([FILMS["history"]] * times)}, "plain") for times in (1, 2, 3)
    ]
    sampling = Sampling(max_tokens=6)
    together = model.generate(prompts, 2, sampling, [1, 2, 3])
    assert model.generate(prompts[::-1], 2, sampling, [3, 2, 1])[::-1] == together
    assert model.generate(prompts[1:2], 2, sampling, [2]) == together[1:2]
    contexts = [
        opened(prompt, text) for prompt in prompts for text in ("I take Kolya (1996).", "I take Brazil (1985).")
    ]
    labels = [list("ABC")] * len(contexts)
    probs = model.choice_probs(contexts, labels)
    np.testing.assert_array_equal(model.choice_probs(contexts[::-1], labels)[::-1], probs)


def test_an_answer_ends_with_the_turn(smollm2: str) -> None:
    model = TransformersModel(smollm2)
    asked = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    [[answer]] = model.generate([asked], 1, Sampling(temperature=0.0, max_tokens=40), [0])
    assert answer.finish_reason == "stop" and "Paris" in answer.text and "<|im" not in answer.text
