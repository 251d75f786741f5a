"""A simulated user to call from Python: scenes in, probabilities and rationales out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from usermirrorer.errors import UserError
from usermirrorer.llm import load_model
from usermirrorer.llm.choose import MODES, Process, choose, prompt_limit, trained_prompt
from usermirrorer.llm.prompts import INSTRUCTIONS, LABELS, SceneText, conversation, shed_history
from usermirrorer.llm.protocol import LanguageModel, Sampling
from usermirrorer.seeds import scene_seed


@dataclass(frozen=True)
class Choice:
    """What the simulated user does with one list.

    `probs`, shape `(options,)`, is the mean over the decision processes; `picked` is its arg-max, 0-based, and
    `option` that option's text. `rationales` are the processes, with their own probabilities. `unfinished` counts
    those that named no option themselves and were closed for the writer. `shed` counts the oldest history entries
    left out to fit the model's length.
    """

    probs: np.ndarray
    picked: int
    option: str
    rationales: list[Process]
    unfinished: int
    shed: int


class Simulator:
    """A user simulator on a model: a directory, a Hub id, `tiny-base`, or a SPEC such as `openai:NAME`.

    >>> user = Simulator("runs/dpo")
    >>> scene = {"profile": "", "history": "chose sweet cake", "action_list": ["sour tea", "sweet pie"]}
    >>> user.simulate([scene])[0].option

    `prompt` is the instruction: by default the one the model was trained with, else `ekb` (in direct mode `direct`).
    In `decision` mode the user writes `samples` decision processes before it picks, in `direct` mode none. The same
    scene has the same answer in any list, given the model and `seed`.
    """

    def __init__(
        self,
        model: str | LanguageModel,
        prompt: str | None = None,
        mode: str = "decision",
        samples: int = 5,
        seed: int = 0,
    ) -> None:
        if mode not in MODES:
            raise UserError(f"There is no mode '{mode}': choose decision or direct")
        if samples < 1:
            raise UserError(f"{samples} samples decide nothing: ask for at least 1")
        if isinstance(model, str):
            known = model.startswith(("vllm:", "openai:", "scripted:"))
            model = load_model(model if known else f"vllm:{model}")
        self.model = model
        self.prompt = trained_prompt(model.name, mode) if prompt is None else prompt
        if self.prompt not in INSTRUCTIONS:
            raise UserError(f"There is no prompt '{self.prompt}': choose one of {', '.join(INSTRUCTIONS)}")
        self.mode = mode
        self.samples = samples
        self.seed = seed

    def simulate(self, scenes: Iterable[SceneText], sampling: Sampling | None = None) -> list[Choice]:
        """What the user does with each scene's `action_list`, seen with `profile` and `history` (rendered text).

        Raises UserError where a scene has fewer than two options, more than 26, or does not fit the model's length
        even without history.
        """
        sampling = sampling or Sampling()
        scenes = list(scenes)
        limit = prompt_limit(self.model, sampling, self.mode)
        fitted: list[tuple[SceneText, int]] = []
        for index, scene in enumerate(scenes):
            if not 2 <= len(scene["action_list"]) <= len(LABELS):
                raise UserError(f"Scene {index} has {len(scene['action_list'])} options: give 2 to {len(LABELS)}")
            room = (scene, 0) if limit is None else shed_history(scene, self.prompt, self.model.count_tokens, limit)
            if room is None:
                raise UserError(
                    f"Scene {index} is longer than {limit} tokens even without history: shorten its options"
                )
            fitted.append(room)
        conversations = [conversation(scene, self.prompt) for scene, _ in fitted]
        answers = choose(
            self.model,
            conversations,
            [len(scene["action_list"]) for scene in scenes],
            repeat=self.samples,
            sampling=sampling,
            mode=self.mode,
            seeds=[scene_seed(self.seed, messages[-1]["content"]) for messages in conversations],
        )
        choices = []
        for scene, (_, shed), processes in zip(scenes, fitted, answers, strict=True):
            probs = np.mean([process.probs for process in processes], axis=0)
            picked = int(probs.argmax())
            unfinished = sum(process.unfinished for process in processes)
            choices.append(Choice(probs, picked, scene["action_list"][picked], processes, unfinished, shed))
        return choices
