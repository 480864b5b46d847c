"""One fit: every stage that fits constants, in its order, again and again until none moves any more.

    python tools/fit.py SERVING.csv [--rounds 3]   run the stages, print what moved, then the errors left out and the page
    python tools/fit.py --page                     write docs/records/constants-fit.md alone, from the constants that ship

A stage reads what the stages before it wrote: operators and collectives, then training, then serving, whose software
stands on the same devices, then Neuron's software. A round runs them all; the fit ends with a round that moves no
constant by more than `STILL`. Each stage is a tool of its own and runs alone too (tools/README.md).
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import fit_serving
import fit_training
import fit_worth
import numpy as np

from mowich.arrays import Floats
from mowich.evidence.measured_tables import published
from mowich.facts import Facts, load_facts

TOOLS = Path(__file__).resolve().parent
PAGE = TOOLS.parent / "docs" / "records" / "constants-fit.md"
TIMES = TOOLS / "fit_times.json"
STILL = 0.005
"""Largest move of a constant, as a share of it, in a round after which nothing is fitted again."""
TOLD = 0.9
"""Share of its prior's width from which a constant is not identified by the data."""
FOLDS = 20
"""Parts that groups are dealt into, to see what a constant is worth."""
HURTS = -0.02
"""Points of mean log error below which a constant is named as one that rows left out are better without."""
SOURCES = ("mowich-training-study", "mowich-serving-fit")


@dataclass(frozen=True, slots=True)
class Stage:
    """name; to_what: the data; command: script and arguments of this folder, "FILE" the serving rows; once: not again in
    later rounds; can_miss: is left out, and said, where a package that it needs is not here."""

    name: str
    to_what: str
    command: tuple[str, ...]
    once: bool = False
    can_miss: bool = False


STAGES = (
    Stage("collectives", "1,662 measured points of collectives", ("collectives_fit.py",), once=True, can_miss=True),
    Stage("kernels", "published training steps on Trainium, hand-tuned", ("kernel_factor.py",), once=True),
    Stage("training", "published training steps", ("fit_training.py", "fit")),
    Stage("serving", "published served rows", ("fit_serving.py", "FILE", "--write", "--page")),
    Stage("neuron", "published served rows of Trainium 2 and 3", ("fit_neuron.py", "--write")),
)
LAST = Stage("left out", "training steps left out, by group and by source", ("fit_training.py", "cross"))


