"""Tables that fit the terminal: columns for which it is too narrow follow in further tables under the same labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from usermirrorer.console import is_silent, terminal
from usermirrorer.console.printable import printable


INDENT, GAP = 2, 2

NARROW_LABELS = 28
"""Labels get no more than this if a table would otherwise fall apart: room for two estimates beside them."""

NARROW_PROSE = 24
"""The least width at which prose is worth wrapping."""

Row = Sequence[str] | None
"""The cells of a row, the label first; None draws a line."""


def show_table(
    headings: Sequence[str],
    rows: Sequence[Row],
    align: str = "lr",
    title: str = "",
    styles: Mapping[str, str] | None = None,
) -> None:
    """Print a table, no wider than the terminal. The first column labels the rows.

    `align` has a letter for each column, the last one for all that follow: `l`, `r`, or `p` for prose, which is
    aligned left and wrapped. Rows without a cell in the columns of a further table are left out of it.
    `styles` maps the text of cells to rich styles.
    """
    from rich import box
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    if is_silent():
        return
    console, styled = terminal(), styles or {}
    align = align[: len(headings)] + align[-1] * (len(headings) - len(align))
    headings = [printable(heading) for heading in headings]
    rows = [row and [printable(cell) for cell in row] for row in rows]
    cells = [row for row in rows if row is not None]
    for number, (label, columns) in enumerate(_fitting(headings, cells, align, console.width - INDENT)):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left")
        for column, width in [(0, label), *columns]:
            right = align[column] == "r"
            table.add_column(headings[column], justify="right" if right else "left", width=width, overflow="fold")
        for row in rows:
            if row is None:
                table.add_section()
            elif not number or any(row[column] for column, _ in columns):
                shown = [row[column] for column, _ in [(0, label), *columns]]
                table.add_row(*(Text(cell, styled.get(cell, "")) for cell in shown))
        if title and not number:
            console.print(Text(" " * INDENT + printable(title), style="bold"))
        console.print(Padding(table, (0, 0, 0, INDENT), expand=False))
        console.print()


def _fitting(
    headings: Sequence[str], rows: Sequence[Sequence[str]], align: str, room: int
) -> list[tuple[int, list[tuple[int, int]]]]:
    """(width of the labels, (column, width) of each column) for every table that is needed."""
    label = _width([headings[0], *(row[0] for row in rows)])
    least = {
        column: _least(headings[column], [row[column] for row in rows], align[column])
        for column in range(1, len(headings))
    }
    narrow = min(NARROW_LABELS, room // 2)
    label = min(label, max(narrow, room - sum(GAP + width for width in least.values())))
    tables: list[list[int]] = [[]]
    for column in least:
        taken = label + sum(GAP + least[one] for one in [*tables[-1], column])
        if taken > room and tables[-1]:
            tables.append([])
        tables[-1].append(column)
    return [(label, _widened(columns, headings, rows, least, align, room - label)) for columns in tables]


def _widened(
    columns: Sequence[int],
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    least: dict[int, int],
    align: str,
    room: int,
) -> list[tuple[int, int]]:
    """Widths of the columns of one table; prose takes what is left, headings as much as they need."""
    free = max(room - sum(GAP + least[column] for column in columns), 0)
    widths = []
    for column in columns:
        natural = _width([headings[column], *(row[column] for row in rows if align[column] == "p")])
        more = min(max(natural - least[column], 0), free)
        free -= more
        widths.append((column, min(least[column] + more, room - GAP)))
    return widths


def _least(heading: str, cells: Sequence[str], align: str) -> int:
    """The narrowest that a column can be without breaking a word of its heading, or a cell that is not prose."""
    words = _width(heading.split())
    return max(words, min(_width(cells), NARROW_PROSE)) if align == "p" else max(words, _width(cells))


def _width(texts: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max((cell_len(line) for text in texts for line in text.splitlines()), default=0)
