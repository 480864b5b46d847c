"""Rows that nobody quotes a price of: at which price of a chip-hour each costs what the best other row does, as a
sentence and as a line with its band."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mowich.estimate import Estimate
from mowich.price_terms import OWN, quote
from mowich.show import charts_change
from mowich.show.chart_grammar import Range
from mowich.show.charts import Chart
from mowich.show.charts_change import Crossing
from mowich.show.colours import looks_of
from mowich.show.formats import interval
from mowich.show.headline import terms_cell
from mowich.show.page import estimate_of
from mowich.shown import Result
from mowich.studies.ranking import runs


def unquoted(rows: Sequence[Result], inputs: Result) -> list[Result]:
    """Rows with a plan whose system has no price that somebody quotes (grade D is nobody's), nor one of the user's."""
    terms: dict[str, Mapping[str, str]] = {
        str(s["system"]): s.get("price_terms") or {} for s in inputs.get("systems", ()) if isinstance(s, Mapping)
    }
    out = []
    for row in rows:
        found = quote(str(row.get("price") or ""))
        if not runs(row) or (found is not None and found.term == OWN):
            continue
        quoted = set(terms.get(str(row["system"]), {}).values()) - {"D"}
        if found is None or (found.term == "tco" and not quoted):
            out.append(row)
    return out


def joules_text(row: Result) -> str:
    """Joules of a token with their range, and whether the power behind them was metered."""
    basis = row.get("power_basis")
    return f"{interval(estimate_of(row['J_per_token']))} J/token" + (f", power {basis}" if basis else "")


def lowest_of(rows: Sequence[Result], pick: Callable[[Result], Estimate]) -> Result | None:
    """The row with the lowest known value, of those that may fit and keep their limits: what a break-even was made
    against (`studies.breakeven`). It says nothing of who is best (`studies.ranking`)."""
    known = [r for r in rows if r.get("feasible") is not False and pick(r).value is not None]
    return min(known, key=lambda r: float(pick(r))) if known else None


def _cost(row: Result) -> Estimate:
    return estimate_of(row.get("usd_per_mtok"))


def breakeven_lines(rows: Sequence[Result], inputs: Result) -> list[str]:
    """For each row without a quoted price: what price, and what power, would equal the best known row."""
    found = unquoted(rows, inputs)
    out = [_breakeven(row, [r for r in rows if r is not row]) for row in found]
    if found:
        first = found[0]["system_id"]
        out.append(f"Your own: --set prices.{first}='$1.40/chip/h' --set power.{first}='900 W' (provisioned)")
    return out


def _breakeven(row: Result, others: Sequence[Result]) -> str:
    price, watts = (estimate_of(row.get(k)) for k in ("breakeven_usd_per_chip_h", "breakeven_W_per_chip"))
    dear = lowest_of(others, _cost)
    cool = lowest_of(others, lambda r: estimate_of(r.get("J_per_token")))
    label = str(row["price"])
    said = f"{row['system']} has {label}"
    if quote(label) is not None:
        said = f"{row['system']} has no quoted price (its cost of ownership: {label.split(',')[0]})"
    if dear is not None and price.value is not None:
        terms = terms_cell(str(dear["price"]))
        said += f": equal to {dear['system']} ({terms}) at ${interval(price)} per chip-hour"
    else:
        said += ", and no other row that fits has one to equal"
    if cool is not None and watts.value is not None:
        said += f"; to {cool['system']} in energy at {interval(watts)} W provisioned per chip"
    return said


class EqualPrice(NamedTuple):
    """price: of a chip-hour, USD, at which a row costs what the best other row does; cost: of a million tokens there;
    other: that row."""

    price: Estimate
    cost: float
    other: str


def equal_price(rows: Sequence[Result], row: Result) -> EqualPrice | None:
    """The break-even of a row; None where no other row has a cost."""
    best = lowest_of([r for r in rows if r is not row], _cost)
    even = estimate_of(row.get("breakeven_usd_per_chip_h"))
    return None if best is None or even.value is None else EqualPrice(even, float(_cost(best)), str(best["system"]))


def equal_words(found: Sequence[tuple[str, EqualPrice]]) -> str:
    """ "trn3 costs what gb300 does at $1.20 (0.9-1.6) a chip-hour, trn2 at $0.70 (0.5-1.1)"."""
    said: dict[str, list[str]] = {}
    for name, even in found:
        first = not said.get(even.other)
        words = f" costs what {even.other} does" if first else ""
        said.setdefault(even.other, []).append(
            f"{name}{words} at ${interval(even.price)}{' a chip-hour' if first else ''}"
        )
    return "; ".join(", ".join(words) for words in said.values())


def range_of(e: Estimate) -> Range | None:
    """The range of an estimate, where it has one."""
    return (float(e.low), float(e.high)) if e.low is not None and e.high is not None and e.high > e.low else None


def price_line_charts(rows: Sequence[Result], inputs: Result) -> list[Chart]:
    """Cost of a token against the price of a chip-hour: rows without a quoted price as lines with their bands, the
    others at what they cost. Nothing where every row has a price."""
    found = [(r, even) for r in unquoted(rows, inputs) if (even := equal_price(rows, r)) is not None]
    if not any(even.price.value for _, even in found):
        return []
    lines = {
        str(row["system"]): [
            Crossing(float(price), even.cost, f"break-even ${price:.3g} per chip-hour{words}")
            for price, words in zip(
                (even.price.value, even.price.low, even.price.high), ("", ", 90% low", ", 90% high"), strict=True
            )
            if price
        ]
        for row, even in found
        if even.price.value
    }
    levels = {
        str(row["system"]): (float(_cost(row)), range_of(_cost(row)), terms_cell(str(row["price"])))
        for row in rows
        if all(row is not r for r, _ in found) and _cost(row).value is not None
    }
    return [
        charts_change.crossing_lines(
            "Cost against the price of a chip-hour, where nobody quotes a price",
            "A row without a quoted price is a rising line between the dashed ends of its 90% range; the mark is its"
            " break-even, where it costs what the best other row does. A level line is a row with a price. Both axes"
            " are logarithmic.",
            lines,
            levels,
            x="$ per chip-hour",
            y="$ per million tokens",
            looks=looks_of([(str(r["system"]), r) for r in rows]),
            finding=equal_words([(str(r["system"]), even) for r, even in found]),
        )
    ]
