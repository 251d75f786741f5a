"""What a training or a merge leaves is served as it was trained, and can be trained further."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_training import LORA, same, train, weights

from usermirrorer.errors import UserError
from usermirrorer.llm.engines.local import adapter_base
from usermirrorer.train.weights.merge import merge


pytestmark = pytest.mark.launch

OF_THE_BASE = {
    "do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05,
    "max_new_tokens": 7,
}  # fmt: skip


@pytest.fixture
def sharp(tiny: Path, tmp_path: Path) -> Path:
    """A base whose generation settings sharpen it, as those of published chat models do."""
    from transformers import AutoTokenizer

    base = Path(shutil.copytree(tiny, tmp_path / "sharp"))
    ids = AutoTokenizer.from_pretrained(tiny).convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    (base / "generation_config.json").write_text(json.dumps({**OF_THE_BASE, "eos_token_id": ids}))
    return base


@pytest.mark.parametrize("kind", ["full", "adapter", "merged"])
def test_stop_tokens_and_template_are_saved_and_sampling_is_left_alone(
    kind: str, settings: dict, sharp: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    out = train("sft", tmp_path, {**settings, "model_name_or_path": str(sharp), **({} if kind == "full" else LORA)})
    if kind == "merged":
        merge(str(out), tmp_path / "merged")
        out = tmp_path / "merged"
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert (out / "chat_template.jinja").read_text() == AutoTokenizer.from_pretrained(sharp).chat_template
    saved = json.loads((out / "generation_config.json").read_text())
    saved.pop("transformers_version")
    end, text_end = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert saved == {
        "eos_token_id": [end, text_end], "pad_token_id": text_end,
        "do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0,
    }  # fmt: skip


def test_a_chain_of_adapters_is_merged_and_trained_further(settings: dict, tiny: Path, tmp_path: Path) -> None:
    """SFT writes an adapter, DPO continues it, both become one model, and a new adapter starts from that."""
    sft = train("sft", tmp_path, {**settings, **LORA, "output_dir": str(tmp_path / "sft")})
    dpo = {**settings, "precompute_ref_log_probs": True}
    with pytest.raises(UserError, match=rf"merge it into its base with `usermirrorer merge {sft} --out DIR`"):
        train("dpo", tmp_path, {**dpo, "model_name_or_path": str(sft)})
    shutil.rmtree(dpo["output_dir"])
    chain = train("dpo", tmp_path, {**dpo, "model_name_or_path": str(sft), "use_peft": True})
    record = merge(str(chain), tmp_path / "merged")
    assert record["bases"] == [str(tiny), str(sft), str(chain)] and record["method"] == "dpo"
    assert record["merge"]["base"] == str(tiny) and record["merge"]["from_data"]
    assert not same(weights(tmp_path / "merged"), weights(tiny))
    more = {**dpo, **LORA, "model_name_or_path": str(tmp_path / "merged"), "output_dir": str(tmp_path / "more")}
    last = train("dpo", tmp_path, more)
    record = json.loads((last / "usermirrorer.json").read_text())
    assert record["bases"] == [str(tiny), str(sft), str(chain), str(tmp_path / "merged")]
    assert adapter_base(str(last)) == str(tmp_path / "merged")
