"""Scenes of the full tables against scenes of tables that end when the scene begins."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from usermirrorer.data.scenes.draw import draw
from usermirrorer.data.scenes.make import scene_table
from usermirrorer.data.scenes.window import open_window
from usermirrorer.seeds import hex_digits
from usermirrorer.steps import SceneSettings


SCENES = 40


def as_bytes(scene: dict[str, Any] | None) -> bytes | None:
    """A scene without `later_chosen`, as text that shows every difference."""
    if scene is None:
        return None
    return json.dumps({**scene, "later_chosen": None}, default=str, sort_keys=True).encode()


def check(prepared, settings: SceneSettings, times: int) -> int:
    """Compare scenes of the full tables, drawn in one batch, with those of tables cut at the scenes' own times.

    `prepared` has `tables`, `cuts`, `vectors` and `targets(settings)`. Models are fitted on the cut tables for each of
    `times` moments, spread over the window. Returns the number of scenes compared.
    """
    targets = prepared.targets(settings)
    moments = np.unique(targets.time)
    spread = moments[np.linspace(0, len(moments) - 1, times).astype(int)]
    around = np.concatenate([np.argsort(np.abs(targets.time - moment), kind="stable")[:1] for moment in spread])
    rows = np.unique(np.concatenate([around, np.arange(min(SCENES, len(targets)))]))
    settings = prepared.filled_in(settings)
    window = open_window(prepared.tables, prepared.cuts, settings.split, settings.choice, prepared.vectors)
    drawn, names = draw(window, targets.take(rows), settings)
    table = scene_table(window, drawn, settings, names).to_pylist()
    whole = {scene["scene_id"]: scene for scene in table}
    compared = 0
    for row in around:
        target = targets.take(np.array([row]))
        cut = prepared.tables.before(int(target.time[0]))
        assert not len(cut.log) or cut.log.time.max() < target.time[0]
        window = open_window(cut, prepared.cuts, settings.split, settings.choice, prepared.vectors)
        drawn, names = draw(window, target, settings)
        alone = scene_table(window, drawn, settings, names).to_pylist()[0] if len(drawn) else None
        assert as_bytes(alone) == as_bytes(whole.get(hex_digits(target.scene_id)[0].decode()))
        compared += alone is not None
    return compared
