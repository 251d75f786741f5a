"""The command line: one command per step. Each room of commands parses, calls and prints."""

from __future__ import annotations

import io
import sys

import typer

from usermirrorer.cli.artefacts import push, show, validate
from usermirrorer.cli.data import build, decide, distill, domains, prepare, scenes, score
from usermirrorer.cli.doctor import doctor
from usermirrorer.cli.models import evaluate, merge, report, simulate, train
from usermirrorer.cli.options import Version
from usermirrorer.cli.own import init
from usermirrorer.cli.recipes import recipes
from usermirrorer.console.printable import printable
from usermirrorer.errors import UserError, told


app = typer.Typer(
    help="Turn interaction logs into preference-aligned LLM user simulators, and measure them.\n\n"
    "The path: prepare → scenes → decide → score → distill (all five: build) → train sft → train dpo → eval → report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def usermirrorer(version: Version = False) -> None:
    pass


app.command()(domains)
app.command()(init)
app.command()(prepare)
app.command()(scenes)
app.command()(decide)
app.command()(score)
app.command()(distill)
app.command()(build)
app.command()(recipes)
app.command()(doctor)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(train)
app.command()(merge)
app.command("eval")(evaluate)
app.command()(simulate)
app.command()(report)
app.command()(validate)
app.command()(show)
app.command()(push)


def main() -> None:
    """Entry point: one sentence for errors the user can fix, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Where the terminal lacks a character, it shows another; no step fails for it.
        sys.stdout.reconfigure(errors="replace")
    try:
        app(prog_name="usermirrorer")
    except Exception as error:
        known = told(error)
        if known is None:
            raise
        print(f"usermirrorer: {printable(str(known))}", file=sys.stderr)
        sys.exit(2 if isinstance(known, UserError) else 1)
