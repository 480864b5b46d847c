"""The page of a fleet: what to do first, then when, why, and how sure.

Money is net present cost over the horizon unless a line says otherwise; a stack alone is compared with the mixed plan
by the first goal; shadow prices are of the relaxation. Nothing is computed here but sums over periods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from mowich.fleets.flips import Flip, tied_leaders
from mowich.fleets.solve import GOAL_TIE
from mowich.show import charts, charts_time
from mowich.show.charts import Chart
from mowich.show.colours import look_called
from mowich.show.fleet_amounts import amount, dollars, is_work, mixing
from mowich.show.fleet_design import design_parts, design_sentences, share_said
from mowich.show.fleet_idle import all_at_work, captioned, count_text, idle_parts, idle_sentences
from mowich.show.fleet_tenant import fall_parts, fall_pictures, fall_sentences, supply_parts
from mowich.show.formats import UNKNOWN, first_sentence, headed, number_text, percent
from mowich.show.page import (
    NOTHING,
    Cell,
    Column,
    Figure,
    LateCharts,
    Page,
    Part,
    Run,
    Table,
    TextCell,
    Words,
    estimate_of,
    paragraphs,
    word_columns,
)
from mowich.shown import Result
from mowich.studies.ranking import names_listed
from mowich.studies.stated_plan import plan_words
from mowich.sums import float_sum
from mowich.units import show, sig

TOP_BINDING = 8
TOP_FLIPS = 10
"""Rows of a terminal's tables."""

_OPEN_ENDED = 100.0
"""Work that is done more often than this has no amount that was asked for."""

MOST_FLIPS = 30
"""Rows of a page's table of flip points."""


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
            sentences=_no_plan(result["conflict"]),
            assumptions=[("facts", result["facts_hash"])],
            inputs=inputs,
        )
    what_if, fall = result.get("what_if"), result.get("tenant")
    priced = [(k, o) for k in ("buy", "rent") for o in result[k]]
    return Page(
        title=title,
        sentences=(
            _first(result),
            *(design_sentences(what_if) if what_if else ()),
            *(fall_sentences(fall) if fall else ()),
            _sentence(result),
            *idle_sentences(result),
            *all_at_work(result),
        ),
        assumptions=[
            *([("first goal", f"most {result['goal']}")] if is_work(result) else []),
            ("cost", "net present, USD"),
            ("gap to the best possible", percent(result["gap"])),
            ("stacks", ", ".join(result["stacks"])),
            ("facts", result["facts_hash"]),
        ],
        parts=(
            *(design_parts(what_if) if what_if else ()),
            *(fall_parts(fall) if fall else ()),
            *idle_parts(result.get("idle", ())),
            *_orders(result),
            *_assignment(result),
            *_alone(result),
            *_unit_worth(result),
            *_binds(result),
            *supply_parts(result),
            *(_robust(result) if result.get("robust") else ()),
            *(_flips(result["flips"]) if result.get("flips") else ()),
            *_speeds(result["rates"]),
            *paragraphs([f"warning: {w}" for w in result.get("warnings", ())], "warning"),
            *paragraphs(_prices(priced), "basis"),
        ),
        charts=LateCharts(lambda: _pictures(result)),
        inputs=inputs,
    )


def _no_plan(conflict: Sequence[str]) -> tuple[str, ...]:
    if not conflict:
        return "No plan was found.", "No set of constraints explains it: whole units or one-system rules may."
    together = f"No plan: {names_listed(list(conflict))} cannot hold together."
    apart = "Without any one of them there is a plan."
    return *headed(together, f"No plan: {len(conflict)} constraints cannot hold together."), apart


def _first(result: Result) -> str:
    """The decision in a short sentence: of a system on the table or a tenant that falls, else what to order."""
    what_if, fall = result.get("what_if"), result.get("tenant")
    if what_if:
        share = percent(what_if["share_after"].get(what_if["system"], 0.0))
        return first_sentence(f"{what_if['system']} does {share} of all {share_said(what_if)}.", f"It does {share}.")
    if fall:
        left = f"{dollars(fall['usd'])} is needed no more" if fall["stranded"] else "nothing is stranded"
        return first_sentence(f"If {fall['name']} falls, {left}.", f"If this tenant falls, {left}.")
    words = []
    for kind, word in (("buy", "Buy"), ("rent", "Rent")):
        names = list(dict.fromkeys(str(order["system"]) for order in result[kind]))
        words += [f"{word} {names_listed(names)}"] if names else []
    ordered = "; ".join(words) or "Order nothing"
    if is_work(result):
        does = f"{'brings' if result['goal'] == 'revenue' else 'does'} {amount(result['goal'], result['objective'])}"
        return first_sentence(f"{ordered}; this {does}." if words else f"What is there {does}.", f"The plan {does}.")
    costs = f"the work costs {dollars(result['objective'])}"
    fewer = "Order nothing" if not words else "Order what the table says"
    return first_sentence(f"{ordered}; {costs}.", f"{ordered}.", f"{fewer}; {costs}.")


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
    stacks, gap, status = list(result["stacks"]), result["gap"] or 0.0, result["status"]
    most = is_work(result)
    away = "" if gap <= 2 * GOAL_TIE else f"; at most {percent(gap)} {'below' if most else 'above'} the best possible"
    found = "" if status == "optimal" else f" ({status}: the best found)"
    periods = f"over {len(result['periods'])} periods"
    kept = f"{names_listed(stacks) or 'no'} stack{'s' if len(stacks) != 1 else ''}"
    if most:
        what = "; ".join(parts) + ": with what is there, that" if parts else "What is there"
        does = f"{'brings' if result['goal'] == 'revenue' else 'does'} {_value(result)} {periods}"
        return f"{what} {does}{_beyond(result)}{away}{found}. It costs {dollars(result['usd'])}, {kept}."
    what = "; ".join(parts) or "Order nothing: what is there does the work"
    return f"{what}. {_value(result)} {periods}, {kept}{away}{found}."


