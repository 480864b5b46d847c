"""The text report of `mowich fleet`: what to do first, then when, why, and how sure.

Money is net present cost over the horizon unless a line says otherwise; a stack alone is compared with the mixed plan;
shadow prices are of the relaxation. Nothing is computed here but sums over periods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mowich.estimate import Estimate
from mowich.fleets.answer import Answer
from mowich.fleets.flips import Flip, ties
from mowich.fleets.robustness import Robustness
from mowich.fleets.solve import TIE
from mowich.show.table import UNKNOWN, Column, Style, interval, number, percent, table, wrap
from mowich.studies.fleet import Fleet
from mowich.studies.fleet_design import WhatIf
from mowich.studies.ranking import names
from mowich.units import show, sig

TOP_BINDING = 8
TOP_FLIPS = 10


def dollars(value: float) -> str:
    """19.7e6 -> "$19.7M"."""
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale * 0.9995:
            return f"${sig(value / scale)}{letter}"
    return f"${sig(value)}"


def dearer(after: float, before: float) -> str:
    """What a change does to a cost: "costs $5.82B more", "costs $1.20k less"; "costs the same" where the two are closer
    than the solver tells plans apart.

    >>> dearer(7.0e9, 1.18e9), dearer(1.0, 1.0 + 2e-16)
    ('costs $5.82B more', 'costs the same')
    """
    if abs(after - before) <= TIE * max(abs(after), abs(before)):
        return "costs the same"
    return f"costs {dollars(abs(after - before))} {'more' if after > before else 'less'}"


def count(value: float) -> str:
    """Units or chips: whole where they are whole, with thousands apart."""
    return f"{round(value):,}" if abs(value - round(value)) < 1e-3 or value >= 1000 else sig(value, 3)


def fleet_text(result: Fleet, style: Style) -> str:
    """The whole report."""
    answer = result.answer
    if not answer.is_feasible:
        return _no_plan(result, style)
    lines = [*wrap(headline(result), style, indent=0, hang=2), ""]
    lines += [
        *_orders(result, style),
        "",
        *_assignment(result, style),
        "",
        *_alone(answer, style),
        "",
        *_binds(answer, style),
    ]
    if result.robust is not None:
        lines += ["", *_robust(result.robust, style)]
    if result.flips:
        lines += ["", *_flips(result.flips, style)]
    lines += ["", *_speeds(result, style)]
    for warning in (*result.warnings, *answer.warnings):
        lines += wrap(f"warning: {warning}", style)
    lines += (
        wrap(
            "Prices: " + "; ".join(dict.fromkeys(f"{o.system} to {o.kind} {o.price}" for o in answer.orders)) + ".",
            style,
        )
        if answer.orders
        else []
    )
    return "\n".join(line.rstrip() for line in lines) + "\n"


def counted_units(units: float, chips: float, most: float) -> str:
    """Units ordered, of `chips` in all: "5"; "up to 7" where never more than `most` chips stand, as what is rented for
    a period is ordered again for the next."""
    return count(units) if chips <= most * (1 + 1e-9) else f"up to {count(units * most / chips)}"


def headline(result: Fleet) -> str:
    """The decision in one sentence."""
    answer, parts = result.answer, []
    standing: dict[str, dict[str, float]] = {}
    for u in answer.uses:
        here = standing.setdefault(u.system, {})
        here[u.period] = here.get(u.period, 0.0) + u.there
    for kind, word in (("buy", "Buy"), ("rent", "Rent")):
        total: dict[str, tuple[float, float]] = {}
        for o in answer.orders:
            if o.kind == kind:
                units, chips = total.get(o.system, (0.0, 0.0))
                total[o.system] = (units + o.units, chips + o.chips)
        most = {s: max(standing.get(s, {}).values(), default=c) if kind == "rent" else c for s, (_, c) in total.items()}
        ordered = [f"{counted_units(n, c, most[s])} {s}" for s, (n, c) in total.items()]
        if ordered:
            parts.append(
                f"{word} {names(ordered)}{' at a time' if any(o.startswith('up to') for o in ordered) else ''}"
            )
    what = "; ".join(parts) or "Order nothing: what is there does the work"
    gap = "" if answer.gap <= 1e-9 else f"; at most {percent(answer.gap)} above the best possible"
    status = "" if answer.status == "optimal" else f" ({answer.status}: the best found)"
    return (
        f"{what}. {dollars(answer.usd)} over {len(result.problem.labels)} periods,"
        f" {names(list(answer.stacks)) or 'no'} stack{'s' if len(answer.stacks) != 1 else ''}{gap}{status}."
    )


def _no_plan(result: Fleet, style: Style) -> str:
    conflict = result.answer.conflict
    if not conflict:
        return "No plan was found, and no set of constraints explains it: whole units or one-system rules may.\n"
    text = f"No plan: {names(list(conflict))} cannot hold together. Without any one of them there is a plan."
    return "\n".join(wrap(text, style, indent=0)) + "\n"


def _grid(rows: Mapping[str, Mapping[str, str]], labels: Sequence[str], first: str, style: Style) -> list[str]:
    """A table with a column for each period; where they do not fit, the later ones go first."""
    columns = [Column(name=first, right=False)] + [Column(name=label, keep=90 - i) for i, label in enumerate(labels)]
    lines, dropped = table(
        columns, [[name, *(cells.get(label, "-") for label in labels)] for name, cells in rows.items()], style
    )
    return lines + ([f"  not shown: {names(dropped)} (--json has all)"] if dropped else [])


def _orders(result: Fleet, style: Style) -> list[str]:
    rows: dict[str, dict[str, str]] = {}
    for o in result.answer.orders:
        rows.setdefault(f"{o.kind} {o.system}", {})[o.period] = count(o.units)
    for u in result.answer.uses:
        idle = u.there - u.busy
        rows.setdefault(f"chips {u.system}", {})[u.period] = count(u.there) + (
            f" ({percent(idle / u.there)} idle)" if idle > 0.005 * u.there else ""
        )
    energy = {
        label: sum(u.mwh or 0.0 for u in result.answer.uses if u.period == label) for label in result.problem.labels
    }
    unknown = sorted({u.system for u in result.answer.uses if u.mwh is None})
    lines = ["  Orders in units, and chips that stand:", *_grid(rows, result.problem.labels, "", style)]
    total = sum(energy.values())
    note = (
        f"  Energy at the meter: {show(total * 3.6e9, 'J')}"
        + (f", without {names(unknown)} (power unknown)" if unknown else "")
        + "."
    )
    return [*lines, note]


def _assignment(result: Fleet, style: Style) -> list[str]:
    rows: dict[str, dict[str, str]] = {}
    for a in result.answer.assign:
        rows.setdefault(f"{a.task} on {a.system}", {})[a.period] = percent(a.share)
    return [
        "  Who does what (share of the demand of the period, or of all the work):",
        *_grid(rows, result.problem.labels, "", style),
    ]


def _alone(answer: Answer, style: Style) -> list[str]:
    known = [v for v in answer.vendors if v.usd is not None]
    lines = ["  One stack alone:"]
    rows = [
        [
            v.stack,
            dollars(v.usd) if v.usd is not None else UNKNOWN,
            (
                f"{v.over + 0.0:+.1%}".replace("-0.0%", "+0.0%")
                if v.over is not None and math.isfinite(v.over)
                else UNKNOWN
            ),
            v.reason or "-",
        ]
        for v in answer.vendors
    ]
    lines += table(
        [
            Column(name="stack", right=False),
            Column(name="cost"),
            Column(name="over the plan"),
            Column(name="why not", right=False),
        ],
        rows,
        style,
    )[0]
    if known and len(answer.stacks) > 1:
        best = min(known, key=lambda v: v.usd or math.inf)
        lines += wrap(_mixing(answer, best.stack, best.usd or 0.0), style)
    elif known:
        lines += wrap("The plan keeps one stack: mixing saves nothing here.", style)
    else:
        lines += wrap("No stack can do all of it alone: the mix is needed, not only cheaper.", style)
    return lines


def _mixing(answer: Answer, stack: str, alone_usd: float) -> str:
    """What several stacks save over the cheapest one alone; nothing where it is within what the plan may be above the
    best possible."""
    saved = alone_usd - answer.usd
    if saved <= max(answer.gap, TIE) * answer.usd:
        return f"Mixing saves nothing that can be told: {stack} alone is within {percent(max(answer.gap, TIE))} of it."
    return (
        f"Mixing saves {dollars(saved)} ({percent(alone_usd / answer.usd - 1)}) over {stack} alone, and keeps"
        f" {len(answer.stacks)} stacks."
    )


def _binds(answer: Answer, style: Style) -> list[str]:
    if not answer.binding:
        return ["  Nothing binds but the prices."]
    rows = [
        [b.constraint, dollars(b.shadow_price), f"1 {b.unit}" if not b.unit.startswith("%") else "1% less"]
        for b in answer.binding[:TOP_BINDING]
    ]
    lines = ["  What binds, and what one more of it (of work and demand: one per cent less) saves:"]
    lines += table(
        [Column(name="constraint", right=False), Column(name="saves"), Column(name="for", right=False)], rows, style
    )[0]
    more = len(answer.binding) - TOP_BINDING
    return lines + ([f"  and {more} more (--json)"] if more > 0 else [])


def _robust(r: Robustness, style: Style) -> list[str]:
    done = f"{r.draws} draws of prices and speeds within their 90% ranges" + (
        "" if r.complete else f" (of {r.asked}: interrupted)"
    )
    rows = [
        [s, " ".join((percent(mid), f"({percent(low)}-{percent(high)})")), percent(r.wins[s])]
        for s, (low, mid, high) in r.share.items()
    ]
    lines = [f"  How sure: {done}."]
    lines += table(
        [Column(name="system", right=False), Column(name="share of chip-hours"), Column(name="leads in")], rows, style
    )[0]
    text = (
        f"Keeping this plan's stack for every workload costs {percent(r.kept[0])} over the best of the draw at the"
        f" median, {percent(r.kept[1])} in one of ten."
    )
    for stack, regret in r.regret.items():
        text += f" {stack} alone: " + (
            "no plan in most draws." if regret is None else f"{percent(regret[0])} and {percent(regret[1])}."
        )
    if r.infeasible:
        text += f" In {r.infeasible} draws there was no plan at all."
    return lines + wrap(text, style)


def _flips(found: Sequence[Flip], style: Style) -> list[str]:
    tied = ties(found)
    left = [f for f in found if f.task not in tied]
    rows = []
    for f in left[:TOP_FLIPS]:
        value = (
            f"${number(f.value)}/chip/h"
            if f.unit == "USD/chip/h"
            else f"{dollars(f.value)}/unit"
            if f.unit == "USD/unit"
            else f"{number(f.value)} {f.unit}"
        )
        rows.append(
            [
                f.task,
                f"{f.before or 'nobody'} -> {f.after or 'nobody'}",
                f"{f.system}'s {f.what} {'below' if f.at < 1 else 'above'} {value}",
                f"{f.at:.2f}x",
            ]
        )
    lines = ["  Flip points, nearest first (everything else as it is):"]
    lines += table(
        [
            Column(name="task", right=False),
            Column(name="leader", right=False),
            Column(name="when", right=False),
            Column(name="of today"),
        ],
        rows,
        style,
    )[0]
    more = len(left) - TOP_FLIPS
    lines += [f"  and {more} more (--json)"] if more > 0 else []
    if tied:
        lines += wrap(
            "Tied today, so anything moves them: "
            + "; ".join(
                f"{task} ({names(sorted({f.before for f in found if f.task == task} | {other}))})"
                for task, other in tied.items()
            )
            + ".",
            style,
        )
    return lines


def _speeds(result: Fleet, style: Style) -> list[str]:
    rows = []
    for r in result.rates.values():
        e: Estimate = r.tokens_per_s_per_chip
        rows.append([r.task, r.system, interval(e), e.grade if e.value is not None else "-", e.reason or "-"])
    columns = [
        Column(name="task", right=False),
        Column(name="system", right=False),
        Column(name="tokens/s/chip"),
        Column(name="grade"),
        Column(name="why not", right=False),
    ]
    return ["  Speeds that the plan rests on (90% ranges, failures included):"] + table(columns, rows, style)[0]


def what_if_text(found: WhatIf, style: Style) -> str:
    """The report of --what-if."""
    share = found.share_after.get(found.system, 0.0)
    text = f"With {found.system} on the table it does {percent(share)} of all chip-hours"
    text += (
        "; without it there is no plan."
        if found.usd_before is None
        else f", and the plan {dearer(found.usd_after, found.usd_before)}."
    )
    lines = [*wrap(text, style, indent=0), "", "  Share of chip-hours:"]
    every = dict.fromkeys([*found.share_before, *found.share_after])
    rows = [
        [
            s,
            percent(found.share_before.get(s)) if s in found.share_before else "-",
            percent(found.share_after.get(s, 0.0)),
        ]
        for s in every
    ]
    lines += table([Column(name="system", right=False), Column(name="without"), Column(name="with")], rows, style)[0]
    lines += ["", "  Which property matters (share of chip-hours at 90% and 110% of it):"]
    lines += table(
        [
            Column(name="property", right=False),
            Column(name="at 90%"),
            Column(name="at 110%"),
            Column(name="points per %"),
        ],
        [[k.name, percent(k.share_low), percent(k.share_high), f"{k.elasticity:+.2f}"] for k in found.knobs],
        style,
    )[0]
    if found.win_price:
        lines += ["", "  Price at which it takes most of a task (from a quarter to four times the scenario's):"]
        lines += table(
            [Column(name="task", right=False), Column(name="price")],
            [
                [task, "already, at the scenario's" if price is None else f"${sig(price)}/chip/h"]
                for task, price in found.win_price.items()
            ],
            style,
        )[0]
    lines += [
        "",
        *wrap(
            f"Making one package costs about {interval(found.unit_cost)} USD (grade {found.unit_cost.grade}): logic,"
            " HBM, packaging, losses and test; boards, racks, network, design and margin are not in it.",
            style,
        ),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"
