"""A --work in which every step has run, and ways to corrupt it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from usermirrorer.data.artefacts.find import SCHEMAS, find_artefacts
from usermirrorer.data.artefacts.store import SHARD_ROWS, file_digest, manifest_path, shard_name, write_parquet
from usermirrorer.data.decisions.decide import decide
from usermirrorer.data.decisions.score import score
from usermirrorer.data.items.embeddings import embed_items
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.pairs.distill import distill
from usermirrorer.data.scenes.make import SceneSettings, make_scenes
from usermirrorer.llm import load_model
from usermirrorer.llm.execution import BatchSession
from usermirrorer.llm.protocol import Conversation, Output
from usermirrorer.records import sealed
from usermirrorer.steps import DecideSettings, DistillSettings, Sampling


class Guesser:
    """A predictor whose probabilities depend only on the text and favour the option that the decision mentions."""

    name = "openai:guesser"
    max_length = None

    def session(self) -> BatchSession:
        return BatchSession(self, 1024)

    def generate(
        self, conversations: Sequence[Conversation], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Output]]:
        raise NotImplementedError

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        raise NotImplementedError

    def count_tokens(self, conversations: Sequence[Conversation]) -> list[int]:
        return [sum(len(message["content"].split()) for message in messages) for messages in conversations]

    def choice_probs(self, conversations: Sequence[Conversation], labels: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [self._probs(messages, len(names)) for messages, names in zip(conversations, labels, strict=True)]

    def _probs(self, messages: Conversation, count: int) -> np.ndarray:
        text, options = (
            messages[-1]["content"],
            messages[-2]["content"].rpartition("# Exposure List\n")[2].split("\n["),
        )
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        weights = np.random.default_rng(int.from_bytes(digest, "big")).random(count) + 0.1
        for index, option in enumerate(options):
            title = option.split("] ", 1)[-1].split(" - ")[0].removeprefix("[New Release] ")
            weights[index] += 5.0 * (f"I take {title}." in text)
        return weights / weights.sum()


def build(work: Path, name: str, raw: Path | None = None, train: int = 400, test: int = 150) -> Path:
    """Run all steps of a domain in `work`, with scripted writers; returns `work`."""
    prepare(name, raw, work)
    embed_items(name, work)
    exposure = "logged" if name == "toy" else "matched"
    make_scenes(name, work, SceneSettings("train", train, exposure, min_exposure=2, max_exposure=6))
    make_scenes(name, work, SceneSettings("test", test, exposure, min_exposure=5, max_exposure=5))
    for variant, writer, samples in (("strong", "scripted:reader", 4), ("weak", "scripted:noisy", 2)):
        decide(name, work, variant, load_model(writer), DecideSettings(n=samples, prompt="plain"))
    score(name, work, Guesser())
    distill(work, [name], DistillSettings(name=name, num=200, min_accepted=1))
    return work


def shards(directory: Path) -> dict[str, bytes]:
    """What a step has written."""
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.parquet"))}


def toy_scenes(work: Path, train: int) -> None:
    """The toy domain with so many train scenes."""
    prepare("toy", None, work)
    embed_items("toy", work)
    make_scenes("toy", work, SceneSettings("train", train, "logged", min_exposure=5, max_exposure=5))


def edit(directory: Path, change: Callable[[pl.DataFrame], pl.DataFrame], **content: object) -> None:
    """Rewrite the rows of a step and entries of its manifest, keeping files and manifest consistent."""
    [artefact] = find_artefacts(directory)
    frame = change(pl.concat([pl.read_parquet(file) for file in artefact.files]))
    for file in artefact.files:
        file.unlink()
    table = frame.to_arrow()
    if artefact.kind in SCHEMAS:
        table = table.cast(SCHEMAS[artefact.kind])
    for shard, begin in enumerate(range(0, max(len(table), 1), SHARD_ROWS)):
        write_parquet(table.slice(begin, SHARD_ROWS), directory / shard_name(shard, artefact.content["recipe"]))
    edit_manifest(directory, rows=len(table), **content)


def edit_table(file: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Rewrite one table of the cleaned log."""
    write_parquet(pa.table(change(pl.read_parquet(file)).to_arrow()), file)
    edit_manifest(file.parent)


def edit_manifest(directory: Path, **content: object) -> None:
    """Set entries of a manifest (None removes one) and the digests of the files."""
    path = manifest_path(directory)
    manifest = json.loads(path.read_text())
    files = {file.name: file_digest(file) for file in sorted(directory.glob("*.parquet"))}
    manifest["content"] |= {**content, "files": files}
    manifest["content"] = {key: value for key, value in manifest["content"].items() if value is not None}
    path.write_bytes(sealed({block: manifest[block] for block in ("content", "run")}))


def first_row(change: Callable[[dict], dict]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Change the first row, given as a dictionary."""

    def apply(frame: pl.DataFrame) -> pl.DataFrame:
        row = change(frame.row(0, named=True))
        return pl.concat([pl.DataFrame([row], schema=frame.schema), frame[1:]])

    return apply
