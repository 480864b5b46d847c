"""The pages of a kernel: its profile, and what a run of it gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.estimate import Estimate
from mowich.show import charts, charts_time
from mowich.show.charts import Chart
from mowich.show.colours import engine_colour
from mowich.show.formats import UNKNOWN, first_sentence, headed, number_text, percent
from mowich.show.page import (
    NOTHING,
    Cell,
    Column,
    Details,
    LateCharts,
    More,
    Page,
    Part,
    Run,
    Table,
    TextCell,
    Words,
    estimate_of,
    paragraphs,
    rows_in,
)
from mowich.shown import Result
from mowich.studies.fact_labels import kernel_label
from mowich.sums import float_sum
from mowich.units import show


def engines_of(result: Result) -> Mapping[str, Result]:
    """The engines that ran an instruction."""
    return {name: e for name, e in result["engines"].items() if e["instructions"]}


def kernel_page(result: Result, run: Run, *, path: bool = False) -> Page:
    """How long a kernel takes, what binds and which lines cost. path: a terminal shows the critical path too."""
    engines, roof, time = engines_of(result), result["roofline"], estimate_of(result["time_s"])
    busiest = max(engines, key=lambda name: engines[name]["busy_s"], default=NOTHING)
    name, cores = result.get("kernel") or "Kernel", result.get("cores", 1)
    where = f"{result['target']}, {cores} cores" if cores > 1 else str(result["target"])
    if time.value is None:
        return Page(
            title=f"{name} on {result['target']}",
            sentences=headed(f"{name} on {where}: no time and no grade, because {time.reason}.", "No time is known."),
            parts=tuple(paragraphs(result.get("warnings", ()), "warning")),
            records=[_record(result)],
            inputs=result.get("inputs", {}),
        )
    low, high = (show(x, "s") for x in (time.low, time.high))
    return Page(
        title=f"{result.get('kernel') or 'Kernel'} on {result['target']}",
        sentences=(
            first_sentence(
                f"{name} on {where}: {show(time.value, 's')}, grade {time.grade}.",
                f"The kernel takes {show(time.value, 's')}, grade {time.grade}.",
            ),
            f"{name} on {where}: {show(time.value, 's')} ({low} .. {high}), grade {time.grade},"
            f" {result['instructions']:,} instructions;",
            f"the {'DMA engines work' if busiest == 'dma' else f'{busiest} engine works'} most"
            + (f"; at its FLOP per byte, {roof['bound']} sets the ceiling." if result["flop"] else "."),
        ),
        assumptions=[
            ("instructions", f"{result['instructions']:,}"),
            ("MFU", percent(result["mfu"])),
            ("MBU", percent(result["mbu"])),
            ("FLOP per byte", f"{number_text(roof['flop_per_B'])}, ridge {number_text(roof['ridge_flop_per_B'])}"),
            ("SBUF peak per partition", f"{result['sbuf_peak_B']:,} B"),
            ("PSUM banks", str(result["psum_peak_banks"])),
            ("grade", time.grade),
        ],
        parts=(
            *paragraphs([_shares(result, time), _peaks(result)], "caption"),
            *paragraphs([*_spills(result), *_risks(result)], "note"),
            *paragraphs(result.get("warnings", ()), "warning"),
            *_tables(result, engines, time, path),
            Words(text="Next: mowich kernel advise says what an edit gains, and runs it", kind="next", indent=0),
        ),
        charts=LateCharts(lambda: _pictures(result, engines, roof)),
        records=[_record(result)],
        inputs=result.get("inputs", {}),
    )


def _shares(result: Result, time: Estimate) -> str:
    """What of the published rates the kernel reaches, and what the time rests on."""
    roof = result["roofline"]
    against = (
        f"; {roof['flop_per_B']:,.0f} FLOP/B against {roof['ridge_flop_per_B']:,.0f} at the ridge: {roof['bound']} side"
        if result["flop"]
        else ""
    )
    guessed = time.coverage.get("grade D", 0.0)
    return (
        f"MFU {result['mfu']:.1%}, MBU {result['mbu']:.1%}{against}; {guessed:.1%} of the time rests on estimated"
        " constants (grade D)"
    )


def _peaks(result: Result) -> str:
    return f"peak: SBUF {result['sbuf_peak_B']:,} B of a partition, PSUM {result['psum_peak_banks']} banks"


def _spills(result: Result) -> list[str]:
    """Bytes that live tiles cost where they exceed SBUF."""
    if not result["spill_B"]:
        return []
    policy = f" ({result['spill_policy']})" if result.get("spill_policy") else ""
    return [f"spills: {result['spill_B']:,} bytes stored and reloaded, as live tiles exceed SBUF{policy}"]


def _risks(result: Result) -> list[str]:
    """What no published kernel identifies: the first sets the range of the time, the others lie within it."""
    return [
        f"not known, so the range {'is' if i == 0 else 'includes'} {r['low']:.2f} to {r['high']:.2f} times: {r['why']}"
        for i, r in enumerate(result.get("risks", ()))
    ]


def _tables(result: Result, engines: Mapping[str, Result], time: Estimate, path: bool) -> list[Part]:
    total = float(time)
    waits = {name: list(e.get("waits_s", {}).items())[:3] for name, e in engines.items()}
    used: list[list[Cell]] = [
        [
            name,
            *(show(e[f"{state}_s"], "s") for state in ("busy", "wait", "idle")),
            ", ".join(f"{who} {show(seconds, 's')}" for who, seconds in waits[name]) or NOTHING,
        ]
        for name, e in engines.items()
    ]
    parts: list[list[Cell]] = [
        [TextCell(kernel_label(fact), fact), show(seconds, "s"), f"{seconds / total:.1%}" if total else UNKNOWN]
        for fact, seconds in result["time_s"]["breakdown"].items()
    ]
    columns = [
        Column(
            name="DMA descriptors",
            right=False,
            cell=lambda d: (
                f"{d['descriptor_low_B']:,} to {d['descriptor_high_B']:,} B"
                if d["descriptor_high_B"] is not None
                else f"from {d['descriptor_low_B']:,} B"
            ),
        ),
        Column(name="count", cell=lambda d: f"{d['descriptors']:,}"),
        Column(name="bytes", cell=lambda d: f"{d['bytes']:,}"),
        Column(name="of the DMA engines' rate", cell=lambda d: percent(d["efficiency"])),
    ]
    tables = [
        Table(
            title="Engines",
            columns=[
                Column(name="engine", right=False),
                *(Column(name=state) for state in ("busy", "waiting", "idle")),
                Column(name="waits for", right=False),
            ],
            rows=used,
            note="Busy, waiting and idle sum to the time of the kernel.",
            elsewhere="--json",
        ),
        Table(
            title="DMA by size of descriptor",
            columns=columns,
            rows=rows_in(columns, result.get("dma", ())),
            elsewhere="--json",
        ),
        Table(
            title="Critical path by cost",
            columns=[Column(name="critical path", right=False), Column(name="time"), Column(name="share")],
            rows=parts,
            wide=not path,
            elsewhere="--json",
        ),
        _lines(result, total),
    ]
    return [t for t in tables if t.rows]


def _lines(result: Result, total: float) -> Table:
    """The costliest lines; where they have no room, causes and remedies below."""
    names = [f"{r['file']}:{r['line']}" for r in result["top"]]
    return Table(
        title="Lines that cost most",
        columns=[
            Column(name="costliest lines", right=False),
            Column(name="time"),
            Column(name="share"),
            Column(name="cause", right=False, keep=2),
            Column(name="remedy", right=False, keep=1),
        ],
        rows=[
            [
                name,
                show(r["seconds"], "s"),
                f"{r['seconds'] / total:.0%}" if total else UNKNOWN,
                r["cause"],
                r.get("remedy") or NOTHING,
            ]
            for name, r in zip(names, result["top"], strict=True)
        ],
        details=Details(
            title="What would make them cheaper",
            when="remedy",
            rows=[
                (name, [More("cause", r["cause"]), More("", r.get("remedy") or NOTHING)], ())
                for name, r in zip(names, result["top"], strict=True)
            ],
            instead_of=("cause",),
        ),
        elsewhere="--json",
    )


def _record(result: Result) -> Result:
    """The figures of the kernel as one row."""
    return {k: v for k, v in result.items() if not isinstance(v, list) and k not in ("schema", "version", "over_time")}


def _rests_words(parts: Mapping[str, float]) -> str:
    """What most of a kernel's time is."""
    whole = float_sum(parts.values())
    if not whole:
        return ""
    most = max(parts, key=lambda k: parts[k])
    return f"Most of the time: {kernel_label(most)}, {parts[most] / whole:.0%}"


