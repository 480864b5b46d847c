"""Text of fabrics and collectives: a machine level by level, a collective size by size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mowich.machines.topology import Row
from mowich.show.table import Column, Style, table, wrap
from mowich.units import show, sig

if TYPE_CHECKING:
    from mowich.estimate import Estimate
    from mowich.studies.collectives import CollectiveStudy
    from mowich.studies.goodput import GoodputStudy
    from mowich.studies.power import PowerRow


def size_text(value: int) -> str:
    """Bytes in binary units: 1 GiB."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= scale:
            return f"{sig(value / scale)} {unit}"
    return f"{value} B"


def levels_lines(rows: Sequence[Row], style: Style) -> list[str]:
    """The levels of a machine: chips joined, how many such domains, bandwidth of a chip, hops between the furthest two,
    bandwidth of the worst cut."""
    columns = [
        Column(name="level", right=False),
        Column(name="kind", right=False),
        Column(name="joins"),
        Column(name="domains"),
        Column(name="per chip, one way"),
        Column(name="step"),
        Column(name="hops"),
        Column(name="cut, one way"),
    ]
    body = [
        [
            r.name,
            r.kind,
            f"{r.joins:,}",
            f"{r.of:,}",
            show(r.Bps, "B/s"),
            show(r.latency_s, "s"),
            str(r.hops),
            show(r.cut_Bps, "B/s"),
        ]
        for r in rows
    ]
    lines = table(columns, body, style)[0]
    for r in rows:
        if r.note:
            lines += wrap(f"{r.name}: {r.note}", style, indent=2)
    return lines


def collective_text(found: CollectiveStudy, style: Style) -> str:
    """Time against size, with algorithm, binding level and bus bandwidth."""
    n = found.rows[0].ranks
    lines = [
        style.bold(
            f"{found.kind} among {n:,} chips of {found.display}" + (f", {found.network}" if found.network else "")
        )
    ]
    lines += levels_lines(found.levels, style)
    columns = [
        Column(name="size"),
        Column(name="time"),
        Column(name="90% interval", keep=2),
        Column(name="grade"),
        Column(name="bus bandwidth"),
        Column(name="algorithm", right=False),
        Column(name="binds", right=False),
    ]
    body = []
    for r in found.rows:
        t = r.time_s
        body.append(
            [
                size_text(r.bytes),
                show(t.value, "s"),
                f"{show(t.low, 's')} .. {show(t.high, 's')}",
                t.grade,
                show(r.busbw_Bps, "B/s"),
                r.algorithm,
                r.binds,
            ]
        )
    lines += ["", *table(columns, body, style)[0]]
    if found.faults or found.beside:
        what = ", ".join([*found.faults, *(f"beside {b}" for b in found.beside)])
        lines += [
            "",
            *wrap(
                f"{what}: the bytes take {found.slowdown:.3g} times as long as on a whole, idle machine",
                style,
                indent=2,
            ),
        ]
    lines += [
        "",
        *wrap(
            "bus bandwidth: 2 (n-1)/n x bytes / time for an all-reduce, (n-1)/n for gathers, scatters and all-to-all."
            " Formulas: docs/collectives.md",
            style,
            indent=2,
        ),
    ]
    return "\n".join(lines) + "\n"


