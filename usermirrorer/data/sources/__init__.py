"""Source domains by name. The module of a domain is imported only when the domain is loaded."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

from usermirrorer.data.sources.domain import Domain, RawTables, choice_rule
from usermirrorer.errors import UserError, closest


__all__ = ["DOMAINS", "OWN", "Domain", "RawTables", "choice_rule", "is_own", "load_domain"]

DOMAINS = {
    "goodreads": ("usermirrorer.data.sources.goodreads", "GOODREADS"),
    "kuairec": ("usermirrorer.data.sources.kuairec", "KUAIREC"),
    "lastfm": ("usermirrorer.data.sources.lastfm", "LASTFM"),
    "mind": ("usermirrorer.data.sources.mind", "MIND"),
    "ml-100k": ("usermirrorer.data.sources.ml_100k", "ML_100K"),
    "ml-1m": ("usermirrorer.data.sources.ml_1m", "ML_1M"),
    "mobilerec": ("usermirrorer.data.sources.mobilerec", "MOBILEREC"),
    "steam": ("usermirrorer.data.sources.steam", "STEAM"),
    "toy": ("usermirrorer.data.sources.toy", "TOY"),
    "toy-log": ("usermirrorer.data.sources.toy", "TOY_LOG"),
}


OWN = "domain.yaml"
"""Name of the copy of your own YAML beside the tables made from it."""


def load_domain(name: str, work: Path | None = None) -> Domain:
    """The domain called `name`: one of this package, `amazon:CATEGORY`, or your own.

    Your own is given by the path of its YAML, beside which its files are, or by its name once `work` has its tables.
    Raises UserError, suggesting the nearest name, if there is no such domain.
    """
    if is_own(name):
        domain = _own(Path(name))
        if domain.name in DOMAINS or ":" in domain.name:
            raise UserError(f"{name}: {domain.name!r} is the name of a domain of this package; choose another")
        return replace(domain, home=Path(name).parent)
    if work is not None and (own := work / "tables" / name / OWN).is_file():
        return _own(own)
    family, _, category = name.partition(":")
    if family == "amazon":
        from usermirrorer.data.sources.amazon import amazon

        return amazon(category)
    if name not in DOMAINS:
        hint = closest(name, DOMAINS, "`usermirrorer domains` lists them; for your own log pass its .yaml")
        raise UserError(f"unknown domain {name!r}: {hint}")
    module, attribute = DOMAINS[name]
    return getattr(importlib.import_module(module), attribute)


def _own(path: Path) -> Domain:
    from usermirrorer.data.sources.own.domain_yaml import load_yaml_domain

    return load_yaml_domain(path)


def is_own(name: str) -> bool:
    """Whether a domain is given by the path of a YAML."""
    return name.endswith((".yaml", ".yml"))
