"""Fits the constants of serving: writes facts/serving/*.yaml, anchors.csv and the rates at which devices read operands
(facts/devices), and the errors of docs/records/accuracy-serving.md.

Constants start at the priors of `facts/serving/priors.csv` (medians of operator tables, the pre-study). Gauss-Newton on
the log error of TPOT and TTFT with a robust loss finds them, each pulled to its prior. What they miss of each row is
kept: a forecast is shifted by the rows that are most like it (`serving/anchors.py`). Left out, in turn: whole models,
releases, engines, chips and families of chips, and groups of rows (chip, model, release), each with the constants
fitted again without it and without its rows among the anchors. The constants that ship are fitted to all rows but those
of disaggregated decode workers, which are scored by what ships.

    python tools/fit_serving.py FILE.csv [--folds 30] [--write] [--page]

It takes about a minute and a half on one core.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import fit_worth
import numpy as np
from numpy.typing import NDArray
from serving_page import RANKS, Left, Pools, errors, figures, page, share

from mowich.evidence.fitting.solve import bounded_step
from mowich.evidence.serving_cases import Cases, anchors_of_cases, class_of, gather_cases
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_rows import ServingCase
from mowich.evidence.serving_validate import predict_serving
from mowich.facts import load_facts
from mowich.facts.load import shipped_folder
from mowich.serving.anchors import METRICS, Anchors, Class, anchor_lines, anchors_of, with_robust_noise
from mowich.units import parse

Floats = NDArray[np.float64]

FOLDER = shipped_folder() / "serving"
SCALE = {"tpot": 0.08, "ttft": 0.30, "request": 0.12}
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
SHOWN = ("visible_dense", "visible_moe", "visible_mla", "visible_hybrid")
SHARED = 0.5
"""Standard deviation of what priors of `SHOWN` have in common."""
ALONE = 3
"""Rows of a group left out that are known, where a user has measured a few."""
KINDS: Mapping[str, Callable[[Class], str]] = {
    "model": lambda one: one.model,
    "release": lambda one: one.version or one.engine,
    "engine": lambda one: one.engine,
    "chip": lambda one: one.chip,
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


def _log_request(case: ServingCase, tokens: float) -> float:
    """ln seconds of a request, of a row that states tokens per second and no time per token; else nan."""
    rate = case.measured.get("output_tok_s_per_chip")
    if rate is None or "tpot_ms" in case.measured or case.is_static or "output_tok_s_per_chip" in case.skip:
        return math.nan
    return math.log(case.users * case.plan.dp * tokens / (rate * case.chips))


class Problem:
    """Rows as columns, their measured logs, classes and weights."""

    def __init__(self, cases: Sequence[ServingCase]) -> None:
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
        self.measured["request"] = np.array(
            [_log_request(c, n) for c, n in zip(cases, self.table.load.output, strict=True)]
        )
        self.classes = [class_of(c) for c in cases]
        names = [(c.chip, one.model, c.version) for c, one in zip(cases, self.classes, strict=True)]
        number = {name: i for i, name in enumerate(sorted(set(names)))}
        self.group = np.array([number[name] for name in names])
        size = Counter(self.group.tolist())
        weight = np.array([size[g] ** -0.25 for g in self.group.tolist()])
        self.weight = weight / weight.mean()

    def pull(self) -> Floats:
        """Precision of the priors in the fit [free, free]. Those of how late a first token is shown may all be off by
        one factor: what the rows of one model say of it holds for the others too."""
        names = [self.table.columns.names[j].rsplit(".", 1)[1] for j in self.free]
        shown = np.array([name.startswith(SHOWN) for name in names], dtype=np.float64)
        covariance = np.diag((SHRINK * self.sd[self.free]) ** 2) + SHARED**2 * np.outer(shown, shown)
        return np.asarray(np.linalg.inv(covariance))

    def predict(self, theta: Floats) -> dict[str, Floats]:
        """ln TPOT, ln TTFT and ln of the seconds of a request."""
        steady = self.table.steady(np.exp(theta))
        return self.with_requests({"tpot": np.log(steady.tpot_s), "ttft": np.log(steady.ttft_s)})

    def with_requests(self, of: Mapping[str, Floats]) -> dict[str, Floats]:
        """Times of tokens, and of requests by them."""
        request = np.log(np.exp(of["ttft"]) + (self.table.load.output - 1.0) * np.exp(of["tpot"]))
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
    pull = p.pull()
    for turn in range(rounds):
        base, jacobian = slopes if slopes is not None and turn == 0 else p.slopes(theta)
        data, v = np.zeros((len(free), len(free))), np.zeros(len(free))
        for m in KNOWN:
            miss = (p.measured[m] - base[m])[rows[m]]
            weight = _weights(p, m, miss, rows[m])
            A = jacobian[m][np.ix_(rows[m], free)]
            data += A.T @ (A * weight[:, None])
            v += A.T @ (weight * miss)
        v += pull @ (p.mu - theta)[free]
        step = bounded_step(data + pull, -v, theta[free], np.full(len(free), -math.inf), cap)
        theta[free] += np.clip(step, -0.7, 0.7)
    sd = p.sd.copy()
    sd[free] = np.sqrt(np.diag(np.linalg.inv(data + np.diag(p.sd[free] ** -2))))
    return theta, sd


def known_by(p: Problem, base: Mapping[str, Floats]) -> Anchors:
    """All rows as anchors of forecasts by `base`."""
    return with_robust_noise(anchors_of(anchors_of_cases(p.cases, p.misses(base))))


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
    measured = np.log([c.measured["tpot_ms"] / 1e3 for c in pools])
    found = [next(r for r in results if r.metric == "tpot_ms") for results in predict_serving(pools, load_facts())]
    inside = [r.low <= r.measured <= r.high for r in found if r.low and r.high and r.measured]
    return Pools(shipped_now(pools)["tpot"] - measured, np.array(inside, dtype=float))


def left_out(
    p: Problem,
    theta: Floats,
    slopes: tuple[dict[str, Floats], dict[str, Floats]],
    names: Sequence[str],
    own: Sequence[str] = (),
) -> dict[str, Left]:
    """How every row is forecast without the rows that share its name, by metric and as rates of tokens. The constants
    are one step from the full fit, at which slopes are; the anchors are the other rows by those constants (the noise of
    each as all rows show it). own: a name for every row, within which `ALONE` rows, that users, lengths and plans
    decide by chance, are known as well; they are not forecast.
    """
    of, every, n = np.array(names), known_by(p, slopes[0]), len(p.cases)
    off, on, half = ({m: np.full(n, math.nan) for m in METRICS} for _ in range(3))
    for name in sorted(set(names)):
        test = of == name
        base = p.predict(constants(p, ~test, theta, 1, slopes)[0])
        miss = p.misses(base)
        anchors = replace(every, residue={m: miss[m] for m in METRICS})
        for rows, hidden in _questions(np.nonzero(test)[0], own):
            classes = [p.classes[i] for i in rows]
            known = anchors.take(np.setdiff1d(np.arange(n), hidden))
            for m in METRICS:
                shift, half[m][rows] = known.apply(m, classes)
                off[m][rows], on[m][rows] = base[m][rows], base[m][rows] + shift
    found = {m: Left(off[m] - p.measured[m], on[m] - p.measured[m], half[m]) for m in METRICS}
    return found | {"tok/s": Left(rate_miss(p, off), rate_miss(p, on), np.full(n, math.nan))}


def _questions(test: NDArray[np.intp], own: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """(rows to forecast, rows that are not known): all of `test`, or those of each name in it but `ALONE`, drawn."""
    if not own:
        yield test, test
    draw = np.random.default_rng(0)
    for name in dict.fromkeys(own[i] for i in test) if own else ():
        rows = draw.permutation([i for i in test if own[i] == name])[ALONE:]
        if len(rows) > 1:
            yield rows, rows


def folds_of(group: Sequence[str], folds: int) -> list[str]:
    """The fold of each row: whole groups, dealt by size."""
    size = Counter(group)
    load_of, fold_of = [0] * folds, {}
    for g, n in sorted(size.items(), key=lambda kv: (-kv[1], kv[0])):
        fold_of[g] = min(range(folds), key=lambda k: load_of[k])
        load_of[fold_of[g]] += n
    return [str(fold_of[g]) for g in group]


def write_worth(p: Problem, theta: Floats, slopes: tuple[dict[str, Floats], dict[str, Floats]]) -> None:
    """serving_worth.csv: by how many points the errors of groups left out grow without each constant, by metric."""
    base, jacobian = slopes
    stated = {m: ~np.isnan(p.measured[m]) for m in METRICS}
    miss = {m: (base[m] - p.measured[m])[stated[m]] for m in METRICS}
    r, weight = np.concatenate(list(miss.values())), [_weights(p, m, miss[m], stated[m]) for m in METRICS]
    J = np.concatenate([jacobian[m][np.ix_(stated[m], p.free)] for m in METRICS])
    fold = np.concatenate([p.group[stated[m]] for m in METRICS])
    free, held = fit_worth.held_errors(r, J, np.concatenate(weight), p.pull(), (p.mu - theta)[p.free], fold)
    first = int(stated[METRICS[0]].sum())
    parts = dict(zip(METRICS, (slice(None, first), slice(first, None)), strict=True))
    names = [p.table.columns.names[j] for j in p.free]
    fit_worth.write_served(names, {m: fit_worth.points(free[at], held[at]) for m, at in parts.items()})


def rate_miss(p: Problem, got: Mapping[str, Floats]) -> Floats:
    """ln (predicted / measured) of the time of a request: what output tokens/s per chip differ by."""
    return p.with_requests(got)["request"] - p.requests()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--folds", type=int, default=30)
    parser.add_argument("--write", action="store_true", help="write facts/serving")
    parser.add_argument(
        "--page", action="store_true", help="write docs/records/accuracy-serving.md and facts/published/left_out.json"
    )
    options = parser.parse_args()
    with options.file.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    read_ = read_serving_cases(rows, load_facts())
    served = [c for c in read_ if not isinstance(c, str)]
    cases, pools = ([c for c in served if c.decode_only == apart] for apart in (False, True))
    p = Problem(cases)
    theta, theta_sd = constants(p, np.ones(len(cases), dtype=bool))
    slopes = p.slopes(theta)
    group = [f"{c.chip}, {one.model}, {c.version}" for c, one in zip(cases, p.classes, strict=True)]
    fold = folds_of(group, options.folds)
    left = {kind: left_out(p, theta, slopes, [name(one) for one in p.classes]) for kind, name in KINDS.items()}
    left["group"] = left_out(p, theta, slopes, fold)
    left[f"group, {ALONE} of its rows known"] = left_out(p, theta, slopes, fold, group)
    for m in METRICS:
        print("in sample, constants alone:", m, errors(slopes[0][m] - p.measured[m]))
    for kind, of in left.items():
        for m, found in of.items():
            print(
                f"{kind} out: {m} constants alone {errors(found.alone)}, with anchors {errors(found.error)}, in range"
                f" {share(found.inside())}"
            )
    for m in METRICS:
        every = np.concatenate([np.abs(of[m].error) / of[m].half for of in left.values()])
        print(f"{m}: the range that holds 90% is {np.nanquantile(every, 0.9):.2f} times as wide")
    of_pools = pool_ratios(pools) if pools else None
    if of_pools:
        for name, at in RANKS.items():
            here = [at(c) for c in pools]
            print(
                f"decode workers, {name}: tpot {errors(of_pools.error[here])}, in range {share(of_pools.inside[here])}"
            )
    if options.page:
        from accuracy import kept

        from mowich.evidence.scores import left_out_file

        now = shipped_now(cases)
        inside = {m: now[m] - p.measured[m] for m in METRICS} | {"tok/s": rate_miss(p, now)}
        text = page(
            file=options.file.name,
            folds=options.folds,
            groups=len(set(group)),
            cases=cases,
            inside=inside,
            left=left,
            refused=Counter(c for c in read_ if isinstance(c, str)),
            pools=pools,
            of_pools=of_pools,
        )
        (Path(__file__).resolve().parents[1] / "docs" / "records" / "accuracy-serving.md").write_text(
            text, encoding="utf-8"
        )
        left_out_file().write_text(kept("serving", figures(left["group"], [c.chip for c in cases])), encoding="utf-8")
    if options.write:
        write(p, theta, theta_sd)
        write_worth(p, theta, slopes)


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
    return [line for line in lines if line.startswith(BY_HAND) and not line.startswith("released:")]


def put_line(file: Path, field: str, leaf: str) -> None:
    """Write a fact into its line of a file that others write to as well."""
    lines = file.read_text(encoding="utf-8").splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith(f"{field}:")]
    lines[at] = f"{field}: {leaf}"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write(p: Problem, theta: Floats, theta_sd: Floats) -> None:
    """facts/serving: a YAML file for each family and engine, and anchors.csv."""
    lines = anchor_lines(anchors_of_cases(p.cases, p.misses(p.predict(theta))))
    (FOLDER / "anchors.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
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
            learned = i is not None and theta_sd[i] < 0.75 * prior.sd
            middle, sd = (float(theta[i]), float(theta_sd[i])) if i is not None else (math.log(prior.value), prior.sd)
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
            f" docs/theory/theory-serving.md says what each means.\nid: {name}\n"
        )
        text = head + "\n".join([*lines, *by_hand(name)]) + "\n"
        (FOLDER / f"{name}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
