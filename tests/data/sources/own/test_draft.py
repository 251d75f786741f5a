"""`init`: columns are found under any name, or it says which one is not clear; what it drafts can be prepared."""

from __future__ import annotations

import csv
import io
import random
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from usermirrorer.cli import app
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.sources.own.draft import Draft, draft
from usermirrorer.errors import UserError


Rows = list[dict[str, object]]

USERS, ITEMS, EVENTS = 30, 40, 300


def shop(seed: int = 0) -> dict[str, Rows]:
    """Events, items and users under plain English names."""
    draw = random.Random(seed)
    start = datetime(2024, 1, 1)
    items: Rows = [
        {
            "item": f"{1000 + item:06d}",
            "name": f'Thing "No. {item}", large',
            "category": ["tea", "pots", "cups"][item % 3],
            "price": 2 + item / 4,
            "listed": (start - timedelta(days=item)).date(),
        }
        for item in range(ITEMS)
    ]
    users: Rows = [
        {"user": f"u{user}", "town": ["Rom", "Oslo", ""][user % 3], "age": 20 + user % 30, "email": f"u{user}@x.org"}
        for user in range(USERS)
    ]
    events: Rows = [
        {
            "user": f"u{draw.randrange(USERS)}",
            "item": draw.choice(items)["item"],
            "time": start + timedelta(minutes=draw.randrange(300_000)),
            "stars": draw.choice([1, 2, 3, 4, 5, ""]),
        }
        for _ in range(EVENTS)
    ]
    return {"events": events, "items": items, "users": users}


def write(folder: Path, tables: dict[str, Rows]) -> dict[str, Path]:
    files = {}
    for table, rows in tables.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        files[table] = folder / f"{table}.csv"
        files[table].write_text(text.getvalue(), encoding="utf-8", newline="")
    return files


def drafted(folder: Path, tables: dict[str, Rows], **asked: str) -> Draft:
    """The draft, which must be readable, in an empty folder."""
    found = draft(write(folder, tables), folder / "shop.yaml", "shop", asked)
    (folder / "shop.yaml").write_text(found.text, encoding="utf-8")
    return found


def keys(found: Draft) -> dict[str, object]:
    return yaml.safe_load(found.text)


def renamed(rows: Rows, names: dict[str, str]) -> Rows:
    return [{names.get(name, name): value for name, value in row.items()} for row in rows]


def test_a_shop_of_three_tables(tmp_path: Path) -> None:
    found = drafted(tmp_path, shop())
    assert keys(found) == {
        "name": "shop",
        "format": "table",
        "tables": {"events": "events.csv", "items": "items.csv", "users": "users.csv"},
        "columns": {"user_id": "user", "item_id": "item", "timestamp": "time", "available_from": "listed"},
        "event": "bought",
        "item": "{name}< - {category}><, {price:.2f}>",
        "option": "<[{new}] >{item}<, bought {times:,.0f|time|times} so far>",
        "as_of": {"times": "count", "new": "new_release"},
        "history": "{event} {item}, {time_diff}<: {stars}/5>",
        "profile": "Town: {town}\nAge: {age}",
        "choices": {"any": "any", "liked": "stars >= 4"},
        "repeats": True,
    }
    # what names a person is not shown, and every guess has a reason
    assert found.unused == {"users.csv": "email"}
    assert found.text.count("#") >= 12
    assert len(found.tables.interactions) == EVENTS


def test_one_table_alone(tmp_path: Path) -> None:
    tables = shop()
    about_item = {str(row["item"]): row for row in tables["items"]}
    about_user = {str(row["user"]): row for row in tables["users"]}
    events = [
        {**about_user[str(row["user"])], **about_item[str(row["item"])], **row, "basket": f"b{at // 2}"}
        for at, row in enumerate(tables["events"])
    ]
    # that it names the items is seen by its values
    found = drafted(tmp_path, {"events": renamed(events, {"name": "Stock"})}, user="user", item="item")
    assert keys(found)["item"] == "{Stock}< - {category}><, {price:.2f}>"
    found = drafted(tmp_path, {"events": events}, user="user")
    assert keys(found)["item"] == "{name}< - {category}><, {price:.2f}>"
    assert keys(found)["profile"] == "Town: {town}\nAge: {age}"
    assert "listed" in found.unused["events.csv"] and "basket" in found.unused["events.csv"]


