"""The rules that replicas of a traffic come and go by: read from a scenario, and made for its pools."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.plans.memory import weights_B
from mowich.requests.scenarios import SCALING_RULES
from mowich.scenario import Node
from mowich.serving.startup import WEIGHTS_FROM, StartupAsk, startup_s
from mowich.serving.steady import Load, closed_loop, decode_pool
from mowich.serving.traffic.autoscale import Autoscale
from mowich.serving.traffic.forecasts import PREDICTORS, Forecasting, KnownAhead, LastSeen, LoadPredictor, Noise
from mowich.serving.traffic.planner import ByQueue, ByTimes, ReplicaPlanner, ReplicaProfile, as_it_is, prompts_per_s
from mowich.studies.traffic_pools import Pool, Transfer
from mowich.studies.traffic_pools import is_apart as prefill_is_apart
from mowich.sums import float_sum

POOLS_APART = ("prefill", "decode")
"""Where they are apart."""

_KEYS = {
    "inside": ("inside",),
    "queue": ("queue_up", "queue_down", "queue_in", "kv_up", "kv_down", "change"),
    "sla": ("utilisation", "enough"),
    "forecast": ("utilisation", "enough", "predictor", "window", "season"),
}
"""Keys that only some rules hear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimesAsk:
    """How a rule by limits plans. utilisation: share of a replica's rate that is planned; enough: answers that a
    correction needs; predictor, window_looks, season_s: of `forecast`."""

    utilisation: float
    enough: int
    predictor: str
    window_looks: int
    season_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingAsk:
    """What a scenario says of autoscaling. rules: the first is played, the others are compared with it; least, inside:
    of each pool; start: a time, or how a replica starts; regret: whether it is asked for; goodput: that hindsight has
    to keep (None: that of the rule)."""

    node: Node
    rules: tuple[str, ...]
    least: tuple[int, ...]
    most: tuple[int, ...]
    every_s: float
    hold_s: float
    start: float | StartupAsk
    inside: tuple[float, ...]
    queue: ByQueue
    times: TimesAsk
    regret: bool
    goodput: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The rules of a scenario, made for its pools. rules: of each pool, by name, the first is played; start: seconds of
    a new replica with their parts, where they follow from a law; regret, goodput: as asked; echo: the first, as it was
    asked and filled in; known: the rule by limits that knows how many requests come between looks (None: no limits)."""

    rules: Mapping[str, tuple[Autoscale, ...]]
    start: Estimate | None
    regret: bool
    goodput: float | None
    echo: Mapping[str, object]
    known: Callable[[Sequence[float]], tuple[Autoscale, ...]] | None


# reading
# ----------------------------------------------------------------------------------------------------------------------


def read_scaling(
    root: Node, apart: Node, facts: Facts, slo: Mapping[str, float], *, rules: Sequence[str] = (), regret: bool = False
) -> ScalingAsk | None:
    """What a scenario says of autoscaling; None where nothing. rules: instead of those of the file. Its numbers decide
    the answer, so those without a published default are asked for."""
    if "autoscale" not in root:
        if rules or regret:
            root.problem(
                None, "nothing scales here: to play a rule, the scenario needs autoscale:", given=", ".join(rules)
            )
        return None
    node = root.node("autoscale")
    named = node.names("by", SCALING_RULES) or SCALING_RULES[:1]
    # an unknown name is told of, and needs no keys
    named = tuple(dict.fromkeys(name for name in rules or named if name in SCALING_RULES))
    is_apart = prefill_is_apart(apart)
    node.need("least", "every", "start", "hold", *(["inside"] if "inside" in named else []))
    least = _counts(node, "least", is_apart, whole=True)
    most = _most(node, apart, is_apart)
    if "replicas" in root:
        node.problem(None, "already decides how many replicas there are", fix="leave out replicas")
    _check_bounds(node, least, most, is_apart)
    if not rules:
        _check_keys(node, named)
    _check_limits(node, named, slo, is_apart)
    regret, goodput = _regret(node, slo, regret=regret)
    out = ScalingAsk(
        node=node,
        rules=named,
        least=tuple(int(x) for x in least),
        most=tuple(max(a, b) for a, b in zip(most, (int(x) for x in least), strict=True)),
        every_s=node.quantity("every", "s", 1.0, minimum=0.1) or 1.0,
        hold_s=node.quantity("hold", "s", 0.0) or 0.0,
        start=_start(node),
        inside=_counts(node, "inside", is_apart, whole=False, low=0.1),
        queue=_queue(node, facts if "queue" in named else None),
        times=_times(node, facts if {"sla", "forecast"} & set(named) else None),
        regret=regret,
        goodput=goodput,
    )
    node.done()
    return out


def _regret(node: Node, slo: Mapping[str, float], *, regret: bool) -> tuple[bool, float | None]:
    """(whether the regret of rules is asked for, the goodput that hindsight has to keep). regret: asked for outside of
    the file."""
    goodput = None
    if isinstance(node.raw("regret", False), dict):
        with node.inside("regret") as inner:
            goodput = None if inner.raw("goodput") is None else inner.number("goodput", 1.0, low=0.0, high=1.0)
        regret = True
    else:
        regret = node.flag("regret", False) or regret
    if regret and not slo:
        node.problem("regret", "compares goodput, which needs limits", fix="slo: {ttft: 1 s, tpot: 50 ms}")
    return regret, goodput


def _check_bounds(node: Node, least: Sequence[float], most: Sequence[int], is_apart: bool) -> None:
    """The most replicas of a pool are at least the least, and a pool can scale."""
    for name, few, many in zip(POOLS_APART if is_apart else ("",), least, most, strict=True):
        if many < few:
            where = f"disaggregated.{name}" if is_apart else "least"
            key = "least" if is_apart else "most"
            node.wrong(key, f"is above {where}" if is_apart else "is below least")
    if is_apart and all(few == many for few, many in zip(least, most, strict=True)):
        node.problem(None, "neither pool can scale: in both, least equals the number of workers", fix="a smaller least")


def _check_keys(node: Node, named: Sequence[str]) -> None:
    """A key belongs to a rule that is asked for."""
    for key in dict.fromkeys(key for name, keys in _KEYS.items() if name not in named for key in keys):
        if not any(key in _KEYS[name] for name in named):
            node.refuse("goes with " + " and ".join(f"by: {name}" for name, keys in _KEYS.items() if key in keys), key)


def _check_limits(node: Node, named: Sequence[str], slo: Mapping[str, float], is_apart: bool) -> None:
    """Rules that plan by limits need one: of TTFT or TPOT, and of both where prefill and decode have pools of their
    own."""
    limits = ("ttft", "tpot")
    lacks = [x for x in limits if x not in slo] if is_apart else [] if set(limits) & set(slo) else ["ttft"]
    planner = next((name for name in ("sla", "forecast") if name in named), None)
    if planner and lacks:
        words = f"{planner} plans by limits: slo.{lacks[0]} is missing"
        node.problem("by", words, fix="slo: {ttft: 1 s, tpot: 50 ms}")


def _counts(node: Node, key: str, is_apart: bool, *, whole: bool, low: float = 1.0) -> tuple[float, ...]:
    """A number of each pool: one for all, or a mapping of those that are apart."""
    pools = 2 if is_apart else 1
    if not isinstance(node.raw(key), dict):
        return (node.count(key, 1.0, minimum=low, whole=whole),) * pools
    if not is_apart:
        node.wrong(key, "is one number: only one pool scales", allowed="a number")
        return (1.0,)
    with node.inside(key, *POOLS_APART) as inner:
        return tuple(inner.count(name, 1.0, minimum=low, whole=whole) for name in POOLS_APART)


def _most(node: Node, apart: Node, is_apart: bool) -> tuple[int, ...]:
    """The most replicas of each pool: of pools apart, those that `disaggregated` names."""
    if not is_apart:
        node.need("most")
        return (int(node.count("most", 1)),)
    node.refuse("is stated already, by disaggregated.prefill and .decode", "most")
    return tuple(
        n if isinstance(n := apart.raw(name, 1), int) else 1 for name in POOLS_APART
    )  # wrong ones are told of there


def _start(node: Node) -> float | StartupAsk:
    """How long a new replica takes: a time, or the parts of it."""
    if not isinstance(node.raw("start"), dict):
        return node.quantity("start", "s", 0.0) or 0.0
    with node.inside("start", "weights") as inner:
        return StartupAsk(
            weights=inner.text("weights", WEIGHTS_FROM[0], allowed=WEIGHTS_FROM),
            rate_Bps=inner.quantity("rate", "B/s", minimum=1.0),
            machine_s=inner.quantity("machine", "s", 0.0) or 0.0,
            compiled=inner.flag("compiled", True),
        )


def _usual(facts: Facts | None, name: str) -> float:
    """The defaults of planners; facts: None where no rule uses them, so that they are not read."""
    return 1.0 if facts is None else facts.number(f"serving.planner.{name}")


def _queue(node: Node, facts: Facts | None) -> ByQueue:
    """The thresholds of `queue`."""
    usual = partial(_usual, facts)

    counts_tokens = node.text("queue_in", "requests", allowed=("requests", "tokens")) == "tokens"
    if counts_tokens:
        node.need("queue_up", "queue_down")
    found = ByQueue(
        queue_up=node.count("queue_up", usual("queue_up"), minimum=0.0, whole=False),
        queue_down=node.count("queue_down", usual("queue_down"), minimum=0.0, whole=False),
        kv_up=node.number("kv_up", usual("kv_up"), low=0.0, high=1.0),
        kv_down=node.number("kv_down", usual("kv_down"), low=0.0, high=1.0),
        step=int(node.count("change", usual("change"))),
        counts_tokens=counts_tokens,
    )
    for down, up in (("queue_down", "queue_up"), ("kv_down", "kv_up")):
        low, high = getattr(found, down), getattr(found, up)
        if low > high and down in node:
            node.wrong(down, f"is above {up}", allowed=f"at most {high:g}")
        elif low > high:
            node.wrong(up, f"is below {down}", allowed=f"at least {low:g}")
    return found


def _times(node: Node, facts: Facts | None) -> TimesAsk:
    """How `sla` and `forecast` plan."""
    season_s = node.quantity("season", "s", minimum=1e-9) or math.inf
    predictor = node.text("predictor", "arima", allowed=PREDICTORS)
    if predictor == "seasonal":
        node.need("season")
    else:
        node.refuse("goes with predictor: seasonal", "season")
    return TimesAsk(
        utilisation=node.number("utilisation", 1.0, low=0.01, high=1.0),
        enough=int(node.count("enough", _usual(facts, "enough"))),
        predictor=predictor,
        window_looks=int(node.count("window", _usual(facts, "window"), minimum=2)),
        season_s=season_s,
    )


# making
# ----------------------------------------------------------------------------------------------------------------------


def make_scaling(
    ask: ScalingAsk,
    facts: Facts,
    pools: Sequence[Pool],
    slo: Mapping[str, float],
    transfer: Transfer | None,
    *,
    has_front: bool,
    where: str,
) -> Scaling:
    """The rules for the pools of a scenario. Raises UserError for a start that no law covers."""
    start: Estimate | None = None
    starts = [ask.start if not isinstance(ask.start, StartupAsk) else 0.0] * len(pools)
    if isinstance(ask.start, StartupAsk):
        found = []
        for pool in pools:
            held = float(weights_B(pool.deployment.shapes)[0]) * pool.plan.devices
            found.append(startup_s(facts, pool.system.family, held, ask.start, f"{where} autoscale.start"))
        starts, start = [e.value or 0.0 for e in found], found[0]
    looks = max(1, math.ceil(ask.times.season_s / ask.every_s)) if math.isfinite(ask.times.season_s) else 1
    heard = facts if "forecast" in ask.rules and ask.times.predictor == "kalman" else None
    noise = Noise(**{name: _usual(heard, f"noise_{name}") for name in ("level", "trend", "seen")})
    ahead = Forecasting(predictor=ask.times.predictor, window=ask.times.window_looks, season=looks, noise=noise)
    now = replace(ahead, predictor="constant")
    needs_profile = bool({"sla", "forecast"} & set(ask.rules)) or (ask.regret and bool({"ttft", "tpot"} & set(slo)))
    sides = _sides(pools, slo, transfer, has_front=has_front) if needs_profile else ()

    def of_pool(i: int, make: Callable[[], ReplicaPlanner] | None) -> Autoscale:
        return Autoscale(
            least=ask.least[i],
            most=ask.most[i],
            every_s=ask.every_s,
            start_s=starts[i],
            hold_s=ask.hold_s,
            inside=ask.inside[i],
            make=make,
        )

    def by_times(i: int, predictors: Callable[[], list[LoadPredictor]], look_ahead_s: float) -> ReplicaPlanner:
        side = sides[i]
        rate, prompt, output = predictors()
        return ByTimes(
            at=side.at,
            of_replica=side.rate,
            ttft_s=slo.get("ttft", math.inf),
            tpot_s=slo.get("tpot", math.inf),
            utilisation=ask.times.utilisation,
            enough=ask.times.enough,
            look_ahead_s=look_ahead_s,
            counts_first=side.counts_first,
            rate=rate,
            prompt=prompt,
            output=output,
        )

    def three(how: Forecasting) -> list[LoadPredictor]:
        return [how.make() for _ in range(3)]

    rules: dict[str, tuple[Autoscale, ...]] = {}
    for name in ask.rules:
        made = []
        for i in range(len(pools)):
            is_prefill = len(pools) > 1 and i == 0
            makers: dict[str, Callable[[], ReplicaPlanner] | None] = {
                "inside": None,
                "queue": partial(
                    as_it_is, replace(ask.queue, kv_up=math.inf, kv_down=math.inf) if is_prefill else ask.queue
                ),
                "sla": partial(by_times, i, partial(three, now), 0.0),
                "forecast": partial(by_times, i, partial(three, ahead), starts[i] + ask.every_s),
            }
            made.append(of_pool(i, makers[name]))
        rules[name] = tuple(made)

    def known(truth: Sequence[float]) -> tuple[Autoscale, ...]:
        def told() -> list[LoadPredictor]:
            return [KnownAhead(truth), LastSeen(), LastSeen()]

        return tuple(of_pool(i, partial(by_times, i, told, starts[i] + ask.every_s)) for i in range(len(pools)))

    return Scaling(
        rules=rules,
        start=start,
        regret=ask.regret,
        goodput=ask.goodput,
        echo=_echo(ask, starts),
        known=known if sides else None,
    )


def _echo(ask: ScalingAsk, starts: Sequence[float]) -> dict[str, object]:
    """The first rule, as it was asked and filled in; of one rule by requests inside, without its name."""

    def one(values: Sequence[float]) -> object:
        return values[0] if len(values) == 1 else dict(zip(POOLS_APART, values, strict=True))

    name = ask.rules[0]
    out: dict[str, object] = {"least": one(ask.least), "most": one(ask.most)}
    if name == "inside":
        out["inside"] = one(ask.inside)
    out |= {"every_s": ask.every_s, "start_s": one(starts), "hold_s": ask.hold_s}
    if name == "queue":
        q = ask.queue
        out |= {
            "queue_up": q.queue_up,
            "queue_down": q.queue_down,
            "queue_in": "tokens" if q.counts_tokens else "requests",
        }
        out |= {"kv_up": q.kv_up, "kv_down": q.kv_down, "change": q.step}
    if name in ("sla", "forecast"):
        out |= {"utilisation": ask.times.utilisation, "enough": ask.times.enough}
    if name == "forecast":
        season = ask.times.season_s
        out |= {"predictor": ask.times.predictor, "window": ask.times.window_looks}
        out |= {} if math.isinf(season) else {"season_s": season}
    if ask.rules != ("inside",):
        out["by"] = list(ask.rules) if len(ask.rules) > 1 else name
    if ask.regret:
        out["regret"] = True if ask.goodput is None else {"goodput": ask.goodput}
    return out


# profiles of pools
# ----------------------------------------------------------------------------------------------------------------------

PROMPTS = tuple(32.0 * 4.0**i for i in range(7))
"""Tokens of a prompt at which a replica is profiled."""
OUTPUTS = tuple(4.0**i for i in range(1, 8))
"""Tokens of an answer at which a replica is profiled."""
NEVER_S = 1e9
"""A time that no limit keeps: of requests that do not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolProfile:
    """What a replica of a pool does. at: (TTFT, TPOT) for (prompt, output, users), 0 where the pool does not decide it;
    rate: requests per second for (prompt, output, limit on TTFT, limit on TPOT); counts_first: whether requests are in
    the pool before their first token."""

    at: Callable[[float, float, float], tuple[float, float]]
    rate: Callable[[float, float, float, float], float]
    counts_first: bool


