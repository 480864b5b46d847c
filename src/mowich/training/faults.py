"""Long runs on machines that fail: which way of surviving failures keeps how much of the time, in closed form and by
Monte Carlo.

A way of surviving (`Strategy`) is a stall per checkpoint, a time to detect and one to go on, and whether the whole job
or one data-parallel replica stops. Failures come by component, Poisson in time; a job that loses hardware lives on
spares, shrinks, or waits for repairs. Silent corruption costs checks and repeated work, slow chips slow all. Rates:
facts `reliability.components.*`; costs: `reliability.strategies.*`, mostly ranges, so answers are ranges with a
break-even. `longrun.survival` takes the best of the ways, or the one that is asked for, for the one number that plans
use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes, told
from mowich.facts import Facts

STRATEGIES = ("sync", "async", "memory", "elastic")
COMPONENTS = ("accelerator", "host", "network", "software")
"""What stops a job, each with a rate per chip and second."""

MOST_EXPONENT = 700.0
"""Exponents are cut here, where e^x still is a float: the share of useful time is 0 long before."""

GOODPUT_PARTS = ("checkpoints", "repeated_work", "recovery", "missing_hardware", "silent_corruption", "slow_chips")
"""Where the time goes that does not train."""

_BLOCK = 4_000_000
"""Gaps between failures, and bins of hardware out of service, drawn at a time: bounds the memory of the Monte Carlo."""

_EXACT = 500.0
"""Mean number of units out of service up to which the Poisson distribution is summed term by term."""

PER_REPAIR = 8
"""Bins per repair time in which hardware out of service is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What runs. chips; step_s: seconds per step; days; spare_share: spare chips over chips; unit_chips: chips that
    leave together when one fails (a server); replica_chips: chips of a data-parallel replica; checkpoint_s: time
    between checkpoints (None: Young/Daly)."""

    chips: int
    step_s: float
    days: float
    spare_share: float
    unit_chips: int
    replica_chips: int
    checkpoint_s: float | None = None

    @property
    def spare_units(self) -> float:
        """Spare servers: the share of the job's, and one more that every job with spares has ready; 0 for a share of 0.
        A part of a server counts as that part of the time, so that no size of a job falls just short of a server."""
        return self.spare_share * self.chips / self.unit_chips + 1.0 if self.spare_share > 0.0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRates:
    """Per chip and second: failures by component, silent corruption, chips that turn slow. repair_s: until hardware is
    back; replaced: share of failures that take hardware away. total: failures of all components; hardware: of all but
    software."""

    failures: Mapping[str, float]
    silent: float
    slow: float
    repair_s: float
    replaced: float
    total: float = field(init=False)
    hardware: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", sum(self.failures.values()))
        object.__setattr__(self, "hardware", self.total - self.failures["software"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """A way of surviving. stall_s: per checkpoint; detect_s, restart_s: from the failure until the job trains again;
    rebuild_s: of a lost replica (elastic; 0 else); check_period_s: longest time between checks for silent corruption;
    check_s: time of one; slow_found_s, slow_speed: a slow chip holds the job at that speed until found."""

    name: str
    display: str
    stall_s: float
    detect_s: float
    restart_s: float
    rebuild_s: float
    check_period_s: float
    check_s: float
    slow_found_s: float
    slow_speed: float

    @property
    def recovery_s(self) -> float:
        """Detection and restart."""
        return recovery_of(self.detect_s, self.restart_s)


def recovery_of(detect: float, restart: float) -> float:
    """Seconds from a failure until the job trains again.

    T = detect + restart

    Units: detect s, restart s.
    """
    return detect + restart


def share_of(useful: float, missing: float, silent: float, slow: float) -> float:
    """Share of the time that trains: what checkpoints and recovery leave, less what the others take of it.

    T = useful * (1 - missing) * (1 - silent) * (1 - slow)
    """
    return useful * (1.0 - missing) * (1.0 - silent) * (1.0 - slow)


def missing_of(beyond: float, server: float, chips: float, rate: float, rebuild: float, replica: float) -> float:
    """Share of a job that is missing where it goes on without: servers beyond the spares, replicas that are rebuilt.

    T = min(1, beyond * server / chips + rate * rebuild * replica)

    beyond: servers missing beyond the spares, on average; server, replica: chips of each; rate: failures of a chip.

    Units: server chips, chips chips, rate 1/s, rebuild s, replica chips.
    """
    return min(1.0, beyond * server / chips + rate * rebuild * replica)


def silent_of(check: float, period: float, rate: float, chips: float, tau: float) -> float:
    """Share of the time that silent corruption takes: checks, and work that is done again.

    T = min(1, check / period - expm1(-(rate * chips * (period / 2 + tau))))

    Units: check s, period s, rate 1/s, chips chips, tau s.
    """
    return min(1.0, check / period - math.expm1(-(rate * chips * (period / 2.0 + tau))))


def slow_of(rate: float, chips: float, found: float, speed: float) -> float:
    """Share of the time that slow chips take: the chance that one is slow and not yet found, by what it holds back.

    T = -expm1(-rate * chips * found) * (1 - speed)

    Units: rate 1/s, chips chips, found s.
    """
    return -math.expm1(-rate * chips * found) * (1.0 - speed)


def mtbf_s(rate: float, chips: float) -> float:
    """Mean seconds between failures of the whole job. Assumes that any chip's failure stops the job.

    T = 1 / (rate * chips)

    rate: failures of one chip.

    Units: rate 1/s, chips chips.

    >>> round(mtbf_s(1.973e-5 / 3600, 16384) / 3600, 2)  # Llama 3 405B: 419 in 54 days
    3.09
    """
    return 1.0 / (rate * chips)


def checkpoint_interval_s(stall: float, mtbf: float, step: float = 0.0) -> float:
    """Young/Daly interval between checkpoints, not below one step nor above the time between failures.

    T = max(min(sqrt(2 * stall * mtbf), mtbf), step)

    stall: per checkpoint; mtbf: mean time between failures. Source: Daly 2006, first order; the bound is where its
    series ends.

    Units: stall s, mtbf s, step s.

    >>> round(checkpoint_interval_s(5.0, 10000.0), 1)
    316.2
    """
    return max(min(math.sqrt(2.0 * stall * mtbf), mtbf), step)


def useful_of(mtbf: float, recovery: float, stall: float, tau: float) -> float:
    """Useful time over total time.

    T = tau / (mtbf * exp(min(recovery / mtbf, 700)) * expm1(min((tau + stall) / mtbf, 700)))

    mtbf: mean time between failures; recovery: detection and restart; stall: per checkpoint; tau: interval. Exact for
    Poisson failures that may also strike during recovery (Daly 2006), so it lies in [0, 1) for any mtbf; where that is
    much longer than the recovery it is 1 - recovery/mtbf - stall/tau - (tau + stall)/(2 mtbf).

    Units: mtbf s, recovery s, stall s, tau s.

    >>> round(useful_of(11135.0, 600.0, 5.0, checkpoint_interval_s(5.0, 11135.0)), 3)
    0.919
    """
    recover, work = min(recovery / mtbf, MOST_EXPONENT), min((tau + stall) / mtbf, MOST_EXPONENT)
    return tau / (mtbf * math.exp(recover) * math.expm1(work))


def rate_paths(kind: str) -> dict[str, str]:
    """Name -> path of the facts that the rates are read from; kind: gpu, tpu or trainium."""
    root = "reliability.components"
    names = (*COMPONENTS, "silent_corruption", "slow_chip", "repair", "replaced_share")
    return {name: f"{root}.{name}" for name in names} | ({} if kind == "gpu" else {"factor": f"{root}.{kind}_factor"})


def read_fault_rates(facts: Facts, kind: str, ends: Mapping[str, float] | None = None) -> FaultRates:
    """Rates of a kind of machine; `ends` replaces facts by name (an end of a range, a sample)."""
    return rates_of({name: facts.number(path) for name, path in rate_paths(kind).items()} | dict(ends or {}))


def rates_of(x: Mapping[str, float]) -> FaultRates:
    """Rates from numbers by the names of `rate_paths`: hardware's times the factor of the kind of machine."""
    factor = x.get("factor", 1.0)
    return FaultRates(
        failures={c: x[c] * (factor if c != "software" else 1.0) for c in COMPONENTS},
        silent=x["silent_corruption"] * factor,
        slow=x["slow_chip"] * factor,
        repair_s=x["repair"],
        replaced=x["replaced_share"],
    )


