"""Random numbers of a scene depend only on its key and stream, and never change."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.data.artefacts.schema import scene_id
from usermirrorer.seeds import number_keys, scene_keys, set_ids, uniforms


ids = st.lists(st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}".encode()), min_size=1, max_size=20)

GOLDEN_KEYS = [16021550261147218700, 7613755759174143445]
GOLDEN_UNIFORMS = [[0.15829759852409797, 0.5689489392465578], [0.7348395578811031, 0.6449854234422048]]
GOLDEN_SET = [3698557955396790121]
GOLDEN_ID = "06f0d2c2b89df953"


def test_golden() -> None:
    """If these change, every published scene would be drawn differently."""
    keys = scene_keys(7, np.array([b"0123456789abcdef", b"ffffffffffffffff"], dtype="S16"))
    assert keys.tolist() == GOLDEN_KEYS
    np.testing.assert_allclose(uniforms(keys, 3, 2), GOLDEN_UNIFORMS, rtol=0, atol=1e-15)
    assert set_ids(number_keys(0, np.arange(3, dtype=np.uint64)), np.array([0])).tolist() == GOLDEN_SET
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


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6), min_size=1, max_size=6), st.randoms())
def test_the_id_of_a_set_depends_on_its_members_alone(sets: list[list[int]], random: random.Random) -> None:
    """Neither on their order nor on the sets around it."""
    sizes = np.array([len(one) for one in sets])
    flat = np.array([number for one in sets for number in one], dtype=np.uint64)
    found = set_ids(flat, np.cumsum(sizes) - sizes)
    for one, expected in zip(sets, found, strict=True):
        shuffled = random.sample(one, len(one))
        assert set_ids(np.array(shuffled, dtype=np.uint64), np.array([0]))[0] == expected
