"""What Trainium's software costs over hand-tuned kernels, learned where both are known, and whether that predicts
better than a direct fit.

    python tools/kernel_factor.py        renews figures of docs/records/operator-tables.md between their marks; about a minute

Measured over hand-tuned time of every published Trainium run, then two ways to predict a step as shipped, each fitted
without a fifth of the groups (chip, model, precision, task) and without whole sources, folds as in `fit_training.py`:
the formulas of `training.step` with the constants of `facts/training` that only Trainium reads, and operators by the
kernel tables with the same constants or with the factor alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import fit_training as ft
import numpy as np
from numpy.typing import NDArray

from mowich.evidence.fitting.moved import with_numbers
from mowich.evidence.rows import Case
from mowich.evidence.scores import RowResult
from mowich.evidence.validate import validate_rows
from mowich.facts import Facts, load_facts
from mowich.operators.kernels import Kernels
from mowich.plans.plan import Plans
from mowich.software.stack import Platform
from mowich.training.step import step_time

Floats = NDArray[np.float64]
PAGE = Path(__file__).resolve().parents[1] / "docs" / "records" / "operator-tables.md"
OWN = ("training.neuron.", "training.neuroncore-", "devices.neuroncore-")
SPEED = "training.neuron.speed"


def runs(facts: Facts) -> list[list[RowResult]]:
    """Answered Trainium rows, those that repeat a run (in another release) together."""
    groups: dict[object, list[RowResult]] = {}
    for r in validate_rows(None, facts).rows:
        if r.case is not None and r.framework_factor is not None:
            groups.setdefault((r.chip, r.case.model.name, r.case.job, r.case.plan, r.case.system.chips), []).append(r)
    return sorted(groups.values(), key=lambda g: (g[0].chip, g[0].case.model.name if g[0].case else "", -len(g)))


def both_values(found: Sequence[Sequence[RowResult]]) -> list[str]:
    """Each run: seconds a step measured (median of its rows), as shipped, hand-tuned; what the software costs; how much
    was timed."""
    lines = [
        "| run | rows | measured, s | as shipped (90%) | hand-tuned | measured / hand-tuned | from kernels |",
        "|--|--:|--:|--:|--:|--:|--:|",
    ]
    for rows in found:
        case, r = rows[0].case, rows[0]
        assert case is not None
        measured = float(np.median([x.case.measured_step_s for x in rows if x.case]))
        shipped = (r.ratio or 0.0) * case.measured_step_s
        width = math.sqrt((r.high or 1.0) / (r.low or 1.0))
        tuned = case.measured_step_s / (r.framework_factor or 1.0)
        lines.append(
            f"| {r.chip} x {case.system.chips}, {case.model.name}, seq {case.job.seq:g}, {case.plan} | {len(rows)} |"
            f" {measured:.3g} | {shipped:.3g} ({shipped / width:.3g}-{shipped * width:.3g}) | {tuned:.3g} |"
            f" {measured / tuned:.2f} | {100 * (r.hand_tuned_coverage or 0):.0f}% |"
        )
    return lines


def factor(found: Sequence[Sequence[RowResult]]) -> list[str]:
    """The factor of Trainium 1 over its runs, each counted once, and what it says of Trainium 2."""
    at = {
        chip: [float(np.median([x.framework_factor or 1.0 for x in g])) for g in found if g[0].chip == chip]
        for chip in ("Trn1", "Trn2")
    }
    logs = np.log(at["Trn1"])
    low, high = np.exp(np.quantile(logs, [0.05, 0.95]))
    mean, carry = math.exp(float(logs.mean())), math.log(4 / 3)
    down, up = (
        math.exp(-math.hypot(math.log(mean / low), carry)),
        math.exp(math.hypot(math.log(high / mean), carry)),
    )
    return [
        (
            f"Measured over hand-tuned time on Trainium1, {len(logs)} runs: x{mean:.2f}, 90% of them x{low:.2f} to"
            f" x{high:.2f}. Carried to Trainium2 with 0.75 to 1.33 more: x{mean * down:.2f} to x{mean * up:.2f}; its"
            f" one published run has x{at['Trn2'][0]:.2f}."
        ),
    ]


def neutral(cases: Sequence[Case], known: ft.Constants, facts: Facts) -> list[Case]:
    """The cases with every constant at the middle of its prior, so that what is not fitted has seen no row."""
    middle = dict(zip(known.paths, np.exp(known.middle), strict=True))
    made: dict[int, Platform] = {}
    for c in cases:
        at = ((name, facts.fact(path).path) for name, path in c.system.paths.items())
        made.setdefault(
            id(c.system),
            with_numbers(c.system, {n: float(middle[p]) for n, p in at if p in middle}),
        )
    return [replace(c, system=made[id(c.system)]) for c in cases]


def tabled(case: Case, system: Platform, plans: Plans) -> Floats:
    """`fit_training.log_error` with operators by the tables."""
    step = step_time(case.model, system, case.job, plans, kernels=Kernels(system.chip))
    return np.atleast_1d(np.log(step.total_s * case.job.tokens_per_step / step.tokens / case.measured_step_s))


def held_out(facts: Facts) -> list[str]:
    """Errors of both ways, in sample and left out."""
    rows, cases = ft.read(facts)
    keep = [i for i, c in enumerate(cases) if c.system.vendor == "AWS"]
    keys = {"groups": [ft.group_of(r) for r in rows], "sources": [r["source_group"] for r in rows]}
    folds = {kind: ft.folds_of(names, 5)[keep] for kind, names in keys.items()}
    every = ft.constants(facts)

    def some(wanted: Callable[[str], bool]) -> ft.Constants:
        at = [i for i, path in enumerate(every.paths) if wanted(path)]
        return ft.Constants(
            tuple(every.paths[i] for i in at), every.start[at], every.middle[at], every.low[at], every.high[at]
        )

    own = some(lambda path: path.startswith(OWN))
    chosen = neutral([cases[i] for i in keep], own, facts)
    ways = [
        ("formulas, every constant of Trainium", own, ft.log_error),
        ("tables, every constant of Trainium", own, tabled),
        ("tables, the factor alone", some(lambda path: path == SPEED), tabled),
    ]
    lines = [
        (
            "| as shipped by | fitted | in sample | groups left out | sources left out | LLM alone: groups, sources |"
            " Trn2 row, predicted / measured |"
        ),
        "|--|--:|--:|--:|--:|--:|--:|",
    ]
    everything, shipped = range(len(chosen)), ft.log_error
    llm = np.array([all(layer.attention.causal for layer in c.model.layers) for c in chosen])
    trn2 = next(i for i, c in enumerate(chosen) if c.chip == "Trn2")
    for name, known, error in ways:
        ft.log_error = error
        problem = ft.Problem(chosen, known, facts)
        theta = ft.fit(problem, everything, rounds=8)
        out = {"in sample": problem.residual(theta, everything, gradient=False)[0]}
        for kind, where in folds.items():
            out[kind] = np.zeros(len(chosen))
            for fold in np.unique(where):
                held = np.flatnonzero(where == fold).tolist()
                found = ft.fit(problem, np.flatnonzero(where != fold).tolist(), rounds=6)
                out[kind][held] = problem.residual(found, held, gradient=False)[0]
        moved = sum(np.abs(problem.residual(theta, everything, gradient=True)[1]).max(axis=0) > 1e-9)
        cells = [pair(out[k]) for k in ("in sample", "groups", "sources")]
        alone = ", ".join(pair(out[k][llm]) for k in ("groups", "sources"))
        lines.append(f"| {name} | {moved} | {' | '.join(cells)} | {alone} | {math.exp(out['sources'][trn2]):.2f} |")
    ft.log_error = shipped
    return [*lines, "", f"Median / 90th percentile of the error over {len(chosen)} rows, in per cent."]


def pair(logs: Floats) -> str:
    """Median / p90 of the error, per cent."""
    e = 100 * np.expm1(np.abs(logs))
    return f"{np.median(e):.1f} / {np.quantile(e, 0.9):.1f}"


def main() -> None:
    facts = load_facts()
    found = runs(facts)
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in (("both", both_values(found)), ("factor", factor(found)), ("ways", held_out(facts))):
        print("\n".join(lines), end="\n\n")
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda m, lines=lines: m[1] + "\n".join(lines) + "\n" + m[2],
            text,
            flags=re.S,
        )
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