@pytest.mark.parametrize(
    ("time", "event"),
    [("borrowed_at", "borrowed"), ("created_at", "bought"), ("BoughtOn", "bought"), ("at", "bought")],
)
def test_what_an_event_was_can_be_in_the_name_of_its_time(tmp_path: Path, time: str, event: str) -> None:
    tables = shop()
    tables["events"] = renamed(tables["events"], {"time": time})
    assert keys(drafted(tmp_path, tables))["event"] == event


def test_a_log_of_nothing_but_ids(tmp_path: Path) -> None:
    events = [{name: row[name] for name in ("user", "item", "time")} for row in shop()["events"]]
    found = drafted(tmp_path, {"events": events})
    assert keys(found)["item"] == "no. {item_id}" and keys(found)["choices"] == {"any": "any"}
    prepare(str(tmp_path / "shop.yaml"), None, tmp_path / "work")


def test_kinds_of_events(tmp_path: Path) -> None:
    tables = shop()
    draw = random.Random(1)
    for row in tables["events"]:
        row["event_type"] = draw.choice(["view", "add_to_cart", "remove_from_cart", "purchase"])
        del row["stars"]
    given = keys(drafted(tmp_path, tables))
    assert given["choices"] == {"purchase": "event_type == 'purchase'", "any": "any"}
    assert given["history"] == "<{event_type}: >{item}, {time_diff}" and given["event"] == "bought"
    assert given["repeats"] is True
    # the count holds views too, so it must not be called purchases
    assert "bought" not in str(given["option"])


def test_columns_that_templates_cannot_name(tmp_path: Path) -> None:
    tables = shop()
    tables["items"] = renamed(tables["items"], {"name": "Titel (DE)", "category": "text", "price": "2. Preis"})
    tables["users"] = renamed(tables["users"], {"town": "Town: {x} <b>", "age": "_age"})
    given = keys(drafted(tmp_path, tables))
    assert given["item"] == "{Titel_DE}< - {my_text}><, {my_2_Preis:.2f}>"
    assert isinstance(given["columns"], dict)
    names = {"Titel_DE": "Titel (DE)", "my_text": "text", "my_2_Preis": "2. Preis", "age": "_age"}
    assert given["columns"] | names == given["columns"]
    assert given["profile"] == "Town x b: {Town_x_b}\nAge: {age}"
    prepare(str(tmp_path / "shop.yaml"), None, tmp_path / "work")


def test_a_date_that_events_precede_is_no_release(tmp_path: Path) -> None:
    tables = shop()
    for row in tables["items"]:
        row["listed"] = "2024-06-01"
    given = keys(drafted(tmp_path, tables))
    assert "available_from" not in str(given["columns"]) and given["as_of"] == {"times": "count"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"time": None}, "no column holds times, and scenes need to know when"),
        ({"time": "03/31/2024"}, "events.csv:2: time '03/31/2024' is not a time"),
        ({"user": None}, "no column looks like the user; say which it is with --user COLUMN"),
        ({"item": "none of them"}, "no column looks like the item"),
        ({"item": lambda row: f"x{row['item']}"}, "no column names the rows of "),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    tables = shop()
    for column, value in changes.items():
        for row in tables["events"]:
            if value is None:
                del row[column]
            else:
                row[column] = value(row) if callable(value) else value
    with pytest.raises(UserError) as error:
        drafted(tmp_path, tables)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_an_item_that_is_listed_twice_is_named(tmp_path: Path) -> None:
    tables = shop()
    tables["items"].append(tables["items"][0])
    with pytest.raises(UserError, match=rf"items.csv:{ITEMS + 2}: item_id '001000' is not unique"):
        drafted(tmp_path, tables)


def test_names_that_yaml_would_take_for_something_else(tmp_path: Path) -> None:
    tables = shop()
    tables["items"] = renamed(tables["items"], {"name": "no.", "category": "Yes", "price": "a\x85: # price"})
    given = keys(drafted(tmp_path, tables))
    assert given["item"] == "{no}< - {Yes}><, {a_price:.2f}>"
    prepare(str(tmp_path / "shop.yaml"), None, tmp_path / "work")


