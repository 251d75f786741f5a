"""What holds for every domain, from raw files in its publisher's format to scenes."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import raw_amazon
import raw_goodreads
import raw_kuairec
import raw_lastfm
import raw_mind
import raw_ml_1m
import raw_mobilerec
import raw_shop
import raw_steam
from cut_short import check_groups, check_logged
from small_log import write_small_log

from usermirrorer.data.artefacts.store import MANIFEST, directory_of, read_manifest
from usermirrorer.data.audit.validate import validate
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.log.tables import Tables, load_tables
from usermirrorer.data.scenes import draw as draw_module
from usermirrorer.data.scenes import scores as scores_module
from usermirrorer.data.scenes.as_of import DAY_MS, NEW_RELEASE_DAYS, option_values
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.data.scenes.render import option_texts, render
from usermirrorer.data.sources import DOMAINS, Domain, load_domain
from usermirrorer.data.sources.templates import field_names, required_names
from usermirrorer.simulate.outside import Person
from usermirrorer.simulate.requests import Offer, Renderer, Request
from usermirrorer.steps import GROUPED_EXPOSURES, SceneSettings


WRITERS: dict[str, Callable[[Path], None] | None] = {
    "ml-100k": write_small_log,
    "ml-1m": raw_ml_1m.write,
    "steam": raw_steam.write,
    "mobilerec": raw_mobilerec.write,
    "mind": raw_mind.write,
    "kuairec": raw_kuairec.write,
    "lastfm": raw_lastfm.write,
    "goodreads": raw_goodreads.write,
    f"amazon:{raw_amazon.CATEGORY}": raw_amazon.write,
    "shop.yaml": raw_shop.write_recbole,
    "market.yaml": raw_shop.write_interchange,
    "lists.yaml": raw_shop.write_lists,
    "toy": None,
    "toy-log": None,
}
"""Domain, by its name for `prepare` or by its YAML among the raw files -> what writes its raw files."""

EXPOSURES = [
    pytest.param(name, exposure, marks=[pytest.mark.slow] if exposure == "hard" else [])
    for name in WRITERS
    for exposure in (GROUPED_EXPOSURES if name.endswith(".yaml") else load_domain(name).exposures)
    if exposure != "published"  # which knows the future
] + [("lists.yaml", "logged")]

MADE = {"item", "event", "time_diff"}
"""What rendering fills in: templates show it although no domain declares it."""

SCENES = 150


def test_no_domain_is_forgotten() -> None:
    assert WRITERS.keys() >= DOMAINS.keys()


@pytest.fixture(scope="session")
def raw_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, Path | None]]:
    """The arguments of `prepare` for a domain: its name or YAML, and the directory of its raw files."""

    @cache
    def write(name: str) -> tuple[str, Path | None]:
        writer = WRITERS[name]
        if writer is None:
            return name, None
        raw = tmp_path_factory.mktemp("raw")
        writer(raw)
        return (str(raw / name) if name.endswith(".yaml") else name), raw

    return write


@pytest.fixture(scope="session")
def every(raw_of, ready) -> Callable[[str], Any]:
    """A domain of WRITERS, prepared once."""
    return cache(lambda name: ready(*raw_of(name)))


@pytest.fixture(scope="session")
def made(every, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The --work with train and test scenes of a domain in its default exposure, by so many workers."""

    @cache
    def make(name: str, workers: int = 1) -> Path:
        prepared, work = every(name), tmp_path_factory.mktemp("work")
        for step in ("tables", "embeddings"):
            shutil.copytree(prepared.work / step, work / step)
        with pytest.MonkeyPatch.context() as patch:
            # Blocks so small that there is work for two.
            patch.setattr(draw_module, "BATCH", 16)
            patch.setattr(scores_module, "BLOCK", 16)
            for settings in splits(prepared.tables.domain):
                make_scenes(prepared.name, work, settings, workers)
        return work

    return make


