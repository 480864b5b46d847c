"""The text reports: answer first, then the table, then what stands behind it.

Each function takes a result of the studies and returns the whole text. Nothing is computed here but shares, marks and
words: a number that a report shows stands in the result. Unknown is "?", never 0 and never blank; a row that cannot run
stays, with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, cast

from mowich.estimate import Estimate
from mowich.evidence.scores import SHIPPED, left_out
from mowich.show.headline import (
    Headline,
    accuracy_headline,
    chips_cell,
    chips_differ,
    headline,
    label_of,
    tenths,
    terms_cell,
)
from mowich.show.table import UNKNOWN, Column, Style, gib, interval, number, percent, spread, table, wrap
from mowich.studies.ranking import rows_of
from mowich.units import show, show_count, show_gib, sig

if TYPE_CHECKING:
    from mowich.evidence.scores import Result, Summary, Validation
    from mowich.models.model import Model
    from mowich.models.view import ModelView
    from mowich.studies.compare import Comparison, PlanList, Row
    from mowich.studies.fit import Fit

NOTHING = "-"
"""In a row that cannot run: there is no number, known or unknown."""

SHORT_BINDS: Mapping[str, str] = {
    "hbm capacity": "HBM size",
    "hbm bandwidth": "HBM rate",
    "expert all-to-all": "EP links",
    "tensor-parallel links": "TP links",
    "data-parallel network": "DP network",
    "no legal plan": "no plan",
}

PART_WORDS: Mapping[str, str] = {
    "gemm": "matmul",
    "memory_bound": "HBM-bound",
    "pp_bubble": "bubble",
    "pp_transfer": "PP transfer",
    "ep": "EP",
    "tp": "TP",
    "dp": "DP",
    "cp": "CP",
    "moe": "MoE routing",
    "quantise": "quantise",
}

Picker = Callable[["Row"], Estimate]


def runs(row: Row) -> bool:
    """Whether the row has a plan and so a step time (it may still be unknown whether it fits)."""
    return row.step_s.value is not None


def lowest_of(rows: Sequence[Row], pick: Picker) -> Row | None:
    """The feasible row with the lowest known value: what a break-even is told against. It says nothing of who is best
    (`studies.ranking`)."""
    known = [r for r in rows if r.feasible and pick(r).value is not None]
    return min(known, key=lambda r: float(pick(r))) if known else None


def usd(row: Row) -> Estimate:
    return row.usd_per_mtok


def label(row: Row) -> str:
    """`label_of` a row."""
    return label_of(row.system, row.estimated)


def marked(found: Headline, metric: str, place: int, style: Style) -> str:
    """The mark behind a number: best, "~" for a range that overlaps with the best, a space where another row has one;
    "" where nobody is ranked."""
    if metric not in found.rankings or found.rankings[metric].best is None:
        return ""
    return " " + {"best": style.best, "close": "~", "": " "}[found.mark(metric, place)]


def legend(found: Headline, metrics: Sequence[str], style: Style) -> str:
    """What the marks of a table mean, and why a measure has none."""
    shown = any(m in found.rankings and found.rankings[m].best is not None for m in metrics)
    marks = [f"{style.best} best", "~ range overlaps with the best: not ranked"] if shown else []
    return "   ".join([*marks, "? unknown", "90% ranges"])


def memory_cell(row: Row) -> str:
    if not row.memory_B or not row.memory_capacity_B:
        return UNKNOWN
    return f"{gib(sum(row.memory_B.values()))}/{gib(row.memory_capacity_B)}"


def compare_rows(rows: Sequence[Row], found: Headline, sized: bool, style: Style) -> tuple[list[str], list[str]]:
    """The main table. sized: with the number of chips. A column less goes first from what the lines below say again,
    last from grade and terms of price."""
    columns = [
        Column(name="system", right=False),
        Column(name="chips", keep=9),
        Column(name="plan", right=False, keep=0),
        Column(name="step s"),
        Column(name="MFU", keep=4),
        Column(name="GiB/dev", keep=5),
        Column(name="$/Mtok"),
        Column(name="price", right=False, keep=9),
        Column(name="J/token", keep=1),
        Column(name="days"),
        Column(name="goodput", keep=2),
        Column(name="grade", keep=8),
        Column(name="binds", right=False, keep=3),
    ]
    body = []
    for place, row in enumerate(rows):
        chips, terms = chips_cell(row.chips_used, row.chips_requested), terms_cell(row.price_label, short=True)
        if not runs(row):
            why = "does not fit" if row.binds == "hbm capacity" else SHORT_BINDS.get(row.binds, row.binds or "no plan")
            body.append(
                [label(row), chips, NOTHING, why, NOTHING, memory_cell(row), NOTHING, terms, *[NOTHING] * 4, why]
            )
            continue
        fits = "?" if row.feasible is None else ""
        body.append(
            [
                label(row),
                chips,
                str(row.plan) if row.plan else NOTHING,
                spread(row.step_s, style),
                percent(row.mfu.value),
                memory_cell(row) + fits,
                interval(row.usd_per_mtok) + marked(found, "usd_per_mtok", place, style),
                terms,
                number(row.J_per_token.value),
                number(row.days.value) + marked(found, "days", place, style),
                percent(row.goodput.value),
                row.step_s.grade,
                SHORT_BINDS.get(row.binds, row.binds),
            ]
        )
    shown = [i for i, c in enumerate(columns) if c.name != "chips" or sized]
    return table([columns[i] for i in shown], [[line[i] for i in shown] for line in body], style)


def time_shares(row: Row, top: int = 4) -> str:
    """ "matmul 52%, EP 20%, bubble 9%": the largest parts of a step."""
    total = row.step_s.value or 0.0
    if not row.step_s.breakdown or not total:
        return ""
    parts = sorted(row.step_s.breakdown.items(), key=lambda kv: -kv[1])[:top]
    return ", ".join(f"{PART_WORDS.get(k, k)} {v / total:.0%}" for k, v in parts if v / total >= 0.005)


def plan_lines(rows: Sequence[Row], dropped: Sequence[str], style: Style) -> list[str]:
    """Per system: the whole plan, chips, batch, where the time goes, and what had no room in the table (`dropped`)."""
    out = []
    wide = max((len(r.system) for r in rows), default=0)
    for row in rows:
        if not runs(row):
            continue
        idle = f" ({row.chips_idle} idle, paid for)" if row.chips_idle else ""
        each = f" x {row.devices_per_chip} devices" if row.devices_per_chip > 1 else ""
        chips = (
            f"{row.chips_used} of {row.chips_requested} chips{idle}{each}" if idle else f"{row.chips_used} chips{each}"
        )
        out += wrap(
            f"{row.system.ljust(wide)}  {row.plan}; {chips}; batch {row.global_batch_seqs}", style, hang=wide + 2
        )
        said = [f"time: {time_shares(row, top=3)}"] if time_shares(row) else []
        way = f" ({row.survival})" if row.survival else ""
        said += [f"goodput {percent(row.goodput.value)}{way}", f"{interval(row.J_per_token)} J/token"]
        said += [f"binds: {row.binds}"] if "binds" in dropped else []
        out += [style.dim(x) for x in wrap("; ".join(said), style, indent=wide + 4, hang=0)]
    return out


def breakeven_lines(rows: Sequence[Row]) -> list[str]:
    """For each row without a price: what price, and what power, would equal the best known row."""
    out: list[str] = []
    name = ""
    for row in rows:
        if not runs(row) or row.usd_per_mtok.value is not None:
            continue
        other = lowest_of([r for r in rows if r is not row], usd)
        if other is not None and row.breakeven_usd_per_chip_h.value is not None:
            text = (
                f"{row.system} has {row.price_label}: equal to {other.system} ({terms_cell(other.price_label)}) at"
                f" ${interval(row.breakeven_usd_per_chip_h)} per chip-hour"
            )
        else:
            text = f"{row.system} has {row.price_label}, and no other row that fits has one to equal"
        cool = lowest_of([r for r in rows if r is not row], lambda r: r.J_per_token)
        if cool is not None and row.breakeven_W_per_chip.value is not None:
            text += f"; to {cool.system} in energy at {interval(row.breakeven_W_per_chip)} W per chip"
        out.append(text)
        name = name or row.system_id
    if name:
        out.append(f"Your own: --set prices.{name}='$1.40/chip/h' --set power.{name}='900 W'")
    return out


def compare_text(result: Comparison, model: Model, style: Style, *, command_hint: str = "") -> str:
    """The report of `mowich compare`."""
    rows = result.rows
    inputs = result.inputs
    data = result.to_dict()
    found, sized = headline(data), chips_differ(rows_of(data))
    lines = [*(style.bold(line) for line in wrap(str(found), style, indent=0, hang=0)), ""]
    lines += wrap(job_line(inputs, model), style)
    body, dropped = compare_rows(rows, found, sized, style)
    lines += body
    said = [legend(found, ("usd_per_mtok", "days"), style), "GiB/dev used/usable", *["chips used/paid for"] * sized]
    lines += wrap("   ".join(said), style)
    known = "MFU against the dense peak of the plan's own precision"
    if any(runs(row) and row.binds == "hbm capacity" for row in rows):
        known += "; HBM size: with more memory another plan would be over 8% faster"
    lines += wrap(known, style)
    if "plan" in dropped:
        lines += ["", "Plans and where the time goes", *plan_lines(rows, dropped, style)]
        dropped = [d for d in dropped if d != "plan"]
        dropped = [d for d in dropped if d not in ("goodput", "J/token", "binds")]
    if dropped:
        lines += wrap(f"Not shown at this width: {', '.join(dropped)} (see --json or --csv).", style)
    notes = [f"{r.system}: {r.reason}" for r in rows if r.reason]
    notes += breakeven_lines(rows)
    notes += [f"{r.system}: {r.goodput.reason}" for r in rows if runs(r) and r.goodput.reason]
    notes += list(result.warnings)
    if notes:
        lines += ["", "Notes"]
        for note in notes:
            lines += wrap(note, style)
    lines += [
        "",
        *price_lines(rows, style),
        *survival_lines(rows, style),
        *coverage_lines(rows, inputs, style),
        *tuned_lines(rows, style),
    ]
    lines += next_lines(rows, style, str(inputs["model"]), command_hint)
    return "\n".join(lines) + "\n"


def short_count(value: float) -> str:
    """A count with three significant digits: 37552282624 -> "37.6B"."""
    return show_count(float(f"{value:.3g}"))


def job_line(inputs: Mapping[str, object], model: Model) -> str:
    """The model and the job in one line."""
    size = short_count(model.params) + (
        f", {short_count(model.params_active)} active" if model.params_active != model.params else ""
    )
    tokens = f"{show_count(float(str(inputs['tokens'])))} tokens, " if inputs.get("tokens") else ""
    what = (
        f"{model.name} ({size}): train {tokens}seq {inputs['seq']}, batch"
        f" {show_count(round(float(str(inputs['batch_seqs']))))}"
    )
    if inputs.get("lora_rank"):
        what += f", LoRA rank {inputs['lora_rank']} on {' '.join(map(str, cast(list[str], inputs['lora_targets'])))}"
    elif inputs.get("train_task"):
        what += f", {inputs['train_task']}"
    if inputs.get("document"):
        what += f", documents of {float(str(inputs['document'])):.0f}"
    if inputs.get("fill"):
        what += f", {float(str(inputs['fill'])):.0%} filled"
    chips = inputs.get("chips")
    equal = inputs.get("equal", "chips")
    if chips is not None:
        what += (
            f"; {chips} {'units' if equal == 'units' else 'chips'} each"
            if equal in ("chips", "units")
            else f", equal {equal} to {chips} chips of the first"
        )
    return what


def price_lines(rows: Sequence[Row], style: Style) -> list[str]:
    """Which price stands behind each row."""
    shown: dict[str, list[str]] = {}
    for row in rows:
        shown.setdefault(row.price_label or UNKNOWN, []).append(row.system)
    lines = wrap(
        "Prices: " + "; ".join(f"{', '.join(who)} {text}" for text, who in shown.items()) + ".", style, indent=0
    )
    return lines


def survival_lines(rows: Sequence[Row], style: Style) -> list[str]:
    """Which way of surviving failures the goodput, the days and the costs are of."""
    ways: dict[str, list[str]] = {}
    for row in rows:
        if runs(row) and row.survival:
            ways.setdefault(row.survival, []).append(row.system)
    if not ways:
        return []
    said = ", ".join(name if len(ways) == 1 else f"{name} ({', '.join(who)})" for name, who in ways.items())
    return wrap(
        f"Failures survived by: {said}. Ways and formula: mowich goodput; --set survival=async takes another.",
        style,
        indent=0,
    )


def coverage_lines(rows: Sequence[Row], inputs: Mapping[str, object], style: Style) -> list[str]:
    """Which kinds of cost the times are made of, and which training software they assume."""
    said: dict[str, list[str]] = {}
    for row in rows:
        if runs(row) and row.step_s.coverage:
            text = ", ".join(
                f"{share:.0%} {kind}" for kind, share in sorted(row.step_s.coverage.items(), key=lambda kv: -kv[1])
            )
            said.setdefault(text, []).append(row.system)
    if not said:
        return []
    parts = [f"{text}" if len(said) == 1 else f"{text} ({', '.join(who)})" for text, who in said.items()]
    stacks: dict[str, list[str]] = {}
    for entry in cast("Sequence[Mapping[str, str]]", inputs["systems"]):
        stacks.setdefault(entry["stack"], []).append(entry["system"])
    software = ", ".join(name if len(stacks) == 1 else f"{name} ({', '.join(who)})" for name, who in stacks.items())
    text = f"Step time from: {'; '.join(parts)}. Software: {software}. How far to trust it: mowich validate."
    return wrap(text, style, indent=0)


def tuned_lines(rows: Sequence[Row], style: Style) -> list[str]:
    """Step times of Trainium rows with hand-tuned kernels, beside those with the software as shipped."""
    found = [(r, r.hand_tuned_step_s) for r in rows if runs(r) and r.hand_tuned_step_s is not None]
    if not found:
        return []
    said = "; ".join(
        f"{r.system} {spread(r.step_s, style)} as shipped, {spread(tuned, style)} hand-tuned" for r, tuned in found
    )
    shares = [(r.system, tuned.coverage.get("simulated kernels")) for r, tuned in found]
    covered = ", ".join(f"{share:.0%} of {name} time" if share else f"none of {name}" for name, share in shares)
    return wrap(
        f"Software on Trainium, s per step: {said}. Coverage, hand-tuned: from simulated kernels {covered}; the rest by"
        " formulas, named under mowich explain FILE SYSTEM.hand_tuned_step_s.",
        style,
        indent=0,
    )


def next_lines(rows: Sequence[Row], style: Style, model: str, command_hint: str) -> list[str]:
    first = next((r for r in rows if runs(r)), None)
    if first is None:
        return wrap(
            f"Next: more --chips, a smaller --batch or --seq, or mowich fit {model} --on {rows[0].system} --train ...",
            style,
            indent=0,
        )
    save = "" if command_hint else "add --out r.json, then "
    where = command_hint or "r.json"
    return wrap(
        f"Next: {save}mowich explain {where} {first.system}.step_s  |  mowich plan {model} --on {first.system} ..."
        " --top 5",
        style,
        indent=0,
    )


def plan_text(result: PlanList, model: Model, style: Style) -> str:
    """The report of `mowich plan`: the best plans, and what each trades against the first."""
    rows = result.rows
    first = rows[0]
    lead = str(headline(result.to_dict()))
    if not runs(first):
        return (
            "\n".join(
                [
                    *wrap(lead, style, indent=0, hang=2),
                    f"{result.evaluated} legal plans evaluated in {sig(result.seconds)} s",
                ]
            )
            + "\n"
        )
    lines = [
        *(style.bold(x) for x in wrap(lead, style, indent=0, hang=0)),
        "",
        *wrap(job_line(result.inputs, model), style),
    ]
    columns = [
        Column(name="#"),
        Column(name="plan", right=False),
        Column(name="step s"),
        Column(name="MFU"),
        Column(name="GiB/dev"),
        Column(name="$/Mtok", keep=6),
        Column(name="batch", keep=5),
        Column(name="binds", right=False, keep=4),
        Column(name="against #1", right=False),
    ]
    body = []
    for i, row in enumerate(rows, 1):
        body.append(
            [
                str(i),
                str(row.plan),
                number(row.step_s.value),
                percent(row.mfu.value),
                memory_cell(row),
                number(row.usd_per_mtok.value),
                str(row.global_batch_seqs),
                SHORT_BINDS.get(row.binds, row.binds),
                trade(row, first) if i > 1 else NOTHING,
            ]
        )
    drawn, dropped = table(columns, body, style)
    lines += drawn
    if dropped:
        lines += wrap(f"Not shown at this width: {', '.join(dropped)} (see --json or --csv).", style)
    lines += wrap(
        "The interval of a step is shared by all plans of a system: the order within 2% is not settled.", style
    )
    lines += ["", *wrap(f"Time of the first: {time_shares(first, top=8)}", style, indent=0)]
    if first.reason:
        lines += wrap(first.reason, style, indent=0)
    idle = f", {first.chips_idle} idle and paid for" if first.chips_idle else ""
    lines += wrap(
        f"#1 uses {first.chips_used} of {first.chips_requested} chips{idle}; {result.evaluated} legal plans,"
        f" {result.feasible} fit; evaluated in {sig(result.seconds, 2)} s.",
        style,
        indent=0,
    )
    lines += [*price_lines(rows[:1], style), *survival_lines(rows[:1], style)]
    lines += wrap(
        "Next: fix a choice with --set plan.tp=8 (or plan.tp=4,8)  |  add --out r.json, then mowich explain r.json"
        " 1.step_s",
        style,
        indent=0,
    )
    return "\n".join(lines) + "\n"


def trade(row: Row, first: Row) -> str:
    """ "+1.4%/token, -12.3 GiB": what a plan costs and gives against the best one."""
    if row.step_s.value is None or first.step_s.value is None:
        return NOTHING
    per_token = (row.step_s.value / row.global_batch_seqs) / (first.step_s.value / first.global_batch_seqs) - 1
    memory = (sum(row.memory_B.values()) - sum(first.memory_B.values())) / 2**30
    return f"{per_token:+.1%}/token, {memory:+.1f} GiB"


def model_text(view: ModelView, style: Style) -> str:
    """The report of `mowich model`."""
    active = f", {show_count(view.params_active)} active per token" if view.params_active != view.params else ""
    lines = [style.bold(f"{view.name} ({view.architecture}): {show_count(view.params)} parameters{active}."), ""]
    tied = "tied with the head" if view.tied_embeddings else f"head {view.params_head:,}"
    lines += [
        (
            f"  parameters           {view.params:,} in all; {view.params_active:,} active; embedding"
            f" {view.params_embedding:,} ({tied})"
        ),
        (
            f"  layers               {view.num_layers}, hidden {view.hidden}, vocabulary {view.vocab:,}, longest"
            f" sequence {view.max_seq:,}"
        ),
        (
            f"  FLOP per token       {show(view.flop_per_token_forward, 'FLOP')} forward at {view.seq} tokens"
            f" ({show(view.attention_flop_per_token_forward, 'FLOP')} attention),"
            f" {show(view.flop_per_token_train, 'FLOP')} to train"
        ),
        (
            f"  KV cache             {show(view.kv_bytes_per_token, 'B')} per token at {view.bytes_per_element:g} B per"
            f" element, {show_gib(view.kv_bytes_at_seq)} for {view.seq} tokens"
        ),
    ]
    total = sum(view.weight_bytes.values())
    largest = sorted(view.weight_bytes.items(), key=lambda item: -item[1])[:3]
    lines.insert(
        3,
        f"  checkpoint           {show(total, 'B')}, {total / view.params:.2f} B per weight ("
        + ", ".join(f"{name} {show(size, 'B')}" for name, size in largest)
        + ")",
    )
    if view.weight_bytes_assumed:
        lines.insert(4, f"                       {view.weight_bytes_assumed}")
    if view.state_bytes_per_sequence:
        lines.append(
            f"  recurrent state      {show(view.state_bytes_per_sequence, 'B')} per sequence, whatever its length"
            " (state 4 B per element, convolution 2 B)"
        )
    if view.mtp_layers:
        lines.append(
            f"  multi-token head     {view.mtp_layers} layer(s), {view.mtp_params:,} parameters, not in the count"
        )
    columns = [
        Column(name="layers"),
        Column(name="mixer", right=False),
        Column(name="feed-forward", right=False),
        Column(name="params"),
        Column(name="active", keep=3),
        Column(name="FLOP/token", keep=2),
        Column(name="KV B/token", keep=1),
    ]
    body = [
        [
            str(x.count),
            x.attention,
            x.ffn,
            show_count(x.params),
            show_count(x.params_active),
            show(x.flop_per_token_forward, "FLOP"),
            f"{x.kv_bytes_per_token:,.0f}",
        ]
        for x in view.layers
    ]
    lines += ["", *table(columns, body, style)[0]]
    if view.source:
        lines += ["", *wrap(f"Shape from: {view.source}", style, indent=0)]
    return "\n".join(lines) + "\n"


def fit_text(fit: Fit, model: Model, style: Style, *, given: str = "") -> str:
    """The report of `mowich fit`. given: the model as the user named it, for the next command."""
    lines = [*(style.bold(x) for x in wrap(fit.sentence(), style, indent=0, hang=0)), ""]
    lines += wrap(job_line({**fit.inputs, "chips": None, "tokens": None}, model), style)
    if fit.memory_B:
        capacity = fit.capacity_B
        used = sum(fit.memory_B.values())
        parts = " | ".join(f"{k} {gib(v)}" for k, v in fit.memory_B.items() if v)
        lines += wrap(
            f"{parts} | free {gib(capacity - used) if used <= capacity else 'none'}  of {gib(capacity)} GiB usable per"
            " device",
            style,
        )
    if fit.plan is not None:
        lines += wrap(f"plan with the least memory: {fit.plan}", style)
    for note in fit.notes:
        lines += wrap(note, style)
    lines += [
        "",
        *wrap(
            f"Next: mowich plan {given or model.name} --on {fit.system_id}:{fit.smallest_chips or fit.chips} --train"
            " ... --top 5",
            style,
            indent=0,
        ),
    ]
    return "\n".join(lines) + "\n"


def hand_tuned_lines(result: Validation, style: Style) -> list[str]:
    """Trainium by chip and model: predicted as shipped, and with hand-tuned kernels, against measured; none without
    such rows."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for row in result.rows:
        if row.case is not None and row.framework_factor is not None:
            groups.setdefault((row.chip, row.case.model.name), []).append(row)
    if not groups:
        return []
    columns = [
        Column(name="Trainium, median of rows", right=False),
        Column(name="n"),
        Column(name="as shipped / measured"),
        Column(name="measured / hand-tuned"),
        Column(name="from kernels"),
    ]
    body = [
        [
            f"{chip} {model}",
            str(len(rows)),
            sig(median(r.ratio or 0.0 for r in rows)),
            sig(median(r.framework_factor or 0.0 for r in rows)),
            percent(median(r.hand_tuned_coverage or 0.0 for r in rows)),
        ]
        for (chip, model), rows in sorted(groups.items())
    ]
    return ["", *table(columns, body, style)[0]]


