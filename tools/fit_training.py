"""Fits the constants of `facts/training` to the published training steps, and measures how far off they are on rows
left out.

A constant is fitted when it has grade C and a range; the range is its prior (log-normal, its ends two standard
deviations out) and its hard bound. The loss is Huber's on ln(predicted/measured), each source weighed by rows^-1/4.
Gauss-Newton steps: one evaluation of a case with columns of constants, one perturbed in each, gives its whole gradient.

    python tools/fit_training.py fit      fit all rows, write the constants into facts/training
    python tools/fit_training.py cross    leave out groups, then sources; write the widths of intervals, and every row's
    error to held_out.csv
    python tools/fit_training.py widths   the widths alone, from the errors in held_out.csv

A group is (chip, model, precision, task). Takes about 8 s a fit on one idle core.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mowich.evidence.fitting.moved import with_numbers
from mowich.evidence.fitting.solve import bounded_step
from mowich.evidence.fitting.training import log_error
from mowich.evidence.measured_tables import published, read_csv
from mowich.evidence.residual import FEATURES, RUN_KINDS, features, kind_of
from mowich.evidence.row_checks import PublishedRow
from mowich.evidence.rows import Case, read_cases
from mowich.facts import Facts, load_facts
from mowich.facts.load import shipped_folder
from mowich.plans.plan import Plans
from mowich.software.recipes import OF_RECIPES
from mowich.software.stack import Efficiency, Stack
from mowich.training.step import step_time

Floats = NDArray[np.float64]

HELD_OUT = Path(__file__).with_name("held_out.csv")

HUBER = 0.05
"""Log error at which the loss turns from quadratic to linear. Medians and 90th percentiles are scored, so rows that a
mechanism is missing for should pull little: 0.08 costs 0.3 points of the median of rows left out, 0.03 gains none and
costs TPUs and Trainium 1 their tails."""
PRIOR_WEIGHT = 5.0
"""Squared log error that one standard deviation of a prior costs, in units of HUBER^2 times the mean weight of a row. 4
to 6 do alike on groups and on sources left out; 2 loses a point at the 90th percentile."""
CROSS_ROUNDS = 5
"""Rounds of a fit with rows left out, from the middle of the ranges: the loss is then within 1% of where it ends."""
SOURCE = "mowich-training-study"
"""Of the constants that this tool writes: those of a device may be of the fit of serving."""
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
    names = {f.name for f in (*fields(Efficiency), *fields(Stack))} | {*OF_RECIPES}
    rows = []
    for kind, owner in ((k, one) for k in ("devices", "training") for one in facts.ids(k)):
        for path in facts.paths(f"{kind}.{owner}"):
            fact = facts.fact(path)
            if (
                path.rsplit(".", 1)[1] in names
                and fact.path == path
                and fact.source == SOURCE
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
        """ln(predicted/measured) of the rows [m], and its gradient [m, n] (zeros unless asked for). Rows that repeat a
        run, in another release or source, are evaluated once."""
        r, J = np.zeros(len(rows)), np.zeros((len(rows), len(theta)))
        seen: dict[object, int] = {}
        for k, row in enumerate(rows):
            case, reads = self.cases[row], self.reads[row]
            run = (id(case.system), case.model, case.job, case.plan)
            if run in seen:
                first = seen[run]
                r[k] = r[first] + math.log(self.cases[rows[first]].measured_step_s / case.measured_step_s)
                J[k] = J[first]
                continue
            seen[run] = k
            values: dict[str, Floats | float] = {}
            for j, (name, i) in enumerate(reads):
                values[name] = math.exp(theta[i])
                if gradient:
                    values[name] = np.full(len(reads) + 1, math.exp(theta[i]))
                    values[name][j + 1] *= math.exp(DELTA)
            logs = log_error(case, with_numbers(case.system, values), self.columns[row])
            r[k] = logs[0]
            if gradient and len(logs) > 1:
                for j, (_, i) in enumerate(reads):
                    J[k, i] += (logs[j + 1] - logs[0]) / DELTA
        return r, J


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
            damped = H + damping * 0.05 * np.diag(np.diag(H))
            step = bounded_step(damped, g, theta, known.low, known.high, stops_at_ends=False)
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


def group_of(row: PublishedRow) -> str:
    """(chip, model, precision, task): what is left out together."""
    return "|".join((row["chip"], row["model_ref"] or row["model_name"], row["precision"], row.get("task", "")))


def folds_of(keys: Sequence[str], folds: int) -> NDArray[np.intp]:
    """Fold of each row: the largest group to the smallest fold so far; equal sizes in order of name."""
    sizes, where = [0] * folds, {}
    for key, count in sorted(Counter(keys).items(), key=lambda item: (-item[1], item[0])):
        where[key] = min(range(folds), key=lambda i: sizes[i])
        sizes[where[key]] += count
    return np.array([where[key] for key in keys])


def read(facts: Facts) -> tuple[list[PublishedRow], list[Case]]:
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


def cross(problem: Problem, keys: Sequence[str], folds: int, *, say: bool = False) -> Floats:
    """ln(predicted/measured) of every row by constants fitted without its fold."""
    where = folds_of(keys, folds)
    out = np.zeros(len(keys))
    for fold in range(folds):
        began = time.perf_counter()
        held = np.flatnonzero(where == fold)
        theta = fit(problem, np.flatnonzero(where != fold).tolist(), rounds=CROSS_ROUNDS)
        out[held], _ = problem.residual(theta, held.tolist(), gradient=False)
        if say:
            print(
                f"fold {fold}: {len(held)} rows, median {np.median(np.expm1(np.abs(out[held]))):.1%},"
                f" {time.perf_counter() - began:.0f} s",
                flush=True,
            )
    return out


def summary(cases: Sequence[Case], r: Floats, key=None) -> str:
    groups: dict[str, list[float]] = {}
    for case, x in zip(cases, r, strict=True):
        for name in [str(key(case))] if key else classes_of(case):
            groups.setdefault(name, []).append(float(x))
    lines = []
    for name, xs in sorted(groups.items(), key=lambda kv: -len(kv[1])):
        e = np.expm1(np.abs(xs))
        lines.append(
            f"{name:36s} {len(xs):5d}  {100 * np.median(e):5.1f} / {100 * np.quantile(e, 0.9):5.1f}  bias"
            f" {100 * np.median(xs):+5.1f}"
        )
    return "\n".join(lines)


def put(path: str, value: float, facts: Facts) -> bool:
    """Write the SI value of a fact into its file, in the unit and place that it has there; whether that changed the
    file."""
    kind, family, name = path.split(".")
    file = shipped_folder() / kind / f"{family}.yaml"
    text = file.read_text(encoding="utf-8")
    written = str(facts.leaf(path)["value"])
    number, _, unit = written.partition(" ")
    fitted = float(f"{value * float(number) / facts.number(path):.3g}")
    cell = f'"{fitted:g} {unit}"' if unit else f"{fitted:g}"
    new, count = re.subn(rf"^({name}: \{{value: )(\"[^\"]*\"|[^,]*),", rf"\g<1>{cell},", text, flags=re.MULTILINE)
    if count != 1:
        raise SystemExit(f"{path}: {count} places to write it")
    file.write_text(new, encoding="utf-8")
    return new != text


def write(facts: Facts, known: Constants, theta: Floats, J: Floats) -> int:
    """Put the fitted values into the files of `facts/training`; how many changed. A constant on which no row depends
    (gradient J [rows, constants]) stays as it is."""
    seen = np.abs(J).max(axis=0) > 1e-9
    return sum(
        put(path, math.exp(log), facts) for path, log, used in zip(known.paths, theta, seen, strict=True) if used
    )


def case_features(problem: Problem, theta: Floats) -> Floats:
    """x_j of every case [rows, features], of the step that the constants predict."""
    out = []
    for case, plans, reads in zip(problem.cases, problem.columns, problem.reads, strict=True):
        system = with_numbers(case.system, {name: math.exp(theta[i]) for name, i in reads})
        parts = {k: float(v[0]) for k, v in step_time(case.model, system, case.job, plans).parts.items()}
        x = features(parts, case.model, system, case.inferred)
        out.append([x[name] for name in FEATURES])
    return np.array(out)


def fit_widths(x: Floats, e: Floats, weight: Floats) -> Floats:
    """w_j >= 0 of W = sqrt(sum (w_j x_j)^2): most likely under a Student t (4 degrees of freedom) of scale W / 2.13, so
    that W is its 90% half-width; then all scaled so that 90% of |e| (by weight) lie within."""
    v = np.full(x.shape[1], 0.1) ** 2

    def loss(v: Floats) -> float:
        scale2 = (x * x @ v) / 2.13**2
        return float((weight * (0.5 * np.log(scale2) + 2.5 * np.log1p(e * e / scale2 / 4.0))).sum()) + 0.5 * float(
            (v / 0.3**2).sum()
        )

    best = loss(v)
    for factor in (4.0, 2.0, 1.4, 1.15, 1.05):
        for _ in range(6):
            before = best
            for j in range(len(v)):
                for by in (factor, 1.0 / factor, 0.0):
                    trial = v.copy()
                    trial[j] = max(v[j], 1e-6) * by if by else 1e-8
                    if j == 0:
                        trial[0] = max(trial[0], 0.03**2)
                    got = loss(trial)
                    if got < best:
                        v, best = trial, got
            if before - best < 1e-4:
                break
    w = np.sqrt(v)
    ratio = np.abs(e) / np.sqrt(x * x @ v)
    order = np.argsort(ratio)
    at = np.searchsorted(np.cumsum(weight[order]) / weight.sum(), 0.9)
    return np.asarray(w * ratio[order][min(at, len(ratio) - 1)])


ENDS = 0.96
"""Share of the errors at or below the end of an interval; the other end likewise. A little wide, as quantiles of few
rows come out narrow for rows that are left out."""
SHRINK = 6.0
"""Groups at which a kind's own quantile counts as much as that of the wider kind."""


