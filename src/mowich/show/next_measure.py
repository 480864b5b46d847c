"""The page of which measurements come next."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.estimate import Estimate
from mowich.show.formats import percent, with_range
from mowich.show.page import Column, Page, Part, Run, Table, TextCell, counted, paragraphs
from mowich.shown import Result


def next_page(result: Result, run: Run) -> Page:
    """What to measure, in order, and what the range would be then."""
    rows = result["rows"]
    return Page(
        title="What to measure next",
        sentences=_sentences(result),
        assumptions=[("question", f"mowich {result['question'].removeprefix('mowich ')}"), ("on", result["on"])],
        parts=(*_table(rows), *_ways(rows), *paragraphs(list(result["remains"]), "basis", heading="What remains")),
        records=rows,
        inputs=result.get("inputs", {}),
    )


def _range(node: Result) -> str:
    return with_range(Estimate.from_dict(node))


def _sentences(result: Result) -> list[str]:
    rows, offered = result["rows"], counted(result["offered"], "measurement")
    now = f"{result['number']} is {_range(result['now'])} today."
    if not rows:
        return [f"None of {offered} narrows that range.", f"{now} Measured would be on {result['on']}."]
    last = rows[-1]
    left = percent(last["left"])
    return [
        f"{counted(len(rows), 'measurement')} of {result['offered']} would narrow the range to {left}.",
        f"{now} Then it would be {_range(last['after'])}, if each comes out as predicted.",
    ]


def _table(rows: Sequence[Result]) -> list[Part]:
    if not rows:
        return []
    return [
        Table(
            title="Measurements, the one that tells most first",
            columns=[
                Column(name="", right=False),
                Column(name="kind", right=False, keep=3),
                Column(name="where", right=False, keep=4),
                Column(name="range alone", keep=2),
                Column(name="with those above"),
                Column(name="the number then", keep=1),
            ],
            rows=[
                [
                    str(i),
                    row["kind"],
                    row["where"],
                    TextCell(percent(row["alone"]), metric=f"{i}.alone"),
                    TextCell(percent(row["left"]), metric=f"{i}.left"),
                    TextCell(_range(row["after"]), metric=f"{i}.after"),
                ]
                for i, row in enumerate(rows, 1)
            ],
        )
    ]


def _ways(rows: Sequence[Result]) -> Sequence[Part]:
    """What each measurement is, the commands that make it, and how its result comes back."""
    said: list[str] = []
    for i, row in enumerate(rows, 1):
        said.append(f"{i}: {row['what']}")
        said += row["commands"]
        said.append(f"then: {row['reads']}")
    return paragraphs(said, "basis", heading="How", gap=True)
