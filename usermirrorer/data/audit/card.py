"""The card of a published data set: sources, windows, counts, exposure, checks, recipe, and how to rebuild it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from usermirrorer.data.artefacts.card import render_card
from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks.result import Check
from usermirrorer.data.sources import load_domain
from usermirrorer.errors import UserError
from usermirrorer.wording import describe_exposure, describe_probe


TEMPLATE = Path(__file__).parent / "templates" / "dataset_card.md.j2"

SPLITS = {"scenes": "", "baselines": "", "decisions": "", "predictions": "", "pairs": "train"}
"""Kind of published artefact -> its split on the Hub; empty: the artefact's own split or variant."""

LICENCES = ("mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
"""Licences that the Hub knows by this name; any other, or several, become `other`."""

TIMES = {"static": "fixed for ever", "as_of": "as of the scene", "snapshot": "as of the end of the crawl"}
"""How a shown value relates to time -> words."""


@dataclass(frozen=True)
class Source:
    """A domain whose log the data set is made from."""

    domain: str
    title: str
    publisher: str
    licence: str
    with_text: bool
    """Whether the text of its prompts may be passed on"""
    tables: Mapping[str, Any]
    """The manifest content of its tables, empty if they are not beside the artefact"""


def source_of(artefact: Artefact, domain: str) -> Source:
    """What is known of a domain, from its declaration if we support it and from the manifest of its tables.

    The text of an unknown log is not passed on by default.
    """
    beside = artefact.beside("tables", "", domain)
    tables = beside.content if beside else {}
    try:
        known = load_domain(domain, artefact.work)
    except UserError:
        return Source(domain, domain, tables.get("publisher", ""), tables.get("licence", "not stated"), False, tables)
    return Source(domain, known.title, known.publisher, known.licence, known.redistribute_text, tables)


def config_of(artefact: Artefact, artefacts: Sequence[Artefact]) -> str:
    """The configuration that holds an artefact: its kind and, if there are pairs of several names, the name."""
    names = {other.part for other in artefacts if other.kind == "pairs"}
    return f"pairs-{artefact.part}" if artefact.kind == "pairs" and len(names) > 1 else artefact.kind


def place_in_repo(artefact: Artefact) -> str:
    """The directory of an artefact's files in the data set."""
    return "/".join(part for part in ("data", artefact.kind, artefact.domain, artefact.part) if part)


def dataset_card(
    repo_id: str,
    artefacts: Sequence[Artefact],
    sources: Sequence[Source],
    include_text: bool,
    checks: Sequence[Check],
    rebuild: Mapping[str, Any],
) -> str:
    """The README.md of a data set; `rebuild` is the content of `rebuild.yaml`."""
    contents = {artefact.name: artefact.content for artefact in artefacts}
    name = repo_id.split("/")[-1]
    values = {
        "name": name,
        "files": [(config_of(a, artefacts), place_in_repo(a), a.content["rows"]) for a in artefacts],
        "withheld": [source.domain for source in sources if not (source.with_text or include_text)],
        "sources": sources,
        "include_text": include_text,
        "shown": {source.domain: _shown_values(source) for source in sources},
        "windows": {source.domain: _windows(source) for source in sources if "cuts" in source.tables},
        "counts": _yaml(_counts(contents, sources)),
        "exposures": {a.name: describe_exposure(a.content) for a in artefacts if a.kind == "scenes"},
        "probes": _probes(contents),
        "checks": checks,
        "recipe": _yaml({step: content["recipe"] for step, content in contents.items()}),
        "rebuild": rebuild,
    }
    return render_card("dataset", TEMPLATE, _header(name, artefacts, sources), values)


def _header(name: str, artefacts: Sequence[Artefact], sources: Sequence[Source]) -> dict[str, Any]:
    """What the Hub and `load_dataset` read: the licence, and the files of every configuration and split."""
    configs: dict[str, dict[str, list[str]]] = {}
    for artefact in artefacts:
        splits = configs.setdefault(config_of(artefact, artefacts), {})
        files = f"{place_in_repo(artefact)}/*.parquet"
        splits.setdefault(SPLITS[artefact.kind] or artefact.part, []).append(files)
    licences = {source.licence.lower() for source in sources}
    licence = licences.pop() if len(licences) == 1 else ""
    known = {"license": licence} if licence in LICENCES else {"license": "other", "license_name": "see-sources-below"}
    return {
        "pretty_name": name,
        **known,
        "tags": ["usermirrorer", "user-simulation", "recommender-systems"],
        "configs": [
            {
                "config_name": config,
                **({"default": True} if index == 0 else {}),
                "data_files": [{"split": split, "path": paths} for split, paths in splits.items()],
            }
            for index, (config, splits) in enumerate(configs.items())
        ],
    }


def _shown_values(source: Source) -> list[str]:
    """How the values in a prompt relate to time, and which values are not shown because they know the future."""
    shown = source.tables.get("shown", {})
    names = {kind: [name for name, time in shown.items() if time == kind] for kind in TIMES}
    values = [f"{TIMES[kind]}: {', '.join(found)}" for kind, found in names.items() if found]
    if source.tables.get("hidden"):
        values.append(f"known only as of the end of the crawl, so not shown: {', '.join(source.tables['hidden'])}")
    return values


def _windows(source: Source) -> dict[str, str]:
    """Split -> when its window begins."""
    cuts = source.tables["cuts"].items()
    return {split: f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%d %H:%M} UTC" for split, time in cuts}


def _counts(contents: Mapping[str, Mapping[str, Any]], sources: Sequence[Source]) -> dict[str, Any]:
    """Rows left out, by reason, in the tables and in every artefact."""
    counts = {f"tables/{source.domain}": source.tables.get("dropped") for source in sources}
    counts |= {name: content.get("funnel") or content.get("counts") for name, content in contents.items()}
    return {name: found for name, found in counts.items() if found}


def _probes(contents: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the exposure probe found in every artefact; pairs have one probe for each domain."""
    probes: dict[str, Mapping[str, Any]] = {}
    for name, content in contents.items():
        probe = content.get("probe") or {}
        probes |= {name: probe} if "accuracy" in probe else {f"{name}, {domain}": p for domain, p in probe.items()}
    return [{"name": n, "found": describe_probe(p), "warning": p["warning"]} for n, p in probes.items()]


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=110) if content else ""
