"""How much half of the published rows of one chip helps the other half: the figures of docs/read/calibrate.md.

    python tools/calibrate_halves.py GB200

Every second row goes to one file, the rest to another. Each is calibrated alone (`mowich calibrate`), and the other is
predicted with today's facts and with the overlay (`mowich validate`). Takes about 10 s of CPU for GB200.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mowich.evidence.measured_tables import published
from mowich.evidence.scores import Summary
from mowich.evidence.validate import validate_rows
from mowich.facts import load_facts
from mowich.requests.calibrate import CalibrateRequest
from mowich.studies.calibrate import calibrate


@dataclass(frozen=True, slots=True)
class HalfResult:
    """constants: that the first half moves; before, after: errors of the second half."""

    constants: int
    before: Summary
    after: Summary


def halves_of(chip: str, folder: Path) -> list[Path]:
    """Two tables with every second row of a chip."""
    with published().open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    mine = [row for row in rows if row[header.index("chip")] == chip]
    out = []
    for i in (0, 1):
        out.append(folder / f"half{i + 1}.csv")
        with out[-1].open("w", newline="", encoding="utf-8") as half:
            csv.writer(half).writerows([header, *mine[i::2]])
    return out


def half_for_other(own: Path, other: Path, folder: Path) -> HalfResult:
    """Calibrate with one table, and predict the other before and after."""
    facts, overlay = load_facts(), folder / "my.yaml"
    found = calibrate(CalibrateRequest(facts=facts, files=(own,), out=overlay))
    known = load_facts([overlay]) if found.written else facts
    before, after = (validate_rows(other, f).summary()["all"] for f in (facts, known))
    return HalfResult(len(found.constants), before, after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chip", nargs="?", default="GB200", help="as the column chip of published/training.csv has it")
    chip = parser.parse_args().chip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        halves = halves_of(chip, folder)
        for i, (own, other) in enumerate((halves, halves[::-1]), 1):
            got = half_for_other(own, other, folder)
            print(
                f"half {i} of {chip} moves {got.constants} constants; the other {got.before.n} rows: median error"
                f" {got.before.median_abs_error:.1%} -> {got.after.median_abs_error:.1%}, 90th percentile"
                f" {got.before.p90_abs_error:.1%} -> {got.after.p90_abs_error:.1%}"
            )


if __name__ == "__main__":
    main()