def splits(domain: Domain, exposure: str = "") -> list[SceneSettings]:
    """The settings of train and test of `usermirrorer scenes`, except for the number of scenes."""
    exposure, choice = exposure or domain.exposures[0], next(iter(domain.choice_rules))
    # Real lists keep their length.
    low = 2 if exposure == "logged" else 5
    return [
        SceneSettings("train", SCENES, exposure, choice, 2, 6),
        SceneSettings("test", SCENES, exposure, choice, low, 5),
    ]


@pytest.mark.parametrize(("name", "exposure"), EXPOSURES)
def test_deleting_the_future_changes_no_scene(every, name: str, exposure: str) -> None:
    prepared = every(name)
    for settings in splits(prepared.tables.domain, exposure):
        check = check_logged if exposure == "logged" else check_groups
        assert check(prepared, settings, times=5) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_one_worker_and_two_write_the_same_bytes(made, name: str) -> None:
    assert output(made(name)) == output(made(name, workers=2))


@pytest.mark.parametrize("name", WRITERS)
def test_scenes_have_their_probe_and_baselines(made, name: str) -> None:
    for split, least in (("train", 100), ("test", 20)):
        [directory] = made(name).glob(f"scenes/*/{split}")
        content = finished(directory)
        assert content["rows"] >= least
        assert content["probe"] and content["baselines"]


@pytest.mark.parametrize("name", WRITERS)
def test_what_every_step_wrote_is_valid(made, name: str) -> None:
    assert not [check for check in validate(made(name)) if check.result == "failed"]


