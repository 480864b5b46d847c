"""The page of a fleet: what to do first, then when, why, and how sure.

Money is net present cost over the horizon unless a line says otherwise; a stack alone is compared with the mixed plan;
shadow prices are of the relaxation. Nothing is computed here but sums over periods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.fleets.flips import Flip, tied_leaders
from mowich.fleets.solve import GOAL_TIE
from mowich.show import charts, charts_time
from mowich.show.charts import Chart
from mowich.show.colours import look_called
from mowich.show.fleet_idle import all_at_work, captioned, count_text, idle_parts, idle_sentences
from mowich.show.formats import UNKNOWN, interval, number_text, percent
from mowich.show.page import (
    NOTHING,
    Cell,
    Column,
    Figure,
    Page,
    Part,
    Run,
    Table,
    TextCell,
    Words,
    estimate_of,
    paragraphs,
    plan_words,
    word_columns,
)
from mowich.shown import Result
from mowich.studies.ranking import names_listed
from mowich.units import show, sig

TOP_BINDING = 8
TOP_FLIPS = 10
"""Rows of a terminal's tables."""

MOST_FLIPS = 30
"""Rows of a page's table of flip points."""


# amounts
# ----------------------------------------------------------------------------------------------------------------------


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
    if abs(after - before) <= GOAL_TIE * max(abs(after), abs(before)):
        return "costs the same"
    return f"costs {dollars(abs(after - before))} {'more' if after > before else 'less'}"


def counted_units(units: float, chips: float, most: float) -> str:
    """Units ordered, of `chips` in all: "5"; "up to 7" where never more than `most` chips stand, as what is rented for
    a period is ordered again for the next."""
    return count_text(units) if chips <= most * (1 + 1e-9) else f"up to {count_text(units * most / chips)}"


# the page
# ----------------------------------------------------------------------------------------------------------------------


def fleet_page(result: Result, run: Run) -> Page:
    """Orders, who does what, what binds, how sure."""
    inputs = result["inputs"]
    title = f"Fleet: {inputs['name']}"
    if result["objective"] is None:
        return Page(
            title=title,
            sentences=(_no_plan(result["conflict"]),),
            assumptions=[("facts", result["facts_hash"])],
            inputs=inputs,
        )
    what_if = result.get("what_if")
    priced = [(k, o) for k in ("buy", "rent") for o in result[k]]
    return Page(
        title=title,
        sentences=(
            *(_what_if_sentences(what_if) if what_if else ()),
            *idle_sentences(result),
            _sentence(result),
            *all_at_work(result),
        ),
        assumptions=[
            ("cost", "net present, USD"),
            ("gap to the best possible", percent(result["gap"])),
            ("stacks", ", ".join(result["stacks"])),
            ("facts", result["facts_hash"]),
        ],
        parts=(
            *(_what_if(what_if) if what_if else ()),
            *idle_parts(result.get("idle", ())),
            *_orders(result),
            *_assignment(result),
            *_alone(result),
            *_binds(result["binding"]),
            *(_robust(result["robust"], whole=result["complete"]) if result.get("robust") else ()),
            *(_flips(result["flips"]) if result.get("flips") else ()),
            *_speeds(result["rates"]),
            *paragraphs([f"warning: {w}" for w in result.get("warnings", ())], "warning"),
            *paragraphs(_prices(priced), "basis"),
        ),
        charts=_pictures(result),
        inputs=inputs,
    )


def _no_plan(conflict: Sequence[str]) -> str:
    if not conflict:
        return "No plan was found, and no set of constraints explains it: whole units or one-system rules may."
    return f"No plan: {names_listed(list(conflict))} cannot hold together. Without any one of them there is a plan."


def _sentence(result: Result) -> str:
    """The decision in one sentence."""
    standing: dict[str, dict[str, float]] = {}
    for u in result["use"]:
        here = standing.setdefault(u["system"], {})
        here[u["period"]] = here.get(u["period"], 0.0) + u["chips"]
    parts = [
        p for kind, word in (("buy", "Buy"), ("rent", "Rent")) if (p := _ordered(result[kind], kind, word, standing))
    ]
    parts += _let(result.get("resell", ()))
    what = "; ".join(parts) or "Order nothing: what is there does the work"
    stacks, gap, status = list(result["stacks"]), result["gap"] or 0.0, result["status"]
    above = "" if gap <= 1e-9 else f"; at most {percent(gap)} above the best possible"
    found = "" if status == "optimal" else f" ({status}: the best found)"
    return (
        f"{what}. {_cost(result)} over {len(result['periods'])} periods, {names_listed(stacks) or 'no'}"
        f" stack{'s' if len(stacks) != 1 else ''}{above}{found}."
    )


