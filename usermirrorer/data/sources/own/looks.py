"""What the columns of your own tables look like: their names in words, and what their values are."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl

from usermirrorer.data.sources.own.table_files import read_table
from usermirrorer.data.sources.own.values import as_times
from usermirrorer.errors import UserError


# Words in which people name columns, in a few languages; those in other scripts are found anywhere in a name.
USER = frozenset(
    "user usr uid customer client member visitor reader viewer listener player account buyer shopper person reviewer "
    "nutzer benutzer kunde kunden besucher leser utilisateur acheteur usuario cliente utente 用户 顾客 ユーザ 会員 "
    "пользователь клиент".split()
)
ITEM = frozenset(
    "item product article movie film book song track game app sku asin isbn content video course recipe restaurant "
    "news stock artikel produkt ware buch produit livre producto articulo libro prodotto 商品 物品 产品".split()
)
TIME = frozenset(
    "time timestamp ts date datetime day when at zeit zeitpunkt zeitstempel datum uhrzeit heure fecha hora data "
    "时间 日期 日時 время дата".split()
)
KIND = frozenset("event action type behavior behaviour activity kind interaction aktion ereignis accion 行为".split())
RATING = frozenset(
    "rating ratings rate stars star score grade bewertung sterne note puntuacion voto 评分 оценка".split()
)
TITLE = frozenset(
    "title name headline label titel bezeichnung nom titre nombre titulo nome titolo 标题 名称 название".split()
)
CATEGORY = frozenset(
    "category categories genre genres brand department tags author artist section kind type kategorie marke rubrik "
    "categorie marca categoria 类别 品牌 категория".split()
)
PRICE = frozenset("price preis prix precio prezzo 价格 цена".split())
YEAR = frozenset("year jahr annee ano anno".split())
IDENTIFIER = frozenset("id ids key code no nr number uuid sku asin isbn uid".split())
PERSONAL = frozenset(
    "name firstname lastname surname forename email phone tel mobile address street zip postcode ip birth birthday "
    "birthdate dob password token iban vorname nachname telefon adresse strasse plz nom prenom nombre apellido".split()
)

PLAUSIBLE_MS = (631_152_000_000, 2_208_988_800_000)
"""1990 to 2040: a whole column of numbers in it, in seconds or milliseconds, is read as times."""

_FLAGS = ({"true", "false"}, {"yes", "no"}, {"0", "1"})

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+|\d+")


@dataclass(frozen=True, eq=False)
class Look:
    """One column of a table."""

    name: str
    values: pl.Series
    """As text, one per row; null where unknown."""
    kind: Literal["time", "number", "flag", "text", "other"]
    times: pl.Series | None
    """UTC milliseconds, of a column of times."""

    def named(self, words: Collection[str]) -> bool:
        """Whether the column's name holds one of these words."""
        found = {word.lower() for word in _WORD.findall(self.name)}
        # userid, movieIds
        found |= {word.removesuffix(end) for word in found for end in ("id", "ids", "s") if len(word) > len(end)}
        return any(word in found or (not word.isascii() and word in self.name.lower()) for word in words)

    @cached_property
    def known(self) -> pl.Series:
        return self.values.drop_nulls()

    @cached_property
    def distinct(self) -> int:
        return self.known.n_unique()

    @cached_property
    def numbers(self) -> pl.Series:
        """The known values of a column of numbers."""
        return self.known.cast(pl.Float64)

    @cached_property
    def length(self) -> float:
        """Mean length of the known values, in characters."""
        return float(self.known.str.len_chars().mean() or 0)  # type: ignore[arg-type]


def look_at(path: Path) -> list[Look]:
    """The columns of a file. Raises UserError as `read_table` does."""
    table = read_table(path)
    return [_look(table.select("line", name), name, path) for name in table.columns if name != "line"]


def _look(frame: pl.DataFrame, name: str, path: Path) -> Look:
    values = frame[name]
    if values.dtype != pl.String:
        return Look(name, pl.Series(name, [None] * len(values), dtype=pl.String), "other", None)
    known = values.drop_nulls()
    if set(known.unique().str.to_lowercase().head(3)) in _FLAGS:
        return Look(name, values, "flag", None)
    numbers = known.cast(pl.Float64, strict=False)
    # A leading zero makes a code, not a number.
    are_numbers = bool(len(known)) and bool(numbers.is_finite().fill_null(False).all())
    are_numbers = are_numbers and not known.str.contains(r"^0\d").any()
    try:
        times = as_times(frame, name, path, "")[name] if len(known) else None
    except UserError:
        times = None
    if times is not None and (not are_numbers or times.drop_nulls().is_between(*PLAUSIBLE_MS).all()):
        return Look(name, values, "time", times)
    return Look(name, values, "number" if are_numbers else "text", None)


def listed(looks: Collection[Look]) -> str:
    """The names of columns, for a sentence."""
    return ", ".join(look.name for look in looks) or "none"
