"""A simulated user to call from Python: scenes in, probabilities and rationales out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from usermirrorer.errors import UserError
from usermirrorer.llm import as_spec, load_model
from usermirrorer.llm.choose import MODES, Process, choose, prompt_limit, trained_prompt
from usermirrorer.llm.prompts import INSTRUCTIONS, LABELS, SceneText, conversation, shed_history
from usermirrorer.llm.protocol import LanguageModel
from usermirrorer.seeds import scene_seed
from usermirrorer.steps import Sampling, SimulateSettings


@dataclass(frozen=True)
class Answer:
    """What the simulated user does with one list.

    `probs`, shape `(options,)`, is the mean over the decision processes (`rationales`); `picked` is its arg-max,
    0-based, and `option` that option's text. `unfinished` counts processes that named no option, `shed` the oldest
    history entries left out to fit the model's context.
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

    `prompt` is the instruction, by default that of `choose.trained_prompt`. In `decision` mode the user writes
    `samples` decision processes before choosing, in `direct` mode none. A scene's answer does not depend on the other
    scenes. Raises UserError for an unknown mode or prompt, or fewer than one sample.
    """

    def __init__(
        self,
        model: str | LanguageModel,
        prompt: str | None = None,
        mode: str = SimulateSettings.mode,
        samples: int = SimulateSettings.samples,
        seed: int = SimulateSettings.seed,
    ) -> None:
        if mode not in MODES:
            raise UserError(f"mode {mode!r}: choose decision or direct")
        if samples < 1:
            raise UserError(f"samples {samples}: must be at least 1")
        if isinstance(model, str):
            model = load_model(as_spec(model))
        self.model = model
        self.prompt = trained_prompt(model.name, mode) if prompt is None else prompt
        if self.prompt not in INSTRUCTIONS:
            raise UserError(f"prompt {self.prompt!r}: choose one of {', '.join(INSTRUCTIONS)}")
        self.mode = mode
        self.samples = samples
        self.seed = seed

    def simulate(self, scenes: Iterable[SceneText], sampling: Sampling | None = None) -> list[Answer]:
        """What the user does with each scene's `action_list`, given `profile` and `history` (rendered text).

        Raises UserError if a scene has fewer than 2 or more than 26 options, or does not fit the model's context even
        without history.
        """
        sampling, scenes = sampling or Sampling(), list(scenes)
        limit = prompt_limit(self.model, sampling, self.mode)
        fitted: list[tuple[SceneText, int]] = []
        for index, scene in enumerate(scenes):
            if not 2 <= len(scene["action_list"]) <= len(LABELS):
                raise UserError(f"Scene {index} has {len(scene['action_list'])} options; give 2 to {len(LABELS)}")
            fit = shed_history(scene, self.prompt, self.model.count_tokens, limit)
            if fit is None:
                raise UserError(
                    f"Scene {index} is longer than {limit} tokens even without history; shorten its options"
                )
            fitted.append(fit)
        conversations = [conversation(scene, self.prompt) for scene, _ in fitted]
        answered = choose(
            self.model,
            conversations,
            [len(scene["action_list"]) for scene in scenes],
            repeat=self.samples,
            sampling=sampling,
            mode=self.mode,
            seeds=[scene_seed(self.seed, messages[-1]["content"]) for messages in conversations],
        )
        answers = []
        for scene, (_, shed), processes in zip(scenes, fitted, answered, strict=True):
            probs = np.mean([process.probs for process in processes], axis=0)
            picked = int(probs.argmax())
            unfinished = sum(process.unfinished for process in processes)
            answers.append(Answer(probs, picked, scene["action_list"][picked], processes, unfinished, shed))
        return answers
