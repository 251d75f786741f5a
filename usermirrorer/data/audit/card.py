"""The card of a published data set: sources, licences, windows, counts, probe, checks, recipe, how to rebuild it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks import Check
from usermirrorer.data.audit.splits import told_probe
from usermirrorer.data.sources import load_domain
from usermirrorer.errors import UserError


SPLITS = {"scenes": "", "baselines": "", "decisions": "", "predictions": "", "pairs": "train"}
"""Kind of published artefact -> its split on the Hub; empty: its own split or variant."""

LICENCES = ("mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
"""Licences that the Hub knows by this name; a data set of any other, or of several, is `other`."""


@dataclass(frozen=True)
class Source:
    """A domain whose log the data set is made from."""

    domain: str
    title: str
    publisher: str
    licence: str
    with_text: bool
    """Whether what a prompt shows may be passed on"""
    tables: Mapping[str, Any]
    """Content of the manifest of the tables, empty where they are not beside the artefact"""


def source_of(artefact: Artefact, domain: str) -> Source:
    """What is known of a domain: its declaration where it is a supported one, and the manifest of its tables.

    The text of a log that nothing more is known of is not passed on unasked.
    """
    beside = artefact.beside("tables", "", domain)
    tables = dict(beside.content or {}) if beside else {}
    try:
        known = load_domain(domain, artefact.work)
    except UserError:
        return Source(domain, domain, tables.get("publisher", ""), tables.get("licence", "not stated"), False, tables)
    return Source(domain, known.title, known.publisher, known.licence, known.redistribute_text, tables)


def card(
    repo_id: str,
    artefacts: Sequence[Artefact],
    sources: Sequence[Source],
    include_text: bool,
    checks: Sequence[Check],
    rebuild: Mapping[str, Any],
) -> str:
    """The README.md of a data set; `rebuild` is what `rebuild.yaml` holds."""
    withheld = [source.domain for source in sources if not (source.with_text or include_text)]
    front = yaml.safe_dump(_front(repo_id, artefacts, sources), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{front}---\n", f"# {repo_id.split('/')[-1]}\n", _what(artefacts, withheld)]
    parts += [_sources(sources, include_text), _windows(sources), _counts(artefacts, sources), _probe(artefacts)]
    parts += [_checks(checks), _recipe(artefacts), _rebuild(rebuild, withheld)]
    return "\n".join(part for part in parts if part)


def config_of(artefact: Artefact, artefacts: Sequence[Artefact]) -> str:
    """The configuration that holds an artefact: its kind, and for pairs of several names the name too."""
    names = {other.part for other in artefacts if other.kind == "pairs"}
    return f"pairs-{artefact.part}" if artefact.kind == "pairs" and len(names) > 1 else artefact.kind


def place_in_repo(artefact: Artefact) -> str:
    """The directory of an artefact's files in the data set."""
    return "/".join(part for part in ("data", artefact.kind, artefact.domain, artefact.part) if part)


def _front(repo_id: str, artefacts: Sequence[Artefact], sources: Sequence[Source]) -> dict[str, Any]:
    """YAML that the Hub and `load_dataset` read: licence, and which files make which configuration and split."""
    configs: dict[str, dict[str, list[str]]] = {}
    for artefact in artefacts:
        splits = configs.setdefault(config_of(artefact, artefacts), {})
        place = f"{place_in_repo(artefact)}/*.parquet"
        splits.setdefault(SPLITS[artefact.kind] or artefact.part, []).append(place)
    named = [
        {
            "config_name": name,
            **({"default": True} if index == 0 else {}),
            "data_files": [{"split": split, "path": paths} for split, paths in splits.items()],
        }
        for index, (name, splits) in enumerate(configs.items())
    ]
    licences = {source.licence.lower() for source in sources}
    licence = licences.pop() if len(licences) == 1 else ""
    known = {"license": licence} if licence in LICENCES else {"license": "other", "license_name": "see-sources-below"}
    return {
        "pretty_name": repo_id.split("/")[-1],
        **known,
        "tags": ["usermirrorer", "user-simulation", "recommender-systems"],
        "configs": named,
    }


def _what(artefacts: Sequence[Artefact], withheld: Sequence[str]) -> str:
    lines = [
        "Made by `usermirrorer` from logs of what people chose.",
        "",
        "| configuration | files | rows |",
        "|---|---|---|",
    ]
    for artefact in artefacts:
        rows = (artefact.content or {})["rows"]
        lines.append(f"| `{config_of(artefact, artefacts)}` | `{place_in_repo(artefact)}` | {rows:,} |")
    if withheld:
        names = ", ".join(withheld)
        told = f"The text of {names} may not be passed on, so rows have their ids and empty text."
        lines += ["", f"{told} *Rebuild* says how to get it from the raw files."]
    return "\n".join([*lines, ""])


