"""The date of the serving engine's release that a measured row names: `facts/published/engine_releases.csv`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date
from functools import cache

from mowich.evidence.measured_tables import shipped_rows

_RELEASE = re.compile(r"\bv?(\d+\.\d+[\w.-]*)")
_DAY = re.compile(r"\b(20\d\d)(?:-(\d\d)(?:-(\d\d))?)?(?![\w-])")


@cache
def _released() -> Mapping[str, Mapping[str, float]]:
    """Engine -> release -> the year."""
    out: dict[str, dict[str, float]] = {}
    for row in shipped_rows("published/engine_releases.csv"):
        out.setdefault(row["engine"], {})[row["release"]] = year_of(row["date"])
    return out


def year_of(day: str) -> float:
    """A day, or the middle of a month or year, as a number of years. nan without a date.

    >>> year_of("2026-01-01"), year_of("2026-07"), year_of("measured in 2026"), year_of("")
    (2026.0, 2026.54, 2026.5, nan)
    """
    found = _DAY.search(day)
    if found is None:
        return math.nan
    year, month = int(found[1]), int(found[2] or 0)
    if not month:
        return year + 0.5
    return round(year + (date(year, month, int(found[3] or 16)) - date(year, 1, 1)).days / 366.0, 2)


def release_year(engine: str, version: str, measured: str) -> float:
    """The year, such as 2026.09, of the release that a row names, or of the release that it repairs. Where the table
    has neither, the year of the row's own date. nan for an engine without a table, and without a date. version: the
    row's name of the framework.

    >>> release_year("vllm", "vllm 0.19.0", "2026-04-22"), release_year("vllm", "vllm", "2025-10-29")
    (2026.25, 2025.82)
    >>> release_year("neuron", "NxD Inference", "2026-04-22")
    nan
    """
    known = _released().get(engine)
    if known is None:
        return math.nan
    named = _RELEASE.search(version)
    for release in (named[1], named[1].partition(".post")[0]) if named else ():
        if release in known:
            return known[release]
    return year_of(measured)
