"""Source domains, by name. Each module is read only when its domain is asked for."""

from __future__ import annotations

import difflib
import importlib

from usermirrorer.data.domains.domain import Domain, RawTables, choice_rule
from usermirrorer.errors import UserError


__all__ = ["DOMAINS", "Domain", "RawTables", "choice_rule", "load_domain"]

DOMAINS = {
    "goodreads": ("usermirrorer.data.domains.goodreads", "GOODREADS"),
    "kuairec": ("usermirrorer.data.domains.kuairec", "KUAIREC"),
    "lastfm": ("usermirrorer.data.domains.lastfm", "LASTFM"),
    "mind": ("usermirrorer.data.domains.mind", "MIND"),
    "ml-100k": ("usermirrorer.data.domains.ml_100k", "ML_100K"),
    "ml-1m": ("usermirrorer.data.domains.ml_1m", "ML_1M"),
    "mobilerec": ("usermirrorer.data.domains.mobilerec", "MOBILEREC"),
    "steam": ("usermirrorer.data.domains.steam", "STEAM"),
    "toy": ("usermirrorer.data.domains.toy", "TOY"),
    "toy-log": ("usermirrorer.data.domains.toy", "TOY_LOG"),
}


def load_domain(name: str) -> Domain:
    """The domain called `name`. Raises UserError with the nearest right name."""
    if name not in DOMAINS:
        near = difflib.get_close_matches(name, DOMAINS, n=1)
        hint = f"did you mean {near[0]}?" if near else "`usermirrorer domains` lists them"
        raise UserError(f"unknown domain {name!r}: {hint}")
    module, attribute = DOMAINS[name]
    return getattr(importlib.import_module(module), attribute)
