"""Which artefact is at a path: a step's directory is known by its manifest, other files by their columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from usermirrorer.data.artefacts.reader import columns_of, files_at, files_in, read_batches
from usermirrorer.data.artefacts.schema import BASELINES, DECISIONS, PAIRS, PREDICTIONS, SCENES
from usermirrorer.data.artefacts.store import MANIFEST, directory_of, manifest_path, read_manifest
from usermirrorer.errors import UserError


STEPS = {
    "prepare": "tables",
    "embed": "embeddings",
    "scenes": "scenes",
    "baselines": "baselines",
    "decide": "decisions",
    "score": "predictions",
    "distill": "pairs",
}
"""Step in a manifest -> kind of artefact. The directories of other steps are internal."""

SCHEMAS = {
    "scenes": SCENES,
    "baselines": BASELINES,
    "decisions": DECISIONS,
    "predictions": PREDICTIONS,
    "pairs": PAIRS,
}

REQUIRED = {
    "pairs": ("prompt", "chosen", "rejected"),
    "scenes": ("dataset", "user_id", "item_id", "timestamp", "text", "item_pos", "choice_cnt"),
    "baselines": tuple(BASELINES.names),
    "decisions": tuple(DECISIONS.names),
    "predictions": tuple(PREDICTIONS.names),
}
"""Kind -> the columns by which a file without a manifest is known; published files lack some of the others."""

REMEDY = "pass an artefact's directory, FILE.parquet, FILE.jsonl(.gz) or a --work directory"


@dataclass(frozen=True)
class Artefact:
    """One artefact. `content` is its manifest's, empty without one; `work` is the directory of all steps, if known.

    `part` is the split of scenes and baselines, the variant of decisions and predictions, the name of pairs.
    """

    kind: str
    path: Path
    files: tuple[Path, ...]
    content: Mapping[str, Any] = field(default_factory=dict)
    work: Path | None = None
    domain: str = ""
    part: str = ""

    @property
    def name(self) -> str:
        """As in docs/artefacts.md: `scenes/toy/train`."""
        return str(self.path.relative_to(self.work)) if self.work else self.path.name

    @property
    def domains(self) -> list[str]:
        """The domains of its rows; pairs may have several."""
        return list(self.content.get("recipe", {}).get("domains") or [self.domain])

    @property
    def split(self) -> str:
        """The split of its scenes: decisions, predictions and pairs belong to train scenes."""
        return self.part if self.kind in ("scenes", "baselines") else "train"

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """Its rows in batches; see `read_batches`."""
        return read_batches(self.files, SCHEMAS[self.kind], columns)

    def beside(self, kind: str, part: str = "", domain: str = "") -> Artefact | None:
        """The artefact at WORK/kind/domain/part if it is finished, else None."""
        found = _of_manifest(self.work / kind / (domain or self.domain) / part) if self.work else None
        return found if found and found.content.get("finished") else None


def find_artefacts(path: Path) -> list[Artefact]:
    """The artefact at `path`, or all artefacts below it in the order of the steps.

    Raises UserError if there is none.
    """
    if path.is_dir() and manifest_path(path).is_file():
        found = _of_manifest(path)
        if found is None:
            raise UserError(f"{path} is internal to the steps: pass the scenes it belongs to")
        return [found]
    if not path.is_dir() or files_in(path):
        files = files_at(path, REMEDY)
        return [Artefact(_kind_of(files[0]), path, tuple(files))]
    places = sorted(directory_of(manifest) for manifest in path.rglob(f".*{MANIFEST}"))
    artefacts = [found for place in places if (found := _of_manifest(place))]
    if not artefacts:
        raise UserError(f"{path} holds no artefact: {REMEDY}")
    return sorted(artefacts, key=lambda found: list(STEPS.values()).index(found.kind))


def _of_manifest(path: Path) -> Artefact | None:
    """The artefact in a step's directory; None without a manifest, or if the step is internal."""
    manifest = read_manifest(path)
    content = manifest["content"] if manifest else {}
    recipe = content.get("recipe", {})
    kind = STEPS.get(recipe.get("step", ""))
    if kind is None:
        return None
    # WORK/pairs/NAME and WORK/tables/D are two levels deep, WORK/scenes/D/SPLIT is three.
    above = path.resolve().parents
    depth = 1 if kind in ("tables", "embeddings", "pairs") else 2
    work = above[depth] if len(above) > depth and above[depth - 1].name == kind else None
    placed = path.resolve() if work else path
    domain = "" if kind == "pairs" else recipe.get("domain") or (placed.name if kind == "embeddings" else "")
    part = recipe.get("split") or recipe.get("variant") or (recipe.get("name", "") if kind == "pairs" else "")
    return Artefact(kind, placed, tuple(sorted(placed.glob("*.parquet"))), content, work, domain, part)


def _kind_of(path: Path) -> str:
    """The kind of artefact in a file, by its columns."""
    columns = set(columns_of(path))
    nearest = max(REQUIRED, key=lambda kind: len(columns.intersection(REQUIRED[kind])) / len(REQUIRED[kind]))
    for name in REQUIRED[nearest]:
        if name not in columns:
            raise UserError(f"{path} is not a known artefact: {nearest} would also need the column `{name}`")
    return nearest
