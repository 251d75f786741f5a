"""What a drafted YAML shows of items, users and events, what it calls a choice, and why; from names and values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from usermirrorer.data.sources.domain import HISTORY_VALUES
from usermirrorer.data.sources.own.looks import (
    CATEGORY,
    IDENTIFIER,
    KIND,
    PERSONAL,
    PRICE,
    RATING,
    TITLE,
    YEAR,
    Look,
    listed,
)


LONGEST_TITLE, LONGEST_DETAIL = 150, 40
"""Characters, on average."""

MOST_KINDS = 20
"""Values of a column that says what kind of event a row is."""

CONSTANT = 0.95
"""Share of the users or items with one value, for a column of the events to be theirs."""

RESERVED = ("user_id", "item_id", "timestamp", "available_from", "dated", "text", "line", "dataset", "any")
OWN_NAMES = ("times", "new")
"""What a draft computes as of each scene."""

# From the strongest sign of a choice to the weakest: the event in the past, and what its values look like.
STRENGTH = (
    ("bought", ("purchas", "buy", "bought", "order", "transaction", "checkout", "paid", "kauf", "achat", "compra")),
    ("took", ("rent", "borrow", "loan", "install", "download", "book", "subscri")),
    ("wanted", ("cart", "basket", "wish", "fav", "like", "save", "bookmark")),
    ("played", ("play", "listen", "watch", "stream")),
    ("opened", ("click", "open", "read")),
    ("viewed", ("view", "visit", "detail", "see", "show", "impress")),
)  # fmt: skip
PAST = (
    ("bought", "order purchase basket cart quantity qty price sale sales invoice amount bestellung menge".split()),
    ("rated", RATING),
    ("listened to", "play plays listen stream track song artist".split()),
    ("watched", "watch movie film video".split()),
    ("read", "read book loan author".split()),
)
CHOSEN_FLAGS = "click clicked purchased bought converted conversion label liked like is_read read gekauft".split()


@dataclass
class Shown:
    """Keys of the YAML with their values and reasons, and the columns that are used."""

    values: dict[str, object] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=lambda: dict.fromkeys(OWN_NAMES, ""))
    """Name in the YAML -> column."""

    def put(self, key: str, value: object, why: str) -> None:
        self.values[key], self.why[key] = value, why

    def name(self, look: Look) -> str:
        """The column's name in templates and rules, changed if it can't be used there."""
        name = re.sub(r"\W+", "_", look.name).strip("_")
        if not re.match(r"[^\W\d]", name) or name in (*RESERVED, *HISTORY_VALUES):
            name = f"my_{name}"
        while self.used.get(name, look.name) != look.name:
            name += "_"
        self.used[name] = look.name
        return name


def constant_for(key: Look, columns: Sequence[Look]) -> list[Look]:
    """The columns of the events that hold one value for (nearly) every id of a column, but not the same for all."""
    if len(key.known) < 1.5 * max(key.distinct, 1):
        return []
    frame = pl.DataFrame({"key": key.values, **{str(at): look.values for at, look in enumerate(columns)}})
    values = frame.drop_nulls("key").group_by("key").agg(pl.exclude("key").drop_nulls().n_unique())
    shares = values.select((pl.exclude("key") <= 1).mean()).row(0) if columns else ()
    return [look for look, share in zip(columns, shares, strict=True) if share >= CONSTANT and look.distinct > 1]


def show_item(shown: Shown, columns: Sequence[Look], items: int) -> None:
    """`item` and `numbers`: the title, up to two details and the price, from columns that describe so many items."""
    texts = [look for look in columns if look.kind == "text" and look.distinct]
    titles = [
        look for look in texts if look.length <= LONGEST_TITLE and (look.named(TITLE) or 2 * look.distinct > items)
    ]
    titles.sort(key=lambda look: (look.named(TITLE), not look.named(CATEGORY), look.distinct), reverse=True)
    details = [
        look
        for look in texts
        if look not in titles[:1] and 1 < look.distinct <= items / 2 and look.length <= LONGEST_DETAIL
    ]
    details = sorted(details, key=lambda look: not look.named(CATEGORY))[:2]
    numbers = [look for look in columns if look.kind == "number" and look.distinct > 1]
    years = [look for look in numbers if look.named(YEAR) and look.numbers.is_between(1000, 2100).all()][:1]
    prices = [look for look in numbers if look.named(PRICE)][:1]
    template = f"{{{shown.name(titles[0])}}}" if titles else "no. {item_id}"
    template += "".join(f"< ({{{shown.name(look)}}})>" for look in years)
    template += "".join(f"<{sep}{{{shown.name(look)}}}>" for sep, look in zip((" - ", ", "), details, strict=False))
    template += "".join(f"<, {{{shown.name(look)}:.2f}}>" for look in prices)
    why = "what names an item, then what sorts it" if titles else "no column names the items, so their ids do"
    if titles and (lacking := titles[0].values.null_count()):
        why += f"; {lacking:,} rows lack {titles[0].name}, which then reads unknown"
    shown.put("item", template, why)
    if years:
        shown.put("numbers", [shown.name(look) for look in years], "numbers that items show")
    others = [look for look in numbers if look not in (*years, *prices) and not look.named(IDENTIFIER)]
    if others:
        shown.why["item"] += f"; not {listed(others)}: a number counted at the log's end would tell the future"


def show_profile(shown: Shown, columns: Sequence[Look], users: int) -> None:
    """`profile`: up to five columns that many of so many users share, and nothing that names a person."""
    kept = [
        look
        for look in columns
        if look.kind in ("text", "number")
        and not look.named(PERSONAL)
        and 1 < look.distinct <= max(50, users / 2)
        and look.length <= LONGEST_DETAIL
    ][:5]
    if kept:
        labels = [" ".join(re.findall(r"[^\W_]+", look.name)).capitalize() or "Known" for look in kept]
        lines = [f"{label}: {{{shown.name(look)}}}" for label, look in zip(labels, kept, strict=True)]
        shown.put("profile", "\n".join(lines), "what users share with others; a line is left out where it is unknown")


def show_event(shown: Shown, columns: Sequence[Look], others: Sequence[Look], time: str) -> None:
    """`event`, `history`, `choices`: what an event was and which events count as choices.

    `columns` are those of the events alone, `others` all whose names may tell what people do, `time` names the time.
    """
    said = re.fullmatch(
        r"(?!creat|updat|modifi|insert|logg|record)([a-z]+(?:ed|ght))_?(at|on|time|date)", time.lower()
    )
    past = next((verb for verb, names in PAST if any(look.named(names) for look in others)), "chose")
    if said:
        shown.put("event", said[1], f"what an event was, in the past tense, as {time} says")
    else:
        shown.put("event", past, "a guess: what an event was, in the past tense")
    kinds = [_kind_of_event(look) for look in columns if look.kind == "text" and 1 < look.distinct <= MOST_KINDS]
    kind = next((found for found in kinds if found), None)
    ratings = [
        look for look in columns
        if look.kind == "number" and look.named(RATING) and 1 < look.distinct <= 101 and look.numbers.ge(0).all()
    ]  # fmt: skip
    flags = [look for look in columns if look.kind == "flag" and look.named(CHOSEN_FLAGS)]
    entry, about = "{event} {item}, {time_diff}", "a part in <…> is left out where it is unknown"
    choices: dict[str, str] = {}
    why = "every event counts"
    if kind:
        look, verb, value = kind
        name = shown.name(look)
        shown.put("event", verb, f"what {value} means; the history shows {look.name} itself")
        entry, about = f"<{{{name}}}: >{{item}}, {{time_diff}}", "begins with the kind of event"
        choices[re.sub(r"[^\w-]+", "_", value)] = f"{name} == '{value}'"
        rest = [other for other in look.known.unique(maintain_order=True).to_list() if other != value]
        shown.put("repeats", True, "else an earlier event of another kind with an item would rule out choosing it")
        why = f"{value} is the strongest sign of {look.name}; {', '.join(rest)} are history, but no choices"
    elif flags:
        name = shown.name(flags[0])
        choices[name] = name
        why = f"rows without {flags[0].name} are no choices but still history: delete them if they were only shown"
    choices["any"] = "any"
    if ratings:
        name, most = shown.name(ratings[0]), ratings[0].numbers.max()
        assert isinstance(most, float)
        scale = next((scale for scale in (5, 10, 100) if most <= scale), None)
        entry += f"<: {{{name}}}{f'/{scale}' if scale else ''}>"
        choices["liked"] = f"{name} >= {0.8 * (scale or most):g}"
        why += f"; --choice liked takes well-rated ones alone ({ratings[0].name})"
    shown.put("history", entry, f"an entry of the history; {about}")
    shown.put("choices", choices, f"the first is the default: {why}")


def _kind_of_event(look: Look) -> tuple[Look, str, str] | None:
    """A column that says what kind of event a row is: the verb and the value of the strongest kind."""
    values = [value for value in look.known.unique(maintain_order=True).to_list() if re.fullmatch(r"[^'\"\n]+", value)]
    found = [
        (rank, verb, value)
        for value in values
        for rank, (verb, stems) in enumerate(STRENGTH)
        if any(stem in value.lower() for stem in stems) and "remove" not in value.lower()
    ]
    known = {value for _, _, value in found}
    if not found or (len(known) < 2 and not look.named(KIND)) or 2 * len(known) < len(values):
        return None
    _, verb, value = min(found, key=lambda one: one[0])
    return look, verb, value
