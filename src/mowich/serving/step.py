"""Time of one engine step (decode tokens, prompt tokens, or both) on one rank, in closed form, for columns of cases.

`plans.shapes.Shapes` is the work: what a model asks of one rank under a plan, without hardware. `EngineCosts` is the
machine and the engine: peak rates of the chip and the fitted efficiencies and latencies of `facts/serving`. `step` puts
them together into named times that sum, by the functions of `operators.law`. Everything is an array over cases [n]
(kinds of layers: [k, n]), so one deployment, a search and the fit of the constants evaluate the same code.
Symbols: m tokens, W weights, P FLOP/s, B bytes/s, S context tokens, L layers, d hidden width.
"""

from __future__ import annotations

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes
from mowich.formula import Law
from mowich.operators.law import (
    active_experts,
    cached_attention,
    fan_out,
    fused_attention,
    hop,
    passes,
    ring,
    roof,
    visited_experts,
)
from mowich.plans.shapes import Shapes
from mowich.serving.tabled import TabledStep, by_kernels_s, note_tabled, tabled_step
from mowich.software.engine import EngineCosts

SERVING_PARTS = (
    "linear",
    "head",
    "experts",
    "attention",
    "prefill_attention",
    "activations",
    "layers",
    "host",
    "tp",
    "ep",
    "cp",
    "pp",
)
"""Names of the parts of a step, in print order. activations: passes over the tokens' own numbers; layers: fixed time of
a layer (launches, norms, routing); host: scheduler and sampler."""


def step_experts_s(moe_layers: Floats, slow: Floats, each: Floats) -> Floats:
    """Seconds of the experts of layers of one kind.

    T = moe_layers * slow * each

    slow: what the busiest rank takes over the mean; each: of one layer.

    Units: each s.
    """
    return np.asarray(moe_layers * slow * each)


def attention_s(cache: Floats, state: Floats) -> Floats:
    """Seconds of decoding tokens against their caches and their recurrent state.

    T = cache + state

    Units: cache s, state s.
    """
    return np.asarray(cache + state)


def _layers_s(kernels: Floats, kernel: Floats, L: Floats, layer: Floats) -> Floats:
    """Seconds of a step that do not depend on its tokens: launches of its kernels, and what else a layer takes.

    T = kernels * kernel + L * layer

    Units: kernel s, layer s.
    """
    return np.asarray(kernels * kernel + L * layer)


def activations_s(L: Floats, m: Floats, d: Floats, passes: Floats, B: Floats) -> Floats:
    """Seconds of passes over the tokens of a step, 16 bits a number: norms, residuals, rotary embedding, casts.

    T = 2 * L * m * d * passes / B

    Units: B B/s.
    """
    return np.asarray(2.0 * L * m * d * passes / B)


def moe_layers_s(dense: Floats, moe_layers: Floats, moe_layer: Floats, experts: Floats, launch: Floats) -> Floats:
    """The same with what layers with experts take beside: routing, and launches for each of their experts.

    T = dense + moe_layers * (moe_layer + experts * launch)

    dense: of all layers; launch: 0 in a step without a prompt.

    Units: dense s, moe_layer s, launch s.
    """
    return np.asarray(dense + moe_layers * (moe_layer + experts * launch))


def host_s(step: Floats, per_sequence: Floats, n: Floats, prefill_step: Floats) -> Floats:
    """Seconds of scheduler and sampler.

    T = step + per_sequence * n + prefill_step

    n: sequences; prefill_step: 0 where no prompt is in the step.

    Units: step s, per_sequence s, prefill_step s.
    """
    return np.asarray(step + per_sequence * n + prefill_step)


def latency_s(latency: Floats, doubling: Floats, tp: Floats) -> Floats:
    """Latency of an all-reduce of tp ranks, from that of two.

    T = latency * (1 + doubling * (log2(max(tp, 2)) - 1))

    Units: latency s.
    """
    return np.asarray(latency * (1.0 + doubling * (np.log2(np.maximum(tp, 2.0)) - 1.0)))


def tp_s(L: Floats, bytes_: Floats, ranks: Floats, latency: Floats, B: Floats) -> Floats:
    """Seconds of the two all-reduces of each layer.

    T = 2 * L * ring(bytes_, ranks, latency, B)

    Units: bytes_ B, latency s, B B/s.
    """
    return np.asarray(2.0 * L * ring(bytes_, ranks, latency, B))


def ep_s(moe_layers: Floats, bytes_: Floats, fan: Floats, latency: Floats, B: Floats) -> Floats:
    """Seconds of dispatch and combine of each layer with experts.

    T = 2 * moe_layers * fan_out(bytes_, fan, latency, B)

    Units: bytes_ B, latency s, B B/s.
    """
    return np.asarray(2.0 * moe_layers * fan_out(bytes_, fan, latency, B))


def cp_s(L: Floats, bytes_: Floats, latency: Floats, B: Floats) -> Floats:
    """Seconds of an exchange in each layer.

    T = L * hop(bytes_, latency, B)

    Units: bytes_ B, latency s, B B/s.
    """
    return np.asarray(L * hop(bytes_, latency, B))


