"""ZIP codes become places only with a table of them beside the raw files: `zip_places.csv` (zip,city,state)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from usermirrorer.data.sources.readers.csv_files import read_records
from usermirrorer.data.sources.readers.files import joined


TABLE = "zip_places.csv"
COLUMNS = ("zip", "city", "state")


def with_places(users: pl.DataFrame, raw: Path) -> pl.DataFrame:
    """Add `location` ("Berkeley, CA"; null if the code or the table is unknown) from the column `zip`.

    Raises UserError with file:line for a table that is not CSV with these columns.
    """
    if not (raw / TABLE).is_file():
        return users.with_columns(location=pl.lit(None, dtype=pl.String))
    places = joined(read_records(raw / TABLE, COLUMNS), dict.fromkeys(COLUMNS, pl.String))
    places = places.unique("zip", keep="first", maintain_order=True).select(
        pl.col("zip").alias("_zip"), location=pl.format("{}, {}", "city", "state")
    )
    five_digits = users.with_columns(_zip=pl.col("zip").str.slice(0, 5))
    return five_digits.join(places, on="_zip", how="left", maintain_order="left").drop("_zip")
