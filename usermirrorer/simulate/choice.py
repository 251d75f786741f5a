"""What a simulated user does with one list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from usermirrorer.llm.choose import Process
from usermirrorer.seeds import draw
from usermirrorer.simulate.calibration import Calibration


@dataclass(frozen=True)
class Choice:
    """What a simulated user does with one list.

    `items` are the options in the order shown: ids, or texts if the list was given as text. `probs`, `(items,)`, is
    the mean over the decision processes (`rationales`), and `calibrated` the same with the confidence that an
    evaluation measured, None without one. `picked` is the arg-max of both, 0-based; `drawn` is drawn from the
    calibrated probabilities, from the raw ones if there are none, by the seed, the user's id and the text shown.
    `unfinished` counts processes that named no option, `shed` the oldest history entries left out to fit the model's
    context.
    """

    items: list[str]
    probs: np.ndarray
    calibrated: np.ndarray | None
    picked: int
    drawn: int
    rationales: list[Process]
    unfinished: int
    shed: int

    @property
    def item(self) -> str:
        """The most probable item."""
        return self.items[self.picked]

    @property
    def sampled(self) -> str:
        """The item that was drawn: over many users, items are drawn as often as they are probable."""
        return self.items[self.drawn]

    @property
    def rationale(self) -> str:
        """The first decision process that names the most probable item; the first of all if none does."""
        named = [process for process in self.rationales if process.behavior == self.picked]
        return (named or self.rationales)[0].text


def choice(
    items: list[str], processes: Sequence[Process], shed: int, calibration: Calibration | None, seed: int, key: str
) -> Choice:
    """The choice that follows from the decision processes of one list."""
    probs = np.mean([process.probs for process in processes], axis=0)
    calibrated = None if calibration is None else calibration.of(probs)
    return Choice(
        items=items,
        probs=probs,
        calibrated=calibrated,
        picked=int(probs.argmax()),
        drawn=draw(probs if calibrated is None else calibrated, seed, key),
        rationales=list(processes),
        unfinished=sum(process.unfinished for process in processes),
        shed=shed,
    )