def strategy_paths(name: str) -> dict[str, str]:
    """Field -> path of the facts of a strategy."""
    root = "reliability.strategies"
    own = {
        f: f"{root}.{name}.{f}" for f in ("stall", "detect", "restart", *(("rebuild",) if name == "elastic" else ()))
    }
    return own | {f: f"{root}.{f}" for f in ("sdc_check_period", "sdc_check_cost", "slow_found", "slow_speed")}


def read_strategy(facts: Facts, name: str, ends: Mapping[str, float] | None = None) -> Strategy:
    """A way of surviving failures; `ends` replaces facts by field."""
    x = {field: facts.number(path) for field, path in strategy_paths(name).items()} | dict(ends or {})
    return Strategy(
        name=name,
        display=facts.text(f"reliability.strategies.{name}.display"),
        stall_s=x["stall"],
        detect_s=x["detect"],
        restart_s=x["restart"],
        rebuild_s=x.get("rebuild", 0.0),
        check_period_s=x["sdc_check_period"],
        check_s=x["sdc_check_cost"],
        slow_found_s=x["slow_found"],
        slow_speed=x["slow_speed"],
    )


def slowest_of(n: float | Floats, spread: float | Floats) -> float | Floats:
    """Expected slowest of n ranks over the mean when each step's time spreads normally: 1 + s (a - (ln ln n + ln 4 pi)
    / 2a + 0.5772/a), a = sqrt(2 ln n).

    s: standard deviation over the mean. The expected maximum of n normal values (extreme-value theory, first order; n
    of 8 or more).

    >>> round(float(slowest_of(1e6, 0.01)), 4)
    1.0488
    """
    a = np.sqrt(2.0 * np.log(np.maximum(n, 8.0)))
    return 1.0 + spread * (a - (np.log(np.log(np.maximum(n, 8.0))) + math.log(4.0 * math.pi)) / (2.0 * a) + 0.5772 / a)


