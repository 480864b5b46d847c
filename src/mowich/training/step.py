"""One training step, in closed form, for one plan or for columns of plans.

Every duration is a named part, and the parts sum to the step: the search, `explain` and `validate` evaluate this code
and no other. Symbols: t tokens per micro-batch and rank, h hidden width, L layers, g micro-batches per step, P peak
FLOP/s, B bytes/s. The formulas and where their constants come from: docs/theory/theory-training.md. Constants live in
facts/training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes, told
from mowich.machines import collectives
from mowich.models.model import Model
from mowich.operators.kernels import Kernels
from mowich.operators.rates import rates
from mowich.plans import schedules
from mowich.plans.memory import (
    adapter_params_per_device,
    dense_params_per_device,
    expert_params_per_device,
    sharding_ranks,
)
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.software.stack import Platform
from mowich.training.exchange import dp_s, offload_s, sites_s
from mowich.training.orthogonal import orthogonal_s
from mowich.training.parts import LAYER_PARTS, PARTS_OF_STEP
from mowich.training.slices import by_slice, slices
from mowich.training.stage import stage_times, total_of

STEP_PARTS = tuple(part.name for part in PARTS_OF_STEP)
"""Names of the parts of a step, in print order. software: what the stack costs beyond the tuned reference."""

WIRES = tuple(part.name for part in PARTS_OF_STEP if part.is_wire)
"""Parts that no software of the devices makes longer: transfers, and the wait for the slowest rank."""

KERNELS = tuple(name for name in STEP_PARTS if name not in (*WIRES, "software"))
"""Parts that the software lengthens: what devices compute, and the pipeline's idle time, which is as long as that."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one step under each plan. parts: name -> [n], sums to total_s; tokens: tokens of the legal batch [n];
    num_micro_batches g [n]."""

    total_s: Floats
    parts: dict[str, Floats]
    tokens: Floats
    num_micro_batches: Floats


def micro_batches_of(job: TrainJob, p: Plans) -> Floats:
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
        parts={name: found[name] for name in STEP_PARTS},
        tokens=found["tokens"],
        num_micro_batches=found["g"],
    )


def _step_time(
    model: Model, system: Platform, job: TrainJob, p: Plans, notes: Notes | None, kernels: Kernels | None
) -> StepTime:
    """`step_time` on a slice.

    step = g x T_stage + bubble + pipeline transfers + exposed dp + optimizer + offload + fixed, then x (1 + j
    log2(n/8)), + (1 / software speed - 1) of its KERNELS; bubble and transfers by schedule (`plans.schedules`), for
    1F1B (pp-1) T_stage. The fullest stage sets the pace; a bubble is of the others. No failure.
    """
    s = system.stack
    t = p.micro_batch * job.seq / p.cp
    g = micro_batches_of(job, p)
    r = rates(system, p.precision, kernels)
    x = stage_times(model, system, job, p, notes, kernels)
    per_micro, stage, forward = x.parts, x.total_s, x.forward_s
    parts = {name: g * per_micro[name] if name in per_micro else np.zeros_like(t) for name in STEP_PARTS}
    for name in LAYER_PARTS:
        parts[name] = told(
            notes,
            f"{name}.step",
            _layers_s,
            note="all_layers: forward and backward of one micro-batch; fullest_over_mean: stages",
        )(micro_batches=g, all_layers=x.sums[name], pp=p.pp, fullest_over_mean=x.imbalance)
    parts["pp_bubble"] = x.bubble_s
    hops = _hops(model, system, p, g, t)
    parts["pp_transfer"] = told(notes, "pp_transfer", pp_transfer_s, also={"bytes": hops.bytes_})(
        transfers=hops.number,
        one=hops.one_s,
        g=g,
        vpp=p.vpp,
        stage=stage,
        chunks=hops.chunks,
        handover=s.chunk_handover,
        contention=system.efficiency.comm_contention,
    )
    dense, expert = dense_params_per_device(model, p), expert_params_per_device(model, p)
    adapters = adapter_params_per_device(model, job, p) if job.frozen_base else None
    parts["dp"] = dp_s(system, p, r, dense, expert, g, forward, stage - forward, notes, adapters)
    owned, trained = _owned(p, dense, expert, adapters)
    if notes is not None or np.any(p.offload > 0):
        parts["offload"] = offload_s(model, system, job, p, g, dense + expert, owned, forward, stage - forward, notes)
    if job.sites > 1:
        told_sites = told(notes, "dp.sites", sites_s, note="DiLoCo: an outer step every outer_every steps")
        params = float(model.params) if job.adapters is None else job.adapters.params(model)
        parts["dp"] = parts["dp"] + told_sites(
            params=params,
            send_B=s.outer_send_B,
            sites=float(job.sites),
            site_Bps=job.site_Bps,
            moved_B=s.outer_moved_B,
            owned=trained,
            B=r.B,
            outer_every=float(job.outer_every),
        )
    own_kernel = r.tabled("optimizer", trained) if s.is_adamw else None
    parts["optimizer"] = told(notes, "optimizer", optimizer_s, tabled=own_kernel)(
        owned=trained, b_opt=s.optimizer_B, B=r.B
    )
    if s.newton_schulz and adapters is None:
        parts["optimizer"] = parts["optimizer"] + orthogonal_s(model, system, p, notes)
    parts["fixed"] = s.step_fixed + s.step_per_doubling * np.log2(np.maximum(1.0, p.devices))
    base = total_of(parts[k] for k in STEP_PARTS)
    parts["jitter"] = told(notes, "jitter", jitter_s)(base=base, j=s.jitter_per_doubling, devices=p.devices)
    parts["software"] = told(
        notes, "software", software_s, also={"stack": s.name}, note="kernels: all parts but transfers and jitter"
    )(kernels=total_of(parts[k] for k in KERNELS), speed=s.speed * system.efficiency.framework_carry)
    total = told(
        notes,
        "step",
        whole_s,
        also={"g": g},
        note="base: g x stage, bubble, transfers, dp, optimizer, offload and fixed",
    )(base=base, jitter=parts["jitter"], software=parts["software"])
    return StepTime(total_s=total, parts=parts, tokens=g * p.micro_batch * p.dp * job.seq, num_micro_batches=g)


@dataclass(frozen=True, slots=True)
class _Hops:
    """Transfers between pipeline stages. number: that a step waits for; one_s: seconds of one; chunks: that stages hand
    over one another in a step; bytes_: of one."""

    number: Floats
    one_s: Floats
    chunks: Floats
    bytes_: Floats


def _hops(model: Model, system: Platform, p: Plans, g: Floats, t: Floats) -> _Hops:
    """g: micro-batches; t: tokens of one. They run beside compute, unless a stage's transfers take longer than its
    work."""
    bytes_ = 2.0 * t * float(model.hidden) / np.where((p.sp > 0) | (p.pp_scatter > 0), p.tp, 1.0)
    one = np.where(p.pp > 1, collectives.transfer_s(system, bytes_, p.stride("pp")), 0.0)
    chunks = np.where((p.pp > 1) & (p.vpp > 1), 2.0 * g * p.vpp, 0.0)
    return _Hops(schedules.num_hops(p.schedule, p.pp, p.vpp, g), one, chunks, bytes_)


def _owned(p: Plans, dense: Floats, expert: Floats, adapters: Floats | None) -> tuple[Floats, Floats]:
    """(parameters, those of them that are trained) whose optimizer states one device has, by ZeRO. dense, expert,
    adapters: parameters of a device (no adapters: all of them are trained)."""
    shard, expert_ranks = (np.where(p.zero >= 1, ranks, 1.0) for ranks in sharding_ranks(p))
    owned = dense / shard + expert / expert_ranks
    return owned, owned if adapters is None else adapters / shard


def _layers_s(micro_batches: Floats, all_layers: Floats, pp: Floats, fullest_over_mean: Floats) -> Floats:
    """Seconds of a step that a part of the layers takes on the fullest stage.

    T = micro_batches * (all_layers / pp * fullest_over_mean)

    all_layers: of one micro-batch through every layer, forward and backward.

    Units: all_layers s.
    """
    return np.asarray(micro_batches * (all_layers / pp * fullest_over_mean))


def pp_transfer_s(
    transfers: Floats,
    one: Floats,
    g: Floats,
    vpp: Floats,
    stage: Floats,
    chunks: Floats | float,
    handover: float,
    contention: float,
) -> Floats:
    """Seconds that a step waits for transfers between stages: those that the schedule waits for, in each of g
    micro-batches what the transfers of a stage take beyond its work, and what handing over a chunk costs though its
    transfer is hidden.

    T = transfers * one + g * max(0, vpp * one - stage) + chunks * (handover + contention * one)

    chunks: forward and backward passes of interleaved chunks of a device in a step; handover: of each, the start of its
    send and receive and the wait for the other device; contention: of a hidden transfer, what its copy takes from
    compute.

    Units: one s, stage s, handover s.
    """
    waited_for = transfers * one + g * np.maximum(0.0, vpp * one - stage)
    return np.asarray(waited_for + chunks * (handover + contention * one))


def optimizer_s(b_opt: float, owned: Floats, B: Floats | float) -> Floats:
    """Seconds of the optimizer's passes over the parameters that a rank owns.

    T = b_opt * owned / B

    Units: b_opt B, B B/s.
    """
    return np.asarray(b_opt * owned / B)


def jitter_s(base: Floats, j: float, devices: Floats) -> Floats:
    """Seconds that a step waits for the slowest rank, more with each doubling beyond 8 devices.

    T = base * j * log2(max(1, devices / 8))

    Units: base s.
    """
    return np.asarray(base * j * np.log2(np.maximum(1.0, devices / 8.0)))


def software_s(kernels: Floats, speed: Floats | float) -> Floats:
    """Seconds that the software adds to the `kernels` of a step, at `speed` of the one that the constants are of.

    T = kernels * (1 / speed - 1)

    Units: kernels s.
    """
    return np.asarray(kernels * (1.0 / speed - 1.0))


def whole_s(base: Floats, jitter: Floats, software: Floats) -> Floats:
    """Seconds of a step.

    T = base + jitter + software

    Units: base s, jitter s, software s.
    """
    return np.asarray(base + jitter + software)


def forward_pass_s(g: Floats, pp: Floats, kernels: Floats, slower: Floats | float, wires: Floats) -> Floats:
    """Seconds of a forward pass over a batch, without gradients: micro-batches follow one another through the stages.

    T = (g + pp - 1) * (kernels * slower + wires)

    g: micro-batches; kernels, wires: of one through the fullest stage, what devices compute and what they wait for
    transfers; slower: the software over the tuned reference.

    Units: kernels s, wires s.

    >>> float(forward_pass_s(g=16.0, pp=4.0, kernels=0.2, slower=1.0, wires=0.05))
    4.75
    """
    return np.asarray((g + pp - 1.0) * (kernels * slower + wires))


def forward_time(model: Model, system: Platform, job: TrainJob, p: Plans, notes: Notes | None = None) -> Floats:
    """Seconds of a forward pass over the batch of a job under each plan [n], without gradients: what log-probabilities
    of a batch take. Half of the transfers of a layer, forward and backward, are its own. Columns in, columns out;
    `notes` (one plan only) records the term."""

    def on(part: Platform, plans: Plans) -> dict[str, Floats]:
        x = stage_times(model, part, job, plans)
        wires = np.minimum(0.5 * total_of(x.parts[name] for name in WIRES if name in x.parts), x.forward_s)
        law = told(notes, "forward_pass", forward_pass_s)
        return {
            "forward": law(
                g=micro_batches_of(job, plans),
                pp=plans.pp,
                kernels=x.forward_s - wires,
                slower=1.0 / (part.stack.speed * part.efficiency.framework_carry),
                wires=wires,
            )
        }

    return by_slice(system, p, on)["forward"]


@dataclass(frozen=True, slots=True)
class OneStep:
    """`StepTime` of a single plan, as floats."""

    total_s: float
    breakdown: dict[str, float]
    tokens: float
    num_micro_batches: float


def predict_step(model: Model, system: Platform, job: TrainJob, plan: Plan, notes: Notes | None = None) -> OneStep:
    """One plan's step. Raises nothing: legality and memory are checked by `plans`."""
    return _each(step_time(model, system, job, Plans.of([plan]), notes), 0)


def predict_steps(model: Model, system: Platform, job: TrainJob, plans: Sequence[Plan]) -> list[OneStep]:
    """`predict_step` of each plan, evaluated together."""
    step = step_time(model, system, job, Plans.of(plans))
    return [_each(step, i) for i in range(len(plans))]


def _each(step: StepTime, i: int) -> OneStep:
    return OneStep(
        float(step.total_s[i]),
        {k: float(v[i]) for k, v in step.parts.items()},
        float(step.tokens[i]),
        float(step.num_micro_batches[i]),
    )
