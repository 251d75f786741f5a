"""Options of the command line: those that several commands share, and those made from the settings of a step."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import typer


def reports(command: Callable[..., None]) -> Callable[..., None]:
    """Add --quiet, --json and --verbose to a command that prints through `console`."""

    @functools.wraps(command)
    def reporting(*, quiet: bool, as_json: bool, verbose: bool, **given: Any) -> None:
        from usermirrorer.console import output
        from usermirrorer.console.libraries import quiet_libraries

        with output(quiet, as_json, verbose):
            quiet_libraries()
            command(**given)

    own = inspect.signature(command, eval_str=True).parameters.values()
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=flag)
        for name, flag in (("quiet", Quiet), ("as_json", AsJson), ("verbose", Verbose))
    ]
    parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *flags]
    reporting.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    reporting.__annotations__ = {p.name: p.annotation for p in parameters}
    return reporting


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Expand parameters that are dataclasses of `steps` into one option for each of their fields.

    Those of `settings` come first; those of any other are a panel of `--help` under its name.
    """
    hints = typing.get_type_hints(command)
    own = inspect.signature(command, eval_str=True).parameters.values()
    kinds: dict[str, type[Any]] = {p.name: hints[p.name] for p in own if dataclasses.is_dataclass(hints[p.name])}
    fields = {name: dataclasses.fields(kind) for name, kind in kinds.items()}

    @functools.wraps(command)
    def expanded(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in fields[name]}) for name, kind in kinds.items()
        }
        command(**made, **given)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name not in kinds]
    for name, kind in kinds.items():
        types, panel = typing.get_type_hints(kind), None if name == "settings" else name.capitalize()
        for field in fields[name]:
            shown = typer.Option(help=field.metadata["help"], rich_help_panel=panel)
            option = cast(Any, Annotated)[types[field.name], shown]
            default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
            parameters.append(
                inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)
            )
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {p.name: p.annotation for p in parameters}
    return expanded


def _print_version(requested: bool) -> None:
    if requested:
        from usermirrorer import __version__

        print(f"usermirrorer {__version__}")
        raise typer.Exit


def domain_name(domain: str) -> str:
    """The name of a domain that may be given as the path of its YAML."""
    if not domain.endswith((".yaml", ".yml")):
        return domain
    from usermirrorer.data.sources import load_domain

    return load_domain(domain).name


def complete_domain(incomplete: str) -> list[str]:
    """The domains that begin so, for the shell's completion."""
    from usermirrorer.data.sources import DOMAINS

    return [name for name in DOMAINS if name.startswith(incomplete)]


Source = Annotated[
    str,
    typer.Argument(
        metavar="DOMAIN",
        help="A domain that `usermirrorer domains` lists, or your own .yaml.",
        autocompletion=complete_domain,
    ),
]
Name = Annotated[
    str,
    typer.Argument(
        metavar="DOMAIN", help="Domain, or your own .yaml.", callback=domain_name, autocompletion=complete_domain
    ),
]
Work = Annotated[Path, typer.Option(help="Directory that holds the output of every step.")]
Workers = Annotated[int, typer.Option(min=1, help="Threads; any number gives the same bytes.")]
BaseUrl = Annotated[
    list[str] | None,
    typer.Option(help="Server of openai:MODEL, or several that share the work; default: OPENAI_BASE_URL."),
]
Concurrency = Annotated[
    int | None, typer.Option(min=1, help="Most requests at a time at each server of openai:MODEL; default: 64.")
]
Prompt = Annotated[str | None, typer.Option(help="Instruction; default: that of the decisions.")]
Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print only warnings and the last line.", rich_help_panel="Output")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the facts as one JSON object.", rich_help_panel="Output")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Also print what libraries say.", rich_help_panel="Output")]
