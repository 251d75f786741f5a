"""A trained model published on the Hub: its weights, tokenizer, card and record, and nothing else of its directory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usermirrorer.console import say, warn
from usermirrorer.data.artefacts.hub import check_repo_id, send, show_files, sizes, token_of
from usermirrorer.data.artefacts.store import write_bytes
from usermirrorer.errors import UserError
from usermirrorer.llm.engines.local import adapter_base
from usermirrorer.llm.paths import training_record
from usermirrorer.records import read_record
from usermirrorer.secrets import leak
from usermirrorer.train.records.card import model_card
from usermirrorer.wording import format_bytes


CARD = "README.md"
ADAPTER = "adapter_config.json"
INDEX = "model.safetensors.index.json"

_SENT = re.compile(
    r"config\.json|generation_config\.json|adapter_config\.json|(model|adapter_model)(-\d{5}-of-\d{5})?\.safetensors"
    r"|model\.safetensors\.index\.json|tokenizer\.(json|model)|tokenizer_config\.json|special_tokens_map\.json"
    r"|added_tokens\.json|vocab\.(json|txt)|merges\.txt|chat_template\.jinja|README\.md|LICENSE(\.\w+)?|NOTICE(\.\w+)?"
    r"|usermirrorer\.json"
)
"""All that is sent of a model's directory."""

_WITHHELD = {
    r"checkpoint-\d+": "a checkpoint, which only this training needs",
    r"(optimizer|scheduler|scaler|rng_state\w*|random_states_\w+)\.(pt|pth|bin|pkl|safetensors)|global_step\d+|latest":
        "the optimizer's state, which only this training needs",
    r"training_args\.bin": "a pickle, which runs code when it is opened",
    r".*\.(bin|pt|pth|pkl|ckpt)": "a pickle, which runs code when it is opened",
    r"wandb(_run_id)?|runs": "tracking",
    r"trainer_state\.json|\w+_results\.json|.*\.jsonl|.*\.log": "a log of the training",
    r"\..*|__pycache__": "hidden, or a cache",
}  # fmt: skip
"""Why a file or directory stays here; the first that fits."""

_VOCABULARY = re.compile(r"tokenizer\.(json|model)|vocab\.(json|txt)|merges\.txt")
"""Files in which every word of a language stands, a weak password among them."""


@dataclass(frozen=True)
class PublishedModel:
    """What `push` sent of a model, and where it is."""

    url: str | None
    """None for a dry run"""
    files: dict[str, int]
    """Name in the repository -> bytes"""
    withheld: dict[str, str]
    """Name in the model's directory -> why it stayed here"""
    warnings: list[str]


def is_model(path: Path) -> bool:
    """Whether a directory is that of a whole model or of an adapter."""
    return (path / "config.json").is_file() or (path / ADAPTER).is_file()


def push_model(
    directory: Path,
    repo_id: str,
    private: bool = False,
    token_env: str = "HF_TOKEN",
    dry_run: bool = False,
    evaluation: Mapping[str, Any] | None = None,
) -> PublishedModel:
    """Publish the model in a directory as the Hub model `repo_id`; shows what is withheld.

    With an `evaluation` (see `card.model_card`) the card is written anew and sent from `publish/OWNER--NAME` beside
    the directory, which stays as it was measured. With `dry_run`, what would be sent is shown, and nothing is sent.
    Raises UserError for a model that is not whole or a file with a secret, StepFailed if the Hub refuses.
    """
    check_repo_id(repo_id, "model")
    token = token_of(token_env)
    record = training_record(str(directory))
    files, withheld = split_files(directory)
    _check_whole(directory, files)
    if evaluation is not None:
        if record is None:
            raise UserError(f"{directory} has no usermirrorer.json, of which its card is written: push it without")
        files[CARD] = _stage_card(directory, repo_id, record, evaluation)
        say(f"push {repo_id}: the card is {files[CARD]}")
    _refuse_secrets(files)
    for name, reason in withheld.items():
        say(f"  withheld: {name} ({format_bytes(_size(directory / name))}), {reason}")
    warnings = _warnings(directory, files, record, evaluation is not None)
    for warning in warnings:
        warn(warning)
    if dry_run:
        show_files(files, repo_id)
        url = None
    else:
        # An adapter of an earlier version would be loaded with a whole model, shards of it with other shards.
        url = send(files, repo_id, "model", private, token, lambda name: bool(_SENT.fullmatch(name)))
    return PublishedModel(url, sizes(files), withheld, warnings)


def split_files(directory: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """What is sent of a model's directory (name -> file), and what is not (name -> why)."""
    sent, withheld = {}, {}
    for path in sorted(directory.iterdir()):
        if _SENT.fullmatch(path.name) and path.is_file():
            sent[path.name] = path
        else:
            found = (reason for pattern, reason in _WITHHELD.items() if re.fullmatch(pattern, path.name))
            withheld[path.name] = next(found, "no part of a model")
    return sent, withheld


def _check_whole(directory: Path, files: Mapping[str, Path]) -> None:
    """Raise UserError unless all weights are there."""
    weights = [name for name in files if name.endswith(".safetensors")]
    if INDEX in files:
        index = read_record(files[INDEX], "save the model again").get("weight_map")
        shards = sorted(set(index.values())) if isinstance(index, dict) else [INDEX]
        if missing := [name for name in shards if name not in weights]:
            raise UserError(f"{directory} lacks {missing[0]}, which its index names; save the model again")
    elif not weights:
        raise UserError(
            f"{directory} holds no weights (*.safetensors); wait for its training to end, or save them as safetensors"
        )


def _stage_card(directory: Path, repo_id: str, record: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Path:
    path = directory.absolute().parent / "publish" / repo_id.replace("/", "--") / CARD
    path.parent.mkdir(parents=True, exist_ok=True)
    peft = (directory / ADAPTER).is_file()
    write_bytes(path, model_card(directory.resolve().name, record, peft, evaluation).encode())
    return path


def _refuse_secrets(files: Mapping[str, Path]) -> None:
    """Raise UserError if a text has a secret in it."""
    for name, path in files.items():
        if name.endswith(".safetensors") or _VOCABULARY.fullmatch(name):
            continue
        if found := leak(path.read_text(encoding="utf-8", errors="replace")):
            raise UserError(f"{path} holds {found}; nothing was sent: take it out, or write the file anew")


def _warnings(
    directory: Path, files: Mapping[str, Path], record: Mapping[str, Any] | None, evaluated: bool
) -> list[str]:
    found = []
    base = adapter_base(str(directory))
    if base and Path(base).exists():
        found.append(
            f"the base of this adapter is a directory of this machine ({base}), so nobody else can load it: push the "
            "whole model that `usermirrorer merge` makes of it"
        )
    if CARD not in files:
        found.append("there is no README.md, so the model has no card")
    elif record is not None and not evaluated:
        found.append(
            "the card has no evaluation: add --evaluation DIR, a directory in which `eval` measured this model"
        )
    return found


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a directory."""
    below = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else []
    return sum(one.stat().st_size for one in below)
