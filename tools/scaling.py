"""Writes docs/records/scaling.md and docs/images/scaling.svg: scaling curves, measured and predicted, in level and in slope.

A curve is a `scaling_group` of the shipped training rows with three sizes or more. Throughput per chip against chips,
the measured points, our prediction with its 90% interval; the slope is the change of ln(tokens/s per chip) per doubling
of the chips, by least squares. Nothing is fitted here. Below the curves: what an answer costs in processor time and
memory, for 64 to a million chips, from the file that `--measure` writes (each question in a process of its own).

    python tools/scaling.py
    python tools/scaling.py --measure
"""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pages import write

from mowich.errors import EXIT_INFEASIBLE
from mowich.evidence.measured_tables import published, read_csv
from mowich.evidence.rows import Case, read_cases
from mowich.evidence.scores import RowResult
from mowich.evidence.validate import predict, validate_rows
from mowich.facts import load_facts
from mowich.facts.load import Facts

DOCS = Path(__file__).resolve().parents[1] / "docs"
PANELS = (
    ("MaxText on TPU v5e, weak scaling", ("maxtext-v5e-16b-weak", "maxtext-v5e-32b-weak", "maxtext-v5e-64b-weak")),
    ("175B on A100, fixed batch (MegaScale paper)", ("megascale-MegaScale-gbs6144", "megascale-Megatron-LM-gbs6144")),
    (
        "Megatron-Core, weak scaling on H100; MaxText on TPU v5p",
        ("megatron-core-weak-H100", "maxtext-v5p-128b", "maxtext-v5p-readme"),
    ),
    (
        "MLPerf: Llama 3.1 405B and GPT-3, submitted sizes",
        ("mlperf-v5.0-llama31_405b-H100", "mlperf-v5.0-llama31_405b-GB200", "mlperf-v4.0-gpt3-H100"),
    ),
    (
        "Llama 3.1 405B and Nemotron-4 on H100 (DGX Cloud)",
        ("dgxc-25.04.02-Llama_3.1_405B-H100-fp8-pretrain", "dgxc-25.04.02-Nemotron-4_15B-H100-fp8-pretrain"),
    ),
    (
        "SC21 Megatron (growing models) and InternEvo on A100",
        ("megatron-sc21-weak-A100", "internevo-7b-tp1-ZeRO-1overallDP", "internevo-7b-tp1-ZeRO-1within8GPUs"),
    ),
)
LLAMA_ROW = "M01507"
LLAMA_405B = ((8192, 64, 1, 2048, 8192, 430), (16384, 128, 1, 2048, 8192, 400), (16384, 8, 16, 128, 131072, 380))
"""Llama 3 405B as it was trained, Table 4 of The Llama 3 Herd of Models: GPUs, DP, CP, sequences, length, TFLOP/s per
GPU. DP of the last is what its devices leave (the table prints 4)."""
COSTS = Path(__file__).with_name("scaling_costs.csv")
COST_SIZES = (64, 1024, 16_384, 131_072, 1_000_000)
TRAIN = "--train --tokens 30T --seq 4096 --batch 64M"
QUESTIONS = {
    "nothing": "--version",
    "compare, training": f"compare kimi-k2 {TRAIN} --on trn2,trn3,ironwood,gb300 --chips {{chips}}",
    "compare, serving": "compare kimi-k2 --serve --isl 8k --osl 1k --on trn2,trn3,ironwood,gb300 --chips {chips}",
    "plan, training": f"plan kimi-k2 --on trn3 --chips {{chips}} {TRAIN}",
    "goodput": "goodput --on trn3:{chips}",
    "collective": "collective all-reduce --on gb300:{chips} --bytes 1GiB",
}
"""Question -> its command, for a number of chips. The first is what any answer costs: starting Python."""
COLOURS = ("#1b6ca8", "#c05621", "#2f855a")


@dataclass(frozen=True, slots=True)
class Point:
    """One size: chips, tokens/s per chip measured, predicted, and the ends of the interval."""

    chips: int
    measured: float
    predicted: float
    low: float
    high: float


