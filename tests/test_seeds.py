"""Random numbers of a scene depend only on its key and stream, and never change."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.data.artefacts.schema import scene_id
from usermirrorer.seeds import event_keys, scene_keys, uniforms


ids = st.lists(st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}".encode()), min_size=1, max_size=20)

GOLDEN_KEYS = [16021550261147218700, 7613755759174143445]
GOLDEN_UNIFORMS = [[0.15829759852409797, 0.5689489392465578], [0.7348395578811031, 0.6449854234422048]]
GOLDEN_EVENT = [966640441187516103]
GOLDEN_ID = "06f0d2c2b89df953"


def test_golden() -> None:
    """If these change, every published scene would be drawn differently."""
    keys = scene_keys(7, np.array([b"0123456789abcdef", b"ffffffffffffffff"], dtype="S16"))
    assert keys.tolist() == GOLDEN_KEYS
    np.testing.assert_allclose(uniforms(keys, 3, 2), GOLDEN_UNIFORMS, rtol=0, atol=1e-15)
    assert event_keys(np.array([3]), np.array([5]), np.array([881250949000])).tolist() == GOLDEN_EVENT
    assert scene_id("ml-100k", "0012", "7", 881250949000) == GOLDEN_ID


@given(ids, st.integers(-(2**40), 2**40), st.integers(0, 60), st.integers(1, 8), st.integers(0, 8), st.data())
def test_a_number_depends_on_nothing_around_it(
    found: list[bytes], seed: int, stream: int, count: int, more: int, data: st.DataObject
) -> None:
    """Neither other scenes nor how many numbers are drawn change any of them."""
    keys = scene_keys(seed, np.array(found, dtype="S16"))
    row = data.draw(st.integers(0, len(found) - 1))
    alone = uniforms(scene_keys(seed, np.array([found[row]], dtype="S16")), stream, count)[0]
    assert (uniforms(keys, stream, count + more)[row, :count] == alone).all()
    assert ((0 <= alone) & (alone < 1)).all()


def test_streams_and_seeds_are_independent() -> None:
    scenes = np.array([scene_id("d", str(number), "i", 0) for number in range(20_000)], dtype="S16")
    keys = scene_keys(0, scenes)
    columns = np.column_stack([uniforms(keys, stream, 2) for stream in (0, 1, 16)] + [uniforms(keys + 1, 0, 1)])
    columns = np.column_stack([columns, uniforms(scene_keys(1, scenes), 0, 1)])
    off = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(off).max() < 0.03  # four standard errors of 20,000 pairs
    assert np.abs(columns.mean(axis=0) - 0.5).max() < 0.01


def test_keys_of_different_scenes_and_seeds_differ() -> None:
    scenes = np.array([scene_id("d", str(number), "i", 0) for number in range(20_000)], dtype="S16")
    assert len(np.unique(scene_keys(0, scenes))) == 20_000
    assert (scene_keys(0, scenes) != scene_keys(1, scenes)).all()
