"""A domain in a few lines for people, and a sketch of the directory of its raw files."""

from __future__ import annotations

from typing import Any

from usermirrorer.data.sources.domain import Domain


def about(domain: Domain) -> list[str]:
    """What a domain is: its title, publisher and licence, what it supports and what it hides."""
    lines = [
        f"{domain.name}: {domain.title}",
        f"  from {domain.publisher}",
        f"  licence: {domain.licence}",
        f"  exposures: {', '.join(domain.exposures)}; choices: {', '.join(domain.choice_rules)}",
    ]
    hidden = _hidden(domain)
    return [*lines, f"  hidden without --snapshot: {', '.join(hidden)}"] if hidden else lines


def facts(domain: Domain) -> dict[str, Any]:
    """The same for programs, with every raw file and what it holds."""
    return {
        "name": domain.name,
        "title": domain.title,
        "publisher": domain.publisher,
        "licence": domain.licence,
        "exposures": list(domain.exposures),
        "choices": list(domain.choice_rules),
        "hidden": _hidden(domain),
        "raw_files": dict(domain.raw_files),
    }


def directory_sketch(domain: Domain) -> list[str]:
    """The directory of a domain's raw files, a file a line: whether it is needed, and what it holds."""
    if not domain.raw_files:
        return ["It is made, not read: it needs no raw files."]
    other = {name for names in domain.alternatives for name in names[1:]}
    rows = [("RAW/", "", "")]
    above = before = ""
    for path, content in domain.raw_files.items():
        folder, _, name = path.rpartition("/")
        if folder and folder != above:
            rows.append((f"  {folder}/", "", ""))
        above = folder
        status = "or" if path in other else "optional" if path in domain.optional else "needed"
        if status == "or" and content == before:
            content = ""
        before = content or before
        rows.append((f"    {name}" if folder else f"  {name}", status, content))
    width = max(len(place) for place, _, _ in rows)
    return [f"{place:{width}}  {status:8}  {content}".rstrip() for place, status, content in rows]


def _hidden(domain: Domain) -> list[str]:
    """Fields that are shown only with --snapshot."""
    return [field for field, kind in domain.fields.items() if kind == "snapshot"]
