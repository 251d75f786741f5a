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


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Expand the parameter `settings`, a dataclass of `steps`, into one option for each of its fields."""
    kind: type[Any] = typing.get_type_hints(command)["settings"]
    names = [field.name for field in dataclasses.fields(kind)]
    hints = typing.get_type_hints(kind)

    @functools.wraps(command)
    def expanded(**given: Any) -> None:
        command(settings=kind(**{name: given.pop(name) for name in names}), **given)

    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name != "settings"]
    for field in dataclasses.fields(kind):
        option = cast(Any, Annotated)[hints[field.name], typer.Option(help=field.metadata["help"])]
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


Source = Annotated[
    str, typer.Argument(metavar="DOMAIN", help="A domain that `usermirrorer domains` lists, or your own .yaml.")
]
Name = Annotated[str, typer.Argument(metavar="DOMAIN", help="Domain, or your own .yaml.", callback=domain_name)]
Work = Annotated[Path, typer.Option(help="Directory that holds the output of every step.")]
Workers = Annotated[int, typer.Option(min=1, help="Threads; any number gives the same bytes.")]
BaseUrl = Annotated[str | None, typer.Option(help="Server of openai:MODEL; default: OPENAI_BASE_URL.")]
Prompt = Annotated[str | None, typer.Option(help="Instruction; default: that of the decisions.")]
Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
]
