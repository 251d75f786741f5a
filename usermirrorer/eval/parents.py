"""Which evaluated model another one was trained from, as its record says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from usermirrorer.errors import UserError
from usermirrorer.llm.paths import model_directory, training_record


def bases_of(spec: str) -> list[str]:
    """The models behind a trained one, oldest first, from its `usermirrorer.json`; none without such a record."""
    return (training_record(spec) or {}).get("bases", [])


def parents(specs: Mapping[str, str], bases: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Name -> the nearest of the models it was trained from that is among `specs` (name -> SPEC), if one is.

    `bases` maps a name to what `bases_of` found. Of two names for one SPEC the first is the parent.
    """
    evaluated = {_place(spec): name for name, spec in reversed(list(specs.items()))}
    found = {}
    for name in specs:
        known = [evaluated[place] for place in map(_place, bases[name]) if place in evaluated]
        if known and known[-1] != name:
            found[name] = known[-1]
    return found


def _place(model: str) -> str:
    """A model's directory, whatever it is written as, or the name of one that is no directory here."""
    try:
        directory = model_directory(model)
    except UserError:  # it was moved since, or is on another machine
        directory = None
    return str(directory.resolve()) if directory else model.removeprefix("vllm:").removeprefix("transformers:")
