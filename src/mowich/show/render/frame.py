"""Rows of a result as a dataframe of pandas or polars, as CSV, and as a Parquet file."""

from __future__ import annotations

import csv
import importlib
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from mowich.errors import UserError
from mowich.show.render.csv import inert
from mowich.shown import Frame
from mowich.writing import whole_file, write_file

LIBRARIES = ("pandas", "polars")
"""Dataframes that rows can become, the first that is there unless one is named."""

_EXTRA = "pip install 'mowich[notebook]'"


def frame_of(rows: Sequence[Mapping[str, object]], library: str | None = None) -> Frame:
    """The rows as a dataframe. library: "pandas" or "polars" (None: the first that is installed)."""
    if library is not None and library not in LIBRARIES:
        raise UserError("not a library of dataframes", field="library", given=library, allowed=LIBRARIES)
    for name in LIBRARIES if library is None else (library,):
        found = _module(name)
        if found is not None:
            made: Frame = found.DataFrame([dict(row) for row in rows])
            return made
    raise UserError(
        f"{library} is not installed" if library else "neither pandas nor polars is installed",
        where="to_df",
        fix=f"{_EXTRA}, or take rows(): plain dicts",
    )


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def csv_rows(rows: Sequence[Mapping[str, object]], *, is_shown: bool = False) -> str:
    """The rows as CSV: SI numbers, an empty cell where unknown. is_shown: for spreadsheets, without formulas."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(k for row in rows for k in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: inert(v) for k, v in row.items()} if is_shown else row for row in rows)
    return text.getvalue()


def write_csv(text: str, path: str | Path) -> None:
    """Write CSV. Raises UserError where it cannot be written."""
    write_file(Path(path), text, where=str(path))


def write_parquet_rows(rows: Sequence[Mapping[str, object]], path: str | Path) -> None:
    """Write the rows as one Parquet file, by DuckDB. Raises UserError where DuckDB is not installed, and where the file
    cannot be written."""
    duckdb = _module("duckdb")
    if duckdb is None:
        raise UserError("Parquet files need DuckDB", where="to_parquet", fix="pip install 'mowich[tables]'")
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "rows.csv"
        plain.write_text(csv_rows(rows), encoding="utf-8")
        try:
            read = duckdb.read_csv(str(plain), header=True, sample_size=-1)
            with whole_file(Path(path)) as new:
                read.write_parquet(str(new))
        except (duckdb.Error, OSError) as error:
            raise UserError(f"cannot be written: {' '.join(str(error).split())}", where=str(path)) from None
