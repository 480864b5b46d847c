"""Fits the constants of serving: writes facts/serving/*.yaml, corrections.csv and the rates
at which devices read operands (facts/devices), and the held-out errors of
docs/accuracy-serving.md.

Constants start at the priors of `facts/serving/priors.csv` (medians of operator tables, the pre-study). Gauss-Newton on
the log error of TPOT and TTFT with a robust loss finds the constants first, each pulled to its prior; corrections by
class are then what classes share of the misses, so that no correction explains what a constant should. Held out: whole (chip, model, framework version) groups are left out, in turn, and everything is fitted
again without them. The constants that ship are fitted to all rows but those of disaggregated decode workers, which are
scored by what ships.

    python tools/fit_serving.py FILE.csv [--folds 30] [--write] [--page]

One fold takes about two seconds on one core.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import fit_worth
import numpy as np
from numpy.typing import NDArray
from serving_page import RANKS, Pools, figures, page

from mowich.evidence.fitting.solve import bounded_step
from mowich.evidence.serving_cases import Cases, class_of, gather_cases
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_rows import ServingCase
from mowich.evidence.serving_validate import predict_serving
from mowich.facts import load_facts
from mowich.facts.load import shipped_folder
from mowich.serving.corrections import LEVELS, METRICS, WIDTH_KINDS, Class, CorrectionTable, key, read_corrections
from mowich.units import parse

Floats = NDArray[np.float64]

FOLDER = shipped_folder() / "serving"
SCALE = {"tpot": 0.12, "ttft": 0.30, "request": 0.12}
"""Log error of one row, at which its weight begins to fall."""
KNOWN = (*METRICS, "request")
"""What rows say: two times, or tokens per second alone, which say how long a request takes."""
STEP = 1e-3
NAIL = 1e-9
SHRINK = 0.2
"""Standard deviation of a constant in the fit, over that of its prior: the best of 0.2, 0.33, 0.5 and 1 on models,
releases and chip families left out. Ranges that ship have the prior's whole width."""
CAP = 0.98
"""Share of a published rate that no constant passes."""
CAPPED = ("decode_attention", "products", "tp_wires", "ep_wires", "mla_compute", "expert_compute")
"""Facts, beside `weights_*`, that are shares of a published rate, or of what an operator reaches of it alone."""
RESIDUE = 0.6
"""Log error of one row beside corrections, over `SCALE`."""
KINDS = {
    "model": lambda one: one.model,
    "release": lambda one: one.version or one.engine,
    "engine": lambda one: one.engine,
    "chip family": lambda one: one.family,
}
"""What is left out whole, beside groups of rows."""


@dataclass(frozen=True)
class Prior:
    """ln of the middle and its standard deviation: a 90% range of low..high. A constant whose range is a point is
    given, not fitted."""

    unit: str
    value: float
    low: float
    high: float
    why: str

    @property
    def is_free(self) -> bool:
        return self.high > self.low * 1.0001

    @property
    def sd(self) -> float:
        return math.log(self.high / self.low) / 3.29 if self.is_free else NAIL