def _sides(
    pools: Sequence[Pool], slo: Mapping[str, float], transfer: Transfer | None, *, has_front: bool
) -> tuple[PoolProfile, ...]:
    """The profile of each pool."""
    if len(pools) == 1:
        whole = replica_profile(pools[0], has_front=has_front)
        return (PoolProfile(at=whole.at, rate=whole.rate, counts_first=True),)
    prompts, answers = (
        replica_profile(pools[0], has_front=False, part="prefill"),
        replica_profile(pools[1], has_front=False, part="decode"),
    )
    front = pools[0].seen.front if has_front else None

    def first_s(prompt: float) -> tuple[float, float]:
        """(a prompt's own steps, what comes on top whatever the load is)."""
        travel = 0.0 if transfer is None else transfer.seconds(round(prompt))
        return prompts.at(prompt, OUTPUTS[0], 1.0)[0], travel + (front.before(prompt) if front else 0.0)

    def prefill_at(prompt: float, output: float, users: float) -> tuple[float, float]:
        return float_sum(first_s(prompt)), 0.0

    def prefill_rate(prompt: float, output: float, ttft_s: float, tpot_s: float) -> float:
        each, beside = first_s(prompt)
        return prompts_per_s(each, ttft_s - beside)

    def decode_at(prompt: float, output: float, users: float) -> tuple[float, float]:
        return 0.0, answers.at(prompt, output, users)[1]

    def decode_rate(prompt: float, output: float, ttft_s: float, tpot_s: float) -> float:
        return answers.rate(prompt, output, math.inf, tpot_s)

    return (
        PoolProfile(at=prefill_at, rate=prefill_rate, counts_first=True),
        PoolProfile(at=decode_at, rate=decode_rate, counts_first=False),
    )