def few(n: int) -> float:
    """How much further out an end lies that n groups give, than one that many do: the quantile `ENDS` of what the next
    group shows, of Student's t with n - 1 degrees of freedom (at least 2) by its expansion, over that of a normal."""
    n = max(n, 3)
    z, nu = NormalDist().inv_cdf(ENDS), n - 1
    t = z + (z**3 + z) / (4 * nu) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)
    return t * math.sqrt(1.0 + 1.0 / n) / z


def leans(ratio: Floats, kinds: NDArray[np.str_], groups: NDArray[np.str_]) -> dict[str, tuple[float, float]]:
    """(faster, slower) of every kind, multiples of W: quantiles of ln(predicted/measured) / W and of its negative. Those
    of a kind with n groups are n / (n + SHRINK) its own, further out where they are `few`, else its wider kind's."""
    found: dict[str, tuple[float, float]] = {}

    def of(kind: str) -> tuple[float, float]:
        if kind not in found:
            within = np.ones(len(kinds), bool) if kind == "all" else np.isin(kinds, leaves(kind))
            wider = (1.0, 1.0) if kind == "all" else of(RUN_KINDS[kind])
            n = len(set(groups[within].tolist()))
            own = n / (n + SHRINK) if kind != "all" else 1.0
            found[kind] = wider
            if n:
                mine = [
                    few(n) * max(0.1, float(np.quantile(sign * ratio[within], ENDS, method="weibull")))
                    for sign in (1.0, -1.0)
                ]
                faster, slower = (own * m + (1.0 - own) * w for m, w in zip(mine, wider, strict=True))
                found[kind] = (faster, slower)
        return found[kind]

    return {kind: of(kind) for kind in RUN_KINDS}


