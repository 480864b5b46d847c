"""The page of public claims."""

from __future__ import annotations

from mowich.show import charts
from mowich.show.claims import value_text
from mowich.show.page import GIB, Cell, Page, Result, Table
from mowich.show.table import UNKNOWN, number, percent

VERDICTS = {"holds": "hold", "holds only if": "hold only under a condition", "does not follow": "do not follow"}
"""Verdicts of several claims."""


def claims_page(result: Result) -> Page:
    """Public claims against what facts give."""
    count = result["verdicts"]
    known = [c for c in result["claims"] if c["derived"] and c["published_value"]]
    bars = [
        (
            c["claim"][:60],
            c["low"] / c["published_value"],
            c["derived"] / c["published_value"],
            c["high"] / c["published_value"],
        )
        for c in known
        if c["low"] and c["high"]
    ]
    pictures = (
        [
            charts.ranges(
                "Derived over claimed",
                "1 is what was claimed; the bar spans the ranges of the facts.",
                bars,
                unit="derived / claimed",
                log=True,
            )
        ]
        if bars
        else []
    )
    rows: list[list[Cell]] = [
        [
            c["claim"],
            c["published"],
            (UNKNOWN, "nothing is derived")
            if c["derived"] is None
            else (value_text(c["derived"], c.get("unit", "")), c["formula"], f"{c['id']}.derived"),
            c["verdict"],
            (c["formula"] or "-"),
            (c["reason"] or "-"),
            c["source"],
        ]
        for c in result["claims"]
    ]
    tables = [
        Table(
            title="Claims",
            head=["claim", "published", "derived", "verdict", "formula", "why", "source"],
            rows=rows,
        )
    ]
    if result.get("memory"):
        tables.append(
            Table(
                title="What memory per chip costs",
                head=[
                    "model",
                    "context",
                    "system",
                    "GiB",
                    "chips",
                    "tokens/s/chip",
                    "bandwidth lost to weights",
                    "price ratio",
                ],
                rows=[
                    [
                        m["model"],
                        f"{m['context']:,}",
                        m["system"],
                        number(m["memory_B"] / GIB),
                        str(m["chips"]),
                        number(m["tokens_per_s"]),
                        percent(m["loss"]),
                        number(m["price_ratio"]),
                    ]
                    for m in result["memory"]
                ],
            )
        )
    return Page(
        title="Public claims, derived again",
        headline=f"Of {sum(count.values())} claims "
        + ", ".join(f"{n} {VERDICTS.get(verdict, verdict) if n > 1 else verdict}" for verdict, n in count.items())
        + ".",
        assumptions=[("facts", str(result.get("facts_hash", "")))],
        tables=tables,
        charts=pictures,
        inputs=result.get("inputs", {}),
    )