def _let(resell: Sequence[Result]) -> list[str]:
    """ "Let up to 1,000 trn2 to others at a time"; nothing for none."""
    most: dict[str, float] = {}
    for r in resell:
        most[r["system"]] = max(most.get(r["system"], 0.0), r["units"])
    said = [f"up to {count_text(n)} {s}" for s, n in most.items()]
    return [f"Let {names_listed(said)} to others at a time"] if said else []


def _cost(result: Result) -> str:
    """ "$79.4B (90% range $61.0B to $104B)", the range over the draws that have a plan, if any were made."""
    said = dollars(result["objective"])
    robust = result.get("robust")
    if not robust or robust.get("objective", [None])[0] is None:
        return said
    low, _, high = robust["objective"]
    if robust["infeasible"]:
        return f"{said} ({dollars(low)} to {dollars(high)} in the draws that have a plan: {_with_plan(robust)})"
    return f"{said} (90% range {dollars(low)} to {dollars(high)})"


def _with_plan(robust: Result) -> str:
    return f"{robust['draws'] - robust['infeasible']} of {robust['draws']}"


def _ordered(orders: Sequence[Result], kind: str, word: str, standing: Mapping[str, Mapping[str, float]]) -> str:
    """ "Rent up to 10 h100 and 4 h200 at a time"; "" for no orders."""
    total: dict[str, tuple[float, float]] = {}
    for o in orders:
        units, chips = total.get(o["system"], (0.0, 0.0))
        total[o["system"]] = (units + o["units"], chips + o["chips"])
    most = {s: max(standing.get(s, {}).values(), default=c) if kind == "rent" else c for s, (_, c) in total.items()}
    said = [f"{counted_units(n, c, most[s])} {s}" for s, (n, c) in total.items()]
    if not said:
        return ""
    return f"{word} {names_listed(said)}{' at a time' if any(o.startswith('up to') for o in said) else ''}"


def _prices(priced: Sequence[tuple[str, Result]]) -> list[str]:
    said = dict.fromkeys(f"{o['system']} to {kind} {o['price']}" for kind, o in priced)
    return [f"Prices: {'; '.join(said)}."] if said else []


# tables
# ----------------------------------------------------------------------------------------------------------------------


def _grid(title: str, rows: Mapping[str, Mapping[str, str]], periods: Sequence[str], note: str) -> Table:
    """A table with a column for each period; the later ones follow below where they have no room."""
    later = [Column(name=label, keep=90 - i) for i, label in enumerate(periods)]
    return Table(
        title=title,
        columns=[Column(name="what", short=" ", right=False), *later],
        rows=[[name, *(cells.get(label, NOTHING) for label in periods)] for name, cells in rows.items()],
        note=note,
        gap=False,
        split=True,
        elsewhere="--json",
    )


def _orders(result: Result) -> list[Part]:
    rows: dict[str, dict[str, str]] = {}
    orders = [(kind, o) for kind in ("buy", "rent") for o in result[kind]]
    for kind, o in orders:
        rows.setdefault(f"{kind} {o['system']}", {})[o["period"]] = count_text(o["units"])
    for r in result.get("resell", ()):
        rows.setdefault(f"let {r['system']}", {})[r["period"]] = count_text(r["units"])
    for u in result["use"]:
        there, idle = u["chips"], u["chips"] - u["busy"]
        busy = f" ({percent(idle / there)} idle)" if idle > 0.005 * there else ""
        rows.setdefault(f"chips {u['system']}", {})[u["period"]] = count_text(there) + busy
    total = sum(u["MWh"] or 0.0 for u in result["use"])
    unknown = sorted({u["system"] for u in result["use"] if u["MWh"] is None})
    without = f", without {names_listed(unknown)} (power unknown)" if unknown else ""
    caption = "Orders in units, and chips of the fleet"
    return [
        *captioned(caption, _grid("Orders by period", rows, result["periods"], f"{caption}.")),
        Words(text=f"Energy at the meter: {show(total * 3.6e9, 'J')}{without}.", kind="note"),
        Table(
            title="Orders",
            columns=word_columns(["what", "system", "site", "period", "units", "chips", "cost, $", "price"]),
            rows=[
                [
                    kind,
                    *(o[k] for k in ("system", "site", "period")),
                    *(f"{o[k]:,.6g}" for k in ("units", "chips")),
                    f"{o['usd']:,.0f}",
                    o["price"],
                ]
                for kind, o in orders
            ],
            wide=True,
        ),
    ]


