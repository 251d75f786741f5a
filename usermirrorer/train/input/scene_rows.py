"""Scenes as training rows: what a person was shown, and the label of the choice alone, without a decision process."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from usermirrorer.errors import UserError
from usermirrorer.llm.paths import training_record
from usermirrorer.llm.prompts import INSTRUCTIONS, answered_directly, conversation
from usermirrorer.train.config import Run


if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("text", "item_pos")


def are_scenes(columns: Collection[str]) -> bool:
    """Whether a data set with these columns holds scenes and not pairs."""
    return set(COLUMNS) <= set(columns)


def instruction_of(run: Run) -> str | None:
    """The instruction under which scenes are asked: SFT trains the label alone, GRPO goes on as its model was trained.

    None if that is not known.
    """
    if run.method == "sft":
        return "direct"
    instruction = (training_record(str(run.model.model_name_or_path)) or {}).get("prompt")
    return instruction if instruction in INSTRUCTIONS else None


def rows_of_scenes(scenes: Dataset, place: str, instruction: str | None) -> Dataset:
    """One row for each scene: its prompt under the instruction, and the choice's label as `chosen`.

    Raises UserError if no instruction is known or the texts were withheld for their licence.
    """
    if instruction is None:
        raise UserError(
            f"{place}: these are scenes, and the model does not say under which instruction it was trained; start "
            "from one that `usermirrorer train sft` saved, or train on pairs"
        )

    def row(scene: dict[str, Any]) -> dict[str, Any]:
        if not scene["text"]["action_list"]:
            raise UserError(f"{place}: the texts of these scenes are withheld; build the scenes from the raw files")
        answer = {"role": "assistant", "content": answered_directly(scene["item_pos"])}
        return {"prompt": conversation(scene["text"], instruction), "chosen": [answer]}

    kept = [name for name in ("scene_id",) if name in scenes.column_names]
    removed = [name for name in scenes.column_names if name not in kept]
    return scenes.map(row, remove_columns=removed, desc="Writing rows of scenes")
