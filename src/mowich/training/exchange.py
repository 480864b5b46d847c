"""What travels once a step or once a micro-batch beside compute: gradients and weights between data-parallel ranks, and
what a plan keeps in the host's memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes, told
from mowich.machines import collectives
from mowich.machines.system import System
from mowich.models.model import Model
from mowich.operators.law import beside
from mowich.operators.rates import DeviceRates, rates
from mowich.plans.memory import (
    adapter_params_per_device,
    away,
    dense_params_per_device,
    expert_params_per_device,
    layer_activations_B,
    layers_per_stage,
    optimizer_state_B,
    sharding_ranks,
)
from mowich.plans.plan import OFFLOADS, Plans, TrainJob
from mowich.software.stack import Platform


def offload_s(
    model: Model,
    system: Platform,
    job: TrainJob,
    p: Plans,
    g: Floats,
    params: Floats,
    owned: Floats,
    forward: Floats,
    backward: Floats,
    notes: Notes | None = None,
) -> Floats:
    """Exposed time of what travels to and from the host's memory in a step: `host_link_s` of the bytes of a plan.
    params, owned: parameters of a device, and those whose optimizer states it has."""
    if not np.any(np.asarray(system.host_Bps) > 0):  # no link: nothing is sent
        return np.zeros(np.broadcast_shapes(np.shape(g), np.shape(forward), np.shape(backward)))
    s, gone = system.stack, away(p)
    kept = layer_activations_B(model, system, job, p) * layers_per_stage(model, p)
    return told(notes, "offload", host_link_s, also={"offload": OFFLOADS[int(p.offload[0])]})(
        g=g,
        weights=gone["weights"] * s.weight_B * params,
        activations=gone["activations"] * kept,
        gradients=gone["weights"] * s.grad_memory_B * params,
        states=gone["optimizer"] * optimizer_state_B(system, job) * owned,
        forward=forward,
        backward=backward,
        H=np.asarray(system.host_Bps),
    )


def host_link_s(
    g: Floats,
    weights: Floats,
    activations: Floats,
    gradients: Floats,
    states: Floats,
    forward: Floats,
    backward: Floats,
    H: Floats,
) -> Floats:
    """Seconds that a step waits for the link to the host's memory: in each of g micro-batches what travels longer than
    the forward pass (weights in, activations out) or the backward pass (both in, gradients out) takes beside it, and
    once the optimizer states, in and out at the same time, with nothing to hide behind.

    T = g * (max(0, max(weights, activations) / H - forward)
    + max(0, max(weights + activations, gradients) / H - backward)) + states / H

    Units: weights B, activations B, gradients B, states B, forward s, backward s, H B/s.
    """
    first = np.maximum(0.0, np.maximum(weights, activations) / H - forward)
    second = np.maximum(0.0, np.maximum(weights + activations, gradients) / H - backward)
    return np.asarray(g * (first + second) + states / H)


Linear = Callable[[Platform, Floats, Floats], tuple[Floats, Floats]]
"""(seconds per byte, latency) of a collective over groups of a size and stride."""


def least_linear_in_full(system: System, n: Floats, stride: Floats) -> tuple[Floats, Floats]:
    """`collectives.least_linear`, and the steps of NCCL's ring inside domains: n less the domains, in the innermost
    level that joins members, where at most one domain more than n / fit holds any."""
    per_B, latency = collectives.least_linear(system, n, stride)
    if system.fabric.library == "nccl":
        for level in system.levels[: system.fabric_level]:
            fit = np.floor(level.devices / stride)
            joined = fit > 1
            steps = np.where(joined, np.maximum(0.0, n - n / np.maximum(fit, 1.0) - 1.0), 0.0)
            latency = latency + steps * level.latency_s * (1.0 + system.fabric.pipeline_limit)
            stride = np.where(joined, np.inf, stride)  # counted
    return per_B, latency


def least_dp_s(
    model: Model,
    system: Platform,
    job: TrainJob,
    p: Plans,
    forward: Floats,
    backward: Floats,
    linear: Linear = collectives.least_linear,
) -> Floats:
    """Exposed traffic between data-parallel ranks that no larger dp takes less of: with zero 3 of one micro-batch, else
    of the step. forward, backward: seconds of one micro-batch on the slowest stage; linear: what a collective takes at
    least."""
    adapters = adapter_params_per_device(model, job, p) if job.frozen_base else None
    one = np.ones(len(p))
    return dp_s(
        system,
        p,
        rates(system, p.precision),
        dense_params_per_device(model, p),
        expert_params_per_device(model, p),
        one,
        forward,
        backward,
        None,
        adapters,
        linear,
    )


def dp_s(
    system: Platform,
    p: Plans,
    r: DeviceRates,
    dense: Floats,
    expert: Floats,
    g: Floats,
    forward: Floats,
    backward: Floats,
    notes: Notes | None,
    adapters: Floats | None = None,
    linear: Linear = collectives.linear,
) -> Floats:
    """Exposed time of gradient and weight traffic, bucket by bucket beside the `forward` and `backward` of one
    micro-batch.

    zero <= 1: once a step a reduce-scatter (grad_B per parameter) beside the last backward and a gather (gather_B)
    beside the first forward; window w of each. zero 2: the reduction runs per micro-batch. zero 3: per micro-batch a
    gather beside forward, a gather and a scatter beside backward. With `adapters` the base is frozen: their gradients
    alone are reduced, and zero 3 gathers the base without scattering. Sharding groups gather and scatter within; what
    a rank is left with of the gradients is then all-reduced between groups. linear: what a collective takes.
    """
    s = system.stack
    gather_B = s.gather_B * np.where(r.recipe.w < 2.0, s.gather_low_precision, 1.0)  # 8-bit recipes may gather 8 bits
    stride = np.where(p.order == 0, p.tp, p.stride("dp"))
    group, e_group = sharding_ranks(p)
    e_stride = np.where(p.order == 0, p.ep * p.etp, stride)  # other orders leave expert groups whole (`mode_rules`)

    per_B, latency = linear(system, group, stride)
    has_experts = bool(np.any(expert > 0))
    e_per_B, e_latency = linear(system, e_group, e_stride) if has_experts else (np.zeros(1), np.zeros(1))
    lone, e_lone = group <= 1, (e_group <= 1) | (expert <= 0)

    def both(bytes_per_param: Floats | float) -> Floats:
        one = np.where(lone, 0.0, bytes_per_param * dense * per_B + latency)
        return one + np.where(e_lone, 0.0, bytes_per_param * expert * e_per_B + e_latency)

    def trained(bytes_per_param: Floats | float) -> Floats:
        return (
            both(bytes_per_param)
            if adapters is None
            else np.where(lone, 0.0, bytes_per_param * adapters * per_B + latency)
        )

    o, busy, w = s.dp_overlap * p.dp_overlap, system.efficiency.comm_contention, s.dp_window
    scatter, gather, gather_base = trained(s.grad_B), trained(gather_B), both(gather_B)
    f = s.fsdp_overlap * p.dp_overlap
    behind = both(gather_B + (s.gather_B if adapters is None else 0.0))
    own = {"zero": p.zero, "dense_params": dense, "expert_params": expert, "dp_group": group}
    if p.has_groups:
        trains = dense / group + (expert / e_group if has_experts else 0.0) if adapters is None else adapters / group
        between = linear(system, p.dp / p.group, stride * p.cp * p.group)
        across = np.where(
            p.group < p.dp,
            told(notes, "dp.groups", between_groups_s, also={"groups": p.dp / p.group, "ranks_of_group": p.group})(
                bytes=np.where(p.zero == 3, s.gather_B, s.grad_B) * trains, per_B=between[0], latency=between[1]
            ),
            0.0,
        )
        scatter, behind, own = scatter + across, behind + across, own | {"groups": p.dp / p.group}

    def at(*zeros: int) -> Notes | None:
        """The recorder where the plan's stage is one of these."""
        return notes if notes is not None and int(p.zero[0]) in zeros else None

    exposed = told(at(0, 1), "dp", once_a_step_s, also=own | {"g": g})(
        scatter=scatter, gather=gather, share=o, window=w, backward=backward, forward=forward, contention=busy
    )
    two = told(at(2), "dp", reduced_each_time_s, also=own)(
        scatter=scatter, gather=gather, share=o, window=w, backward=backward, forward=forward, contention=busy, g=g
    )
    three = told(at(3), "dp", gathered_each_time_s, also=own)(
        gather=gather_base, back=behind, share=f, backward=backward, forward=forward, contention=busy, g=g
    )
    result = np.where(p.zero == 3, three, np.where(p.zero == 2, two, exposed))
    return np.asarray(result)


