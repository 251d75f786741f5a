"""Strict reading of YAML settings into dataclasses: every wrong key or value is named with its file and line.

Data recipes, training recipes and the YAML of your own log all go through here.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from usermirrorer.errors import UserError, closest


T = TypeVar("T")

_DESCRIPTIONS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Places:
    """Where the keys of a mapping are, for errors that are found after reading."""

    source: str
    lines: Mapping[str, int]

    def of(self, key: str) -> str:
        """`FILE:LINE` of a key, or the file if the key is not there."""
        return f"{self.source}:{self.lines[key]}" if key in self.lines else self.source

    def refuse(self, key: str, reason: str) -> NoReturn:
        """Raises UserError about the value of a key."""
        raise UserError(f"{self.of(key)}: {key}: {reason}")


def read_settings(kind: type[T], path: Path, what: str) -> tuple[T, Places]:
    """A file of settings as the dataclass `kind`. `what` names the file in errors, such as `data recipe`.

    Raises UserError with file:line for a missing file, text that is not YAML, and a wrong, repeated or missing key.
    """
    node, places = read_mapping(path, what)
    return _dataclass(kind, node, places.source, what), places


def parse_settings(kind: type[T], text: str, source: str, what: str) -> tuple[T, Places]:
    """As `read_settings`, from text; `source` stands for the file in errors."""
    node, places = parse_mapping(text, source, what)
    return _dataclass(kind, node, places.source, what), places


def read_mapping(path: Path, what: str) -> tuple[yaml.MappingNode, Places]:
    """The top-level mapping of a YAML file, and where its keys are. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the file as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: no {what} here ({error.strerror}); pass the path of one") from None
    return parse_mapping(text, str(path), what)


def parse_mapping(text: str, source: str, what: str) -> tuple[yaml.MappingNode, Places]:
    """As `read_mapping`, from text."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{source}{line}: not YAML ({getattr(error, 'problem', error)}); fix or quote it") from None
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{source}:1: not a mapping; a {what} is written as one `key: value` per line")
    lines: dict[str, int] = {}
    for key, _ in node.value:
        name, line = _key(key, source), key.start_mark.line + 1
        if name in lines:
            raise UserError(f"{source}:{line}: {name!r} is already set in line {lines[name]}; keep one")
        lines[name] = line
    return node, Places(source, lines)


def plain(node: yaml.Node, source: str) -> Any:
    """The value of a node as plain Python data. Raises UserError with file:line for tags that mean more than data."""
    try:
        # Scalars carry their resolved type; nothing but plain data is constructed.
        return yaml.SafeLoader("").construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(getattr(error, "problem", None) or error)
        raise UserError(f"{_place(node, source)}: not YAML ({reason}); fix or quote it") from None


def _dataclass(kind: type[Any], node: yaml.Node, source: str, name: str) -> Any:
    kinds, none = typing.get_type_hints(kind), dataclasses.MISSING
    needed = [
        field.name for field in dataclasses.fields(kind) if field.default is none and field.default_factory is none
    ]
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{_place(node, source)}: {name} must be a mapping of {', '.join(kinds)}")
    values: dict[str, Any] = {}
    for key, value in node.value:
        field, place = _key(key, source), _place(key, source)
        if field not in kinds:
            hint = closest(field, kinds, f"use {', '.join(kinds)}")
            raise UserError(f"{place}: unknown key {field!r} in {name}; {hint}")
        if field in values:
            raise UserError(f"{place}: {field!r} is set twice in {name}; keep one")
        values[field] = _value(kinds[field], value, source, field)
        if values[field] == [] and field in needed:
            raise UserError(f"{place}: {field} must be a list with at least one entry")
    missing = [field for field in needed if field not in values]
    if missing:
        raise UserError(f"{_place(node, source)}: {name} needs {missing[0]!r}; add it")
    return kind(**values)


def _value(kind: Any, node: yaml.Node, source: str, name: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _dataclass(typing.cast(type[Any], kind), node, source, name)
    place, origin, inner = _place(node, source), typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        if not isinstance(node, yaml.SequenceNode):
            raise UserError(f"{place}: {name} must be a list")
        return [_value(inner[0], entry, source, name) for entry in node.value]
    if origin is dict:
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{place}: {name} must be a mapping of text")
        return {_key(key, source): _value(inner[1], value, source, name) for key, value in node.value}
    lists = [one for one in inner if typing.get_origin(one) is list] if origin is types.UnionType else []
    if lists and isinstance(node, yaml.SequenceNode):
        return _value(lists[0], node, source, name)
    value = plain(node, source)
    if origin is typing.Literal:
        if value not in inner:
            known = list(filter(None, inner))
            hint = f"{value!r} is not one of {', '.join(known)}", closest(str(value), known, "")
            raise UserError(f"{place}: {name}: {'; '.join(filter(None, hint))}")
        return value
    if origin is types.UnionType:
        if value is None:
            return None
        [kind] = [one for one in inner if one is not types.NoneType and one not in lists]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
        quote = "; put quotes around it" if kind is str and not isinstance(value, list | dict) else ""
        raise UserError(f"{place}: {name}: {value!r} must be {_DESCRIPTIONS[kind]}{quote}")
    return value


def _key(node: yaml.Node, source: str) -> str:
    value = plain(node, source)
    if not isinstance(value, str):
        raise UserError(f"{_place(node, source)}: the key {value!r} must be text; put quotes around it")
    return value


def _place(node: yaml.Node, source: str) -> str:
    return f"{source}:{node.start_mark.line + 1}"
