"""The `push` command: artefacts published as one data set on the Hub, checked first, then staged and sent.

Text that may not be passed on is withheld: its rows are sent with their ids and empty text, and `rebuild.yaml` has the
commands and digests to rebuild them from the raw files.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from usermirrorer.console import say, warn
from usermirrorer.data.artefacts.find import SCHEMAS, Artefact, find_artefacts
from usermirrorer.data.artefacts.hub import check_repo_id, send, show_files, sizes, token_of
from usermirrorer.data.artefacts.store import file_digest, write_bytes, write_parquet
from usermirrorer.data.audit.card import SPLITS, dataset_card, place_in_repo, source_of
from usermirrorer.data.audit.checks.result import Check, show_checks
from usermirrorer.data.audit.rebuild import own_yaml, rebuild_plan
from usermirrorer.data.audit.validate import validate
from usermirrorer.data.sources import OWN
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.secrets import leak


BLANK: dict[str, dict[str, Any]] = {
    "scenes": {"text": {"profile": "", "history": "", "action_list": []}},
    "decisions": {"text": ""},
    "pairs": {
        "prompt": [{"role": "user", "content": ""}],
        "chosen": [{"role": "assistant", "content": ""}],
        "rejected": [{"role": "assistant", "content": ""}],
    },
}
"""Kind -> its columns of text and their values in withheld rows, which `eval` and `train` count as blanked."""


@dataclass(frozen=True)
class Published:
    """What `push` sent, and where it is."""

    url: str | None
    """None for a dry run"""
    folder: Path
    files: dict[str, int]
    """Name in the data set -> bytes"""
    withheld: list[str]
    """Domains whose text was not sent"""
    warnings: list[str]
    checks: list[Check]


def push(
    paths: Sequence[Path],
    repo_id: str,
    private: bool = False,
    include_text: bool = False,
    token_env: str = "HF_TOKEN",
    dry_run: bool = False,
) -> Published:
    """Publish the artefacts at `paths` as the Hub data set `repo_id`; shows the checks and what is withheld.

    Everything is staged in a folder first, and stays there; with `dry_run` that is all, and what would be sent is
    shown. Raises UserError for what can't be published, StepFailed if a check fails (then nothing is sent) or the Hub
    refuses.
    """
    check_repo_id(repo_id, "data set")
    token = token_of(token_env)
    artefacts = _publishable(paths)
    checks = [check for artefact in artefacts for check in validate(artefact.path)]
    show_checks(checks)
    failed = [f"{check.artefact}: {check.name}" for check in checks if check.result == "failed"]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise StepFailed(f"{failed[0]} failed its check{more}; nothing was sent: fix it or build it again")
    folder, withheld = stage(artefacts, repo_id, include_text, checks)
    say(f"push {repo_id}: staged in {folder}")
    warnings = [_on_withheld(withheld, private)] if withheld else []
    for warning in warnings:
        warn(warning)
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    if dry_run:
        show_files(files, repo_id)
        url = None
    else:
        # An earlier version may have shards that this one lacks.
        url = send(files, repo_id, "dataset", private, token, lambda name: name.startswith("data/"))
    return Published(url, folder, sizes(files), withheld, warnings, checks)


def stage(
    artefacts: Sequence[Artefact], repo_id: str, include_text: bool, checks: Sequence[Check]
) -> tuple[Path, list[str]]:
    """Write everything to be published to WORK/publish/OWNER--NAME, replacing what is there.

    Returns the folder, and the domains whose text is withheld.

    Raises UserError if it would contain a secret of the environment.
    """
    work = artefacts[0].work
    assert work is not None
    folder = work / "publish" / repo_id.replace("/", "--")
    shutil.rmtree(folder, ignore_errors=True)
    domains = dict.fromkeys(domain for artefact in artefacts for domain in artefact.domains)
    sources = [source_of(artefacts[0], domain) for domain in domains]
    withheld = [source.domain for source in sources if not (source.with_text or include_text)]
    digests = {}
    for artefact in artefacts:
        directory = folder / place_in_repo(artefact)
        directory.mkdir(parents=True)
        for file in artefact.files:
            target = directory / file.name
            if artefact.kind in BLANK and set(artefact.domains) & set(withheld):
                write_parquet(_without_text(artefact, file, withheld), target)
            else:
                shutil.copyfile(file, target)
            digests[str(target.relative_to(folder))] = file_digest(target)
    plan = {**rebuild_plan(artefacts), "published": digests}
    text = {
        "rebuild.yaml": yaml.safe_dump(plan, sort_keys=False, allow_unicode=True, width=1000),
        "README.md": dataset_card(repo_id, artefacts, sources, include_text, checks, plan),
    }
    for source in sources:
        own = work / "tables" / source.domain / OWN
        if own.is_file():
            text[own_yaml(source.domain)] = own.read_text(encoding="utf-8")
    for name, content in text.items():
        if leaked := leak(content):
            raise UserError(f"{name} would contain {leaked}: remove it from the recipe; nothing was sent")
        (folder / name).parent.mkdir(exist_ok=True)
        write_bytes(folder / name, content.encode())
    return folder, withheld


def _on_withheld(domains: Sequence[str], private: bool) -> str:
    """That texts stay here, and how to send them."""
    kept = "the data set is private, but " if private else ""
    return (
        f"{kept}the texts of {', '.join(domains)} are withheld, since their source does not say that they may be "
        "passed on: rows keep ids and numbers, and rebuild.yaml says how to rebuild the texts from the raw files; to "
        "send them too, add --include-text"
    )


def _publishable(paths: Sequence[Path]) -> list[Artefact]:
    """The artefacts at the paths that can be published, each once. Raises UserError if a path has none."""
    found: dict[Path, Artefact] = {}
    for path in paths:
        artefacts = find_artefacts(path)
        usable = [artefact for artefact in artefacts if artefact.kind in SPLITS and artefact.work is not None]
        if not usable:
            reason = "a source's own log" if artefacts[0].kind in ("tables", "embeddings") else "without a manifest"
            kinds = ", ".join(SPLITS)
            raise UserError(f"{path} is {reason}, which is not published: pass {kinds} as the steps wrote them")
        found |= {artefact.path: artefact for artefact in usable}
    works = {artefact.work for artefact in found.values()}
    if len(works) > 1:
        raise UserError(f"{' and '.join(map(str, paths))} are under different --work: publish each separately")
    return sorted(found.values(), key=lambda artefact: (list(SPLITS).index(artefact.kind), artefact.part == "test"))


def _without_text(artefact: Artefact, file: Path, withheld: Sequence[str]) -> pa.Table:
    """A shard with empty text in the rows of the domains whose text is withheld."""
    frame = pl.DataFrame(pq.read_table(file))
    affected = pl.col("dataset").is_in(withheld) if "dataset" in frame.columns else pl.lit(True)
    emptied = frame.with_columns(
        pl.when(affected).then(pl.lit(pl.Series([value], dtype=frame.schema[name]))).otherwise(name).alias(name)
        for name, value in BLANK[artefact.kind].items()
    )
    return emptied.to_arrow().cast(SCHEMAS[artefact.kind])
