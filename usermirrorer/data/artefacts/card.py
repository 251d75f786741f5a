"""Cards: a directory's README.md, rendered from a Jinja2 template under the YAML header that the Hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal


STEP_CARD = Path(__file__).parent / "templates" / "step_card.md.j2"


def render_card(
    kind: Literal["dataset", "model"], template: Path, header: Mapping[str, Any], values: Mapping[str, Any]
) -> str:
    """The template filled in with `values`, `cell` and `code_block`, under the YAML `header`; asks no server."""
    from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData

    text = template.read_text(encoding="utf-8")
    values = {**values, "cell": cell, "code_block": code_block}
    if kind == "dataset":
        card = DatasetCard.from_template(DatasetCardData(**header), template_str=text, **values)
    else:
        card = ModelCard.from_template(ModelCardData(**header), template_str=text, **values)
    return f"{card}".rstrip() + "\n"


def step_card(directory: Path, content: Mapping[str, Any]) -> str:
    """The card of a step's directory, which `datasets` reads beside the shards: the manifest's `content`."""
    name = f"{directory.parent.name}/{directory.name}"
    blocks = {
        title: json.dumps(block, indent=1, ensure_ascii=False)
        for title, block in content.items()
        if title not in ("finished", "files")
    }
    step, files = content["recipe"].get("step", "output"), len(content["files"])
    values = {"name": name, "step": step, "blocks": blocks, "files": files}
    return render_card("dataset", STEP_CARD, {"pretty_name": name}, values)


def cell(text: object) -> str:
    """Text that can't leave its cell of a Markdown table, whoever wrote it."""
    return re.sub(r"([\\|`<])", r"\\\1", " ".join(str(text).split()))


def code_block(language: str, text: str) -> str:
    """Text in a Markdown code block, fenced by more backticks than the text has in a row."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
