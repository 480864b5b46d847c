"""`mowich traffic`: a scenario file read, its traffic simulated, and what its users would have seen.

The keys of a scenario are documented in docs/serving.md. Figures are kept in bounded memory: exact percentiles up to
`EXACT` requests, then a histogram of 0.25% bins, so that a trace of any length streams through. Ranges come from the
same traffic played again: with all steps at the ends of their interval, and with other draws.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import NormalDist
from typing import IO, Protocol

import numpy as np

from mowich.economics import energy
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.facts import Facts
from mowich.progress import steps
from mowich.serving.anchors import METRICS
from mowich.serving.traffic.autoscale import ScaledPool
from mowich.serving.traffic.encoders import EncoderTimes, EncoderWorker
from mowich.serving.traffic.moments import earlier
from mowich.serving.traffic.replica import CacheTooSmallError, Replica
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.shown import Shown, plain_row
from mowich.studies.heard import note_heard
from mowich.studies.serving import tabled_shares, with_tables
from mowich.studies.serving_plan import fact_spreads
from mowich.studies.traffic_encoding import media_figures
from mowich.studies.traffic_load import requests_of
from mowich.studies.traffic_pools import EncodePool, Pool
from mowich.studies.traffic_scenario import TrafficScenario, read_traffic

_SCHEMA = "mowich/traffic@1"
EXACT = 200_000
BIN = math.log(1.0025)
FLOOR = 1e-7
LIMIT_MARGIN = 1e-9
"""Share of a limit by which a time may be above it and keep it: the rounding of a time."""
REQUEST_COLUMNS = (
    "id",
    "arrival_s",
    "scheduled_s",
    "first_token_s",
    "last_token_s",
    "prompt",
    "output",
    "replica",
    "cached",
    "preemptions",
)


class Figures:
    """Mean and percentiles of positive numbers in bounded memory."""

    def __init__(self) -> None:
        self.count, self.total = 0, 0.0
        self._exact: list[float] | None = []
        self._bins: dict[int, int] = {}

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        if self._exact is not None:
            self._exact.append(value)
            if len(self._exact) > EXACT:
                old, self._exact = self._exact, None
                for x in old:
                    self._bin(x)
        else:
            self._bin(value)

    def _bin(self, value: float) -> None:
        at = int(math.log(max(value, FLOOR) / FLOOR) / BIN)
        self._bins[at] = self._bins.get(at, 0) + 1

    def quantile(self, share: float) -> float | None:
        """Linear between ranks while exact, to 0.25% afterwards; None when empty."""
        if not self.count:
            return None
        if self._exact is not None:
            return float(np.quantile(np.array(self._exact), share))
        wanted, seen = share * (self.count - 1), 0
        for at in sorted(self._bins):
            seen += self._bins[at]
            if seen > wanted:
                return FLOOR * math.exp((at + 0.5) * BIN)
        return None

    def to_dict(self) -> dict[str, float | None]:
        """mean, p50, p90, p99."""
        mean = self.total / self.count if self.count else None
        return {"mean": mean, **{f"p{round(100 * q)}": self.quantile(q) for q in (0.5, 0.9, 0.99)}}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficResult(Shown):
    """What the users saw and what the machines did. counted: requests that stand in the times and the goodput; ranges:
    of the times, (low, high) by metric and mark (empty: none were made); in_flight: requests inside, mean over the
    makespan; media: of images and sound, and the parts of the time to first token (empty: text alone); chips_mean: that
    were paid for at a time; chips_of: by system; is_mixed: whether they are of several; measured: how far away measured
    rows are from the pool that decodes, and the nearest of them, as in the rows of a plan; seconds: processor time
    taken, for the eye: it is no part of `to_dict`.

    Units: seconds; shares.

    Example:
        >>> import mowich
        >>> mowich.traffic("chat-llama-70b", draws=0).requests > 100  # doctest: +SKIP
        True
    """

    inputs: Mapping[str, object]
    facts_hash: str
    requests: int
    completed: int
    counted: int
    ttft_s: Mapping[str, float | None]
    tpot_s: Mapping[str, float | None]
    e2e_s: Mapping[str, float | None]
    queue_s: Mapping[str, float | None]
    goodput_frac: float | None
    ranges: Mapping[str, Mapping[str, Sequence[float]]]
    requests_per_s: float
    in_flight: float
    tokens_per_s_per_chip: float
    utilisation: float
    J_per_token: float | None
    usd_per_mtok: float | None
    cached_frac: float
    prompt_mean: float
    preemptions: int
    failures: int
    chips: int
    chips_mean: float
    chips_of: Mapping[str, int]
    is_mixed: bool
    usd_per_h: float | None
    scale_ups: int
    makespan_s: float
    events: int
    steps: int
    seconds: float
    coverage: Mapping[str, float]
    media: Mapping[str, object] = field(default_factory=dict)
    measured: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, object]]:
        """The result as one row of plain numbers."""
        return [plain_row({k: v for k, v in self.to_dict().items() if k not in ("inputs", "measured", "warnings")})]

    def to_dict(self) -> dict[str, object]:
        """The `mowich/traffic@1` contract."""
        out: dict[str, object] = {"schema": _SCHEMA}
        for name in self.__slots__:
            value = getattr(self, name)
            if name == "seconds" or (name == "media" and not value):  # the same question gives the same bytes
                continue
            out[name] = (
                dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
            )
        return out


MEDIA_SUMS = (
    *("requests", "items", "tokens", "counted"),
    *("encoder_queue", "encoder", "embedding_transfer", "queue", "prompt"),
)
"""What is summed over the requests of a load with images or sound; the last five are parts of a time to first token."""


@dataclass(slots=True)
class _Tally:
    """What is kept of finished requests."""

    ttft: Figures = field(default_factory=Figures)
    tpot: Figures = field(default_factory=Figures)
    e2e: Figures = field(default_factory=Figures)
    queue: Figures = field(default_factory=Figures)
    good: int = 0
    answered: int = 0
    inside_s: float = 0.0
    tokens: int = 0
    prompt: int = 0
    cached: int = 0
    preemptions: int = 0
    failures: int = 0
    last_s: float = 0.0
    media: dict[str, float] = field(default_factory=lambda: dict.fromkeys(MEDIA_SUMS, 0.0))

    def saw_media(self, r: UserRequest, *, is_counted: bool) -> None:
        """Add the media of a finished request of a load that has some, and the parts of its time to first token."""
        sums, media = self.media, r.media
        if media is not None:
            sums["requests"] += 1
            sums["items"] += len(media.items)
            sums["tokens"] += media.tokens
        if not is_counted:
            return
        apart = media is not None and media.ready_s >= 0
        parts = {
            "encoder_queue": media.wait_s if media is not None else 0.0,
            "encoder": media.encode_s if media is not None else 0.0,
            "embedding_transfer": media.travel_s if media is not None else 0.0,
            "queue": r.scheduled_s - (media.ready_s if media is not None and apart else r.arrival_s),
        }
        sums["counted"] += 1
        sums["prompt"] += r.first_token_s - r.arrival_s
        for name, seconds in parts.items():
            sums[name] += seconds
            sums["prompt"] -= seconds


@dataclass(slots=True, kw_only=True)
class Cutoff:
    """When a traffic need not be played to its end: as soon as so many requests are beyond a limit that its 99th
    percentile is, whatever comes. Those of the warm-up stand among them: workers that began empty are less full than in
    the steady state. most: requests that can come; late, slow: those beyond ttft_s, tpot_s."""

    ttft_s: float
    tpot_s: float
    most: float
    late: int = 0
    slow: int = 0

    def saw(self, ttft_s: float, tpot_s: float) -> None:
        """A request was answered."""
        self.late += ttft_s > self.ttft_s
        self.slow += tpot_s > self.tpot_s

    @property
    def broken(self) -> tuple[bool, bool]:
        """Whether the limit on the first token, and that on later ones, is broken for certain."""
        enough = 1.0 + 0.01 * self.most
        return self.late > enough, self.slow > enough


def simulate_traffic(
    scenario: TrafficScenario,
    facts: Facts,
    *,
    requests_out: Path | None = None,
    trace_out: Path | None = None,
    cutoff: Cutoff | None = None,
) -> TrafficResult:
    """Run a scenario once, without ranges. requests_out: one CSV line per finished request; trace_out: a timeline
    (Chrome trace events); cutoff: when to stop before the end (the result is of what was answered until then). Raises
    UserError for a bad trace or a request that the cache cannot hold."""
    tally = _Tally()
    file: IO[str] | None = None
    if requests_out is not None:
        file = requests_out.open("w", encoding="utf-8", newline="")
        file.write(",".join(REQUEST_COLUMNS) + "\n")
    done = _teller(tally, scenario, file, cutoff)
    fleet, starts = _fleet(scenario, done, is_traced=trace_out is not None)
    begin, count, first = time.process_time(), 0, None
    try:
        for request in fleet.run(starts):
            first = request.arrival_s if first is None else first
            count += 1
            if cutoff is not None and any(cutoff.broken):
                break
    except CacheTooSmallError as error:
        raise UserError(
            str(error),
            where=str(scenario.inputs["scenario"]),
            fix="more memory for the cache, or shorter requests",
            code=EXIT_INFEASIBLE,
        ) from None
    finally:
        if file is not None:
            file.close()
    seconds = time.process_time() - begin
    apart = [] if fleet.encoders is None else fleet.encoders.workers
    everyone: list[Replica | EncoderWorker] = [*fleet.replicas, *fleet.decoders, *apart]
    if trace_out is not None:
        write_timeline(trace_out, everyone)
    start = first or 0.0
    span = max(tally.last_s - start, 1e-12)
    # a pool that does not scale is there from the first arrival to the last token
    paid_s = span * len(everyone) if fleet.scaled is None else fleet.scaled.paid_until(tally.last_s)
    pools: list[tuple[Pool | EncodePool, Sequence[Busy]]] = list(
        zip(scenario.pools, (fleet.replicas, fleet.decoders), strict=False)
    )
    encoding = scenario.encoding
    if encoding is not None and encoding.pool is not None:
        pools.append((encoding.pool, apart))
    busy = _busy(pools, paid_s / len(everyone))
    chips = scenario.chips
    used = float(chips) if fleet.scaled is None else chips * paid_s / (len(everyone) * span)
    joule, usd_per_s = _costs(scenario, facts, used / chips, pools, span)
    return TrafficResult(
        inputs=scenario.inputs,
        facts_hash=facts.hash(),
        requests=count,
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
        utilisation=busy,
        J_per_token=None if joule is None else joule / max(1, tally.tokens),
        usd_per_mtok=None if usd_per_s is None else usd_per_s * span / max(1, tally.tokens) * 1e6,
        cached_frac=tally.cached / max(1, tally.prompt),
        prompt_mean=tally.prompt / max(1, tally.answered),
        preemptions=tally.preemptions,
        failures=tally.failures,
        chips=chips,
        chips_mean=used,
        chips_of=scenario.chips_of,
        is_mixed=len(scenario.chips_of) > 1,
        usd_per_h=None if usd_per_s is None else usd_per_s * HOUR_S,
        scale_ups=0 if fleet.scaled is None else fleet.scaled.orders,
        makespan_s=span,
        events=sum(r.events for r in everyone),
        steps=sum(r.steps for r in everyone),
        seconds=seconds,
        media={}
        if encoding is None
        else media_figures(
            apart or [r.encoder for r in fleet.replicas if r.encoder is not None],
            tally.media,
            paid_s / len(everyone),
        ),
        coverage=_coverage(
            [(scenario.serve, fleet.replicas), (scenario.decode, fleet.decoders)],
            inside=tally.inside_s / span,
            context=(tally.prompt + 0.5 * tally.tokens) / max(1, tally.answered),
        ),
    )


HOUR_S = 3600.0


def _teller(
    tally: _Tally, scenario: TrafficScenario, file: IO[str] | None, cutoff: Cutoff | None
) -> Callable[[UserRequest], None]:
    """What is done with a finished request."""
    ttft_limit, tpot_limit, e2e_limit = (
        scenario.slo.get(name, math.inf) * (1.0 + LIMIT_MARGIN) for name in ("ttft", "tpot", "e2e")
    )
    begin, end = map(earlier, scenario.requests.get("counted", (0.0, math.inf)))

    def done(r: UserRequest) -> None:
        ttft, e2e = r.first_token_s - r.arrival_s, r.last_token_s - r.arrival_s
        tpot = (r.last_token_s - r.first_token_s) / (r.output - 1) if r.output > 1 else 0.0
        is_counted = begin <= r.arrival_s < end
        if scenario.encoding is not None:
            tally.saw_media(r, is_counted=is_counted)
        if is_counted:
            tally.ttft.add(ttft)
            tally.e2e.add(e2e)
            tally.queue.add(r.scheduled_s - r.arrival_s)
            if r.output > 1:
                tally.tpot.add(tpot)
            tally.good += ttft <= ttft_limit and tpot <= tpot_limit and e2e <= e2e_limit
        if cutoff is not None:
            cutoff.saw(ttft, tpot)
        tally.answered += 1
        tally.inside_s += e2e
        tally.tokens += r.output
        tally.prompt += r.prompt
        tally.cached += r.cached
        tally.preemptions += r.preemptions
        tally.failures += r.failures
        tally.last_s = max(tally.last_s, r.last_token_s)
        if file is not None:
            file.write(
                f"{r.id},{r.arrival_s:.6f},{r.scheduled_s:.6f},{r.first_token_s:.6f},{r.last_token_s:.6f},"
                f"{r.prompt},{r.output},{r.replica},{r.cached},{r.preemptions}\n"
            )

    return done


def _fleet(
    scenario: TrafficScenario, done: Callable[[UserRequest], None], *, is_traced: bool
) -> tuple[ReplicaFleet, Iterator[UserRequest]]:
    """(the replicas, ready; the requests that come to them)."""

    encoding = scenario.encoding
    here = None if encoding is None or encoding.pool is not None else encoding.times()

    def pool(p: Pool, word: str, times: EncoderTimes | None = None) -> list[Replica]:
        return [
            Replica(
                i,
                p.times,
                p.scheduler,
                on_done=done,
                trace=is_traced,
                name=f"{word} {i}",
                seen=p.seen if scenario.has_front else None,
                encoder=None if times is None else EncoderWorker(times),
            )
            for i in range(p.replicas)
        ]

    s = scenario.serve.scheduler
    draws = None if encoding is None else encoding.draws(scenario.requests.get("seed", 0))
    starts, follow = requests_of(scenario.requests, s.hash_block, s.blocks // s.groups * s.block, draws)
    serve = pool(scenario.serve, "prefill" if scenario.decode else "replica", here)
    rule = scenario.autoscale
    return ReplicaFleet(
        replicas=serve,
        decoders=pool(scenario.decode, "decode") if scenario.decode else [],
        route=scenario.route,
        front=scenario.serve.seen.front if scenario.has_front else None,
        failures=scenario.failures,
        transfer_s=(lambda tokens: 0.0) if scenario.transfer is None else scenario.transfer.seconds,
        follow=follow,
        scaled=None if rule is None else ScaledPool(rule=rule, replicas=serve),
        encoders=None if encoding is None else encoding.workers_apart(),
    ), starts


def _coverage(
    pools: Sequence[tuple[Pool | None, Sequence[Replica]]], *, inside: float, context: float
) -> dict[str, float]:
    """What the step times rest on, as shares of the time that the replicas were busy (of the replicas, when none
    was). inside: requests, in the mean; context: tokens of one, in the mean. Tables hold of a pool's steps what they
    hold of one with so many sequences; of workers of prompts, of one with such a prompt."""
    busy = sum(r.busy_s for _, replicas in pools for r in replicas)
    everyone = sum(len(replicas) for _, replicas in pools)
    out: dict[str, float] = {}
    for pool, replicas in pools:
        if pool is not None:
            share = sum(r.busy_s for r in replicas) / busy if busy else len(replicas) / everyone
            groups = pool.replicas * pool.plan.dp * pool.plan.pp
            is_prefill = len(pools) > 1 and pools[1][0] is not None and pool is pools[0][0]
            d = pool.deployment
            shares = (
                tabled_shares(d, prompt=context, mean=0.5 * context)
                if is_prefill
                else tabled_shares(d, n=max(1.0, inside / groups), context=context)
            )
            for kind, part in with_tables(d.coverage, shares[""]).items():
                out[kind] = out.get(kind, 0.0) + share * part
    return out


class Busy(Protocol):
    """A worker, by how long it worked, s."""

    busy_s: float


def _busy(pools: Sequence[tuple[Pool | EncodePool, Sequence[Busy]]], there_s: float) -> float:
    """Share of the time of the chips of pools in which they worked; there_s: for which each was there."""
    chips = sum(pool.chips for pool, _ in pools)
    return sum(
        pool.chips / chips * sum(r.busy_s for r in replicas) / (len(replicas) * there_s) for pool, replicas in pools
    )


def _costs(
    scenario: TrafficScenario,
    facts: Facts,
    paid: float,
    pools: Sequence[tuple[Pool | EncodePool, Sequence[Busy]]],
    span: float,
) -> tuple[float | None, float | None]:
    """(J of all output tokens, USD per second): busy and idle chips over the whole span, all of it paid for. paid:
    share of the span in which chips were there. None where a system has no power or no price."""
    from mowich.economics import money

    site = energy.read_site(facts)
    joule: float | None = 0.0
    usd: float | None = 0.0
    for system, chips in scenario.chips_of.items():
        busy = _busy([(pool, replicas) for pool, replicas in pools if pool.system.id == system], span * paid)
        draw, rate = energy.drawn_power(facts, system), money.price(facts, system, term=scenario.price).rate
        watts, idle_share = draw.power.value, draw.idle_share.value
        if joule is None or watts is None or site.pue.value is None or idle_share is None:
            joule = None
        else:
            held = busy + idle_share * (1.0 - busy)
            joule += site.pue.value * watts * chips * paid * span * held
        usd = None if usd is None or rate.value is None else usd + rate.value * chips * paid
    return joule, usd


def write_timeline(path: Path, replicas: Sequence[Replica | EncoderWorker]) -> None:
    """Steps of every replica as Chrome trace events (ui.perfetto.dev reads them); a leap over an unchanged batch is one
    slice."""
    import json

    with path.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit":"ms","traceEvents":[\n')
        lines = [
            json.dumps({"ph": "M", "pid": 1, "tid": i, "name": "thread_name", "args": {"name": r.name}})
            for i, r in enumerate(replicas)
        ]
        for i, r in enumerate(replicas):
            for start, seconds, n, prompt, steps in r.spans or ():
                name = f"{prompt} prompt + {n} decode" if prompt else f"{n} decode"
                lines.append(
                    json.dumps(
                        {
                            "ph": "X",
                            "pid": 1,
                            "tid": i,
                            "name": name,
                            "ts": start * 1e6,
                            "dur": seconds * 1e6,
                            "args": {"steps": steps},
                        }
                    )
                )
        file.write(",\n".join(lines) + "\n]}\n")


RANGED = 20_000
"""Requests up to which a traffic is played again for its ranges without being asked."""

REDRAWS = 4
"""Other draws that a range rests on."""

RANGED_TIMES = ("ttft_s", "tpot_s", "e2e_s", "queue_s")
"""Times of a result that have marks: mean and percentiles."""


def with_ranges(result: TrafficResult, scenario: TrafficScenario, facts: Facts, draws: int) -> TrafficResult:
    """The result with the 90% interval of every time: the same traffic with all steps at both ends of their interval
    (`step_widths`), and `draws` other draws of it (none of a trace); both in quadrature, in logarithms."""
    low, high = (simulate_traffic(_shifted(scenario, result, facts, end), facts) for end in (-1, 1))
    seed = scenario.requests.get("seed")
    others = []
    if seed is not None:
        for i in steps(range(draws), "simulating other draws"):
            requests = scenario.requests.copy()
            requests["seed"] = seed + i + 1
            others.append(simulate_traffic(replace(scenario, requests=requests), facts))
    return replace(
        result,
        ranges=ranges_of(result, low, high, others),
        seconds=result.seconds + sum(r.seconds for r in (low, high, *others)),
    )


def ranges_of(
    result: TrafficResult, low: TrafficResult, high: TrafficResult, others: Sequence[TrafficResult]
) -> dict[str, dict[str, Sequence[float]]]:
    """(low, high) of each time and mark. low, high: with fast and with slow steps; others: of other draws."""
    out: dict[str, dict[str, Sequence[float]]] = {}
    for name in RANGED_TIMES:
        middle: Mapping[str, float | None] = getattr(result, name)
        out[name] = {}
        for mark, value in middle.items():
            if value is None or value <= 0.0:
                continue
            ends = [getattr(r, name)[mark] for r in (low, high)]
            drawn = [v for r in (result, *others) if (v := getattr(r, name)[mark])]
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


def traffic(
    path: str | Path,
    facts: Facts,
    *,
    requests_out: Path | None = None,
    trace_out: Path | None = None,
    draws: int | None = None,
) -> TrafficResult:
    """Read and run a scenario. draws: other draws for the ranges (0: no ranges; None: `REDRAWS` where it has at most
    `RANGED` requests)."""
    scenario = read_traffic(path, facts)
    if draws is not None:
        scenario = replace(scenario, inputs={**scenario.inputs, "draws": draws})
    result = simulate_traffic(scenario, facts, requests_out=requests_out, trace_out=trace_out)
    result = replace(result, measured=_measured(scenario, result))
    if draws is None:
        draws = REDRAWS if result.requests <= RANGED else 0
        if not draws:
            said = f"times have no ranges: more than {RANGED:,} requests; --draws {REDRAWS} plays them again"
            result = replace(result, warnings=(*result.warnings, said))
    trace = scenario.requests["trace"]
    question = [path, Path(trace) if trace else "", scenario.serve.deployment.model, draws]
    if scenario.encoding is not None:
        question.append(repr(scenario.encoding.items))
    return note_heard(with_ranges(result, scenario, facts, draws) if draws else result, facts, question=question)
