"""`mowich fit --serve`: does a served model fit with the caches of its requests, how many requests, and how few chips
would do.

Memory only: no step is timed here. A worker's memory is its weights, what the engine keeps, and caches; every legal
worker plan is tried, and the one whose workers together hold most requests is shown, though it may not be the fastest
(`plan --serve` times them). Chip counts are those of `studies.fit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import System, resolve
from mowich.models.model import Model
from mowich.plans.memory import kv_B_per_sequence, serving_memory_B
from mowich.plans.memory_range import usable_B
from mowich.plans.plan import WEIGHT_B, ServePlan
from mowich.plans.serving_choices import DEGREES
from mowich.plans.workers import worker_plans
from mowich.requests.jobs import FitRequest
from mowich.shown import Keyed
from mowich.software.engine import engine_for
from mowich.studies.fit import MAX_TRIED, FitAnswer, counts, largest_part, range_decides
from mowich.studies.pools import stated_settings
from mowich.studies.serving import deploy
from mowich.studies.serving_plan import LONG_PROMPT, native_weights
from mowich.units import show_gib


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Keyed):
    """A worker plan on `chips` chips. requests: whole requests that all its workers together hold; memory_B: bytes of
    one device by category (weights, reserve, kv: caches of the requests held), the rest being free; short_B: what one
    request lacks on a device (0: it fits)."""

    KEYS = "plan chips workers requests memory_B"

    plan: ServePlan
    chips: int
    workers: int
    requests: int
    memory_B: Mapping[str, float]
    short_B: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeFit(FitAnswer):
    """held: the plan shown (None: none is legal); smallest: by format of the weights, the fewest chips tried that hold
    one request (None: none of those tried)."""

    KEYS = (
        "inputs system_id display engine **told_held chips devices_per_chip fits reason "
        "memory_capacity_B=capacity_B binds smallest_chips largest_tried smallest_by_weights=smallest"
    )

    engine: str
    held: Held | None
    smallest: Mapping[str, Held | None]

    @property
    def binds(self) -> str:
        """The category that takes the most memory."""
        return largest_part(self.held.memory_B if self.held else {})

    @property
    def smallest_chips(self) -> int | None:
        """Fewest chips in the first format of the weights."""
        first = next(iter(self.smallest.values()))
        return first.chips if first else None

    @property
    def told_held(self) -> Mapping[str, object]:
        """`held` as the JSON states it."""
        return self.held.to_dict() if self.held else {"plan": None, "workers": 0, "requests": 0, "memory_B": {}}


def _narrower(native: str, system: System) -> list[str]:
    """Formats with fewer bytes per weight than `native` that the chip multiplies in: an 8-bit and a 4-bit one, as far
    as it has them."""
    out: list[str] = []
    for family in (("mxfp8", "fp8"), ("nvfp4", "mxfp4")):
        own = [w for w in family if WEIGHT_B[w] < WEIGHT_B[native] and system.peak_flops.get(w)]
        out += own[:1]
    return out


def fullest(
    model: Model,
    system: System,
    engine: str,
    facts: Facts,
    *,
    tokens: float,
    weights: Sequence[str],
    fixed: Mapping[str, Sequence[int | str]],
    capacity_B: float,
) -> Held | None:
    """The worker plan whose copies hold most requests of `tokens` tokens; where none holds one, the plan that lacks
    least; None: none is legal."""
    degrees = {k: [int(v) for v in fixed[k]] for k in DEGREES if k in fixed}
    kv = [str(k) for k in fixed.get("kv", ("bf16",))]
    long_prompt, launch = tokens >= LONG_PROMPT, stated_settings(fixed)
    plans = worker_plans(model, system, weights=weights, kv=kv, fixed=degrees, long_prompt=long_prompt, launch=launch)
    if not plans:
        return None
    d = deploy(model, system, engine, plans, facts)
    memory = serving_memory_B(d.shapes, d.around, capacity_B)
    each = kv_B_per_sequence(d.shapes, np.full(len(plans), tokens))
    devices = np.array([p.devices for p in plans])
    room = np.floor(np.maximum(memory["kv"], 0.0) / each)
    workers = system.devices // devices
    requests = room * d.shapes.dp * workers
    short = np.maximum(each - memory["kv"], 0.0)
    stages = np.array([p.pp for p in plans])
    i = int(np.lexsort((devices, stages, short, -requests))[0])
    used = {k: float(memory[k][i]) for k in ("weights", "reserve")} | {"kv": float(max(room[i], 1.0) * each[i])}
    return Held(
        plan=plans[i],
        chips=system.chips,
        workers=int(workers[i]),
        requests=int(requests[i]),
        memory_B=used,
        short_B=float(short[i]),
    )


def fit_serving(asked: FitRequest) -> ServeFit:
    """Whether requests of `kv` tokens (prompt and answer) fit beside the weights on a system (its size, `chips`, or one
    scale-up unit), and the fewest chips that hold one, for the checkpoint's format and for narrower ones that the
    engines serve."""
    facts, model, tokens, fixed, spec = asked.facts, asked.model, asked.kv, asked.fixed, asked.systems[0]
    assert tokens is not None
    for name in fixed:
        if name == "mode":
            raise UserError(
                "memory is asked for one worker, whatever its part is", field="plan.mode", fix="leave it out"
            )
    system = resolve(facts, spec, chips=asked.chips)
    engine = engine_for(facts, system, asked.engine, model)
    low, _, high = usable_B(facts, system)
    native = native_weights(model, system, facts)
    formats = [str(w) for w in fixed["weights"]] if "weights" in fixed else [native, *_narrower(native, system)]

    def try_on(count: int, weights: Sequence[str], capacity: float) -> Held | None:
        return fullest(
            model,
            replace(system, chips=count),
            engine,
            facts,
            tokens=tokens,
            weights=weights,
            fixed=fixed,
            capacity_B=capacity,
        )

    held = try_on(system.chips, formats[:1], low)
    fits: bool | None = bool(held and held.requests)
    capacity, reason = low, None
    if held is None:
        reason = "heads, experts or devices allow none"
    elif not fits:
        most = try_on(system.chips, formats[:1], high) if high > low else held
        if most and most.requests:
            fits, held, capacity, reason = None, most, high, range_decides(low, high)
        else:
            reason = f"one request lacks {show_gib(held.short_B)} per device"
    limit = max(MAX_TRIED, system.chips)
    smallest = {
        w: next((h for c in counts(system, limit) if (h := try_on(c, [w], low)) and h.requests), None) for w in formats
    }
    inputs = {
        **model.inputs(),
        "task": "serve",
        "kv_tokens": tokens,
        "fixed": {k: list(v) for k, v in fixed.items()},
        "systems": [{"system": spec, "id": system.id, "chips": system.chips, "engine": engine}],
    }
    return ServeFit(
        inputs=inputs,
        system_id=system.id,
        display=system.display,
        engine=engine,
        chips=system.chips,
        devices_per_chip=system.devices_per_chip,
        fits=fits,
        held=held,
        capacity_B=capacity,
        smallest=smallest,
        largest_tried=limit,
        reason=reason,
    )
