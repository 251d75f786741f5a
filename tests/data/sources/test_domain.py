"""What a domain declares, and what follows from its templates."""

from __future__ import annotations

from dataclasses import replace

from usermirrorer.data.sources.domain import RawTables
from usermirrorer.data.sources.toy import TOY


DOMAIN = replace(
    TOY,
    item="{title}< by {author}>< | {price:,}>",
    profile="Age: {age}\nTown: {town}",
    history="{event} {item}, {time_diff}: {rating}/5< on {device}>",
    option="<[{new}] >{item}< | {likes}>",
    as_of={"new": "new_release", "likes": "count"},
    snapshots=("town", "price"),
    numbers=("year",),
)


def test_fields_follow_from_the_templates() -> None:
    static = ["title", "author", "year", "age", "rating", "device"]
    expected = {
        **dict.fromkeys(static, "static"),
        **dict.fromkeys(["new", "likes"], "as_of"),
        **dict.fromkeys(["town", "price"], "snapshot"),
    }
    assert list(DOMAIN.fields.items()) == list(expected.items())


def test_a_changed_domain_has_its_own_fields() -> None:
    assert DOMAIN.fields is DOMAIN.fields
    assert dict(replace(DOMAIN, item="{title}", numbers=(), snapshots=("town",)).fields) == {
        "title": "static", "age": "static", "rating": "static", "device": "static", "new": "as_of", "likes": "as_of",
        "town": "snapshot",
    }  # fmt: skip


def test_the_toy_domain_needs_no_more_than_its_defaults() -> None:
    assert TOY.fields == {"title": "static"} and list(TOY.choice_rules) == ["any"]
    assert isinstance(TOY.read(None, 0), RawTables)
