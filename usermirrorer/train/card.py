"""The card of a trained model, from its record: the base, the pairs, the run, the exposure probe and the recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from usermirrorer.data.artefacts.card import render_card
from usermirrorer.data.artefacts.store import write_bytes
from usermirrorer.wording import describe_probe


TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"


def write_card(output_dir: str, record: Mapping[str, Any], peft: bool) -> None:
    """Write the model's README.md from its finished record; `peft` if the model is a LoRA adapter."""
    base = record["base"]
    header: dict[str, Any] = {
        "library_name": "peft" if peft else "transformers",
        "tags": ["usermirrorer", "trl", record["method"]],
    }
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not Path(base).exists():
        header["base_model"] = base
    probes = record["data"].get("probe") or {}
    values = {
        **record,
        "name": Path(output_dir).resolve().name,
        "kind": "LoRA adapter" if peft else "model",
        "probes": {domain: describe_probe(found) for domain, found in probes.items()},
        "recipe": yaml.safe_dump(record["recipe"], sort_keys=False, allow_unicode=True),
    }
    write_bytes(Path(output_dir) / "README.md", render_card("model", TEMPLATE, header, values).encode())
