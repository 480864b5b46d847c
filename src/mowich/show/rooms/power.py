"""The page of power: machines by part, what a cap feeds, tokens per megawatt."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.colours import looks_of
from mowich.show.formats import UNKNOWN, headed, interval, number_text, percent
from mowich.show.page import Cell, Column, LateCharts, Page, Run, Table, Words, estimate_of, figure, paragraphs
from mowich.shown import Result
from mowich.units import show, sig

PARTS = ("chip", "server", "network", "cooling")


def _first(known: Sequence[Result]) -> tuple[str, str]:
    """Power of a chip from the least to the most, in a short sentence, or what the page is of."""
    of = "Provisioned power of each machine, by part."
    if not known:
        return "No power is known.", of
    ends = [number_text(pick(estimate_of(r["total_W"]).value or 0.0 for r in known)) for pick in (min, max)]
    watts = " to ".join(dict.fromkeys(ends))
    return f"Provisioned power of a chip: {watts} W at the meter.", of


def page(result: Result, run: Run) -> Page:
    """Power of a busy chip by part, of the machine, and what a cap feeds."""
    rows, inputs = result["rows"], result["inputs"]
    known = [r for r in rows if r["total_W"]["value"] is not None]
    said = (
        "; ".join(f"{r['system']} {interval(estimate_of(r['total_W']))} W a chip" for r in known) or "No power is known"
    )
    return Page(
        title="Power of machines",
        sentences=headed(f"Provisioned power per busy chip: {said}, at the meter.", *_first(known)),
        assumptions=[
            ("cap", "none" if inputs["cap_W"] is None else show(inputs["cap_W"], "W")),
            ("idle chips", percent(inputs["spares"])),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        parts=(
            _machines(rows),
            *paragraphs([text for r in rows for text in _fed(r)], "note"),
            *paragraphs(_drawn(known), "note"),
            Words(
                text="server: host, fans and scale-up switches, what the all-in figure leaves; cooling: PUE less 1."
                " All-in figures are provisioned. The joules of a token count what is drawn.",
                kind="basis",
                gap=True,
            ),
        ),
        charts=LateCharts(lambda: _pictures(known)),
        records=rows,
        inputs=inputs,
    )


def _drawn(known: Sequence[Result]) -> list[str]:
    """What nodes draw while they work, and how that is known."""
    each = [
        f"{r['system']} {interval(estimate_of(r['drawn_W']))}, {r['power_basis']}"
        for r in known
        if r.get("power_basis") and r["drawn_W"]["value"] is not None
    ]
    if not each:
        return []
    return [
        f"Drawn in the mean by a busy chip and its server, before PUE, in W: {'; '.join(each)}. Metered: nodes of that"
        " chip at work. Assumed: the share of provisioned power that metered nodes draw (mowich validate energy)."
    ]


def _fed(row: Result) -> list[str]:
    """What a cap feeds and a megawatt gives, or why the power is not known."""
    name, out = row["system"], []
    chips, tokens = row["chips_under_cap"], row["tokens_per_s_per_MW"]
    if chips and chips["value"] is not None:
        out.append(f"{name}: the cap feeds {chips['value']:,.0f} chips ({chips['low']:,.0f} .. {chips['high']:,.0f})")
    if tokens and tokens["value"] is not None:
        low, high = sig(tokens["low"] or 0.0), sig(tokens["high"] or 0.0)
        out.append(f"{name}: {sig(tokens['value'])} tokens/s per MW ({low} .. {high})")
    if row["total_W"]["value"] is None:
        out.append(f"{name}: {row['total_W']['reason']}")
    return out


def _machines(rows: Sequence[Result]) -> Table:
    def watts(data: Result, metric: str) -> Cell:
        value = data["value"]
        return figure(data, metric, short=UNKNOWN if value is None else show(value, "W"))

    def line(r: Result) -> list[Cell]:
        name, total = r["system"], r["total_W"]
        unknown = total["value"] is None
        return [
            str(name),
            str(r["chips"]),
            *(watts(r["parts_W"][k], f"{name}.parts_W.{k}") for k in PARTS),
            watts(total, f"{name}.total_W"),
            UNKNOWN if unknown else f"{show(total['low'], 'W')} .. {show(total['high'], 'W')}",
            str(total["grade"]),
            watts(r["idle_W"], f"{name}.idle_W"),
            watts(r["machine_W"], f"{name}.machine_W"),
            figure(r["chips_under_cap"], f"{name}.chips_under_cap"),
            figure(r["tokens_per_s_per_MW"], f"{name}.tokens_per_s_per_MW"),
        ]

    return Table(
        title="Machines",
        columns=[
            Column(name="system", right=False),
            Column(name="chips", wide=True),
            *(Column(name=p, unit="W", short=p, keep=20) for p in PARTS),
            Column(name="at the meter", unit="W", short="at the meter"),
            Column(name="90% interval", keep=50),
            Column(name="grade"),
            Column(name="idle", unit="W", short="idle", keep=10),
            Column(name="machine", unit="kW", short="machine", scale=1e-3, keep=5),
            Column(name="chips under cap", wide=True),
            Column(name="tokens/s/MW", wide=True),
        ],
        rows=[line(r) for r in rows],
        note="Hover or focus a number for its grade and range.",
        gap=False,
    )


def _pictures(known: Sequence[Result]) -> list[Chart]:
    if not known:
        return []
    looks = looks_of([(str(r["system"]), r) for r in known])
    out = [
        charts.stacked_bars(
            "Power of a busy chip at the meter",
            "Provisioned: chip, its share of server and network, then cooling and losses.",
            [r["system"] for r in known],
            {k: [r["parts_W"][k]["value"] or 0.0 for r in known] for k in known[0]["parts_W"]},
            unit="W",
        ),
        charts.ranges("The same with its 90% range", "", _ends(known, "total_W"), unit="W", looks=looks),
    ]
    for key, title, unit in (
        ("chips_under_cap", "Chips under the cap", "chips"),
        ("tokens_per_s_per_MW", "Tokens per second and megawatt", "tokens/s/MW"),
    ):
        bars = _ends(known, key)
        out += [charts.ranges(title, "", bars, unit=unit, looks=looks)] if bars else []
    return out


def _ends(rows: Sequence[Result], key: str) -> list[tuple[str, float, float, float]]:
    return [charts.interval_bar(r["system"], r[key]) for r in rows if r.get(key) and r[key]["value"] is not None]
