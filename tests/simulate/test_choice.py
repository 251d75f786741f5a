"""Choices: one by one, in batches and from many tasks at once they are the same; draws, rationales, none of these."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from raw_shop import RECBOLE, write_recbole

from usermirrorer import Choice, Person, Request, Simulator, UserError
from usermirrorer.data.log.prepare import prepare
from usermirrorer.llm.engines.vllm import VLLMModel
from usermirrorer.seeds import draw


ITEMS = ["0001", "0002", "0003", "0004"]
REQUESTS = [Request(f"u{number % 25}", ITEMS[number // 25 :]) for number in range(50)]


def equal(one: Choice, other: Choice) -> bool:
    """Whether two choices are the same to the last bit."""
    return (
        one.items == other.items
        and np.array_equal(one.probs, other.probs)
        and one.drawn == other.drawn
        and [process.text for process in one.rationales] == [process.text for process in other.rationales]
    )


def test_a_choice_holds_together(user: Simulator) -> None:
    choice = user.choose("u1", ITEMS)
    assert choice.items == ITEMS and choice.probs.shape == (4,) and choice.probs.sum() == pytest.approx(1)
    assert choice.item == ITEMS[int(choice.probs.argmax())] and choice.sampled in ITEMS
    assert choice.calibrated is None and len(choice.rationales) == 3 and choice.unfinished == choice.shed == 0
    named = [process.text for process in choice.rationales if process.behavior == choice.picked]
    assert choice.rationale == (named or [choice.rationales[0].text])[0]


def test_many_at_once_are_as_one_by_one(user: Simulator) -> None:
    many = user.choose_all(REQUESTS)
    assert user.model.batches == [50]
    alone = [user.choose(request.user, request.items) for request in REQUESTS]
    assert all(equal(one, other) for one, other in zip(alone, many, strict=True))


def test_many_tasks_are_few_batches_with_the_same_answers(user: Simulator) -> None:
    expected = user.choose_all(REQUESTS)

    async def ask() -> list[Choice]:
        return await asyncio.gather(*(user.achoose(request.user, request.items) for request in REQUESTS))

    for _ in range(2):  # each in an event loop of its own
        user.model.batches.clear()
        answers = asyncio.run(ask())
        assert len(user.model.batches) <= 5 and sum(user.model.batches) == 50
        assert all(equal(one, other) for one, other in zip(answers, expected, strict=True))


def test_a_task_that_asks_wrongly_is_alone_with_its_error(user: Simulator) -> None:
    async def ask() -> list[Choice | BaseException]:
        asked = [user.achoose(name, ITEMS) for name in ("u1", "nobody at all", "u2")]
        gone = asyncio.create_task(user.achoose("u3", ITEMS))
        await asyncio.sleep(0)
        gone.cancel()
        return await asyncio.gather(*asked, gone, return_exceptions=True)

    first, wrong, last, gone = asyncio.run(ask())
    assert isinstance(wrong, UserError) and "user: 'nobody at all'" in str(wrong)
    assert isinstance(gone, asyncio.CancelledError)
    assert isinstance(first, Choice) and isinstance(last, Choice)
    assert equal(first, user.choose("u1", ITEMS)) and equal(last, user.choose("u2", ITEMS))


def test_a_model_that_fails_fails_those_who_wait(user: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    async def ask() -> list[Choice | BaseException]:
        failed = await asyncio.gather(*(user.achoose(f"u{i}", ITEMS) for i in range(3)), return_exceptions=True)
        monkeypatch.undo()
        return [*failed, await user.achoose("u1", ITEMS)]

    monkeypatch.setattr(user.model, "generate", broken)
    *failed, answered = asyncio.run(ask())
    assert [str(error) for error in failed] == ["out of memory"] * 3 and isinstance(answered, Choice)


def test_threads_take_turns(user: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, together, generate = [], [], user.model.generate

    def watched(*args: object) -> object:
        inside.append(1)
        together.append(len(inside))
        try:
            return generate(*args)
        finally:
            inside.pop()

    monkeypatch.setattr(user.model, "generate", watched)
    threads = [threading.Thread(target=user.choose_all, args=[REQUESTS]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(together) == {1}


def test_items_are_drawn_as_often_as_they_are_probable() -> None:
    probs = np.array([0.5, 0.0, 0.2, 0.3])
    drawn = np.bincount([draw(probs, 0, str(key)) for key in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(drawn, probs, atol=0.03)
    assert drawn[1] == 0
    assert draw(np.array([0.0, 1.0]), 0, "a") == 1 and draw(np.array([1.0, 0.0]), 0, "a") == 0
    assert draw(probs, 0, "a") == draw(probs, 0, "a")
    assert len({draw(probs, seed, "a") for seed in range(20)}) > 1


def test_people_who_look_the_same_are_drawn_for_one_by_one(user: Simulator) -> None:
    people = [Person({"town": "Rom"}, user_id=str(number)) for number in range(60)]
    choices = user.choose_all([Request(person, ITEMS) for person in people])
    assert len({choice.item for choice in choices}) == 1 and len({choice.sampled for choice in choices}) > 1


def test_greedy_sampling_writes_one_text(user: Simulator, engine: VLLMModel, shop: Path) -> None:
    """On the real engine, in a thread of its own as `achoose` has it; settings reach the model."""
    real = Simulator.open(engine, shop, "shop", prompt="plain", samples=3, temperature=0, max_tokens=8)
    request = REQUESTS[0]

    async def ask() -> Choice:
        return await real.achoose(request.user, request.items)

    answer = asyncio.run(ask())
    assert len({process.text for process in answer.rationales}) == 1
    assert equal(answer, real.choose(request.user, request.items))
    assert all(len(engine.tokenizer(process.text)["input_ids"]) <= 8 for process in answer.rationales)


def test_none_of_these_is_a_last_option_where_the_domain_says_so(fake, tmp_path: Path) -> None:
    write_recbole(tmp_path)
    (tmp_path / "shop.yaml").write_text(RECBOLE + "none_of_these: I take none of these\n")
    prepare(str(tmp_path / "shop.yaml"), tmp_path, tmp_path / "work")
    user = Simulator.open(fake, tmp_path / "work", str(tmp_path / "shop.yaml"), prompt="plain", samples=1)
    choice = user.choose("u1", ITEMS)
    assert choice.items == [*ITEMS, "I take none of these"] and len(choice.probs) == 5
    [offer] = user.offers([Request(Person(), ITEMS)])
    assert not isinstance(offer, UserError) and offer.text["action_list"][-1] == "I take none of these"
    with pytest.raises(UserError, match="items: there are 26; give 2 to 25"):
        user.choose("u1", [f"{item:04d}" for item in range(26)])


def test_without_a_log_there_is_nobody_to_ask(fake, tmp_path: Path, shop: Path) -> None:
    with pytest.raises(UserError, match="use Simulator.open"):
        Simulator(fake).choose("u1", ITEMS)
    with pytest.raises(UserError, match="usermirrorer prepare shop"):
        Simulator.open(fake, tmp_path, "shop")
    with pytest.raises(UserError, match="domain 'shpo': .* has tables of shop alone; did you mean shop"):
        Simulator.open(fake, shop, "shpo")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature -1.0: must be 0 or more"),
        ({"top_p": 0.0}, "top_p 0.0: must be above 0"),
        ({"max_tokens": 0}, "max_tokens 0: must be at least 1"),
        ({"prompt": "poem"}, "prompt 'poem': choose one of"),
        ({"calibration": "nowhere"}, "calibration nowhere: no evaluation here"),
    ],
)
def test_options_that_are_not_valid_are_named(fake, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Simulator(fake, **options)
