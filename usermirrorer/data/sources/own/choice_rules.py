"""What counts as a choice in your YAML: `any`, `is_read`, `rating >= 4`, `rating >= value`, `kind == bought`.

A rule is `any`, a column of yes and no, or COLUMN OPERATOR X: numbers are compared with >= > <= < == and !=, words
with == and !=; a number called `value` comes from the command line (`--choice NAME=4`). Nothing is evaluated as code.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import polars as pl

from usermirrorer.data.sources.own.values import Kind


Rule = Callable[[float], pl.Expr]

_OPERATORS: Mapping[str, Callable[[Any, Any], pl.Expr]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_RULE = re.compile(r"([^\W\d][\w-]*)(?:\s*(>=|<=|==|!=|>|<)\s*([^\s<>=!].*?))?\s*", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


def parse_rule(text: str) -> tuple[Rule, Mapping[str, Kind], bool]:
    """The rule, the column that it reads and what that must hold, and whether it takes a value.

    Raises ValueError with the reason if the text is not a rule.
    """
    found = _RULE.fullmatch(text.strip())
    if not found:
        raise ValueError("a rule is any, COLUMN, COLUMN >= 4, COLUMN >= value or COLUMN == word")
    column, sign, operand = found.groups()
    if sign is None:
        return (_any, {}, False) if column == "any" else (partial(_flag, column), {column: "flag"}, False)
    if operand == "value":
        return partial(_against_value, column, sign), {column: "number"}, True
    if _NUMBER.fullmatch(operand):
        return partial(_against, column, sign, float(operand)), {column: "number"}, False
    if sign not in ("==", "!="):
        raise ValueError(f"{operand!r} is not a number; compare words with == or !=")
    quoted = len(operand) > 1 and operand[0] == operand[-1] and operand[0] in "'\""
    return partial(_against, column, sign, operand[1:-1] if quoted else operand), {column: "text"}, False


# An event with an unknown value is not a choice.


def _any(value: float) -> pl.Expr:
    return pl.lit(True)


def _flag(column: str, value: float) -> pl.Expr:
    return pl.col(column).fill_null(False)


def _against(column: str, sign: str, other: float | str, value: float) -> pl.Expr:
    return _OPERATORS[sign](pl.col(column), pl.lit(other)).fill_null(False)


def _against_value(column: str, sign: str, value: float) -> pl.Expr:
    return _against(column, sign, value, value)