def _assignment(result: Result) -> list[Part]:
    rows: dict[str, dict[str, str]] = {}
    for a in result["assign"]:
        rows.setdefault(f"{a['task']} on {a['system']}", {})[a["period"]] = percent(a["share"])
    caption = "Who does what (share of the demand of the period, or of all the work)"
    return captioned(caption, _grid("Who does what", rows, result["periods"], "Share of the demand or of the work."))


def _alone(result: Result) -> list[Part]:
    def line(v: Result) -> list[Cell]:
        usd, over = v["objective"], v["over"]
        return [
            v["stack"],
            TextCell(UNKNOWN if usd is None else f"{usd:,.0f}", short=UNKNOWN if usd is None else dollars(usd)),
            UNKNOWN if over is None else f"{over + 0.0:+.1%}".replace("-0.0%", "+0.0%"),
            v["reason"] or NOTHING,
        ]

    known = [v for v in result["single_vendor"] if v["objective"] is not None]
    if known and len(result["stacks"]) > 1:
        best = min(known, key=lambda v: float(v["objective"]))
        said = mixing(
            result["objective"], result["gap"] or 0.0, len(result["stacks"]), best["stack"], best["objective"]
        )
    elif known:
        said = "The plan keeps one stack: mixing saves nothing here."
    else:
        said = "No stack can do all of it alone: the mix is needed, not only cheaper."
    table = Table(
        title="One stack alone",
        columns=[
            Column(name="stack", right=False),
            Column(name="cost", unit="$", short="cost"),
            Column(name="over the plan"),
            Column(name="why not", right=False),
        ],
        rows=[line(v) for v in result["single_vendor"]],
        gap=False,
        elsewhere="--json",
    )
    return [*captioned("One stack alone", table), Words(text=said, kind="note")]


def mixing(usd: float, gap: float, stacks: int, stack: str, alone_usd: float) -> str:
    """What several stacks save over the cheapest one alone; nothing where it is within what the plan may be above the
    best possible."""
    saved = alone_usd - usd
    if saved <= max(gap, GOAL_TIE) * usd:
        return f"Mixing saves nothing that can be told: {stack} alone is within {percent(max(gap, GOAL_TIE))} of it."
    return (
        f"Mixing saves {dollars(saved)} ({percent(alone_usd / usd - 1)}) over {stack} alone, and keeps {stacks} stacks."
    )


def _binds(binding: Sequence[Result]) -> list[Part]:
    if not binding:
        return [Words(text="Nothing binds but the prices.", kind="note", gap=True)]
    units = [str(b["unit"]).removeprefix("USD/") for b in binding]
    caption = "What binds, and what one more unit of it would save (work and demand: one per cent less)"
    table = Table(
        title="What binds",
        columns=[Column(name="constraint", right=False), Column(name="saves"), Column(name="for", right=False)],
        rows=[
            [b["constraint"], dollars(b["shadow_price"]), "1% less" if unit.startswith("%") else f"1 {unit}"]
            for b, unit in zip(binding, units, strict=True)
        ],
        note="What one more unit of it would save. For work and demand it is one per cent less.",
        gap=False,
        most=TOP_BINDING,
    )
    return captioned(caption, table)


def _robust(r: Result, *, whole: bool) -> list[Part]:
    done = f"{r['draws']} draws of prices and speeds within their 90% ranges"
    done += "" if whole else f" (of {r['asked']}: interrupted)"
    text = (
        f"Keeping this plan's stack for every workload costs {percent(r['kept_regret'][0])} over the best of the draw"
        f" at the median, {percent(r['kept_regret'][1])} in one of ten."
    )
    for stack, regret in r["single_vendor_regret"].items():
        text += f" {stack} alone: " + (
            "no plan in most draws." if regret is None else f"{percent(regret[0])} and {percent(regret[1])}."
        )
    if r["infeasible"]:
        text += f" In {r['infeasible']} draws there was no plan at all."
    table = Table(
        title="How sure",
        columns=[Column(name="system", right=False), Column(name="share of chip-hours"), Column(name="leads in")],
        rows=[
            [s, f"{percent(mid)} ({percent(low)}-{percent(high)})", percent(r["wins"][s])]
            for s, (low, mid, high) in r["share"].items()
        ],
        note=f"{done}.",
        gap=False,
    )
    return [Words(text=f"How sure: {done}.", kind="caption", gap=True), table, Words(text=text, kind="note")]


