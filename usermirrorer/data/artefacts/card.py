"""Cards: what a directory holds, rendered from a Jinja2 template under the YAML header that the Hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from usermirrorer.data.artefacts.columns import describe_columns
from usermirrorer.data.artefacts.find import STEPS
from usermirrorer.data.artefacts.store import SHARD
from usermirrorer.wording import describe_exposure


STEP_CARD = Path(__file__).parent / "templates" / "step_card.md.j2"


def render_card(
    kind: Literal["dataset", "model"], template: Path, header: Mapping[str, Any], values: Mapping[str, Any]
) -> str:
    """The template filled in with `values`, `cell` and `code_block`, under the YAML `header`; asks no server."""
    from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData

    data = DatasetCardData(**header) if kind == "dataset" else ModelCardData(**header)
    card = (DatasetCard if kind == "dataset" else ModelCard)(_fill(template, data.to_yaml(), values))
    return f"{card}".rstrip() + "\n"


def step_card(directory: Path, content: Mapping[str, Any]) -> str:
    """The card of a step's directory: what its columns mean, and the manifest's `content`.

    Tables of several schemas are configurations of their own, which `load_dataset` reads from the header. The card has
    the bytes that `render_card` would give it, without the half second that importing the Hub's client costs.
    """
    import yaml

    name = f"{directory.parent.name}/{directory.name}"
    blocks = {
        title: json.dumps(block, indent=1, ensure_ascii=False)
        for title, block in content.items()
        if title not in ("finished", "files")
    }
    step, files = content["recipe"].get("step", "output"), len(content["files"])
    exposure = describe_exposure(content) if step == "scenes" else []
    # Tables by their file's name; shards, which all have the same columns, by the first.
    tables = {Path(file).stem: file for file in content["files"] if not SHARD.fullmatch(file)}
    kinds = tables or {STEPS.get(step, step): file for file in list(content["files"])[:1]}
    columns = {kind: describe_columns(kind, pq.read_schema(directory / file)) for kind, file in kinds.items()}
    configs = [{"config_name": table, "data_files": file} for table, file in tables.items()]
    fields = {"pretty_name": name, **({"configs": configs} if configs else {})}
    header = yaml.safe_dump(fields, allow_unicode=True, sort_keys=False).strip()
    values = {
        "name": name, "step": step, "exposure": exposure, "columns": columns, "blocks": blocks, "files": files
    }  # fmt: skip
    return _fill(STEP_CARD, header, values).rstrip() + "\n"


def _fill(template: Path, header: str, values: Mapping[str, Any]) -> str:
    import jinja2

    text = jinja2.Template(template.read_text(encoding="utf-8"))
    return text.render(card_data=header, cell=cell, code_block=code_block, **values)


def cell(text: object) -> str:
    """Text that can't leave its cell of a Markdown table, whoever wrote it, nor be a link or load a picture."""
    return re.sub(r"([\\|`<]|(?<=\])\()", r"\\\1", " ".join(str(text).split()))


def code_block(language: str, text: str) -> str:
    """Text in a Markdown code block, fenced by more backticks than the text has in a row."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
