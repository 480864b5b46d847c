"""`mowich traffic`: a scenario file read, its traffic simulated, and what its users would have seen.

The keys of a scenario are documented in docs/serving.md. Figures are kept in bounded memory: exact percentiles up to
`EXACT` requests, then a histogram of 0.25% bins, so that a trace of any length streams through. Ranges come from the
same traffic played again: with all steps at the ends of their interval, and with other draws.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import NormalDist
from typing import IO

import numpy as np

from mowich.arrays import Floats
from mowich.economics import energy
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.facts import Facts
from mowich.progress import steps
from mowich.serving.anchors import METRICS
from mowich.serving.traffic.compiled import AnswerColumns, FleetSetup, ReplicaGroup, counted_in_bins
from mowich.serving.traffic.moments import earlier
from mowich.serving.traffic.play import Cutoff, ReplicaRecord, play_fleet
from mowich.serving.traffic.replica import CacheTooSmallError, Replica
from mowich.serving.traffic.requests import UserRequest
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


_REQUEST_LINE = "%s,%.6f,%.6f,%.6f,%.6f,%d,%d,%d,%d,%d\n"


class Figures:
    """Mean and percentiles of positive numbers in bounded memory."""

    def __init__(self) -> None:
        self.count, self.total = 0, 0.0
        self._exact: list[Floats] | None = []
        self._bins = np.zeros(0, np.int64)

    def add(self, values: Floats) -> None:
        """A column of them."""
        self.count += len(values)
        self.total = added(self.total, values)
        if self._exact is not None:
            self._exact.append(values)
            if self.count > EXACT:
                values, self._exact = np.concatenate(self._exact), None
        if self._exact is None:
            self._bins = counted_in_bins(self._bins, values, FLOOR, BIN)

    def quantile(self, share: float) -> float | None:
        """Linear between ranks while exact, to 0.25% afterwards; None when empty."""
        if not self.count:
            return None
        if self._exact is not None:
            return float(np.quantile(np.concatenate(self._exact), share))
        at = int(np.searchsorted(np.cumsum(self._bins), share * (self.count - 1), side="right"))
        return FLOOR * math.exp((at + 0.5) * BIN)

    def to_dict(self) -> dict[str, float | None]:
        """mean, p50, p90, p99."""
        mean = self.total / self.count if self.count else None
        return {"mean": mean, **{f"p{round(100 * q)}": self.quantile(q) for q in (0.5, 0.9, 0.99)}}


def added(total: float, values: Floats) -> float:
    """A total and more, one after the other."""
    return float(np.cumsum(np.concatenate([[total], values]))[-1])


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
    """What is kept of answered requests. slo: limits by name, s; counted: between which arrivals they stand in the
    times, s; file: where each has a line (None: nowhere)."""

    slo: Mapping[str, float]
    counted: Sequence[float] = (0.0, math.inf)
    file: IO[str] | None = None
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

    def saw_media(self, r: UserRequest) -> None:
        """Add the media of a finished request of a load that has some, and the parts of its time to first token."""
        sums, media = self.media, r.media
        if media is not None:
            sums["requests"] += 1
            sums["items"] += len(media.items)
            sums["tokens"] += media.tokens
        begin, end = map(earlier, self.counted)
        if not begin <= r.arrival_s < end:
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

    def add(self, answers: AnswerColumns, id_of: Callable[[int], str]) -> None:
        """Answered requests, in the order of their ends. id_of: what one is called, by its number."""
        if not len(answers):
            return
        arrival, first, last = (answers[name] for name in ("arrival_s", "first_token_s", "last_token_s"))
        output = answers["output"]
        ttft, e2e = first - arrival, last - arrival
        tpot = np.where(output > 1, (last - first) / np.maximum(output - 1, 1), 0.0)
        begin, end = map(earlier, self.counted)
        stands = (arrival >= begin) & (arrival < end)
        is_good = stands
        for name, time_s in (("ttft", ttft), ("tpot", tpot), ("e2e", e2e)):
            is_good = is_good & (time_s <= self.slo.get(name, math.inf) * (1.0 + LIMIT_MARGIN))
        self.ttft.add(ttft[stands])
        self.e2e.add(e2e[stands])
        self.queue.add((answers["scheduled_s"] - arrival)[stands])
        self.tpot.add(tpot[stands & (output > 1)])
        self.good += int(is_good.sum())
        self.answered += len(answers)
        self.inside_s = added(self.inside_s, e2e)
        self.tokens += int(output.sum())
        for name in ("prompt", "cached", "preemptions", "failures"):
            setattr(self, name, getattr(self, name) + int(answers[name].sum()))
        self.last_s = max(self.last_s, float(last.max()))
        if self.file is not None:
            names = [id_of(number) for number in answers["id"].tolist()]
            columns = (answers[name].tolist() for name in REQUEST_COLUMNS[1:])
            self.file.writelines(map(_REQUEST_LINE.__mod__, zip(names, *columns, strict=True)))


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
    file: IO[str] | None = None
    if requests_out is not None:
        file = requests_out.open("w", encoding="utf-8", newline="")
        file.write(",".join(REQUEST_COLUMNS) + "\n")
    tally = _Tally(scenario.slo, scenario.requests.get("counted", (0.0, math.inf)), file)
    begin = time.process_time()
    s = scenario.serve.scheduler
    load = requests_of(scenario.requests, s.hash_block, s.blocks // s.groups * s.block)
    setup = _setup(scenario, tally, is_traced=trace_out is not None)
    try:
        fleet = play_fleet(setup, load, tally.add, cutoff)
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
    encoding = scenario.encoding
    apart = fleet.encoders if encoding is not None and encoding.pool is not None else ()
    everyone: list[ReplicaRecord] = [*fleet.replicas, *fleet.decoders, *apart]
    if trace_out is not None:
        write_timeline(trace_out, fleet.timelines)
    start = fleet.first_s or 0.0
    span = max(tally.last_s - start, 1e-12)
    # a pool that does not scale is there from the first arrival to the last token
    paid_s = span * len(everyone) if fleet.scaled is None else fleet.scaled.paid_until(tally.last_s)
    pools: list[tuple[Pool | EncodePool, Sequence[ReplicaRecord]]] = list(
        zip(scenario.pools, (fleet.replicas, fleet.decoders), strict=False)
    )
    if encoding is not None and encoding.pool is not None:
        pools.append((encoding.pool, apart))
    busy = _busy(pools, paid_s / len(everyone))
    chips = scenario.chips
    used = float(chips) if fleet.scaled is None else chips * paid_s / (len(everyone) * span)
    joule, usd_per_s = _costs(scenario, facts, used / chips, pools, span)
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
        media={} if encoding is None else media_figures(fleet.encoders, tally.media, paid_s / len(everyone)),
        coverage=_coverage(
            [(scenario.serve, fleet.replicas), (scenario.decode, fleet.decoders)],
            inside=tally.inside_s / span,
            context=(tally.prompt + 0.5 * tally.tokens) / max(1, tally.answered),
        ),
    )


HOUR_S = 3600.0


def _setup(scenario: TrafficScenario, tally: _Tally, *, is_traced: bool) -> FleetSetup:
    """The replicas of a scenario. tally: what sees its images and its sound."""

    def workers(p: Pool) -> ReplicaGroup:
        seen = p.seen if scenario.has_front else None
        return ReplicaGroup(count=p.replicas, times=p.times, scheduler=p.scheduler, seen=seen)

    return FleetSetup(
        serve=workers(scenario.serve),
        decode=workers(scenario.decode) if scenario.decode else None,
        route=scenario.route,
        way=scenario.transfer,
        failures=scenario.failures,
        rule=scenario.autoscale,
        is_traced=is_traced,
        media=None
        if scenario.encoding is None
        else scenario.encoding.of_fleet(scenario.requests.get("seed", 0), tally.saw_media),
    )


def _coverage(
    pools: Sequence[tuple[Pool | None, Sequence[ReplicaRecord]]], *, inside: float, context: float
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


PlayedPools = Sequence[tuple[Pool | EncodePool, Sequence[ReplicaRecord]]]
"""Pools, each with what its replicas did."""


def _busy(pools: PlayedPools, there_s: float) -> float:
    """Share of the time of the chips of pools in which they worked; there_s: for which each was there."""
    chips = sum(pool.chips for pool, _ in pools)
    return sum(
        pool.chips / chips * sum(r.busy_s for r in replicas) / (len(replicas) * there_s) for pool, replicas in pools
    )


def _costs(
    scenario: TrafficScenario,
    facts: Facts,
    paid: float,
    pools: PlayedPools,
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


def write_timeline(path: Path, replicas: Sequence[Replica]) -> None:
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
