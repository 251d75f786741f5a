"""The command that drafts the YAML of your own log. It parses, calls and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usermirrorer.cli.options import reports
from usermirrorer.errors import UserError


@reports
def init(
    events: Annotated[Path, typer.Argument(help="Your events: .csv, .tsv, .jsonl (also .gz) or .parquet.")],
    items: Annotated[Path | None, typer.Argument(help="What the items are, if another file says so.")] = None,
    users: Annotated[Path | None, typer.Argument(help="What is known of the users, if another file says so.")] = None,
    name: Annotated[str, typer.Option(help="Name of the domain; default: that of the events' file.")] = "",
    out: Annotated[Path | None, typer.Option(help="The YAML; default: NAME.yaml.")] = None,
    user: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the events that says who.")] = "",
    item: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the events that says what.")] = "",
    time: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the events that says when.")] = "",
) -> None:
    """Draft the YAML of your own log from its tables, with a reason for every guess.

    Example: usermirrorer init events.csv products.csv --name shop
    """
    from usermirrorer.console import headline, report, say
    from usermirrorer.data.sources import DOMAINS
    from usermirrorer.data.sources.own.draft import draft, next_steps, summary

    name = name or events.name.split(".")[0]
    if name in DOMAINS:
        raise UserError(f"--name {name}: a domain of this package has this name; choose another")
    out = out or Path(f"{name}.yaml")
    if out.exists():
        raise UserError(f"{out} is there already; name another with --out, or delete it to draft it again")
    files = {table: path for table, path in (("events", events), ("items", items), ("users", users)) if path}
    found = draft(files, out, name, {"user": user, "item": item, "time": time})
    out.write_text(found.text, encoding="utf-8")
    first, *guesses = summary(found, out)
    headline(first)
    say("\n".join([*guesses, *next_steps(out, name)]))
    guessed = [{"key": key, "value": value, "why": why} for key, value, why in found.guesses]
    report({"yaml": str(out), "guesses": guessed, "unused": found.unused, "dropped": dict(found.tables.dropped)})
