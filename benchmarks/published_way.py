"""The published scene sampler, re-created from its description: the baseline of `benchmarks/scenes.py`.

Sources are random, collaborative (spectral GF-CF, 64 vectors) and content: a dense (scenes, items) score matrix each,
softmax, top k = max(32, 3 x longest list). Lists are interleaved at random, filtered and cut scene by scene; texts are
format strings, one entry at a time. The work has the published shape, row by row, without the bugs that crash the
published code. It reads the tables of a work directory and writes JSON lines.

    python benchmarks/published_way.py WORK DOMAIN NUM
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from usermirrorer.data.items.embeddings import load_vectors
from usermirrorer.data.log.tables import load_tables


LONGEST = 12


def main(work: Path, name: str, num: int) -> None:
    started = time.perf_counter()
    tables = load_tables(work, name)
    log, vectors = tables.log, load_vectors(work, name, tables)
    rng = np.random.default_rng(0)
    history: dict[int, list[tuple[int, int, float]]] = defaultdict(list)
    ratings = tables.event_columns["rating"].to_list()
    for user, item, when, rating in zip(log.user.tolist(), log.item.tolist(), log.time.tolist(), ratings, strict=True):
        history[user].append((when, item, rating))
    chosen = rng.choice(len(log), size=num, replace=False)
    chosen = chosen[[len(history[int(log.user[row])]) > 3 for row in chosen]]
    matrix = sparse.csr_matrix((np.ones(len(log), np.float32), (log.user, log.item)), shape=(log.users, log.items))
    users, items = (np.maximum(np.asarray(matrix.sum(axis=axis)).ravel(), 1) for axis in (1, 0))
    normalised = sparse.diags(1 / np.sqrt(users)) @ matrix @ sparse.diags(1 / np.sqrt(items))
    embedded = svds(normalised.astype(np.float32), k=64)[2].T * np.sqrt(items)[:, None]
    k = max(32, 3 * LONGEST)
    lists = []
    for scores in (
        rng.random((len(chosen), log.items)),
        (matrix[log.user[chosen]] @ embedded) @ embedded.T,
        vectors[log.item[chosen]] @ vectors.T,
    ):
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        lists.append(np.argsort(-weights, axis=1)[:, :k])
    texts = tables.items["text"].to_list()
    lines = []
    for scene, row in enumerate(chosen.tolist()):
        user, item, now = int(log.user[row]), int(log.item[row]), int(log.time[row])
        seen = [entry[1] for entry in history[user]]
        queues, merged = [source[scene].tolist() for source in lists], []
        while any(queues):
            queue = queues[rng.integers(len(queues))]
            if queue:
                candidate = queue.pop(0)
                if candidate not in merged and candidate not in seen:
                    merged.append(candidate)
        options = merged[: rng.integers(1, LONGEST)]
        position = int(rng.integers(len(options) + 1))
        options.insert(position, item)
        before = [entry for entry in history[user] if entry[0] < now][-int(rng.integers(2, 11)) :]
        shown = [f"rated {texts[i]}, {(now - when) // 86_400_000} days ago: {stars}/5" for when, i, stars in before]
        text = {"history": "\n".join(shown), "action_list": [texts[option] for option in options]}
        lines.append(json.dumps({"text": text, "item_pos": position, "choice_cnt": len(options)}))
    (work / "published_way.jsonl").write_text("\n".join(lines))
    print(json.dumps({"scenes": len(lines), "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
