"""The page of prices: cost of a chip-hour by part, what is paid once, and what sellers keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.price_terms import BUYERS, COST_RULE_WORDS, WITHOUT_PRICE
from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.formats import first_sentence, interval, number_text, percent
from mowich.show.headline import terms_cell
from mowich.show.page import Cell, Column, LateCharts, Page, Run, Table, Words, estimate_of, figure, notes
from mowich.shown import Result
from mowich.units import UNITS, sig

OWNED_WORDS: Mapping[str, str] = {
    "silicon": "silicon",
    "hbm": "HBM",
    "packaging": "packaging and test",
    "chip_maker": "maker of the chip",
    "host_memory": "host memory",
    "machine": "board, host, rack",
    "scale_up": "scale-up network",
    "network": "scale-out network",
    "storage": "storage",
    "spares": "spare chips",
    "capital_cost": "cost of capital",
    "site": "site",
    "energy": "energy",
    "cooling": "cooling (PUE)",
    "operation": "staff and upkeep",
}
"""Parts of the cost for a reader, in the order of `ownership.OWNED`."""

_SHOWN_SIDE_BY_SIDE = 6
"""Systems whose parts fit beside one another."""


def page(result: Result, run: Run) -> Page:
    """Cost of ownership and prices of systems."""
    rows, inputs = result["rows"], result["inputs"]
    known = [r for r in rows if r["tco_total"]["value"] is not None]
    unknown = [f"{r['system']}: {r['tco_total']['reason']}" for r in rows if r["tco_total"]["value"] is None]
    unknown += [f"{r['system']}: {r['usd_per_chip_h']['reason']}" for r in rows if _lacks(r)]
    return Page(
        title="Prices of a chip-hour",
        sentences=(*_first(known), _headline(known, inputs)),
        assumptions=_strip(result),
        parts=(
            _totals(rows),
            *([_by_part(known)] if 0 < len(known) <= _SHOWN_SIDE_BY_SIDE else []),
            *([_sellers(known, inputs)] if known else []),
            *notes(unknown, ()),
            Words(
                text="Costs are per installed chip and hour of the calendar, from parts that each have a source; no"
                " published cost of an hour is among them. Compare with an analyst under his rule: --rule, --life."
                " Details: mowich help prices; mowich explain FILE SYSTEM.tco.silicon.",
                kind="basis",
                indent=0,
                gap=True,
            ),
        ),
        charts=LateCharts(lambda: _pictures(known)),
        records=rows,
        inputs=inputs,
    )


def _lacks(row: Result) -> bool:
    """Whether a row has no price of the kind that was asked, which is not the cost."""
    return row["usd_per_chip_h"]["value"] is None and row["tco_total"]["value"] is not None


def _first(known: Sequence[Result]) -> list[str]:
    """What a chip-hour costs its owner, from the least to the most; nothing where it is not known."""
    if not known:
        return []
    ends = (number_text(pick(row["tco_total"]["value"] for row in known)) for pick in (min, max))
    costs = f"costs its owner about ${' to $'.join(dict.fromkeys(ends))}."
    of = f" of {known[0]['system']}" if len(known) == 1 else ""
    return [first_sentence(f"A chip-hour{of} {costs}", f"A chip-hour {costs}")]


def _headline(known: Sequence[Result], inputs: Result) -> str:
    if not known:
        return "No cost of ownership is known."
    cheap = min(known, key=lambda r: float(r["tco_total"]["value"]))
    dear = max(known, key=lambda r: float(r["tco_total"]["value"]))
    who = f"bought in {inputs['quarter']} by a {inputs['buyer']}, {COST_RULE_WORDS[inputs['rule']]}"
    first = f"A chip-hour costs its owner ${interval(estimate_of(cheap['tco_total']))} on {cheap['system']}"
    if dear is cheap:
        return f"{first} ({who})."
    return f"{first} and ${interval(estimate_of(dear['tco_total']))} on {dear['system']} ({who})."


def _strip(result: Result) -> list[tuple[str, str]]:
    inputs = result["inputs"]
    life = inputs["life_s"]
    return [
        ("quarter of purchase", str(inputs["quarter"])),
        ("rule", COST_RULE_WORDS[inputs["rule"]]),
        ("buyer", str(inputs["buyer"])),
        ("life", "as the rule says" if life is None else f"{life / UNITS['year'].value:g} years"),
        ("chips of one network", f"{inputs['chips']:,.0f}"),
        ("kind of price", str(inputs["price_term"])),
        ("facts", str(result.get("facts_hash", ""))),
    ]


def _totals(rows: Sequence[Result]) -> Table:
    def line(r: Result) -> list[Cell]:
        name = str(r["system"])
        return [
            name,
            figure(r["usd_per_chip_h"], f"{name}.usd_per_chip_h"),
            terms_cell(str(r["price"]), short=True),
            figure(r["tco_total"], f"{name}.tco_total"),
            figure(r["capital_total"], f"{name}.capital_total"),
            *(figure(r["tco"][p], f"{name}.tco.{p}") for p in OWNED_WORDS),
            str(r["tco_total"]["grade"]),
        ]

    return Table(
        title="A chip-hour",
        columns=[
            Column(name="system", right=False),
            Column(name="price", unit="$/chip/h", short="$/chip/h", format="interval"),
            Column(name="kind", right=False),
            Column(name="cost of ownership", unit="$/chip/h", short="TCO $/chip/h", format="interval"),
            Column(name="paid once", unit="$", short="paid once, $", format="interval", keep=5),
            *(Column(name=name, unit="$/chip/h", format="number", wide=True) for name in OWNED_WORDS.values()),
            Column(name="grade"),
        ],
        rows=[line(r) for r in rows],
        note="Hover or focus a number for its grade and range.",
        gap=False,
    )


def _by_part(known: Sequence[Result]) -> Table:
    def line(part: str) -> list[Cell]:
        cells: list[Cell] = [OWNED_WORDS[part]]
        for r in known:
            cells.append(figure(r["tco"][part], f"{r['system']}.tco.{part}"))
        for r in known:
            once = figure(r["capital"][part], f"{r['system']}.capital.{part}") if part in r["capital"] else ""
            cells.append(once)
        return cells

    return Table(
        title="Parts of a chip-hour, and what is paid once for a chip",
        columns=[
            Column(name="part", right=False),
            *(Column(name=str(r["system"]), unit="$/h", short=f"{r['system']} $/h", format="number") for r in known),
            *(
                Column(name=f"{r['system']} once", unit="$", short=f"{r['system']} $", format="number", keep=3)
                for r in known
            ),
        ],
        rows=[line(p) for p in OWNED_WORDS],
        note="Each number can be explained.",
    )


def _sellers(known: Sequence[Result], inputs: Result) -> Table:
    """What a seller must ask, and what he keeps of published prices."""

    def line(r: Result) -> list[Cell]:
        name = str(r["system"])
        kept = "; ".join(
            f"{q['term']} ${sig(q['usd_per_chip_h']['value'])}: {percent(q['margin']['value'])}" for q in r["quoted"]
        )
        return [
            name,
            figure(r["sold_usd_per_chip_h"], f"{name}.sold_usd_per_chip_h"),
            figure(r["asked_usd_per_chip_h"], f"{name}.asked_usd_per_chip_h"),
            *(figure(r["rented_usd_per_chip_h"].get(s), f"{name}.rented_usd_per_chip_h.{s}") for s in BUYERS),
            kept or WITHOUT_PRICE,
        ]

    low, high = inputs["margin_low"], inputs["margin_high"]
    margin = percent(inputs["margin"]) if low == high else f"{percent(low)} to {percent(high)}"
    return Table(
        title="The seller's cost and the buyer's price",
        columns=[
            Column(name="system", right=False),
            Column(name="cost of a sold hour", unit="$/chip/h", short="sold $/h", format="interval"),
            Column(name=f"at a margin of {margin}", unit="$/chip/h", short="asked $/h", format="interval"),
            *(Column(name=f"{s}s ask", unit="$/chip/h", short=f"{s} $/h", format="interval", keep=6) for s in BUYERS),
            Column(name="published prices, and the share of each above the cost", right=False, keep=4),
        ],
        rows=[line(r) for r in known],
        note="A sold hour carries the hours in which a chip is out of service or not sold. What sellers ask: their cost"
        " times what they ask over it for machines whose price is published (mowich help prices).",
    )


def _pictures(known: Sequence[Result]) -> list[Chart]:
    if not known:
        return []
    return [
        charts.stacked_bars(
            "Cost of a chip-hour by part",
            "Per installed chip: what is paid once is spread over the life of the machine.",
            [str(r["system"]) for r in known],
            {name: [float(r["tco"][p]["value"]) for r in known] for p, name in OWNED_WORDS.items()},
            unit="$/chip/h",
        ),
        charts.ranges(
            "The same with its 90% range",
            "",
            [charts.interval_bar(str(r["system"]), r["tco_total"]) for r in known],
            unit="$/chip/h",
        ),
    ]