def between_groups_s(bytes: Floats, per_B: Floats, latency: Floats) -> Floats:
    """Seconds in which the ranks of all sharding groups that hold the same part of the gradients sum it: an all-reduce,
    which is a reduce-scatter and a gather.

    T = 2 * (bytes * per_B + latency)

    bytes: of the gradients that a rank is left with in its group; per_B, latency: of one of the two over the groups.

    Units: bytes B, per_B s/B, latency s.
    """
    return np.asarray(2.0 * (bytes * per_B + latency))


def sites_s(
    params: float,
    send_B: Floats | float,
    sites: float,
    site_Bps: float,
    moved_B: Floats | float,
    owned: Floats,
    B: Floats | float,
    outer_every: float,
) -> Floats:
    """Seconds of a step that go to the exchange between sites, of which there is one every `outer_every` steps: each
    site sends and receives what changed of all parameters, in a ring, and the outer optimizer passes over its states.
    Nothing hides it, and the delay of the lines is left out: it is small beside the transfer.

    T = (2 * (sites - 1) / sites * send_B * params / site_Bps + moved_B * owned / B) / outer_every

    params: of the model, of which a device owns the states of `owned`; send_B, moved_B: of a parameter; site_Bps: into
    and out of a site; B: of a device's memory.

    Units: send_B B, site_Bps B/s, moved_B B, B B/s.
    """
    return np.asarray((2.0 * (sites - 1.0) / sites * send_B * params / site_Bps + moved_B * owned / B) / outer_every)


