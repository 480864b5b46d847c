"""The page of a collective: time and bus bandwidth against size, the machine level by level."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mowich.requests.rooms.collective import WEIGHTS_KIND
from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.colours import SystemLook, look_called
from mowich.show.formats import number_text, percent
from mowich.show.page import (
    Cell,
    Column,
    LateCharts,
    Page,
    Run,
    Table,
    TextCell,
    Words,
    figure,
    paragraphs,
    rows_in,
)
from mowich.shown import Result
from mowich.studies.rooms.collective.published import LARGE_B, Compared, median
from mowich.units import show, sig

_US = 1e6
"""Microseconds of a second."""


def _size_words(B: float) -> str:
    """Bytes in binary units: "1.00 GiB", "1.50 MiB", "512 B"."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if scale <= B:
            return f"{sig(B / scale)} {unit}"
    return f"{B:.0f} B"


def _longer(times: float) -> str:
    """How a slowdown is told.

    >>> _longer(1.26), _longer(1.004), _longer(1.00001)
    ('1.26 times as long as', '0.4% longer than', 'as long as')
    """
    if times >= 1.1:
        return f"{times:.3g} times as long as"
    return f"{percent(times - 1.0)} longer than" if times >= 1.0005 else "as long as"


def span(data: Result) -> str:
    """ "14.2 ms (7.90 ms .. 25.4 ms)"."""
    return f"{show(data['value'], 's')} ({show(data['low'], 's')} .. {show(data['high'], 's')})"


