"""A simulated user to call from Python: people and lists in, probabilities and rationales out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, TypedDict, TypeVar, Unpack

from usermirrorer.data.log.tables import load_tables
from usermirrorer.data.sources import is_own, load_domain
from usermirrorer.errors import UserError, closest
from usermirrorer.llm import as_spec, load_model
from usermirrorer.llm.choose import MODES, choose, prompt_limit, trained_mode, trained_prompt, trained_with_evidence
from usermirrorer.llm.execution import answer_scenes, run_all
from usermirrorer.llm.prompts import INSTRUCTIONS, LABELS, SceneText, conversation, shed_history
from usermirrorer.llm.protocol import Conversation, LanguageModel
from usermirrorer.llm.requests import Task, Usage
from usermirrorer.seeds import scene_seed
from usermirrorer.simulate.batching import Batcher
from usermirrorer.simulate.calibration import read_calibration
from usermirrorer.simulate.choice import Choice, choice
from usermirrorer.simulate.evidence import read_evidence
from usermirrorer.simulate.outside import Person
from usermirrorer.simulate.requests import Item, Offer, Renderer, Request, Time
from usermirrorer.steps import SimulateSettings


T = TypeVar("T")

_MODELS = Lock()
"""Engine and tokenizers take one thread at a time, whichever simulator it asks."""


class Options(TypedDict, total=False):
    """How a simulated user answers. Defaults are those of `usermirrorer simulate` (`steps.SimulateSettings`).

    In `mode` `decision` the user writes `samples` decision processes before choosing, in `direct` none. `prompt` is
    the instruction, by default the one that the model was trained with. `calibration` is a directory that `eval`
    wrote, with this model in it.
    """

    samples: int
    mode: str | None
    prompt: str | None
    temperature: float
    top_p: float
    max_tokens: int
    calibration: str | Path | None
    seed: int


class Simulator:
    """A user simulator on a model: a directory, a Hub id, `tiny-base`, or a SPEC such as `openai:NAME`.

        >>> user = Simulator.open("runs/models/dpo", work="runs/shop", domain="shop")
        >>> choice = user.choose("0007", ["0012", "0031", "0044"])
        >>> choice.item, choice.probs, choice.rationale

    Without a log, `Simulator(model).simulate(scenes)` answers scenes that are text already. An answer does not depend
    on what else is asked. Nothing is loaded before the first question; threads take turns.
    Raises UserError for an option that is not valid.
    """

    def __init__(self, model: str | LanguageModel, **options: Unpack[Options]) -> None:
        settings = SimulateSettings(**options)  # type: ignore[arg-type]
        if settings.mode is not None and settings.mode not in MODES:
            raise UserError(f"mode {settings.mode!r}: choose decision or direct")
        if settings.samples < 1:
            raise UserError(f"samples {settings.samples}: must be at least 1")
        settings.sampling.check()
        if isinstance(model, str):
            model = load_model(as_spec(model))
        self.model = model
        self.mode = settings.mode or trained_mode(model.name)
        self.prompt = trained_prompt(model.name, self.mode) if settings.prompt is None else settings.prompt
        if self.prompt not in INSTRUCTIONS:
            raise UserError(f"prompt {self.prompt!r}: choose one of {', '.join(INSTRUCTIONS)}")
        self.settings = settings
        self.calibration = (
            None
            if settings.calibration is None
            else read_calibration(Path(settings.calibration), model.name, self.mode, self.prompt, settings)
        )
        self.renderer: Renderer | None = None
        self._batcher: Batcher[Request, Choice] = Batcher(self.answers)

    @classmethod
    def open(cls, model: str | LanguageModel, work: str | Path, domain: str, **options: Unpack[Options]) -> Simulator:
        """A simulator of the people of a log: of DOMAIN, prepared in WORK (`usermirrorer prepare`).

        Raises UserError if there are no tables, or for an option that is not valid.
        """
        simulator = cls(model, **options)
        name = load_domain(domain).name if is_own(domain) else domain
        work = Path(work)
        prepared = sorted(path.name for path in (work / "tables").glob("*") if path.is_dir())
        if prepared and name not in prepared:
            hint = closest(name, prepared, f"run `usermirrorer prepare {name} --work {work}` first")
            raise UserError(f"domain {name!r}: {work} has tables of {', '.join(prepared)} alone; {hint}")
        tables = load_tables(work, name)
        evidence, trained = read_evidence(work, name, tables), trained_with_evidence(simulator.model.name)
        if trained and evidence is None:
            raise UserError(
                f"model {simulator.model.name} was trained on options with evidence, which {work} has not; make the "
                f"train scenes of {name} with --evidence"
            )
        # A model is shown what it was trained on; one without a record, what the scenes show.
        simulator.renderer = Renderer(tables, None if trained is False else evidence)
        if simulator.none_of_these and simulator.calibration is not None:
            raise UserError(
                f"calibration: no evaluation has the option {simulator.none_of_these!r} that {name} adds to every "
                f"list; leave calibration out, or none_of_these out of the domain"
            )
        return simulator

    def choose(self, user: str | int | Person, items: Sequence[Item], at: Time | None = None) -> Choice:
        """What a user of the log, or a `Person` outside it, does with a list of 2 to 26 items.

        `items` are ids; a dictionary of an item's columns, `item_id` among them, is an item that the log does not
        have. `at` is a datetime (UTC if it names no zone), ISO text or milliseconds since 1970: nothing later is
        shown, neither of the person nor of the items. By default it is just after the log and the person's own
        history. If the domain has `none_of_these`, that is a further, last option, under its text; no scene shows it,
        so what a model says of it is not measured. Raises UserError naming the argument that is wrong.
        """
        [answer] = self.answers([Request(user, items, at)])
        if isinstance(answer, UserError):
            raise answer
        return answer

    def choose_all(self, requests: Iterable[Request | Mapping[str, Any]]) -> list[Choice]:
        """The same for many lists at once, which is much faster than one after the other.

        A request is a `Request`, or a dictionary as in the files of `usermirrorer simulate`: {user_id, items} or
        {profile, history, items}, with or without a timestamp. Raises UserError naming the first that is wrong.
        """
        return _all(self.answers(requests), "requests")

    @property
    def none_of_these(self) -> str:
        """The option that the domain adds to every list; empty if it has none."""
        return "" if self.renderer is None else self.renderer.tables.domain.none_of_these

    async def achoose(self, user: str | int | Person, items: Sequence[Item], at: Time | None = None) -> Choice:
        """As `choose`, for many tasks of an event loop at once: what they ask at about the same time is one batch."""
        return await self._batcher.ask(Request(user, items, at))

    def simulate(self, scenes: Iterable[SceneText]) -> list[Choice]:
        """What the user does with each scene's `action_list`, given `profile` and `history` (text).

        Raises UserError naming the first scene that has fewer than 2 or more than 26 options, or does not fit the
        model's context even without history.
        """
        return _all(self.answer([Offer("", list(scene["action_list"]), None, scene) for scene in scenes]), "scenes")

    def answers(self, requests: Iterable[Request | Mapping[str, Any]]) -> list[Choice | UserError]:
        """As `choose_all`, with an error in place of each answer that can't be given."""
        return self.answer(self.offers(requests))

    def offers(self, requests: Iterable[Request | Mapping[str, Any]]) -> list[Offer | UserError]:
        """Requests as the text that the model is shown, with an error in place of each that is wrong."""
        if self.renderer is None:
            raise UserError("this simulator has no log; use Simulator.open(model, work, domain)")
        return self.renderer.offers(requests)

    def answer(self, offers: Sequence[Offer | UserError]) -> list[Choice | UserError]:
        """What the user does with each offer; errors stay as they are. Raises StepFailed if the model fails."""
        if all(isinstance(offer, UserError) for offer in offers):
            return [offer for offer in offers if isinstance(offer, UserError)]
        with _MODELS:
            return run_all(self.model.session(), [self._task(offer) for offer in offers])

    def answer_each(
        self, offers: Iterator[tuple[int, Offer | UserError]], keep: Callable[[int, Choice | UserError, Usage], None]
    ) -> None:
        """The same for any number of offers, given with a number each; `keep` gets each answer as soon as it is there.

        Raises StepFailed, once all the others are kept, if the model failed for some.
        """
        with _MODELS:
            answer_scenes(self.model, ((number, self._task(offer)) for number, offer in offers), keep)

    def _task(self, offer: Offer | UserError) -> Task[Choice | UserError]:
        """What the user does with an offer."""
        if isinstance(offer, UserError):
            return offer
        settings = self.settings
        fitted = self._fit(offer, prompt_limit(self.model, settings.sampling, self.mode))
        if isinstance(fitted, UserError):
            return fitted
        messages, shed = fitted
        processes = yield from choose(
            self.model, messages, len(offer.text["action_list"]),
            repeat=settings.samples, sampling=settings.sampling, mode=self.mode,
            seed=scene_seed(settings.seed, _shown(messages)),
        )  # fmt: skip
        key = f"{offer.user_id}\x1f{_shown(messages)}"
        return choice(offer.items, processes, shed, self.calibration, settings.seed, key)

    def _fit(self, offer: Offer, limit: int | None) -> tuple[Conversation, int] | UserError:
        """The prompt that shows an offer, and how many of the oldest history entries it leaves out."""
        options = len(offer.text["action_list"])
        if not 2 <= options <= len(LABELS):
            return UserError(f"there are {options} options; give 2 to {len(LABELS)}")
        fit = shed_history(offer.text, self.prompt, self.model.count_tokens, limit)
        if fit is None:
            return UserError(f"longer than {limit} tokens even without history; shorten or drop options")
        text, shed = fit
        return conversation(text, self.prompt), shed


def _shown(messages: Conversation) -> str:
    """The scene that a prompt shows."""
    return messages[-1]["content"]


def _all(answers: Sequence[T | UserError], name: str) -> list[T]:
    """The answers. Raises the first error, with its place."""
    for number, answer in enumerate(answers):
        if isinstance(answer, UserError):
            raise UserError(f"{name}[{number}]: {answer}")
    return [answer for answer in answers if not isinstance(answer, UserError)]
