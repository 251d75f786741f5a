"""Places of ZIP codes, from a table that you may put beside the raw files: `zip_places.csv` (zip,city,state)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from usermirrorer.data.sources.readers.csv_files import read_records


TABLE = "zip_places.csv"


def with_places(users: pl.DataFrame, raw: Path) -> pl.DataFrame:
    """Add `location` ("Berkeley, CA"; null if the code or the table is unknown) from the column `zip`.

    Raises UserError with file:line for a table that is not CSV with these columns.
    """
    if not (raw / TABLE).is_file():
        return users.with_columns(location=pl.lit(None, dtype=pl.String))
    places = pl.concat(read_records(raw / TABLE, ("zip", "city", "state")))
    places = places.unique("zip", keep="first", maintain_order=True)
    places = places.select(five_digits="zip", location=pl.format("{}, {}", "city", "state"))
    users = users.with_columns(five_digits=pl.col("zip").str.slice(0, 5))
    return users.join(places, on="five_digits", how="left", maintain_order="left").drop("five_digits")