def priors() -> dict[str, Prior]:
    """The priors, SI."""
    out = {}
    with (FOLDER / "priors.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            unit = row["unit"]

            def si(text: str, unit: str = unit) -> float:
                return float(text) if unit in ("", "1") else parse(f"{text} {unit}").value

            out[row["path"]] = Prior(unit, si(row["value"]), si(row["low"]), si(row["high"]), row["why"])
    return out


def spreads() -> dict[tuple[str, str], float]:
    """Spread of every level of corrections (`level_spreads.csv`)."""
    with (FOLDER / "level_spreads.csv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {(r["metric"], r["level"]): float(r["sd"]) for r in rows}


def _log_request(case: ServingCase, tokens: float) -> float:
    """ln seconds of a request, of a row that states tokens per second and no time per token; else nan."""
    rate = case.measured.get("output_tok_s_per_chip")
    if rate is None or "tpot_ms" in case.measured or case.is_static or "output_tok_s_per_chip" in case.skip:
        return math.nan
    return math.log(case.users * case.plan.dp * tokens / (rate * case.chips))


class Problem:
    """Rows as columns, their measured logs, classes and weights."""

    def __init__(self, cases: Sequence[ServingCase], spread: Mapping[tuple[str, str], float]) -> None:
        self.cases = cases
        self.table: Cases = gather_cases(cases, load_facts())
        prior, facts = priors(), load_facts()

        def of(name: str) -> Prior:
            """What `priors.csv` says; else the fact as it is (those of Trainium 2 and later: `fit_neuron.py`)."""
            if name in prior:
                return prior[name]
            value = facts.number(name)
            return Prior("", value, value, value, "given")

        self.prior = [of(name) for name in self.table.columns.names]
        self.mu = np.log([max(p.value, NAIL) for p in self.prior])
        self.sd = np.array([p.sd for p in self.prior])
        self.free = np.nonzero([p.is_free for p in self.prior])[0]
        field = [name.rsplit(".", 1)[1] for name in self.table.columns.names]
        capped = [name.startswith("weights_") or name in CAPPED for name in field]
        self.cap = np.where(capped, math.log(CAP), math.inf)
        self.measured = {
            m: np.log(
                np.array([math.nan if f"{m}_ms" in c.skip else c.measured.get(f"{m}_ms", math.nan) for c in cases])
                / 1e3
            )
            for m in METRICS
        }
        self.measured["request"] = np.array([_log_request(c, n) for c, n in zip(cases, self.table.output, strict=True)])
        classes = [class_of(c) for c in cases]
        self.keys: dict[tuple[str, str], int] = {}
        entries = []
        for i, one in enumerate(classes):
            for level, (_, covariate) in LEVELS.items():
                name = key(one, level)
                if name and any(spread.get((m, level), 0.0) > 0 for m in METRICS):
                    entries.append((i, self.keys.setdefault((level, name), len(self.keys)), covariate(one)))
        self.Z = np.zeros((len(cases), len(self.keys)))
        for i, j, x in entries:
            self.Z[i, j] = x
        of_row: list[list[tuple[int, float]]] = [[] for _ in cases]
        for i, j, x in entries:
            of_row[i].append((j, x))
        pairs = [(i, a, b, x * y) for i, own in enumerate(of_row) for a, x in own for b, y in own]
        self.pairs = tuple(np.array(column) for column in zip(*pairs, strict=True))
        self.level_sd = {m: np.array([spread.get((m, level), 0.0) for level, _ in self.keys]) for m in METRICS}
        names = [(c.chip, class_of(c).model, c.version) for c in cases]
        number = {name: i for i, name in enumerate(sorted(set(names)))}
        self.group = np.array([number[name] for name in names])
        size = Counter(self.group.tolist())
        weight = np.array([size[g] ** -0.25 for g in self.group.tolist()])
        self.weight = weight / weight.mean()

    def predict(self, theta: Floats) -> dict[str, Floats]:
        """ln TPOT, ln TTFT and ln of the seconds of a request."""
        steady = self.table.steady(np.exp(theta))
        return self.with_requests({"tpot": np.log(steady.tpot_s), "ttft": np.log(steady.ttft_s)})

    def with_requests(self, of: Mapping[str, Floats]) -> dict[str, Floats]:
        """Times of tokens, and of requests by them."""
        request = np.log(np.exp(of["ttft"]) + (self.table.output - 1.0) * np.exp(of["tpot"]))
        return {"tpot": of["tpot"], "ttft": of["ttft"], "request": request}

    def requests(self) -> Floats:
        """ln seconds of a request as it was measured: by both times, or by the rate of tokens."""
        by_times = self.with_requests(self.measured)["request"]
        return np.where(np.isnan(by_times), self.measured["request"], by_times)

    def misses(self, base: Mapping[str, Floats]) -> dict[str, Floats]:
        """ln (measured / predicted) of both times; of a row that states a rate alone, how far its requests are off
        stands for the time per token, of which they mostly are."""
        miss = {m: self.measured[m] - base[m] for m in KNOWN}
        return {"tpot": np.where(np.isnan(miss["tpot"]), miss["request"], miss["tpot"]), "ttft": miss["ttft"]}

    def slopes(self, theta: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """(predictions, d ln prediction / d ln constant [rows, constants])."""
        base = self.predict(theta)
        jacobian = {m: np.zeros((len(self.cases), len(theta))) for m in KNOWN}
        for j in self.free:
            moved = theta.copy()
            moved[j] += STEP
            for m, value in self.predict(moved).items():
                jacobian[m][:, j] = (value - base[m]) / STEP
        return base, jacobian


@dataclass(frozen=True)
class Fit:
    """Constants (ln), corrections by metric, their standard deviations, those of the constants, and the share of each
    prior that the data left."""

    theta: Floats
    effects: Mapping[str, Floats]
    theta_sd: Floats
    effect_sd: Mapping[str, Floats]


def _weights(p: Problem, metric: str, miss: Floats, rows: NDArray[np.bool_]) -> Floats:
    """Weight of every row of a metric under the robust loss, over the square of `SCALE`."""
    error = miss / SCALE[metric]
    return np.asarray(p.weight[rows] / np.sqrt(1.0 + (error / 1.5) ** 2) / SCALE[metric] ** 2)


def constants(
    p: Problem,
    train: NDArray[np.bool_],
    start: Floats | None = None,
    rounds: int = 6,
    slopes: tuple[dict[str, Floats], dict[str, Floats]] | None = None,
) -> tuple[Floats, Floats]:
    """(ln of the constants, their standard deviations by the data and the whole width of their priors). Each round is
    one linear solve of robust least squares with the priors as rows; shares of a published rate stay at `CAP`."""
    theta = p.mu.copy() if start is None else start.copy()
    free, cap = p.free, p.cap[p.free]
    rows = {m: train & ~np.isnan(p.measured[m]) for m in KNOWN}
    pull = (SHRINK * p.sd[free]) ** -2
    for turn in range(rounds):
        base, jacobian = slopes if slopes is not None and turn == 0 else p.slopes(theta)
        data, v = np.zeros((len(free), len(free))), np.zeros(len(free))
        for m in KNOWN:
            miss = (p.measured[m] - base[m])[rows[m]]
            weight = _weights(p, m, miss, rows[m])
            A = jacobian[m][np.ix_(rows[m], free)]
            data += A.T @ (A * weight[:, None])
            v += A.T @ (weight * miss)
        v += (p.mu - theta)[free] * pull
        step = bounded_step(data + np.diag(pull), -v, theta[free], np.full(len(free), -math.inf), cap)
        theta[free] += np.clip(step, -0.7, 0.7)
    sd = p.sd.copy()
    sd[free] = np.sqrt(np.diag(np.linalg.inv(data + np.diag(p.sd[free] ** -2))))
    return theta, sd


def corrections(
    p: Problem, train: NDArray[np.bool_], miss: Mapping[str, Floats], rounds: int = 3
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """(corrections, their standard deviations) by metric: what classes share of the misses of the constants, ln
    (measured / predicted) [rows], each pulled to zero by the spread of its level."""
    out: dict[str, Floats] = {}
    sd: dict[str, Floats] = {}
    for m in METRICS:
        rows = train & ~np.isnan(miss[m])
        live = np.nonzero((np.abs(p.Z[rows]) > 0).any(axis=0) & (p.level_sd[m] > 0))[0]
        A, y = p.Z[np.ix_(rows, live)], miss[m][rows]
        place = np.full(len(p.keys), -1)
        place[live] = np.arange(len(live))
        row, one, other, product = p.pairs  # of the few classes of each row: A is nearly empty
        at = rows[row] & (place[one] >= 0) & (place[other] >= 0)
        row, product, cell = row[at], product[at], place[one[at]] * len(live) + place[other[at]]
        of_case = np.zeros(len(rows))
        x = np.zeros(len(live))
        for _ in range(rounds):
            weight = _weights(p, m, (y - A @ x) / RESIDUE, rows) / RESIDUE**2
            of_case[rows] = weight
            H = np.bincount(cell, of_case[row] * product, len(live) ** 2).reshape(len(live), len(live))
            H += np.diag(p.level_sd[m][live] ** -2)
            x = np.linalg.solve(H, A.T @ (weight * y))
        out[m], sd[m] = np.zeros(len(p.keys)), p.level_sd[m].copy()
        out[m][live], sd[m][live] = x, np.sqrt(np.diag(np.linalg.inv(H)))
    return out, sd


def solve(
    p: Problem,
    train: NDArray[np.bool_],
    start: Fit | None = None,
    rounds: int = 6,
    slopes: tuple[dict[str, Floats], dict[str, Floats]] | None = None,
) -> Fit:
    """The constants first, with nothing to correct them, then corrections of what they leave."""
    theta, theta_sd = constants(p, train, None if start is None else start.theta, rounds, slopes)
    base = p.predict(theta)
    effects, effect_sd = corrections(p, train, p.misses(base))
    return Fit(theta, effects, theta_sd, effect_sd)


def corrected(p: Problem, fit: Fit) -> dict[str, Floats]:
    """ln predictions with corrections."""
    base = p.predict(fit.theta)
    return {m: base[m] + p.Z @ fit.effects[m] for m in METRICS}


def shipped_now(cases: Sequence[ServingCase]) -> dict[str, Floats]:
    """ln predictions with the constants and corrections that ship, as `mowich validate` has them; nan where a row does
    not state the metric."""
    out = {m: np.full(len(cases), math.nan) for m in METRICS}
    for i, results in enumerate(predict_serving(cases, load_facts())):
        for found in results:
            metric = found.metric.removesuffix("_ms")
            if metric in out and found.predicted is not None:
                out[metric][i] = math.log(found.predicted / 1e3)
    return out


def pool_ratios(pools: Sequence[ServingCase]) -> Pools:
    """How the time per token of decode workers is predicted by what ships."""
    facts, table = load_facts(), gather_cases(pools, load_facts())
    steady = table.steady(np.array([facts.number(path) for path in table.columns.names]))
    measured = np.log([c.measured["tpot_ms"] / 1e3 for c in pools])
    found = [next(r for r in results if r.metric == "tpot_ms") for results in predict_serving(pools, facts)]
    inside = [r.low <= r.measured <= r.high for r in found if r.low and r.high and r.measured]
    return Pools(np.log(steady.tpot_s) - measured, shipped_now(pools)["tpot"] - measured, np.array(inside, dtype=float))


def table_of(
    p: Problem, fit: Fit, noise: Mapping[str, float], width: Mapping[str, Width], rows: NDArray[np.bool_]
) -> list[str]:
    """Lines of corrections.csv: only classes that the rows support."""
    lines = ["metric,level,class,value,sd,cases"]
    for m in METRICS:
        lines += [f"{m},noise,,{noise[m]:.4f},,", f"{m},width,,{width[m].base:.4f},,"]
        lines += [f'{m},width of {kind},"{name}",{x:.4f},,' for (kind, name), x in width[m].factors.items()]
        for (metric, level), sd in sorted(spreads().items()):
            if metric == m and sd > 0:
                lines.append(f"{m},{level},*,0,{sd:.4f},")
        stated = ~np.isnan(p.measured[m]) | ((m == "tpot") & ~np.isnan(p.measured["request"]))
        count = (np.abs(p.Z[rows & stated]) > 0).sum(axis=0)
        for (level, name), j in sorted(p.keys.items()):
            if count[j] and p.level_sd[m][j] > 0:
                lines.append(f'{m},{level},"{name}",{fit.effects[m][j]:.3f},{fit.effect_sd[m][j]:.3f},{count[j]}')
    return lines


def left_out(
    p: Problem, full: Fit, slopes: tuple[dict[str, Floats], dict[str, Floats]], names: Sequence[str]
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """(ln predictions by constants alone, with corrections) of every row from a fit without the rows that share its
    name: one step from the full fit, at which slopes are, for the constants; corrections anew."""
    of = np.array(names)
    off = {m: np.full(len(p.cases), math.nan) for m in METRICS}
    on = {m: np.full(len(p.cases), math.nan) for m in METRICS}
    for name in sorted(set(names)):
        test = of == name
        fit = solve(p, ~test, start=full, rounds=1, slopes=slopes)
        base = p.predict(fit.theta)
        for m in METRICS:
            off[m][test], on[m][test] = base[m][test], (base[m] + p.Z @ fit.effects[m])[test]
    return off, on


def held_out(
    p: Problem, full: Fit, slopes: tuple[dict[str, Floats], dict[str, Floats]], folds: int, noise: Mapping[str, float]
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """(ln predictions, ln standard deviations) of every row from a fit without its group; groups are dealt over the
    folds by size."""
    size = Counter(p.group.tolist())
    load_of, fold_of = [0] * folds, {}
    for g, n in sorted(size.items(), key=lambda kv: (-kv[1], kv[0])):
        fold_of[g] = min(range(folds), key=lambda k: load_of[k])
        load_of[fold_of[g]] += n
    fold = np.array([fold_of[g] for g in p.group.tolist()])
    out = {m: np.full(len(p.cases), math.nan) for m in METRICS}
    sd = {m: np.full(len(p.cases), math.nan) for m in METRICS}
    one = dict.fromkeys(METRICS, Width(1.0, {}))
    for k in range(folds):
        test = fold == k
        fit = solve(p, ~test, start=full, rounds=1, slopes=slopes)
        got = corrected(p, fit)
        table: CorrectionTable = read_corrections(table_of(p, fit, noise, one, ~test))
        classes = [class_of(c) for c, t in zip(p.cases, test, strict=True) if t]
        for m in METRICS:
            out[m][test] = got[m][test]
            sd[m][test] = table.apply(m, classes)[1]
    return out, sd


def write_worth(p: Problem, full: Fit, slopes: tuple[dict[str, Floats], dict[str, Floats]]) -> None:
    """serving_worth.csv: by how many points the errors of groups left out grow without each constant, by metric."""
    base, jacobian = slopes
    stated = {m: ~np.isnan(p.measured[m]) for m in METRICS}
    miss = {m: (base[m] - p.measured[m])[stated[m]] for m in METRICS}
    r, weight = np.concatenate(list(miss.values())), [_weights(p, m, miss[m], stated[m]) for m in METRICS]
    J = np.concatenate([jacobian[m][np.ix_(stated[m], p.free)] for m in METRICS])
    fold = np.concatenate([p.group[stated[m]] for m in METRICS])
    pull = (SHRINK * p.sd[p.free]) ** -2
    free, held = fit_worth.held_errors(r, J, np.concatenate(weight), pull, (p.mu - full.theta)[p.free], fold)
    first = int(stated[METRICS[0]].sum())
    parts = dict(zip(METRICS, (slice(None, first), slice(first, None)), strict=True))
    names = [p.table.columns.names[j] for j in p.free]
    fit_worth.write_served(names, {m: fit_worth.points(free[at], held[at]) for m, at in parts.items()})


LEAST_ROWS = 20
"""Rows of a class whose intervals may have a width of their own."""
WIDTH_ROUNDS = 400
INSIDE = (0.86, 0.94)
"""Share of a class's held-out rows inside, beyond which its width is another than that of the rest."""


@dataclass(frozen=True)
class Width:
    """Half-width of an interval over the standard deviation; factors: what it is multiplied by, by (kind, class)."""

    base: float
    factors: Mapping[tuple[str, str], float]

    def of(self, classes: Sequence[Class]) -> Floats:
        """Of every case."""
        out = np.full(len(classes), self.base)
        for (kind, name), factor in self.factors.items():
            out[[WIDTH_KINDS[kind](c) == name for c in classes]] *= factor
        return out


def width_by_class(z: Floats, classes: Sequence[Class], share: float = 0.9) -> Width:
    """The width that holds `share` of the held-out rows, and factors where a class of `LEAST_ROWS` or more has fewer or
    more of its own inside than `INSIDE`: kinds in their order at first, the worst class first. z: |error| over its standard
    deviation, nan where a row does not state the metric."""
    stated = ~np.isnan(z)
    base = float(np.quantile(z[stated], share))
    label = {kind: np.array([name(c) for c in classes]) for kind, name in WIDTH_KINDS.items()}
    rows = {
        (kind, name): at
        for kind, names in label.items()
        for name in sorted(set(names.tolist()))
        if name and (at := stated & (names == name)).sum() >= LEAST_ROWS
    }
    factors: dict[tuple[str, str], float] = {}
    ratio = z / base
    for turn in range(WIDTH_ROUNDS):
        inside = {key: float((ratio[at] <= 1.0).mean()) for key, at in rows.items()}
        off = {key: abs(x - share) for key, x in inside.items() if not INSIDE[0] <= x <= INSIDE[1]}
        if not off:
            break
        first = next(kind for kind in WIDTH_KINDS if any(key[0] == kind for key in off))
        in_order = turn < WIDTH_ROUNDS / 10  # then any kind, so that no two classes push each other for ever
        worst = max((key for key in off if key[0] == first or not in_order), key=lambda key: (off[key], key))
        factor = math.sqrt(float(np.quantile(ratio[rows[worst]], share)))
        factors[worst] = factors.get(worst, 1.0) * factor
        ratio[rows[worst]] /= factor
    return Width(base, dict(sorted(factors.items())))


def widths(p: Problem, got: Mapping[str, Floats], sd: Mapping[str, Floats]) -> dict[str, Width]:
    """The width of every metric's intervals, from held-out rows."""
    classes = [class_of(c) for c in p.cases]
    return {m: width_by_class(np.abs(got[m] - p.measured[m]) / sd[m], classes) for m in METRICS}


def rate_miss(p: Problem, got: Mapping[str, Floats]) -> Floats:
    """ln (predicted / measured) of the time of a request: what output tokens/s per chip differ by."""
    return p.with_requests(got)["request"] - p.requests()


def errors(log_ratio: Floats) -> tuple[int, float, float, float]:
    """(rows, median, 90th percentile, bias) of max(p/m, m/p) - 1."""
    r = log_ratio[~np.isnan(log_ratio)]
    e = np.expm1(np.abs(r))
    return len(r), float(np.median(e)), float(np.quantile(e, 0.9)), float(np.expm1(np.median(r)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--folds", type=int, default=30)
    parser.add_argument("--write", action="store_true", help="write facts/serving")
    parser.add_argument("--held-out", type=Path, help="write held-out predictions to this JSON")
    parser.add_argument(
        "--page", action="store_true", help="write docs/accuracy-serving.md and facts/published/left_out.json"
    )
    options = parser.parse_args()
    with options.file.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    read_ = read_serving_cases(rows, load_facts())
    served = [c for c in read_ if not isinstance(c, str)]
    cases, pools = ([c for c in served if c.decode_only == apart] for apart in (False, True))
    everything = np.ones(len(cases), dtype=bool)
    p = Problem(cases, spreads())
    full = solve(p, everything)
    inside = corrected(p, full)
    noise = {m: float(np.nanmedian(np.abs(inside[m] - p.measured[m])) / 0.6745) for m in METRICS}
    slopes = p.slopes(full.theta)
    out, sd = held_out(p, full, slopes, options.folds, noise)
    width = widths(p, out, sd)
    for name, got in (("in sample", inside), ("held out", out)):
        for m in METRICS:
            n, median, high, bias = errors(got[m] - p.measured[m])
            print(f"{name:10s} {m:5s} n={n} median {median:.1%} p90 {high:.1%} bias {bias:+.1%}")
        n, median, high, bias = errors(rate_miss(p, got))
        print(f"{name:10s} tok/s n={n} median {median:.1%} p90 {high:.1%}")
    whole: dict[str, dict[str, tuple[Floats, Floats]]] = {}
    classes = [class_of(c) for c in cases]
    for kind, name in KINDS.items():
        off, on = left_out(p, full, slopes, [name(one) for one in classes])
        whole[kind] = {m: (off[m] - p.measured[m], on[m] - p.measured[m]) for m in METRICS}
        whole[kind]["tok/s"] = (rate_miss(p, off), rate_miss(p, on))
        for m, both in whole[kind].items():
            for word, r in zip(("constants alone", "with corrections"), both, strict=True):
                n, median, high, bias = errors(r)
                print(f"{kind} out, {word}: {m} n={n} median {median:.1%} p90 {high:.1%} bias {bias:+.1%}")
    print("width in standard deviations", width, "noise", noise)
    of_pools = pool_ratios(pools) if pools else None
    if of_pools:
        for name, at in RANKS.items():
            here = [at(c) for c in pools]
            for word, r in (("constants alone", of_pools.alone), ("with corrections", of_pools.corrected)):
                n, median, high, bias = errors(r[here])
                print(f"decode workers, {name}, {word}: tpot n={n} median {median:.1%} p90 {high:.1%} bias {bias:+.1%}")
    if options.held_out:
        options.held_out.write_text(
            json.dumps(
                {
                    c.id: (
                        [None if math.isnan(out[m][i]) else math.exp(out[m][i]) for m in METRICS]
                        + [float(sd[m][i]) for m in METRICS]
                    )
                    for i, c in enumerate(cases)
                }
            )
        )
    if options.page:
        from accuracy import kept

        from mowich.evidence.scores import left_out_file

        now = shipped_now(cases)
        ratio = {name: {m: got[m] - p.measured[m] for m in METRICS} for name, got in (("in", now), ("out", out))}
        for name, got in (("in", now), ("out", out)):
            ratio[name]["tok/s"] = rate_miss(p, got)
        covered = {
            m: np.where(np.isnan(ratio["out"][m]), math.nan, np.abs(ratio["out"][m]) <= width[m].of(classes) * sd[m])
            for m in METRICS
        }
        text = page(
            file=options.file.name,
            folds=options.folds,
            groups=len(set(p.group.tolist())),
            cases=cases,
            inside=ratio["in"],
            outside=ratio["out"],
            covered=covered,
            whole=whole,
            refused=Counter(c for c in read_ if isinstance(c, str)),
            pools=pools,
            of_pools=of_pools,
        )
        (Path(__file__).resolve().parents[1] / "docs" / "accuracy-serving.md").write_text(text, encoding="utf-8")
        left_out_file().write_text(
            kept("serving", figures(ratio["out"], covered, [c.chip for c in cases])), encoding="utf-8"
        )
    if options.write:
        write(p, full, noise, width, everything)
        write_worth(p, full, slopes)


NAMES: Mapping[str, str] = {
    "vllm": "vLLM",
    "vllm-2023": "vLLM",
    "sglang": "SGLang",
    "trtllm": "TensorRT-LLM",
    "jax-tpu": "vLLM TPU",
    "neuron": "Neuron SDK",
}
"""Engine -> what its makers call it."""
RELEASE = re.compile(r"\b(?:vllm|vllm tpu|sglang|trtllm) v?(\d+\.\d+[\w.]*)|\bneuron (\d+\.\d+[\w.]*)", re.IGNORECASE)
"""A release in a row's framework, or (of Neuron) where it states its date."""
MONTH = re.compile(r"\b(20\d\d(?:-(?:0[1-9]|1[0-2])(?!\d))?)")


def software(cases: Sequence[ServingCase]) -> dict[str, list[str]]:
    """Engine -> the lines `version` and `released` of its file: the first and the last release that its rows state, and
    the months of the rows. Null with a reason where no row states one."""
    out: dict[str, list[str]] = {}
    origin = (
        'source: mowich-serving-fit, locator: "the measured rows that the constants were fitted to", date: 2026-11-27,'
        " grade: C"
    )
    for engine in sorted({c.engine for c in cases}):
        own = [c for c in cases if c.engine == engine]
        releases = [m[1] or m[2] for c in own for text in (c.version, c.date) if (m := RELEASE.search(text))]
        releases = sorted(set(releases), key=lambda text: [int(n) for n in re.findall(r"\d+", text)])
        months = sorted({m for c in own for m in MONTH.findall(c.date)})
        stating = sum(any(RELEASE.search(text) for text in (c.version, c.date)) for c in own)
        span = " to ".join(dict.fromkeys((releases[0], releases[-1]))) if releases else ""
        version = (
            f'{{text: "{NAMES.get(engine, engine)} {span}", {origin}, note: "{stating} of {len(own)} rows state a'
            ' release"}'
            if releases
            else '{value: null, reason: "no measured row states a release"}'
        )
        dates = " to ".join(dict.fromkeys((months[0], months[-1]))) if months else ""
        dated = sum(bool(MONTH.search(c.date)) for c in own)
        released = (
            f'{{text: "{dates}", {origin}, note: "when the rows were measured; {dated} of {len(own)} state a date"}}'
            if months
            else '{value: null, reason: "no measured row states a date"}'
        )
        out[engine] = [f"version: {version}", f"released: {released}"]
    return out


BY_HAND = ("release", "status", "ships", "mixtures", "other_mixtures", "unsupported")
"""Words that lines of an engine's file begin with which no fit writes: what ships today, for which models, and
whether it is supported."""


def by_hand(name: str) -> list[str]:
    """The lines of an engine's file that a person writes; none where there is no file."""
    file = FOLDER / f"{name}.yaml"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [line for line in lines if line.startswith(BY_HAND)]


def put_line(file: Path, field: str, leaf: str) -> None:
    """Write a fact into its line of a file that others write to as well."""
    lines = file.read_text(encoding="utf-8").splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith(f"{field}:")]
    lines[at] = f"{field}: {leaf}"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write(
    p: Problem, fit: Fit, noise: Mapping[str, float], width: Mapping[str, Width], rows: NDArray[np.bool_]
) -> None:
    """facts/serving: a YAML file for each family and engine, and corrections.csv."""
    text = "\n".join(
        [
            (
                "# Corrections of serving times by class, ln(measured / predicted); written by tools/fit_serving.py. Do"
                " not edit."
            ),
            *table_of(p, fit, noise, width, rows),
        ]
    )
    (FOLDER / "corrections.csv").write_text(text + "\n", encoding="utf-8")
    position = {name: i for i, name in enumerate(p.table.columns.names)}
    files: dict[str, list[str]] = {}
    scale = {"": 1.0, "1": 1.0, "us": 1e-6, "ms": 1e-3, "tokens": 1.0, "GB": 1e9}
    for path, prior in priors().items():
        kind, name, field = path.split(".")
        i = position.get(path)
        unit = prior.unit

        def show(x: float, unit: str = unit) -> str:
            number = f"{x / scale[unit]:.4g}"
            return number if unit in ("", "1") else f'"{number} {unit}"'

        if not prior.is_free:
            leaf = (
                f"{{value: {show(prior.value)}, source: mowich-serving-fit, date: 2026-11-27, grade: C, note:"
                f' "{prior.why}"}}'
            )
        else:
            learned = i is not None and fit.theta_sd[i] < 0.75 * prior.sd
            middle, sd = (
                (float(fit.theta[i]), float(fit.theta_sd[i])) if i is not None else (math.log(prior.value), prior.sd)
            )
            low, high = math.exp(middle - 1.645 * sd), math.exp(middle + 1.645 * sd)
            if kind == "devices" and field.startswith("weights_"):
                high = min(high, 1.0)
            why = (
                'grade: C, formula: "fit of published serving rows; prior'
                f' {show(prior.value).strip(chr(34))} ({prior.why})"'
                if learned
                else (
                    'grade: D, reason: "few or no published rows depend on it; value = the prior, moved little'
                    f' ({prior.why})"'
                )
            )
            leaf = (
                f"{{value: {show(math.exp(middle))}, low: {show(low)}, high: {show(high)}, source: mowich-serving-fit,"
                f" date: 2026-11-27, {why}}}"
            )
        if kind == "devices":
            put_line(shipped_folder() / kind / f"{name}.yaml", field, leaf)
        else:
            files.setdefault(name, []).append(f"{field}: {leaf}")
    for name, lines in software(p.cases).items():
        files[name] += lines
    for name, lines in files.items():
        head = (
            "# Constants of serving, written by tools/fit_serving.py from priors.csv and published rows;"
            f" docs/serving.md says what each means.\nid: {name}\n"
        )
        text = head + "\n".join([*lines, *by_hand(name)]) + "\n"
        (FOLDER / f"{name}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