def leaves(kind: str) -> list[str]:
    """The kinds below a kind, or itself."""
    below = [name for name, wider in RUN_KINDS.items() if wider == kind]
    return [leaf for name in below for leaf in leaves(name)] or [kind]


@dataclass(frozen=True, slots=True)
class Widths:
    """w: w_j of `FEATURES`; leans: kind -> (faster, slower); inside: for each kind of error, whether each row lies inside
    an interval that was fitted without its group or source."""

    w: Floats
    leans: dict[str, tuple[float, float]]
    inside: dict[str, Floats]


def widths(
    x: Floats,
    errors: dict[str, Floats],
    groups: Sequence[str],
    sources: Sequence[str],
    kinds: Sequence[str],
    folds: int = 5,
) -> Widths:
    """The widths from all rows, and how rows fare that a fit of widths has not seen. In the fit of w rows of a group
    share a weight of rows^1/2. Without the one source that a kind of run has, nothing of it is in the fit of constants:
    such an error is that of priors, and says nothing of the fit that ships."""
    sizes, sources_of = Counter(groups), Counter(kind for kind, _ in {*zip(kinds, sources, strict=True)})
    weight = np.array([sizes[g] ** -0.5 for g in groups])
    stacked, all_e = np.vstack([x] * len(errors)), np.concatenate(list(errors.values()))
    all_weight = np.tile(weight, len(errors))
    several = np.array([sources_of[kind] > 1 for kind in kinds])
    counts = np.concatenate([several if left == "source" else np.ones(len(x), bool) for left in errors])
    kind, group = np.tile(np.array(kinds), len(errors)), np.tile(np.array(groups), len(errors))

    def fitted(keep: NDArray[np.bool_]) -> tuple[Floats, dict[str, tuple[float, float]]]:
        keep = keep & counts
        w = fit_widths(stacked[keep], all_e[keep], all_weight[keep])
        ratio = all_e[keep] / np.sqrt((stacked[keep] * w) ** 2 @ np.ones(x.shape[1]))
        return w, leans(ratio, kind[keep], group[keep])

    inside = {}
    for left, e in errors.items():
        where = folds_of(list(groups if left == "group" else sources), folds)
        held = np.zeros(len(e))
        for fold in range(folds):
            w, lean = fitted(np.tile(where != fold, len(errors)))
            at = where == fold
            width = np.sqrt((x[at] * w) ** 2 @ np.ones(x.shape[1]))
            ends = np.array([lean[k] for k in np.array(kinds)[at]])
            held[at] = (e[at] <= ends[:, 0] * width) & (-e[at] <= ends[:, 1] * width)
        inside[left] = held
    return Widths(*fitted(np.ones(len(all_e), bool)), inside)


