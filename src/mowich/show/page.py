"""What a report page is made of, and the small things that every page needs: cells with hovers, plans in words.

A `Page` is data: `html` renders it as one file, the web page sends it to the browser. Cells are text, (text, hover) or
(text, hover, metric), the last being the name under which `explain` tells where the number comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mowich.estimate import Estimate
from mowich.facts import Fact
from mowich.show.charts import Chart
from mowich.show.table import UNKNOWN, interval, number

Result = Mapping[str, Any]

Cell = str | tuple[str, str] | tuple[str, str, str]

GIB = 2**30
"""Bytes of a GiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells may be (text, hover) or (text, hover, metric)."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """headline: the answer in a few sentences; marks: of a comparison, by measure, "best", "close" or "" for each row;
    beside: words for each row, by what they say (`chips` where a table needs them, `price_terms`); assumptions: (what,
    value) or (what, value, path of the fact); facts: all that the numbers rest on."""

    title: str
    headline: str
    assumptions: Sequence[tuple[str, str] | tuple[str, str, str]]
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    warnings: Sequence[str] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    facts: Sequence[Fact] = ()
    marks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    beside: Mapping[str, Sequence[str]] = field(default_factory=dict)


def estimate(data: Mapping[str, Any] | None) -> Estimate:
    return Estimate.from_dict(data or {"value": None, "unit": "", "reason": "not in this result"})


MARKS = {"best": " \N{LEFTWARDS ARROW}", "close": " ~", "": ""}
"""Behind a number: the best of its column, or a range that overlaps with the best."""


NOTE = "Hover or focus a number for its grade and range. ? is unknown, with the reason."
NOTE_MARKED = f"{NOTE} \N{LEFTWARDS ARROW} best, ~ range overlaps with the best: not ranked."
"""Said above a table of plans, and of rows that are compared."""


def cell(data: Mapping[str, Any] | None, scale: float = 1.0, metric: str = "", mark: str = "") -> tuple[str, str, str]:
    """An estimate as (text, hover, metric): the value with its range and its mark, its grade and why it is unknown."""
    e = estimate(data)
    if e.value is None:
        return UNKNOWN, e.reason or "unknown", metric
    return (
        interval(e, scale) + MARKS[mark],
        f"grade {e.grade}; 90% range {number(e.low, scale)} to {number(e.high, scale)}",
        metric,
    )


def plan_words(plan: Mapping[str, Any] | None) -> str:
    if not plan:
        return "-"
    serving = "kv" in plan
    keys = (
        ("tp", "pp", "vpp", "dp", "cp", "ep")
        if serving
        else ("tp", "pp", "vpp", "dp", "cp", "ep", "zero", "micro_batch")
    )
    degrees = [
        f"{k.replace('micro_batch', 'mb')}{plan[k]}"
        for k in keys
        if plan.get(k, 1) not in (1, None) or k == ("tp" if serving else "dp")
    ]
    return f"{' '.join(degrees)} {plan.get('precision', '')}{'/' + str(plan['kv']) if serving else ''}"


def counted(n: float, what: str) -> str:
    """ "1 chip", "1,024 chips"."""
    return f"{n:,.6g} {what}{'' if n == 1 else 's'}"
