"""What a person of the log, or outside it, is shown of a list, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer import Person, Request, Simulator, UserError
from usermirrorer.data.log.tables import load_tables
from usermirrorer.simulate.outside import milliseconds
from usermirrorer.simulate.requests import Offer, Renderer


ITEMS = ["0001", "0002", "0003"]
NOON = datetime(2024, 1, 10, 12, tzinfo=UTC)
ROWS = [
    {"item_id": "0007", "timestamp": "2024-01-08", "rating": 4},
    {"item_id": "0002", "timestamp": NOON - timedelta(days=1), "rating": None},
    {"item_id": "0001", "rating": 2},
]


@pytest.fixture(scope="module")
def renderer(shop: Path) -> Renderer:
    return Renderer(load_tables(shop, "shop"))


def shown(renderer: Renderer, user: Any, items: Any = ITEMS, at: Any = NOON) -> Offer:
    [offer] = renderer.offers([Request(user, items, at)])
    assert isinstance(offer, Offer), offer
    return offer


def refused(renderer: Renderer, *request: Any) -> str:
    [offer] = renderer.offers([Request(*request)])
    assert isinstance(offer, UserError), offer
    return str(offer)


def test_a_person_outside_the_log_is_golden(renderer: Renderer) -> None:
    offer = shown(renderer, Person({"town": "Rom", "years": 3}, ROWS, "new"))
    assert offer.text["profile"] == "Town: Rom\nCustomer for: 3 years"
    assert offer.text["history"].splitlines() == [
        "bought Number 1, finest quality - coffee, 2.25 EUR, earlier: 2/5",
        'bought The "No. 7" house blend - coffee, 3.75 EUR, 2 days ago: 4/5',
        "bought Number 2, finest quality - cups and pots, 2.50 EUR, 1 day ago",
    ]
    assert offer.user_id == "new" and offer.items == ITEMS and offer.at == int(NOON.timestamp() * 1000)
    assert all(" sold so far" in option for option in offer.text["action_list"])


def test_rows_may_come_as_a_data_frame(renderer: Renderer) -> None:
    pandas = pytest.importorskip("pandas")
    rows = [row | {"timestamp": row.get("timestamp") and str(row["timestamp"])} for row in ROWS]
    frames = [pl.DataFrame(rows), pandas.DataFrame(rows), pl.DataFrame(rows).to_arrow()]
    assert len({shown(renderer, Person(history=frame)).text["history"] for frame in [ROWS, *frames]}) == 1


def test_nothing_from_a_time_on_is_shown(renderer: Renderer) -> None:
    user = str(renderer.tables.users["user_id"][4])
    history = renderer.tables.log.by_user.count(np.array([4]), np.array([len(renderer.tables.log)]))[0]
    assert history > 10
    entries = [len(shown(renderer, user, at=NOON - timedelta(days=d)).text["history"].splitlines()) for d in range(50)]
    assert entries == sorted(entries, reverse=True) and entries[0] > entries[-1]
    person = Person(history=ROWS)
    assert "house blend" not in shown(renderer, person, at="2024-01-08").text["history"]
    assert "house blend" in shown(renderer, person, at="2024-01-08 00:00:01").text["history"]


def test_by_default_it_is_after_the_log_and_after_the_own_history(renderer: Renderer) -> None:
    latest = int(renderer.tables.log.time[-1])
    assert shown(renderer, "u1", at=None).at == latest + 1000
    assert shown(renderer, Person(history=ROWS), at=None).at == latest + 1000
    later = Person(history=[{"item_id": "0001", "timestamp": latest + 86_400_000}])
    offer = shown(renderer, later, at=None)
    assert offer.at == latest + 86_400_000 + 1000 and "just now" in offer.text["history"]


def test_a_time_is_floored_to_the_clock_of_the_log(renderer: Renderer) -> None:
    """What happened within the same second is one occasion, and no history."""
    when = int(NOON.timestamp() * 1000)
    person = Person(history=[{"item_id": "0001", "timestamp": when + 100}])
    assert shown(renderer, person, at=when + 900).text["history"] == ""
    assert shown(renderer, person, at=when + 1000).text["history"] != ""


def test_a_new_item_stands_beside_those_of_the_log(renderer: Renderer) -> None:
    new = {"item_id": "next", "title": "Number  100", "kind": ["tea", "herbs"], "price": 7.5}
    offer = shown(renderer, "u1", ["0001", new, {"item_id": "old", "title": "A", "available_from": "2020-01-01"}])
    assert offer.items == ["0001", "next", "old"]
    assert offer.text["action_list"][1:] == ["[New Release] Number 100 - tea, herbs, 7.50 EUR", "A - unknown"]
    assert offer.text["action_list"][0] == shown(renderer, "u1").text["action_list"][0]


def test_a_text_does_not_depend_on_the_other_requests(renderer: Renderer) -> None:
    new = {"item_id": "next", "title": "Next", "price": 7}
    requests = [
        Request("u1", ITEMS, NOON), Request(Person(history=ROWS), [*ITEMS, new], NOON), Request("nobody", ITEMS),
        Request("u2", [new | {"price": 1.5}, "0004"], NOON), Request(Person("Is tall."), ITEMS),
    ]  # fmt: skip
    together = renderer.offers(requests)
    alone = [renderer.offers([request])[0] for request in requests]
    assert [one if isinstance(one, Offer) else str(one) for one in together] == [
        one if isinstance(one, Offer) else str(one) for one in alone
    ]
    assert renderer.offers([]) == []


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (("u1x", ITEMS), "user: 'u1x' is not in the tables; did you mean u1"),
        (("a very different name", ITEMS), "for somebody outside the log give a profile and a history"),
        ((1.0, ITEMS), "user: 1.0 is not an id"),
        ((True, ITEMS), "user: True is not an id"),
        (("u1", "0001"), "items: '0001' is not a list"),
        (("u1", 1), "items: 1 is not a list"),
        (("u1", ["0001"]), "items: there are 1; give 2 to 26"),
        (("u1", [f"{i:04d}" for i in range(27)]), "items: there are 27"),
        (("u1", ["0001", "0002", "0001"]), "items: '0001' is there twice"),
        (("u1", ["0001", 2]), "items[1]: '2' is not in the tables; did you mean 0002?"),
        (("u1", ["0001", "zzz"]), "items[1]: 'zzz' is not in the tables; give a new item as a dictionary"),
        (("u1", ["0001", None]), "items[1]: None is not an id"),
        (("u1", ["0001", {"title": "X"}]), "items[1]: there is no item_id"),
        (("u1", ["0001", {"item_id": "0002", "title": "X"}]), "items[1]: '0002' is in the tables; give its id alone"),
        (("u1", ["0001", {"item_id": "x", "titel": "X"}]), "items[1]: 'titel' is no column of the log; did you mean"),
        (("u1", ["0001", {"item_id": "x"}]), "items[1]: nothing is known of it; give kind, price, title"),
        (("u1", ["0001", {"item_id": "x", "title": "X", "price": "cheap"}]), "price: 'cheap' is not a number"),
        (("u1", ["0001", {"item_id": "x", "title": {}}]), "items[1] title: {} is not text"),
        (("u1", ["0001", "0058"]), "items[1]: it exists from 2034-10-28 00:00 on"),
        (("u1", ITEMS, "tomorrow"), "at: 'tomorrow' is not a time"),
        (("u1", ITEMS, 1_704_888_000), "at: 1704888000 looks like seconds since 1970"),
        (("u1", ITEMS, "2001-01-01"), "at: 2001-01-01 00:00 is before the log begins"),
        (("u1", ITEMS, 10**30), "is not a time"),
        ((Person({"twon": "Rom"}), ITEMS), "profile: 'twon' is no column of the log; did you mean town?"),
        ((Person({"years": "many"}), ITEMS), "profile years: 'many' is not a number"),
        ((Person(7), ITEMS), "profile: 7 is neither text nor a dictionary"),
        ((Person(history="0001"), ITEMS), "history: '0001' is not a list of rows"),
        ((Person(history=["0001"]), ITEMS), "history[0]: '0001' is not a row"),
        ((Person(history=[ROWS[0], {"timestamp": 3}]), ITEMS), "history[1]: there is no item_id"),
        ((Person(history=[{"item_id": "7"}]), ITEMS), "item_id: '7' is not in the tables; did you mean 0007?"),
        ((Person(history=[{"item_id": "0007", "timestamp": "now"}]), ITEMS), "history[0] timestamp: 'now' is not a"),
        ((Person(history=[ROWS[0], {"item_id": "0007", "ratnig": 1}]), ITEMS), "history[1]: 'ratnig' is no column"),
        ((Person(history=[ROWS[1], ROWS[0] | {"rating": "good"}]), ITEMS), "history[1] rating: 'good' is not"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(renderer: Renderer, request_: tuple, message: str) -> None:
    assert message in refused(renderer, *request_)


def test_an_end_of_crawl_value_stays_hidden(toy_with_snapshot: Callable[[bool], Renderer]) -> None:
    row = {"item_id": "x", "title": "sweet lake", "stars": 4}
    assert "hide this end-of-crawl value" in refused(toy_with_snapshot(False), "u1", ["0", row])
    assert shown(toy_with_snapshot(True), "u1", ["0", row], None).text["action_list"][1] == "sweet lake, 4 stars"


@pytest.fixture(scope="module")
def toy_with_snapshot(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Renderer]:
    """The smallest log: three items with stars counted at the end, shown or not."""
    from usermirrorer.data.log.prepare import prepare

    def make(shown: bool) -> Renderer:
        raw, work = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("work")
        (raw / "s.inter").write_text(
            "user_id:token\titem_id:token\ttimestamp:float\n"
            + "".join(f"u{i % 3}\t{i % 3}\t{1_700_000_000 + i}\n" for i in range(9))
        )
        (raw / "s.item").write_text(
            "item_id:token\ttitle:token_seq\tstars:float\n" + "".join(f"{i}\tthing {i}\t{i}\n" for i in range(3))
        )
        (raw / "s.yaml").write_text(
            "name: s\nformat: recbole\nevent: took\nitem: '{title}<, {stars:.0f} stars>'\n"
            "fields: {stars: snapshot}\nhistory: '{event} {item}'\n"
        )
        prepare(str(raw / "s.yaml"), raw, work, snapshot=shown)
        return Renderer(load_tables(work, "s"))

    return make


@given(st.datetimes(min_value=datetime(1974, 1, 1), max_value=datetime(5000, 1, 1)), st.integers(-12, 12))
def test_a_time_is_the_same_however_it_is_written(when: datetime, hours: int) -> None:
    when = when.replace(microsecond=when.microsecond // 1000 * 1000)
    utc = when.replace(tzinfo=UTC)
    zoned = utc.astimezone(timezone(timedelta(hours=hours)))
    ms = (utc - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    written = [when, utc, zoned, when.isoformat(), zoned.isoformat(), ms, float(ms), np.datetime64(when, "ms")]
    assert [milliseconds(one, "at") for one in written] == [ms] * len(written)


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([*ITEMS, "u1", "2024-01-10", 1_704_888_000_000])
)  # fmt: skip
WORDS = st.sampled_from(["item_id", "timestamp", "rating", "title", "price", "town", "years", "available_from", "x"])
ANYTHING = st.recursive(LEAVES, lambda of: st.lists(of, max_size=4) | st.dictionaries(WORDS, of, max_size=4))
LISTS = st.lists(st.sampled_from(ITEMS) | st.dictionaries(WORDS, LEAVES, max_size=4), min_size=2, max_size=4)


@given(
    st.fixed_dictionaries(
        {"items": LISTS | ANYTHING},
        optional={
            "user_id": st.just("u1") | ANYTHING,
            "profile": st.dictionaries(WORDS, LEAVES, max_size=3) | ANYTHING,
            "history": st.lists(st.dictionaries(WORDS, LEAVES, max_size=4), max_size=3) | ANYTHING,
            "timestamp": st.just(1_704_888_000_000) | ANYTHING,
        },
    )
    | ANYTHING
)
def test_whatever_is_asked_is_an_offer_or_one_sentence(renderer: Renderer, given_: Any) -> None:
    [offer] = renderer.offers([given_])
    if isinstance(offer, UserError):
        assert "\n" not in str(offer)
    else:
        assert len(offer.items) == len(offer.text["action_list"]) >= 2


def test_dictionaries_are_requests_too(user: Simulator) -> None:
    when = int(NOON.timestamp() * 1000)
    given = [
        {"user_id": "u1", "items": ITEMS, "timestamp": when},
        {"user_id": "n", "profile": {"town": "Rom"}, "history": ROWS, "items": ITEMS, "timestamp": NOON.isoformat()},
        {"history": [], "items": ITEMS, "timestamp": NOON},
    ]
    same = [
        Request("u1", ITEMS, NOON), Request(Person({"town": "Rom"}, ROWS, "n"), ITEMS, NOON),
        Request(Person(), ITEMS, NOON),
    ]  # fmt: skip
    assert user.offers(given) == user.offers(same)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"user_id": "u1", "items": ITEMS, "time": 1}, "requests[1]: 'time' is no key of a request; "),
        ({"user_id": "u1", "itmes": ITEMS}, "did you mean items?"),
        ({"user_id": "u1"}, "requests[1]: there are no items"),
        ({"items": ITEMS}, "requests[1]: there is neither a user_id nor a profile or a history"),
        (["u1", ITEMS], "is not a request"),
        ({"user_id": "u1", "items": ITEMS, "timestamp": "soon"}, "requests[1]: timestamp: 'soon' is not a time"),
    ],
)
def test_a_wrong_dictionary_is_named_by_its_place(user: Simulator, given_: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        user.choose_all([Request("u1", ITEMS), given_])
    assert message in str(error.value)
