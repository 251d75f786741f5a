"""How to rebuild an artefact: the commands of all its steps, and the digests of their inputs and outputs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import usermirrorer
from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.artefacts.schema import VARIANTS
from usermirrorer.data.sources import OWN
from usermirrorer.steps import DecideSettings, DistillSettings, PrepareSettings, SceneSettings


SETTINGS = {"scenes": SceneSettings, "decide": DecideSettings, "distill": DistillSettings}
"""Command -> the settings that its options are made from; `score` has none but its predictor."""


def rebuild_plan(artefacts: Sequence[Artefact]) -> dict[str, Any]:
    """The content of `rebuild.yaml`: version, raw files, commands, recipes of all steps, digests of their output."""
    steps = {step.name: step for artefact in artefacts for step in _steps(artefact)}
    raw = {step.domain: dict(step.content["recipe"]["raw"]) for step in steps.values() if step.kind == "tables"}
    files = {name: step.content["files"] for name, step in steps.items()}
    return {
        "usermirrorer": usermirrorer.__version__,
        "raw": raw,
        "commands": list(dict.fromkeys(command for step in steps.values() for command in _commands(step))),
        "recipes": {name: step.content["recipe"] for name, step in steps.items()},
        "files": {f"{name}/{file}": digest for name, digests in files.items() for file, digest in digests.items()},
    }


def own_yaml(domain: str) -> str:
    """Path of your own domain's YAML in a published data set."""
    return f"domains/{domain}.yaml"


def _steps(artefact: Artefact) -> list[Artefact]:
    """The artefact and the earlier ones beside it, in the order in which they are made."""
    splits = dict.fromkeys(("train", artefact.split))
    places = [("tables", ""), ("embeddings", ""), *(("scenes", split) for split in splits)]
    if artefact.kind in ("decisions", "predictions", "pairs"):
        places += [("decisions", variant) for variant in VARIANTS]
    if artefact.kind in ("predictions", "pairs"):
        places += [("predictions", variant) for variant in VARIANTS]
    found = [artefact.beside(kind, part, domain) for kind, part in places for domain in artefact.domains]
    return [*(step for step in found if step is not None and step.name != artefact.name), artefact]


def _commands(step: Artefact) -> list[str]:
    """The command that makes a step's directory; none if another step's command makes it too (baselines)."""
    recipe = step.content["recipe"]
    command = recipe["step"]
    if command == "prepare":
        embeddings = step.beside("embeddings")
        embedder = embeddings.content["recipe"]["embedder"] if embeddings else PrepareSettings.embedder
        raw = ["--raw", f"RAW/{step.domain}"] if recipe["raw"] else []
        snapshot = ["--snapshot"] if recipe.get("snapshot") else []
        name = own_yaml(step.domain) if (step.path / OWN).is_file() else step.domain
        options = [*raw, "--embedder", embedder, *snapshot, "--seed", recipe["seed"]]
        return [_line(["prepare", name, "--work", "WORK", *options])]
    if command == "score":
        return [_line(["score", step.domain, "--work", "WORK", "--predictor", recipe["predictor"]])]
    if command not in SETTINGS:
        return []
    values, options = dict(recipe), []
    if command == "decide":
        values |= recipe["sampling"] | {"n": recipe["samples"]}
        options = ["--variant", recipe["variant"], "--llm", recipe["model"]]
    for domain in recipe.get("domains", []):
        options += ["--domain", domain]
    for field in fields(SETTINGS[command]):
        value, option = values.get(field.name), f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            options += [option] * value
        elif value is not None:
            options += [option, value]
    return [_line([command, *([] if command == "distill" else [step.domain]), "--work", "WORK", *options])]


def _line(parts: Sequence[Any]) -> str:
    return shlex.join(["usermirrorer", *map(str, parts)])
