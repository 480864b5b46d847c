"""The parts of the page of a fleet about what a tenant's fall strands, and about how many chips can be had."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mowich.show import charts_time
from mowich.show.charts import Chart
from mowich.show.colours import look_called
from mowich.show.fleet_amounts import amount, dearer, does_more, dollars, is_work
from mowich.show.fleet_idle import captioned, count_text
from mowich.show.formats import UNKNOWN, percent
from mowich.show.page import (
    NOTHING,
    Column,
    Figure,
    Part,
    Table,
    Words,
    estimate_of,
    paragraphs,
    rows_in,
    word_columns,
)
from mowich.shown import Result
from mowich.studies.ranking import names_listed
from mowich.sums import float_sum
from mowich.units import sig

# ---- a tenant's fall
# ----------------------------------------------------------------------------------------------------------------------


def fall_sentences(fall: Result) -> list[str]:
    """What is stranded, in two sentences: what is needed no more, and what stands idle all the same."""
    falls = f"If {fall['name']} falls from {percent(fall['share'])} of the chip-hours to {percent(fall['asked'])}"
    if not fall["stranded"]:
        return [f"{falls}, nothing is stranded."]
    needed = _by_system(fall["stranded"], "chips")
    said = [f"{count_text(n)} {s}" for s, n in needed.items()]
    first = f"{falls}, what is asked needs {names_listed(said) if said else 'no chip'} less at the most"
    first += f": {dollars(fall['usd'])} (net present) that nothing needs any more."
    idle = _by_system(fall["stranded"], "idle")
    still = [f"{count_text(n)} {s}" for s, n in idle.items()]
    if not still:
        return [first, "None stands idle: other work takes the chips that are free, and fewer are ordered."]
    paid = f"; {dollars(fall['idle_usd'])} are paid for them" if fall["idle_usd"] else ""
    return [first, f"Once other work has taken what it may, up to {names_listed(still)} stand idle all the same{paid}."]


def _by_system(rows: Sequence[Result], what: str) -> dict[str, float]:
    """System -> the most of it in any period, where it is something."""
    most: dict[str, float] = {}
    for row in rows:
        most[row["system"]] = max(most.get(row["system"], 0.0), row[what])
    return {s: n for s, n in most.items() if n >= 1.0}


def fall_parts(fall: Result) -> list[Part]:
    """Tables of a tenant's fall: by system and period, commitments, and who takes the chips."""
    if not fall["stranded"]:
        return []
    columns = [
        Column(name="system", right=False, cell=lambda row: row["system"]),
        Column(name="period", right=False, cell=lambda row: row["period"]),
        Column(name="chips needed no more", cell=lambda row: count_text(row["chips"])),
        Column(name="committed, $", short="committed", cell=lambda row: dollars(row["usd"])),
        Column(name="chips idle", cell=lambda row: count_text(row["idle"])),
        Column(name="paid for idle, $", short="paid idle", cell=lambda row: dollars(row["idle_usd"])),
    ]
    by_period = Table(
        title=f"What a fall of {fall['name']} strands",
        columns=columns,
        rows=rows_in(columns, fall["stranded"]),
        note="Needed no more: by what is asked, at least cost. Idle: beyond today's, by the scenario's goals.",
        gap=False,
        elsewhere="--json",
    )
    let_go = Table(
        title="Commitments that could be let go",
        columns=[
            *word_columns(["system", "from", "to", "units", "chips"], left=["system", "from", "to"]),
            Column(name="cost, $", short="cost"),
        ],
        rows=[
            [c["system"], c["first"], c["last"], count_text(c["units"]), count_text(c["chips"]), dollars(c["usd"])]
            for c in fall["let_go"]
        ],
        note="Each from its first period to its last; a negative count is one that is needed more.",
        gap=False,
    )
    refilled = Table(
        title="Who takes the chips",
        columns=word_columns(
            ["workload", "tenant", "of what it asks, today", "then", "chips more"], left=["workload", "tenant"]
        ),
        rows=[
            [r["workload"], r["tenant"], f"{sig(r['before'])}x", f"{sig(r['after'])}x", count_text(r["chips"])]
            for r in fall["refilled"]
        ],
        note="Mean of all periods. A workload takes more where its `most` says that more is welcome.",
        gap=False,
    )
    return [
        *captioned(f"What a fall of {fall['name']} strands, by period", by_period),
        *(captioned("Commitments that could be let go", let_go) if fall["let_go"] else []),
        *(captioned("Who takes the chips that are free", refilled) if fall["refilled"] else []),
        Words(
            text=f"{fall['name']} asks for {percent(fall['work'])} of its work of today, and does no more than that."
            f" On average {count_text(fall['chips'])} chips are needed no more, and {count_text(fall['idle'])} stand"
            f" idle; {dollars(fall['committed_usd'])} of commitments, before discounting, pay for what is needed no"
            " more.",
            kind="note",
        ),
    ]