_NONE = 1e-15
"""A smaller chance counts as 0."""


def _counted(m: float, spares: float) -> tuple[float, float]:
    """`shortage` by the terms of the Poisson distribution on the side of the spares that is small: no chance is
    what rounding leaves of 1."""
    whole = math.floor(spares)
    part = spares - whole
    if whole + 1 > m:
        p = first = math.exp((whole + 1) * math.log(m) - m - math.lgamma(whole + 2))
        above, excess, x = 0.0, 0.0, whole + 1
        while p > 1e-18 * above and p > 0.0:
            above += p
            excess += (x - spares) * p
            x += 1
            p *= m / x
        return (excess, max(0.0, above - part * first)) if above > _NONE else (0.0, 0.0)
    p = math.exp(-m)
    below, kept = 0.0, 0.0  # P(X <= s), E[(s - X) up to s]
    for x in range(whole + 1):
        below += p
        kept += (spares - x) * p
        p *= m / (x + 1)
    return max(0.0, m - spares + kept), min(1.0, max(0.0, 1.0 - below - part * p))


@lru_cache(maxsize=4096)
def shortage(mean_out: float, spares: float) -> tuple[float, float]:
    """(expected units missing beyond the spares, chance that any is): E[max(0, X - s)] and P(X > s), X Poisson; the
    chance of a part of a spare lies between those of whole ones.

    Repairs of any length, as many at once as needed (M/G/infinity). Exact up to a mean of EXACT, beyond it normal with
    the same mean and variance.

    >>> [round(x, 4) for x in shortage(2.0, 3.0)]
    [0.218, 0.1429]
    >>> round(shortage(2.0, 3.5)[1], 4) == round((shortage(2.0, 3.0)[1] + shortage(2.0, 4.0)[1]) / 2, 4)
    True
    >>> [round(x, 2) for x in shortage(10000.0, 9900.0)]
    [108.33, 0.84]
    """
    m = mean_out
    if m <= 0.0:
        return 0.0, 0.0
    if m <= _EXACT:
        return _counted(m, spares)
    sigma = math.sqrt(m)
    z = (m - spares) / sigma
    tail = 0.5 * math.erfc(-z / math.sqrt(2.0))
    return max(0.0, sigma * math.exp(-z * z / 2.0) / math.sqrt(2.0 * math.pi) + (m - spares) * tail), 0.5 * math.erfc(
        (spares + 0.5 - m) / sigma / math.sqrt(2.0)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """Share of time that trains. parts: name of PARTS -> share lost; with `value` they sum to 1. mtbf_s: of the whole
    job; interval_s: between checkpoints;
    failures: expected over the run."""

    value: float
    parts: Mapping[str, float]
    mtbf_s: float
    interval_s: float
    failures: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What goodput is made of. mtbf_s: M; interval_s: tau between checkpoints; useful: share of time left by
    checkpoints, repeated work and recovery; of that, the shares lost to missing hardware, silent corruption and slow
    chips. beyond: servers missing beyond the spares, on average; check_period_s: between checks."""

    mtbf_s: float
    interval_s: float
    useful: float
    beyond: float
    missing: float
    check_period_s: float
    silent: float
    slow: float

    @property
    def share(self) -> float:
        """Goodput: u x (1 - missing) x (1 - silent) x (1 - slow)."""
        return share_of(self.useful, self.missing, self.silent, self.slow)


def closed_form(job: Job, rates: FaultRates, strategy: Strategy) -> Goodput:
    """Goodput as a formula (`losses`), with the time lost by part: what is left after each is lost to the next."""
    x = losses(job, rates, strategy)
    keep = x.useful
    parts: dict[str, float] = {}
    for name, lost in (("missing_hardware", x.missing), ("silent_corruption", x.silent), ("slow_chips", x.slow)):
        parts[name] = keep * lost
        keep *= 1.0 - lost
    gone = 1.0 - x.useful
    recovery = -math.expm1(-strategy.recovery_s / x.mtbf_s)  # time of gaps spent recovering: E[min(gap, R)] / M
    stalls = x.useful * strategy.stall_s / x.interval_s
    parts["recovery"] = min(recovery, gone)
    parts["checkpoints"] = min(stalls, gone - parts["recovery"])
    parts["repeated_work"] = max(0.0, gone - parts["recovery"] - parts["checkpoints"])
    return Goodput(
        value=x.share,
        parts={p: parts[p] for p in GOODPUT_PARTS},
        mtbf_s=x.mtbf_s,
        interval_s=x.interval_s,
        failures=job.days * 86400.0 / x.mtbf_s,
    )


def check_period_s(job: Job, rates: FaultRates, strategy: Strategy) -> float:
    """Time between checks for silent corruption: sqrt(2 c M_s), M_s the mean time between corruptions, at most the
    strategy's period, at least a check's time."""
    best = math.sqrt(2.0 * strategy.check_s / max(rates.silent * job.chips, 1e-300))
    return max(strategy.check_s, min(strategy.check_period_s, best), 1e-9)


def losses(job: Job, rates: FaultRates, strategy: Strategy, notes: Notes | None = None) -> Losses:
    """What a job loses, in closed form; `notes` records how.

    u = tau / (M e^(R/M) (e^((tau+C)/M) - 1)) (Daly 2006, exact for Poisson failures that strike during recovery too), M
    = 1 / (rate chips). missing: chips out of service beyond the spares: the share that is gone if the job shrinks
    (elastic), with replicas that are being rebuilt, or the chance that any is, if it waits. silent: checks, and half a
    check period plus a checkpoint of work for each corruption. slow: a slow chip holds all at its speed until found.
    Breaks where M is below a step.
    """
    chips, stall, rate = job.chips, strategy.stall_s, rates.total
    M = told(notes, "mtbf", mtbf_s)(rate=rate, chips=chips)
    if job.checkpoint_s is None:
        tau = told(notes, "tau", checkpoint_interval_s)(stall=stall, mtbf=M, step=job.step_s)
    else:
        tau = job.checkpoint_s
        if notes is not None:
            words = "time between checkpoints, as given"
            notes.add("tau", tau, "s", words=words, stall=stall, mtbf=M, step=job.step_s)
    recovery = told(notes, "recovery", recovery_of)(detect=strategy.detect_s, restart=strategy.restart_s)
    useful = told(notes, "useful", useful_of, unit="1")(mtbf=M, recovery=recovery, stall=stall, tau=tau)
    beyond, missing = shortage(rates.hardware * chips * rates.replaced * rates.repair_s, job.spare_units)
    out = {"spares": job.spare_units, "repair_s": rates.repair_s, "replaced": rates.replaced} if notes else {}
    if strategy.name == "elastic":
        missing = told(
            notes,
            "missing",
            missing_of,
            unit="1",
            also=out,
            note="servers missing beyond the spares, and replicas that are rebuilt",
        )(
            beyond=beyond,
            server=job.unit_chips,
            chips=chips,
            rate=rate,
            rebuild=strategy.rebuild_s,
            replica=job.replica_chips,
        )
    elif notes is not None:
        words = "chance that a server is missing beyond the spares (Poisson): the job waits for it"
        notes.add("missing", missing, "1", words=words, given=out)
    period = check_period_s(job, rates, strategy)
    silent = told(notes, "silent", silent_of, unit="1", note="checks, and work that is done again")(
        check=strategy.check_s, period=period, rate=rates.silent, chips=chips, tau=tau
    )
    slow = told(
        notes,
        "slow",
        slow_of,
        unit="1",
        note="chance that a chip is slow and not yet found, by what it holds the job back",
    )(rate=rates.slow, chips=chips, found=strategy.slow_found_s, speed=strategy.slow_speed)
    return Losses(
        mtbf_s=M,
        interval_s=tau,
        useful=useful,
        beyond=beyond,
        missing=min(1.0, missing),
        check_period_s=period,
        silent=silent,
        slow=slow,
    )


def simulate_runs(job: Job, rates: FaultRates, strategy: Strategy, *, samples: int, seed: int = 0) -> Floats:
    """Goodput of `samples` runs [samples], failure by failure.

    Gaps between failures are exponential; a gap g shorter than the recovery R trains nothing, else floor((g - R) / (tau
    + C)) intervals are kept. Hardware out of service is counted in bins of an eighth of the repair time. Corruptions
    and slow chips are drawn as counts. Deterministic for a seed.
    """
    rng = np.random.default_rng(seed)
    lost = losses(job, rates, strategy)
    M, tau = lost.mtbf_s, lost.interval_s
    T = job.days * 86400.0
    per = tau + strategy.stall_s
    expected = T / M
    draws = math.ceil(expected + 6.0 * math.sqrt(expected) + 16.0)
    useful = np.empty(samples)
    rows = max(1, _BLOCK // draws)
    for start in range(0, samples, rows):
        k = min(rows, samples - start)
        gaps = rng.standard_exponential((k, draws))
        gaps *= M
        ends = np.cumsum(gaps, axis=1)
        over = np.maximum(ends - T, 0.0)
        np.subtract(gaps, np.minimum(over, gaps), out=gaps)  # the last gap ends with the run
        gaps -= strategy.recovery_s
        np.maximum(gaps, 0.0, out=gaps)
        gaps /= per
        np.floor(gaps, out=gaps)
        useful[start : start + k] = gaps.sum(axis=1) * tau
    share = useful / T
    hardware = rates.hardware * job.chips * rates.replaced
    bins = max(PER_REPAIR, math.ceil(T / rates.repair_s * PER_REPAIR))
    missing = np.empty(samples)
    rows = max(1, _BLOCK // bins)
    for start in range(0, samples, rows):
        k = min(rows, samples - start)
        broken = rng.poisson(hardware * rates.repair_s / PER_REPAIR, (k, bins + PER_REPAIR))
        total = np.cumsum(np.pad(broken, ((0, 0), (1, 0))), axis=1)
        out = (total[:, PER_REPAIR:] - total[:, :-PER_REPAIR])[:, -bins:]
        beyond = np.maximum(0.0, out - job.spare_units)
        if strategy.name != "elastic":
            beyond = np.minimum(beyond, 1.0)  # one server that is missing stops the whole job
        missing[start : start + k] = beyond.mean(axis=1)
    if strategy.name == "elastic":
        missing = missing * job.unit_chips / job.chips + rates.total * strategy.rebuild_s * job.replica_chips
    events = rng.poisson(rates.silent * job.chips * T, samples)
    period = lost.check_period_s
    corrupt = strategy.check_s / period + 1.0 - np.exp(-events * (period / 2.0 + tau) / T)
    slow = lost.slow * (1.0 + rng.standard_normal(samples) / math.sqrt(max(1.0, rates.slow * job.chips * T)))
    keep = (1.0 - np.clip(missing, 0, 1)) * (1.0 - np.clip(corrupt, 0, 1)) * (1.0 - np.clip(slow, 0, 1))
    return np.asarray(np.clip(share * keep, 0.0, 1.0))


def sampled(facts: Facts, kind: str, name: str, job: Job, *, samples: int, seed: int = 0) -> Floats:
    """Goodput over the ranges of the facts and the luck of the run [samples]: each sample draws every ranged fact
    log-normally (its ends are the 5th and 95th percentile), components together, and then one run by the closed form
    with its Poisson luck."""
    rng = np.random.default_rng(seed + 1)
    paths = {f"rate.{k}": p for k, p in rate_paths(kind).items()} | {
        f"way.{k}": p for k, p in strategy_paths(name).items()
    }
    site = rng.standard_normal(samples)  # one draw for all components: a site is good or bad as a whole
    values: dict[str, Floats] = {}
    for key, path in paths.items():
        fact = facts.fact(path)
        mid = facts.number(path)
        if fact.low is None or fact.high is None or fact.low == fact.high:
            values[key] = np.full(samples, mid)
            continue
        half = math.log(fact.high / fact.low) / 2.0 / 1.645
        z = site if key.removeprefix("rate.") in COMPONENTS else rng.standard_normal(samples)
        values[key] = np.clip(mid * np.exp(half * z), fact.low / 3.0, fact.high * 3.0)
    for key in ("way.slow_speed", "rate.replaced_share"):
        values[key] = np.minimum(values[key], 1.0)
    out = np.empty(samples)
    for i in range(samples):
        ends = {k: float(v[i]) for k, v in values.items()}
        rates = rates_of({k[5:]: v for k, v in ends.items() if k.startswith("rate.")})
        strategy = read_strategy(facts, name, {k[4:]: v for k, v in ends.items() if k.startswith("way.")})
        g = closed_form(job, rates, strategy)
        spread = math.sqrt(max(1.0, g.failures)) / max(1.0, g.failures)
        out[i] = min(1.0, max(0.0, 1.0 - (1.0 - g.value) * (1.0 + spread * rng.standard_normal())))
    return out


def breakeven_recovery_s(job: Job, rates: FaultRates, strategy: Strategy, target: float) -> float | None:
    """The longest detection and restart with which goodput still reaches `target`; None where even none at all does
    not."""

    def value(seconds: float) -> float:
        return closed_form(job, rates, replace(strategy, detect_s=0.0, restart_s=seconds)).value

    if value(0.0) < target:
        return None
    low, high = 0.0, 1.0
    while value(high) >= target and high < 1e7:
        low, high = high, high * 2.0
    for _ in range(60):
        mid = (low + high) / 2.0
        low, high = (mid, high) if value(mid) >= target else (low, mid)
    return low