def page(result: Result, run: Run) -> Page:
    """Time and bus bandwidth of a collective against size, and what its time is made of; of weights by method."""
    rows, inputs = result["rows"], result["inputs"]
    if inputs["kind"] == WEIGHTS_KIND:
        return _weights_page(result, run)
    what = [*inputs["faults"], *(f"beside {b}" for b in inputs["beside"])]
    slow = f"{', '.join(what)}: the bytes take {_longer(result['slowdown'])} on a whole, idle machine"
    levels = result.get("levels") or ()
    return Page(
        title=f"{inputs['kind']} on {inputs['on']}",
        sentences=(_first(result), _sentence(result)),
        assumptions=[
            ("collective", str(inputs["kind"])),
            ("system", str(inputs["on"])),
            ("chips", str(rows[-1]["ranks"])),
            ("network", str(inputs["network"] or "the system's own")),
            ("failed", ", ".join(inputs["faults"]) or "none"),
            ("beside", ", ".join(inputs["beside"]) or "nothing"),
            *([("called by", str(result["calls"]))] if result.get("calls") else []),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        parts=(
            *([levels_table(levels)] if levels else []),
            *paragraphs(levels_notes(levels), "note"),
            _sizes(rows),
            *paragraphs([f"called by: {result['calls']}"] if result.get("calls") else [], "note", gap=True),
            *paragraphs([slow] if what else [], "note", gap=True),
            *paragraphs(result.get("warnings", ()), "warning", gap=True),
            Words(
                text="bus bandwidth: 2 (n-1)/n x bytes / time for an all-reduce, (n-1)/n for gathers, scatters and"
                " all-to-all. Formulas: mowich help collectives",
                kind="basis",
                gap=True,
            ),
        ),
        charts=LateCharts(lambda: _pictures(rows, look_called(str(inputs["on"])))),
        records=rows,
        inputs=inputs,
    )


# weights
# ----------------------------------------------------------------------------------------------------------------------


def _weights_page(result: Result, run: Run) -> Page:
    """Weights from a trainer to rollout workers: time by method, who is held by it, and what it is made of."""
    rows, inputs = result["rows"], result["inputs"]
    to, link = inputs["to"], inputs["link_Bps"]
    return Page(
        title=f"weights of {inputs['model']} from {inputs['on']} to {to or 'its own chips'}",
        sentences=(
            f"The weights move in about {show(min(float(r['time_s']['value']) for r in rows), 's')}.",
            _weights_sentence(result),
        ),
        assumptions=[
            ("model", str(inputs["model"])),
            ("trainer", f"{inputs['on']}, bf16, sharded over all of its chips"),
            (
                "workers",
                f"{inputs['workers']} on {to or inputs['on']}, {inputs['worker']} chips each, {inputs['weights']}",
            ),
            ("link between sites", "not stated" if link is None else show(link, "B/s")),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        parts=(
            _methods_table(rows),
            *paragraphs(result.get("warnings", ()), "warning", gap=True),
            Words(text="Methods and their formulas: mowich help rl-sync", kind="basis", gap=True),
        ),
        charts=LateCharts(lambda: _method_pictures(rows, look_called(str(inputs["on"])))),
        records=rows,
        inputs=inputs,
    )


_PART_WORDS = {
    "start": "control and pause",
    "gather": "bringing the weights together",
    "convert": "the conversion to the engine's format",
    "wire": "bytes between the machines",
    "load": "loading tensors by name",
}
"""Parts of a sync, in words."""


def _weights_sentence(result: Result) -> str:
    inputs, rows = result["inputs"], result["rows"]
    least = min(rows, key=lambda r: float(r["time_s"]["value"]))
    among = f", the least of {len(rows)} methods" if len(rows) > 1 else ""
    return (
        f"weights of {inputs['model']} ({show(least['bytes'], 'B')}, {least['tensors']:,.0f} tensors a device) from"
        f" {inputs['on']} to {inputs['to'] or 'workers on its own chips'}: {span(least['time_s'])} by"
        f" {least['algorithm']}{among}; most of it is"
        f" {_PART_WORDS[str(least['binds'])]}."
    )


def _methods_table(rows: Sequence[Result]) -> Table:
    def line(place: int, r: Result) -> list[Cell]:
        t = r["time_s"]
        return [
            str(r["algorithm"]),
            figure(t, f"{place}.time_s", short=show(t["value"], "s")),
            f"{show(t['low'], 's')} .. {show(t['high'], 's')}",
            str(t["grade"]),
            TextCell(number_text(r["trainer_s"]), "", f"{place}.trainer_s", short=show(r["trainer_s"], "s")),
            TextCell(number_text(r["workers_s"]), "", f"{place}.workers_s", short=show(r["workers_s"], "s")),
            _size_words(r["bytes"]),
            f"{r['tensors']:,.0f}",
            str(r["binds"]),
        ]

    return Table(
        title="Methods",
        columns=[
            Column(name="method", right=False),
            Column(name="time", unit="s", short="time"),
            Column(name="90% interval", keep=2),
            Column(name="grade"),
            Column(name="trainer held", unit="s", short="trainer held"),
            Column(name="workers held", unit="s", short="workers held"),
            Column(name="size", wide=True),
            Column(name="tensors", wide=True),
            Column(name="binds", right=False),
        ],
        rows=[line(i, r) for i, r in enumerate(rows, start=1)],
        note="Hover or focus a number for its grade and range.",
    )


def _method_pictures(rows: Sequence[Result], look: SystemLook) -> list[Chart]:
    names = [str(r["algorithm"]) for r in rows]
    parts = list(dict.fromkeys(k for r in rows for k in r["time_s"]["breakdown"]))
    return [
        charts.ranges(
            "Time with its 90% range",
            "",
            [charts.interval_bar(name, r["time_s"]) for name, r in zip(names, rows, strict=True)],
            unit="s",
            log=True,
            looks=dict.fromkeys(names, look),
        ),
        charts.stacked_bars(
            "What the time is made of",
            "Parts of a sync, one after another.",
            names,
            {k: [r["time_s"]["breakdown"].get(k, 0.0) for r in rows] for k in parts},
            unit="s",
        ),
    ]


_BINDS = {
    "latency": "latency",
    "cores": "what the cores of a chip pass on",
    "call": "the call of the software",
}
"""What binds, in words, where it is no level of the machine."""


def _first(result: Result) -> str:
    """How long the largest size takes, in a short sentence."""
    kind, largest = str(result["inputs"]["kind"]).capitalize(), result["rows"][-1]
    return f"{kind} of {_size_words(largest['bytes'])}: about {show(largest['time_s']['value'], 's')}."


def _sentence(result: Result) -> str:
    inputs, largest = result["inputs"], result["rows"][-1]
    network = f", {inputs['network']}" if inputs["network"] else ""
    binds = str(largest["binds"])
    bound = _BINDS.get(binds) or f"the {binds.replace('_', '-')} links"
    ranks = f"cores (LNC {inputs['lnc']})" if inputs.get("lnc") else "chips"
    return (
        f"{inputs['kind']} of {_size_words(largest['bytes'])} among {largest['ranks']:,} {ranks} of"
        f" {result.get('display') or inputs['on']}{network}: {span(largest['time_s'])},"
        f" {show(largest['busbw_Bps'], 'B/s')} of bus bandwidth, bound by {bound}."
    )


# a machine level by level
# ----------------------------------------------------------------------------------------------------------------------


def levels_table(levels: Sequence[Result], *, gap: bool = True) -> Table:
    """The levels of a machine: chips joined, how many such domains, bandwidth of a chip, hops between the furthest two,
    bandwidth of the worst cut."""
    columns = [
        Column(name="level", right=False, cell=lambda r: str(r["name"])),
        Column(name="kind", right=False, cell=lambda r: str(r["kind"])),
        Column(name="joins", cell=lambda r: f"{r['joins']:,}"),
        Column(name="domains", cell=lambda r: f"{r['of']:,}"),
        Column(name="per chip, one way", cell=lambda r: show(r["Bps"], "B/s")),
        Column(name="step", cell=lambda r: show(r["latency_s"], "s")),
        Column(name="hops", cell=lambda r: str(r["hops"])),
        Column(name="cut, one way", cell=lambda r: show(r["cut_Bps"], "B/s")),
    ]
    return Table(
        title="The machine, level by level",
        columns=columns,
        rows=rows_in(columns, levels),
        gap=gap,
        elsewhere="--json",
    )


def levels_notes(levels: Iterable[Result]) -> list[str]:
    return [f"{r['name']}: {r['note']}" for r in levels if r["note"]]


# sizes
# ----------------------------------------------------------------------------------------------------------------------


def _sizes(rows: Sequence[Result]) -> Table:
    def line(place: int, r: Result) -> list[Cell]:
        t = r["time_s"]
        name = f"{place}.busbw_Bps"
        return [
            _size_words(r["bytes"]),
            f"{r['ranks']:,}",
            figure(t, f"{place}.time_s", short=show(t["value"], "s")),
            f"{show(t['low'], 's')} .. {show(t['high'], 's')}",
            str(t["grade"]),
            TextCell(number_text(r["busbw_Bps"] / 1e9), "", name, short=show(r["busbw_Bps"], "B/s")),
            str(r["algorithm"]),
            str(r["binds"]),
        ]

    return Table(
        title="Sizes",
        columns=[
            Column(name="size"),
            Column(name="chips", wide=True),
            Column(name="time", unit="us", short="time", scale=_US),
            Column(name="90% interval", keep=2),
            Column(name="grade"),
            Column(name="bus bandwidth", unit="GB/s", short="bus bandwidth"),
            Column(name="algorithm", right=False),
            Column(name="binds", right=False),
        ],
        rows=[line(i, r) for i, r in enumerate(rows, start=1)],
        note="Hover or focus a number for its grade and range.",
    )


def _pictures(rows: Sequence[Result], look: SystemLook) -> list[Chart]:
    names = [_size_words(r["bytes"]) for r in rows]
    parts = list(dict.fromkeys(k for r in rows for k in r["time_s"]["breakdown"]))
    share = {k: [100 * r["time_s"]["breakdown"].get(k, 0.0) / r["time_s"]["value"] for r in rows] for k in parts}
    out = _against_size(rows, look) if len(rows) > 1 else []
    out.append(
        charts.ranges(
            "Time with its 90% range",
            "",
            [charts.interval_bar(n, r["time_s"], _US) for n, r in zip(names, rows, strict=True)],
            unit="us",
            log=True,
            looks=dict.fromkeys(names, look),
        )
    )
    if parts:
        out.append(
            charts.stacked_bars(
                "What the time is made of",
                "Bytes of each level, and the latency of steps and pipeline.",
                names,
                share,
                unit="% of the time",
            )
        )
    return out


def _against_size(rows: Sequence[Result], look: SystemLook) -> list[Chart]:
    ends = {
        word: [(r["bytes"] / 2**20, _US * float(r["time_s"][key]), _size_words(r["bytes"])) for r in rows]
        for word, key in (("time", "value"), ("90% low", "low"), ("90% high", "high"))
    }
    return [
        charts.points(
            "Time against size",
            "Both axes logarithmic.",
            ends,
            x="MiB",
            y="us",
            log_x=True,
            log_y=True,
            line=True,
            looks={
                "time": look,
                "90% low": look._replace(is_announced=True),
                "90% high": look._replace(is_announced=True),
            },
        ),
        charts.points(
            "Bus bandwidth against size",
            "As nccl-tests define it: comparable with the links.",
            {"bus bandwidth": [(r["bytes"] / 2**20, r["busbw_Bps"] / 1e9, r["binds"]) for r in rows]},
            x="MiB",
            y="GB/s",
            log_x=True,
            line=True,
            looks={"bus bandwidth": look},
        ),
    ]


def published_table(found: Sequence[Compared]) -> Table:
    """Published times of collectives beside ours, by size, as docs/records/accuracy-collectives.md has them by
    source."""
    sizes = {"all": found, "1 MiB and more": [c for c in found if c.row.data_B >= LARGE_B]}
    sizes["below 1 MiB"] = [c for c in found if c.row.data_B < LARGE_B]
    return Table(
        title="Collectives, in sample",
        columns=[Column(name="size", right=False), Column(name="n"), Column(name="median"), Column(name="worst")],
        rows=[
            [name, str(len(rows)), percent(median(rows)), percent(max(c.error for c in rows))]
            for name, rows in sizes.items()
            if rows
        ],
        note="Published tables of measured times, all sources together. The constants were fitted to them.",
    )
