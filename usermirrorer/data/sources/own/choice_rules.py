"""What counts as a choice in your YAML: `any`, `is_read`, `rating >= 4`, `rating >= value`, `kind == bought`.

A rule is `any`, a column of yes and no, or COLUMN OPERATOR X: numbers are compared with >= > <= < == and !=, words
with == and !=; the word `value` stands for the number on the command line (`--choice NAME=4`). Nothing is evaluated as
code.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from usermirrorer.data.sources.domain import EVERY_EVENT
from usermirrorer.data.sources.own.values import Kind


Rule = Callable[[float], pl.Expr]

_OPERATORS: Mapping[str, Callable[[Any, Any], pl.Expr]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_RULE = re.compile(r"([^\W\d][\w-]*)(?:\s*(>=|<=|==|!=|>|<)\s*([^\s<>=!].*?))?\s*", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


def parse_rule(text: str) -> tuple[Rule, Mapping[str, Kind], bool]:
    """The rule, the column that it uses with what that must hold, and whether it takes a value.

    Raises ValueError with the reason if the text is not a rule.
    """
    found = _RULE.fullmatch(text.strip())
    if not found:
        raise ValueError("a rule is any, COLUMN, COLUMN >= 4, COLUMN >= value or COLUMN == word")
    column, sign, operand = found.groups()
    if sign is None and column == "any":
        return EVERY_EVENT["any"], {}, False
    # An event with an unknown value is not a choice.
    if sign is None:
        return lambda _: pl.col(column).fill_null(False), {column: "flag"}, False

    def compared(other: float | str) -> pl.Expr:
        return _OPERATORS[sign](pl.col(column), pl.lit(other)).fill_null(False)

    if operand == "value":
        return compared, {column: "number"}, True
    if _NUMBER.fullmatch(operand):
        return lambda _: compared(float(operand)), {column: "number"}, False
    if sign not in ("==", "!="):
        raise ValueError(f"{operand!r} is not a number; compare words with == or !=")
    quoted = len(operand) > 1 and operand[0] == operand[-1] and operand[0] in "'\""
    return lambda _: compared(operand[1:-1] if quoted else operand), {column: "text"}, False