def written() -> dict[str, float]:
    """`constants` of the files as they are now: another process reads them, as this one keeps what it has read."""
    command = [sys.executable, str(Path(__file__)), "--constants"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {str(path): float(value) for path, value in json.loads(done.stdout).items()}


def constants(facts: Facts) -> dict[str, float]:
    """Every number that a fit may have written, SI, by path."""
    paths = (
        path
        for kind in ("devices", "training", "serving")
        for one in facts.ids(kind)
        for path in facts.paths(f"{kind}.{one}")
    )
    found = {path: facts.fact(path) for path in paths}
    return {
        path: float(fact.value)
        for path, fact in found.items()
        if fact.path == path and fact.source in SOURCES and isinstance(fact.value, int | float)
    }


def moved(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Paths whose constant is another, with the new one over the old less 1; inf where one of them is 0."""
    out = {}
    for path, new in after.items():
        old = before.get(path, new)
        if new != old:
            out[path] = new / old - 1.0 if old and new else math.inf
    return out


def run(stage: Stage, file: str) -> float:
    """Runs a stage and gives its processor seconds; nan where it is left out."""
    script, *rest = stage.command
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [file if word == "FILE" else word for word in rest]
    done = subprocess.run([sys.executable, str(TOOLS / script), *words], check=False)
    if done.returncode:
        if stage.can_miss:
            print(f"{stage.name}: left out (see above)", flush=True)
            return math.nan
        raise SystemExit(f"{stage.name} failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fit(file: str, rounds: int) -> None:
    """The stages to their fixed point; then what is left out."""
    times: dict[str, float] = {}
    for turn in range(rounds):
        start = written()
        for stage in STAGES:
            if turn and stage.once:
                continue
            before = written()
            seconds = run(stage, file)
            changed = moved(before, written())
            if not math.isnan(seconds):
                times[stage.name] = times.get(stage.name, 0.0) + seconds
            print(f"round {turn + 1}, {stage.name}: {len(changed)} constants moved", flush=True)
            for path, share in sorted(changed.items(), key=lambda item: -abs(item[1]))[:10]:
                print(f"  {path}: {share:+.2%}", flush=True)
        most = max((abs(x) for x in moved(start, written()).values()), default=0.0)
        if most <= STILL:
            print(f"a fixed point after {turn + 1} rounds", flush=True)
            break
    else:
        print(f"no fixed point in {rounds} rounds: a constant still moves by {most:.1%}", flush=True)
    times[LAST.name] = run(LAST, file)
    TIMES.write_text(json.dumps({name: round(seconds, 1) for name, seconds in times.items()}) + "\n", encoding="utf-8")


def training_widths(facts: Facts) -> tuple[fit_training.Constants, Floats, Floats, int]:
    """(constants of training, what the data leaves of the width of each prior [n], what each is worth [n], rows)."""
    rows, cases = fit_training.read(facts)
    problem = fit_training.Problem(cases, fit_training.constants(facts), facts)
    known = problem.known
    r, J = problem.residual(known.start, range(len(cases)), gradient=True)
    pull = fit_training.PRIOR_WEIGHT * fit_training.HUBER**2 / ((known.high - known.low) / 4.0) ** 2
    weight = fit_training.weights_of(cases) * np.minimum(1.0, fit_training.HUBER / np.maximum(np.abs(r), 1e-9))
    covariance = np.linalg.inv((J * weight[:, None]).T @ J + np.diag(pull))
    folds = fit_training.folds_of([fit_training.group_of(row) for row in rows], FOLDS)
    worth = fit_worth.points(*fit_worth.held_errors(r, J, weight, np.diag(pull), known.middle - known.start, folds))
    return known, np.sqrt(np.diag(covariance) * pull), worth, len(cases)


def serving_widths(facts: Facts) -> dict[str, float]:
    """Path of a constant of serving -> what the data leaves of the width of its prior."""
    out = {}
    for path, prior in fit_serving.priors().items():
        fact = facts.get(path)
        if prior.is_free and fact is not None and fact.low and fact.high:
            out[path] = math.log(fact.high / fact.low) / math.log(prior.high / prior.low)
    return out


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join('--' if i == 0 else '--:' for i in range(len(head)))}|"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def page(facts: Facts) -> str:
    """docs/records/constants-fit.md."""
    known, left, worth, rows = training_widths(facts)
    of_served = fit_worth.read_served()
    served = serving_widths(facts)
    kept = json.loads((published().parent / "left_out.json").read_text(encoding="utf-8"))
    held_out = [e for e in kept if not e.get("chip")]
    at_end = (known.start <= known.low + 1e-6) | (known.start >= known.high - 1e-6)
    weak = [path for path, share in zip(known.paths, left, strict=True) if share > TOLD]
    weak_served = sorted(path for path, share in served.items() if share > TOLD)
    times = json.loads(TIMES.read_text(encoding="utf-8")) if TIMES.exists() else {}
    lines = [
        "# The fit",
        "",
        "Written by `python tools/fit.py --page` from the constants that ship. Do not edit. `make fit SERVING=rows.csv` runs all stages to a fixed point, prints what moved, and writes this page.",
        "",
        "Physics comes first: published peaks, measured operators and collectives. Constants are what software and silicon leave of them; each has a prior with a source, log-normal, and moves only as far as data moves it. "
        "Left of the prior: width of a constant once the data is in, over that of its prior, with all others free too. 100%: the data says nothing of it.",
        "",
        *_table(
            ("stage", "fitted to", "tool", "processor time of the last run"),
            [
                (
                    s.name,
                    s.to_what,
                    f"`tools/{' '.join(s.command)}`",
                    f"{times[s.name]:g} s" if s.name in times else "not run as one fit yet",
                )
                for s in (*STAGES, LAST)
            ],
        ),
        "",
        "Collectives: the tool prints its constants beside those that ship, and writes nothing. Kernels: the tool writes the factors of [operator-tables.md](operator-tables.md).",
        "",
        "## What it is worth",
        "",
        "Errors of rows that a fit did not see: [accuracy.md](../records/accuracy.md), [accuracy-serving.md](../records/accuracy-serving.md), [accuracy-trainium.md](../records/accuracy-trainium.md). In `facts/published/left_out.json`:",
        "",
        *(f"- {line}" for line in _left_out_lines(held_out)),
        "",
        "The column of what a constant is worth says by how many percentage points the mean log error of rows grows when their groups are left out and the constant stays in the middle of its prior, with all others fitted again "
        "(one step from the fit). A minus: these rows are better without it.",
        "",
        "## Training",
        "",
        f"{len(known.paths)} constants, {rows} rows; {int(at_end.sum())} at an end of their range{_named([p for p, e in zip(known.paths, at_end, strict=True) if e])}. "
        f"Not identified (more than {TOLD:.0%} of the prior left): {len(weak)}{_named(weak)}. "
        f"Rows left out are better without: {_better_without(dict(zip(known.paths, worth, strict=True)))}.",
        "",
        *_table(
            ("constant", "value", "range of the prior", "left of the prior", "worth, points"),
            [
                (
                    f"`{path}`",
                    f"{math.exp(x):.3g}",
                    f"{math.exp(lo):.3g} to {math.exp(hi):.3g}",
                    f"{share:.0%}",
                    f"{points:+.2f}",
                )
                for path, x, lo, hi, share, points in sorted(
                    zip(known.paths, known.start, known.low, known.high, left, worth, strict=True),
                    key=lambda row: row[4],
                )
            ],
        ),
        "",
        "Values and ranges in SI.",
        "",
        "## Serving",
        "",
        f"{len(served)} constants. Not identified: {len(weak_served)}{_named(weak_served, 12)}. "
        f"Time per token of rows left out is better without: {_better_without({k: v[0] for k, v in of_served.items()})}; "
        f"time to first token: {_better_without({k: v[1] for k, v in of_served.items()})}.",
        "",
        *_table(
            ("constant", "value", "range left", "left of the prior", "worth, points: TPOT, TTFT"),
            [
                (
                    f"`{path}`",
                    f"{facts.number(path):.3g}",
                    f"{facts.fact(path).low:.3g} to {facts.fact(path).high:.3g}",
                    f"{share:.0%}",
                    ", ".join(f"{points:+.2f}" for points in of_served.get(path, ())),
                )
                for path, share in sorted(served.items(), key=lambda item: item[1])
                if share <= TOLD
            ],
        ),
        "",
        "Ranges are 90%, those of the fit with the whole width of the priors; values are of the fit with narrower ones ([accuracy-serving.md](../records/accuracy-serving.md)).",
        "",
    ]
    return "\n".join(lines)


def _named(paths: Sequence[str], most: int = 40) -> str:
    """ " (`a`, `b` and 3 more)", "" without any."""
    if not paths:
        return ""
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return f" ({', '.join(f'`{path}`' for path in paths[:most])}{more})"


def _better_without(worth: Mapping[str, float]) -> str:
    """Constants below `HURTS`, worst first; "none"."""
    found = sorted((points, path) for path, points in worth.items() if points < HURTS)
    return ", ".join(f"`{path}` ({points:+.2f})" for points, path in found) or "none"


def _left_out_lines(held_out: Sequence[dict[str, object]]) -> Iterator[str]:
    """Medians and 90th percentiles of the file of errors left out, by what is predicted."""
    for entry in held_out:
        median, high = float(str(entry["median"])), float(str(entry["p90"]))
        yield (
            f"{entry['work']}, {entry['what']}, {entry['unit']} left out: median {median:.1%}, 90% under {high:.1%},"
            f" {entry['rows']} rows"
        )


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="published serving rows, which do not ship")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="write docs/records/constants-fit.md alone")
    parser.add_argument("--constants", action="store_true", help="print the constants that ship, as JSON")
    asked = parser.parse_args()
    if asked.constants:
        print(json.dumps(constants(load_facts())))
        return
    if not asked.page:
        if not asked.file:
            parser.error("name the file of published serving rows, or --page")
        fit(asked.file, asked.rounds)
    PAGE.write_text(page(load_facts()), encoding="utf-8")


if __name__ == "__main__":
    main()