def goodput_text(found: GoodputStudy, style: Style) -> str:
    """Goodput by strategy, where the time goes, and the recovery that the target would need."""
    j = found.job
    first = found.rows[0].formula
    taken = next(r for r in found.rows if r.strategy == found.survival)
    g = taken.goodput
    best = "best: " if taken.formula.value >= max(r.formula.value for r in found.rows) else ""
    title = (
        f"{j.chips:,} chips of {found.display} for {j.days:g} days: {best}{taken.strategy},"
        f" {share(g.value)} ({share(g.low)} .. {share(g.high)}) of the time trains; a failure every"
        f" {show(first.mtbf_s, 's')}, {first.failures:,.0f} in all"
    )
    lines = [style.bold(line) for line in wrap(title, style, indent=0, hang=0)]
    columns = [
        Column(name="strategy", right=False),
        Column(name="goodput"),
        Column(name="90% range"),
        Column(name="Monte Carlo", keep=3),
        Column(name="checkpoint"),
        Column(name="recovery"),
        Column(name="for 90%: recovery"),
    ]
    body = []
    for r in found.rows:
        need = "not reachable" if r.breakeven_s is None else f"<= {show(r.breakeven_s, 's')}"
        body.append(
            [
                r.strategy,
                share(r.goodput.value),
                f"{share(r.goodput.low)} .. {share(r.goodput.high)}",
                f"{share(r.monte_carlo[0])} {style.plus_minus} {share(r.monte_carlo[1])}",
                f"each {show(r.formula.interval_s, 's')}",
                show(r.recovery_s, "s"),
                need,
            ]
        )
    lines += table(columns, body, style)[0]
    names = {
        "checkpoints": "checkpoints",
        "repeated_work": "repeated",
        "recovery": "recovery",
        "missing_hardware": "hardware",
        "silent_corruption": "silent",
        "slow_chips": "slow",
    }
    columns = [Column(name="time lost to", right=False), *(Column(name=n) for n in names.values())]
    lines += [
        "",
        *table(columns, [[r.strategy, *(share(r.formula.parts[p]) for p in names)] for r in found.rows], style)[0],
        "",
    ]
    for r in found.rows:
        lines += wrap(f"{r.strategy}: {r.display}", style, indent=2)
    lines += [
        "",
        *wrap(
            "range: 90% over what is known of rates and costs, and a run's luck; Monte Carlo: mean and spread at the"
            " facts' values. Formulas: docs/goodput.md",
            style,
            indent=2,
        ),
    ]
    return "\n".join(lines) + "\n"


def share(value: float | None) -> str:
    """0.123 -> "12.3%"; tiny values as they are small."""
    if value is None:
        return "?"
    return f"{100 * value:.1f}%" if value >= 0.001 or value == 0 else "<0.1%"


def power_text(rows: Sequence[PowerRow], style: Style) -> str:
    """Power of a chip by part, of the machine, and what a cap feeds."""

    def watts(e: Estimate) -> str:
        return "?" if e.value is None else show(e.value, "W")

    def span(e: Estimate) -> str:
        return "?" if e.value is None else f"{show(e.low, 'W')} .. {show(e.high, 'W')}"

    columns = [
        Column(name="system", right=False),
        *(Column(name=p) for p in rows[0].power.parts),
        Column(name="at the meter"),
        Column(name="90% interval"),
        Column(name="grade"),
        Column(name="idle"),
        Column(name="machine"),
    ]
    body = [
        [
            r.system,
            *(watts(e) for e in r.power.parts.values()),
            watts(r.power.total),
            span(r.power.total),
            r.power.total.grade,
            watts(r.power.idle),
            watts(r.machine_W),
        ]
        for r in rows
    ]
    lines = [style.bold("Provisioned power per busy chip"), *table(columns, body, style)[0]]
    for r in rows:
        if r.chips_under_cap is not None and r.chips_under_cap.value is not None:
            c = r.chips_under_cap
            lines += wrap(f"{r.system}: the cap feeds {c.value:,.0f} chips ({c.low:,.0f} .. {c.high:,.0f})", style)
        if r.tokens_per_MW is not None and r.tokens_per_MW.value is not None:
            t = r.tokens_per_MW
            lines += wrap(
                f"{r.system}: {sig(t.value or 0.0)} tokens/s per MW ({sig(t.low or 0.0)} .. {sig(t.high or 0.0)})",
                style,
            )
        if r.power.total.value is None:
            lines += wrap(f"{r.system}: {r.power.total.reason}", style)
    lines += [
        "",
        *wrap(
            "server: host, fans and scale-up switches, what the all-in figure leaves; cooling: PUE less 1. All-in"
            " figures are provisioned: metered runs draw less.",
            style,
        ),
    ]
    return "\n".join(lines) + "\n"