def replica_profile(pool: Pool, *, has_front: bool, part: str = "whole") -> ReplicaProfile:
    """A replica of a pool in its steady state, at loads and lengths around those that are served. part: of a worker of
    prompts (`prefill`) TTFT is the time of a prompt's own steps; of one that only decodes (`decode`) TPOT holds the
    wait of those that have no room."""
    d = pool.deployment
    users = [1.0]
    while users[-1] < pool.scheduler.max_sequences:
        users.append(min(2.0 * users[-1], float(max(2, pool.scheduler.max_sequences))))
    users = users if len(users) > 1 else [1.0, 2.0]
    grid = np.array([(p, o, u) for p in PROMPTS for o in OUTPUTS for u in users])
    every, ones = np.zeros(len(grid), dtype=np.intp), np.ones(len(grid))
    load = Load(
        users=np.maximum(1.0, grid[:, 2] / pool.plan.dp),
        prompt=grid[:, 0],
        output=grid[:, 1],
        cached=0.0 * ones,
        verify=ones * d.verified[0],
        accepted=ones * d.accepted[0],
        rounds=ones * math.inf,
        is_static=0.0 * ones,
    )
    columns = (d.shapes.take(every), d.costs.take(every), d.around.take(every), load)
    if part == "decode":
        steady = decode_pool(*columns, 0.0 * ones, d.system.hbm_usable_B)
        waits = np.maximum(1.0, load.users / np.maximum(1.0, np.minimum(load.users, steady.capacity)))
        first, each = 0.0 * ones + 1e-9, steady.tpot_s * waits
    else:
        steady = closed_loop(*columns, d.system.hbm_usable_B)
        first, each = steady.ttft_s, steady.tpot_s
        if part == "prefill":
            first = steady.ttft_parts["prefill"]
        elif not has_front:
            first = first - steady.ttft_parts["front_end"]
    sizes = np.log2(grid[:, 0])
    shifted = []
    for seconds, shift in ((first, pool.seen.ttft), (each, pool.times.tpot)):
        factors = np.array([shift.factor(n, size) for n, size in zip(load.users.tolist(), sizes.tolist(), strict=True)])
        safe = np.nan_to_num(seconds * factors, nan=NEVER_S, posinf=NEVER_S)
        shifted.append(np.clip(safe, 1e-9, NEVER_S).reshape(len(PROMPTS), len(OUTPUTS), len(users)))
    ttft, tpot = (tuple(tuple(tuple(row) for row in plane) for plane in cube.tolist()) for cube in shifted)
    return ReplicaProfile(prompts=PROMPTS, outputs=OUTPUTS, users=tuple(users), ttft_s=ttft, tpot_s=tpot)
