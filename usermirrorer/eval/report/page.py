"""The report as one HTML page without scripts or external resources, and the same as Markdown.

`sections` says what is in it; `templates` lay it out. Titles and what models wrote are other people's text: it can't
leave its place, nor change the direction or the colour of what stands beside it.
"""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from usermirrorer.console.printable import printable
from usermirrorer.data.artefacts.card import cell, code_block
from usermirrorer.eval.report.sections import sections


TITLE = "User simulator evaluation"


def page(metrics: dict[str, Any]) -> str:
    """Evaluations of the same scenes as HTML, for light and dark screens, wide and narrow ones, and paper."""
    return _render("report.html.j2", metrics, autoescape=True)


def markdown(metrics: dict[str, Any]) -> str:
    """The same as Markdown, with tables in place of figures."""
    return _render("report.md.j2", metrics, autoescape=False)


def _render(template: str, metrics: dict[str, Any], autoescape: bool) -> str:
    environment = Environment(
        loader=PackageLoader("usermirrorer.eval.report"),
        autoescape=autoescape,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    values = {
        "title": TITLE,
        "source": metrics["source"],
        "scenes": metrics["scenes"],
        "sections": sections(metrics),
        "cell": cell,
        "code_block": code_block,
    }
    return environment.get_template(template).render(values)


def _shown(value: Any) -> Any:
    # A figure is a string of its own type, which says that it is escaped already.
    return type(value)(printable(value)) if isinstance(value, str) else value
