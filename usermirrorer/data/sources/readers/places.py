"""Places of ZIP codes, from a table that you may put beside the raw files.

`zip_places.csv` is UTF-8 with the header `zip,city,state` and a row such as `94703,Berkeley,CA` for each code; other
columns are not read, and of several rows of one code the first counts. A code is looked up by its first five digits.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from usermirrorer.data.sources.readers.csv_files import read_records


TABLE = "zip_places.csv"
CONTENT = "zip,city,state with this header: places of ZIP codes, shown as `Location: Berkeley, CA`"


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
