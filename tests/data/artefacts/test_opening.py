"""Every artefact opens in Polars and in `datasets`, with the right split, and its card says what the columns mean."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from usermirrorer.data.artefacts.columns import COLUMNS, OF_THE_SOURCE, describe_columns, type_name
from usermirrorer.data.artefacts.find import SCHEMAS, find_artefacts
from usermirrorer.data.artefacts.store import card_path, read_parts


DOCS = Path(__file__).parents[3] / "docs" / "artefacts.md"

KINDS = {
    "embeddings/toy": "train",
    "scenes/toy/train": "train",
    "scenes/toy/test": "test",
    "features/toy/test": "test",
    "baselines/toy/train": "train",
    "baselines/toy/test": "test",
    "decisions/toy/strong": "train",
    "predictions/toy/weak": "train",
    "pairs/toy": "train",
}
"""Directory of every kind -> its split."""


@pytest.mark.parametrize("place", KINDS)
def test_a_directory_opens_without_us(built_toy: Path, tmp_path: Path, place: str) -> None:
    from datasets import load_dataset

    directory = built_toy / place
    rows = read_parts(directory).to_pylist()
    assert pl.read_parquet(directory).to_dicts() == rows
    for how in ((str(directory),), ("parquet", None, str(directory))):
        loaded = load_dataset(*how, cache_dir=str(tmp_path))
        assert list(loaded) == [KINDS[place]] and loaded[KINDS[place]].num_rows == len(rows)
        assert loaded[KINDS[place]].column_names == list(rows[0])


def test_both_splits_open_at_once(built_toy: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    loaded = load_dataset(str(built_toy / "scenes" / "toy"), cache_dir=str(tmp_path))
    assert {split: set(rows["split"]) for split, rows in loaded.items()} == {"train": {"train"}, "test": {"test"}}


def test_every_table_is_a_configuration(built_toy: Path, tmp_path: Path) -> None:
    from datasets import get_dataset_config_names, load_dataset

    directory = built_toy / "tables" / "toy"
    tables = {path.stem: pl.read_parquet(path) for path in directory.glob("*.parquet")}
    assert set(get_dataset_config_names(str(directory))) == set(tables) and len(tables) == 4
    for table, frame in tables.items():
        assert load_dataset(str(directory), table, cache_dir=str(tmp_path))["train"].to_list() == frame.to_dicts()


def test_cards_explain_every_column(built_films: Path) -> None:
    artefacts = find_artefacts(built_films)
    assert {artefact.kind for artefact in artefacts} > SCHEMAS.keys()
    for artefact in artefacts:
        card = card_path(artefact.path).read_text(encoding="utf-8")
        for file in artefact.files:
            kind = file.stem if artefact.kind == "tables" else artefact.kind
            for name, type_, meaning in describe_columns(kind, pq.read_schema(file)):
                assert f"| {name} | {type_} | {meaning} |\n" in card
                assert meaning != OF_THE_SOURCE or kind in ("users", "items", "interactions")


def test_features_are_described_by_their_prefix(built_toy: Path) -> None:
    rows = describe_columns("features", pq.read_schema(next((built_toy / "features/toy/test").glob("*.parquet"))))
    assert OF_THE_SOURCE not in {meaning for _, _, meaning in rows}
    assert {name.partition(".")[0] for name, _, _ in rows} == {name.partition(".")[0] for name in COLUMNS["features"]}


@pytest.mark.parametrize("kind", COLUMNS)
def test_the_contract_says_the_same(kind: str) -> None:
    section = re.search(rf"^##+ {kind}\n(?:[^|#].*\n|\n)*((?:\|.*\n)+)", DOCS.read_text(encoding="utf-8"), re.M)
    assert section is not None, f"docs/artefacts.md has no table of the columns of {kind}"
    written = re.findall(r"^\| `(.*?)` \| (?:(.*?) \| )?(.*?) \|$", section[1], re.M)
    assert {name: meaning for name, _, meaning in written} == dict(COLUMNS[kind])
    if kind in SCHEMAS:
        types = {field.name: type_name(field.type) for field in SCHEMAS[kind]}
        assert {name: type_ for name, type_, _ in written} == types
