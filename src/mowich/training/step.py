"""One training step, in closed form, for one plan or for columns of plans.

Every duration is a named part, and the parts sum to the step: the search, `explain` and `validate` evaluate this code
and no other. Symbols: t tokens per micro-batch and rank, h hidden width, L layers, g micro-batches per step, P peak
FLOP/s, B bytes/s. The formulas and where their constants come from: docs/theory-training.md. Constants live in
facts/training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes
from mowich.machines import collectives
from mowich.models.model import Model
from mowich.operators.kernels import Kernels
from mowich.operators.rates import rates
from mowich.plans import schedules
from mowich.plans.memory import (
    adapter_params_per_device,
    dense_params_per_device,
    expert_params_per_device,
    layers_per_stage,
)
from mowich.plans.plan import OFFLOADS, SCHEDULES, Plan, Plans, TrainJob
from mowich.software.stack import Platform
from mowich.training.exchange import dp_s, offload_s
from mowich.training.slices import by_slice, slices
from mowich.training.stage import LAYER_PARTS, stage_times, total_of
from mowich.training.terms import paths_of

PARTS = (
    "gemm",
    "attention",
    "memory_bound",
    "quantise",
    "moe",
    "head",
    "recompute",
    "host",
    "tp",
    "cp",
    "ep",
    "pp_transfer",
    "pp_bubble",
    "dp",
    "optimizer",
    "offload",
    "fixed",
    "jitter",
    "software",
)
"""Names of the parts of a step, in print order. software: what the stack costs beyond the tuned reference."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one step under each plan. parts: name -> [n], sums to total_s; tokens: tokens of the legal batch [n];
    num_micro_batches g [n]."""

    total_s: Floats
    parts: dict[str, Floats]
    tokens: Floats
    num_micro_batches: Floats


def micro_batches(job: TrainJob, p: Plans) -> Floats:
    """g, micro-batches per rank and step (`schedules.micro_batches`)."""
    return schedules.micro_batches(job, p.schedule, p.pp, p.micro_batch * p.dp)


def step_time(
    model: Model, system: Platform, job: TrainJob, p: Plans, notes: Notes | None = None, kernels: Kernels | None = None
) -> StepTime:
    """Time of one training step, each plan on the slice of the system that it asks for. Columns in, columns out;
    `notes` (one plan only) records every term; `kernels`: operators by their tables."""
    if len(slices(system)) == 1:
        return _step_time(model, system, job, p, notes, kernels)

    def on(part: Platform, plans: Plans) -> dict[str, Floats]:
        step = _step_time(model, part, job, plans, notes, kernels)
        return {"total": step.total_s, "tokens": step.tokens, "g": step.num_micro_batches, **step.parts}

    found = by_slice(system, p, on)
    return StepTime(
        total_s=found["total"],
        parts={name: found[name] for name in PARTS},
        tokens=found["tokens"],
        num_micro_batches=found["g"],
    )


def _step_time(
    model: Model, system: Platform, job: TrainJob, p: Plans, notes: Notes | None, kernels: Kernels | None
) -> StepTime:
    """`step_time` on a slice.

    step = g x T_stage + bubble + pipeline transfers + exposed dp + optimizer + offload + fixed, then x (1 + j
    log2(n/8)) / software speed; bubble and transfers by schedule (`plans.schedules`), for 1F1B (pp-1) T_stage. Every
    stage is taken to be as slow as the fullest. No failure.
    """
    s = system.stack
    t = p.micro_batch * job.seq / p.cp
    h = float(model.hidden)
    g = micro_batches(job, p)
    r = rates(system, p.precision, kernels)
    x = stage_times(model, system, job, p, notes, kernels)
    per_micro, stage, forward, weights, back = x.parts, x.total_s, x.forward_s, x.weights_s, x.back_s
    parts = {name: g * per_micro[name] if name in per_micro else np.zeros_like(t) for name in PARTS}
    parts["pp_bubble"] = x.bubble_s
    hop_B = 2.0 * t * h / np.where((p.sp > 0) | (p.pp_scatter > 0), p.tp, 1.0)
    transfer = collectives.transfer_s(system, hop_B, p.stride("pp"))
    num_hops = schedules.num_hops(p.schedule, p.pp, p.vpp, g)
    # beside compute, unless a stage's transfers take longer than its work
    parts["pp_transfer"] = np.where(p.pp > 1, num_hops * transfer + g * np.maximum(0.0, p.vpp * transfer - stage), 0.0)
    dense, expert = dense_params_per_device(model, p), expert_params_per_device(model, p)
    adapters = adapter_params_per_device(model, job, p) if job.frozen_base else None
    parts["dp"] = dp_s(system, p, r, dense, expert, g, forward, stage - forward, notes, adapters)
    replicas = p.dp * schedules.copies(p)
    shard = np.where(p.zero >= 1, replicas * p.cp, 1.0)
    expert_ranks = np.maximum(1.0, p.tp * p.cp * replicas / (p.ep * p.etp))
    owned = dense / shard + expert / np.where(p.zero >= 1, expert_ranks, 1.0)
    if np.any(p.offload > 0):
        parts["offload"] = offload_s(model, system, job, p, g, dense + expert, owned, forward, stage - forward)
    n_devices = p.devices
    doublings = np.log2(np.maximum(1.0, n_devices / 8.0))
    parts["optimizer"] = s.optimizer_B * (owned if adapters is None else adapters / shard) / r.B
    if kernels is not None:
        parts["optimizer"] = kernels.optimizer(owned if adapters is None else adapters / shard, parts["optimizer"])
    parts["fixed"] = s.step_fixed + s.step_per_doubling * np.log2(np.maximum(1.0, n_devices))
    base = total_of(parts[k] for k in PARTS)
    parts["jitter"] = base * s.jitter_per_doubling * doublings
    speed = s.speed * system.efficiency.framework_carry
    parts["software"] = (base + parts["jitter"]) * (1.0 / speed - 1.0)
    total = base + parts["jitter"] + parts["software"]
    if notes is not None:
        for name in LAYER_PARTS:
            notes.add(
                f"{name}.step",
                parts[name],
                "s",
                "micro-batches x all layers, forward and backward / pp x fullest stage over mean",
                micro_batches=g,
                all_layers=x.sums[name],
                pp=p.pp,
                fullest_over_mean=x.imbalance,
            )
        notes.add(
            "stage",
            stage,
            "s",
            "sum of the fullest stage's layers and head share, one micro-batch",
            layers_per_stage=layers_per_stage(model, p),
        )
        notes.add(
            "head",
            x.head_s,
            "s",
            "3 gemm(t, V/tp, h) in 16 bit + 2 passes t V/tp / B; exposed share w (1-1/pp) on the last stage",
            t=t,
            V=model.vocab / p.tp,
            h=h,
            note=r.by(x.head_s),
            facts=paths_of(system, "stack.head_exposed", "stack.head_passes"),
        )
        formula = schedules.BUBBLE_OF[SCHEDULES[int(p.schedule[0])]]
        notes.add("pp_bubble", parts["pp_bubble"], "s", formula, pp=p.pp, vpp=p.vpp, f=forward, b=back, w=weights)
        notes.add(
            "pp_transfer",
            parts["pp_transfer"],
            "s",
            "transfers that the schedule waits for x T, + g max(0, vpp T - stage)",
            transfers=num_hops,
            T=transfer,
            bytes=hop_B,
            facts=paths_of(system, ".bandwidth", ".latency"),
        )
        notes.add(
            "optimizer",
            parts["optimizer"],
            "s",
            "b_opt x owned parameters / B",
            owned=owned,
            b_opt=s.optimizer_B,
            B=r.B,
            note=r.by(parts["optimizer"]),
            facts=paths_of(system, "stack.optimizer_B", "hbm_Bps"),
        )
        notes.add(
            "offload",
            parts["offload"],
            "s",
            "g x (what travels longer than forward and backward take) + optimizer states, bytes / H",
            g=g,
            offload=OFFLOADS[int(p.offload[0])],
            H=system.host_Bps,
            owned=owned,
            facts=paths_of(system, "host_Bps"),
        )
        notes.add(
            "jitter",
            parts["jitter"],
            "s",
            "j log2(devices/8) x base",
            j=s.jitter_per_doubling,
            devices=n_devices,
            facts=paths_of(system, "stack.jitter_per_doubling"),
        )
        notes.add(
            "software",
            parts["software"],
            "s",
            "(1/speed - 1) x (base + jitter)",
            speed=speed,
            stack=s.name,
            facts=paths_of(system, "stack.speed", "efficiency.framework_carry"),
        )
        notes.add(
            "step",
            total,
            "s",
            "g x stage + bubble + transfers + dp + optimizer + offload + fixed, then jitter and software",
            g=g,
        )
    return StepTime(total_s=total, parts=parts, tokens=g * p.micro_batch * p.dp * job.seq, num_micro_batches=g)


@dataclass(frozen=True, slots=True)
class OneStep:
    """`StepTime` of a single plan, as floats."""

    total_s: float
    breakdown: dict[str, float]
    tokens: float
    num_micro_batches: float


def predict_step(model: Model, system: Platform, job: TrainJob, plan: Plan, notes: Notes | None = None) -> OneStep:
    """One plan's step. Raises nothing: legality and memory are checked by `plans`."""
    step = step_time(model, system, job, Plans.of([plan]), notes)
    return OneStep(
        float(step.total_s[0]),
        {k: float(v[0]) for k, v in step.parts.items()},
        float(step.tokens[0]),
        float(step.num_micro_batches[0]),
    )
