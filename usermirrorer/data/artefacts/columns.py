"""What the columns of every artefact mean. Cards show it, and `docs/artefacts.md` says the same, held by a test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa


SCENE_ID = "the scene: 16 hex digits"
EVENT_SCENE = "the scene that the row would make, as a number: `scene_id` in hex"
MILLISECONDS = "when, in milliseconds since 1970 (UTC)"

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "users": {"user_id": "who"},
    "items": {
        "item_id": "what",
        "available_from": "from when on it can be chosen, in milliseconds since 1970 (UTC); rows are in this order",
        "dated": "whether `available_from` is a known release date, or else just after the first event",
        "text": "how scenes show the item",
    },
    "interactions": {
        "user_id": "who",
        "item_id": "what",
        "timestamp": MILLISECONDS,
        "scene_id": EVENT_SCENE,
    },
    "impressions": {
        "impression_id": "the list that was shown",
        "user_id": "who saw it",
        "timestamp": MILLISECONDS,
        "items": "item ids in the order shown",
        "clicked": "item ids that were clicked",
        "scene_id": EVENT_SCENE,
    },
    "friends": {"user_id": "who", "friend_id": "a friend of theirs"},
    "item_statistics": {
        "item_id": "what",
        "timestamp": "from when on the values hold, in milliseconds since 1970 (UTC)",
    },
    "item_labels": {"item_id": "what", "timestamp": MILLISECONDS, "label": "the label that somebody gave it"},
    "embeddings": {"item_id": "what; rows are in the order of the items table", "vector": "of length one, or zero"},
    "scenes": {
        "scene_id": "16 hex digits of blake2b(dataset, user, item, time in ms, impression id or ''): independent of "
        "seed and split",
        "dataset": "the domain",
        "user_id": "who chose",
        "item_id": "what was chosen",
        "timestamp": "when; history and time differences are as of then",
        "group_id": "`matched` and `hard`: 16 hex digits shared by the scenes that show the same list, each of whose "
        "items is the choice of one of them; null in other modes",
        "group_time": "as of when everything about the options holds: the time of the group's earliest choice, or "
        "`timestamp` without a group",
        "text": "all that a model is shown",
        "impression_list": "item ids of the options, in order",
        "item_pos": "0-based position of the choice",
        "choices": "positions really chosen; always one today",
        "choice_cnt": "number of options",
        "split": "`train` or `test`",
        "exposure": "`matched`, `hard`, `logged` or `published`",
        "sources": "where each option came from: `choice` for the choice; for the others the mode, or in `published` "
        "the source that proposed it",
        "history_len": "history entries shown",
        "user_cnt": "the user's earlier interactions",
        "item_cnt": "each option's earlier interactions",
        "later_chosen": "positions of options that the user chooses later; for audit only, never shown",
    },
    "features": {
        "scene_id": SCENE_ID,
        "user_id": "who chose",
        "group_id": "the group that shares the list, or `scene_id` of a scene that stands alone",
        "item_pos": "0-based position of the choice",
        "items": "item ids of the options, in order",
        "user_free.*": "for each option, what says nothing of the user",
        "time.*": "for each option, when the user chose",
        "user.*": "for each option, how it compares with the user's earlier choices",
        "score.*": "for each option, the score of a model over items",
    },
    "baselines": {
        "scene_id": SCENE_ID,
        "baseline": "which one",
        "probs": "probability of each option, in the order of the scene",
    },
    "decisions": {
        "scene_id": SCENE_ID,
        "variant": "`strong` or `weak`: which of the two writers",
        "model": "the writer",
        "sample": "number of the decision process of this scene, from 0",
        "text": "the output before its line `Behavior:`",
        "behavior": "0-based option that the writer named, or null",
        "finish_reason": "`stop` or `length`",
    },
    "predictions": {
        "scene_id": SCENE_ID,
        "variant": "`strong` or `weak`: who wrote the decision process",
        "sample": "number of the decision process of this scene, from 0",
        "predictor": "the model that scored it",
        "probs": "probability of each option after this decision process, in the order of the scene",
    },
    "pairs": {
        "scene_id": SCENE_ID,
        "dataset": "the domain",
        "user_id": "who chose",
        "item_id": "what was chosen",
        "timestamp": "when",
        "prompt": "system and user message",
        "chosen": "one assistant message: `text`, then `Behavior: [X]` on a line of its own",
        "rejected": "the same of the rejected decision process",
        "behavior_chosen": "the letter X of the chosen side",
        "behavior_rejected": "the letter X of the rejected side",
        "choice_cnt": "number of options",
        "score": "entropy_expected_weak − entropy_expected_strong, each divided by log2 of the number of options",
        "entropy_expected_strong": "bits: mean entropy of the predictions after each strong decision process",
        "entropy_expected_weak": "the same after the weak ones",
        "entropy_total_strong": "bits: entropy of the mean prediction over the strong decision processes",
        "entropy_total_weak": "the same over the weak ones",
        "entropy_chosen": "bits: entropy of the prediction after the chosen decision process",
        "entropy_rejected": "the same after the rejected one",
        "accepted": "accepted strong decision processes of the scene",
        "rejected_from": "`strong` or `weak`: who wrote the rejected decision process",
    },
    "evaluation": {
        "scene_id": SCENE_ID,
        "context": "what the model saw of the scene: `full`, or less",
        "sample": "number of the decision process of this scene, from 0",
        "shed": "oldest history entries that were left out because the scene was too long",
        "text": "the output before its line `Behavior:`; empty in direct mode",
        "behavior": "0-based option that the model named, or null",
        "finish_reason": "`stop` or `length`",
        "unfinished": "whether it named no option that was offered, and its line `Behavior:` was opened for it",
        "probs": "probability of each option after this decision process, in the order of the scene",
        "model": "name of the model",
        "dataset": "the domain",
        "user_id": "who chose",
        "item_pos": "0-based position of the choice",
        "group_id": "the group that shares the list, or null",
    },
}  # fmt: skip
"""Table or kind of artefact -> column -> meaning. `PREFIX.*` stands for all columns that begin so."""

OF_THE_SOURCE = "as the source has it"
"""The meaning of a column that only some sources have."""


def describe_columns(kind: str, schema: pa.Schema) -> list[tuple[str, str, str]]:
    """Name, type and meaning of every column of a file."""
    return [(field.name, type_name(field.type), _meaning(kind, field.name)) for field in schema]


def type_name(kind: pa.DataType) -> str:
    """An arrow type as people say it: `string`, `list of int64`, `struct of profile, history`."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {type_name(kind.value_type)}"
    if pa.types.is_fixed_size_list(kind):
        return f"list of {kind.list_size} {type_name(kind.value_type)}"
    if pa.types.is_struct(kind):
        return f"struct of {_and(field.name for field in kind)}"
    if pa.types.is_timestamp(kind):
        return f"timestamp in {kind.unit}, {kind.tz or 'without a zone'}"
    return str(kind).removeprefix("large_")


def _meaning(kind: str, column: str) -> str:
    known = COLUMNS.get(kind, {})
    return known.get(column) or known.get(f"{column.partition('.')[0]}.*", OF_THE_SOURCE)


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
