"""What a model sees of a scene: all of it, less of it, another user's history, or items without their titles."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from usermirrorer.data.sources import DOMAINS, load_domain
from usermirrorer.data.sources.templates import parse
from usermirrorer.errors import UserError, unknown_name
from usermirrorer.llm.prompts import SceneText, history_entries, join_history, without_evidence
from usermirrorer.seeds import scene_seed


_EMPTIED = {"no-history": ("history",), "no-profile": ("profile",), "no-user": ("profile", "history")}

CONTEXTS = ("full", *_EMPTIED, "swapped-history")

_YEAR = re.compile(r" \(\d{4}\)$")


def with_context(scenes: pl.DataFrame, context: str, seed: int = 0) -> pl.DataFrame:
    """The scenes with their `text` in `context`; nothing else changes.

    `swapped-history` shows the history of another user of the same dataset, drawn by (seed, scene_id). Where the
    history is hidden or another's, the evidence that speaks of it is hidden too.
    """
    if context not in CONTEXTS:
        raise unknown_name("context", context, CONTEXTS)
    if context == "full":
        return scenes
    if context == "swapped-history":
        changes = [{"history": history} for history in _swapped_histories(scenes, seed)]
    else:
        changes = [dict.fromkeys(_EMPTIED[context], "")] * len(scenes)
    texts = [text | change for text, change in zip(scenes["text"], changes, strict=True)]
    if context != "no-profile":
        texts = [text | {"action_list": list(map(without_evidence, text["action_list"]))} for text in texts]
    return _with_texts(scenes, texts)


def anonymise_items(scenes: pl.DataFrame) -> pl.DataFrame:
    """The scenes with titles replaced by "Item 1", "Item 2" …, the same name for the same title within a scene.

    The domain's templates say which part of a line is the title, so this works only for domains of this package
    whose items have a title besides other values; a year that ends a title stays. Names are in order of first
    appearance, history before options. Raises UserError for a domain or a line whose titles can't be recognised.
    """
    patterns = {name: _title_patterns(name) for name in scenes["dataset"].unique().sort()}
    texts = [
        _anonymous(text, *patterns[dataset], scene)
        for text, dataset, scene in scenes.select("text", "dataset", "scene_id").iter_rows()
    ]
    return _with_texts(scenes, texts)


def _with_texts(scenes: pl.DataFrame, texts: list[SceneText]) -> pl.DataFrame:
    return scenes.with_columns(pl.Series("text", texts, dtype=scenes.schema["text"]))


def _swapped_histories(scenes: pl.DataFrame, seed: int) -> list[str]:
    """For every scene, in order, the history of another user's scene."""
    histories = scenes["text"].struct.field("history").to_list()
    users, ids = scenes["user_id"].to_list(), scenes["scene_id"].to_list()
    swapped = [""] * len(scenes)
    for (dataset,), rows in scenes.with_row_index("row").group_by(["dataset"], maintain_order=True):
        donors = sorted((i for i in rows["row"].to_list() if histories[i].strip()), key=lambda i: (users[i], ids[i]))
        donor_users = np.array([users[i] for i in donors])
        for i in rows["row"].to_list():
            # Donors are sorted by user: a draw from the others skips the user's own stretch.
            first = int(np.searchsorted(donor_users, users[i], "left"))
            own = int(np.searchsorted(donor_users, users[i], "right")) - first
            if own == len(donors):
                raise UserError(f"swapped-history: {dataset} has no second user with a history; leave the context out")
            draw = int(np.random.default_rng(scene_seed(seed, ids[i])).integers(len(donors) - own))
            swapped[i] = histories[donors[draw if draw < first else draw + own]]
    return swapped


def _title_patterns(dataset: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Patterns of a whole option and a whole history entry, with the title in the group `title`."""
    domain = load_domain(dataset) if dataset in DOMAINS else None
    if domain is None or not domain.item.startswith("{title}") or domain.item == "{title}":
        raise UserError(f"--anonymise-items: titles of {dataset} can't be recognised in a text; leave it out")
    option, entry = (template.replace("{item}", domain.item) for template in (domain.option, domain.history))
    return _pattern(option), _pattern(entry)


def _pattern(template: str) -> re.Pattern[str]:
    """A template as a pattern: literal text as it is, `{title}` as a group, any text for each other field."""
    pattern = ""
    for part in parse(template):
        inner = "".join(
            # A title is greedy: it may contain what separates it from the next field.
            re.escape(piece) if isinstance(piece, str) else "(?P<title>.+)" if piece[0] == "title" else ".*?"
            for piece in part.pieces
        )
        pattern += f"(?:{inner})?" if part.optional else inner
    return re.compile(pattern, re.DOTALL)


def _anonymous(text: SceneText, option: re.Pattern[str], entry: re.Pattern[str], scene: str) -> SceneText:
    names: dict[str, str] = {}

    def renamed(line: str, pattern: re.Pattern[str]) -> str:
        found = pattern.fullmatch(without_evidence(line))
        if found is None:
            raise UserError(f'--anonymise-items: no title is recognised in "{line}" of scene {scene}; leave it out')
        year = _YEAR.search(found["title"])
        name = names.setdefault(found["title"], f"Item {len(names) + 1}")
        return line[: found.start("title")] + name + (year.group() if year else "") + line[found.end("title") :]

    history = [renamed(line, entry) for line in history_entries(text["history"])]
    return {
        "profile": text["profile"],
        "history": join_history(history),
        "action_list": [renamed(line, option) for line in text["action_list"]],
    }
