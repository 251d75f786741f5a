"""The command that looks at the installation and the machine. It parses, calls and prints."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from usermirrorer.cli.options import reports
from usermirrorer.errors import StepFailed, UserError


@reports
def doctor(
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Also check this model: directory or Hub id.")
    ] = None,
) -> None:
    """Check versions, devices, memory, disk and keys, and say what would run where.

    Example: usermirrorer doctor --model tiny-base
    """
    from usermirrorer import __version__, console
    from usermirrorer.console.tables import show_table
    from usermirrorer.doctor.examine import examine

    found = examine()
    if model is not None and not found["problems"]:
        from usermirrorer.doctor.model import check_model

        try:
            found["model"], warnings = check_model(model)
            found["warnings"] += warnings
        except UserError as error:
            found["problems"].append(str(error))
    console.report(found)
    console.headline(f"usermirrorer {__version__} under Python {found['python']}")
    show_table(("library", "installed", "tested", ""), _versions(found["libraries"]), "lllp")
    show_table(("this machine", ""), _machine(found["machine"]), "lp")
    show_table(("keys and places", ""), _access(found["access"]), "lp")
    show_table(("what would run", ""), list(found["runs"].items()), "lp")
    if "model" in found:
        show_table((str(model), "pad", "eos"), _model(found["model"]), "lll")
    for warning in found["warnings"]:
        console.warn(warning)
    if found["problems"]:
        raise StepFailed("; ".join(found["problems"]))
    console.headline("doctor: all that the path needs is here")


def _versions(libraries: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, one in libraries.items():
        missing = f"pip install 'usermirrorer[{one['extra']}]'" if one["extra"] else "MISSING"
        rows.append((name, one["installed"] or "–", one["tested"] or "–", "" if one["installed"] else missing))
    return rows


def _machine(machine: dict[str, Any]) -> list[tuple[str, str]]:
    gpus = [f"{one['name']}, {one['gib']} GiB, compute capability {one['capability']}" for one in machine["gpus"]]
    processor, memory, disk = machine["processor"], machine["memory"], machine["free_disk_gib"]
    return [
        ("GPUs", "; ".join(gpus) or "none that torch can use"),
        ("cores", f"{processor['cores']}, {'with' if processor['bfloat16'] else 'without'} bfloat16 in hardware"),
        ("memory", f"{memory['gib']} GiB, {memory['available_gib']} GiB available"),
        ("disk", f"{disk['here']} GiB free here"),
        *([("cache of the Hub", f"{disk['hub_cache']} GiB free")] if "hub_cache" in disk else []),
        ("C++ compiler", machine["compiler"] or "none"),
    ]


def _access(access: dict[str, Any]) -> list[tuple[str, str]]:
    from usermirrorer.doctor.access import USES

    keys = [
        (name, f"set {place}" if place else f"not set; for {USES[name]}") for name, place in access["keys"].items()
    ]
    keys += access["settings"].items()
    hub = access["hub"]
    if not hub:  # its client is not installed
        return keys
    reach = "offline (HF_HUB_OFFLINE), only what is in the cache" if hub["offline"] else f"online, {hub['endpoint']}"
    return [*keys, ("Hub", reach), ("its cache", str(hub["cache"]))]


def _model(model: dict[str, Any]) -> list[tuple[str, ...]]:
    ids = [(name, str(model[name]["pad"]), str(model[name]["eos"])) for name in ("tokenizer", "config")]
    end = model["end_of_turn"]
    return [
        *ids,
        ("generation_config", str(model["generation_config"]["pad"]), str(model["generation_config"]["eos"])),
        ("end of an answer", "", f"{end['id']} ({end['token']})"),
    ]