def pp_s(pp: Floats, bytes_: Floats, latency: Floats, B: Floats) -> Floats:
    """Seconds of the transfers between pp stages.

    T = (pp - 1) * hop(bytes_, latency, B)

    Units: bytes_ B, latency s, B B/s.
    """
    return np.asarray((pp - 1.0) * hop(bytes_, latency, B))


def _experts_s(s: Shapes, c: EngineCosts, m: Floats, t: TabledStep, notes: Notes | None) -> Floats:
    """Time of the experts of all layers for m tokens per rank group: all tp x dp ranks share the tokens of the dp
    groups."""
    ranks, M = s.tp * s.dp, m * s.dp
    A = np.maximum(active_experts(s.experts, s.top_k, np.maximum(M, 1e-9) ** c.expert_spread), 1e-9)
    rows = M * s.top_k
    slow = np.where(s.ep > 1, c.ep_imbalance, 1.0)
    again = 1.0 + (c.expert_reads - 1.0) * (1.0 - A / np.maximum(s.experts, 1.0))  # reads of a visited expert
    P = c.peak_expert * c.c_expert * c.expert_compute * t.compute
    B = c.hbm_Bps * c.w_expert * t.memory / again
    narrow = c.expert_columns / np.maximum(s.expert_width, 1.0)
    each = visited_experts(rows, A, s.W_expert, s.b_expert, ranks, P, B, c.expert_half, narrow)
    kinds = step_experts_s(s.moe_layers, slow, each)
    out = np.where(m > 0, np.sum(kinds, axis=0), 0.0)
    if notes is not None and out[0] > 0:
        given = {"rows": rows, "active": A, "params": s.W_expert, "width_B": s.b_expert, "ranks": ranks, "P": P, "B": B}
        given |= {"half": c.expert_half, "narrow": narrow}
        there = [i for i in range(len(kinds)) if s.moe_layers[i, 0] > 0]
        for i in there:
            of = {k: v[i] if np.ndim(v) == 2 else v for k, v in given.items()}
            name = "experts.each" if len(there) == 1 else f"experts.each, kind {i + 1}"
            notes.add(name, each[i], "s", visited_experts, given=of, note="one layer")
        if len(there) == 1:
            (i,) = there
            notes.add("experts", out, "s", step_experts_s, moe_layers=s.moe_layers[i], slow=slow, each=each[i])
        else:
            notes.add("experts", out, "s", words="sum over kinds of layers, by the layers of each")
    return out


