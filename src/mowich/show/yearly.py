"""What the rows of a comparison come to in a year: a table, what is to be said of it, and pictures."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.estimate import Estimate
from mowich.price_terms import quote
from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.colours import looks_of
from mowich.show.formats import interval, number_text
from mowich.show.headline import row_label
from mowich.show.page import NOTHING, Cell, Column, Figure, Part, Table, TextCell, estimate_of, figure, paragraphs
from mowich.shown import Result
from mowich.units import sig

_MILLION = 1e-6
SAVING_NOT_KNOWN = "not known"
"""Said of a saving whose range has no sign."""


def told_rows(rows: Sequence[Result]) -> list[Result]:
    """Rows that have a year to tell."""
    return [row for row in rows if row.get("yearly")]


def has_sign(e: Estimate) -> bool:
    """Whether the whole range of a number lies on one side of nothing."""
    return e.value is not None and e.low is not None and e.high is not None and (e.low > 0 or e.high < 0)


def saving_words(e: Estimate, scale: float = _MILLION) -> str:
    """ "1.2 (0.8-1.7)"; a range with no sign is "not known (-0.2 to 0.9)"."""
    if e.value is None or has_sign(e) or e.low == e.high:
        return interval(e, scale)
    return f"{SAVING_NOT_KNOWN} ({number_text(e.low, scale, 2)} to {number_text(e.high, scale, 2)})"


def yearly_parts(rows: Sequence[Result], inputs: Result) -> list[Part]:
    """The table of a year and the lines below it; nothing where no time was asked."""
    told = told_rows(rows)
    if not told:
        return []
    said = [_at_work(inputs), *_there(rows), *_savings(told), *_ports(told), *_worth(told)]
    return [_table(told, str(inputs["per"])), *paragraphs(said, "note")]


def _columns(told: Sequence[Result], per: str) -> list[Column]:
    years = [row["yearly"] for row in told]
    beside = next((str(y["beside"]) for y in years if y.get("beside")), "")

    def money(name: str, key: str, keep: int = 99, unit: str = "M$", scale: float = _MILLION) -> list[Column]:
        if not any(key in y for y in years):
            return []
        return [Column(name=name, unit=unit, short=f"{name} {unit}", format="interval", scale=scale, keep=keep)]

    return [
        Column(name="system", right=False),
        Column(name="tokens", unit="T", short="T tokens", format="interval", scale=1e-12),
        *money("cost", "cost_usd"),
        *money("revenue", "revenue_usd", 90),
        *money("margin", "margin_usd"),
        Column(name="energy", unit="GWh", short="GWh", format="interval", scale=1 / 3.6e12, keep=80),
        Column(name="provisioned", unit="MW", short="MW", format="interval", scale=1e-6, keep=70),
        *money(f"saving beside {beside}", "saving_usd", 98),
        *money(f"saving a GW and {per}", "saving_usd_per_GW", 97),
        *money("saving a chip and year", "saving_usd_per_chip_year", 60, "$", 1.0),
        *money("port pays from", "pays_from_chips", 96, "chips", 1.0),
        *money("worth at the end", "residual_usd", 50),
    ]


_KEYS = (
    *("tokens", "cost_usd", "revenue_usd", "margin_usd", "energy_J", "provisioned_W", "saving_usd"),
    *("saving_usd_per_GW", "saving_usd_per_chip_year", "pays_from_chips", "residual_usd"),
)
"""Numbers of a year, in the order of the columns."""
_ALWAYS = ("tokens", "cost_usd", "energy_J", "provisioned_W")


def _table(told: Sequence[Result], per: str) -> Table:
    columns = _columns(told, per)
    keys = [key for key in _KEYS if key in _ALWAYS or any(key in row["yearly"] for row in told)]
    rows = []
    for row in told:
        cells = [_cell(row, key, column.scale) for key, column in zip(keys, columns[1:], strict=True)]
        rows.append([row_label(row), *cells])
    return Table(
        title=f"A {per} of it",
        columns=columns,
        rows=rows,
        note="All chips at work all the time.",
        legend=[f"in a {per}; ? unknown   90% ranges"],
        split=True,
    )


def _cell(row: Result, key: str, scale: float) -> Cell:
    """A number of a year; of the first row no saving is told, and one whose range has no sign is told as that."""
    if key not in row["yearly"]:
        return NOTHING
    name, e = f"{row['system']}.yearly.{key}", estimate_of(row["yearly"][key])
    if key.startswith("saving") and e.value is not None and not has_sign(e) and e.low != e.high:
        words = saving_words(e, scale)
        return TextCell(words, f"grade {e.grade}; the range has gains and losses in it", name, SAVING_NOT_KNOWN)
    if key == "pays_from_chips" and e.value is not None:
        return _chips_cell(e, name)
    return Figure(e, name) if e.value is None else figure(row["yearly"][key], name)


def _chips_cell(e: Estimate, name: str) -> TextCell:
    """A number of chips; where it may never pay, that."""
    return TextCell(chips_words(e), f"grade {e.grade}", name)


def chips_words(e: Estimate) -> str:
    """ "1170 (230 to 6000)", "1170, or never"."""
    said = sig(float(e), 3)
    return f"{said}, or never" if e.high is None else f"{said} ({sig(float(e.low or 0.0), 2)} to {sig(e.high, 2)})"


# ---- words
# ----------------------------------------------------------------------------------------------------------------------


def _at_work(inputs: Result) -> str:
    per = str(inputs["per"])
    sold = " All tokens are sold." if inputs.get("sells") else ""
    return (
        f"A {per} has {float(inputs['period_s']):,.0f} s, with all chips at work all the time.{sold} Chips that work"
        f" half of it make half of the tokens{' and of the revenue' if sold else ''}, and cost as much where they are"
        " bought or rented."
    )


def there_lines(inputs: Result) -> list[str]:
    """What the price of systems is that are there already, and what it leaves out."""
    there = [str(s["system"]) for s in inputs.get("systems", ()) if isinstance(s, dict) and s.get("there")]
    if not there:
        return []
    names, many = " and ".join(there), len(there) > 1
    return [
        f"{names} {'are' if many else 'is'} there: the price is the electricity of chips at work. Staff and site are"
        " not in it, and what was paid is spent. What selling the machines or ending their contract would bring is not"
        " counted."
    ]


def _there(rows: Sequence[Result]) -> list[str]:
    """How rows on electricity alone and others are put on one kind of price."""
    kinds = {found.term for row in told_rows(rows) if (found := quote(str(row.get("price") or ""))) is not None}
    if "electricity" not in kinds or len(kinds) < 2:
        return []
    return [
        "Electricity alone and a whole price give no saving: --price electricity counts the electricity of all;"
        " --on instead of --have counts the whole price of all."
    ]


def _usd(e: Estimate) -> str:
    """ "$1.2M (0.8-1.7)"."""
    return f"${interval(e, _MILLION)}M"


def _savings(told: Sequence[Result]) -> list[str]:
    """Which rows save against the first, which cost more, and for which it is not known."""
    found = [(row_label(row), row["yearly"]) for row in told if row["yearly"].get("beside")]
    if not found:
        return []
    first = found[0][1]["beside"]
    sure, open_, none = [], [], dict[str, list[str]]()
    for name, year in found:
        e = estimate_of(year["saving_usd"])
        if e.value is None:
            none.setdefault(str(e.reason), []).append(name)
        elif has_sign(e) or e.low == e.high:
            sure.append(f"{name} {'saves' if e.value > 0 else 'costs more:'} {_usd(e)}")
        else:
            open_.append(
                f"{name} {SAVING_NOT_KNOWN}, {number_text(e.low, _MILLION, 2)} to {number_text(e.high, _MILLION, 2)} M$"
            )
    said = "; ".join([*sure, *open_])
    lines = [f"Saving beside {first}, for the tokens that both make: {said}."] if said else []
    return lines + [f"Saving of {', '.join(names)} beside {first}: not told, {why}." for why, names in none.items()]


def _ports(told: Sequence[Result]) -> list[str]:
    """What a port costs, from how many chips it pays, and whether those of the row are enough."""
    found = [row for row in told if row["yearly"].get("porting_usd")]
    if not found:
        return []
    cost, within = (estimate_of(found[0]["yearly"][key]) for key in ("porting_usd", "within_years"))
    said, none = [], dict[str, list[str]]()
    for row in found:
        e = estimate_of(row["yearly"].get("pays_from_chips"))
        if e.value is None:
            none.setdefault(str(e.reason), []).append(row_label(row))
        elif e.high is None:
            said.append(
                f"{row_label(row)} {SAVING_NOT_KNOWN}: from {sig(float(e), 3)} chips at the value of its saving, never"
                " at its low end"
            )
        else:
            said.append(f"{row_label(row)} pays from {chips_words(e)} chips")
    said += [f"{', '.join(names)} not known, {why}" for why, names in none.items()]
    return [
        f"A port to another maker's software costs ${interval(cost, _MILLION)}M once (--set prices.porting.people=4"
        f" takes your own); within {interval(within)} years: {'; '.join(said)}."
    ]


def _worth(told: Sequence[Result]) -> list[str]:
    """What machines that are bought now are worth at the end."""
    found = [row for row in told if row["yearly"].get("residual_usd")]
    if not found:
        return []
    within = estimate_of(found[0]["yearly"]["within_years"])
    said = ", ".join(f"{row_label(row)} {_usd(estimate_of(row['yearly']['residual_usd']))}" for row in found)
    return [
        f"Worth of machines bought now after {interval(within)} years: {said}. The cost already counts what is left at"
        " the end of their life (mowich prices), so this is not added to the margin."
    ]


# ---- pictures
# ----------------------------------------------------------------------------------------------------------------------


def yearly_charts(rows: Sequence[Result], inputs: Result) -> list[Chart]:
    """Savings beside the first row and margins, with their ranges; where there are some."""
    told = told_rows(rows)
    looks = looks_of([(str(row["system"]), row) for row in told])
    out = []
    for key, title, note in (
        (
            "saving_usd",
            "Saving beside the first row",
            "For the tokens that both make. A range on both sides of nothing is no saving and no loss.",
        ),
        ("margin_usd", "Revenue less cost", "All tokens are made and sold."),
    ):
        bars = [
            (str(row["system"]), e.low * _MILLION, float(e) * _MILLION, e.high * _MILLION)
            for row in told
            if (e := estimate_of(row["yearly"].get(key))).value is not None and e.low is not None and e.high is not None
        ]
        if bars:
            unit = f"M$ a {inputs['per']}"
            out.append(charts.ranges(f"{title}, a {inputs['per']}", note, bars, unit=unit, looks=looks))
    return out