def _flips(found: Sequence[Result]) -> list[Part]:
    flips = [Flip(**{k: f[k] for k in Flip.__slots__}) for f in found]
    tied = tied_leaders(flips)
    table = Table(
        title="Flip points, nearest first",
        columns=[
            Column(name="task", right=False),
            Column(name="leader", right=False),
            Column(name="when", right=False),
            Column(name="of today"),
        ],
        rows=[
            [
                f.task,
                f"{f.before or 'nobody'} -> {f.after or 'nobody'}",
                f"{f.system}'s {f.what} {'below' if f.at < 1 else 'above'} {_flip_value(f)}",
                f"{f.at:.2f}x",
            ]
            for f in [f for f in flips if f.task not in tied][:MOST_FLIPS]
        ],
        note="Everything else as it is.",
        gap=False,
        most=TOP_FLIPS,
    )
    said = "; ".join(
        f"{task} ({names_listed(sorted({f.before for f in flips if f.task == task} | {other}))})"
        for task, other in tied.items()
    )
    return [
        *captioned("Flip points, nearest first (everything else as it is)", table),
        *paragraphs([f"Tied today, so anything moves them: {said}."] if tied else [], "note"),
    ]


def _flip_value(f: Flip) -> str:
    if f.unit == "USD/chip/h":
        return f"${number_text(f.value)}/chip/h"
    return f"{dollars(f.value)}/unit" if f.unit == "USD/unit" else f"{number_text(f.value)} {f.unit}"


def _speeds(rates: Sequence[Result]) -> list[Part]:
    def line(r: Result) -> list[Cell]:
        e = estimate_of(r["tokens_per_s_per_chip"])
        grade = e.grade if e.value is not None else NOTHING
        plan = plan_words(r["plan"]) if "dp" in r["plan"] else NOTHING
        return [r["task"], r["system"], Figure(e), grade, plan, e.reason or NOTHING]

    table = Table(
        title="Speeds that the plan rests on",
        columns=[
            Column(name="task", right=False),
            Column(name="system", right=False),
            Column(name="tokens/s/chip", format="interval"),
            Column(name="grade"),
            Column(name="plan", right=False, wide=True),
            Column(name="why not", right=False),
        ],
        rows=[line(r) for r in rates],
        note="90% ranges, failures included.",
        gap=False,
        elsewhere="--json",
    )
    return captioned("Speeds that the plan rests on (90% ranges, failures included)", table)


# a system on the table
# ----------------------------------------------------------------------------------------------------------------------


def far_from_mattering(at: float | None) -> str:
    """How far a property is from mattering, in words, from the multiple of today's at which it does.

    >>> far_from_mattering(0.6), far_from_mattering(1.5), far_from_mattering(3.0), far_from_mattering(None)
    ('40% lower', '50% higher', '3.00 times', 'not from a quarter to four times')
    """
    if at is None:
        return "not from a quarter to four times"
    if at >= 2:
        return f"{number_text(at)} times"
    return f"{percent(1 - at)} lower" if at < 1 else f"{percent(at - 1)} higher"


def _what_if_sentences(found: Result) -> list[str]:
    """What a system on the table does, and what it does to the cost."""
    share = found["share_after"].get(found["system"], 0.0)
    before = found["objective_before"]
    then = (
        "; without it there is no plan."
        if before is None
        else f", and the plan {dearer(found['objective_after'], before)}."
    )
    near = next((k for k in found["knobs"] if k["matters_at"] is not None), None)
    first = (
        "None of its properties changes that, from a quarter to four times today's."
        if near is None
        else f"The nearest change that would matter is its {near['name']}:"
        f" {far_from_mattering(near['matters_at'])} makes that {percent(near['share_there'])}."
    )
    return [f"With {found['system']} on the table it does {percent(share)} of all chip-hours{then}", first]