_US = 1e6
"""Microseconds of a second."""


def _pictures(result: Result, engines: Mapping[str, Result], roof: Result) -> list[Chart]:
    """Time by engine, by cause and over the run of the kernel, and how far it is from its roof."""
    curves = result.get("over_time")
    return [
        *([_at_work(curves)] if curves else []),
        *([_roofline(result, roof)] if result["flop"] and result["mfu"] else []),
        *_bars(result, engines),
        *(_in_use(curves, float(estimate_of(result["time_s"]))) if curves else []),
    ]


def _at_work(curves: Result) -> Chart:
    """The spans of each engine of a core."""
    lanes = {name: [(a * _US, b * _US, name) for a, b in spans] for name, spans in curves["engines"].items()}
    return charts_time.timeline_chart(
        "Who is at work when",
        f"Core {curves['core']}; gaps too short to see are closed. --trace writes every instruction for"
        " ui.perfetto.dev.",
        lanes,
        unit="us",
        looks={name: {"color": engine_colour(name).light} for name in lanes},
    )


def _roofline(result: Result, roof: Result) -> Chart:
    achieved = result["flop"] / float(estimate_of(result["time_s"]))
    peak = achieved / result["mfu"]
    return charts_time.roofline(
        "Roofline",
        "What the kernel does per second, at its work per byte, under the roof of its core's DMA engines and"
        " Tensor Engine (bf16).",
        peak=peak,
        bandwidth=peak / roof["ridge_flop_per_B"],
        work=roof["flop_per_B"],
        achieved=achieved,
    )


