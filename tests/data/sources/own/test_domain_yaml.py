"""A domain from a YAML: defaults, refusals with their line, choice rules, and a scene as a person reads it."""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import raw_shop
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rendered import lines, rendered

from usermirrorer.data.sources.domain import Domain, choice_rule
from usermirrorer.data.sources.own.choice_rules import parse_rule
from usermirrorer.data.sources.own.domain_yaml import DomainSettings, load_yaml_domain, parse_yaml_domain
from usermirrorer.errors import UserError


SHORTEST = {"name": "shop", "format": "recbole", "event": "bought", "item": "{title}"}


def domain(**changed: Any) -> Domain:
    return parse_yaml_domain(yaml.safe_dump({**SHORTEST, **changed}), "shop.yaml")


def refused(**changed: Any) -> str:
    with pytest.raises(UserError) as error:
        domain(**changed)
    assert "\n" not in str(error.value) and str(error.value).startswith("shop.yaml")
    return str(error.value)


def test_four_keys_are_enough() -> None:
    shop = domain()
    assert (shop.title, shop.clock_ms, shop.exposures) == ("shop", 1000, ("matched", "hard", "published"))
    assert (shop.option, shop.history, shop.profile) == ("{item}", "{event} {item}, {time_diff}", "")
    assert list(shop.choice_rules) == ["any"]
    assert shop.fields == {"title": "static"} and shop.numbers == ()
    assert not shop.repeats and not shop.redistribute_text
    assert list(shop.raw_files) == ["shop.inter", "shop.item", "shop.user"]


