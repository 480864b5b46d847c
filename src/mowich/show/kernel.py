"""The page of a kernel profile."""

from __future__ import annotations

from mowich.show import charts, charts_time
from mowich.show.formats import interval, number, percent
from mowich.show.page import Page, Result, Run, Table, estimate, paragraphs, words


def whole(curve: list[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """A curve of levels from the start of the kernel to its end."""
    first = [] if curve and curve[0][0] <= 0 else [(0.0, 0.0)]
    return [*first, *curve, (end, curve[-1][1] if curve else 0.0)]


def kernel_page(result: Result, run: Run) -> Page:
    engines = {name: e for name, e in result["engines"].items() if e["instructions"]}
    us = 1e6
    states = {s: [e[f"{s}_s"] * us for e in engines.values()] for s in ("busy", "wait", "idle")}
    waits = sorted({w for e in engines.values() for w in e.get("waits_s", {})})
    pictures = []
    curves, roof = result.get("over_time"), result["roofline"]
    if curves:
        lanes = {name: [(a * us, b * us) for a, b in spans] for name, spans in curves["engines"].items()}
        pictures.append(
            charts_time.timeline(
                "Who is at work when",
                f"Core {curves['core']}; gaps too short to see are closed. --trace writes every instruction for"
                " ui.perfetto.dev.",
                lanes,
                unit="us",
            )
        )
    seconds = float(estimate(result["time_s"]))
    if result["flop"] and result["mfu"]:
        achieved = result["flop"] / seconds
        peak = achieved / result["mfu"]
        pictures.append(
            charts_time.roofline(
                "Roofline",
                "What the kernel does per second, at its work per byte, under the roof of its core's DMA engines and"
                " Tensor Engine (bf16).",
                peak=peak,
                bandwidth=peak / roof["ridge_flop_per_B"],
                work=roof["flop_per_B"],
                achieved=achieved,
            )
        )
    pictures += [
        charts.stacked_bars(
            "Engines: busy, waiting, idle", "The three sum to the time of the kernel.", list(engines), states, unit="us"
        ),
        charts.stacked_bars(
            "Where the time rests",
            "Parts of the critical path by the fact that sets them.",
            ["latency"],
            {k: [v * us] for k, v in result["time_s"]["breakdown"].items()},
            unit="us",
        ),
    ]
    if waits:
        pictures.append(
            charts.stacked_bars(
                "Whom an engine waits for",
                "Part of its waiting time.",
                list(engines),
                {w: [e.get("waits_s", {}).get(w, 0.0) * us for e in engines.values()] for w in waits},
                unit="us",
            )
        )
    if curves:
        sbuf = whole([(t * us, v / 1024) for t, v in curves["sbuf_B"]], seconds * us)
        pictures.append(
            charts_time.levels(
                "SBUF in use",
                "KiB of one partition: a tile lives from its first write to its last use.",
                sbuf,
                x="us",
                y="KiB of a partition",
                limit=curves["sbuf_capacity_B"] / 1024,
            )
        )
        banks = whole([(t * us, v) for t, v in curves["psum_banks"]], seconds * us)
        pictures.append(
            charts_time.levels(
                "PSUM in use", "Banks of one partition.", banks, x="us", y="banks", limit=curves["psum_capacity_banks"]
            )
        )
    rows = [
        [f"{r['file']}:{r['line']}", number(r["seconds"] * us), r["cause"], r.get("remedy", "")] for r in result["top"]
    ]
    sizes = [
        [
            (
                f"{d['descriptor_low_B']:,} to {d['descriptor_high_B']:,} B"
                if d["descriptor_high_B"] is not None
                else f"from {d['descriptor_low_B']:,} B"
            ),
            f"{d['descriptors']:,}",
            f"{d['bytes']:,}",
            percent(d["efficiency"]),
        ]
        for d in result.get("dma", ())
    ]
    time = estimate(result["time_s"])
    busiest = max(engines, key=lambda name: engines[name]["busy_s"], default="-")
    return Page(
        title=f"{result.get('kernel') or 'Kernel'} on {result['target']}",
        sentences=(
            f"{interval(time, us)} us on {result['target']}; the {busiest} engine works most; by its FLOP per byte"
            f" {roof['bound']} sets the ceiling.",
        ),
        assumptions=[
            ("instructions", f"{result['instructions']:,}"),
            ("MFU", percent(result["mfu"])),
            ("MBU", percent(result["mbu"])),
            ("FLOP per byte", f"{number(roof['flop_per_B'])}, ridge {number(roof['ridge_flop_per_B'])}"),
            ("SBUF peak per partition", f"{result['sbuf_peak_B']:,} B"),
            ("PSUM banks", str(result["psum_peak_banks"])),
            ("grade", time.grade),
        ],
        parts=(
            *paragraphs(result.get("warnings", ()), "warning"),
            Table(title="Lines that cost most", columns=words(["line", "us", "cause", "remedy"]), rows=rows),
            Table(
                title="DMA by size of descriptor",
                columns=words(["size", "descriptors", "bytes", "efficiency"]),
                rows=sizes,
            ),
        ),
        charts=pictures,
        inputs=result.get("inputs", {}),
    )
