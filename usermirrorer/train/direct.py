"""Scenes as rows of SFT: the label alone, without a decision process, as the paper's direct mode predicts it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import answered_directly, conversation


if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("text", "item_pos")


def are_scenes(columns: Collection[str]) -> bool:
    """Whether a data set with these columns holds scenes and not pairs."""
    return set(COLUMNS) <= set(columns)


def rows_of_scenes(scenes: Dataset, place: str) -> Dataset:
    """One row for each scene: its prompt under the instruction `direct`, and the choice's label as `chosen`.

    Raises UserError if the texts were withheld for their licence.
    """

    def row(scene: dict[str, Any]) -> dict[str, Any]:
        if not scene["text"]["action_list"]:
            raise UserError(f"{place}: the texts of these scenes are withheld; build the scenes from the raw files")
        answer = {"role": "assistant", "content": answered_directly(scene["item_pos"])}
        return {"prompt": conversation(scene["text"], "direct"), "chosen": [answer]}

    kept = [name for name in ("scene_id",) if name in scenes.column_names]
    removed = [name for name in scenes.column_names if name not in kept]
    return scenes.map(row, remove_columns=removed, desc="Writing rows of scenes")