def _beyond(result: Result) -> str:
    """: 1.39 times what is asked of rl": the work that is done beyond what is asked; "" for none."""
    more = [
        f"{amount('tokens', d['tokens'])} of {d['workload']}"
        if d["times"] > _OPEN_ENDED
        else f"{sig(d['times'])} times what is asked of {d['workload']}"
        for d in result["done"]
        if d["times"] > 1.005
    ]
    return f": {names_listed(more)}" if more else ""


def _let(resell: Sequence[Result]) -> list[str]:
    """ "Let up to 1,000 trn2 to others at a time"; nothing for none."""
    most: dict[str, float] = {}
    for r in resell:
        most[r["system"]] = max(most.get(r["system"], 0.0), r["units"])
    said = [f"up to {count_text(n)} {s}" for s, n in most.items()]
    return [f"Let {names_listed(said)} to others at a time"] if said else []


def _value(result: Result) -> str:
    """ "$79.4B (90% range $61.0B to $104B)", the range over the draws that have a plan, if any were made."""
    words = partial(amount, result.get("goal", "cost"))
    said = words(result["objective"])
    robust = result.get("robust")
    if not robust or robust.get("objective", [None])[0] is None:
        return said
    ends = " to ".join(words(robust["objective"][end]).removesuffix(" tokens") for end in (0, 2))
    if robust["infeasible"]:
        return f"{said} ({ends} in the draws that have a plan: {_with_plan(robust)})"
    return f"{said} (90% range {ends})"


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
    total = float_sum(u["MWh"] or 0.0 for u in result["use"])
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
        share = a["share"]
        said = percent(share) if share < _OPEN_ENDED else f"{share:,.0f}x"
        rows.setdefault(f"{a['task']} on {a['system']}", {})[a["period"]] = said
    caption = "Who does what (share of the demand of the period, or of all the work)"
    return captioned(caption, _grid("Who does what", rows, result["periods"], "Share of the demand or of the work."))


def _alone(result: Result) -> list[Part]:
    goal, most = result.get("goal", "cost"), is_work(result)

    def line(v: Result) -> list[Cell]:
        value, over = v["objective"], v["over"]
        off = None if over is None else (-over if most else over) + 0.0
        return [
            v["stack"],
            TextCell(
                UNKNOWN if value is None else f"{value:,.0f}", short=UNKNOWN if value is None else amount(goal, value)
            ),
            UNKNOWN if off is None else f"{off:+.1%}".replace("-0.0%", "+0.0%"),
            v["reason"] or NOTHING,
        ]

    known = [v for v in result["single_vendor"] if v["objective"] is not None]
    if known and len(result["stacks"]) > 1:
        best = min(known, key=lambda v: float(v["over"]))
        said = mixing(
            result["objective"], result["gap"] or 0.0, len(result["stacks"]), best["stack"], best["objective"], goal
        )
    elif known:
        said = "The plan keeps one stack: mixing saves nothing here."
    else:
        said = f"No stack can do all of it alone: the mix is needed{'' if most else ', not only cheaper'}."
    table = Table(
        title="One stack alone",
        columns=[
            Column(name="stack", right=False),
            Column(name="tokens") if goal == "tokens" else Column(name=goal, unit="$", short=goal),
            Column(name="over the plan"),
            Column(name="why not", right=False),
        ],
        rows=[line(v) for v in result["single_vendor"]],
        gap=False,
        elsewhere="--json",
    )
    return [*captioned("One stack alone", table), Words(text=said, kind="note")]