def _what_if(found: Result) -> list[Part]:
    """The report of --what-if."""
    before, after = found["share_before"], found["share_after"]
    shares = Table(
        title="Share of chip-hours",
        columns=[Column(name="system", right=False), Column(name="without"), Column(name="with")],
        rows=[
            [s, percent(before[s]) if s in before else NOTHING, percent(after.get(s, 0.0))]
            for s in dict.fromkeys([*before, *after])
        ],
        gap=False,
    )
    knobs = Table(
        title="Which property matters",
        columns=[
            Column(name="property", right=False),
            Column(name="at 90%"),
            Column(name="at 110%"),
            Column(name="would matter at"),
            Column(name="share there"),
        ],
        rows=[
            [
                k["name"],
                percent(k["share_at_90"]),
                percent(k["share_at_110"]),
                far_from_mattering(k["matters_at"]),
                NOTHING if k["share_there"] is None else percent(k["share_there"]),
            ]
            for k in found["knobs"]
        ],
        note="Share of chip-hours. It matters where it moves the share by one point. Beyond 10%, speeds go on as the"
        " 10% moved them.",
        gap=False,
    )
    prices = Table(
        title="Price at which it takes most of a task",
        columns=[Column(name="task", right=False), Column(name="price")],
        rows=[
            [task, "already, at the scenario's" if price is None else f"${sig(price)}/chip/h"]
            for task, price in found["win_price"].items()
        ],
        note="From a quarter to four times the scenario's.",
        gap=False,
    )
    cost = estimate_of(found["unit_cost"])
    return [
        *captioned("Share of chip-hours", shares),
        *captioned("Which property matters (share of chip-hours at 90% and 110% of it)", knobs),
        *(
            captioned("Price at which it takes most of a task (from a quarter to four times the scenario's)", prices)
            if found["win_price"]
            else []
        ),
        Words(
            text=f"Making one package costs about {interval(cost)} USD (grade {cost.grade}): logic, HBM, packaging,"
            " losses and test; boards, racks, network, design and margin are not in it.",
            kind="note",
            gap=True,
        ),
    ]


# pictures
# ----------------------------------------------------------------------------------------------------------------------


def _pictures(result: Result) -> list[Chart]:
    periods = result["periods"]
    systems = list(dict.fromkeys(u["system"] for u in result["use"]))

    def line(key: str) -> dict[str, list[float]]:
        return {
            s: [
                sum(float(u[key] or 0.0) for u in result["use"] if u["system"] == s and u["period"] == p)
                for p in periods
            ]
            for s in systems
        }

    shares: dict[str, list[float]] = {}
    for a in result["assign"]:
        whole = shares.setdefault(f"{a['task']} on {a['system']}", [0.0] * len(periods))
        whole[periods.index(a["period"])] += a["share"]
    looks = {s: look_called(s) for s in systems}  # a scenario names its systems itself
    out = [
        charts_time.over_time(
            "Chips of the fleet",
            "Bought, rented, committed and already there, in each period.",
            periods,
            line("chips"),
            unit="chips",
            looks=looks,
        ),
        charts_time.over_time(
            "Energy at the meter",
            "In each period. Systems whose power is unknown are left out.",
            periods,
            {s: v for s, v in line("MWh").items() if any(v)},
            unit="MWh",
            looks=looks,
        ),
        charts.heat(
            "Who does what",
            "Share of the demand of the period, or of all the work of a run.",
            periods,
            shares,
            unit="% of the task",
        ),
    ]
    top = result["binding"][:10]
    if top:
        out.append(
            charts.stacked_bars(
                "What binds",
                "What is saved by one more unit of a limit, or by one per cent less work or demand.",
                [str(b["constraint"]) for b in top],
                {"saves": [b["shadow_price"] / 1e3 for b in top]},
                unit="thousand $",
            )
        )
    robust = result.get("robust")
    if robust:
        known = {k: v for k, v in robust["share"].items() if v[2] is not None and v[2] > 1e-6}
        out.append(
            charts.ranges(
                f"Share of chip-hours over {robust['draws']} draws of prices and speeds",
                "5%, median and 95% of the optimum of each draw.",
                [(s, 100 * lo, 100 * mid, 100 * hi) for s, (lo, mid, hi) in known.items()],
                unit="% of chip-hours",
                looks={s: look_called(s) for s in known},
            )
        )
    return out
