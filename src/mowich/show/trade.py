"""Text of `mowich plan --neighbours` and `--pareto`."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.show.headline import sweep_headline, terms_cell
from mowich.show.table import Column, Style, number, percent, table, wrap
from mowich.studies.compare import Row
from mowich.studies.sweep import Sweep, axes
from mowich.studies.trade import Why
from mowich.units import show_count, show_gib


def why_text(why: Why, style: Style) -> str:
    """Neighbours of the best plan as a table, what ties with it, and the sentence."""
    columns = [
        Column(name="with", right=False),
        Column(name="time"),
        Column(name="GiB/dev"),
        Column(name="because", right=False, keep=7),
        Column(name="best such plan", right=False, keep=6),
    ]
    body = []
    for n in why.neighbours:
        time = f"{n.slower:+.1%}" if n.slower is not None else f"no fit, +{show_gib(n.short_B)}"
        cause = n.cause or "-"
        body.append([f"{n.field} {n.value}", time, number(n.memory_B / 2**30), cause, str(n.plan)])
    lines = wrap(f"Why {why.plan}: {why.sentence}.", style, indent=0, hang=0)
    drawn, dropped = table(columns, body, style)
    lines += ["", *wrap("Neighbours (one choice a step away, the others made anew):", style, indent=0), *drawn]
    if dropped:
        lines += wrap(f"Not shown at this width: {', '.join(dropped)} (see --json).", style)
    if why.ties.count > 1:
        differ = "; ".join(f"{k} {', '.join(v)}" for k, v in why.ties.differ_in.items()) or "nothing that is shown"
        lines += wrap(
            f"{why.ties.count} plans lie within 0.1%, which is less than the model can tell apart; they differ in"
            f" {differ}.",
            style,
            indent=0,
        )
    else:
        lines += wrap("No other plan lies within 0.1%.", style, indent=0)
    return "\n".join(lines) + "\n"


def pareto_text(rows: Sequence[Row], style: Style) -> str:
    """The front as a table, fastest first."""
    columns = [
        Column(name="chips"),
        Column(name="days"),
        Column(name="GiB/dev"),
        Column(name="$/Mtok"),
        Column(name="J/token"),
        Column(name="plan", right=False),
    ]
    body = [
        [
            str(r.chips_used + r.chips_idle),
            number(r.days.value),
            number(sum(r.memory_B.values()) / 2**30),
            number(r.usd_per_mtok.value),
            number(r.J_per_token.value),
            str(r.plan),
        ]
        for r in rows
    ]
    drawn, _ = table(columns, body, style)
    unknown = [
        name
        for name, key in (("cost", "usd_per_mtok"), ("energy", "J_per_token"))
        if any(getattr(r, key).value is None for r in rows)
    ]
    lines = wrap("Pareto front: no other plan is better in time, memory, cost and energy at once.", style, indent=0)
    if unknown:
        lines += wrap(f"{' and '.join(unknown)} not known, and left out.", style, indent=0)
    return "\n".join([*lines, *drawn]) + "\n"


def sweep_text(result: Sweep, style: Style) -> str:
    """A sweep as a table: the axes that vary, then each point's answer."""
    shown = axes(result.rows)
    settings = list(result.rows[0][0].settings()) if result.rows else []
    named = [k if k.startswith("plan.") else ".".join(k.split(".")[-2:]) for k in settings]
    columns = [
        *(Column(name=a, right=a != "model") for a in (*shown, *named)),
        Column(name="system", right=False),
        Column(name="chips"),
        Column(name="step s"),
        Column(name="MFU"),
        Column(name="days"),
        Column(name="$/Mtok", keep=6),
        Column(name="price", right=False, keep=6),
        Column(name="binds", right=False, keep=4),
        Column(name="plan", right=False, keep=5),
    ]
    body = []
    for point, row in result.rows:
        values = {
            "model": point.model,
            "seq": str(point.job.seq),
            "batch": number(point.job.batch_seqs),
            "tokens": show_count(point.job.tokens),
        }
        own = [number(v) if isinstance(v, float) else str(v) for v in point.settings().values()]
        answer = [
            number(row.step_s.value),
            percent(row.mfu.value),
            number(row.days.value),
            number(row.usd_per_mtok.value),
            terms_cell(row.price_label, short=True),
            row.binds,
        ]
        body.append(
            [
                *(values[a] for a in shown),
                *own,
                row.system,
                str(point.chips or row.chips_requested),
                *answer,
                str(row.plan or row.reason),
            ]
        )
    drawn, dropped = table(columns, body, style)
    lines = [
        *(style.bold(x) for x in wrap(str(sweep_headline(result.to_dict())), style, indent=0, hang=0)),
        "",
        *drawn,
    ]
    if dropped:
        lines += wrap(f"Not shown at this width: {', '.join(dropped)} (see --json or --csv).", style)
    return "\n".join(lines) + "\n"
