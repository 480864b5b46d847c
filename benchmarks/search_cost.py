"""What a search costs against the number of chips, 64 to 1,000,000: python benchmarks/search_cost.py [--svg
docs/images/search-cost.svg]

One system whose fabric reaches a million chips, two models, weak scaling (one sequence per chip, so that larger
clusters have more to spread). CPU seconds of one process, least of three; also the plans evaluated, which is what the
cost follows. The exponent is the slope of ln cost over ln log2(chips): below 2 the cost is less than quadratic in the
logarithm of the chips.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from mowich import facts, models
from mowich.models.model import as_trained
from mowich.plans.plan import TrainJob
from mowich.software.stack import equip
from mowich.training.search import search

CHIPS = (64, 256, 1024, 4096, 16384, 65536, 262144, 1_000_000)
MODELS = (("llama-3.1-405b", "trn3"), ("deepseek-v3", "trn3"))


def measure(model_name: str, system_name: str) -> list[tuple[int, int, float]]:
    """(chips, plans, CPU seconds) of each size."""
    known = facts.load_facts()
    model = as_trained(models.load_model(model_name))
    out = []
    for chips in CHIPS:
        system = equip(known, system_name, chips=chips)
        job = TrainJob(tokens=15e12, seq=8192, batch_seqs=chips)
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            found = search(model, system, job)
            best = min(best, time.process_time() - start)
        out.append((chips, found.evaluated, best))
    return out


def exponent(rows: list[tuple[int, int, float]]) -> float:
    """Slope of ln seconds over ln log2(chips)."""
    x = np.log(np.log2([chips for chips, _, _ in rows]))
    return float(np.polyfit(x, np.log([seconds for _, _, seconds in rows]), 1)[0])


def svg(series: dict[str, list[tuple[int, int, float]]]) -> str:
    """CPU milliseconds over log2(chips), with the quadratic through the first point of each series dashed."""
    width, height, left, bottom, top = 660, 360, 60, 40, 20
    x0, x1 = np.log2(CHIPS[0]), np.log2(CHIPS[-1])

    def quadratic(rows: list[tuple[int, int, float]], chips: int) -> float:
        return float(rows[0][2] * (np.log2(chips) / x0) ** 2)

    most = max(max(s, quadratic(rows, c)) for rows in series.values() for c, _, s in rows) * 1.05

    def at(chips: float, seconds: float) -> tuple[float, float]:
        return (
            left + (np.log2(chips) - x0) / (x1 - x0) * (width - left - 40),
            height - bottom - seconds / most * (height - bottom - top),
        )

    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
            ' font-size="11">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for chips in CHIPS:
        x, y = at(chips, 0)
        out.append(
            f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{y:.1f}" stroke="#ddd"/><text x="{x:.1f}"'
            f' y="{y + 15:.1f}" text-anchor="middle">{chips:,}</text>'
        )
    for i in range(5):
        value = most * i / 4
        _, y = at(CHIPS[0], value)
        out.append(
            f'<line x1="{left}" y1="{y:.1f}" x2="{width - 40}" y2="{y:.1f}" stroke="#eee"/><text x="6"'
            f' y="{y + 4:.1f}">{value * 1e3:.0f} ms</text>'
        )
    for (name, rows), colour in zip(series.items(), ("#4e79a7", "#e15759"), strict=False):
        line = " ".join("{:.1f},{:.1f}".format(*at(c, s)) for c, _, s in rows)
        bound = " ".join("{:.1f},{:.1f}".format(*at(c, quadratic(rows, c))) for c, _, _ in rows)
        out += [
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<polyline points="{bound}" fill="none" stroke="{colour}" stroke-dasharray="4 4"/>',
        ]
        for chips, _, seconds in rows:
            x, y = at(chips, seconds)
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        x, y = at(*[rows[-1][k] for k in (0, 2)])
        out.append(f'<text x="{x - 150:.1f}" y="{y - 8:.1f}" fill="{colour}">{name}</text>')
    out.append(
        f'<text x="{width / 2 - 120:.0f}" y="{height - 6}">chips (logarithmic); dashed: quadratic in log'
        " chips</text></svg>"
    )
    return "\n".join(out) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--svg", type=Path)
    args = parser.parse_args()
    series = {name: measure(name, system) for name, system in MODELS}
    for name, rows in series.items():
        print(f"\n{name}, exponent {exponent(rows):.2f}\n\n| chips | plans | CPU ms | plans/s |\n|--:|--:|--:|--:|")
        for chips, plans, seconds in rows:
            print(f"| {chips:,} | {plans:,} | {seconds * 1e3:.0f} | {plans / seconds:,.0f} |")
    if args.svg:
        args.svg.write_text(svg(series))


if __name__ == "__main__":
    main()