def step(
    s: Shapes,
    c: EngineCosts,
    *,
    n: Floats | float,
    context: Floats | float,
    verify: Floats | float = 1.0,
    prompt: Floats | float = 0.0,
    prompt_context: Floats | float = 0.0,
    finishing: Floats | float = 0.0,
    notes: Notes | None = None,
    timed: dict[str, Floats] | None = None,
) -> dict[str, Floats]:
    """Seconds of one engine step by part, on one rank of a worker (all columns [n]); `notes` (one case only) records
    every part; `timed` gets the seconds of each that operator tables hold.

    n: sequences decoding on this rank, each verifying `verify` tokens against `context` tokens of cache. prompt: new
    prompt tokens in the step, that attend to `prompt_context` tokens on average (their own prefix included); finishing:
    prompts whose first token is sampled. Assumes even lengths and experts routed as `expert_spread` says; no overlap
    between parts. Breaks for batches so uneven that one long sequence decides the attention time.
    """
    zero = np.zeros(len(s))
    n, prompt, context = zero + n, zero + prompt, zero + context
    v = zero + verify
    mp = prompt / s.cp
    m = n * v + mp
    m_head = n * v + finishing
    t = tabled_step(
        s,
        c,
        m=m,
        m_head=m_head,
        n=n,
        verify=v,
        context=context,
        prompt=mp,
        prompts=zero + finishing,
        prompt_context=zero + prompt_context,
    )
    B = c.hbm_Bps
    of_linear = {
        "W": s.W_linear * t.linear.rest,
        "bytes_": s.W_linear * s.b_linear * t.linear.rest,
        "m": m,
        "P": c.peak_linear * c.c_linear * t.compute,
        "B": B * c.w_linear * t.memory,
        "m_half": zero + c.m_half,
    }
    linear = by_kernels_s(t.linear.seconds, roof(**of_linear))
    of_head = {
        "W": s.W_head * t.head.rest,
        "bytes_": 2.0 * s.W_head * t.head.rest,
        "m": m_head,
        "P": c.peak_16 * c.c_16 * t.compute,
        "B": B * c.w_16 * t.memory,
        "m_half": zero + c.m_half,
    }
    head = by_kernels_s(t.head.seconds, roof(**of_head))
    ranks = s.tp * s.dp
    experts = _experts_s(s, c, m, t, notes) if np.any(s.moe_layers) else zero
    # attention
    seen = np.minimum(context, s.window)
    kv_B = np.sum(s.att_layers * s.kv * seen, axis=0) * n * s.b_kv / s.cp
    flop = np.sum(s.att_layers * s.f_dec * seen, axis=0) * n * v / s.cp
    of_cache = {
        "bytes_": kv_B * t.caches.rest,
        "F": flop * t.caches.rest,
        "B": B * c.a_decode * t.cache,
        "P": c.peak_16 * c.mla_compute,
    }
    cache = by_kernels_s(t.caches.seconds, cached_attention(**of_cache))
    state = passes(n * s.state_B, 2.0, B * c.a_decode * t.cache)
    attention = attention_s(cache, state)
    pairs = np.sum(s.att_layers * s.f_pre * np.minimum(prompt_context, s.window), axis=0) * mp
    F = pairs * t.prompts.rest + mp * s.f_token
    of_prompt = {"F": F, "s": zero + 1.0, "s_half": zero, "e_a": c.a_prefill * t.prompt, "P16": c.peak_16}
    prefill_attention = by_kernels_s(t.prompts.seconds, fused_attention(F, 1.0, 0.0, c.a_prefill * t.prompt, c.peak_16))
    # communication
    moved = 2.0 * m * s.d
    with_layers = c.fixed_times * np.where(prompt > 0, c.prefill_layer, 1.0)
    latency = latency_s(c.tp_latency, c.tp_doubling, s.tp) * with_layers
    link, dispatch = c.link_Bps * c.tp_link, c.exchange_Bps * c.ep_link
    tp = np.where(s.tp > 1, tp_s(s.L, moved, s.tp, latency, link), 0.0)
    moe_layers = np.sum(s.moe_layers, axis=0)
    of_layers = {"kernels": s.kernels, "kernel": zero + c.kernel, "L": s.L, "layer": c.layer * with_layers}
    layers = _layers_s(**of_layers)
    of_moe = {
        "dense": layers,
        "moe_layers": moe_layers,
        "moe_layer": c.moe_layer * with_layers,
        "experts": np.max(s.experts, axis=0),
        "launch": np.where(prompt > 0, c.expert_launch * c.fixed_times, 0.0),
    }
    has_moe = (of_moe["moe_layer"] > 0) | (of_moe["launch"] > 0)
    layers = np.where(has_moe, moe_layers_s(**of_moe), layers)
    fan = np.minimum(np.max(s.top_k, axis=0), np.maximum(ranks, 1.0))
    ep = np.where(s.dp > 1, ep_s(moe_layers, moved, fan, c.ep_latency, dispatch), 0.0)
    cp_latency = c.tp_latency * np.log2(np.maximum(s.cp, 2.0))
    cp = np.where(s.cp > 1, cp_s(s.L, moved, cp_latency, link), 0.0)
    pp = np.where(s.pp > 1, pp_s(s.pp, moved / s.tp, c.tp_latency, link), 0.0)
    with_prompt = np.where(prompt > 0, c.prefill_step, 0.0)
    host = host_s(c.step, c.per_sequence, n, with_prompt)
    parts = {
        "linear": linear,
        "head": head,
        "experts": experts,
        "attention": attention,
        "prefill_attention": prefill_attention,
        "activations": activations_s(s.L, m, s.d, c.activation_passes, B * c.w_16),
        "layers": layers,
        "host": host,
        "tp": tp,
        "ep": ep,
        "cp": cp,
        "pp": pp,
    }
    if timed is not None:
        timed |= t.seconds_of()
    if notes is not None:
        told: dict[str, tuple[Law, dict[str, Floats]]] = {
            "linear": (roof, of_linear),
            "head": (roof, of_head),
            "prefill_attention": (fused_attention, of_prompt),
            "activations": (
                activations_s,
                {"L": s.L, "m": m, "d": s.d, "passes": zero + c.activation_passes, "B": B * c.w_16},
            ),
            "layers": (moe_layers_s, of_moe) if has_moe[0] and moe_layers[0] > 0 else (_layers_s, of_layers),
            "host": (
                host_s,
                {"step": c.step, "per_sequence": c.per_sequence, "n": n, "prefill_step": with_prompt},
            ),
            "tp": (tp_s, {"L": s.L, "bytes_": moved, "ranks": s.tp, "latency": latency, "B": link}),
            "ep": (
                ep_s,
                {"moe_layers": moe_layers, "bytes_": moved, "fan": fan, "latency": c.ep_latency, "B": dispatch},
            ),
            "cp": (cp_s, {"L": s.L, "bytes_": moved, "latency": cp_latency, "B": link}),
            "pp": (pp_s, {"pp": s.pp, "bytes_": moved / s.tp, "latency": c.tp_latency, "B": link}),
        }
        if state[0] > 0:
            told["attention.cache"] = (cached_attention, of_cache)
            told["attention"] = (attention_s, {"cache": cache, "state": state})
        else:
            told["attention"] = (cached_attention, of_cache)
        for name, (law, given) in told.items():
            seconds = cache if name == "attention.cache" else parts[name]
            if seconds[0] > 0 and (law is attention_s or not note_tabled(notes, name, t, c, seconds)):
                notes.add(name, seconds, "s", law, given=given)
    return parts


def total(parts: dict[str, Floats]) -> Floats:
    """Sum of the parts of a step."""
    return np.asarray(sum(parts.values()))