def once_a_step_s(
    scatter: Floats,
    gather: Floats,
    share: Floats | float,
    window: float,
    backward: Floats,
    forward: Floats,
    contention: float,
) -> Floats:
    """Exposed seconds of zero 0 and 1: once a step gradients are reduced beside the last backward and weights gathered
    beside the first forward.

    T = beside(scatter, share, window * backward, contention) + beside(gather, share, window * forward, contention)

    scatter, gather: the transfers alone; window: the part of a micro-batch beside which buckets are ready.

    Units: scatter s, gather s, backward s, forward s.
    """
    return beside(scatter, share, window * backward, contention) + beside(gather, share, window * forward, contention)


def reduced_each_time_s(
    scatter: Floats,
    gather: Floats,
    share: Floats | float,
    window: float,
    backward: Floats,
    forward: Floats,
    contention: float,
    g: Floats,
) -> Floats:
    """Exposed seconds of zero 2: gradients are reduced in each of g micro-batches.

    T = g * beside(scatter, share, window * backward, contention) + beside(gather, share, window * forward, contention)

    Units: scatter s, gather s, backward s, forward s.
    """
    exposed = once_a_step_s(scatter, gather, share, window, backward, forward, contention)
    return np.asarray((g - 1.0) * beside(scatter, share, window * backward, contention) + exposed)


def gathered_each_time_s(
    gather: Floats,
    back: Floats,
    share: Floats | float,
    backward: Floats,
    forward: Floats,
    contention: float,
    g: Floats,
) -> Floats:
    """Exposed seconds of zero 3: in each of g micro-batches weights are gathered beside forward, and gathered again and
    gradients reduced (back) beside backward.

    T = g * (beside(gather, share, forward, contention) + beside(back, share, backward, contention))

    Units: gather s, back s, backward s, forward s.
    """
    return np.asarray(g * (beside(gather, share, forward, contention) + beside(back, share, backward, contention)))
