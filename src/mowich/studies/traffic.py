"""`mowich traffic`: a scenario file read, its traffic simulated, and what its users would have seen.

The keys of a scenario are documented in docs/serving.md. Figures are kept in bounded memory: exact percentiles up to
`EXACT` requests, then a histogram of 0.25% bins, so that a trace of any length streams through.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from mowich.economics import energy
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.facts import Facts
from mowich.serving.arrivals import draw, read_trace
from mowich.serving.traffic.replica import CacheTooSmallError, Replica
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.shown import Shown, plain_row
from mowich.studies.traffic_scenario import Pool, TrafficScenario, read_traffic

_SCHEMA = "mowich/traffic@1"
EXACT = 200_000
BIN = math.log(1.0025)
FLOOR = 1e-7
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
    """What the users saw and what the machines did. seconds: processor time taken, for the eye: it is no part of
    `to_dict`."""

    inputs: Mapping[str, object]
    facts_hash: str
    requests: int
    completed: int
    ttft_s: Mapping[str, float | None]
    tpot_s: Mapping[str, float | None]
    e2e_s: Mapping[str, float | None]
    queue_s: Mapping[str, float | None]
    goodput_frac: float | None
    tokens_per_s_per_chip: float
    utilisation: float
    J_per_token: float | None
    usd_per_mtok: float | None
    cached_frac: float
    preemptions: int
    failures: int
    chips: int
    makespan_s: float
    events: int
    steps: int
    seconds: float
    coverage: Mapping[str, float]
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, object]]:
        """The result as one row of plain numbers."""
        return [plain_row({k: v for k, v in self.to_dict().items() if k not in ("inputs", "warnings")})]

    def to_dict(self) -> dict[str, object]:
        """The `mowich/traffic@1` contract."""
        out: dict[str, object] = {"schema": _SCHEMA}
        for name in self.__slots__:
            if name == "seconds":  # the same question gives the same bytes
                continue
            value = getattr(self, name)
            out[name] = (
                dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
            )
        return out


def requests_of(scenario: TrafficScenario) -> Iterator[UserRequest]:
    """The requests of a scenario, in order of arrival."""
    r = scenario.requests
    if r["trace"]:
        return read_trace(Path(r["trace"]), limit=r["limit"], speed=r["speed"])
    return draw(
        rate=r["rate"],
        requests=r["requests"],
        prompt=r["prompt_lengths"],
        output=r["output_lengths"],
        arrivals=r["arrivals"],
        cv=r["cv"],
        seed=r["seed"],
        shared_prefix=r["shared_prefix"],
        priorities=r["priorities"],
        block=scenario.serve.scheduler.hash_block,
    )


@dataclass(slots=True)
class _Tally:
    """What is kept of finished requests."""

    ttft: Figures = field(default_factory=Figures)
    tpot: Figures = field(default_factory=Figures)
    e2e: Figures = field(default_factory=Figures)
    queue: Figures = field(default_factory=Figures)
    good: int = 0
    tokens: int = 0
    prompt: int = 0
    cached: int = 0
    preemptions: int = 0
    failures: int = 0
    last_s: float = 0.0


def simulate_traffic(
    scenario: TrafficScenario, facts: Facts, *, requests_out: Path | None = None, trace_out: Path | None = None
) -> TrafficResult:
    """Run a scenario. requests_out: one CSV line per finished request; trace_out: a timeline (Chrome trace events).
    Raises UserError for a bad trace or a request that the cache cannot hold."""
    tally = _Tally()
    slo = scenario.slo
    file: IO[str] | None = None
    if requests_out is not None:
        file = requests_out.open("w", encoding="utf-8", newline="")
        file.write(",".join(REQUEST_COLUMNS) + "\n")

    def done(r: UserRequest) -> None:
        ttft, e2e = r.first_token_s - r.arrival_s, r.last_token_s - r.arrival_s
        tpot = (r.last_token_s - r.first_token_s) / (r.output - 1) if r.output > 1 else 0.0
        tally.ttft.add(ttft)
        tally.e2e.add(e2e)
        tally.queue.add(r.scheduled_s - r.arrival_s)
        if r.output > 1:
            tally.tpot.add(tpot)
        tally.good += (
            ttft <= slo.get("ttft", math.inf) and tpot <= slo.get("tpot", math.inf) and e2e <= slo.get("e2e", math.inf)
        )
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

    def pool(p: Pool, word: str) -> list[Replica]:
        return [
            Replica(
                i,
                p.times,
                p.scheduler,
                on_done=done,
                trace=trace_out is not None,
                name=f"{word} {i}",
                seen=p.seen if scenario.has_front else None,
            )
            for i in range(p.replicas)
        ]

    serve = pool(scenario.serve, "prefill" if scenario.decode else "replica")
    decode = pool(scenario.decode, "decode") if scenario.decode else []
    kv_B = scenario.serve.times.kv_B
    # a request's cache is in one rank group, and every device of it sends its part
    rate = scenario.transfer_Bps * min(
        p.plan.devices // p.plan.dp for p in (scenario.serve, scenario.decode or scenario.serve)
    )
    fleet = ReplicaFleet(
        replicas=serve,
        decoders=decode,
        route=scenario.route,
        front=scenario.serve.seen.front if scenario.has_front else None,
        failures=scenario.failures,
        transfer_s=lambda tokens: tokens * kv_B / rate,
    )
    begin, count, first = time.process_time(), 0, None
    try:
        for request in fleet.run(requests_of(scenario)):
            first = request.arrival_s if first is None else first
            count += 1
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
    everyone = [*serve, *decode]
    if trace_out is not None:
        write_timeline(trace_out, everyone)
    span = max(tally.last_s - (first or 0.0), 1e-12)
    busy = sum(r.busy_s for r in everyone) / (len(everyone) * span)
    chips = scenario.chips
    joule, usd = _costs(scenario, facts, chips, span, busy, tally.tokens)
    return TrafficResult(
        inputs=scenario.inputs,
        facts_hash=facts.hash(),
        requests=count,
        completed=tally.e2e.count,
        ttft_s=tally.ttft.to_dict(),
        tpot_s=tally.tpot.to_dict(),
        e2e_s=tally.e2e.to_dict(),
        queue_s=tally.queue.to_dict(),
        goodput_frac=tally.good / count if slo and count else None,
        tokens_per_s_per_chip=tally.tokens / span / chips,
        utilisation=busy,
        J_per_token=joule,
        usd_per_mtok=usd,
        cached_frac=tally.cached / max(1, tally.prompt),
        preemptions=tally.preemptions,
        failures=tally.failures,
        chips=chips,
        makespan_s=span,
        events=sum(r.events for r in everyone),
        steps=sum(r.steps for r in everyone),
        seconds=seconds,
        coverage=_coverage([(scenario.serve, serve), (scenario.decode, decode)]),
    )


def _coverage(pools: Sequence[tuple[Pool | None, Sequence[Replica]]]) -> dict[str, float]:
    """What the step times rest on, as shares of the time that the replicas were busy (of the replicas, when none
    was)."""
    busy = sum(r.busy_s for _, replicas in pools for r in replicas)
    everyone = sum(len(replicas) for _, replicas in pools)
    out: dict[str, float] = {}
    for pool, replicas in pools:
        if pool is not None:
            share = sum(r.busy_s for r in replicas) / busy if busy else len(replicas) / everyone
            for kind, part in pool.deployment.coverage.items():
                out[kind] = out.get(kind, 0.0) + share * part
    return out


def _costs(
    scenario: TrafficScenario, facts: Facts, chips: int, span: float, busy: float, tokens: int
) -> tuple[float | None, float | None]:
    """(J, USD per million) of output tokens: busy and idle chips over the whole span, all of it paid for."""
    from mowich.economics import money

    site, watts = energy.read_site(facts), energy.chip_power(facts, scenario.system.id)
    rate = money.price(facts, scenario.system.id, term=money.kind_for(facts, [scenario.system.id])[0]).rate
    joule = usd = None
    if watts.value is not None and site.pue.value is not None and site.idle_share.value is not None:
        joule = (
            site.pue.value * watts.value * chips * span * (busy + site.idle_share.value * (1.0 - busy)) / max(1, tokens)
        )
    if rate.value is not None:
        usd = rate.value * chips * span / max(1, tokens) * 1e6
    return joule, usd


def write_timeline(path: Path, replicas: list[Replica]) -> None:
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


def traffic(
    path: str | Path, facts: Facts, *, requests_out: Path | None = None, trace_out: Path | None = None
) -> TrafficResult:
    """Read and run a scenario file."""
    return simulate_traffic(read_traffic(path, facts), facts, requests_out=requests_out, trace_out=trace_out)
