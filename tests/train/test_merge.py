"""`merge`: a whole model that answers as the adapter does, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adapters import write_adapter
from safetensors.torch import load_file, save_file

from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.engines.transformers import TransformersModel
from usermirrorer.llm.prompts import conversation, opened
from usermirrorer.steps import EngineSettings
from usermirrorer.train.weights import merge as merging
from usermirrorer.train.weights.merge import merge


SCENE = {"profile": "", "history": "chose tea", "action_list": ["milk", "pie", "tea"]}


@pytest.fixture
def record(tiny: Path, pairs: Path) -> dict:
    return {
        "prompt": "plain", "method": "sft", "base": str(tiny), "bases": ["Qwen/Qwen2.5-0.5B-Instruct", str(tiny)],
        "data": {"path": str(pairs), "fingerprint": "f", "rows": 12, "kept": 12, "dropped": {}},
        "recipe": {"learning_rate": 0.1}, "git_revision": None, "versions": {"torch": "2"},
    }  # fmt: skip


@pytest.fixture
def adapter(tiny: Path, record: dict, tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", tiny, record=record)


def test_a_merged_model_answers_as_its_adapter_does(adapter: Path, tiny: Path, tmp_path: Path) -> None:
    record = merge(str(adapter), tmp_path / "merged")
    context = [opened(conversation(SCENE, "plain"), "I like tea.")]
    probs = [
        TransformersModel(str(path), EngineSettings(dtype="float32")).choice_probs(context, [list("ABC")])[0]
        for path in (tmp_path / "merged", adapter, tiny)
    ]
    assert probs[0] == pytest.approx(probs[1], abs=0.004)
    assert abs(probs[0] - probs[2]).max() > 0.02
    assert record["merge"]["from_data"] and record["merge"]["prompts"] == 8
    assert record["merge"]["largest_difference"] < record["merge"]["tolerance"] < record["merge"]["adapter_moves"]


def test_it_has_all_that_a_server_reads(adapter: Path, record: dict, tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "merged"
    merge(str(adapter), out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert (out / "chat_template.jinja").read_text() == AutoTokenizer.from_pretrained(tiny).chat_template
    model = AutoModelForCausalLM.from_pretrained(out)
    assert str(model.dtype) == "torch.bfloat16" and model.config.use_cache
    assert model.generation_config.eos_token_id == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert not (out / "adapter_config.json").exists()
    kept = json.loads((out / "usermirrorer.json").read_text())
    assert kept["bases"] == [*record["bases"], str(adapter)] and kept["base"] == record["base"]
    assert kept["recipe"] == record["recipe"] and kept["merge"]["dtype"] == "bfloat16"
    card = (out / "README.md").read_text()
    assert "base_model: Qwen/Qwen2.5-0.5B-Instruct" in card and "library_name: transformers" in card
    assert card.startswith("---\n") and "\n# merged\n" in card and f"{adapter} → this model" in card
    assert "learning_rate: 0.1" in card and "no logit is further than" in card


def test_the_same_merge_again_is_done_and_another_is_refused(adapter: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    first = merge(str(adapter), out)
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert merge(str(adapter), out) == {key: value for key, value in first.items() if key != "digest"}
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    other = write_adapter(tmp_path / "other", tiny, strength=0.2)
    with pytest.raises(UserError, match="holds something other than this merge"):
        merge(str(other), out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="something other"):
        merge(str(adapter), tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


def test_what_answers_differently_is_not_kept(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge at half the adapter's strength, as a wrong scaling would make it."""
    from peft.tuners.lora import LoraModel

    whole = LoraModel.merge_and_unload

    def halved(model: LoraModel) -> object:
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data /= 2
        return whole(model)

    monkeypatch.setattr(LoraModel, "merge_and_unload", halved)
    out = tmp_path / "merged"
    out.mkdir()
    with pytest.raises(StepFailed, match="logits differ by up to .*; nothing was kept"):
        merge(str(adapter), out)
    assert list(out.iterdir()) == [] and not [path for path in tmp_path.iterdir() if "merging" in path.name]


def test_weights_that_are_no_numbers_are_not_kept(adapter: Path, tmp_path: Path) -> None:
    weights = load_file(adapter / merging.WEIGHTS)
    name = next(name for name in weights if "lora_B" in name)
    weights[name][0] = float("nan")
    save_file(weights, adapter / merging.WEIGHTS)
    with pytest.raises(StepFailed, match="nothing was kept"):
        merge(str(adapter), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_an_adapter_without_a_record_is_merged_on_fixed_prompts(tiny: Path, tmp_path: Path, capsys) -> None:
    weak = write_adapter(tmp_path / "weak", tiny, strength=1e-6)
    record = merge(str(weak), tmp_path / "merged")
    assert not record["merge"]["from_data"] and record["bases"] == [str(tiny), str(weak)]
    assert "merged by `usermirrorer`" in (tmp_path / "merged" / "README.md").read_text()
    said = " ".join(capsys.readouterr().out.split())
    assert "WARNING: the adapter moves logits" in said and "evaluate the merged model itself" in said


def edited(adapter: Path, **changes: object) -> None:
    path = adapter / merging.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_cannot_be_merged_is_one_sentence(adapter: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"

    def refusal(path: Path = adapter) -> str:
        with pytest.raises(UserError) as error:
            merge(str(path), out)
        return str(error.value)

    assert "is not a LoRA adapter" in refusal(tiny)
    assert "There is no model at" in refusal(tmp_path / "nowhere")
    edited(adapter, base_model_name_or_path=str(tmp_path / "gone"))
    assert "There is no model at" in refusal() and "gone" in refusal()
    edited(adapter, base_model_name_or_path=str(write_adapter(tmp_path / "first", tiny)))
    assert "is an adapter itself; merge that one first" in refusal()
    edited(adapter, base_model_name_or_path=str(tiny), peft_type="IA3")
    assert "kind IA3" in refusal()
    edited(adapter, peft_type="LORA", r=8)
    assert "does not fit its base" in refusal()
    edited(adapter, r=4)
    (adapter / merging.WEIGHTS).rename(adapter / "gone")
    assert f"holds no {merging.WEIGHTS}" in refusal()
    assert not out.exists()


def test_a_quantized_base_is_refused(adapter: Path, tiny: Path, tmp_path: Path) -> None:
    quantized = tmp_path / "quantized"
    quantized.mkdir()
    config = json.loads((tiny / "config.json").read_text())
    quantized_as = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (quantized / "config.json").write_text(json.dumps(config | {"quantization_config": quantized_as}))
    edited(adapter, base_model_name_or_path=str(quantized))
    with pytest.raises(UserError, match="is quantized"):
        merge(str(adapter), tmp_path / "merged")