def _sources(sources: Sequence[Source], include_text: bool) -> str:
    lines = ["## Sources and licences", "", "| domain | source | licence | text |", "|---|---|---|---|"]
    asked = "included on the publisher's own responsibility" if include_text else "withheld"
    for source in sources:
        text = "included" if source.with_text else asked
        lines.append(f"| `{source.domain}` | {source.title}, {source.publisher} | {source.licence} | {text} |")
    return "\n".join([*lines, "", *map(_shown, sources)])


def _shown(source: Source) -> str:
    """How the values that a prompt shows relate to time, and which are not shown since they know too much."""
    shown, told = source.tables.get("shown", {}), []
    words = {"static": "fixed for ever", "as_of": "as of the scene", "snapshot": "as of the end of the crawl"}
    for kind, said in words.items():
        names = [name for name, of in shown.items() if of == kind]
        told += [f"{said}: {', '.join(names)}"] if names else []
    if source.tables.get("hidden"):
        told.append(f"known only as of the end of the crawl, so not shown: {', '.join(source.tables['hidden'])}")
    return f"Values of `{source.domain}`, {'; '.join(told)}.\n" if told else ""


def _windows(sources: Sequence[Source]) -> str:
    cuts = {source.domain: source.tables["cuts"] for source in sources if "cuts" in source.tables}
    lines = ["## Windows", "", "| domain | train from | test from |", "|---|---|---|"]
    lines += [f"| `{name}` | {_time(cut['train'])} | {_time(cut['test'])} |" for name, cut in cuts.items()]
    return "\n".join([*lines, ""]) if cuts else ""


def _counts(artefacts: Sequence[Artefact], sources: Sequence[Source]) -> str:
    counted = {f"tables/{source.domain}": source.tables.get("dropped") for source in sources}
    for artefact in artefacts:
        content = artefact.content or {}
        counted[artefact.name] = content.get("funnel") or content.get("counts")
    return _block("Counts by reason", {name: counts for name, counts in counted.items() if counts})


def _probe(artefacts: Sequence[Artefact]) -> str:
    """How much the exposure gives away: no accuracy on these rows means anything without it."""
    probes: dict[str, Mapping[str, Any]] = {}
    for artefact in artefacts:
        probe = (artefact.content or {}).get("probe") or {}
        probes |= (
            {artefact.name: probe} if "accuracy" in probe else {f"{artefact.name}, {d}": p for d, p in probe.items()}
        )
    lines = [
        "## Exposure probe",
        "",
        "What classifiers that see nothing of the user find, by what is shown alone [95 %]:",
        "",
    ]
    for name, probe in probes.items():
        warned = (
            " **The exposure gives the choice away; read every accuracy against this.**" if probe["warning"] else ""
        )
        lines.append(f"* `{name}`: {told_probe(probe)}.{warned}")
    return "\n".join([*lines, ""]) if probes else ""


def _checks(checks: Sequence[Check]) -> str:
    """What `validate` said before the data set was published: positions, cold items, users and the rest."""
    lines = ["## Checks", "", "| artefact | check | result | counts |", "|---|---|---|---|"]
    lines += [f"| `{c.artefact}` | {c.name} | {c.result} | {c.told.replace('|', '/')} |" for c in checks]
    return "\n".join([*lines, ""])


def _recipe(artefacts: Sequence[Artefact]) -> str:
    return _block("Recipe", {artefact.name: (artefact.content or {})["recipe"] for artefact in artefacts})


def _rebuild(rebuild: Mapping[str, Any], withheld: Sequence[str]) -> str:
    lines = [
        "## Rebuild",
        "",
        f"With usermirrorer {rebuild['usermirrorer']}, the raw files of each source in `RAW/DOMAIN`:",
        "",
    ]
    lines += ["```bash", *rebuild["commands"], "```", ""]
    lines += [
        "`rebuild.yaml` has the digests (`b2sum -l 64`) of the raw files, and of the files that these commands give."
    ]
    if withheld:
        lines[-1] += " Those files hold the text that is withheld here."
    return "\n".join([*lines, ""])


def _block(title: str, content: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=110)
    return f"## {title}\n\n```yaml\n{text}```\n" if content else ""


def _time(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"
