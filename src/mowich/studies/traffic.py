"""`mowich traffic`: a scenario file read, its traffic simulated, and what its users would have seen.

The keys of a scenario are documented in docs/theory/theory-serving.md. Ranges come from the same
traffic played again: with all steps at the ends of their interval, and with other draws.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import NormalDist
from typing import IO, cast

import numpy as np

from mowich.economics import energy
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.facts import Facts
from mowich.progress import steps
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.anchors import METRICS
from mowich.serving.sessions import SessionLoad
from mowich.serving.traffic.autoscale import Autoscale, ScaledPool
from mowich.serving.traffic.compiled import FleetSetup, ReplicaGroup
from mowich.serving.traffic.encoders import EncoderWorker
from mowich.serving.traffic.outages import NeverAnsweredError
from mowich.serving.traffic.play import Cutoff, PlayedFleet, ReplicaRecord, play_fleet
from mowich.serving.traffic.replica import CacheTooSmallError
from mowich.shown import Shown, plain_row
from mowich.studies.footing import DAY_S
from mowich.studies.heard import note_heard
from mowich.studies.serving import tabled_shares, with_tables
from mowich.studies.serving_plan import fact_spreads
from mowich.studies.traffic_autoscale import POOLS_APART, Scaling
from mowich.studies.traffic_encoding import media_figures
from mowich.studies.traffic_load import is_sessions, requests_of
from mowich.studies.traffic_pools import EncodePool, Pool
from mowich.studies.traffic_regret import Hindsight, Play, bin_width_s
from mowich.studies.traffic_regret import regret as regret_of
from mowich.studies.traffic_scenario import TrafficScenario, read_traffic
from mowich.studies.traffic_sessions import HOUR_S, SessionTally, with_costs
from mowich.studies.traffic_tally import LIMIT_MARGIN, REQUEST_COLUMNS, Tally, tier_figures
from mowich.studies.traffic_timeline import looks_told, write_timeline
from mowich.sums import float_sum
from mowich.writing import told_unwritable, whole_file


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficResult(Shown):
    """What the users saw and what the machines did.

    Units: seconds; shares.

    Example:
        >>> import mowich
        >>> mowich.traffic("chat-llama-70b", draws=0).requests > 100  # doctest: +SKIP
        True
    """

    SCHEMA = "mowich/traffic@1"
    KEYS = (
        "* -seconds cached_of:none? tier_read_B:none? tier_written_B:none? load_wait_s:none? media:none? "
        "sessions:none? scaling:none? disturbed:none? tenants:none?"
    )

    inputs: Mapping[str, object]
    """The question, as it was asked."""
    facts_hash: str
    """Of all facts."""
    requests: int
    """That replicas took."""
    completed: int
    """Requests that were answered."""
    counted: int
    """Requests that stand in the times and the goodput."""
    ttft_s: Mapping[str, float | None]
    """Time to the first token: mean and marks, p50 to p99."""
    tpot_s: Mapping[str, float | None]
    """Time between tokens."""
    e2e_s: Mapping[str, float | None]
    """Time to the last token."""
    queue_s: Mapping[str, float | None]
    """Time in the queue."""
    goodput_frac: float | None
    """Share of the counted requests within all limits; None where none are stated."""
    ranges: Mapping[str, Mapping[str, Sequence[float]]]
    """Of the times, (low, high) by metric and mark; empty: none were made."""
    requests_per_s: float
    """That were answered."""
    in_flight: float
    """Requests inside, mean over the makespan."""
    tokens_per_s_per_chip: float
    """Of answers."""
    utilisation: float
    """Share of time in which the replicas take steps."""
    J_per_token: float | None
    """Of answers; None without a known power."""
    usd_per_mtok: float | None
    """USD per million tokens of answers; None without a price."""
    cached_frac: float
    """Share of the prompt tokens that a cache had."""
    prompt_mean: float
    """Tokens of a prompt that was answered."""
    preemptions: int
    """Times that an answered request was put out of a batch."""
    failures: int
    """Times that an answered request lost its replica."""
    chips: int
    """Of all replicas, whether there all the time or not."""
    chips_mean: float
    """Chips that were paid for at a time."""
    chips_of: Mapping[str, int]
    """Chips by system."""
    is_mixed: bool
    """Whether the chips are of several systems."""
    usd_per_h: float | None
    """USD per hour of the chips that were paid for; None without a price."""
    scale_ups: int
    """Replicas that the rule of scaling ordered."""
    makespan_s: float
    """Time that was played."""
    events: int
    """That were played."""
    steps: int
    """Of engines."""
    seconds: float
    """Processor time taken, for the eye: it is no part of `to_dict`."""
    coverage: Mapping[str, float]
    """Share of the steps by kind of cost."""
    cached_of: Mapping[str, float] = field(default_factory=dict)
    """Shares of the prompt tokens that were in the device's memory and in each tier."""
    tier_read_B: Mapping[str, float] = field(default_factory=dict)
    """Bytes that came over the links of the tiers."""
    tier_written_B: Mapping[str, float] = field(default_factory=dict)
    """Bytes that went over the links of the tiers."""
    load_wait_s: Mapping[str, float | None] = field(default_factory=dict)
    """Of requests, until what a tier holds was there."""
    media: Mapping[str, object] = field(default_factory=dict)
    """Of images and sound, and the parts of the time to first token; empty: text alone."""
    measured: Mapping[str, object] = field(default_factory=dict)
    """How far away measured rows are from the pool that decodes, and the nearest of them, as in rows of a plan."""
    sessions: Mapping[str, object] | None = None
    """Of a load of sessions, the time to a task, its parts and its cost; None: of another load."""
    scaling: Mapping[str, object] = field(default_factory=dict)
    """How replicas came and went; empty: they do not."""
    disturbed: Mapping[str, object] = field(default_factory=dict)
    """Requests whose replica went before they were answered; empty: none goes."""
    tenants: Mapping[str, object] = field(default_factory=dict)
    """Loads of LoRA adapters, and the spread between those who ask for them; empty: there are none."""
    warnings: tuple[str, ...] = ()
    """Lines that a reader has to know."""

    def rows(self) -> list[dict[str, object]]:
        """The result as one row of plain numbers."""
        left_out = ("inputs", "measured", "scaling", "warnings")
        return [plain_row({k: v for k, v in self.to_dict().items() if k not in left_out})]