@pytest.mark.parametrize("name", WRITERS)
def test_the_time_zone_of_the_machine_changes_no_byte(every, raw_of, tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        domain, raw = raw_of(name)
        prepare(domain, raw, tmp_path)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert output(tmp_path / "tables") == output(every(name).work / "tables")


def output(work: Path) -> dict[str, bytes]:
    """Every shard below `work`, and the content of every manifest."""
    found = {str(path.relative_to(work)): path.read_bytes() for path in sorted(work.rglob("*.parquet"))}
    manifests = sorted(work.rglob(f"*{MANIFEST}"))
    return found | {str(path.relative_to(work)): repr(finished(directory_of(path))).encode() for path in manifests}


def finished(directory: Path) -> dict[str, Any]:
    """The content of a finished step's manifest."""
    manifest = read_manifest(directory)
    assert manifest is not None and manifest["content"]["finished"]
    return manifest["content"]


LEFTOVERS = re.compile(
    r"\(\s*\)|\[\s*\]|\b(None|null|unknown|nan|inf)\b|[<{}]|(?<! )>|>(?! )|&(amp|quot|#\d+);"
    r"|  |\t|\r|\| *\||[,:;|-] *$|^ | $|^[|,:]",
    re.MULTILINE,
)
"""What a template leaves if a value is missing, and remains of the raw files."""


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("name", WRITERS)
def test_every_item_and_every_user_reads_well(raw_of, tmp_path: Path, name: str, snapshot: bool) -> None:
    """Each item as an option, each user's profile and whole history, early and late; end-of-crawl values too."""
    domain, raw = raw_of(name)
    prepared = prepare(domain, raw, tmp_path, snapshot=snapshot)["recipe"]["domain"]
    tables = load_tables(tmp_path, prepared)
    users, items = min(len(tables.users), 100), len(tables.items)
    texts = []
    for moment in np.quantile(tables.log.time, [0.0, 0.3, 0.9, 1.0]).astype(np.int64) + 1:
        user = np.arange(users)
        width = np.full(users, -(-items // users))
        shown = np.resize(np.arange(items), int(width.sum()))
        earlier = tables.log.by_user.count(user, tables.log.position(np.full(users, moment)))
        now = np.full(users, moment)
        texts += render(tables, user, now, earlier, option_texts(tables, shown, width, now, user)).to_pylist()
        assert [len(text["history"].splitlines()) for text in texts[-users:]] == earlier.tolist()
    assert_reads_well(texts)


@pytest.mark.parametrize("name", WRITERS)
def test_every_scene_reads_well(made, name: str) -> None:
    for path in made(name).glob("scenes/*/*/*.parquet"):
        scenes = pl.read_parquet(path)
        assert_reads_well(scenes["text"].to_list())
        lines = [len(text["history"].splitlines()) for text in scenes["text"]]
        assert lines == scenes["history_len"].to_list()


def assert_reads_well(texts: list[dict[str, Any]]) -> None:
    """No part of a template lacks its value, and every option is one line."""
    for text in texts:
        for part in (text["profile"], text["history"], *text["action_list"]):
            assert not (found := LEFTOVERS.search(part)), f"{found[0]!r} in {part!r}"
        for option in text["action_list"]:
            assert option and len(option.splitlines()) == 1


@pytest.mark.parametrize("name", WRITERS)
def test_every_value_shown_is_declared(every, name: str) -> None:
    domain = every(name).tables.domain
    templates = (domain.item, domain.option, domain.history, domain.profile)
    shown = set().union(*map(field_names, templates)) - MADE
    # a number may be part of another value, as the year in a title
    assert shown <= set(domain.fields) <= shown | set(domain.numbers)
    assert {field for field, kind in domain.fields.items() if kind == "as_of"} == set(domain.as_of)
    assert {field for field, kind in domain.fields.items() if kind == "snapshot"} == set(domain.snapshots) <= shown
    assert field_names(domain.option) <= {"item", *domain.as_of}
    # whatever can be hidden or not known yet is in an optional part
    always = set().union(*map(required_names, templates[:3]))
    assert {domain.fields[field] for field in always - MADE} <= {"static"}


def reference(how: str, rows: dict[str, list[dict[str, Any]]], user: str, item: str, time: int) -> Any:
    """An as_of value as docs/design.md defines it, from the rows on disk; None if it is not known."""
    kind, _, detail = how.partition(":")
    events = [row for row in rows["interactions"] if row["item_id"] == item and row["timestamp"] < time]
    if kind == "count":
        return len(events) or None
    if kind == "mean":
        values = [row[detail] for row in events if row[detail] is not None]
        return sum(values) / len(values) if values else None
    if kind == "latest":
        days = [row for row in rows["item_statistics"] if row["item_id"] == item and row["timestamp"] <= time]
        return max(days, key=lambda row: row["timestamp"])[detail] if days else None
    if kind == "labels":
        labels = [row for row in rows["item_labels"] if row["item_id"] == item and row["timestamp"] < time]
        counts = Counter(row["label"] for row in labels)
        first = sorted(counts, key=lambda label: (-counts[label], label))[: int(detail)]
        return ", ".join(first) or None
    if kind == "friends":
        friends = {row["friend_id"] for row in rows["friends"] if row["user_id"] == user}
        return len(friends & {row["user_id"] for row in events}) or None
    assert kind == "new_release"
    [release] = [row["available_from"] for row in rows["items"] if row["item_id"] == item]
    return "New Release" if time - release <= NEW_RELEASE_DAYS * DAY_MS else None


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("mind", "toy", "toy-log")])
def test_values_as_of_a_time_are_those_of_a_plain_reference(every, name: str) -> None:
    """At times of events, daily counts and labels, a moment before and after them, and at any time."""
    prepared = every(name)
    tables: Tables = prepared.tables
    rows = {path.stem: pl.read_parquet(path).to_dicts() for path in (prepared.work / "tables").glob("*/*.parquet")}
    rng = np.random.default_rng(0)
    changes = [tables.log.time, *(table.time for table in (tables.item_statistics, tables.item_labels) if table)]
    times = np.concatenate([rng.choice(of, 100) + beside for of in changes for beside in (-1, 0, 1)])
    times = np.append(times, rng.integers(tables.log.time[0] - DAY_MS, tables.log.time[-1] + DAY_MS, 100))
    # popular items too: their values change most
    item = np.where(rng.random(len(times)) < 0.5, rng.choice(tables.log.item, len(times)), 0)
    item = np.where(item == 0, rng.integers(0, len(tables.items), len(times)), item)
    user = rng.integers(0, len(tables.users), len(times))
    values = option_values(tables, user, item, times)
    user_ids, item_ids = tables.users["user_id"], tables.items["item_id"]
    assert values.keys() == tables.domain.as_of.keys()
    for value, how in tables.domain.as_of.items():
        got = pl.Series(values[value])
        got = (got.fill_nan(None) if got.dtype.is_float() else got).to_list()
        wanted = [
            reference(how, rows, user_ids[int(u)], item_ids[int(i)], int(t))
            for u, i, t in zip(user, item, times, strict=True)
        ]
        assert got == pytest.approx(wanted, abs=1e-3), value
        assert len({*wanted} - {None}) >= (1 if how == "new_release" else 3), (
            f"{value}: the fixture has too few values"
        )


@pytest.mark.parametrize("name", WRITERS)
def test_a_person_with_the_rows_of_a_user_is_shown_as_that_user(every, name: str) -> None:
    """Whoever is not in the log is rendered as if they were, at any time, whichever way their rows are given."""
    prepared = every(name)
    tables: Tables = prepared.tables
    renderer, rng = Renderer(tables), np.random.default_rng(1)
    log = pl.read_parquet(prepared.work / "tables" / prepared.name / "interactions.parquet").drop("scene_id")
    # what is only known to precede all others is given without a time
    dated = pl.int_range(pl.len()) >= tables.undated
    log = log.with_columns(pl.when(dated).then("timestamp"))
    times = [int(time) for time in rng.choice(tables.log.time[tables.undated + 1 :], 12)] + [None] * 3
    shown = 0
    for at in times:
        profile = tables.users.row(int(rng.integers(len(tables.users))), named=True)
        items = [item for item in tables.items["item_id"] if at is None or tables.released[renderer.items[item]] <= at]
        items = [item for item in items if tables.released[renderer.items[item]] <= tables.log.time[-1]][:4]
        history = log.filter(user_id=profile["user_id"])
        rows = history.with_columns(pl.from_epoch("timestamp", time_unit="ms")) if at else history.to_dicts()
        requests = [Request(profile["user_id"], items, at), Request(Person(profile, rows, "other"), items, at)]
        of_user, of_person = renderer.offers(requests)
        assert isinstance(of_user, Offer) and isinstance(of_person, Offer), (of_user, of_person)
        if "friends" in tables.domain.as_of.values():  # friends are known of users of the log alone
            of_user.text["action_list"] = of_person.text["action_list"]
        assert of_person.text == of_user.text and of_person.at == of_user.at
        shown += bool(of_user.text["history"])
    assert shown >= 3


@pytest.mark.parametrize("name", WRITERS)
def test_a_new_item_is_shown_as_one_of_the_log_before_its_first_event(every, name: str) -> None:
    tables: Tables = every(name).tables
    nothing = {
        table: replace(records, item=records.item[:0], time=records.time[:0], columns=_none_of(records.columns))
        for table in ("item_statistics", "item_labels")
        if (records := getattr(tables, table)) is not None
    }
    tables = replace(tables, **nothing)  # beside the log, too, nothing is known of a new item
    renderer, user = Renderer(tables), tables.users["user_id"][0]
    at = int(tables.log.time[0]) + DAY_MS
    had = set(tables.log.item[: tables.log.position(np.array([at]))[0]].tolist())
    rows = [row for row in range(len(tables.items)) if row not in had and tables.released[row] <= at][:8]
    known = tables.items[rows]
    new = known.drop("text", "dated").with_columns(item_id=pl.format("new {}", "item_id")).to_dicts()
    for row, dated in zip(new, known["dated"], strict=True):
        if not dated:
            row.pop("available_from")
    in_log, outside = renderer.offers([Request(user, known["item_id"], at), Request(user, new, at)])
    assert isinstance(in_log, Offer) and isinstance(outside, Offer), (in_log, outside)
    assert outside.text == in_log.text and outside.items == [row["item_id"] for row in new]


def _none_of(columns: Mapping[str, pl.Series]) -> dict[str, pl.Series]:
    return {name: column[:0] for name, column in columns.items()}
