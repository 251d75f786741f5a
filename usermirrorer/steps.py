"""The settings of every step, and the only place of their defaults.

Command line, data recipes, `rebuild.yaml` and the Python API all derive from these dataclasses. They import nothing
heavy, so that `usermirrorer --help` stays fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from usermirrorer.errors import UserError, unknown_name


LIST_LENGTHS = {"train": (2, 12), "test": (5, 5)}
"""Fewest and most options of a scene, by split."""

MOST_OPTIONS = 26
"""One capital letter for each option."""

GROUPED_EXPOSURES = ("matched", "hard")
"""Exposure modes in which people share a list, so that the list can't give a choice away."""

BUILT_EXPOSURES = (*GROUPED_EXPOSURES, "published")
"""Exposure modes that need no impressions."""

EXPOSURES = (*BUILT_EXPOSURES, "logged")

MODEL_FORMS = "vllm:MODEL, transformers:MODEL, openai:MODEL or scripted:NAME"
"""How a model is named wherever one is asked for."""

DTYPES = ("auto", "bfloat16", "float16", "float32")
"""Precision of a model's weights; auto is what suits the machine."""

RUNNERS = ("local", "ray")
"""Where the engines of a model run."""

LIKENESS = ("content", "popularity")
"""What makes items alike in `hard`."""

SELECTORS = {
    "selector": ("uncertainty", "random"),
    "behaviour": ("argmax", "sample"),
    "rejected_from": ("strong", "any"),
}
"""Settings of pair selection that take one of a few words."""


def setting(default: Any, description: str) -> Any:
    """A dataclass field with a default and the help text that the command line shows."""
    return field(default=default, metadata={"help": description})


def required(description: str) -> Any:
    """A dataclass field without a default."""
    return field(metadata={"help": description})


def _default_lengths(which: str, end: int) -> str:
    return f"{which} options; default {LIST_LENGTHS['train'][end]}, in test {LIST_LENGTHS['test'][end]}."


@dataclass(frozen=True)
class PrepareSettings:
    """Raw files → tables and item vectors."""

    embedder: str = setting("tfidf", "Item vectors: tfidf, or a SPEC such as vllm:MODEL.")
    snapshot: bool = setting(False, "Also show end-of-crawl values, which leak the future.")
    seed: int = setting(0, "Seed of the built-in synthetic domains.")


@dataclass(frozen=True)
class SceneSettings:
    """Tables → the scenes of one split. `for_domain` fills in what was left open."""

    split: str = required("train or test")
    num: int = required("Scenes to make, in whole groups; fewer if the choices run out.")
    exposure: str = setting("", f"{', '.join(EXPOSURES)}; default: the domain's.")
    choice: str = setting("", "What counts as a choice, such as min_rating=4; default: the domain's.")
    min_exposure: int | None = setting(None, _default_lengths("Fewest", 0))
    max_exposure: int | None = setting(None, _default_lengths("Most", 1))
    max_span: float | None = setting(None, "Most days between the choices of a group; default: any number.")
    alike: str = setting("", f"What makes items alike in hard: {' or '.join(LIKENESS)}; default: {LIKENESS[0]}.")
    evidence: bool = setting(False, "Show with each option how strongly the log leads to it from the history.")
    seed: int = setting(0, "The same seed gives the same bytes.")

    def for_domain(self, name: str, exposures: Sequence[str], choice_rules: Iterable[str]) -> SceneSettings:
        """The same settings with the defaults of a domain and a split filled in.

        Raises UserError for settings that no scene can satisfy.
        """
        if self.split not in LIST_LENGTHS:
            raise unknown_name("split", self.split, LIST_LENGTHS)
        low, high = LIST_LENGTHS[self.split]
        low = low if self.min_exposure is None else self.min_exposure
        high = high if self.max_exposure is None else self.max_exposure
        exposure = self.exposure or exposures[0]
        if exposure not in EXPOSURES:
            raise unknown_name("exposure", exposure, EXPOSURES)
        if exposure not in exposures:
            raise UserError(f"exposure {exposure!r}: {name} supports {', '.join(exposures)}")
        if not 2 <= low <= high <= MOST_OPTIONS:
            raise UserError(f"options from {low} to {high}: use 2 <= min <= max <= {MOST_OPTIONS}")
        least = high if exposure in GROUPED_EXPOSURES else 1
        if self.num < least:
            raise UserError(f"num {self.num}: must be at least {least}" + ", a whole group" * (least > 1))
        if self.max_span is not None and (exposure not in GROUPED_EXPOSURES or not self.max_span >= 0):
            raise UserError(f"max_span {self.max_span}: give days, 0 or more, with {' or '.join(GROUPED_EXPOSURES)}")
        alike = self.alike or (LIKENESS[0] if exposure == "hard" else "")
        if alike and alike not in LIKENESS:
            raise unknown_name("alike", alike, LIKENESS)
        if alike and exposure != "hard":
            raise UserError(f"alike {alike!r}: leave it out, or choose exposure hard")
        choice = self.choice or next(iter(choice_rules))
        return replace(self, exposure=exposure, choice=choice, min_exposure=low, max_exposure=high, alike=alike)

    @property
    def grouped(self) -> bool:
        """Whether scenes come in groups that share a list."""
        return self.exposure in GROUPED_EXPOSURES

    @property
    def lengths(self) -> tuple[int, int]:
        """Fewest and most options, once filled in."""
        assert self.min_exposure is not None and self.max_exposure is not None
        return self.min_exposure, self.max_exposure


