"""How far off predictions are on sources that the constants were not fitted to.

Splits the published training steps by source into folds. For each fold, the constants of `facts/training` start from the geometric middle
of their ranges, are fitted by coordinate descent to the rows of the other folds (soft absolute log error, a weak pull to the middle, never
outside the range), and the rows of the fold are predicted. Nothing of this is used by the model: it measures, it does not calibrate.

    python benchmarks/held_out.py [--folds 4] [--rounds 2] [--only 0 1]

Takes about 10 minutes a fold on one core; what was seen is in docs/held-out.md.
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
from collections import Counter
from pathlib import Path

from mowich.facts import Facts, load
from mowich.studies.validate import Result, published, summarise, validate

SOFT = 0.1
"""Log error at which the loss turns from quadratic to linear."""
PULL = 2e-4
"""Weight of the pull towards the middle of a range, in units of the mean loss of a row."""


def constants(facts: Facts) -> dict[str, tuple[float, float, float]]:
    """Fitted constants: path -> (middle, low, high). Those with a range that steps depend on; residuals and memory are no part."""
    out = {}
    for name in facts.ids("training"):
        if name in ("residuals", "validation"):
            continue
        for path in facts.paths(f"training.{name}"):
            fact = facts.fact(path)
            if (
                isinstance(fact.value, float)
                and fact.low
                and fact.high
                and fact.low < fact.high
                and "reserve" not in path
            ):
                out[path] = (math.sqrt(fact.low * fact.high), fact.low, fact.high)
    return out


def fold_of(sources: list[str], folds: int) -> dict[str, int]:
    """Source -> fold: the largest source to the smallest fold so far, so that folds hold about as many rows."""
    sizes, where = [0] * folds, {}
    for source, count in sorted(Counter(sources).items(), key=lambda item: (-item[1], item[0])):
        where[source] = min(range(folds), key=lambda i: sizes[i])
        sizes[where[source]] += count
    return where


def loss(results: list[Result], values: dict[str, float], start: dict[str, tuple[float, float, float]]) -> float:
    """Mean soft absolute log error, each source weighed by rows^-1/4, plus the pull to the middle."""
    answered = [r for r in results if r.ratio]
    sizes = Counter(r.source for r in answered)
    weights = [sizes[r.source] ** -0.25 for r in answered]
    errors = [math.sqrt(1 + (math.log(r.ratio or 1.0) / SOFT) ** 2) - 1 for r in answered]
    pull = sum((math.log(values[p] / mid) / math.log(high / low)) ** 2 for p, (mid, low, high) in start.items())
    return SOFT * sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights) + PULL * pull


def fit(path: Path, facts: Facts, rounds: int) -> Facts:
    """Constants fitted to the rows of a file, each within its range."""
    start = constants(facts)
    values = {p: mid for p, (mid, _, _) in start.items()}

    def score(trial: dict[str, float]) -> float:
        return loss(list(validate(path, facts.with_values(dict(trial))).rows), trial, start)

    best = score(values)
    live = list(start)
    for step in (0.25, 0.12, 0.06)[:rounds]:
        moved = []
        for p in live:
            _, low, high = start[p]
            for sign in (1.0, -1.0):
                trial = {**values, p: min(high, max(low, values[p] * (high / low) ** (sign * step)))}
                got = score(trial)
                if abs(got - best) > 1e-9 and p not in moved:
                    moved.append(p)  # the rows depend on it: worth another round
                if got < best - 1e-7:
                    values, best = trial, got
                    break
        live = moved
    return facts.with_values(dict(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", type=int, nargs="+", metavar="FOLD", help="run these folds only, counted from 0")
    options = parser.parse_args()
    facts = load()
    with published().open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns, rows = list(reader.fieldnames or ()), list(reader)
    where = fold_of([row["source_group"] for row in rows], options.folds)
    held: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        for fold in options.only or range(options.folds):
            files = {}
            for name, keep in (("fit", False), ("held", True)):
                files[name] = Path(folder) / f"{name}{fold}.csv"
                with files[name].open("w", newline="", encoding="utf-8") as file:
                    writer = csv.DictWriter(file, columns)
                    writer.writeheader()
                    writer.writerows(r for r in rows if (where[r["source_group"]] == fold) == keep)
            fitted = fit(files["fit"], facts, options.rounds)
            got = list(validate(files["held"], fitted).rows)
            held += got
            print(f"fold {fold}: {line('held out', got)}", flush=True)
    print(report(held))


def line(name: str, rows: list[Result]) -> str:
    """One row of the table."""
    s = summarise(rows)

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f}%"

    return f"| {name} | {s.n} | {percent(s.median_abs_error)} | {percent(s.mean_abs_error)} | {percent(s.p90_abs_error)} | {percent(s.bias)} | {percent(s.interval_coverage)} |"


def report(held: list[Result]) -> str:
    """All held-out rows, by chip, by kind."""
    lines = [
        "| held-out rows of | rows | median | mean | p90 | bias | in range |",
        "|--|--:|--:|--:|--:|--:|--:|",
        line("all", held),
        line("the plan stated", [r for r in held if r.fully_specified]),
    ]
    for key in ("chip", "kind"):
        groups: dict[str, list[Result]] = {}
        for r in held:
            groups.setdefault(str(getattr(r, key)), []).append(r)
        lines += [
            line(f"{name}", rows)
            for name, rows in sorted(groups.items(), key=lambda kv: -len(kv[1]))
            if summarise(rows).n
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
