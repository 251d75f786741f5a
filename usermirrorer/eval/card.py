"""The card of an evaluation: what lies in its directory, and what the columns of its predictions mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from usermirrorer.data.artefacts.card import render_card
from usermirrorer.data.artefacts.columns import describe_columns
from usermirrorer.data.artefacts.store import write_bytes


TEMPLATE = Path(__file__).parent / "templates" / "evaluation_card.md.j2"
PREDICTIONS = "predictions.parquet"


def write_card(out: Path, metrics: dict[str, Any]) -> None:
    """Write OUT/README.md, whose header lets `load_dataset(OUT)` open the predictions as the split `test`."""
    header = {"configs": [{"config_name": "default", "data_files": [{"split": "test", "path": PREDICTIONS}]}]}
    values = {
        "name": out.resolve().name,
        "source": metrics["source"],
        "models": metrics["settings"]["models"],
        "columns": describe_columns("evaluation", pq.read_schema(out / PREDICTIONS)),
    }
    write_bytes(out / "README.md", render_card("dataset", TEMPLATE, header, values).encode())
