"""Data recipes: one YAML file that says how pairs are made, read strictly."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from usermirrorer.data.pairs.distill import DistillSettings
from usermirrorer.errors import UserError
from usermirrorer.llm.protocol import Sampling


@dataclass(frozen=True)
class SceneCounts:
    """Scenes of each split and how many options they have: `min`…`max` in train, `test_min`…`test_max` in test."""

    train: int
    test: int
    min: int = 2
    max: int = 12
    test_min: int = 5
    test_max: int = 5


@dataclass(frozen=True)
class DomainRecipe:
    """One source of scenes."""

    name: str
    scenes: SceneCounts
    exposure: str = ""
    choice: str = ""
    raw: str = ""
    snapshot: bool = False


@dataclass(frozen=True)
class Writer:
    """A model that writes decision processes, and how it is sampled."""

    llm: str
    n: int = 10
    temperature: float = 1.0
    top_p: float = 0.9
    max_tokens: int = 1024

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_tokens)


@dataclass(frozen=True)
class Predictor:
    """The model under which decision processes are scored."""

    llm: str


@dataclass(frozen=True)
class Distill:
    """Selection of the pairs; see `DistillSettings`."""

    num: int = 10000
    selector: str = "uncertainty"
    behaviour: str = "argmax"
    rejected_from: str = "strong"
    min_accepted: int = 0

    def settings(self, name: str, seed: int) -> DistillSettings:
        """0 for `min_accepted` is the default rule, by chance probability."""
        return DistillSettings(
            name=name, num=self.num, seed=seed, selector=self.selector, behaviour=self.behaviour,
            rejected_from=self.rejected_from, min_accepted=self.min_accepted or None,
        )  # fmt: skip


@dataclass(frozen=True)
class DataRecipe:
    """From raw files to pairs."""

    name: str
    domains: list[DomainRecipe]
    strong: Writer
    weak: Writer
    predictor: Predictor
    seed: int = 0
    prompt: str = "ekb"
    embedder: str = "tfidf"
    distill: Distill = field(default_factory=Distill)


def read_data_recipe(path: Path) -> DataRecipe:
    """The recipe in a file. Raises UserError with file:line for a wrong name, type or missing key."""
    if not path.is_file():
        raise UserError(f"There is no recipe at '{path}'; recipes/data/ holds some")
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not YAML ({getattr(error, 'problem', error)})") from None
    return _dataclass(DataRecipe, node, path, "recipe")


def _dataclass(kind: type[Any], node: yaml.Node | None, path: Path, name: str) -> Any:
    if not isinstance(node, yaml.MappingNode):
        line = 1 if node is None else node.start_mark.line + 1
        raise UserError(f"{path}:{line}: {name} must be a mapping of {', '.join(_types(kind))}")
    types, values = _types(kind), {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value not in types:
            near = difflib.get_close_matches(key.value, types, n=1)
            hint = f"did you mean {near[0]}?" if near else f"use {', '.join(types)}"
            raise UserError(f"{path}:{line}: unknown key {key.value!r} in {name}; {hint}")
        if key.value in values:
            raise UserError(f"{path}:{line}: {key.value!r} stands twice in {name}; delete one")
        values[key.value] = _value(types[key.value], value, path, key.value)
    missing = [f.name for f in dataclasses.fields(kind) if f.name not in values and _required(f)]
    if missing:
        raise UserError(f"{path}:{node.start_mark.line + 1}: {name} needs {missing[0]!r}; add it")
    return kind(**values)


def _value(kind: Any, node: yaml.Node, path: Path, name: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _dataclass(typing.cast(type[Any], kind), node, path, name)
    line = node.start_mark.line + 1
    if typing.get_origin(kind) is list:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise UserError(f"{path}:{line}: {name} must be a list with at least one entry")
        return [_value(typing.get_args(kind)[0], entry, path, name) for entry in node.value]
    value = yaml.SafeLoader("").construct_object(node, deep=True)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UserError(f"{path}:{line}: {name} is {value!r}; it must be {_NAMES[kind]}")
    return value


_NAMES = {int: "a whole number", float: "a number", str: "a text"}


def _types(kind: type[Any]) -> dict[str, Any]:
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if name in kind.__dataclass_fields__}


def _required(field_: dataclasses.Field[Any]) -> bool:
    return field_.default is dataclasses.MISSING and field_.default_factory is dataclasses.MISSING
