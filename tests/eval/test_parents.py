"""Which evaluated model another was trained from."""

from __future__ import annotations

import json

from usermirrorer.eval.parents import bases_of, parents


def test_the_nearest_evaluated_model_is_the_parent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, bases in (("sft", ["tiny-base"]), ("dpo", ["tiny-base", "models/sft"])):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "usermirrorer.json").write_text(json.dumps({"bases": bases}))
    specs = {"dpo": f"vllm:{tmp_path}/models/dpo", "sft": "vllm:models/sft", "base": "vllm:tiny-base"}
    bases = {name: bases_of(spec) for name, spec in specs.items()}
    assert bases == {"dpo": ["tiny-base", "models/sft"], "sft": ["tiny-base"], "base": []}
    assert parents(specs, bases) == {"dpo": "sft", "sft": "base"}
    assert parents({name: specs[name] for name in ("dpo", "base")}, bases) == {"dpo": "base"}
    hub = {"a": "vllm:owner/tuned", "b": "vllm:owner/base"}
    assert parents(hub, {"a": ["owner/base"], "b": []}) == {"a": "b"}


def test_models_that_were_moved_since_keep_their_parents():
    specs = {"sft": "vllm:runs/gone/models/sft", "dpo": "transformers:runs/gone/models/dpo"}
    assert parents(specs, {"sft": ["tiny-base"], "dpo": ["tiny-base", "runs/gone/models/sft"]}) == {"dpo": "sft"}
