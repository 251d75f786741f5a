"""What a report is made of, whether it is written as HTML or as Markdown.

Every figure comes with the table that says the same, which Markdown shows in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from usermirrorer.llm.prompts import LABELS


@dataclass(frozen=True)
class TableRow:
    """One row; missing cells at its end stay empty. `kind` is a CSS class.

    A cell is a value, which may be followed by a space and its interval.
    """

    label: str
    cells: list[str]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """`headings` are of the cells, after the row's label."""

    form: ClassVar[str] = "table"
    headings: list[str]
    rows: list[TableRow]
    title: str = ""


@dataclass(frozen=True)
class Figure:
    """A plot, and the table that says the same; on the page it is `folded` away or stands below the plot."""

    form: ClassVar[str] = "figure"
    title: str
    svg: str
    table: Table
    folded: bool = True


@dataclass(frozen=True)
class Example:
    """One scene to read; `scene` is a row of `examples.json`."""

    form: ClassVar[str] = "example"
    scene: Mapping[str, Any]

    @property
    def options(self) -> list[tuple[str, str, float, bool]]:
        """Letter, text, probability, and whether the person chose it, in the order shown."""
        scene = self.scene
        rows = zip(LABELS, scene["options"], scene["probs"], strict=False)
        return [(letter, text, prob, i == scene["choice"]) for i, (letter, text, prob) in enumerate(rows)]

    @property
    def title(self) -> str:
        """What happened, in words."""
        scene = self.scene
        chosen = f"{LABELS[scene['choice']]} was chosen, with a probability of {scene['probs'][scene['choice']]:.2f}"
        return f"{scene['kind'].capitalize()}: {chosen}"

    @property
    def rationale(self) -> str:
        """What the text is, and what it ends in."""
        named, samples = self.scene["named"], self.scene["samples"]
        end = "names no option" if named is None else f"names {LABELS[named]}"
        return f"What the model wrote, the first of {samples} decision processes; it {end}"


@dataclass(frozen=True)
class Commands:
    form: ClassVar[str] = "commands"
    lines: list[str]


@dataclass(frozen=True)
class Section:
    title: str
    words: list[str] = field(default_factory=list)
    parts: Sequence[Table | Figure | Example | Commands] = ()
    warns: bool = False