def _unit_worth(result: Result) -> list[Part]:
    """Where work is made most: what one more unit of each system adds, over all periods."""
    gains: dict[str, float] = {}
    for b in result["binding"]:
        if b.get("kind") == "capacity":
            gains[b["subject"]] = gains.get(b["subject"], 0.0) + b["shadow_price"]
    chips = {u["system"]: u["unit_chips"] for u in result["use"]}
    if not gains:
        return []
    caption = "What one more unit would add, there in all periods"
    table = Table(
        title=caption,
        columns=word_columns(["units", "adds", "chips of a unit", "a chip adds"], left=["units"]),
        rows=[
            [subject, amount(result["goal"], gain), str(n), amount(result["goal"], gain / n)]
            for subject, gain in sorted(gains.items(), key=lambda pair: -pair[1])
            if (n := chips[subject.partition(" at ")[0]])
        ],
        note="From the problem with fractions of units allowed.",
        gap=False,
    )
    return captioned(caption, table)


def _limits(result: Result) -> list[Result]:
    """What binds but the units that stand."""
    return [b for b in result["binding"] if b.get("kind") != "capacity"]


def _binds(result: Result) -> list[Part]:
    binding = _limits(result)
    goal, most = result.get("goal", "cost"), is_work(result)
    if not binding:
        return [Words(text="Nothing binds but the prices.", kind="note", gap=True)]
    units = [str(b["unit"]).partition("/")[2] for b in binding]
    gain = "add" if most else "save"
    less = "one per cent less" + (", or more where it says so" if most else "")
    table = Table(
        title="What binds",
        columns=[
            Column(name="constraint", right=False),
            Column(name="adds" if most else "saves"),
            Column(name="for", right=False),
        ],
        rows=[
            [
                b["constraint"],
                amount(goal, b["shadow_price"]),
                f"1% {'more' if unit.startswith('% more') else 'less'}" if unit.startswith("%") else f"1 {unit}",
            ]
            for b, unit in zip(binding, units, strict=True)
        ],
        note=f"What one more unit of it would {gain}. For work and demand it is {less}.",
        gap=False,
        most=TOP_BINDING,
    )
    return captioned(f"What binds, and what one more unit of it would {gain} (work and demand: {less})", table)


def _robust(result: Result) -> list[Part]:
    r, of = result["robust"], result["robust"].get("share_of", "chip-hours")
    done = f"{r['draws']} draws of prices and speeds within their 90% ranges"
    done += "" if result["complete"] else f" (of {r['asked']}: interrupted)"
    worse = ("does", "less than") if is_work(result) else ("costs", "over")
    text = (
        f"Keeping this plan's stack for every workload {worse[0]} {percent(r['kept_regret'][0])} {worse[1]} the best of"
        f" the draw at the median, {percent(r['kept_regret'][1])} in one of ten."
    )
    for stack, regret in r["single_vendor_regret"].items():
        text += f" {stack} alone: " + (
            "no plan in most draws." if regret is None else f"{percent(regret[0])} and {percent(regret[1])}."
        )
    if r["infeasible"]:
        text += f" In {r['infeasible']} draws there was no plan at all."
    table = Table(
        title="How sure",
        columns=[
            Column(name="system", right=False),
            Column(name="share of tokens" if of == "tokens" else "share of chip-hours"),
            Column(name="leads in"),
        ],
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
        columns=word_columns(["task", "leader", "when", "of today"], left=["task", "leader", "when"]),
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


# pictures
# ----------------------------------------------------------------------------------------------------------------------


def _pictures(result: Result) -> list[Chart]:
    periods = result["periods"]
    systems = list(dict.fromkeys(u["system"] for u in result["use"]))

    def line(key: str) -> dict[str, list[float]]:
        return {
            s: [
                float_sum(float(u[key] or 0.0) for u in result["use"] if u["system"] == s and u["period"] == p)
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
    out += fall_pictures(result)
    top = _limits(result)[:10]
    if top:
        scale, unit = (1e12, "T tokens") if result.get("goal") == "tokens" else (1e3, "thousand $")
        gain, does = ("adds", "added") if is_work(result) else ("saves", "saved")
        out.append(
            charts.stacked_bars(
                "What binds",
                f"What is {does} by one more unit of a limit, or by one per cent less work or demand.",
                [str(b["constraint"]) for b in top],
                {gain: [b["shadow_price"] / scale for b in top]},
                unit=unit,
            )
        )
    robust = result.get("robust")
    if robust:
        known = {k: v for k, v in robust["share"].items() if v[2] is not None and v[2] > 1e-6}
        out.append(
            charts.ranges(
                f"Share of {robust.get('share_of', 'chip-hours')} over {robust['draws']} draws of prices and speeds",
                "5%, median and 95% of the optimum of each draw.",
                [(s, 100 * lo, 100 * mid, 100 * hi) for s, (lo, mid, hi) in known.items()],
                unit=f"% of {robust.get('share_of', 'chip-hours')}",
                looks={s: look_called(s) for s in known},
            )
        )
    return out
