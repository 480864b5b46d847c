"""Text of serving: traffic, plans and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.estimate import Estimate
from mowich.models.model import Model
from mowich.show.headline import Headline, chips_cell, chips_differ, headline, layout, terms_cell
from mowich.show.table import UNKNOWN, Column, Style, gib, in_flight, interval, number, percent, table, wrap
from mowich.show.text import NOTHING, legend, marked, short_count
from mowich.studies.serving_fit import ServeFit
from mowich.studies.serving_plan import ServeResult, ServeRow
from mowich.studies.traffic import TrafficResult
from mowich.units import sig


def _ms(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{sig(value)} s" if value >= 1 else f"{sig(value * 1e3)} ms"


def basis(coverage: Mapping[str, float]) -> str:
    """ "fitted", or "70% fitted, 30% analytic"."""
    if len(coverage) == 1:
        return next(iter(coverage))
    return ", ".join(f"{share:.0%} {kind}" for kind, share in sorted(coverage.items(), key=lambda kv: -kv[1]))


def traffic_text(result: TrafficResult, style: Style) -> str:
    """The report of `mowich traffic`."""
    i = result.inputs
    good = "" if result.goodput_frac is None else f", {percent(result.goodput_frac)} within the SLO"
    lines = [
        style.bold(
            f"{result.completed} of {result.requests} requests served{good}: TTFT p50 {_ms(result.ttft_s['p50'])}, p99"
            f" {_ms(result.ttft_s['p99'])}; TPOT p50 {_ms(result.tpot_s['p50'])}, p99 {_ms(result.tpot_s['p99'])}."
        ),
        "",
        *wrap(
            f"{i['model']} on {result.chips} chips of {i['system']}, engine {i['engine']}, {i['replicas']} replicas"
            + (f" for prefill and {i['decode_replicas']} for decode" if i["decode_plan"] else ""),
            style,
        ),
        "",
    ]
    rows = []
    for name, figures in (
        ("time to first token", result.ttft_s),
        ("time per output token", result.tpot_s),
        ("whole request", result.e2e_s),
        ("wait in the queue", result.queue_s),
    ):
        rows.append([name, *(_ms(figures[k]) for k in ("mean", "p50", "p90", "p99"))])
    columns = [Column(name="seen by users", right=False), *(Column(name=n) for n in ("mean", "p50", "p90", "p99"))]
    lines += table(columns, rows, style)[0]
    facts = [
        (
            f"{sig(result.tokens_per_s_per_chip)} output tokens/s per chip over {sig(result.makespan_s)} s; replicas"
            f" busy {percent(result.utilisation)} of the time"
        ),
        (
            f"{percent(result.cached_frac)} of prompt tokens from the prefix cache; {result.preemptions} preemptions;"
            f" {result.failures} requests lost and sent again"
        ),
        (
            f"energy {number(result.J_per_token)} J per output token, price"
            f" {UNKNOWN if result.usd_per_mtok is None else '$' + sig(result.usd_per_mtok)} per million of them"
        ),
        f"step times rest on {basis(result.coverage)} constants",
        f"{result.events} events ({result.steps} engine steps) in {sig(result.seconds)} s of processor time",
    ]
    return "\n".join([*lines, "", *(line for f in facts for line in wrap(f, style))]) + "\n"


def _job(inputs: object, style: Style) -> list[str]:
    i = inputs if isinstance(inputs, dict) else {}
    limits = [f"{name} {_ms(i[key])}" for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s")) if i.get(key)]
    text = (
        f"{i['model']}, prompts of {i['isl']:g} tokens and answers of {i['osl']:g}; limits:"
        f" {', '.join(limits) or 'none'}"
    )
    return wrap(text + (f"; {percent(i['cached'])} of prompts cached" if i.get("cached") else ""), style)


def _rows(rows: Sequence[ServeRow], found: Headline, style: Style, *, named: bool) -> tuple[list[str], list[str]]:
    """Lines of the table, and the columns that had no room. named: one row a system, with price terms and grade; else
    plans of one system."""
    sized = named and chips_differ([r.to_dict() for r in rows])
    columns = [
        Column(name="system" if named else "#", right=False),
        Column(name="chips", keep=40),
        Column(name="plan", right=False, keep=0 if named else 50),
        Column(name="batch", keep=3),
        Column(name="TTFT", keep=9),
        Column(name="TPOT ms", keep=10),
        Column(name="tok/s/chip"),
        Column(name="tok/s/user", keep=4),
        Column(name="$/Mtok", keep=30),
        Column(name="price", right=False, keep=30),
        Column(name="J/token", keep=2),
        Column(name="grade", keep=20),
        Column(name="binds", right=False, keep=1),
    ]
    hidden = ({"chips"} if not sized else set()) | ({"price", "grade"} if not named else set())
    shown = [i for i, c in enumerate(columns) if c.name not in hidden]

    def figure(e: Estimate) -> str:
        return interval(e) if named else number(e.value)

    cells = []
    for n, r in enumerate(rows):
        line = [
            r.system if named else str(n + 1),
            chips_cell(r.chips_used, r.chips_requested),
            layout(r.to_dict()),
            in_flight(r.batch),
            _ms(r.ttft_s.value),
            number(r.tpot_s.value, 1e3),
            figure(r.tokens_per_s_per_chip) + marked(found, "tokens_per_s_per_chip", n, style),
            number(r.tokens_per_s_per_user.value),
            figure(r.usd_per_mtok) + marked(found, "usd_per_mtok", n, style),
            terms_cell(r.price_label, short=True),
            number(r.J_per_token.value),
            r.tpot_s.grade if r.tpot_s.value is not None else NOTHING,
            r.binds,
        ]
        cells.append([line[i] for i in shown])
    return table([columns[i] for i in shown], cells, style)


def _left_out(dropped: Sequence[str], style: Style) -> list[str]:
    return wrap(f"Not shown at this width: {', '.join(dropped)} (see --json or --csv).", style) if dropped else []


def _plans(rows: Sequence[ServeRow], style: Style) -> list[str]:
    """Per system: its workers, chips and batch."""
    wide = max(len(r.system) for r in rows)
    out = ["", "Plans"]
    for r in rows:
        if r.decode is not None:
            idle = f" of {r.chips_requested}" if r.chips_used != r.chips_requested else ""
            out += wrap(
                f"{r.system.ljust(wide)}  {layout(r.to_dict())}; {r.chips_used}{idle} chips; batch"
                f" {in_flight(r.batch)}; binds: {r.binds}",
                style,
                hang=wide + 2,
            )
    return out


def serve_text(result: ServeResult, style: Style) -> str:
    """The report of `plan --serve` and `compare --serve`."""
    good = [r for r in result.rows if r.feasible]
    named = result.kind == "compare"
    found = headline(result.to_dict())
    body, dropped = _rows(result.rows, found, style, named=named)
    lines = [
        *(style.bold(x) for x in wrap(str(found), style, indent=0, hang=0)),
        "",
        *_job(result.inputs, style),
        "",
        *body,
    ]
    if named:
        lines += wrap(legend(found, ("usd_per_mtok", "tokens_per_s_per_chip"), style), style)
        if "plan" in dropped:
            lines += _plans(result.rows, style)
            dropped = [d for d in dropped if d not in ("plan", "batch", "binds")]
    lines += _left_out(dropped, style)
    for r in result.rows:
        if r.reason and named:  # of a plan the first line says it
            lines += wrap(f"{r.system}: {r.reason}", style)
    if good and not named:
        b = good[0]
        lines += [
            "",
            *wrap(
                f"ranges (90%): TTFT {interval(b.ttft_s)} s, TPOT {interval(b.tpot_s, 1e3)} ms,"
                f" {interval(b.tokens_per_s_per_chip)} tokens/s per chip, grade {b.tpot_s.grade}; times rest on"
                f" {basis(b.tpot_s.coverage)} constants",
                style,
            ),
        ]
        if result.front:
            front, dropped = _rows(_thin(result.front, 8), Headline(sentences=()), style, named=False)
            lines += ["", "  fastest user to cheapest token:", *front, *_left_out(dropped, style)]
    lines += [
        "",
        *wrap(
            f"evaluated {result.evaluated} points and pairs of workers, {result.feasible} within the limits, in"
            f" {sig(result.seconds)} s. Steady state of a closed loop; mowich traffic adds queues and tails.",
            style,
        ),
    ]
    lines += wrap("prices: " + "; ".join(dict.fromkeys(f"{r.system} {r.price_label}" for r in result.rows)), style)
    return "\n".join(lines) + "\n"


def _thin(rows: Sequence[ServeRow], most: int) -> list[ServeRow]:
    """At most `most` rows, evenly spread, both ends kept."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def serve_fit_text(fit: ServeFit, model: Model, style: Style, *, given: str = "") -> str:
    """The report of `mowich fit --serve`. given: the model as the user named it, for the next command."""
    tokens = float(str(fit.inputs["kv_tokens"]))
    lines = [*(style.bold(x) for x in wrap(fit.sentence(), style, indent=0, hang=0)), ""]
    lines += wrap(
        f"{model.name} ({short_count(model.params)}): requests of {tokens:,.0f} tokens, engine {fit.engine}", style
    )
    if fit.held:
        held, free = fit.held, fit.capacity_B - sum(fit.held.memory_B.values())
        parts = " | ".join(f"{k} {gib(v)}" for k, v in held.memory_B.items())
        lines += wrap(
            f"{parts} | free {gib(free) if free >= 0 else 'none'}  of {gib(fit.capacity_B)} GiB usable per device",
            style,
        )
        lines += wrap(
            f"{held.workers} x ({held.plan}): {held.requests:,} requests at once, the most by memory alone", style
        )
    rows = []
    for weights, least in fit.smallest.items():
        found = (
            [str(least.chips), str(least.plan), f"{least.requests:,}"]
            if least
            else ["none", f"up to {fit.largest_tried} chips", ""]
        )
        rows.append([weights, *found])
    columns = [
        Column(name="weights", right=False),
        Column(name="fewest chips"),
        Column(name="worker", right=False),
        Column(name="requests"),
    ]
    lines += ["", *table(columns, rows, style)[0]]
    lines += wrap("What narrower weights do to answers is not modelled.", style) if len(rows) > 1 else []
    chips = fit.smallest_chips or fit.chips
    lines += [
        "",
        *wrap(
            f"Next: mowich plan {given or model.name} --serve --on {fit.system_id}:{chips} --isl"
            f" {tokens * 0.9:.0f} --osl {tokens * 0.1:.0f}",
            style,
            indent=0,
        ),
    ]
    return "\n".join(lines) + "\n"