def point(r: RowResult) -> Point:
    assert r.case is not None
    assert r.ratio is not None
    rate = r.case.job.tokens_per_step / (r.case.measured_step_s * r.case.system.chips)
    width = abs(math.log((r.high or 1.0) / (r.predicted or 1.0)))
    return Point(
        r.case.system.chips, rate, rate / r.ratio, rate / r.ratio / math.exp(width), rate / r.ratio * math.exp(width)
    )


def slope(chips: Sequence[float], rate: Sequence[float]) -> float:
    """Change of ln(rate) per doubling."""
    return float(np.polyfit(np.log2(chips), np.log(rate), 1)[0])


def curves() -> dict[str, list[Point]]:
    """Scaling group -> points, by chips."""
    result = validate_rows(None, load_facts())
    with published().open(newline="", encoding="utf-8") as file:
        group = {row["id"]: row["scaling_group"] for row in csv.DictReader(file)}
    out: dict[str, list[Point]] = {}
    for r in result.rows:
        if r.ratio and group[r.id]:
            out.setdefault(group[r.id], []).append(point(r))
    return {name: sorted(points, key=lambda p: p.chips) for name, points in out.items()}


def svg(found: dict[str, list[Point]]) -> str:
    width, height, pad = 460, 300, 52
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width}" height="{3 * height}"'
            ' font-family="sans-serif" font-size="11">'
        ),
        f'<rect width="{2 * width}" height="{3 * height}" fill="white"/>',
    ]
    for i, (title, names) in enumerate(PANELS):
        parts += panel(
            title, {n: found[n] for n in names if n in found}, i % 2 * width, i // 2 * height, width, height, pad
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def panel(
    title: str, found: dict[str, list[Point]], x0: int, y0: int, width: int, height: int, pad: int
) -> Iterator[str]:
    points = [p for ps in found.values() for p in ps]
    lo, hi = min(p.chips for p in points), max(p.chips for p in points)
    bottom, top = min(min(p.low, p.measured) for p in points) / 1.15, max(max(p.high, p.measured) for p in points) * 1.5

    def x(chips: float) -> float:
        return x0 + pad + (width - pad - 20) * (math.log(chips) - math.log(lo)) / max(1e-9, math.log(hi) - math.log(lo))

    def y(rate: float) -> float:
        return (
            y0 + height - 34 - (height - 70) * (math.log(rate) - math.log(bottom)) / (math.log(top) - math.log(bottom))
        )

    yield f'<text x="{x0 + pad}" y="{y0 + 18}" font-size="12" font-weight="bold">{title}</text>'
    yield (
        f'<rect x="{x0 + pad}" y="{y0 + 36}" width="{width - pad - 20}" height="{height - 70}" fill="none"'
        ' stroke="#999"/>'
    )
    for chips in sorted({2**k for k in range(1, 15) if lo <= 2**k <= hi} | {lo, hi}):
        if chips in (lo, hi) or min(abs(math.log2(chips / end)) for end in (lo, hi)) > 0.7:
            yield f'<text x="{x(chips):.0f}" y="{y0 + height - 20}" text-anchor="middle">{chips:,}</text>'
    for k in range(-1, 7):
        for m in (1, 2, 5):
            rate = m * 10.0**k
            if bottom < rate < top:
                yield (
                    f'<line x1="{x0 + pad}" x2="{x0 + width - 20}" y1="{y(rate):.1f}" y2="{y(rate):.1f}"'
                    ' stroke="#eee"/>'
                )
                yield f'<text x="{x0 + pad - 5}" y="{y(rate) + 4:.0f}" text-anchor="end">{rate:,.0f}</text>'
    yield f'<text x="{x0 + width / 2:.0f}" y="{y0 + height - 6}" text-anchor="middle">chips</text>'
    for j, (name, ps) in enumerate(found.items()):
        colour = COLOURS[j % len(COLOURS)]
        band = [f"{x(p.chips):.1f},{y(p.high):.1f}" for p in ps] + [
            f"{x(p.chips):.1f},{y(p.low):.1f}" for p in reversed(ps)
        ]
        yield f'<polygon points="{" ".join(band)}" fill="{colour}" opacity="0.08"/>'
        yield (
            f'<polyline points="{" ".join(f"{x(p.chips):.1f},{y(p.predicted):.1f}" for p in ps)}" fill="none"'
            f' stroke="{colour}" stroke-width="1.5"/>'
        )
        yield from (f'<circle cx="{x(p.chips):.1f}" cy="{y(p.measured):.1f}" r="3.2" fill="{colour}"/>' for p in ps)
        yield f'<text x="{x0 + pad + 6}" y="{y0 + 50 + 13 * j}" fill="{colour}">{name}</text>'


def page(found: dict[str, list[Point]]) -> str:
    lines = [
        "# Scaling curves",
        "",
        "Generated by `python tools/scaling.py` from the shipped training rows. Do not edit.",
        "",
        "Tokens per second and chip against chips: dots are measured, lines predicted, bands our 90% interval.",
        "",
        "![Scaling curves, measured and predicted](../images/scaling.svg)",
        "",
        (
            "Slope: change of ln(tokens/s per chip) per doubling of chips, by least squares over the curve. Level:"
            " geometric mean of predicted over measured"
        ),
        "throughput. Curves with three sizes or more over at least a factor of four in chips.",
        "",
        "| curve | chips | points | slope measured | slope predicted | difference | level |",
        "|--|--|--:|--:|--:|--:|--:|",
    ]
    gaps = []
    for name, ps in sorted(found.items()):
        sizes = sorted({p.chips for p in ps})
        if len(sizes) < 3 or sizes[-1] < 4 * sizes[0] or name.startswith("vtrain-single"):
            continue
        a, b = (slope([p.chips for p in ps], [getattr(p, key) for p in ps]) for key in ("measured", "predicted"))
        level = math.exp(float(np.mean([math.log(p.predicted / p.measured) for p in ps]))) - 1
        gaps.append(abs(b - a))
        lines.append(
            f"| {name} | {sizes[0]:,}-{sizes[-1]:,} | {len(ps)} | {100 * a:+.1f}% | {100 * b:+.1f}% |"
            f" {100 * (b - a):+.1f} | {100 * level:+.0f}% |"
        )
    lines += [
        "",
        (
            f"Over {len(gaps)} curves the slope is off by {100 * np.median(gaps):.1f} points (median;"
            f" {100 * np.quantile(gaps, 0.9):.1f} at p90)."
        ),
        "",
        (
            "Llama 3 405B as it was trained (Table 4 of The Llama 3 Herd of Models; the shipped table answers the first"
            " of these):"
        ),
        "",
        *llama(),
        "",
        (
            "Missed: MaxText on v5e loses 1.5 to 3.1% per doubling between slices and Mowich says 0.6 to 0.7% (level"
            " within 5%); ZeRO-1 over all 1,024 ranks of InternEvo's"
        ),
        (
            "cluster falls off a cliff that no plan explains; MLPerf's GPT-3 on 512 H100s is a fifth faster than its"
            " own larger sizes would have it."
        ),
        "",
        *costs(load_facts()),
    ]
    return "\n".join(lines) + "\n"


def llama() -> list[str]:
    """The sizes of Llama 3 405B, TFLOP/s per GPU; the row of the shipped table with the plan of each."""
    facts = load_facts()
    base = next(row for row in read_csv(published(), facts) if row["id"] == LLAMA_ROW)
    lines = [
        "| GPUs | tokens a sequence | plan | TFLOP/s measured | predicted | 90% interval |",
        "|--:|--:|--|--:|--:|--|",
    ]
    for chips, dp, cp, batch, seq, measured in LLAMA_405B:
        cells = {
            "n_chips": chips,
            "DP": dp,
            "CP": cp,
            "global_batch_seqs": batch,
            "seq_len": seq,
            "tflops_per_chip": measured,
        }
        case = read_cases([{**base, **{k: str(v) for k, v in cells.items()}, "id": "-"}], facts)[0]
        assert isinstance(case, Case)
        r = predict(case, facts)
        lines.append(
            f"| {chips:,} | {seq:,} | `{case.plan}` | {measured} | {r.predicted:.0f} | {r.low:.0f}-{r.high:.0f} |"
        )
    return lines


def measured_costs() -> None:
    """Write `COSTS`: processor seconds and peak memory of each question at each size, the lesser of two runs."""
    rows = []
    for name, command in QUESTIONS.items():
        for chips in COST_SIZES if "{chips}" in command else COST_SIZES[:1]:
            runs = [cost_of(command.format(chips=chips).split()) for _ in range(2)]
            rows.append([name, chips, f"{min(r[0] for r in runs):.2f}", f"{min(r[1] for r in runs):.0f}"])
    with COSTS.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["question", "chips", "cpu_s", "peak_MB"], *rows])