@dataclass(frozen=True)
class Sampling:
    """How decision processes are sampled. Defaults as published: temperature 1.0, top-p 0.9, 1,024 tokens."""

    temperature: float = setting(1.0, "Sampling temperature.")
    top_p: float = setting(0.9, "Nucleus sampling: share of the probability mass to sample from.")
    max_tokens: int = setting(1024, "Most tokens of one decision process.")

    @property
    def sampling(self) -> Sampling:
        """These three alone, from the settings of a step that has more."""
        return Sampling(self.temperature, self.top_p, self.max_tokens)

    def check(self) -> None:
        """Raises UserError for values with which nothing can be sampled."""
        if not self.temperature >= 0:
            raise UserError(f"temperature {self.temperature}: must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p {self.top_p}: must be above 0 and at most 1")
        if self.max_tokens < 1:
            raise UserError(f"max_tokens {self.max_tokens}: must be at least 1")


@dataclass(frozen=True)
class EngineSettings:
    """How a model runs on this machine. Sizes of the engine change its speed, not what it is asked."""

    tensor_parallel_size: int = setting(1, "GPUs that share one copy of the model.")
    data_parallel_size: int = setting(1, "Copies of the model, each in a process and on GPUs of its own.")
    gpu_memory_utilization: float = setting(0.9, "Share of a GPU's memory for weights and cache.")
    max_model_len: int | None = setting(None, "Most tokens of prompt and answer; default: the model's, up to 8,192.")
    max_num_seqs: int | None = setting(None, "Most sequences at a time; default: the engine's.")
    quantization: str | None = setting(None, "How weights are quantized, such as fp8; default: as saved.")
    dtype: str = setting("auto", "auto (bfloat16 on a GPU, float32 in vLLM on a CPU), bfloat16, float16 or float32")
    runner: str = setting("local", "local, or ray: engines on the nodes of a Ray cluster.")
    address: str = setting("auto", "The Ray cluster; auto is the one that this machine belongs to.")

    def check(self) -> None:
        """Raises UserError for values that no engine can have."""
        for name in ("tensor_parallel_size", "data_parallel_size", "max_model_len", "max_num_seqs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: must be at least 1")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise UserError(f"gpu_memory_utilization {self.gpu_memory_utilization}: must be above 0 and at most 1")
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)
        if self.runner not in RUNNERS:
            raise unknown_name("runner", self.runner, RUNNERS)


@dataclass(frozen=True, kw_only=True)
class DecideSettings(Sampling):
    """Scenes → decision processes of one model."""

    n: int = setting(10, "Decision processes per scene.")
    prompt: str = setting("ekb", "Instruction: ekb or plain.")
    seed: int = setting(0, "The same seed gives the same bytes.")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which pairs are kept, and how a decision's behaviour is predicted."""

    num: int = setting(10000, "Pairs to select.")
    selector: str = setting("uncertainty", "uncertainty or random")
    behaviour: str = setting("argmax", "Predicted behaviour: argmax or sample.")
    rejected_from: str = setting("strong", "strong, or any (the published way).")
    min_accepted: int | None = setting(
        None, "Accepted decisions a scene needs; default: more than chance gives, by number of options."
    )


@dataclass(frozen=True, kw_only=True)
class DistillSettings(Selection):
    """Predictions → preference pairs."""

    name: str = required("The pairs go to WORK/pairs/NAME.")
    seed: int = setting(0, "The same seed gives the same bytes.")

    def check(self) -> None:
        """Raises UserError for invalid settings."""
        for key, values in SELECTORS.items():
            if getattr(self, key) not in values:
                raise unknown_name(key, getattr(self, key), values)
        if not self.name or "/" in self.name or self.name in (".", ".."):
            raise UserError(f"name {self.name!r}: give the name of one folder under pairs/")
        for key in ("num", "min_accepted"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(f"{key} {value}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class EvalSettings(Sampling):
    """Models and scenes → measures."""

    repeat: int = setting(5, "Decision processes per scene.")
    mode: str | None = setting(None, "decision or direct; default: as trained, else decision.")
    context: str = setting(
        "full", "full, no-history, no-profile, no-user, swapped-history; separate several by commas."
    )
    anonymise_items: bool = setting(False, "Replace titles by neutral names.")
    prompt: str | None = setting(None, "Instruction; default: as trained, else ekb.")
    seed: int = setting(0, "The same seed gives the same bytes.")


@dataclass(frozen=True, kw_only=True)
class SimulateSettings(Sampling):
    """A recommender's lists → what a simulated user picks."""

    samples: int = setting(5, "Decision processes per list.")
    mode: str | None = setting(None, "decision or direct; default: as trained, else decision.")
    prompt: str | None = setting(None, "Instruction; default: as trained, else ekb.")
    calibration: Path | None = setting(None, "Evaluation of this model (directory), to calibrate its probabilities.")
    seed: int = setting(0, "The same seed gives the same bytes.")
