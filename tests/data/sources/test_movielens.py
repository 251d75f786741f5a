"""Raw MovieLens files: what is read, and that a bad line is named by file and line whatever it holds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import damaged

from usermirrorer.data.sources import RawTables, load_domain
from usermirrorer.errors import UserError


GENRE_FLAGS = "|".join(["0"] * 5 + ["1", "0", "0", "1"] + ["0"] * 10)
NO_FLAGS = "|".join(["1"] + ["0"] * 18)
ML_100K = {
    "u.data": b"196\t242\t3\t881250949\n7\t267\t5\t881250950\n",
    "u.item": (
        "242|Cité des enfants perdus, La (1995)|01-Jan-1995||http://us.imdb.com/M?x|" + GENRE_FLAGS + "\n"
        "267|unknown||||" + NO_FLAGS + "\n"
    ).encode("latin-1"),
    "u.user": b"196|49|M|writer|55105\n7|23|F|other|T8H1N\n",
}
ML_1M = {
    "ratings.dat": b"1::1193::5::978300760\n2::661::3::978302109\n",
    "users.dat": b"1::F::50::10::48067\n2::M::56::16::70072-1234\n",
    "movies.dat": ("1193::One Flew Over the Cuckoo's Nest (1975)::Drama\n661::Cité, La (1994)::Comedy|Crime\n").encode(
        "latin-1"
    ),
}
FILES = {"ml-100k": ML_100K, "ml-1m": ML_1M}


def read(domain: str, raw: Path, **changed: bytes) -> RawTables:
    for name, content in {**FILES[domain], **changed}.items():
        (raw / name).write_bytes(content)
    return load_domain(domain).read(raw, 0)


def test_ml_100k(tmp_path: Path) -> None:
    tables = read("ml-100k", tmp_path)
    film, unknown = tables.items.to_dicts()
    assert film == {
        "item_id": "242", "title": "Cité des enfants perdus, La (1995)", "genres": "Comedy|Drama", "year": 1995,
        "available_from": 788918400000,
    }  # fmt: skip
    assert unknown["genres"] == "no genres listed"
    assert unknown["year"] is None and unknown["available_from"] is None
    assert tables.users.row(0) == ("196", "male", 49, "writer", None)
    assert tables.users.row(1)[:2] == ("7", "female")
    assert tables.interactions.row(0) == ("196", "242", 881250949000, 3)


def test_ml_1m(tmp_path: Path) -> None:
    tables = read("ml-1m", tmp_path)
    assert tables.items["title"].to_list() == ["One Flew Over the Cuckoo's Nest (1975)", "Cité, La (1994)"]
    assert tables.items.row(1)[2:] == ("Comedy|Crime", 1994, 757382400000)
    assert tables.users.rows() == [
        ("1", "female", "50-55", "K-12 student", None), ("2", "male", "56+", "self-employed", None)
    ]  # fmt: skip
    assert tables.interactions.row(0) == ("1", "1193", 978300760000, 5)


@pytest.mark.parametrize(("domain", "file"), [("ml-100k", "u.item"), ("ml-1m", "movies.dat")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_films_saved_as_utf_8_read_as_published(tmp_path: Path, domain: str, file: str, encoding: str) -> None:
    published = read(domain, tmp_path).items
    saved = FILES[domain][file].decode("latin-1").encode(encoding)
    assert read(domain, tmp_path, **{file: saved}).items.equals(published)


def test_places_come_only_from_a_table(tmp_path: Path) -> None:
    (tmp_path / "zip_places.csv").write_text('zip,city,state\n70072,"Marrero, La",LA\n')
    assert read("ml-1m", tmp_path).users["location"].to_list() == [None, "Marrero, La, LA"]


def test_blank_lines_and_carriage_returns_are_skipped(tmp_path: Path) -> None:
    data = ML_100K["u.data"].replace(b"\n", b"\r\n") + b"\r\n\n"
    assert len(read("ml-100k", tmp_path, **{"u.data": data}).interactions) == 2


@pytest.mark.parametrize(
    ("domain", "file", "content", "place"),
    [
        ("ml-100k", "u.data", b"1\t2\t3\t4\n1\t2\t3\n", "u.data:2"),
        ("ml-100k", "u.data", b"1\t2\t3\t4\t5\n", "u.data:1"),
        ("ml-100k", "u.data", b"1\t2\t0\t4\n", "u.data:1"),
        ("ml-100k", "u.data", b"\n1\t2\t6\t4\n", "u.data:2"),
        ("ml-100k", "u.data", b"1\t2\t3.5\t4\n", "u.data:1"),
        ("ml-100k", "u.data", b"1\t2\t3\tnever\n", "u.data:1"),
        ("ml-100k", "u.data", b"1\t2\t3\t4\n\xff\t2\t3\t4\n", "u.data:2"),
        ("ml-100k", "u.item", ML_100K["u.item"] * 2, "u.item:3"),
        ("ml-100k", "u.item", ML_100K["u.item"].replace(b"01-Jan-1995", b"01-Foo-1995"), "u.item:1"),
        ("ml-100k", "u.item", ML_100K["u.item"].replace(b"|1|0|0|1|", b"|2|0|0|1|"), "u.item:1"),
        ("ml-100k", "u.user", ML_100K["u.user"] + b"7|23|F|other|T8H1N\n", "u.user:3"),
        ("ml-100k", "u.user", b"7|old|F|other|T8H1N\n", "u.user:1"),
        ("ml-100k", "u.user", b"7|23|X|other|T8H1N\n", "u.user:1"),
        ("ml-1m", "ratings.dat", b"1::1193::5::978300760\n1::1193::5:978300760\n", "ratings.dat:2"),
        ("ml-1m", "ratings.dat", b"1::1193::9::978300760\n", "ratings.dat:1"),
        ("ml-1m", "movies.dat", ML_1M["movies.dat"] * 2, "movies.dat:3"),
        ("ml-1m", "users.dat", b"1::F::51::10::48067\n", "users.dat:1"),
        ("ml-1m", "users.dat", b"1::F::50::21::48067\n", "users.dat:1"),
        ("ml-1m", "zip_places.csv", b"code,city,state\n1,a,b\n", "zip_places.csv:1"),
        ("ml-1m", "zip_places.csv", b"", "zip_places.csv"),
        ("ml-1m", "zip_places.csv", b"zip,city,state\n1,a,b,c,d\n", "zip_places.csv"),
        ("ml-1m", "zip_places.csv", b"zip,city,state\n1,\xff,b\n", "zip_places.csv"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, domain: str, file: str, content: bytes, place: str) -> None:
    with pytest.raises(UserError) as error:
        read(domain, tmp_path, **{file: content})
    assert str(tmp_path / place) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("domain", "file"), [(domain, file) for domain, files in FILES.items() for file in files])
def test_a_missing_file_is_named(tmp_path: Path, domain: str, file: str) -> None:
    read(domain, tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        load_domain(domain).read(tmp_path, 0)
    with pytest.raises(UserError, match="--raw"):
        load_domain(domain).read(None, 0)


@pytest.mark.slow
@settings(max_examples=200)
@given(data=st.data(), domain=st.sampled_from(list(FILES)))
def test_garbage_gives_rows_or_one_sentence(data: st.DataObject, domain: str) -> None:
    file = data.draw(st.sampled_from([*FILES[domain], "zip_places.csv"]))
    content = data.draw(damaged(FILES[domain].get(file, b"zip,city,state\n48067,Royal Oak,MI\n")))
    with tempfile.TemporaryDirectory() as raw:
        try:
            tables = read(domain, Path(raw), **{file: content})
        except UserError as error:
            assert file in str(error)
        else:
            assert tables.interactions["rating"].is_between(1, 5).all()
            assert tables.items["item_id"].n_unique() == len(tables.items)
            assert tables.users["user_id"].n_unique() == len(tables.users)