def cost_of(command: Sequence[str]) -> tuple[float, float]:
    """(processor seconds, peak memory in MB) of one command, in a process of its own."""
    child = subprocess.Popen([sys.executable, "-m", "mowich", *command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, EXIT_INFEASIBLE):
        raise SystemExit(f"mowich {' '.join(command)}: exit {child.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def growth(values: Mapping[int, float]) -> float:
    """Power of the chips that a cost grows with, from the third size to the last."""
    first, last = sorted(values)[2], max(values)
    return math.log(values[last] / values[first]) / math.log(last / first)


def costs(facts: Facts) -> list[str]:
    """What an answer costs, question by question, and how it grows with the chips."""
    with COSTS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table: dict[str, dict[int, tuple[float, float]]] = {}
    for row in rows:
        table.setdefault(row["question"], {})[int(row["chips"])] = (float(row["cpu_s"]), float(row["peak_MB"]))
    start_s, start_MB = table.pop("nothing")[COST_SIZES[0]]
    limits = ", ".join(
        f"{name} {facts.number(f'systems.{name}.levels.scale_out.chips'):,.0f}" for name in ("gb300", "ironwood")
    )
    return [
        "## What an answer costs",
        "",
        "Processor seconds / peak MB of a command on one core, the lesser of two runs (`python tools/scaling.py --measure`;"
        " kept in `tools/scaling_costs.csv`). The machine",
        f"is as it was that day, so compare a row with itself. Starting Python alone: {start_s:.2f} s, {start_MB:.0f} MB.",
        "",
        "| question | " + " | ".join(f"{n:,} chips" for n in COST_SIZES) + " | time grows as |",
        "|--|" + "--:|" * (len(COST_SIZES) + 1),
        *(
            f"| {name} | "
            + " | ".join(f"{by[n][0]:.2f} s / {by[n][1]:.0f} MB" for n in COST_SIZES)
            + f" | chips^{growth({n: s for n, (s, _) in by.items()}):.2f} |"
            for name, by in table.items()
        ),
        "",
        "The last column is from 16,384 to 1,000,000 chips. No cost is in proportion to the chips: a step is a closed"
        " form, a collective is levels and not links. A search grows with the legal degrees",
        "of parallelism, that is with the divisors of the chips; `goodput` plays failures one by one, and there are as"
        " many more. The questions: `QUESTIONS` in `tools/scaling.py`.",
        "",
        "## What a run costs at a million chips",
        "",
        "`mowich compare`, `plan`, `goodput` and `collective` answer for up to 1,000,000 chips of trn2, trn3, ironwood"
        " and gb300 without options. Each names the way of surviving failures that it takes",
        f"(the best: [goodput.md](../records/goodput.md)). Where a vendor's fabric ends ({limits} chips) fabrics are joined by a"
        " data-centre network ([collectives.md](../theory/collectives.md)), an estimate of grade D.",
        "Beyond 16,384 chips no step is published, so every doubling adds to the width of a step"
        " ([theory-training.md](../theory/theory-training.md#the-interval)): ranges of days, cost and energy are wider there, and"
        " high over low stays below",
        "ten (`tests/studies/test_million.py`). More chips than `systems.<id>.max_chips` get one line.",
        "",
        "```console",
        "$ mowich compare kimi-k2 --train --tokens 30T --seq 4096 --batch 64M --on trn2,trn3,ironwood,gb300"
        " --chips 1000000",
        "```",
    ]


def pages() -> dict[Path, str]:
    """The page, its chart, and their texts."""
    found = curves()
    return {DOCS / "records" / "scaling.md": page(found), DOCS / "images" / "scaling.svg": svg(found)}


if __name__ == "__main__":
    if "--measure" in sys.argv[1:]:
        measured_costs()
    write(pages())
