"""The command that lists, prints and copies what is shipped: recipes and accelerate configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usermirrorer.cli.options import reports
from usermirrorer.errors import UserError


@reports
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this one.")] = None,
    out: Annotated[Path | None, typer.Option(help="Copy it to this new file instead, to edit.")] = None,
) -> None:
    """List the recipes and accelerate configurations that can be given by name; print or copy one.

    Example: usermirrorer recipes toy --out my-toy.yaml
    """
    from usermirrorer import console
    from usermirrorer.console.tables import show_table
    from usermirrorer.errors import closest
    from usermirrorer.shipped import ACCELERATE, DATA, headline, shipped
    from usermirrorer.train.config import METHODS

    uses = {DATA: "build --config", **{method: f"train {method} --config" for method in METHODS}}
    uses[ACCELERATE] = "train METHOD --config RECIPE --accelerate"
    if name is None:
        if out is not None:
            raise UserError(f"--out {out}: which recipe? Write usermirrorer recipes NAME --out {out}")
        for kind, use in uses.items():
            console.headline(f"usermirrorer {use} NAME")
            show_table(("NAME", ""), [(known, headline(path)) for known, path in shipped(kind).items()], "lp")
        listed = {use: {known: headline(path) for known, path in shipped(kind).items()} for kind, use in uses.items()}
        console.report({"recipes": listed})
        return
    found = {known: (path, use) for kind, use in uses.items() for known, path in shipped(kind).items()}
    if name not in found:
        raise UserError(f"'{name}' is not the name of a recipe; {closest(name, found, 'leave it out to list them')}")
    path, use = found[name]
    if out is None:
        text = path.read_text(encoding="utf-8")
        typer.echo(text, nl=False)
        console.report({"name": name, "text": text})
        return
    try:
        with open(out, "xb") as copy:
            copy.write(path.read_bytes())
    except FileExistsError:
        raise UserError(f"{out} exists and is left as it is; name another file") from None
    except OSError as error:
        raise UserError(f"{out}: the copy cannot be written here ({error.strerror})") from None
    console.headline(f"{name} is copied; edit it and run usermirrorer {use} {out}")
    console.report({"name": name, "file": str(out)})
