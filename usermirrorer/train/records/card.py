"""The card of a trained model, from its record: the base, the pairs, the run, the exposure probe and the recipe.

`push` adds what an evaluation measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from usermirrorer.data.artefacts.card import render_card
from usermirrorer.data.artefacts.store import write_bytes
from usermirrorer.wording import describe_probe, format_time


TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"


def model_card(name: str, record: Mapping[str, Any], peft: bool, evaluation: Mapping[str, Any] | None = None) -> str:
    """A model's README.md from its finished record; `peft` if the model is a LoRA adapter.

    `evaluation` is what `eval.of_model` says of the model: `scenes`, `asked`, `headings`, `rows`, `remarks`.
    """
    tags = ["usermirrorer", *(["trl", record["method"]] if record.get("method") else [])]
    header: dict[str, Any] = {"library_name": "peft" if peft else "transformers", "tags": tags}
    if base := base_on_the_hub(record):
        header["base_model"] = base
    data = record.get("data") or {}
    windows = {
        domain: ", ".join(f"{split} from {format_time(begin)}" for split, begin in cuts.items())
        for domain, cuts in (data.get("windows") or {}).items()
    }
    values = {
        **record,
        "name": name,
        "kind": "LoRA adapter" if peft else "model",
        "data": data,
        "windows": windows,
        "probes": {domain: describe_probe(found) for domain, found in (data.get("probe") or {}).items()},
        "recipe": yaml.safe_dump(record["recipe"], sort_keys=False, allow_unicode=True) if "recipe" in record else "",
        "evaluation": evaluation,
    }
    return render_card("model", TEMPLATE, header, values)


def write_card(output_dir: str, record: Mapping[str, Any], peft: bool, name: str | None = None) -> None:
    """Write the model's README.md, headed by the directory's name if not by another `name`."""
    text = model_card(name or Path(output_dir).resolve().name, record, peft)
    write_bytes(Path(output_dir) / "README.md", text.encode())


def base_on_the_hub(record: Mapping[str, Any]) -> str | None:
    """The nearest of the models behind this one that is on the Hub; None if all are directories."""
    named = (base for base in reversed(record["bases"]) if re.fullmatch(r"[\w.-]+/[\w.-]+", base))
    return next((base for base in named if not Path(base).exists()), None)
