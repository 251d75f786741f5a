"""How to make an artefact again: the commands of all its steps, and what goes in and comes out, by digest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import usermirrorer
from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.artefacts.schema import VARIANTS
from usermirrorer.data.sources import OWN


OPTIONS = {
    "scenes": {
        "split": "split", "num": "num", "exposure": "exposure", "choice": "choice", "min-exposure": "min_exposure",
        "max-exposure": "max_exposure", "seed": "seed",
    },
    "decide": {"variant": "variant", "llm": "model", "n": "samples", "prompt": "prompt", "seed": "seed"},
    "score": {"predictor": "predictor"},
    "distill": {
        "name": "name", "num": "num", "selector": "selector", "behaviour": "behaviour",
        "rejected-from": "rejected_from", "min-accepted": "min_accepted", "seed": "seed",
    },
}  # fmt: skip
"""Command -> its options and where the recipe in a manifest has their values."""

SAMPLING = ("temperature", "top_p", "max_tokens")


def rebuild_plan(artefacts: Sequence[Artefact]) -> dict[str, Any]:
    """What `rebuild.yaml` holds: version, raw files, commands, recipes of all steps, digests of what they give."""
    steps: dict[str, Artefact] = {}
    for artefact in artefacts:
        steps |= {step.name: step for step in _steps(artefact)}
    contents = {name: step.content or {} for name, step in steps.items()}
    commands = dict.fromkeys(command for step in steps.values() for command in _commands(step))
    return {
        "usermirrorer": usermirrorer.__version__,
        "raw": {
            step.domain: dict(contents[name]["recipe"]["raw"]) for name, step in steps.items() if step.kind == "tables"
        },
        "commands": list(commands),
        "recipes": {name: content["recipe"] for name, content in contents.items()},
        "files": {
            f"{name}/{file}": digest for name, content in contents.items() for file, digest in content["files"].items()
        },
    }


def own_yaml(domain: str) -> str:
    """Where the YAML of one's own domain lies in a published data set."""
    return f"domains/{domain}.yaml"


def _steps(artefact: Artefact) -> list[Artefact]:
    """The artefact and all before it that lie beside it, in the order in which they are made."""
    writing = artefact.kind in ("decisions", "predictions", "pairs")
    split = "train" if writing else artefact.part
    places = [
        ("tables", ""),
        ("embeddings", ""),
        ("scenes", "train"),
        *([("scenes", split)] if split != "train" else []),
    ]
    if artefact.kind == "baselines":
        places.append(("baselines", split))
    if writing:
        places += [("decisions", variant) for variant in VARIANTS]
    if artefact.kind in ("predictions", "pairs"):
        places += [("predictions", variant) for variant in VARIANTS]
    found = [artefact.beside(kind, part, domain) for kind, part in places for domain in artefact.domains]
    return [*(step for step in found if step is not None and step.name != artefact.name), artefact]


def _commands(step: Artefact) -> list[str]:
    """The command that makes a step's directory; none where another step's command does (baselines)."""
    content = step.content or {}
    recipe = content["recipe"]
    command = recipe["step"]
    if command == "prepare":
        embeddings = step.beside("embeddings")
        embedder = (embeddings.content or {})["recipe"]["embedder"] if embeddings else "tfidf"
        raw = ["--raw", f"RAW/{step.domain}"] if recipe["raw"] else []
        snapshot = ["--snapshot"] if recipe.get("snapshot") else []
        named = own_yaml(step.domain) if (step.path / OWN).is_file() else step.domain
        given = ["prepare", named, "--work", "WORK", *raw, "--embedder", embedder, *snapshot]
        return [_line([*given, "--seed", recipe["seed"]])]
    if command not in OPTIONS:
        return []
    given = [command, *([] if command == "distill" else [step.domain]), "--work", "WORK"]
    for domain in recipe.get("domains", []):
        given += ["--domain", domain]
    given += _options(OPTIONS[command], recipe)
    if command == "decide":
        given += _options({name.replace("_", "-"): name for name in SAMPLING}, recipe["sampling"])
    return [_line(given)]


def _options(names: Mapping[str, str], values: Mapping[str, Any]) -> list[Any]:
    return [
        part for option, key in names.items() if values.get(key) is not None for part in (f"--{option}", values[key])
    ]


def _line(parts: Sequence[Any]) -> str:
    return shlex.join(["usermirrorer", *map(str, parts)])
