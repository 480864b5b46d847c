"""The page of the training plans of one system: the best, what each trades against the first, what holds the first in
place, and the front between time, memory and cost."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.show.formats import gib, number_text, percent
from mowich.show.headline import headline, words_beside
from mowich.show.page import (
    NOTE,
    NOTHING,
    Cell,
    Column,
    LateCharts,
    Page,
    Part,
    Run,
    Table,
    TextCell,
    Words,
    estimate_of,
    figure,
    paragraphs,
    rows_in,
)
from mowich.show.rows import (
    job_line,
    memory_cell,
    memory_chance_lines,
    plan_of,
    preferred_lines,
    price_line,
    priced_words,
    release_lines,
    row_cells,
    survival_lines,
    time_shares,
    training_strip,
    used_B,
)
from mowich.show.training import front_pictures, training_pictures
from mowich.shown import Result
from mowich.studies.ranking import rows_of, runs
from mowich.studies.stated_plan import plan_words
from mowich.units import show_gib, sig

_COLUMNS = [
    Column(name="#"),
    Column(name="fits", right=False, wide=True),
    Column(name="plan", right=False, keep=0, below=True),
    Column(name="chips", wide=True),
    Column(name="step", unit="s", short="step s", format="number", of="step_s"),
    Column(name="MFU", unit="%", short="MFU", format="percent", scale=100.0, of="mfu"),
    Column(name="memory, GiB/device", short="GiB/dev", keep=6),
    Column(name="tokens/s/chip", format="number", wide=True, of="tokens_per_s_per_chip"),
    Column(name="$/Mtok", format="number", of="usd_per_mtok"),
    Column(name="price", right=False, wide=True),
    Column(name="J/token", format="number", wide=True, of="J_per_token"),
    Column(name="days", format="number", of="days"),
    Column(name="goodput", unit="%", format="percent", scale=100.0, wide=True, of="goodput"),
    Column(name="break-even $/chip/h", format="interval", wide=True, of="breakeven_usd_per_chip_h"),
    Column(name="batch", keep=5),
    Column(name="grade", keep=50),
    Column(name="binds", right=False, keep=4),
    Column(name="survives failures by", right=False, wide=True),
    Column(name="against #1", right=False, keep=7),
]


def plan_page(result: Result, run: Run) -> Page:
    """The best plans of one system for one training job."""
    rows, inputs, found = rows_of(result), result["inputs"], headline(result)
    parts = (
        _parts(result, rows, run) if runs(rows[0]) else [Words(text=_evaluated(result, run), kind="basis", indent=0)]
    )
    charts = training_pictures(result, found, is_plan=True)
    return Page(
        title=f"{inputs.get('model')}: plans",
        sentences=found.sentences,
        assumptions=training_strip(result),
        parts=parts,
        charts=LateCharts(lambda: [*charts, *(front_pictures(result["pareto"]) if result.get("pareto") else [])]),
        records=rows,
        inputs=inputs,
        marks=found.marks(len(rows)),
        beside=words_beside(rows),
    )


def _parts(result: Result, rows: Sequence[Result], run: Run) -> list[Part]:
    first = rows[0]
    parts: list[Part] = [
        Words(text=job_line(result["inputs"], run) + priced_words(rows, result["inputs"]), kind="job", gap=True),
        Table(
            title="Answers",
            columns=_COLUMNS,
            rows=[_line(row, i, first) for i, row in enumerate(rows, 1)],
            note=NOTE,
            gap=False,
        ),
        Words(
            text="The interval of a step is shared by all plans of a system: the order within 2% is not settled.",
            kind="note",
        ),
        *paragraphs(preferred_lines(result), "note"),
        *paragraphs(result.get("warnings", ()), "warning"),
        Words(text=f"Time of the first: {time_shares(first, top=8)}", kind="note", indent=0, gap=True),
        *paragraphs([first["reason"]] if first.get("reason") else [], "note", indent=0),
        *paragraphs(memory_chance_lines([(f"#{i}", row) for i, row in enumerate(rows, 1)]), "note", indent=0),
        *paragraphs(
            [
                _used(first, result, run),
                price_line(rows[:1], result["inputs"]),
                *survival_lines(rows[:1]),
                *release_lines(result["inputs"], "stack"),
            ],
            "basis",
            indent=0,
        ),
        Words(
            text="Next: fix a choice with --set plan.tp=8 (or plan.tp=4,8)  |  add --out r.json, then mowich explain"
            " r.json 1.step_s",
            kind="next",
            indent=0,
        ),
    ]
    parts += _why(result["why"], first) if result.get("why") else []
    return parts + (_front(result["pareto"]) if result.get("pareto") else [])


def _line(row: Result, place: int, first: Result) -> list[Cell]:
    own = {
        "#": str(place),
        "memory, GiB/device": memory_cell(row).rstrip("?") or "?",
        "batch": str(row["global_batch_seqs"]),
        "grade": estimate_of(row["step_s"]).grade if runs(row) else NOTHING,
        "against #1": trade(row, first) if place > 1 else NOTHING,
    }
    return row_cells(_COLUMNS, row, lambda metric: figure(row.get(metric), f"{place}.{metric}"), own)


def trade(row: Result, first: Result) -> str:
    """ "+1.4%/token, -12.3 GiB": what a plan costs and gives against the best one."""
    mine, best = estimate_of(row["step_s"]).value, estimate_of(first["step_s"]).value
    if mine is None or best is None:
        return NOTHING
    per_token = (mine / row["global_batch_seqs"]) / (best / first["global_batch_seqs"]) - 1
    return f"{per_token:+.1%}/token, {(used_B(row) - used_B(first)) / 2**30:+.1f} GiB"


def _evaluated(result: Result, run: Run) -> str:
    took = "" if run.seconds is None else f" in {sig(run.seconds)} s"
    return f"{result['evaluated']} legal plans evaluated{took}"


def _used(first: Result, result: Result, run: Run) -> str:
    """How much of the machine the first plan uses, and how many plans there were."""
    idle = f", {first['chips_idle']} idle and paid for" if first.get("chips_idle") else ""
    took = "" if run.seconds is None else f"; evaluated in {sig(run.seconds, 2)} s"
    return (
        f"#1 uses {first['chips_used']} of {first['chips_requested']} chips{idle}; {result['evaluated']} legal plans,"
        f" {result['feasible']} fit{took}."
    )


def _why(why: Result, first: Result) -> list[Part]:
    """The neighbours of the best plan: what one choice a step away costs, and what ties."""
    plan, ties = why.get("plan") or first["plan"], why["ties"]
    within = percent(ties["within"])
    differ = "; ".join(f"{k} {', '.join(v)}" for k, v in ties["differ_in"].items()) or "nothing that is shown"
    said = (
        f"{ties['count']} plans lie within {within}, which is less than the model can tell apart; they differ in"
        f" {differ}."
        if ties["count"] > 1
        else f"No other plan lies within {within}."
    )
    columns = [
        Column(name="with", right=False, cell=lambda n: f"{n['field']} {n['value']}"),
        Column(
            name="time of a step",
            short="time",
            cell=lambda n: (
                TextCell(f"does not fit, +{show_gib(n['short_B'])}", short=f"no fit, +{show_gib(n['short_B'])}")
                if n["slower"] is None
                else f"{n['slower']:+.1%}"
            ),
        ),
        Column(name="GiB of a device", short="GiB/dev", cell=lambda n: gib(n["memory_B"])),
        Column(name="because of", short="because", right=False, keep=7, cell=lambda n: n["cause"] or NOTHING),
        Column(name="best such plan", right=False, keep=6, cell=lambda n: plan_words(n["plan"])),
    ]
    return [
        Words(text=f"Why {plan_words(plan)}: {why['sentence']}.", kind="note", indent=0, hang=0, gap=True),
        Words(text="Neighbours (one choice a step away, the others made anew):", kind="caption", indent=0, gap=True),
        Table(
            title="Why this plan: its neighbours",
            columns=columns,
            rows=rows_in(columns, why["neighbours"]),
            note="One choice a step away, the others made anew.",
            gap=False,
            elsewhere="--json",
        ),
        Words(text=said, kind="note", indent=0),
    ]


def _front(front: Sequence[Result]) -> list[Part]:
    """The front as a table, fastest first."""
    unknown = [
        name
        for name, key in (("cost", "usd_per_mtok"), ("energy", "J_per_token"))
        if any(estimate_of(r[key]).value is None for r in front)
    ]
    said = "Pareto front: no other plan is better in time, memory, cost and energy at once."
    columns = [
        Column(name="chips", cell=lambda r: str(r["chips_used"] + r["chips_idle"])),
        Column(name="days", format="number", cell=lambda r: figure(r["days"])),
        Column(name="GiB of a device", short="GiB/dev", cell=lambda r: number_text(used_B(r) / 2**30)),
        Column(name="$/Mtok", format="number", cell=lambda r: figure(r["usd_per_mtok"])),
        Column(name="J/token", format="number", cell=lambda r: figure(r["J_per_token"])),
        Column(name="plan", right=False, cell=lambda r: plan_of(r)),
    ]
    return [
        Words(text=said, kind="caption", indent=0, gap=True),
        *paragraphs([f"{' and '.join(unknown)} not known, and left out."] if unknown else [], "note", indent=0),
        Table(
            title="Pareto front",
            columns=columns,
            rows=rows_in(columns, front),
            note=said,
            gap=False,
            elsewhere="--json",
        ),
    ]