def fall_pictures(result: Result) -> list[Chart]:
    """Chips that are needed no more, over time."""
    fall, periods = result.get("tenant"), result["periods"]
    if not fall or not fall["stranded"]:
        return []
    lines = {
        s: [
            float_sum(row["chips"] for row in fall["stranded"] if row["system"] == s and row["period"] == p)
            for p in periods
        ]
        for s in _by_system(fall["stranded"], "chips")
    }
    return [
        charts_time.over_time(
            f"Chips that nothing asked needs once {fall['name']} falls to {percent(fall['asked'])}",
            "By system, in each period.",
            periods,
            lines,
            unit="chips",
            looks={s: look_called(s) for s in lines},
        )
    ]


# ---- supply
# ----------------------------------------------------------------------------------------------------------------------


def supply_parts(result: Result) -> list[Part]:
    """How many chips can be had by the facts, what one more of each is worth, and what the range of the facts does."""
    found = result.get("supply")
    if not found:
        return []
    gain = "adds" if is_work(result) else "saves"
    chips = {r["system"]: r["unit_chips"] for r in found["rows"]}
    worth: dict[str, float] = {}
    for b in result["binding"]:
        if str(b.get("kind")).startswith("supply") and b["subject"] in chips:
            worth[b["subject"]] = worth.get(b["subject"], 0.0) + b["shadow_price"] / chips[b["subject"]]
    columns = [
        Column(name="system", right=False, cell=lambda r: r["system"]),
        Column(name="made a quarter", format="interval", cell=lambda r: Figure(estimate_of(r["quarterly"]))),
        Column(name="share", cell=lambda r: percent(r["share"])),
        Column(name="units a period", cell=lambda r: count_text(r["units"])),
        Column(
            name=f"one more chip a period {gain}",
            cell=lambda r: amount(result["goal"], worth[r["system"]]) if r["system"] in worth else NOTHING,
        ),
        Column(name="fact", right=False, wide=True, cell=lambda r: r["fact"]),
    ]
    table = Table(
        title="Chips that can be had",
        columns=columns,
        rows=rows_in(columns, found["rows"]),
        note="Supply by facts, in the world; the share is the scenario's. Worth: of one more in each period.",
        gap=False,
    )
    return [
        *captioned("Chips that can be had, by facts", table),
        *paragraphs(
            [f"With the supply at the {end} end of its range, {_at(found, end)}." for end in ("low", "high")], "note"
        ),
    ]


def _at(found: Result, end: str) -> str:
    goal, there, now = found["goal"], found[f"objective_at_{end}"], found["objective_at_value"]
    if there is None:
        return "there is no plan"
    if now is None:
        return f"the plan comes to {amount(goal, there)}" if there is not None else UNKNOWN
    changes = dearer if goal == "cost" else partial(does_more, goal)
    return f"the plan {changes(there, now)}"
