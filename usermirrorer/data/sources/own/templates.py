"""Templates of your own YAML: whether they are valid, what they show, and what their columns must hold."""

from __future__ import annotations

import re
from collections.abc import Iterable

from usermirrorer.data.sources.own.values import Kind
from usermirrorer.data.sources.templates import field_names, formatted, placeholders, required_names


def check_template(template: str, one_line: bool) -> None:
    """Raises ValueError with the reason if a text is not a template or would break a line of the scene.

    A template of several lines (the profile) leaves out whole lines, so it has no optional parts.
    """
    for name, spec in _fields(template):
        if not re.fullmatch(r"[^\W\d][\w -]*", name):
            raise ValueError(f"{{{name}}} is not a column name; use letters, digits and _, and rename with `columns`")
        try:
            formatted(1, spec), formatted(1.5, spec)
        except ValueError:
            raise ValueError(
                f"{{{name}:{spec}}} is not a format for numbers; write {{{name}}}, or for example {{{name}:.1f}} or "
                f"{{{name}:,.0f|review|reviews}}"
            ) from None
    if not one_line and ("<" in template or ">" in template):
        raise ValueError("has < or >; delete them: lines with an unknown value are left out anyway")
    if not re.fullmatch(r"([^<>]|<[^<>]*>)*", template):
        raise ValueError(f"{template!r} has an unmatched < or >; write an optional part between < and >")
    if one_line and len(template.splitlines()) > 1:
        raise ValueError("is shown as one line; put it on one line")
    if one_line and not field_names(template):
        raise ValueError(f"{template!r} shows nothing; write {{column}} where a value goes")


def check_optional(template: str, names: Iterable[str]) -> None:
    """Raises ValueError if a value that can be unknown is outside of <angle brackets>."""
    for name in sorted(required_names(template).intersection(names)):
        raise ValueError(f"{{{name}}} is not always known; put it in <angle brackets>, to be left out when unknown")


def column_kinds(template: str, leave_out: Iterable[str]) -> dict[str, Kind]:
    """What each column of a template must hold, in the order shown: numbers if its format is one for numbers."""
    kinds: dict[str, Kind] = {}
    for name, spec in _fields(template):
        if name not in leave_out and kinds.get(name) != "number":
            kinds[name] = "number" if _only_for_numbers(spec) else "any"
    return kinds


def _fields(template: str) -> list[tuple[str, str]]:
    try:
        return placeholders(template)
    except ValueError as error:
        raise ValueError(f"{template!r} is not a template ({error}); write {{column}}, {{{{ for a brace") from None


def _only_for_numbers(spec: str) -> bool:
    try:
        formatted("text", spec)
    except ValueError:
        return True
    return False