def test_equals_are_not_decided(tmp_path: Path) -> None:
    tables = shop()
    for row in tables["events"]:
        row["time_sent"] = row["time"]
    with pytest.raises(UserError, match="time and time_sent are both times; say which .* --time time"):
        drafted(tmp_path, tables)
    assert keys(drafted(tmp_path, tables, time="time_sent"))["columns"]["timestamp"] == "time_sent"  # type: ignore[index]
    with pytest.raises(UserError, match="no column 'tiem'; did you mean time"):
        drafted(tmp_path, tables, time="tiem")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write(tmp_path, shop())
    out = tmp_path / "made" / "of" / "shop.yaml"
    out.parent.mkdir(parents=True)
    arguments = ["init", *map(str, files.values()), "--name", "shop", "--out", str(out)]
    app(arguments, standalone_mode=False)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"init {out}: 300 events of 30 users with 40 items, 2024-01-01 to 2024-" in printed
    assert f"usermirrorer prepare {out} --work" in printed
    assert yaml.safe_load(out.read_text())["tables"]["events"] == "../../events.csv"
    with pytest.raises(UserError, match="is there already"):
        app(arguments, standalone_mode=False)
    with pytest.raises(UserError, match="a domain of this package has this name"):
        app([*arguments[:4], "--name", "toy"], standalone_mode=False)


FOREIGN = {
    "user": ["user", "customer_id", "UserID", "kunde", "client", "用户", "cust", "a"],
    "item": ["item", "productId", "sku", "artikel_nr", "produit", "商品ID", "gizmo", "b"],
    "time": ["time", "created_at", "ts", "Zeitpunkt", "fecha", "时间", "c", "x y {z}"],
    "stars": ["stars", "rating", "d", "Wert: <neu>"],
    "name": ["name", "Title (en)", "e", "bezeichnung", "line_"],
    "category": ["category", "f", "type", "event"],
    "price": ["price", "g", "Preis €"],
}


@pytest.mark.slow
@given(
    data=st.data(),
    names=st.fixed_dictionaries({column: st.sampled_from(options) for column, options in FOREIGN.items()}),
    with_items=st.booleans(),
    other_id=st.booleans(),
    epoch=st.sampled_from([0, 1, 1000]),
)
@settings(max_examples=40)
def test_under_other_names_the_columns_are_found_or_said_to_be_unclear(
    data: st.DataObject, names: dict[str, str], with_items: bool, other_id: bool, epoch: int
) -> None:
    tables = shop()
    for row in tables["events"]:
        if epoch:
            row["time"] = int((row["time"] - datetime(1970, 1, 1)).total_seconds() * epoch)  # type: ignore[operator]
        if not with_items:
            of = next(one for one in tables["items"] if one["item"] == row["item"])
            row.update({column: of[column] for column in ("name", "category", "price")})
    tables = {"events": tables["events"]} | ({"items": tables["items"]} if with_items else {})
    order = data.draw(st.permutations(list(tables["events"][0])))
    shuffled = [{column: row[column] for column in order} for row in tables["events"]]
    renamed_tables = {"events": renamed(shuffled, names)}
    if with_items:
        renamed_tables["items"] = renamed(tables["items"], names | ({"item": "No"} if other_id else {}))
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = drafted(Path(folder), renamed_tables)
        except UserError as error:
            told = str(error)
            assert "--user" in told or "--item" in told
            # a name that speaks for itself is understood, and so is a join
            assert names["user"] in ("cust", "a") or (names["item"] in ("gizmo", "b") and not with_items)
            return
        columns = {role: column for role, column, _ in found.guesses[:3]}
        assert columns == {"user": names["user"], "item": names["item"], "timestamp": names["time"]}
        content = prepare(f"{folder}/shop.yaml", None, Path(folder) / "work")
        assert content["rows"]["interactions"] > 0.9 * EVENTS
        texts = pl.read_parquet(Path(folder) / "work/tables/shop/items.parquet")["text"]
        assert texts.str.contains("Thing").all()
