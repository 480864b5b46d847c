"""Fits three lines to every measured table of all-reduces of serving engines: facts/serving/all_reduce.csv.

The tables are those of `aiconfigurator-core` (extra `[measured]`, or `MOWICH_OPERATOR_TABLES`): seconds by the number
of elements of 16 bits, by chip, engine, release and ranks, of kernels in a captured graph. A line holds from its first
size to that of the next one; the sizes are those that leave the least sum of squares of the log errors, and no line
begins below the end of the one before. Only the tables that serving uses are written (`software/all_reduce.py`).

    python tools/all_reduce_fit.py [--write] [--all]
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mowich.evidence.measured import root
from mowich.facts import load_facts
from mowich.machines.system import machines, resolve
from mowich.software.all_reduce import FILE, release_order

Floats = NDArray[np.float64]
SOURCE = "aicr"
ELEMENT_B = 2.0
LEAST = 2
"""Sizes of a line at least."""
EVERY_RANKS = ("l40s", "rtx_pro_6000_server")
"""Chips without NVLink: every table is used. Of those on racks, those of more ranks than a tray of `TRAY` holds: no row
of serving was fitted there."""
TRAY = 4
RACKS = {"gb300": ("gb300", "gb200")}
"""Chip whose tables reach beyond a tray -> chips that have them; GB200's racks have the same links and switches."""
Table = tuple[Floats, Floats]


def tables() -> dict[tuple[str, str, str, int], Table]:
    """(chip, engine, release, ranks) -> (bytes, seconds), each of the kernel that takes least."""
    import pyarrow.parquet as parquet

    found: dict[tuple[str, str, str, int], dict[float, list[float]]] = {}
    for file in sorted((root() / "data").glob("*/comm/*/*/custom_allreduce_perf.parquet")):
        for row in parquet.read_table(file).to_pylist():
            if row["kernel_source"].endswith("_eager"):
                continue
            # a folder of a release that was not measured holds a copy of another's file: the rows say whose
            key = (file.parts[-5], row["framework"].lower(), row["version"].split("+")[0], int(row["num_gpus"]))
            sizes = found.setdefault(key, {})
            sizes.setdefault(ELEMENT_B * float(row["message_size"]), []).append(float(row["latency"]) * 1e-3)
    return {key: (np.array(sorted(at)), np.array([min(at[size]) for size in sorted(at)])) for key, at in found.items()}


def line(size_B: Floats, seconds: Floats) -> tuple[float, float]:
    """(s, s/B) of the line through points that is nearest in relative error, neither below zero."""
    A = np.stack([1.0 / seconds, size_B / seconds], axis=1)
    latency, per_B = np.linalg.lstsq(A, np.ones(len(seconds)), rcond=None)[0]
    if per_B < 0:
        return float(np.exp(np.mean(np.log(seconds)))), 0.0
    if latency < 0:
        return 0.0, float(np.exp(np.mean(np.log(seconds / size_B))))
    return float(latency), float(per_B)


def _cuts(n: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(LEAST, n - 2 * LEAST + 1) for j in range(i + LEAST, n - LEAST + 1))


def three_lines(size_B: Floats, seconds: Floats) -> tuple[list[tuple[float, float, float]], float]:
    """([(first size, s, s/B)], mean absolute log error)."""
    best: tuple[float, list[tuple[float, float, float]], float] | None = None
    n, known = len(size_B), dict[tuple[int, int], tuple[float, float]]()
    for i, j in _cuts(n):
        lines: list[tuple[float, float, float]] = []
        errors = []
        for a, b in ((0, i), (i, j), (j, n)):
            if (a, b) not in known:
                known[a, b] = line(size_B[a:b], seconds[a:b])
            latency, per_B = known[a, b]
            if lines:
                _, before, slope = lines[-1]
                latency = max(latency, before + (slope - per_B) * size_B[a])
            lines.append((float(size_B[a]) if lines else 0.0, latency, per_B))
            errors.append(np.log((latency + per_B * size_B[a:b]) / seconds[a:b]))
        error = np.concatenate(errors)
        squares = float(error @ error)
        if best is None or squares < best[0]:
            best = (squares, lines, float(np.mean(np.abs(error))))
    assert best is not None
    return best[1], best[2]


def used_by(chip: str, ranks: int) -> tuple[str, ...]:
    """The chips on which serving uses a table of this chip and this many ranks."""
    return (chip,) if chip in EVERY_RANKS else RACKS.get(chip, ()) if ranks > TRAY else ()


def text(every: bool) -> tuple[str, list[float]]:
    """(the CSV file, the mean error of every table)."""
    facts, out, errors = load_facts(), io.StringIO(), list[float]()
    systems = (resolve(facts, name) for name in machines(facts))
    links = {system.chip: system.levels[0].bandwidth_Bps for system in systems}
    writer = csv.writer(out, lineterminator="\n")
    names = [f"{what}_{i}" for i in (1, 2, 3) for what in ("from_B", "latency_us", "ns_per_kB")]
    writer.writerow(["chip", "engine", "release", "ranks", "link_GBps", *names, "mean_error", "source", "grade"])
    order = sorted(tables().items(), key=lambda item: (*item[0][:2], release_order(item[0][2]), item[0][3]))
    for (chip, engine, release, ranks), (size_B, seconds) in order:
        chips = (chip,) if every else used_by(chip, ranks)
        if not chips or chip not in links:
            continue
        lines, error = three_lines(size_B, seconds)
        errors.append(error)
        link = links[chip] / 1e9
        numbers = [f"{x:.4g}" for a, s, b in lines for x in (a, s * 1e6, b * 1e12)]
        for name in chips:
            row = [name, engine, release, ranks, f"{link:.4g}", *numbers, f"{error:.3f}", SOURCE]
            writer.writerow([*row, "C" if name == chip else "D"])
    return out.getvalue(), errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the file of facts")
    parser.add_argument("--all", action="store_true", help="every table, not only those that serving uses")
    options = parser.parse_args()
    made, errors = text(options.all)
    if options.write:
        Path(str(FILE)).write_text(made, encoding="utf-8")
    print(made if not options.write else f"{len(errors)} tables")
    print(f"mean error of a table: median {np.median(errors):.3f}, largest {max(errors):.3f}")


if __name__ == "__main__":
    main()
