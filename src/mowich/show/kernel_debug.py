"""The page of a kernel that was looked at while it ran: its state at a stop, tiles, how one changes, where it leaves a
reference."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.formats import first_sentence, headed, percent
from mowich.show.page import (
    NOTHING,
    Cell,
    Column,
    LateCharts,
    Page,
    Part,
    Run,
    Table,
    counted,
    paragraphs,
    word_columns,
)
from mowich.shown import Result
from mowich.units import show

_LEFT = 1e-6
"""What rounding in float32 leaves of a sum that should be 0, as a share of its largest term."""
_ROWS, _COLUMNS, _CHANGES = 16, 8, 24
"""Rows and columns of a tile, and changes of one, that a terminal shows."""

_FIGURES = (
    Column(name="written", keep=3),
    *(Column(name=k, keep=4 if k == "mean" else 5) for k in ("min", "mean", "max")),
    Column(name="not finite", keep=7),
)
_NO_FIGURES = [NOTHING] * len(_FIGURES)


def _place(row: Result) -> str:
    return f"{os.path.basename(row['file'])}:{row['line']}"


def _number(value: object) -> str:
    return NOTHING if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _mean(row: Result) -> float | None:
    """The mean of a row, to the digits that it has beside the largest value: what is left of a sum that cancels is no
    number."""
    if row["mean"] is None:
        return None
    step = max(abs(row["min"]), abs(row["max"])) * _LEFT
    return round(row["mean"] / step) * step if step else 0.0


def _share(share: float | None) -> str:
    """A difference as a share; None: infinite, as JSON has it."""
    if share is None or math.isinf(share):
        return "infinite"
    return f"below {_LEFT:g}" if 0 < share < _LEFT else f"{share:.2g}"


def _figures(row: Result) -> list[Cell]:
    """Figures of the values of a tile; none where they are not known."""
    if row.get("written") is None:
        return [*_NO_FIGURES]
    odd = [f"{row[k]:,} {word}" for k, word in (("nan", "NaN"), ("infinite", "infinite")) if row[k]]
    shown = (_number(x) for x in (row["min"], _mean(row), row["max"]))
    return [percent(row["written"]), *shown, ", ".join(odd) or NOTHING]


def _with_figures(
    before: Sequence[Column],
    rows: Sequence[tuple[Sequence[Cell], Result, Sequence[Cell]]],
    behind: Sequence[Column] = (),
) -> tuple[list[Column], list[list[Cell]]]:
    """Columns and rows with figures of values between others. That all was written and that all is finite is left out.
    rows: (cells before, the row of the answer, cells behind)."""
    figures = [_figures(row) for _, row, _ in rows]
    usual = {0: ("100%", NOTHING), len(_FIGURES) - 1: (NOTHING,)}
    kept = [i for i in range(len(_FIGURES)) if not all(f[i] in usual.get(i, ()) for f in figures)]
    cells = [[*a, *(f[i] for i in kept), *b] for (a, _, b), f in zip(rows, figures, strict=True)]
    return [*before, *(_FIGURES[i] for i in kept), *behind], cells


def _shape(row: Result) -> str:
    return f"{row['dtype']}{row['shape']}"


def debug_page(result: Result, run: Run) -> Page:
    """What was asked, in the order in which one reads it."""
    stop, found, watch = result["stop"], result["first_difference"], result["watch"]
    changes = watch["changes"] if watch else []
    parts: list[Part] = []
    if stop:
        parts += _stop_parts(stop)
    for tile in result["prints"]:
        parts += _values(tile)
    if watch:
        parts += _watch_parts(watch)
    if found:
        parts += _difference_parts(found)
    records: Sequence[Result] = stop["tiles"] if stop else changes or result["prints"]
    if found:
        records = [found["difference"]] if found["difference"] else found.get("compared", [])
    return Page(
        title=f"{result['kernel']} on NeuronCore-v{result['generation']}",
        sentences=[*_sentences(result)],
        parts=parts,
        charts=LateCharts(lambda: [_picture(watch)] if changes else []),
        records=[{k: v for k, v in row.items() if not isinstance(v, list)} for row in records],
    )


def _sentences(result: Result) -> Iterator[str]:
    stop, found = result["stop"], result["first_difference"]
    kernel = f"{result['kernel']} on NeuronCore-v{result['generation']}"
    if stop and stop["refused"]:
        yield first_sentence(f"Stopped at {_place(stop)}, where it fails.", "Stopped at a line that fails.")
        yield f"{kernel} stopped at {_place(stop)}, where it fails: {stop['refused']}."
    elif stop:
        yield first_sentence(f"Stopped before {_place(stop)}.", "Stopped before the line that was asked for.")
        yield (
            f"{kernel} stopped before {_place(stop)}: {stop['opcode']} on {stop['engine']},"
            f" instruction {stop['instruction']} of core {stop['core']}, number {stop['turn']} of this line."
        )
    elif found:
        d = found["difference"]
        if d is None:
            yield from headed(
                f"{kernel}: no instruction leaves the reference (tolerance {found['tolerance']:g}).",
                "No instruction leaves the reference.",
            )
        else:
            got = "nothing" if d["got"] is None else _number(d["got"])
            yield first_sentence(
                f"{_place(d)} is the first to leave the reference.", "An instruction leaves the reference."
            )
            yield (
                f"{kernel}: {_place(d)} is the first to leave the reference: {d['opcode']} gives"
                f" {d['tile']}{d['index']} = {got}, the reference has {_number(d['wanted'])}."
            )
    else:
        yield from headed(f"{kernel} ran to its end.", "The kernel ran to its end.")


def _stop_parts(stop: Result) -> list[Part]:
    columns, rows = _with_figures(
        [Column(name=k, right=False) for k in ("", "operand", "tile", "array", "memory")],
        [([o["role"], o["operand"], o["tile"] or NOTHING, _shape(o), o["memory"]], o, []) for o in stop["operands"]],
    )
    operands = Table(title="The next instruction", columns=columns, rows=rows, elsewhere="--json")
    columns, rows = _with_figures(
        [*(Column(name=k, right=False) for k in ("tile", "array", "memory")), Column(name="bytes", keep=4)],
        [
            (
                [", ".join(t["names"]), _shape(t), t["memory"], f"{t['bytes']:,}"],
                t,
                [_place(t["written_by"]) if t["written_by"] else NOTHING],
            )
            for t in stop["tiles"]
        ],
        [Column(name="written by", right=False, keep=6)],
    )
    tiles = Table(
        title="Tiles that the kernel holds",
        columns=columns,
        rows=rows,
        legend=["bytes: of a partition, in HBM of the whole tensor; figures: of the elements that were written"],
        elsewhere="--json",
    )
    use = (
        f"SBUF {stop['sbuf_B']:,} of {stop['sbuf_capacity_B']:,} B of a partition, PSUM {stop['psum_banks']} of"
        f" {stop['psum_capacity_banks']} banks, in tiles that were written"
    )
    return [
        *paragraphs([stop["statement"]], "caption"),
        *([operands] if stop["operands"] else []),
        *paragraphs(["Tiles that the kernel holds"], "heading", indent=0, gap=True),
        tiles,
        *paragraphs([use], "note"),
        *_queues(stop),
    ]


def _next(first: Result | None) -> str:
    """The first instruction of a queue; those that the compiler adds come from no line."""
    if first is None:
        return NOTHING
    return f"{first['opcode']} {_place(first)}" if first["file"] else str(first["opcode"])


def _queues(stop: Result) -> list[Part]:
    if stop["begins_s"] is None or not stop["engines"]:
        return []
    queues = Table(
        title="Engines",
        columns=[
            Column(name="engine", right=False),
            *(Column(name=k) for k in ("issued", "done", "running", "waiting")),
            Column(name="next", right=False),
            Column(name="free at"),
        ],
        rows=[
            [
                e["engine"],
                *(f"{e[k]:,}" for k in ("issued", "done", "running", "waiting")),
                _next(e["next"]),
                show(e["free_s"], "s"),
            ]
            for e in stop["engines"]
        ],
        elsewhere="--json",
    )
    at = f"Engines at {show(stop['begins_s'], 's')}, when the next instruction can begin"
    return [*paragraphs([at], "heading", indent=0, gap=True), queues]


def _matrix(values: object, at: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], list[object]]]:
    """The rows of nested lists, each with its place."""
    if not isinstance(values, list):
        yield at, [values]
    elif values and isinstance(values[0], list):
        for i, inner in enumerate(values):
            yield from _matrix(inner, (*at, i))
    else:
        yield at, values


def _values(tile: Result) -> list[Part]:
    rows = [*_matrix(tile["values"])]
    wide = max((len(row) for _, row in rows), default=0)
    cells: list[list[Cell]] = [
        [", ".join(map(str, at)) or NOTHING, *(_number(v) for v in row[:_COLUMNS])] for at, row in rows
    ]
    table = Table(
        title=tile["tile"],
        columns=[Column(name="row"), *(Column(name=str(i), keep=50) for i in range(min(wide, _COLUMNS)))],
        rows=cells,
        most=_ROWS,
        elsewhere="--json",
    )
    head = f"{tile['tile']}: {_shape(tile)} in {tile['memory']}"
    more = [f"{wide - _COLUMNS:,} more columns (--json)"] if wide > _COLUMNS else []
    if tile["written"] < 1:
        more.append(f"{percent(1 - tile['written'])} of the elements were never written: {NOTHING}")
    return [*paragraphs([head], "heading", indent=0, gap=True), table, *paragraphs(more, "note")]


def _watch_parts(watch: Result) -> list[Part]:
    columns, rows = _with_figures(
        [Column(name="instruction"), Column(name="tile"), *(Column(name=k, right=False) for k in ("opcode", "line"))],
        [([f"{c['instruction']:,}", str(c["tile"]), c["opcode"], _place(c)], c, []) for c in watch["changes"]],
    )
    table = Table(
        title=f"{watch['tile']} after each instruction that writes to it",
        columns=columns,
        rows=rows,
        most=_CHANGES,
        elsewhere="--json",
    )
    head = f"{watch['tile']} after each instruction that writes to it: {counted(len(rows), 'change')}"
    return [*paragraphs([head], "heading", indent=0, gap=True), *([table] if rows else [])]


def watched_points(watch: Result) -> dict[str, list[tuple[float, float, str]]]:
    """Largest, mean and smallest value of a watched tile over the instructions that write to it."""
    known = [{**c, "mean": _mean(c)} for c in watch["changes"] if c["mean"] is not None]
    return {
        key: [(float(c["instruction"]), float(c[key]), f"{c['opcode']} {_place(c)}") for c in known]
        for key in ("max", "mean", "min")
    }


def _picture(watch: Result) -> Chart:
    return charts.points(
        f"How {watch['tile']} changes",
        "Largest, mean and smallest of the finite values, after each instruction that writes to it.",
        watched_points(watch),
        x="instruction",
        y="value",
        line=True,
    )


def _difference_parts(found: Result) -> list[Part]:
    d = found["difference"]
    parts: list[Part] = []
    if d is not None:
        said = [
            f"{d['differing']:,} of {d['of']:,} elements of {d['tile']} differ by more than {found['tolerance']:g} of"
            f" the element and the root mean square; this one by {_share(d['share'])}",
            *([d["note"]] if d["note"] else []),
        ]
        following = f"--stop {_place(d)}:{d['turn']} shows the state before this instruction"
        parts += [
            *paragraphs([d["statement"]], "caption"),
            *paragraphs(said, "note"),
            *paragraphs([following], "next"),
        ]
    if found["reference"] == "kernel":
        n = found["instructions"]
        matched = (
            f"{n['paired']:,} instructions have a counterpart in the reference, {n['unpaired']:,} have none;"
            f" {n['missing']:,} of the reference have none"
        )
        return [*parts, *paragraphs([matched], "note")]
    rows: list[list[Cell]] = [
        [c["name"], f"{c['tiles']:,}", f"{c['of']:,}", _share(c["share"]), percent(c["differing"] / c["of"])]
        for c in found["compared"]
    ]
    table = Table(
        title="Compared",
        columns=word_columns(
            ["name", "tiles", "elements", "largest difference", "elements that differ"], left=["name"]
        ),
        rows=rows,
        elsewhere="--json",
    )
    return [*parts, *([table] if rows else [])]


__all__ = ["debug_page", "watched_points"]
