"""A deployment under a load as the text of a scenario, in braces: what `mowich traffic` reads from its command line."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mowich.machines.system import System, parse_spec
from mowich.plans.plan import ServePlan
from mowich.plans.serving_choices import DEGREES
from mowich.requests.jobs import PlanRequest
from mowich.requests.loads import ServeLoad

UNCOUNTED = 1.5
"""Times of a request that pass before requests are counted: the first ones meet empty workers."""

SHORTEST_S = 1.0
"""Least seconds of warming up and of counting."""

SETTLED, LONGER = 1.3, 1.5
"""A run is a steady state where its requests take at most so many times of what its warm-up was made for. Else it is
played again with a warm-up for so many times of what they took."""

ANSWERS_VARY = 0.2
"""Share by which an answer may be shorter or longer than the mean. Answers of one length that began together end
together, and a router that knows the fewest then sends the next ones together: a convoy that grows with the length of
the run, and that no traffic with answers of their own lengths shows."""

HASHED = 16
"""Tokens of a block that prompts have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGroup:
    """WorkerGroup of one plan. on: the system as it was named."""

    on: str
    system: System
    engine: str
    plan: ServePlan
    workers: int


def sized(spec: str, chips: int | None) -> str:
    """A system with its number of chips in its name, where one is given and the name has none.

    >>> sized("h100", 32), sized("h100:8", 32), sized("h100", None)
    ('h100:32', 'h100:8', 'h100')
    """
    return f"{spec}:{chips}" if chips is not None and parse_spec(spec)[1] is None else spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Of a traffic in a steady state: requests that arrive from begin_s to end_s are counted, and nobody comes after
    last_s. ramp_s: over which users come; request_s: what a request was expected to take."""

    begin_s: float
    end_s: float
    last_s: float
    ramp_s: float
    request_s: float

    @classmethod
    def of(cls, rate: float, request_s: float, load: ServeLoad, counted: int) -> Timing:
        """rate: requests per second; request_s: time of one; counted: requests that are wanted in the figures."""
        cycle = request_s + load.think_s
        begin = max(SHORTEST_S, UNCOUNTED * cycle)
        end = begin + max(SHORTEST_S, counted / rate)
        begin, end, last, ramp = (_tidy(x) for x in (begin, end, end + request_s, cycle))
        return cls(begin_s=begin, end_s=end, last_s=last, ramp_s=ramp, request_s=request_s)


def _tidy(seconds: float) -> float:
    """Three digits, rounded up, so that a command can be read."""
    scale = 10.0 ** (math.floor(math.log10(seconds)) - 2)
    return round(math.ceil(seconds / scale) * scale, 9)


def scenario_text(
    asked: PlanRequest,
    load: ServeLoad,
    *,
    groups: Sequence[WorkerGroup],
    timing: Timing,
    sequences: int | None = None,
) -> str:
    """The scenario of a question under a load, in one line, as JSON, which is YAML too and holds no quote that a shell
    would trip over. groups: those that do prompts and answers, or prompts and then answers; sequences: of a rank group
    at most (None: as a scenario has it)."""
    job = asked.serve_job
    front, behind = groups[0], groups[1] if len(groups) > 1 else None
    traffic: dict[str, object] = {}
    if load.rate is not None:
        traffic |= {"rate": int(load.rate) if load.rate == int(load.rate) else load.rate}
    else:
        traffic |= {"users": load.users, "think": _seconds(load.think_s), "ramp_up": _seconds(timing.ramp_s)}
        most = (load.users or 0) * (1.0 + timing.last_s / (load.think_s + QUICKEST * timing.request_s))
        traffic |= {"requests": min(MOST_ASKED, math.ceil(most))}  # more than come before the end
    text = job.prompt - (0.0 if job.images is None else job.images.tokens)
    traffic |= {"prompt": int(text), "output": _answers(int(job.output)), "seed": asked.seed}
    if job.images is not None:
        size = f"{job.images.width:.0f}x{job.images.height:.0f}"
        traffic["images"] = {"size": size, "per_request": int(job.images.count)}
    traffic |= {"duration": _seconds(timing.last_s)}
    traffic |= {"counted": {"from": _seconds(timing.begin_s), "to": _seconds(timing.end_s)}}
    out: dict[str, object] = {
        "mowich": 1,
        "model": asked.model_given,
        "on": front.on,
        "engine": front.engine,
        "plan": _plan(front),
        "route": "least-loaded",
    }
    if behind is None:
        out["replicas"] = front.workers
    else:
        apart: dict[str, object] = {
            "prefill": front.workers,
            "decode": behind.workers,
            "decode_plan": _plan(behind, front),
        }
        apart["decode_engine"] = behind.engine
        if behind.on != front.on:
            apart["decode_on"] = behind.on
        out["disaggregated"] = apart
    scheduler: dict[str, object] = {} if sequences is None else {"max_num_seqs": sequences}
    if job.cached:
        scheduler |= {"prefix_cache": True, "hash_block": HASHED}
        traffic["shared_prefix"] = int(job.cached * job.prompt)
    if scheduler:
        out["scheduler"] = scheduler
    if job.accept is not None:
        out["speculation"] = {"accepted": job.accept}
    if asked.term != "default":
        out["price"] = asked.term
    slo = {"ttft": min(job.ttft_s, load.p99_ttft_s), "tpot": min(job.tpot_s, load.p99_tpot_s)}
    out |= {"traffic": traffic, "slo": {k: _seconds(v) for k, v in slo.items() if math.isfinite(v)}}
    return json.dumps(out)


def _answers(mean: int) -> int | str:
    """Lengths of answers, as a scenario has them.

    >>> _answers(500), _answers(4)
    ('uniform(400, 600)', 4)
    """
    more = int(ANSWERS_VARY * mean)
    return f"uniform({mean - more}, {mean + more})" if more else mean


MOST_ASKED = 100_000
"""Requests of a load of users at most."""

QUICKEST = 0.1
"""Least time of a request, as a share of what was expected of it."""


def _seconds(value: float) -> str:
    return f"{value:.12g} s"


def _plan(c: WorkerGroup, before: WorkerGroup | None = None) -> dict[str, object]:
    """The choices of a plan that are not 1, or not what those of the plan before it are."""
    out: dict[str, object] = {
        k: v for k in DEGREES if (v := getattr(c.plan, k)) != 1 or (before is not None and getattr(before.plan, k) != 1)
    }
    out |= {"weights": c.plan.weights, "kv": c.plan.kv, **c.plan.launch.to_dict()}
    return out | ({"lnc": c.system.lnc} if c.system.lnc else {})
