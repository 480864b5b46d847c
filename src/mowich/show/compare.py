"""The page of a training comparison."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.requests.footing import is_paid
from mowich.show.formats import percent
from mowich.show.headline import Headline, chips_differ, headline, row_label, words_beside
from mowich.show.page import (
    NOTE_MARKED,
    NOTHING,
    Cell,
    Column,
    Details,
    LateCharts,
    More,
    Page,
    Run,
    Table,
    Words,
    estimate_of,
    paragraphs,
)
from mowich.show.page import notes as remarks
from mowich.show.price_lines import breakeven_lines, joules_text, price_line_charts
from mowich.show.rows import (
    BEST_PLANS,
    chips_line,
    coverage_lines,
    job_line,
    memory_chance_lines,
    plan_of,
    price_line,
    priced_words,
    ranked_figure,
    row_cells,
    survival_lines,
    time_shares,
    training_strip,
    tuned_lines,
    why_not,
)
from mowich.show.training import training_pictures
from mowich.show.yearly import there_lines, yearly_charts, yearly_parts
from mowich.shown import Result
from mowich.studies.ranking import rows_of, runs


def compare_page(result: Result, run: Run) -> Page:
    """Systems compared by one training job, each at its best plan."""
    rows, inputs, found = rows_of(result), result["inputs"], headline(result)
    notes = [f"{r['system']}: {r['reason']}" for r in rows if r.get("reason")]
    notes += memory_chance_lines([(r["system"], r) for r in rows])
    notes += there_lines(inputs)
    notes += breakeven_lines(rows, inputs)
    notes += [f"{r['system']}: {r['goodput']['reason']}" for r in rows if runs(r) and r["goodput"].get("reason")]
    rests = [price_line(rows, inputs), *survival_lines(rows), *coverage_lines(rows, inputs), *tuned_lines(rows, inputs)]
    return Page(
        title=f"{inputs.get('model')}: systems compared",
        sentences=found.sentences,
        assumptions=training_strip(result),
        parts=(
            Words(text=job_line(inputs, run) + priced_words(rows, inputs), kind="job", gap=True),
            answers(rows, found, inputs),
            *yearly_parts(rows, inputs),
            *remarks(notes, result.get("warnings", ())),
            *paragraphs(rests, "basis", indent=0, gap=True),
            Words(text=next_step(rows, str(inputs["model"]), run.saved), kind="next", indent=0),
        ),
        charts=LateCharts(
            lambda: [
                *training_pictures(result, found, is_plan=False),
                *yearly_charts(rows, inputs),
                *price_line_charts(rows, inputs),
            ]
        ),
        records=rows,
        inputs=inputs,
        marks=found.marks(len(rows)),
        beside=words_beside(rows),
    )


def columns(sized: bool, *, paid: bool, timed: bool) -> list[Column]:
    """Of the table of answers. sized: a narrow table needs the numbers of chips; paid: a budget says them, and the
    tokens that it trains are told; timed: the length of the run is. A column less goes first from what the
    lines below say again, last from grade and terms of price."""
    trained = Column(name="trained", unit="T tokens", short="Ttok", format="interval", scale=1e-12, of="tokens_trained")
    return [
        Column(name="system", right=False),
        Column(name="fits", right=False, wide=True),
        Column(name="chips", keep=9, wide=not sized),
        Column(name="plan", right=False, keep=0),
        Column(name="step", unit="s", short="step s", format="spread", marked=False, of="step_s"),
        Column(name="MFU", unit="%", short="MFU", format="percent", scale=100.0, keep=4, of="mfu"),
        Column(name="memory, GiB/device", short="GiB/dev", keep=5),
        Column(name="tokens/s/chip", format="number", wide=True, of="tokens_per_s_per_chip"),
        Column(name="$/Mtok", format="interval", of="usd_per_mtok"),
        Column(name="price", right=False, keep=9),
        Column(name="J/token", format="number", keep=1, marked=False, of="J_per_token"),
        *([trained] * paid),
        *([Column(name="days", format="number", of="days")] * timed),
        Column(name="goodput", unit="%", short="goodput", format="percent", scale=100.0, keep=2, of="goodput"),
        Column(name="break-even $/chip/h", format="interval", wide=True, of="breakeven_usd_per_chip_h"),
        Column(name="grade", keep=50),
        Column(name="binds", right=False, keep=3),
        Column(name="survives failures by", right=False, wide=True),
    ]


def answers(rows: Sequence[Result], found: Headline, inputs: Result) -> Table:
    """The main table."""
    paid, timed = is_paid(inputs), inputs.get("tokens") is not None
    sized = chips_differ(rows)
    legend = ["   ".join([*marks_said(found, ("usd_per_mtok", "days", "tokens_trained")), "GiB/dev used/usable"])]
    legend[0] += "   chips used/paid for" if sized else ""
    known = f"{BEST_PLANS}; MFU against the dense peak of its own precision"
    if any(runs(row) and row["binds"] == "hbm capacity" for row in rows):
        known += "; HBM size: with more memory another plan would be over 8% faster"
    shown = columns(sized, paid=paid, timed=timed)
    return Table(
        title="Answers",
        columns=shown,
        rows=[_line(row, found, place, shown) for place, row in enumerate(rows)],
        note=NOTE_MARKED,
        legend=[*legend, known],
        gap=False,
        details=Details(
            title="Plans and where the time goes",
            when="plan",
            rows=[detail(row) for row in rows if runs(row)],
            instead_of=("goodput", "J/token", "binds"),
        ),
    )


def _line(row: Result, found: Headline, place: int, shown: Sequence[Column]) -> list[Cell]:
    """One row of the main table; of a row without a plan the reason stands where its step would."""
    name, is_run = str(row["system"]), runs(row)

    def number(metric: str) -> Cell:
        short = None if is_run else why_not(row) if metric == "step_s" else NOTHING
        return ranked_figure(found, row, metric, place, name, short)

    grade = estimate_of(row["step_s"]).grade if is_run else NOTHING
    return row_cells(shown, row, number, {"system": row_label(row), "grade": grade})


def detail(row: Result) -> tuple[str, list[More], list[More]]:
    """The whole plan, chips, batch, where the time goes, and what had no room in the table."""
    first = [More("", plan_of(row)), More("", chips_line(row)), More("", f"batch {row['global_batch_seqs']}")]
    shares, way = time_shares(row, top=3), f" ({row['survival']})" if row.get("survival") else ""
    second = [More("", f"time: {shares}")] if shares else []
    second += [
        More("", f"goodput {percent(estimate_of(row['goodput']).value)}{way}"),
        More("", joules_text(row)),
        More("binds", f"binds: {row['binds']}"),
    ]
    return str(row["system"]), first, second


def marks_said(found: Headline, metrics: Sequence[str]) -> list[str]:
    """What the marks of a narrow table mean."""
    shown = any(m in found.rankings and found.rankings[m].best is not None for m in metrics)
    marks = ["← best", "~ range overlaps with the best: not ranked"] if shown else []
    return [*marks, "? unknown", "90% ranges"]


def next_step(rows: Sequence[Result], model: str, saved: str) -> str:
    """What may be asked next."""
    first = next((r for r in rows if runs(r)), None)
    if first is None:
        return (
            f"Next: more --chips, a smaller --batch or --seq, or mowich fit {model} --on {rows[0]['system']}"
            " --train ..."
        )
    save = "" if saved else "add --out r.json, then "
    return (
        f"Next: {save}mowich explain {saved or 'r.json'} {first['system']}.step_s  |  mowich plan {model} --on"
        f" {first['system']} ... --top 5"
    )
