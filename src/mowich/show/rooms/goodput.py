"""The page of goodput: ways of surviving failures, what each keeps, and where the time goes."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.colours import SystemLook, look_called
from mowich.show.formats import number_text, percent
from mowich.show.page import (
    Cell,
    Column,
    LateCharts,
    Page,
    Run,
    Table,
    TextCell,
    Words,
    counted,
    estimate_of,
    figure,
    paragraphs,
)
from mowich.shown import Result
from mowich.studies.ranking import names_listed
from mowich.units import show

LOST = {
    "checkpoints": "checkpoints",
    "repeated_work": "repeated",
    "recovery": "recovery",
    "missing_hardware": "hardware",
    "silent_corruption": "silent",
    "slow_chips": "slow",
}
"""What time is lost to, in words."""


def share_words(value: float | None) -> str:
    """0.123 -> "12.3%"; tiny values as they are small."""
    if value is None:
        return "?"
    return f"{100 * value:.1f}%" if value >= 0.001 or value == 0 else "<0.1%"


def page(result: Result, run: Run) -> Page:
    """Goodput by strategy, where the time goes, and the recovery that the target would need."""
    rows, inputs = result["rows"], result["inputs"]
    ways = [f"{r['strategy']}: {r['display']}" for r in rows if r.get("display")]
    return Page(
        title=f"{counted(inputs['days'], 'day')} on {counted(inputs['chips'], 'chip')} of {inputs['on'].split(':')[0]}",
        sentences=(_first(result), _sentence(result)),
        assumptions=[
            ("system", str(inputs["on"])),
            ("chips", f"{inputs['chips']:,}"),
            ("step", f"{inputs['step_s']:g} s"),
            ("spare chips", percent(inputs["spare_share"])),
            ("chips of a replica", f"{inputs['replica_chips']:,}"),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        parts=(
            _strategies(rows, result["target"]),
            _lost(rows),
            *paragraphs(ways, "note", gap=True),
            *paragraphs(result.get("warnings", ()), "warning", gap=True),
            Words(
                text="range: 90% over what is known of rates and costs, and a run's luck; Monte Carlo: mean and spread"
                " at the facts' values. Formulas: mowich help goodput",
                kind="basis",
                gap=True,
            ),
        ),
        charts=LateCharts(lambda: _pictures(rows, result["target"], look_called(str(inputs["on"]).partition(":")[0]))),
        records=rows,
        inputs=inputs,
    )


def _first(result: Result) -> str:
    """The share of the time that trains, in a short sentence."""
    taken = next((r for r in result["rows"] if r["strategy"] == result.get("survival")), result["rows"][0])
    return f"About {share_words(taken['goodput']['value'])} of the time goes into training."


def _sentence(result: Result) -> str:
    """What the way that plans take keeps, whether it is the best, and which others cannot be told from it."""
    rows, inputs = result["rows"], result["inputs"]
    taken = next((r for r in rows if r["strategy"] == result.get("survival")), rows[0])
    g = taken["goodput"]
    best = "best: " if g["value"] >= max(r["goodput"]["value"] for r in rows) else ""
    close = [
        r["strategy"]
        for r in rows
        if r is not taken and estimate_of(r["goodput"]).overlaps(estimate_of(taken["goodput"]))
    ]
    tie = (
        f"; the range{'s' if len(close) > 1 else ''} of {names_listed(close)} "
        f"overlap{'' if len(close) > 1 else 's'} with it"
    )
    return (
        f"{inputs['chips']:,} chips of {result.get('display') or inputs['on']} for {inputs['days']:g} days:"
        f" {best}{taken['strategy']}, {share_words(g['value'])} ({share_words(g['low'])} .. "
        f"{share_words(g['high'])}) of the time"
        f" trains{tie if close else ''}; a failure every {show(rows[0]['mtbf_s'], 's')}, {rows[0]['failures']:,.0f} in"
        " all."
    )


def _strategies(rows: Sequence[Result], target: float) -> Table:
    def line(r: Result) -> list[Cell]:
        g, mc, need = r["goodput"], r["monte_carlo"], r["breakeven_recovery_s"]
        return [
            str(r["strategy"]),
            figure(g, f"{r['strategy']}.goodput", short=share_words(g["value"])),
            f"{share_words(g['low'])} .. {share_words(g['high'])}",
            TextCell(
                number_text(100 * mc["mean"]),
                f"spread {share_words(mc['sd'])}",
                short=f"{share_words(mc['mean'])} ± {share_words(mc['sd'])}",
            ),
            TextCell(number_text(r["mtbf_s"] / 3600), "", f"{r['strategy']}.mtbf_s"),
            number_text(r["failures"]),
            TextCell(number_text(r["checkpoint_s"]), short=f"each {show(r['checkpoint_s'], 's')}"),
            TextCell(number_text(r["recovery_s"]), short=show(r["recovery_s"], "s")),
            TextCell("not reachable", "not even an instant recovery reaches it")
            if need is None
            else TextCell(number_text(need), short=f"<= {show(need, 's')}"),
        ]

    return Table(
        title="Strategies",
        columns=[
            Column(name="strategy", right=False),
            Column(name="goodput", unit="%", short="goodput", scale=100.0),
            Column(name="90% range"),
            Column(name="Monte Carlo", unit="%", short="Monte Carlo", keep=3),
            Column(name="hours between failures", wide=True),
            Column(name="failures", wide=True),
            Column(name="checkpoint every", unit="s", short="checkpoint"),
            Column(name="recovery", unit="s", short="recovery"),
            Column(name=f"longest recovery for {percent(target)}", unit="s", short=f"for {percent(target)}: recovery"),
        ],
        rows=[line(r) for r in rows],
        note="Hover or focus a number for its range.",
        gap=False,
    )


def _lost(rows: Sequence[Result]) -> Table:
    return Table(
        title="Where the time is lost",
        columns=[
            Column(name="time lost to", right=False),
            *(Column(name=n) for n in LOST.values()),
        ],
        rows=[[str(r["strategy"]), *(share_words(r["lost"].get(p, 0.0)) for p in LOST)] for r in rows],
    )


def _pictures(rows: Sequence[Result], target: float, look: SystemLook) -> list[Chart]:
    strategies = [r["strategy"] for r in rows]
    best = max(rows, key=lambda r: float(r["goodput"]["value"]))
    lost = list(dict.fromkeys(k for r in rows for k in r["lost"]))
    parts = {"trains": [100 * r["goodput"]["value"] for r in rows]} | {
        k.replace("_", " "): [100 * r["lost"].get(k, 0.0) for r in rows] for k in lost
    }
    ends = [charts.interval_bar(r["strategy"], r["goodput"], 100) for r in rows]
    return [
        charts.ranges(
            "Goodput with its 90% range",
            "Over the ranges of the facts and a run's luck.",
            ends,
            unit="% of the time",
            looks=dict.fromkeys(strategies, look),
            finding=f"{best['strategy']} keeps most: {share_words(best['goodput']['value'])}",
        ),
        charts.stacked_bars(
            "Where the time goes", "The parts sum to all of it.", strategies, parts, unit="% of the time"
        ),
        charts.stacked_bars(
            "Recovery, and the longest that keeps the target",
            f"Target: goodput of {percent(target)}. No bar: not even an instant recovery reaches it.",
            strategies,
            {"recovery": [r["recovery_s"] for r in rows]},
            unit="s",
            marks=[r["breakeven_recovery_s"] for r in rows],
            mark="longest for the target",
        ),
    ]
