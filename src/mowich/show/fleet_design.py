"""The part of the page of a fleet about a system on the table: --what-if."""

from __future__ import annotations

from functools import partial

from mowich.show.fleet_amounts import dearer, does_more
from mowich.show.fleet_idle import captioned
from mowich.show.formats import interval, number_text, percent
from mowich.show.page import (
    NOTHING,
    Column,
    Part,
    Table,
    Words,
    estimate_of,
    rows_in,
)
from mowich.shown import Result
from mowich.units import sig


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


def design_sentences(found: Result) -> list[str]:
    """What a system on the table does, and what it does to the cost."""
    share = found["share_after"].get(found["system"], 0.0)
    before, goal = found["objective_before"], found.get("goal", "cost")
    changes = dearer if goal == "cost" else partial(does_more, goal)
    then = (
        "; without it there is no plan."
        if before is None
        else f", and the plan {changes(found['objective_after'], before)}."
    )
    near = next((k for k in found["knobs"] if k["matters_at"] is not None), None)
    first = (
        "None of its properties changes that, from a quarter to four times today's."
        if near is None
        else f"The nearest change that would matter is its {near['name']}:"
        f" {far_from_mattering(near['matters_at'])} makes that {percent(near['share_there'])}."
    )
    return [f"With {found['system']} on the table it does {percent(share)} of all {share_said(found)}{then}", first]


def share_said(found: Result) -> str:
    """What a share is taken of."""
    return str(found.get("share_of", "chip-hours"))


def design_parts(found: Result) -> list[Part]:
    """The report of --what-if."""
    before, after, of = found["share_before"], found["share_after"], share_said(found)
    shares = Table(
        title=f"Share of {of}",
        columns=[Column(name="system", right=False), Column(name="without"), Column(name="with")],
        rows=[
            [s, percent(before[s]) if s in before else NOTHING, percent(after.get(s, 0.0))]
            for s in dict.fromkeys([*before, *after])
        ],
        gap=False,
    )
    columns = [
        Column(name="property", right=False, cell=lambda k: k["name"]),
        Column(name="at 90%", cell=lambda k: percent(k["share_at_90"])),
        Column(name="at 110%", cell=lambda k: percent(k["share_at_110"])),
        Column(name="would matter at", cell=lambda k: far_from_mattering(k["matters_at"])),
        Column(name="share there", cell=lambda k: NOTHING if k["share_there"] is None else percent(k["share_there"])),
    ]
    knobs = Table(
        title="Which property matters",
        columns=columns,
        rows=rows_in(columns, found["knobs"]),
        note=f"Share of {of}. It matters where it moves the share by one point. Beyond 10%, speeds go on as the"
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
        *captioned(f"Share of {of}", shares),
        *captioned(f"Which property matters (share of {of} at 90% and 110% of it)", knobs),
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
