"""Fits the constants of `facts/training` to the published training steps, and measures how far off they are on rows left out.

A constant is fitted when it has grade C and a range; the range is its prior (log-normal, its ends two standard deviations
out) and its hard bound. The loss is Huber's on ln(predicted/measured), each source weighed by rows^-1/4. Gauss-Newton steps: one
evaluation of a case with columns of constants, one perturbed in each, gives its whole gradient.

    python benchmarks/fit_training.py fit               write the fitted values into facts/training
    python benchmarks/fit_training.py cross [--by group|source] [--folds 10] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mowich.facts import Facts, load
from mowich.facts.load import shipped
from mowich.machines.system import Efficiency, Stack, System
from mowich.plans.plan import Plans
from mowich.simulate.train import step_time
from mowich.studies.rows import Case, Row, read_cases
from mowich.studies.validate import published, read_csv

Floats = NDArray[np.float64]

HUBER = 0.08
"""Log error at which the loss turns from quadratic to linear."""
PRIOR_WEIGHT = 0.02
"""Squared log error that one standard deviation of a prior costs, in units of HUBER^2 times the mean weight of a row."""
DELTA = 1e-3
"""Step of the numerical gradient, in ln of the constant."""


@dataclass(frozen=True, slots=True)
class Constants:
    """paths of the fitted constants; start, low, high: their logs, [n]."""

    paths: tuple[str, ...]
    start: Floats
    middle: Floats
    low: Floats
    high: Floats


def constants(facts: Facts) -> Constants:
    """Every constant of grade C with a range that systems read."""
    names = {f.name for f in (*fields(Efficiency), *fields(Stack))}
    rows = []
    for family in facts.ids("training"):
        for path in facts.paths(f"training.{family}"):
            fact = facts.fact(path)
            if (
                path.rsplit(".", 1)[1] in names
                and fact.path == path
                and fact.grade == "C"
                and fact.low
                and fact.high
                and fact.low < fact.high
            ):
                rows.append((path, math.log(facts.number(path)), math.log(fact.low), math.log(fact.high)))
    paths, start, low, high = zip(*rows, strict=True)
    lo, hi = np.array(low), np.array(high)
    return Constants(tuple(paths), np.array(start), (lo + hi) / 2, lo, hi)


class Problem:
    """The cases, and for each which constants it reads and through which field."""

    def __init__(self, cases: Sequence[Case], known: Constants, facts: Facts) -> None:
        self.cases, self.known = list(cases), known
        index = {path: i for i, path in enumerate(known.paths)}
        self.reads: list[list[tuple[str, int]]] = []
        for case in self.cases:
            at = (
                (name, facts.fact(path).path)
                for name, path in case.system.paths.items()
                if name.startswith(("efficiency.", "stack."))
            )
            found = [(name, index[path]) for name, path in at if path in index]
            self.reads.append(found)
        self.columns = [Plans.of([case.plan]) for case in self.cases]

    def residual(self, theta: Floats, rows: Sequence[int], *, gradient: bool) -> tuple[Floats, Floats]:
        """ln(predicted/measured) of the rows [m], and its gradient [m, n] (zeros unless asked for)."""
        r, J = np.zeros(len(rows)), np.zeros((len(rows), len(theta)))
        for k, row in enumerate(rows):
            case, reads = self.cases[row], self.reads[row]
            values: dict[str, Floats | float] = {}
            for j, (name, i) in enumerate(reads):
                if gradient:
                    column = np.full(len(reads) + 1, math.exp(theta[i]))
                    column[j + 1] *= math.exp(DELTA)
                    values[name] = column
                else:
                    values[name] = math.exp(theta[i])
            logs = log_error(case, with_constants(case.system, values), self.columns[row])
            r[k] = logs[0]
            if gradient and len(logs) > 1:
                for j, (_, i) in enumerate(reads):
                    J[k, i] += (logs[j + 1] - logs[0]) / DELTA
        return r, J


def with_constants(system: System, values: dict[str, Floats | float]) -> System:
    """The system with constants replaced: {"efficiency.gemm_efficiency": 0.7, ...}; columns are allowed."""
    efficiency = {k.split(".", 1)[1]: v for k, v in values.items() if k.startswith("efficiency.")}
    stack = {k.split(".", 1)[1]: v for k, v in values.items() if k.startswith("stack.")}
    return replace(system, efficiency=replace(system.efficiency, **efficiency), stack=replace(system.stack, **stack))  # type: ignore[arg-type]


def log_error(case: Case, system: System, plans: Plans) -> Floats:
    """ln(predicted/measured step time) for each column of constants."""
    step = step_time(case.model, system, case.job, plans)
    return np.atleast_1d(np.log(step.total_s * case.job.tokens_per_step / step.tokens / case.measured_step_s))


def weights_of(cases: Sequence[Case]) -> Floats:
    """rows^-1/4 of the source, scaled to a mean of 1."""
    sizes = Counter(case.source for case in cases)
    w = np.array([sizes[case.source] ** -0.25 for case in cases])
    return np.asarray(w / w.mean())


def fit(
    problem: Problem, rows: Sequence[int], *, start: Floats | None = None, rounds: int = 12, say: bool = False
) -> Floats:
    """Logs of the constants that fit the rows best, within their ranges."""
    known = problem.known
    theta = np.clip(known.middle if start is None else start, known.low, known.high)
    w = weights_of([problem.cases[i] for i in rows])
    sd = (known.high - known.low) / 4.0
    pull = PRIOR_WEIGHT * HUBER**2 / sd**2
    damping = 1.0

    def loss(r: Floats, at: Floats) -> float:
        a = np.abs(r)
        huber = np.where(a < HUBER, r * r, 2 * HUBER * a - HUBER**2)
        return float((w * huber).sum() + (pull * (at - known.middle) ** 2).sum())

    r, J = problem.residual(theta, rows, gradient=True)
    best = loss(r, theta)
    for turn in range(rounds):
        c = w * np.minimum(1.0, HUBER / np.maximum(np.abs(r), 1e-9))
        A = (J * c[:, None]).T @ J
        g = J.T @ (c * r) + pull * (theta - known.middle)
        H = A + np.diag(pull)
        improved = False
        for _ in range(5):
            free = np.ones(len(theta), dtype=bool)
            step = np.zeros_like(theta)
            for _ in range(6):  # active set: constants pushed against their bounds stay there
                step[:] = 0
                f = np.flatnonzero(free)
                M = H[np.ix_(f, f)] + damping * 0.05 * np.diag(np.diag(H)[f])
                step[f] = -np.linalg.solve(M, g[f])
                to = theta + step
                out = free & (
                    ((to < known.low - 1e-12) & (theta <= known.low + 1e-9))
                    | ((to > known.high + 1e-12) & (theta >= known.high - 1e-9))
                )
                if not out.any():
                    break
                free &= ~out
            trial = np.clip(theta + step, known.low, known.high)
            r2, J2 = problem.residual(trial, rows, gradient=True)
            got = loss(r2, trial)
            if got < best:
                gain, best, theta, improved = best - got, got, trial, True
                r, J = r2, J2
                damping = max(damping / 3, 0.01)
                break
            damping *= 4
        if say:
            print(f"  round {turn}: loss {best:.4f}, median {np.median(np.abs(r)):.4f}", flush=True)
        if not improved or gain < 2e-4 * best:
            break
    return np.asarray(theta)


def group_of(row: Row) -> str:
    """(chip, model, precision, task): what is left out together."""
    return "|".join((row["chip"], row["model_ref"] or row["model_name"], row["precision"], row.get("task", "")))


def folds_of(keys: Sequence[str], folds: int) -> NDArray[np.intp]:
    """Fold of each row: the largest group to the smallest fold so far; equal sizes in order of name."""
    sizes, where = [0] * folds, {}
    for key, count in sorted(Counter(keys).items(), key=lambda item: (-item[1], item[0])):
        where[key] = min(range(folds), key=lambda i: sizes[i])
        sizes[where[key]] += count
    return np.array([where[key] for key in keys])


def read(facts: Facts) -> tuple[list[Row], list[Case]]:
    """Rows that are answered, and their cases."""
    rows = read_csv(published(), facts)
    pairs = [(row, case) for row, case in zip(rows, read_cases(rows, facts), strict=True) if not isinstance(case, str)]
    return [row for row, _ in pairs], [case for _, case in pairs]


PLAN_FIELDS = {"tp", "pp", "cp", "ep", "batch", "micro_batch", "vpp"}
"""What must be stated for a plan to count as stated."""


def is_plan_stated(case: Case) -> bool:
    return not {item.split("=")[0] for item in case.inferred} & PLAN_FIELDS


def classes_of(case: Case) -> list[str]:
    """The classes of rows that targets are stated for."""
    gpu = case.system.vendor == "NVIDIA"
    encoder = not all(layer.attention.causal for layer in case.model.layers)
    out = ["all"]
    if gpu:
        out.append(
            "MoE on GPU"
            if case.is_moe
            else "dense NVIDIA, plan stated"
            if is_plan_stated(case)
            else "dense NVIDIA, plan open"
        )
    elif case.system.vendor == "Google":
        out.append("MoE on TPU" if case.is_moe else "dense TPU")
    else:
        out.append("Trn1 BERT" if encoder else "Trn1 LLM")
    return out


TARGETS = {
    "all": (9, 30),
    "dense NVIDIA, plan stated": (6, 18),
    "MoE on GPU": (15, 45),
    "dense TPU": (10, 25),
    "Trn1 LLM": (20, 40),
}


def cross(problem: Problem, keys: Sequence[str], folds: int, *, say: bool = False) -> tuple[Floats, list[Floats]]:
    """ln(predicted/measured) of every row by constants fitted without its fold, and those constants."""
    where = folds_of(keys, folds)
    out, fitted = np.zeros(len(keys)), []
    for fold in range(folds):
        began = time.perf_counter()
        held = np.flatnonzero(where == fold)
        theta = fit(problem, np.flatnonzero(where != fold).tolist())
        out[held], _ = problem.residual(theta, held.tolist(), gradient=False)
        fitted.append(theta)
        if say:
            print(
                f"fold {fold}: {len(held)} rows, median {np.median(np.expm1(np.abs(out[held]))):.1%}, {time.perf_counter() - began:.0f} s",
                flush=True,
            )
    return out, fitted


def summary(cases: Sequence[Case], r: Floats, key=None) -> str:
    groups: dict[str, list[float]] = {}
    for case, x in zip(cases, r, strict=True):
        for name in [str(key(case))] if key else classes_of(case):
            groups.setdefault(name, []).append(float(x))
    lines = []
    for name, xs in sorted(groups.items(), key=lambda kv: -len(kv[1])):
        e = np.expm1(np.abs(xs))
        lines.append(
            f"{name:36s} {len(xs):5d}  {100 * np.median(e):5.1f} / {100 * np.quantile(e, 0.9):5.1f}  bias {100 * np.median(xs):+5.1f}"
        )
    return "\n".join(lines)


def write(facts: Facts, known: Constants, theta: Floats, J: Floats) -> int:
    """Put the fitted values into the files of `facts/training`, each in the unit and place that it has there; how many changed. A constant
    on which no row depends (gradient J [rows, constants]) stays as it is."""
    changed = 0
    for path, log, seen in zip(known.paths, theta, np.abs(J).max(axis=0), strict=True):
        if seen < 1e-9:
            continue
        _, family, name = path.split(".")
        file = shipped() / "training" / f"{family}.yaml"
        text = file.read_text(encoding="utf-8")
        written = facts.leaf(path)["value"]
        unit = str(written).split(" ", 1)[1] if isinstance(written, str) and " " in written else ""
        number = float(str(written).split(" ", 1)[0])
        fitted = float(f"{math.exp(log) * number / facts.number(path):.3g}")
        value = f'"{fitted:g} {unit}"' if unit else f"{fitted:g}"
        new, count = re.subn(
            rf"^({name}: \{{value: )(\"[^\"]*\"|[^,]*),", lambda m, v=value: f"{m[1]}{v},", text, flags=re.MULTILINE
        )
        if count != 1:
            raise SystemExit(f"{path}: {count} places to write it")
        if new != text:
            changed += 1
            file.write_text(new, encoding="utf-8")
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fit", "cross"))
    parser.add_argument("--by", choices=("group", "source"), default="group")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write every row's ln(predicted/measured), left out, here")
    options = parser.parse_args()
    facts = load()
    rows, cases = read(facts)
    problem = Problem(cases, constants(facts), facts)
    if options.what == "fit":
        theta = fit(problem, range(len(cases)), say=True)
        r, J = problem.residual(theta, range(len(cases)), gradient=True)
        print(f"{write(facts, problem.known, theta, J)} constants of {len(theta)} changed")
        print(summary(cases, r))
        return
    keys = [group_of(row) if options.by == "group" else row["source_group"] for row in rows]
    held, _ = cross(problem, keys, options.folds, say=True)
    print(summary(cases, held))
    if options.json:
        options.json.write_text(
            json.dumps({case.id: float(x) for case, x in zip(cases, held, strict=True)}), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