def _bars(result: Result, engines: Mapping[str, Result]) -> list[Chart]:
    """The time of each engine, what the whole time rests on, and whom engines wait for."""
    time, parts, every = estimate_of(result["time_s"]), result["time_s"]["breakdown"], list(engines)
    states = {
        words: [_US * e[f"{state}_s"] for e in engines.values()]
        for state, words in (("busy", "busy"), ("wait", "waiting"), ("idle", "idle"))
    }
    waits = {
        who: [_US * e.get("waits_s", {}).get(who, 0.0) for e in engines.values()]
        for who in sorted({who for e in engines.values() for who in e.get("waits_s", {})})
    }
    out = [
        charts.stacked_bars(
            "Engines: busy, waiting, idle", "The three sum to the time of the kernel.", every, states, unit="us"
        ),
        charts.stacked_bars(
            "Where the time rests",
            "Parts of the critical path by the fact that sets them.",
            [str(result.get("kernel") or "kernel")],
            {kernel_label(fact): [_US * seconds] for fact, seconds in parts.items()},
            unit="us",
            ends=[(_US * time.low, _US * time.high) if time.low is not None and time.high is not None else None],
            shares=True,
            finding=_rests_words(parts),
        ),
    ]
    if waits:
        fills = {who: {"color": engine_colour(who).light} for who in waits}
        note = "Part of its waiting time."
        out.append(charts.stacked_bars("Whom an engine waits for", note, every, waits, unit="us", fills=fills))
    return out


def _in_use(curves: Result, seconds: float) -> list[Chart]:
    """The memories of a core from the start of the kernel to its end."""

    def whole(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        first = [] if curve and curve[0][0] <= 0 else [(0.0, 0.0)]
        last = (_US * seconds, curve[-1][1] if curve else 0.0)
        return [*first, *((_US * time, level) for time, level in curve), last]

    return [
        charts_time.levels(
            "SBUF in use",
            "KiB of one partition: a tile lives from its first write to its last use.",
            whole([(time, level / 1024) for time, level in curves["sbuf_B"]]),
            x="us",
            y="KiB of a partition",
            limit=curves["sbuf_capacity_B"] / 1024,
        ),
        charts_time.levels(
            "PSUM in use",
            "Banks of one partition.",
            whole(curves["psum_banks"]),
            x="us",
            y="banks",
            limit=curves["psum_capacity_banks"],
        ),
    ]


def run_page(result: Result, run: Run) -> Page:
    """What a kernel returned: shape, format and figures of every output."""
    cores = f", {result['cores']} cores" if result["cores"] > 1 else ""

    def line(row: Result) -> list[Cell]:
        numbers = [f"{row[k]:.6g}" if row.get(k) is not None else UNKNOWN for k in ("min", "max", "mean")]
        return [str(row["output"]), f"{row['dtype']}{row['shape']}", *(numbers if "min" in row else [NOTHING] * 3)]

    head = [Column(name="output"), Column(name="array", right=False), *(Column(name=k) for k in ("min", "max", "mean"))]
    outputs = [Table(title="Outputs", columns=head, rows=[line(r) for r in result["outputs"]], elsewhere="--json")]
    return Page(
        title=f"{result['kernel']} on NeuronCore-v{result['generation']}",
        sentences=headed(
            f"{result['kernel']} on NeuronCore-v{result['generation']}{cores}: {result['instructions']} instructions",
            f"The kernel ran: {result['instructions']} instructions.",
        ),
        parts=(*(outputs if result["outputs"] else ()), *paragraphs(result["warnings"], "warning")),
        records=result["outputs"],
    )
