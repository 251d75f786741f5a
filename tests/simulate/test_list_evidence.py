"""Evidence: what a list shows of it is what the scenes that the model was trained on show."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from small_log import write_small_log

from usermirrorer import Person, Request, Simulator, UserError
from usermirrorer.data.items.embeddings import embed_items
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.llm.prompts import EVIDENCE_WORDS, without_evidence
from usermirrorer.simulate.requests import Offer
from usermirrorer.steps import SceneSettings


@pytest.fixture(scope="module", params=["any", "min_rating=4"])
def films(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A --work whose scenes show evidence."""
    raw, work = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("work")
    write_small_log(raw)
    prepare("ml-100k", raw, work)
    embed_items("ml-100k", work)
    for split, number in (("train", 200), ("test", 60)):
        make_scenes("ml-100k", work, SceneSettings(split, number, "matched", request.param, evidence=True))
    return work


def words(texts: list[str]) -> list[str]:
    return [text.removeprefix(without_evidence(text)) for text in texts]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_list_has_the_words_of_its_scene(fake, films: Path, split: str) -> None:
    user = Simulator.open(fake, films, "ml-100k", prompt="plain")
    log = pl.read_parquet(films / "tables/ml-100k/interactions.parquet")
    scenes = pl.read_parquet(films / "scenes/ml-100k" / split / "*.parquet")
    as_user, as_person, expected = [], [], []
    for scene in scenes.iter_rows(named=True):
        as_user.append(Request(scene["user_id"], scene["impression_list"], scene["timestamp"]))
        rows = log.filter(user_id=scene["user_id"]).to_dicts()
        as_person.append(Request(Person(history=rows), scene["impression_list"], scene["timestamp"]))
        expected.append(words(scene["text"]["action_list"]))
    assert {word for row in expected for word in row} == {f" (chosen {w} after these)" for w in EVIDENCE_WORDS}
    for requests in (as_user, as_person, as_user[:3] + as_person[3:]):
        offers = user.offers(requests)
        assert [words(offer.text["action_list"]) for offer in offers if isinstance(offer, Offer)] == expected[
            : len(offers)
        ]


def test_no_log_leads_to_a_new_item_or_from_nothing(fake, films: Path) -> None:
    user = Simulator.open(fake, films, "ml-100k", prompt="plain")
    known = user.renderer.tables.items["item_id"].to_list()[:3]
    new = {"item_id": "new", "title": "Film (2024)"}
    [offer, nobody] = user.offers(
        [Request(user.renderer.tables.users["user_id"][0], [*known, new]), Request(Person(), known)]
    )
    assert isinstance(offer, Offer) and offer.text["action_list"][3].endswith(" (chosen rarely after these)")
    assert isinstance(nobody, Offer) and set(words(nobody.text["action_list"])) == {" (chosen rarely after these)"}


def test_before_the_train_window_nothing_is_known(fake, films: Path) -> None:
    user = Simulator.open(fake, films, "ml-100k", prompt="plain")
    known = user.renderer.tables.items["item_id"].to_list()[:3]
    early = user.renderer.evidence.cuts.train - 1000
    with pytest.raises(UserError, match="before anything is known for the evidence"):
        user.choose(Person(), known, early)


@pytest.mark.parametrize("trained", [True, False, None])
def test_a_model_is_shown_what_it_was_trained_on(trained: bool | None, films: Path, tmp_path: Path) -> None:
    """Nothing is loaded to render a list, so a directory with a record will do for the model."""
    record = {"prompt": "plain"} if trained is None else {"prompt": "plain", "data": {"evidence": trained}}
    (tmp_path / "usermirrorer.json").write_text(json.dumps(record))
    user = Simulator.open(f"transformers:{tmp_path}", films, "ml-100k")
    known = user.renderer.tables.items["item_id"].to_list()[:3]
    [offer] = user.offers([Request(user.renderer.tables.users["user_id"][0], known)])
    assert isinstance(offer, Offer) and all(map(bool, words(offer.text["action_list"]))) == (trained is not False)


def test_a_model_trained_with_evidence_needs_it(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "usermirrorer.json").write_text(json.dumps({"prompt": "plain", "data": {"evidence": True}}))
    with pytest.raises(UserError, match="was trained on options with evidence, which .* has not"):
        Simulator.open(f"transformers:{tmp_path}", shop, "shop")