PlayedPools = Sequence[tuple[Pool | EncodePool, Sequence[ReplicaRecord]]]
"""Pools, each with the figures of its replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Played:
    """A scenario that was played. span_s: from the first arrival to the last token; seconds: processor time taken;
    apart: encoders on workers of their own."""

    scenario: TrafficScenario
    tally: Tally
    fleet: PlayedFleet
    span_s: float
    seconds: float
    apart: Sequence[EncoderWorker]

    @property
    def pools(self) -> tuple[tuple[Sequence[ReplicaRecord], ScaledPool | None], ...]:
        """Replicas, and the rule that they come and go by (None: all are there), of each pool; encoders apart come
        last."""
        fleet = self.fleet
        both = ((fleet.replicas, fleet.scaled), (fleet.decoders, fleet.scaled_decoders))
        return (*(both if fleet.decoders else both[:1]), *([(self.apart, None)] if self.apart else []))

    @property
    def records(self) -> PlayedPools:
        """The pools, each with the figures of its replicas."""
        return [(pool, rs) for pool, (rs, _) in zip(self.scenario.every_pool, self.pools, strict=True)]

    @property
    def rules(self) -> list[ScaledPool]:
        """Those that pools come and go by."""
        return [rule for _, rule in self.pools if rule is not None]

    def paid_s(self) -> list[float]:
        """Seconds of replicas that were paid for, of each pool. One that does not scale is there from the first arrival
        to the last token."""
        last_s = self.tally.last_s
        return [self.span_s * len(rs) if rule is None else rule.paid_until(last_s) for rs, rule in self.pools]

    def there_s(self) -> list[float]:
        """Seconds for which a replica of each pool was there, on average."""
        return [
            self.span_s if rule is None else paid / len(rs)
            for paid, (rs, rule) in zip(self.paid_s(), self.pools, strict=True)
        ]

    def chip_s(self) -> list[float]:
        """Chip-seconds that were paid for, of each pool."""
        each = [pool.chips / pool.replicas for pool in self.scenario.every_pool]
        return [n * s for n, s in zip(each, self.paid_s(), strict=True)]

    def shares(self) -> dict[str, float]:
        """Share of the span for which the chips of each system were paid for."""
        out = dict.fromkeys(self.scenario.chips_of, 1.0)
        if self.scenario.autoscale is not None:
            there = list(zip(self.scenario.every_pool, self.there_s(), strict=True))
            for system in out:
                here = [(pool.chips, s) for pool, s in there if pool.system.id == system]
                out[system] = float_sum(n * s for n, s in here) / (float_sum(n for n, _ in here) * self.span_s)
        return out

    def figures(self, how: str, bin_s: float, rates: Mapping[str, float | None]) -> Play:
        """What hindsight knows of it. bin_s: width of its bins; rates: USD per second of a chip, by system."""
        tally, paid = self.tally, self.chip_s()
        usd: float | None = 0.0
        for pool, held in zip(self.scenario.every_pool, paid, strict=True):
            rate = rates[pool.system.id]
            usd = None if usd is None or rate is None else usd + rate * held
        return Play(
            how=how,
            goodput=tally.good / max(1, tally.e2e.count),
            chip_s=float_sum(paid),
            usd=usd,
            asked={k: n for k, (n, _) in tally.bins[bin_s].items()},
            kept={k: good for k, (_, good) in tally.bins[bin_s].items()},
        )


@contextmanager
def _request_lines(path: Path | None) -> Iterator[IO[str] | None]:
    """The file that gets a line for each answered request; None where none is asked for."""
    if path is None:
        yield None
        return
    with (
        told_unwritable(where=str(path)),
        whole_file(path) as new,
        new.open("w", encoding="utf-8", newline="") as file,
    ):
        file.write(",".join(REQUEST_COLUMNS) + "\n")
        yield file


_FIXES: Mapping[type[Exception], str] = {
    NeverAnsweredError: "more time between failures, shorter answers, or failures: {moves: replay}",
    CacheTooSmallError: "more memory for the cache, or shorter requests",
}
"""What may be tried where a traffic cannot be played to its end."""


def _play(
    scenario: TrafficScenario,
    *,
    requests_out: Path | None = None,
    trace_out: Path | None = None,
    sessions_out: Path | None = None,
    cutoff: Cutoff | None = None,
    bins_s: Sequence[float] = (),
) -> _Played:
    """Play a scenario once, and write what is asked for. bins_s: widths of bins in which requests are counted. As
    `simulate_traffic`."""
    _check_sessions(scenario, sessions_out)
    with _request_lines(requests_out) as file:
        played = _told(scenario, file, cutoff, bins_s, is_traced=trace_out is not None)
        if trace_out is not None:
            rules = dict(zip(_pool_names(scenario), (rule for _, rule in played.pools), strict=False))
            write_timeline(trace_out, played.fleet.timelines, rules)
        if played.tally.tasks is not None and sessions_out is not None:
            played.tally.tasks.write(sessions_out)
    return played


def _told(
    scenario: TrafficScenario, file: IO[str] | None, cutoff: Cutoff | None, bins_s: Sequence[float], *, is_traced: bool
) -> _Played:
    """Play a scenario once. file: gets a line for each answered request."""
    s = scenario.serve.scheduler
    load = requests_of(scenario.requests, s.hash_block, s.blocks // s.groups * s.block)
    counted = scenario.requests.get("counted", (0.0, math.inf))
    tasks = None
    if isinstance(load, SessionLoad):
        limit = scenario.slo.get("task", math.inf) * (1.0 + LIMIT_MARGIN)
        tasks = SessionTally(load=load, limit_s=limit, begin_s=counted[0], end_s=counted[1])
    tally = Tally(scenario.slo, counted, file, tasks, scenario.serve.times.adapters is not None)
    begin = time.process_time()
    tally.bins = {width: {} for width in bins_s}
    try:
        fleet = play_fleet(_setup(scenario, tally, is_traced=is_traced), load, tally.add, cutoff)
    except (NeverAnsweredError, CacheTooSmallError) as error:
        where = str(scenario.inputs["scenario"])
        raise UserError(str(error), where=where, fix=_FIXES[type(error)], code=EXIT_INFEASIBLE) from None
    if tasks is not None and "task" in scenario.slo:
        tally.good = tasks.good
    return _Played(
        scenario=scenario,
        tally=tally,
        fleet=fleet,
        span_s=max(tally.last_s - (fleet.first_s or 0.0), 1e-12),
        seconds=time.process_time() - begin,
        apart=fleet.encoders if scenario.encoding is not None and scenario.encoding.pool is not None else (),
    )


def _pool_names(scenario: TrafficScenario) -> tuple[str, ...]:
    return ("replica",) if scenario.decode is None else POOLS_APART


def simulate_traffic(
    scenario: TrafficScenario,
    facts: Facts,
    *,
    requests_out: Path | None = None,
    trace_out: Path | None = None,
    sessions_out: Path | None = None,
    cutoff: Cutoff | None = None,
) -> TrafficResult:
    """Run a scenario once, without ranges. requests_out: one CSV line per finished request; trace_out: a timeline
    (Chrome trace events); sessions_out: one CSV line per session; cutoff: when to stop before the end (the result is of
    what was answered until then). Raises UserError for a bad trace or a request that the cache cannot hold."""
    is_scaled = scenario.autoscale is not None
    played = _play(
        scenario,
        requests_out=requests_out,
        trace_out=trace_out,
        sessions_out=sessions_out,
        cutoff=cutoff,
        bins_s=[HOUR_S] if is_scaled else [],
    )
    tally, fleet, span, there_s = played.tally, played.fleet, played.span_s, played.there_s()
    everyone = [replica for _, replicas in played.records for replica in replicas]
    shares, used = played.shares(), float(scenario.chips)
    if is_scaled:
        used = float_sum(n * shares[system] for system, n in scenario.chips_of.items())
    joule, usd_per_s = _costs(played, facts)
    return TrafficResult(
        inputs=scenario.inputs,
        facts_hash=facts.hash(),
        requests=fleet.taken,
        completed=tally.answered,
        counted=tally.e2e.count,
        ttft_s=tally.ttft.to_dict(),
        tpot_s=tally.tpot.to_dict(),
        e2e_s=tally.e2e.to_dict(),
        queue_s=tally.queue.to_dict(),
        goodput_frac=tally.good / tally.e2e.count if scenario.slo and tally.e2e.count else None,
        ranges={},
        requests_per_s=tally.answered / span,
        in_flight=tally.inside_s / span,
        tokens_per_s_per_chip=tally.tokens / span / used,
        utilisation=_busy(played.records, there_s),
        J_per_token=None if joule is None else joule / max(1, tally.tokens),
        usd_per_mtok=None if usd_per_s is None else usd_per_s * span / max(1, tally.tokens) * 1e6,
        cached_frac=tally.cached / max(1, tally.prompt),
        prompt_mean=tally.prompt / max(1, tally.answered),
        preemptions=tally.preemptions,
        failures=tally.failures,
        chips=scenario.chips,
        chips_mean=used,
        chips_of=scenario.chips_of,
        is_mixed=len(scenario.chips_of) > 1,
        usd_per_h=None if usd_per_s is None else usd_per_s * HOUR_S,
        scale_ups=sum(rule.orders for rule in played.rules),
        makespan_s=span,
        events=sum(r.events for r in everyone),
        steps=sum(r.steps for r in everyone),
        seconds=played.seconds,
        media={}
        if scenario.encoding is None
        else media_figures(fleet.encoders, tally.media, there_s[-1 if played.apart else 0]),
        coverage=_coverage(played),
        sessions=None
        if tally.tasks is None
        else with_costs(
            tally.tasks.figures(is_limited="task" in scenario.slo),
            span_s=span,
            chips=used,
            joule=joule,
            usd=None if usd_per_s is None else usd_per_s * span,
        ),
        **tier_figures(tally, scenario.serve.tiers, fleet.replicas),
        scaling=_scaling(played, usd_per_s) if is_scaled else {},
        disturbed=tally.disturbed() if scenario.outages.is_asked else {},
        tenants=tally.tenants.to_dict([r.adapter_loads for r in everyone]) if tally.has_tenants else {},
    )


def _check_sessions(scenario: TrafficScenario, out: Path | None) -> None:
    """Raise UserError where figures of sessions are asked for and there are none."""
    if not is_sessions(scenario.requests) and (out is not None or "task" in scenario.slo):
        raise UserError(
            "slo.task needs sessions" if out is None else "--sessions-out needs sessions",
            where=str(scenario.inputs["scenario"]),
            fix="traffic: {agents: ...}, or a trace of sessions",
        )


def _setup(scenario: TrafficScenario, tally: Tally, *, is_traced: bool) -> FleetSetup:
    """The replicas of a scenario. tally: what sees its images and its sound."""

    def workers(p: Pool) -> ReplicaGroup:
        seen = p.seen if scenario.has_front else None
        return ReplicaGroup(count=p.replicas, times=p.times, scheduler=p.scheduler, seen=seen, tiering=p.tiering)

    return FleetSetup(
        serve=workers(scenario.serve),
        decode=workers(scenario.decode) if scenario.decode else None,
        route=scenario.route,
        way=scenario.transfer,
        failures=scenario.outages.failures,
        chance=scenario.outages.chance,
        recovery=scenario.outages.recovery,
        rule=scenario.autoscale,
        decode_rule=scenario.autoscale_decode,
        is_traced=is_traced,
        media=None
        if scenario.encoding is None
        else scenario.encoding.of_fleet(scenario.requests.get("seed", 0), tally.saw_media),
    )


def _scaling(played: _Played, usd_per_s: float | None) -> dict[str, object]:
    """How replicas came and went: numbers over time and by pool, limits kept by hour, what was paid."""
    scenario = played.scenario
    pools: dict[str, object] = {}
    # encoders apart, the last pool, do not scale
    for name, pool, paid, rule in zip(
        _pool_names(scenario), scenario.every_pool, played.paid_s(), played.rules, strict=False
    ):
        pools[name] = {
            "chips_each": pool.chips / pool.replicas,
            "replicas_mean": paid / played.span_s,
            "replicas_most": max((look.paid for look in rule.log), default=rule.rule.least),
            "scale_ups": rule.orders,
            "scale_downs": rule.gone,
            "timeline": looks_told(rule.log),
        }
    out: dict[str, object] = {
        "chip_hours": float_sum(played.chip_s()) / HOUR_S,
        "usd_per_day": None if usd_per_s is None else usd_per_s * DAY_S,
        "scale_downs": sum(rule.gone for rule in played.rules),
        "pools": pools,
        "hours": [
            {"from_s": k * HOUR_S, "requests": n, "goodput_frac": good / n if scenario.slo else None}
            for k, (n, good) in sorted(played.tally.bins[HOUR_S].items())
        ],
    }
    if scenario.scaling is not None and scenario.scaling.start is not None:
        out["start_s"] = scenario.scaling.start.to_dict()
    return out


def compared_rules(scenario: TrafficScenario, facts: Facts, result: TrafficResult) -> TrafficResult:
    """The result with its rule beside others of the scenario, and the regret of each, where that was asked for."""
    scaling = scenario.scaling
    if scaling is None or (len(scaling.rules) == 1 and not scaling.regret):
        return result
    every_s = next(iter(scaling.rules.values()))[0].every_s
    bin_s = bin_width_s(every_s, result.makespan_s + every_s)
    from mowich.economics import money

    rates = {name: money.price(facts, name, term=scenario.price).rate.value for name in scenario.chips_of}
    seconds: list[float] = []

    def play(rules: Sequence[Autoscale]) -> _Played:
        asked = replace(scenario, autoscale=rules[0], autoscale_decode=rules[1] if len(rules) > 1 else None)
        played = _play(asked, bins_s=[bin_s])
        seconds.append(played.seconds)
        return played

    def figures(rules: Sequence[Autoscale], how: str) -> Play:
        return play(rules).figures(how, bin_s, rates)

    plays: dict[str, Play] = {}
    rows: list[dict[str, object]] = []
    came: list[float] = []
    for name, rules in scaling.rules.items():
        played = play(rules)
        plays[name] = played.figures("rule", bin_s, rates)
        came = came or [0.0, *(float(look.came) for look in played.rules[0].log[1:])]
        rows.append({"by": name, **plays[name].to_dict(), **_rule_row(played)})
    told = dict(result.scaling)
    if scaling.regret:
        hindsight = _hindsight(scenario, scaling, plays, bin_s, came, figures)
        for row, one in zip(rows, plays.values(), strict=True):
            found = regret_of(hindsight, one, scaling.goodput)
            told.setdefault("regret", found)
            row |= {"regret_chip_hours": found["chip_hours"], "regret_frac": found["frac"]}
    if len(rows) > 1:
        told["rules"] = rows
    return replace(result, scaling=told, seconds=result.seconds + float_sum(seconds))


def _rule_row(played: _Played) -> dict[str, object]:
    """What stands beside the figures of a rule that is compared."""
    return {
        **({} if played.scenario.slo else {"goodput_frac": None}),
        "ttft_p99_s": played.tally.ttft.quantile(0.99),
        "tpot_p99_s": played.tally.tpot.quantile(0.99),
        "scale_ups": sum(rule.orders for rule in played.rules),
        "scale_downs": sum(rule.gone for rule in played.rules),
    }


def _hindsight(
    scenario: TrafficScenario,
    scaling: Scaling,
    plays: Mapping[str, Play],
    bin_s: float,
    came: Sequence[float],
    play: Callable[[Sequence[Autoscale], str], Play],
) -> Hindsight:
    """The best in hindsight on the load of the rules that were played. came: requests between looks."""
    ttft, tpot, e2e = (scenario.slo.get(name, math.inf) for name in ("ttft", "tpot", "e2e"))
    hindsight = Hindsight(
        rule=next(iter(scaling.rules.values())),
        chips=tuple(pool.chips / pool.replicas for pool in scenario.pools),
        bin_s=bin_s,
        bins=max(next(iter(plays.values())).asked, default=0) + 1,
        limits_s=(ttft, tpot, e2e),
        play=play,
        known=None if scaling.known is None else scaling.known(came),
        where=f"{scenario.inputs['scenario']} autoscale.regret",
    )
    hindsight.plays.extend(plays.values())
    hindsight.learn(min(play.goodput for play in plays.values()))
    return hindsight


def _coverage(played: _Played) -> dict[str, float]:
    """What the step times rest on, as shares of the time that the replicas were busy (of the replicas, when none was).
    Tables hold of a pool's steps what they hold of one with the mean number of sequences, each with the mean tokens of
    a request; of workers of prompts, of one with such a prompt."""
    tally, pools = played.tally, list(zip(played.scenario.pools, played.pools, strict=False))  # encoders come last
    inside = tally.inside_s / played.span_s
    context = (tally.prompt + 0.5 * tally.tokens) / max(1, tally.answered)
    busy = float_sum(r.busy_s for _, (replicas, _) in pools for r in replicas)
    everyone = sum(len(replicas) for _, (replicas, _) in pools)
    out: dict[str, float] = {}
    for pool, (replicas, _) in pools:
        share = float_sum(r.busy_s for r in replicas) / busy if busy else len(replicas) / everyone
        d, groups = pool.deployment, pool.replicas * pool.plan.dp * pool.plan.pp
        if len(pools) > 1 and pool is played.scenario.serve:
            held = tabled_shares(d, prompt=context, mean=0.5 * context)[""]
        else:
            held = tabled_shares(d, n=max(1.0, inside / groups), context=context)[""]
        for kind, part in with_tables(d.coverage, held).items():
            out[kind] = out.get(kind, 0.0) + share * part
    return out


def _busy(pools: PlayedPools, there_s: Sequence[float]) -> float:
    """Share of the time of the chips of pools in which they worked; there_s: for which a replica of each was there."""
    weights = [pool.chips * (s / max(there_s)) for (pool, _), s in zip(pools, there_s, strict=True)]
    return float_sum(
        weight / float_sum(weights) * float_sum(r.busy_s for r in replicas) / (len(replicas) * s)
        for weight, (_, replicas), s in zip(weights, pools, there_s, strict=True)
    )


def _costs(played: _Played, facts: Facts) -> tuple[float | None, float | None]:
    """(J of all output tokens, USD per second): busy and idle chips over the whole span, all of it paid for. None where
    a system has no power or no price."""
    from mowich.economics import money

    site, scenario = energy.read_site(facts), played.scenario
    joule: float | None = 0.0
    usd: float | None = 0.0
    for system, paid in played.shares().items():
        chips = scenario.chips_of[system]
        here = [both for both in zip(played.records, played.there_s(), strict=True) if both[0][0].system.id == system]
        busy = _busy([one for one, _ in here], [s for _, s in here])
        draw, rate = energy.drawn_power(facts, system), money.price(facts, system, term=scenario.price).rate
        watts, idle_share = draw.power.value, draw.idle_share.value
        if joule is None or watts is None or site.pue.value is None or idle_share is None:
            joule = None
        else:
            held = busy + idle_share * (1.0 - busy)
            joule += site.pue.value * watts * chips * paid * played.span_s * held
        usd = None if usd is None or rate.value is None else usd + rate.value * chips * paid
    return joule, usd


RANGED = 20_000
"""Requests up to which a traffic is played again for its ranges without being asked."""

REDRAWS = 4
"""Other draws that a range rests on."""

RANGED_TIMES = ("ttft_s", "tpot_s", "e2e_s", "queue_s", "task_s")
"""Times of a result that have marks: mean and percentiles. The time to a task stands with the sessions."""


def marks_of(result: TrafficResult, name: str) -> Mapping[str, float | None]:
    """A time of a result by mark; nothing where it has no such time."""
    if name != "task_s":
        found: Mapping[str, float | None] = getattr(result, name)
        return found
    return {} if result.sessions is None else cast(Mapping[str, float | None], result.sessions[name])


def with_ranges(result: TrafficResult, scenario: TrafficScenario, facts: Facts, draws: int) -> TrafficResult:
    """The result with the 90% interval of every time: the same traffic with all steps at both ends of their interval
    (`step_widths`), and `draws` other draws of it (none of a trace); both in quadrature, in logarithms."""
    low, high = (simulate_traffic(_shifted(scenario, result, facts, end), facts) for end in (-1, 1))
    seed, chance = scenario.requests.get("seed"), scenario.outages.chance
    others = []
    if seed is not None or chance is not None:
        for i in steps(range(draws), "simulating other draws"):
            other = scenario
            if seed is not None:
                requests = scenario.requests.copy()
                requests["seed"] = seed + i + 1
                other = replace(other, requests=requests)
            if chance is not None:
                again = replace(chance, seed=chance.seed + i + 1)
                other = replace(other, outages=replace(scenario.outages, chance=again))
            others.append(simulate_traffic(other, facts))
    return replace(
        result,
        ranges=ranges_of(result, low, high, others),
        seconds=result.seconds + float_sum(r.seconds for r in (low, high, *others)),
    )


def ranges_of(
    result: TrafficResult, low: TrafficResult, high: TrafficResult, others: Sequence[TrafficResult]
) -> dict[str, dict[str, Sequence[float]]]:
    """(low, high) of each time and mark. low, high: with fast and with slow steps; others: of other draws."""
    out: dict[str, dict[str, Sequence[float]]] = {}
    for name in RANGED_TIMES:
        middle = marks_of(result, name)
        if not middle:
            continue
        out[name] = {}
        for mark, value in middle.items():
            if value is None or value <= 0.0:
                continue
            ends = [marks_of(r, name)[mark] for r in (low, high)]
            drawn = [v for r in (result, *others) if (v := marks_of(r, name)[mark])]
            noise = NINETY * float(np.std(np.log(drawn), ddof=1)) if len(drawn) > 1 else 0.0
            down, up = (abs(math.log(end / value)) if end else 0.0 for end in ends)
            out[name][mark] = [
                value * math.exp(-math.hypot(down, noise)),
                value * math.exp(math.hypot(up, noise)),
            ]
    return out


NINETY = NormalDist().inv_cdf(0.95)
"""Half of a 90% interval, in standard deviations."""


def _shifted(scenario: TrafficScenario, result: TrafficResult, facts: Facts, end: int) -> TrafficScenario:
    """The scenario with the steps of every pool at the fast (-1) or slow (1) end of their interval."""

    def moved(pool: Pool) -> Pool:
        widths = step_widths(pool, result, facts)
        step, first = (ends[end > 0] * end for ends in widths)
        seen = replace(pool.seen, ttft=replace(pool.seen.ttft, constant=pool.seen.ttft.constant + first))
        return replace(pool, times=pool.times.scaled(step), seen=seen)

    encoding = scenario.encoding
    if encoding is not None:  # its times rest on the constants of the steps of prompts
        first = step_widths(scenario.serve, result, facts)[0][end > 0] * end
        encoding = encoding.scaled(first)
    return replace(
        scenario,
        serve=moved(scenario.serve),
        decode=None if scenario.decode is None else moved(scenario.decode),
        encoding=encoding,
    )


def _mean_load(pool: Pool, result: TrafficResult) -> tuple[float, float]:
    """(users of a rank group, prompt tokens) of a pool, on average."""
    return max(1.0, result.in_flight / (pool.replicas * pool.plan.dp)), max(1.0, result.prompt_mean)


def _measured(scenario: TrafficScenario, result: TrafficResult) -> dict[str, object]:
    """How far away measured rows are that speak for the pool that decodes, and the nearest of them."""
    pool = scenario.decode or scenario.serve
    users, prompt = _mean_load(pool, result)
    answer = result.tokens_per_s_per_chip * result.chips_mean / max(result.requests_per_s, 1e-12)
    distance, nearest = pool.deployment.measured(0, users=users, prompt=prompt, output=answer)
    return {"distance": distance, "nearest": [asdict(near) for near in nearest]}


def step_widths(pool: Pool, result: TrafficResult, facts: Facts) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of the steps and of the first token of a pool: ln half-widths (down, up) of their 90% interval, as of a plan's
    row: by the measured rows around it at the mean load, and by facts of grade D."""
    d, (users, prompt) = pool.deployment, _mean_load(pool, result)
    half = [d.half_width(metric, 0, users=users, prompt=prompt, apart=pool.apart) for metric in METRICS]
    downs, ups = fact_spreads(d, 0, users, prompt, facts)
    step, first = ((math.hypot(x, *downs), math.hypot(x, *ups)) for x in half)
    return step, first


