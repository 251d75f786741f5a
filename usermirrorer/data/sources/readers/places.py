"""ZIP codes become places only where a table of them lies beside the raw files: `zip_places.csv` (zip,city,state)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from usermirrorer.errors import UserError


TABLE = "zip_places.csv"


def with_places(users: pl.DataFrame, raw: Path) -> pl.DataFrame:
    """Add `location` ("Berkeley, CA"; null where the code or the table is unknown) from the column `zip`.

    Raises UserError for a table that is not CSV with these columns.
    """
    path = raw / TABLE
    if not path.is_file():
        return users.with_columns(location=pl.lit(None, dtype=pl.String))
    try:
        places = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: not CSV in UTF-8 with the header zip,city,state ({reason}); repair it") from None
    missing = [name for name in ("zip", "city", "state") if name not in places.columns]
    if missing:
        raise UserError(f"{path}:1: column {missing[0]!r} is missing; the header must be zip,city,state")
    places = places.unique("zip", keep="first", maintain_order=True).select(
        pl.col("zip").alias("_zip"), location=pl.format("{}, {}", "city", "state")
    )
    five_digits = users.with_columns(_zip=pl.col("zip").str.slice(0, 5))
    return five_digits.join(places, on="_zip", how="left", maintain_order="left").drop("_zip")
