"""Item texts → vectors for the content model: TF-IDF by default, or any embedding model given as a SPEC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from usermirrorer.data.artefacts.store import fingerprint, finished_content, open_step, write_parquet
from usermirrorer.data.log.tables import Tables, load_cuts, load_tables
from usermirrorer.steps import PrepareSettings


TFIDF_TERMS = 384


def embed_items(name: str, work: Path, embedder: str = PrepareSettings.embedder) -> dict[str, Any]:
    """Write `work/embeddings/NAME/part-00000.parquet` (item_id, vector); returns the manifest's content."""
    recipe = {"step": "embed", "embedder": embedder, "tables": fingerprint(work / "tables" / name)}
    with open_step(work / "embeddings" / name, recipe) as step:
        if step.complete:
            return step.content
        tables = load_tables(work, name)
        texts = tables.items["text"].to_list()
        if embedder == "tfidf":
            vectors = tfidf(texts, int((tables.available_from < load_cuts(work, name).train).sum()))
        else:
            from usermirrorer.llm import load_model

            vectors = load_model(embedder).embed(texts)
        columns = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        table = pa.table({"item_id": tables.items["item_id"].to_arrow(), "vector": columns})
        write_parquet(table, step.directory / "part-00000.parquet")
        step.finish(rows=len(texts), width=vectors.shape[1])
        return step.content


def load_vectors(work: Path, name: str, tables: Tables) -> np.ndarray:
    """Item vectors in the order of the items table: float32 `(items, width)`, each of unit length or zero."""
    finished_content(work / "embeddings" / name, f"prepare {name} --work {work}")
    table = pq.read_table(work / "embeddings" / name / "part-00000.parquet")
    if table["item_id"].to_pylist() != tables.items["item_id"].to_list():
        raise AssertionError("embeddings and tables list different items although their fingerprints match")
    return table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)


def tfidf(texts: list[str], known: int) -> np.ndarray:
    """TF-IDF vectors. Terms and weights come from the first `known` texts: the items that exist before any scene."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(max_features=TFIDF_TERMS, token_pattern=r"(?u)\b\w[\w'-]*\b", dtype=np.float32)
    vectorizer.fit(texts[: max(known, 1)])
    return vectorizer.transform(texts).toarray().astype(np.float32)
