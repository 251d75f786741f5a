"""YAML becomes a dataclass, or one sentence with file and line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.errors import UserError
from usermirrorer.settings import closest, parse_settings, read_mapping, read_settings


@dataclass(frozen=True)
class Inner:
    rate: float
    steps: int | None = None


@dataclass(frozen=True)
class Outer:
    name: str
    inners: list[Inner]
    kind: Literal["a", "b"] = "a"
    shown: bool = False
    names: dict[str, str] = field(default_factory=dict)
    inner: Inner = field(default_factory=lambda: Inner(0.5))


WHOLE = """\
name: x
inners:
  - rate: 1
  - {rate: 2.5, steps: 3}
kind: b
shown: true
names: {p: q}
inner: {rate: 1.0e-3, steps: null}
"""


def parse(text: str) -> Outer:
    return parse_settings(Outer, text, "f.yaml", "recipe")[0]


def test_every_type_is_read() -> None:
    assert parse(WHOLE) == Outer("x", [Inner(1.0), Inner(2.5, 3)], "b", True, {"p": "q"}, Inner(0.001))
    assert isinstance(parse(WHOLE).inners[0].rate, float)


def test_defaults_are_those_of_the_dataclass() -> None:
    assert parse("name: x\ninners: [{rate: 2}]\n") == Outer("x", [Inner(2.0)])


@pytest.mark.parametrize(
    ("before", "after", "line", "reason"),
    [
        ("name: x", "nam: x", 1, "unknown key 'nam' in recipe; did you mean name?"),
        ("name: x", "zzz: x", 1, "use name, inners, kind, shown, names, inner"),
        ("name: x", "name: 3", 1, "3 must be text; put quotes around it"),
        ("name: x", "name: [", 3, "not YAML"),
        ("name: x\n", "", 1, "recipe needs 'name'; add it"),
        ("name: x", "name: x\nname: y", 2, "'name' is already set in line 1"),
        ("name: x", "1: x", 1, "the key 1 must be text"),
        ("  - rate: 1", "  - rat: 1", 3, "did you mean rate?"),
        ("  - rate: 1", "  - rate: fast", 3, "'fast' must be a number"),
        ("  - rate: 1", "  - rate: true", 3, "True must be a number"),
        ("  - rate: 1", "  - 1", 3, "must be a mapping of rate, steps"),
        ("steps: 3", "steps: 3.5", 4, "3.5 must be a whole number"),
        ("steps: 3", "steps: 3, steps: 4", 4, "'steps' is set twice"),
        ("kind: b", "kind: c", 5, "'c' is not one of a, b"),
        ("shown: true", "shown: 1", 6, "1 must be true or false"),
        ("{p: q}", "[p]", 7, "must be a mapping"),
        ("{p: q}", "{p: 1}", 7, "1 must be text"),
        ("{p: q}", "{p: !!python/name:os.system x}", 7, "not YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(before: str, after: str, line: int, reason: str) -> None:
    assert before in WHOLE
    with pytest.raises(UserError) as error:
        parse(WHOLE.replace(before, after, 1))
    assert str(error.value).startswith(f"f.yaml:{line}: ") and reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_list_without_a_default_has_an_entry() -> None:
    with pytest.raises(UserError, match=r"f\.yaml:2: inners must be a list with at least one entry"):
        parse("name: x\ninners: []\n")


def test_a_file_is_there_and_is_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no recipe here"):
        read_settings(Outer, tmp_path / "none.yaml", "recipe")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        read_mapping(tmp_path / "bytes.yaml", "recipe")


def test_places_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(WHOLE)
    _, places = read_settings(Outer, path, "recipe")
    assert places.of("kind") == f"{path}:5" and places.of("nothing") == str(path)
    with pytest.raises(UserError, match=rf"{path}:5: kind: no"):
        places.refuse("kind", "no")


def test_the_closest_name_is_offered() -> None:
    assert closest("exposur", ["exposure", "scenes"], "no") == "did you mean exposure?"
    assert closest("q", ["exposure", "scenes"], "no") == "no"


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["name", "inners", "rate", "x"]) | st.integers(), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_any_yaml_is_settings_or_one_sentence(value: object) -> None:
    try:
        parse(yaml.safe_dump(value))
    except UserError as error:
        assert str(error).startswith("f.yaml")


@given(text=st.text("name: x\n-[]{}!&*'\"\t#inrate", max_size=60))
def test_any_text_is_settings_or_one_sentence(text: str) -> None:
    try:
        parse(text)
    except UserError as error:
        assert str(error).startswith("f.yaml")