def held_out_errors(cases: Sequence[Case]) -> dict[str, Floats]:
    """The errors that `cross` wrote. Raises KeyError for a row that it has not seen."""
    with HELD_OUT.open(newline="", encoding="utf-8") as file:
        held = {row["id"]: row for row in csv.DictReader(file)}
    return {kind: np.array([float(held[case.id][f"error_{kind}"]) for case in cases]) for kind in ("group", "source")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fit", "cross", "widths"))
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()
    facts = load_facts()
    rows, cases = read(facts)
    problem = Problem(cases, constants(facts), facts)
    if options.what == "fit":
        theta = fit(problem, range(len(cases)), say=True)
        r, J = problem.residual(theta, range(len(cases)), gradient=True)
        print(f"{write(facts, problem.known, theta, J)} constants of {len(theta)} changed")
        print(summary(cases, r))
        return
    keys = {"group": [group_of(row) for row in rows], "source": [row["source_group"] for row in rows]}
    errors = held_out_errors(cases) if options.what == "widths" else {}
    for kind, names in keys.items() if not errors else ():
        errors[kind] = cross(problem, names, options.folds, say=True)
        print(f"{kind}s left out\n{summary(cases, errors[kind])}", flush=True)
    x = case_features(problem, problem.known.start)
    kinds = [kind_of(case.model, case.system, case.inferred) for case in cases]
    found = widths(x, errors, keys["group"], keys["source"], kinds)
    for name, value in zip(FEATURES, found.w, strict=True):
        put(f"training.residuals.{name}", value, facts)
    for kind, ends in found.leans.items():
        for end, value in zip(("faster", "slower"), ends, strict=True):
            if kind not in RUN_KINDS.values():
                put(f"training.residuals.{kind}_{end}", value, facts)
    inside = found.inside
    for kind, held in inside.items():
        print(f"{kind}s left out: {held.mean():.1%} of rows inside widths that were fitted without them")
    with HELD_OUT.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(("id", *(f"{part}_{kind}" for kind in keys for part in ("error", "inside"))))
        for i, case in enumerate(cases):
            out.writerow(
                (case.id, *(cell for kind in keys for cell in (f"{errors[kind][i]:.4f}", int(inside[kind][i]))))
            )


if __name__ == "__main__":
    main()