def traffic(asked: TrafficRequest) -> TrafficResult:
    """Read and run a scenario. Where nobody says how many other draws its ranges take, it has `REDRAWS`, and none where
    it has more than `RANGED` requests."""
    facts, draws, autoscale, regret = asked.facts, asked.draws, asked.autoscale, asked.regret
    scenario = read_traffic(asked.scenario, facts, rules=autoscale, regret=regret)
    again: dict[str, object] = {} if draws is None else {"draws": draws}
    again |= ({"rules": list(autoscale)} if autoscale else {}) | ({"regret": True} if regret else {})
    scenario = replace(scenario, inputs={**scenario.inputs, **again})
    result = simulate_traffic(
        scenario,
        facts,
        requests_out=asked.requests_out,
        trace_out=asked.trace_out,
        sessions_out=asked.sessions_out,
    )
    result = compared_rules(scenario, facts, replace(result, measured=_measured(scenario, result)))
    if draws is None:
        draws = REDRAWS if result.requests <= RANGED else 0
        if not draws:
            said = f"times have no ranges: more than {RANGED:,} requests; --draws {REDRAWS} plays them again"
            result = replace(result, warnings=(*result.warnings, said))
    trace = scenario.requests["trace"]
    question = [asked.scenario, Path(trace) if trace else "", scenario.serve.deployment.model, draws]
    question += [",".join(autoscale), regret] if autoscale or regret else []
    if scenario.encoding is not None:
        question.append(repr(scenario.encoding.items))
    return note_heard(with_ranges(result, scenario, facts, draws) if draws else result, facts, question=question)