def test_every_key_reaches_the_domain() -> None:
    shop = domain(
        format="interchange", files="export", title="Our shop", publisher="us", licence="MIT", redistribute_text=True,
        item="{title}, {year}< - {price:.2f}>< ({seen:,} views)>", option="{item}<, {sold} sold>", repeats=True,
        history="{event} {item}<: {stars}/5>", profile="Age: {age}\n", as_of={"sold": "count"}, clock="1d",
        numbers=["year"], fields={"seen": "snapshot"}, exposures=["logged", "matched"],
        choices={"liked": "stars >= 4", "any": "any"},
    )  # fmt: skip
    assert (shop.title, shop.publisher, shop.licence, shop.redistribute_text) == ("Our shop", "us", "MIT", True)
    # a format for numbers makes a column of numbers
    assert set(shop.numbers) == {"year", "price", "seen"}
    assert shop.fields == {
        "title": "static", "year": "static", "price": "static", "seen": "snapshot", "age": "static", "stars": "static",
        "sold": "as_of",
    }  # fmt: skip
    assert (shop.clock_ms, shop.exposures, shop.repeats) == (86_400_000, ("logged", "matched"), True)
    assert shop.profile == "Age: {age}"
    assert "export_impression.jsonl" in shop.raw_files


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"nmae": "x"}, "unknown key 'nmae' in domain YAML; did you mean name?"),
        ({"name": "my shop/1"}, "becomes the name of directories"),
        ({"name": 2024}, "2024 must be text; put quotes around it"),
        ({"format": "csv"}, "'csv' is not one of table, interchange, recbole"),
        ({"item": "{title"}, "is not a template"),
        ({"item": "a thing"}, "shows nothing"),
        ({"item": "{title} < 5"}, "has an unmatched < or >"),
        ({"profile": "Age: {age}< years>"}, "has < or >; delete them"),
        ({"item": "{title.__class__}"}, "is not a column name"),
        ({"item": "{title[0]}"}, "is not a column name"),
        ({"item": "{}"}, "is not a column name"),
        ({"item": "{title:q}"}, "is not a format for numbers"),
        ({"item": "{title}, {seen:,|view}"}, "is not a format for numbers"),
        ({"item": "{title}\n{kind}"}, "put it on one line"),
        ({"item": "{text}"}, "my_text: text"),
        ({"option": "{item} - {title}"}, "columns of the item belong in `item`"),
        ({"option": "<{sld}> {item}<{sold}>", "as_of": {"sold": "count"}}, "did you mean sold?"),
        ({"option": "{item} ({sold})", "as_of": {"sold": "count"}}, "put it in <angle brackets>"),
        ({"as_of": {"sold": "count"}}, "'sold' is not shown"),
        ({"option": "{item}<{tags}>", "as_of": {"tags": "labels:5"}}, "count, mean:COLUMN or new_release"),
        ({"choices": {"liked": "stars >="}}, "liked: 'stars >=': a rule is any"),
        ({"choices": {"liked": "stars > many"}}, "compare words with == or !="),
        ({"choices": {"least": "stars >= value"}}, "which takes no value"),
        ({"choices": {"liked": "__import__('os').getcwd()"}}, "a rule is any"),
        ({"choices": {"any": "any", "a": "kind == buy", "b": "kind > 3"}}, "used as text and as number"),
        ({"choices": {"a=b": "any"}}, "is not a valid name"),
        ({"choices": {}}, "is empty"),
        ({"choices": {"any": True}}, "True must be text"),
        ({"numbers": ["price"]}, "'price' is not shown by `item`, which shows title"),
        ({"fields": {"title": "fixed"}}, "'fixed' is not one of static, snapshot"),
        ({"fields": {"titel": "static"}}, "for one of title"),
        ({"fields": {"title": "snapshot"}}, "put it in <angle brackets>"),
        ({"columns": {"titel": "name"}}, "nothing uses the name 'titel'"),
        ({"clock": "1 week"}, "is not a length of time"),
        ({"clock": "0s"}, "is not a length of time"),
        ({"timestamps": "seconds"}, "is not one of s, ms"),
        ({"exposures": ["logged"]}, "'logged' is not one of matched"),
        ({"exposures": []}, "is empty"),
        ({"repeats": "no"}, "must be true or false"),
        ({"event": ""}, "is empty"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(changed: dict[str, Any], told: str) -> None:
    assert told in refused(**changed)


@pytest.mark.parametrize("key", SHORTEST)
def test_what_has_no_default_is_needed(key: str) -> None:
    with pytest.raises(UserError, match=f"needs '{key}'"):
        parse_yaml_domain(yaml.safe_dump({name: SHORTEST[name] for name in SHORTEST if name != key}), "shop.yaml")


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("name: shop\nformt: recbole\n", ":2", "did you mean format"),
        ("name: shop\nname: shop\n", ":2", "is already set in line 1"),
        ("name: shop\nitem: {title}\n", ":2", "must be text"),
        ("name: shop\n\titem: x\n", ":2", "not YAML"),
        ("name: [", ":1", "not YAML"),
        ("- name\n", ":1", "not a mapping"),
        ("", ":1", "not a mapping"),
        ("name: !!python/object/apply:os.getcwd []\n", ":1", "not YAML"),
        ("name: shop\nformat: recbole\nevent: bought\n\n# comment\nitem: '{title'\n", ":6", "is not a template"),
    ],
)
def test_the_line_is_named(tmp_path: Path, text: str, place: str, told: str) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_yaml_domain(path)
    assert f"{path}{place}" in str(error.value) and told in str(error.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no domain YAML here"):
        load_yaml_domain(tmp_path / "shop.yaml")
    (tmp_path / "shop.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        load_yaml_domain(tmp_path / "shop.yaml")


@pytest.mark.parametrize(
    ("rule", "value", "kept"),
    [
        ("any", 0, [1, 2, 3, 4]), ("read", 0, [1, 3]), ("stars >= 4", 0, [1]), ("stars>=value", 2.5, [1, 2]),
        ("stars < 4", 0, [2]), ("stars == 3", 0, [2]), ("stars != 3", 0, [1]), ("kind == buy", 0, [1, 2]),
        ("kind != buy", 0, [3]), ("kind == 'put aside'", 0, [3]), ('kind == "buy"', 0, [1, 2]),
    ],
)  # fmt: skip
def test_choice_rules(rule: str, value: float, kept: list[int]) -> None:
    events = pl.DataFrame(
        {
            "n": [1, 2, 3, 4], "stars": [5, 3, None, None], "read": [True, False, True, None],
            "kind": ["buy", "buy", "put aside", None],
        }
    )  # fmt: skip
    expression = parse_rule(rule)[0](value)
    assert events.filter(expression)["n"].to_list() == kept
    assert events.with_columns(choice=expression)["choice"].null_count() == 0


def test_the_value_comes_from_the_command_line() -> None:
    shop = domain(choices={"any": "any", "least": "stars >= value"})
    stars = pl.DataFrame({"stars": [1, 3, 5]})
    assert stars.filter(choice_rule(shop, "least=3"))["stars"].to_list() == [3, 5]


def test_yes_and_no_in_the_ways_of_files(tmp_path: Path) -> None:
    (tmp_path / "shop.item").write_text("item_id:token\ttitle:token\n7\tB\n")
    header = "user_id:token\titem_id:token\ttimestamp:float\tread:token\n"
    rows = [f"u\t7\t{1_700_000_000 + n}\t{read}\n" for n, read in enumerate(["true", "False", "1", "0", "yes", ""])]
    (tmp_path / "shop.inter").write_text(header + "".join(rows))
    shop = domain(choices={"read": "read"})
    events = shop.read(tmp_path, 0).interactions
    assert events["read"].to_list() == [True, False, True, False, True, None]
    (tmp_path / "shop.inter").write_text(header + rows[0] + "u\t7\t1700000000\tperhaps\n")
    with pytest.raises(UserError, match=r"shop\.inter:3.*perhaps.*is not true or false"):
        shop.read(tmp_path, 0)


@given(text=st.text(max_size=30) | st.from_regex(r"\w+ (>=|==|<) \w+", fullmatch=True))
@settings(max_examples=200)
def test_a_rule_is_one_or_is_refused(text: str) -> None:
    try:
        rule, columns, _ = parse_rule(text)
    except ValueError as error:
        assert str(error)
    else:
        assert isinstance(rule(1.0), pl.Expr) and len(columns) <= 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("{}<>:.,[]!ab itemsold%", max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab=", max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(
    changed=st.dictionaries(
        st.sampled_from([*(field.name for field in fields(DomainSettings)), "x"]), VALUES, max_size=4
    )
)
@settings(max_examples=200)
def test_any_mapping_is_a_domain_or_one_sentence(changed: dict[str, Any]) -> None:
    try:
        made = domain(**changed)
    except UserError as error:
        assert str(error).startswith("shop.yaml")
    else:
        assert made.name and made.clock_ms > 0


@given(content=st.binary(max_size=60) | st.text("name: shop\n\t{}[]'\"-&*!|>%@`#,", max_size=60).map(str.encode))
@settings(max_examples=150)
def test_any_file_is_a_domain_or_one_sentence(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "shop.yaml"
        path.write_bytes(content)
        with pytest.raises(UserError, match="shop.yaml"):
            load_yaml_domain(path)


def test_the_yaml_of_both_fixtures_says_the_same() -> None:
    shop, market = (parse_yaml_domain(text, "x.yaml") for text in (raw_shop.RECBOLE, raw_shop.INTERCHANGE))
    assert shop.fields == market.fields and shop.numbers == market.numbers == ("price",)
    assert shop.as_of == {"new": "new_release", "sold": "count", "stars": "mean:rating"}


SCENE = """\
Town: Sankt-Märgen
Customer for: 3 years

bought Number 59, finest quality - cups and pots, 16.75 EUR, earlier: 5/5
bought Number 54, finest quality - tea, 1 month ago: 4/5
bought Number 41, finest quality - cups and pots, 12.25 EUR, 1 month ago: 1/5
bought Number 32, finest quality - cups and pots, 10.00 EUR, 1 month ago: 2/5
bought Number 9, finest quality - tea, 1 month ago
bought Number 2, finest quality - cups and pots, 2.50 EUR, 26 days ago: 2/5
bought Number 30, finest quality - tea, 9.50 EUR, 25 days ago: 5/5

[New Release] The "No. 0" house blend - tea, 8 sold so far, 3.0 stars on average
Number 9, finest quality - tea, 7 sold so far, 3.3 stars on average
Number 34, finest quality - coffee, 10.50 EUR, 1 sold so far
[New Release] Number 55, finest quality - coffee, 15.75 EUR, 1 sold so far
"""


@pytest.mark.parametrize("name", ["shop", "market"])
def test_a_scene_as_a_person_reads_it(tmp_path: Path, name: str) -> None:
    {"shop": raw_shop.write_recbole, "market": raw_shop.write_interchange}[name](tmp_path)
    time = (raw_shop.START + 60 * 86_400) * 1000
    asked, options = str(tmp_path / f"{name}.yaml"), ["0000", "0009", "0034", "0055"]
    text = rendered(asked, tmp_path, tmp_path / "work", "u3", time, options, 9)
    assert lines(text) + "\n" == SCENE
