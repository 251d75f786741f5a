"""Pairs made on the spot, and the files that hold them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from usermirrorer.data.artefacts.schema import PAIRS
from usermirrorer.data.artefacts.store import manifest_path
from usermirrorer.llm.prompts import LABELS, answered, conversation


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINGS = ("cake", "tea", "soup", "bread", "jam")
TASTES = ("sweet", "sour", "salty", "bitter", "hot")


def pair_rows(count: int, options: int = 5, seed: int = 0) -> list[dict]:
    """Pairs in which the user chooses by taste; the rejected answer names another option."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        tastes = draw.sample(TASTES, options)
        items = [f"{taste} {draw.choice(THINGS)}" for taste in tastes]
        pos = draw.randrange(options)
        other = (pos + 1 + draw.randrange(options - 1)) % options
        history = "\n".join(f"chose {tastes[pos]} {draw.choice(THINGS)}" for _ in range(3))
        prompt = conversation({"profile": "", "history": history, "action_list": items}, "plain")
        rows.append(
            {
                "scene_id": f"{i:016x}",
                "dataset": "toy",
                "user_id": f"u{i}",
                "item_id": items[pos],
                "prompt": prompt,
                "chosen": [{"role": "assistant", "content": answered(f"I like {tastes[pos]}.", pos)}],
                "rejected": [{"role": "assistant", "content": answered(f"I like {tastes[other]}.", other)}],
                "behavior_chosen": LABELS[pos],
                "behavior_rejected": LABELS[other],
                "choice_cnt": options,
            }
        )
    return rows


def write_pairs(directory: Path, rows: list[dict], prompt: str = "plain") -> Path:
    directory.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=PAIRS), directory / "part-00000.parquet")
    accuracy = {"value": 0.21, "low": None, "high": None, "n": len(rows)}
    probe = {"toy": {"accuracy": accuracy, "exact": False, "classifier": "trees", "chance": 0.2, "warning": False}}
    content = {"recipe": {"prompt": prompt}, "finished": True, "fingerprint": "0123456789abcdef", "probe": probe}
    manifest_path(directory).write_text(json.dumps({"content": content, "run": {}}))
    return directory


def write_yaml(path: Path, settings: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path