NO_ROOM = "do not fit by our memory model"
"""Rows whose plan needs more memory than the device has: what made it fit (offload, a policy) is not stated, and so not
predicted."""


def left_out_lines(style: Style) -> list[str]:
    """The errors of rows that were left out of the fit, training and serving."""
    columns = [
        Column(name="left out of the fit", right=False),
        Column(name="whole", right=False),
        Column(name="n"),
        Column(name="median"),
        Column(name="p90"),
        Column(name="in 90% range"),
    ]
    found = left_out()
    body = [
        [f"{e.work}, {e.what}", e.unit, str(e.rows), tenths(e.median), tenths(e.p90), percent(e.in_range)]
        for e in found
    ]
    groups = dict.fromkeys(f"{e.of} ({e.work})" for e in found if e.of)
    return [*table(columns, body, style)[0], *wrap(f"A group is {'; '.join(groups)}.", style), ""]


def validate_text(result: Validation, style: Style) -> str:
    """The report of `mowich validate`: errors over all rows, by chip and by source."""
    data = result.to_dict()
    summary = result.summary()
    whole: Summary = summary["all"]
    shipped = result.path == SHIPPED
    lines = [*(style.bold(x) for x in wrap(str(accuracy_headline(data)), style, indent=0, hang=0)), ""]
    lines += left_out_lines(style) if shipped else []
    fitted = ", in sample: constants and widths of ranges were fitted to these rows" if shipped else ""
    lines += wrap(
        f"file {result.path}{fitted}; error = max(predicted/measured, measured/predicted) - 1; bias above 0: predicted"
        " too slow",
        style,
    )
    columns = [
        Column(name="rows of", right=False),
        Column(name="n"),
        Column(name="refused"),
        Column(name="median"),
        Column(name="mean"),
        Column(name="p90"),
        Column(name="bias"),
        Column(name="in 90% range"),
    ]

    def cells(name: str, s: Summary) -> list[str]:
        bias = UNKNOWN if s.bias is None else f"{s.bias:+.0%}"
        return [
            name,
            str(s.n),
            str(s.unsupported),
            percent(s.median_abs_error),
            percent(s.mean_abs_error),
            percent(s.p90_abs_error),
            bias,
            percent(s.interval_coverage),
        ]

    first = [cells("all", whole), cells("fully specified", summary["fully_specified"])]
    if summary["does_not_fit_memory"].n:
        first += [cells(NO_ROOM, summary["does_not_fit_memory"]), cells("all others", summary["fits_memory"])]
    groups: list[tuple[str, list[list[str]]]] = [("", first)]
    groups += [
        (word, [cells(k or "(none)", v) for k, v in summary[key].items()])
        for word, key in (("by chip", "by_chip"), ("by source", "by_source"))
    ]
    for word, body in groups:
        named = [Column(name=word or "rows", right=False), *columns[1:]]
        lines += ["", *table(named, body, style)[0]]
    lines += hand_tuned_lines(result, style)
    refused: dict[str, int] = {}
    for row in result.rows:
        if row.status != "ok" and row.reason:
            refused[row.reason] = refused.get(row.reason, 0) + 1
    if refused:
        lines += ["", "Refused"]
        for reason, count in sorted(refused.items(), key=lambda kv: (-kv[1], kv[0]))[:8]:
            lines += wrap(f"{count} x {reason}", style)
    lines += ["", *wrap("Next: mowich validate --json (every row, what was filled in, its interval)", style, indent=0)]
    return "\n".join(lines) + "\n"
