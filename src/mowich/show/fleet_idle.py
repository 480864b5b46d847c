"""The part of the page of a fleet that says what stands idle, and why."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.show.fleet_amounts import is_work
from mowich.show.formats import percent
from mowich.show.page import (
    Column,
    Part,
    Table,
    Words,
    paragraphs,
    rows_in,
)
from mowich.shown import Result
from mowich.studies.ranking import names_listed
from mowich.units import sig

MUCH_IDLE = 0.1
"""A system idle for a larger share of its time is news, where it is also `MUCH_OF_ALL` of all idle chips."""

MUCH_OF_ALL = 0.05


REASON_WORDS = {
    "nothing asked": "no work is asked for",
    "cannot": "it does not run what is asked",
    "night": "waits for the peak of the day",
    "stack": "its work is not ported to it",
    "dearer": "others take less energy a token",
    "done": "all its work is done",
    "full": "no more of its work is welcome",
}
"""Reason -> a few words, for a table that a terminal has room for."""


def count_text(value: float) -> str:
    """Units or chips: whole where they are whole, with thousands apart."""
    return f"{round(value):,}" if abs(value - round(value)) < 1e-3 or value >= 1000 else sig(value, 3)


def captioned(caption: str, table: Table) -> list[Part]:
    """A table under its caption."""
    return [Words(text=f"{caption}:", kind="caption", gap=True), table]


def idle_sentences(result: Result) -> list[str]:
    """What stands idle and why, most first: the systems that are news. It holds for the demand of the scenario, and
    says where that comes from."""
    found = result.get("idle", ())
    total = sum(i["chips"] for i in found)
    much = [i for i in found if i["share"] > MUCH_IDLE and i["chips"] > MUCH_OF_ALL * total]
    come = result.get("demand_from")
    source = f"its demand is {come}" if come else "it does not say where its demand comes from"
    given = f"If no more is {'welcome' if is_work(result) else 'asked for'} than this scenario says ({source}),"
    return [
        f"{given if place == 0 else 'And'} {count_text(i['chips'])} chips of {i['system']} stand idle"
        f" ({percent(i['share'])} of its time): {idle_reason(i)}."
        for place, i in enumerate(much)
    ]


def all_at_work(result: Result) -> list[str]:
    """That nothing stands idle, where nothing much does."""
    if not result["use"] or idle_sentences(result):
        return []
    return [f"No system stands idle for more than {percent(MUCH_IDLE)} of its time."]


def idle_reason(i: Result) -> str:
    """Why a system stands idle, in words, without a full stop."""
    others = list(i["others"])
    who, do = names_listed(others), "do" if len(others) > 1 else "does"
    less = percent(1 - (i["energy"] or 0.0))
    said = {
        "nothing asked": "no work that may run on it is asked for then",
        "cannot": f"it runs nothing that is asked for then ({names_listed(list(i['tasks']))})",
        "night": f"the peak of the day needs it ({names_listed(list(i['tasks']))}), and no work fills its other hours",
        "stack": f"{who} {do} its work, and porting that to its software too would cost more than it saves",
        "dearer": f"{who}, paid for as well, {do} its work with {less} less energy a token",
        "done": "less work is asked for than stands, and all that it can do is done",
        "full": "no more is welcome of what it can do, or another limit holds it back",
    }[str(i["reason"])]
    why_not: dict[str, list[str]] = {}
    for task, why in i["cannot"].items():
        why_not.setdefault(str(why).partition(";")[0], []).append(str(task))
    return "; ".join([said, *(f"it does not run {names_listed(tasks)}: {why}" for why, tasks in why_not.items())])


def idle_parts(found: Sequence[Result]) -> list[Part]:
    if not found:
        return []
    columns = [
        Column(name="system", right=False, cell=lambda i: i["system"]),
        Column(name="idle chips", cell=lambda i: count_text(i["chips"])),
        Column(name="of its time", cell=lambda i: percent(i["share"])),
        Column(name="why", right=False, cell=lambda i: REASON_WORDS[str(i["reason"])]),
        Column(name="in words", right=False, wide=True, cell=lambda i: idle_reason(i)),
        Column(name="its work", right=False, wide=True, cell=lambda i: names_listed(list(i["tasks"]))),
    ]
    table = Table(
        title="What stands idle, and why",
        columns=columns,
        rows=rows_in(columns, found),
        note="Mean of the periods in which it stands; the reason of most of them.",
        gap=False,
    )
    why_not = [f"{t} does not run on {i['system']}: {why}." for i in found for t, why in i["cannot"].items()]
    return [*captioned("What stands idle, and why", table), *paragraphs(why_not, "note")]
