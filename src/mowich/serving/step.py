"""Time of one engine step (decode tokens, prompt tokens, or both) on one rank, in closed form, for columns of cases.

`plans.shapes.Shapes` is the work: what a model asks of one rank under a plan, without hardware. `EngineCosts` is the
machine and the engine: peak rates of the chip and the fitted efficiencies and latencies of `facts/serving`. `step` puts
them together into named times that sum, by the functions of `operators.law`. Everything is an array over cases [n]
(kinds of layers: [k, n]), so one deployment, a search and the fit of the constants evaluate the same code.
Symbols: m tokens, W weights, P FLOP/s, B bytes/s, S context tokens, L layers, d hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes, told
from mowich.machines.collectives import pipelined_s
from mowich.machines.wires import Wire
from mowich.operators.law import (
    active_experts,
    busiest_rank,
    cached_attention,
    fused_attention,
    passes,
    product,
    products_of_rows,
    unevenness,
)
from mowich.plans.shapes import Shapes
from mowich.serving.parts import PARTS_OF_TOKEN
from mowich.serving.tabled import PlanKernels, TabledStep, tabled_step
from mowich.software.engine import EngineCosts


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


def prompt_attention_s(core: Floats, scan: Floats) -> Floats:
    """Seconds of a prompt's tokens among themselves and against those before: attention, and scans of recurrences.

    T = core + scan

    Units: core s, scan s.
    """
    return np.asarray(core + scan)


def _layers_s(kernels: Floats, kernel: Floats, L: Floats, layer: Floats) -> Floats:
    """Seconds of a step that do not depend on its tokens: launches of its kernels, and what else a layer takes.

    T = kernels * kernel + L * layer

    kernel, layer: on this generation of chips, of such a step.

    Units: kernel s, layer s.
    """
    return np.asarray(kernels * kernel + L * layer)


def launch_wait_s(kernels: Floats, launch: Floats, device: Floats) -> Floats:
    """Seconds that the device waits in a step with a prompt for the host, which launches kernels one after the other:
    the step takes the longer of both.

    T = max(kernels * launch - device, 0)

    kernels: that no captured graph holds; device: what the device takes.

    Units: launch s, device s.
    """
    return np.asarray(np.maximum(kernels * launch - device, 0.0))


def activations_s(L: Floats, m: Floats, d: Floats, passes: Floats, casts_B: Floats, B: Floats) -> Floats:
    """Seconds of passes over the tokens of a step: norms, residuals and rotary embedding at 16 bits a number, and what
    brings the inputs of products into the format of the weights.

    T = (2 * L * m * d * passes + casts_B) / B

    Units: casts_B B, B B/s.
    """
    return np.asarray((2.0 * L * m * d * passes + casts_B) / B)


def moe_layers_s(
    dense: Floats,
    moe_layers: Floats,
    moe_layer: Floats,
    local: Floats,
    visit: Floats,
    experts: Floats,
    ep: Floats,
    q: Floats,
    launch: Floats,
) -> Floats:
    """Seconds of a step that do not depend on its tokens, of a model with experts. Each layer with experts adds
    routing, each expert that a rank visits, and in a step with a prompt launches for its experts. Ranks that share the
    experts save some of the launches, not all.

    T = dense + moe_layers * (moe_layer + local * visit + experts * ep ** -q * launch)

    dense: of all layers; local: visited experts of a layer that a rank has a part of; ep: ranks that share them;
    launch: 0 in a step without a prompt.

    Units: dense s, moe_layer s, visit s, launch s.

    >>> round(float(1e3 * moe_layers_s(3e-3, 58.0, 60e-6, 8.0, 10e-6, 256.0, 64.0, 0.25, 0.0)), 2)  # ms
    11.12
    """
    return np.asarray(dense + moe_layers * (moe_layer + local * visit + experts * ep**-q * launch))


def host_s(step: Floats, per_sequence: Floats, n: Floats, prefill_step: Floats) -> Floats:
    """Seconds of scheduler and sampler.

    T = step + per_sequence * n + prefill_step

    n: sequences; prefill_step: 0 where no prompt is in the step.

    Units: step s, per_sequence s, prefill_step s.
    """
    return np.asarray(step + per_sequence * n + prefill_step)


def tp_s(L: Floats, wire: Floats, wait: Floats) -> Floats:
    """Seconds of the two all-reduces of each layer.

    T = 2 * L * (wire + wait)

    wire: what one takes on the wires, with the engine's own kernels; wait: for the slowest rank.

    Units: wire s, wait s.
    """
    return np.asarray(2.0 * L * (wire + wait))


def ep_s(moe_layers: Floats, inside: Floats, outside: Floats, wait: Floats) -> Floats:
    """Seconds of dispatch and combine of each layer with experts.

    T = 2 * moe_layers * (inside + outside + wait)

    inside, outside: what one takes on the wires of a domain and beyond it.

    Units: inside s, outside s, wait s.
    """
    return np.asarray(2.0 * moe_layers * (inside + outside + wait))


def cp_s(L: Floats, wire: Floats, wait: Floats) -> Floats:
    """Seconds of an exchange in each layer.

    T = L * (wire + wait)

    Units: wire s, wait s.
    """
    return np.asarray(L * (wire + wait))


def pp_s(pp: Floats, wire: Floats, wait: Floats) -> Floats:
    """Seconds of the transfers between pp stages.

    T = (pp - 1) * (wire + wait)

    Units: wire s, wait s.
    """
    return np.asarray((pp - 1.0) * (wire + wait))


_SENT = 0.75
"""Bytes of a dispatch and a combine over those of two in 16 bit: rows go to experts in 8 bits."""


def _told_of_kinds(
    notes: Notes | None, kinds: Mapping[str, int], law: Callable[..., Floats], note: str = ""
) -> Callable[..., Floats]:
    """`estimate.told` of a law for all kinds of layers at once: a term for each of `kinds`, name -> which."""
    if notes is None:
        return law

    def recorded(**given: Floats) -> Floats:
        value = law(**given)
        for name, i in kinds.items():
            of = {symbol: x[i] if np.ndim(x) == 2 else x for symbol, x in given.items()}
            notes.add(name, value[i], "s", law, note=note, given=of)
        return value

    return recorded


def _visited(s: Shapes, c: EngineCosts, m: Floats) -> Floats:
    """Experts of a layer that m tokens of each rank group visit [k, n]."""
    return np.maximum(active_experts(s.experts, s.top_k, np.maximum(m * s.dp, 1e-9) ** c.expert_spread), 1e-9)


def _copies(s: Shapes) -> Floats:
    """Copies of an expert that ranks hold, mean over the experts [k, n]: 1 where none is redundant."""
    return np.asarray(1.0 + np.where(s.experts > 0, s.redundant / np.maximum(s.experts, 1.0), 0.0))


def _experts_s(s: Shapes, c: EngineCosts, m: Floats, notes: Notes | None) -> Floats:
    """Time of the experts of all layers for m tokens per rank group: all tp x dp ranks share the tokens of the dp
    groups."""
    ranks, M = s.tp * s.dp, m * s.dp
    A = _visited(s, c, m)
    rows = M * s.top_k
    slow = np.where(s.ep > 1, c.ep_imbalance * busiest_rank(A, s.experts, s.ep, c.ep_uneven), 1.0)
    again = 1.0 + (c.expert_reads - 1.0) * (1.0 - A / np.maximum(s.experts, 1.0))  # reads of a visited expert
    A = A * _copies(s)  # they share the rows of an expert, and each is read
    local = A / s.ep  # visited experts that a rank has a part of
    h = c.columns_half
    sides = s.W_expert * s.ep / ranks + h * (s.expert_inner + s.expert_outer) + 2.0 * h * h
    kinds = [] if notes is None else np.flatnonzero(s.moe_layers[:, 0] > 0).tolist()
    is_one = len(kinds) == 1
    each = _told_of_kinds(
        notes,
        {"experts.each" if is_one else f"experts.each, kind {i + 1}": i for i in kinds},
        products_of_rows,
        note="one layer, rows of a visited expert; sides: of all that the rank has a part of",
    )(
        m=rows / A,
        A=local * sides * (1.0 + c.misaligned * s.expert_ragged),
        W=local * s.W_expert * s.ep / ranks,
        K=local * s.expert_inner,
        N=local * s.expert_outer,
        M=local * s.expert_longer,
        P=c.rate("expert") * c.expert_compute,
        B=c.hbm_Bps * c.weights_expert * c.reads_expert / again,
        w=s.b_expert,
        m_half=c.half("expert"),
        narrow=c.narrow_columns,
    )
    law = _told_of_kinds(notes, {"experts": kinds[0]} if is_one else {}, step_experts_s)
    out = np.where(m > 0, np.sum(law(moe_layers=s.moe_layers, slow=slow, each=each), axis=0), 0.0)
    if notes is not None and not is_one:
        notes.add("experts", out, "s", words="sum over kinds of layers, by the layers of each")
    return out


@dataclass(frozen=True, slots=True)
class _Work:
    """What a step does on one rank, columns [n]. n: sequences that decode, verify: tokens of each, context: cache that
    they see; prompt: new tokens of prompts, rows: of these on one context rank, prompt_context: what they see on
    average; m: tokens in all, m_head: those that are sampled."""

    n: Floats
    verify: Floats
    context: Floats
    prompt: Floats
    rows: Floats
    prompt_context: Floats
    m: Floats
    m_head: Floats

    def with_prompt(self, yes: Floats | float, no: Floats | float) -> Floats:
        """One number for steps with a prompt, another for those without."""
        return np.where(self.prompt > 0, yes, no)


_MESSAGES = ("tp.wire", "ep.inside", "ep.outside", "cp.wire", "pp.wire")
"""Terms of one message, told behind the parts that send it."""


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
    kernels: PlanKernels | None = None,
) -> dict[str, Floats]:
    """Seconds of one engine step by part, on one rank of a worker (all columns [n]); `notes` (one case only) records
    every part; `timed` gets the seconds of each that operator tables hold; `kernels`: what was read from them before.

    n: sequences decoding on this rank (a compiled graph computes `EngineCosts.compiled` at least), each verifying
    `verify` tokens against `context` tokens of cache. prompt: new prompt tokens in the step, that attend to
    `prompt_context` tokens on average (their own prefix included); finishing: prompts whose first token is sampled.
    Assumes even lengths and experts routed as `expert_spread` says; no overlap between parts. Breaks for batches so
    uneven that one long sequence decides the attention time.
    """
    zero = np.zeros(len(s))
    n, v, prompt, finishing = zero + n, zero + verify, zero + prompt, zero + finishing
    n = np.where(n > 0, np.maximum(n, c.compiled / np.maximum(s.pp, 1.0)), n)  # a graph computes its whole batch
    rows = prompt / s.cp
    w = _Work(n, v, zero + context, prompt, rows, zero + prompt_context, n * v + rows, n * v + finishing)
    t = tabled_step(
        s,
        c,
        m=w.m,
        m_head=w.m_head,
        n=n,
        verify=v,
        context=w.context,
        prompt=rows,
        prompts=finishing,
        prompt_context=w.prompt_context,
        kernels=kernels,
    )
    own = None if notes is None else Notes(notes.moved)
    found = _products(s, c, w, t, own) | _attention(s, c, w, t, own) | _fixed(s, c, w, own) | _exchanges(s, c, w, own)
    found["launches"] = _launches(s, c, w, total(found) - found["host"], own)
    if timed is not None:
        timed |= t.seconds_of()
    if notes is not None and own is not None:
        own.terms |= {name: own.terms.pop(name) for name in _MESSAGES if name in own.terms}
        own.drop_zeros()
        notes.take(own)
    return {part.name: found[part.name] for part in PARTS_OF_TOKEN}


def _products(s: Shapes, c: EngineCosts, w: _Work, t: TabledStep, notes: Notes | None) -> dict[str, Floats]:
    """Products with weights, and the passes over their inputs."""
    zero, B = np.zeros(len(s)), c.hbm_Bps
    sides, rest, vocab = s.linear, t.linear.rest, s.W_head / s.d
    linear = told(notes, "linear", products_of_rows)(
        m=w.m,
        A=sides.area(c.columns_half, c.misaligned) * rest,
        W=s.W_linear * rest,
        K=sides.total("inner") * rest,
        N=sides.total("outer") * rest,
        M=sides.total("longer") * rest,
        P=c.rate("linear") * w.with_prompt(c.prompt_products, 1.0),
        B=B * c.weights_linear * c.reads_linear,
        w=s.b_linear,
        m_half=zero + c.half("linear"),
        narrow=zero + c.narrow_columns,
    )
    head = told(notes, "head", product)(
        m=w.m_head,
        n=vocab,
        k=s.d,
        groups=zero + t.head.rest,
        P=c.rate("16"),
        B=B * c.weights_16,
        w=zero + 2.0,
        m_half=zero + c.rows_half,
        n_half=zero + c.columns_half,
        narrow=zero + c.narrow_columns,
        Q=unevenness(vocab, s.d, c.misaligned),
    )
    casts = np.where(c.is_low_linear > 0, c.quantise_linear * w.m * sides.total("inner"), 0.0)
    experts = zero
    if np.any(s.moe_layers):
        experts = _experts_s(s, c, w.m, notes)
        # a token once, before it is sent to its experts, or after all ranks have gathered it; the inputs of their
        # second product row by row
        tokens, rows = np.where(s.ep > 1, w.m, w.m * s.dp), w.m * s.dp / s.ep * s.top_k
        of_layer = tokens * s.expert_width + rows * (s.expert_inner - s.expert_width)
        inputs = np.sum(s.moe_layers * of_layer, axis=0)
        casts = casts + np.where(c.is_low_expert > 0, c.quantise_expert * inputs, 0.0)
    return {
        "linear": t.linear.with_rest(linear, notes, "linear"),
        "head": t.head.with_rest(head, notes, "head"),
        "experts": experts,
        "activations": told(notes, "activations", activations_s)(
            L=s.L, m=w.m, d=s.d, passes=zero + c.activation_passes, casts_B=casts, B=B * c.memory
        ),
    }


def _attention(s: Shapes, c: EngineCosts, w: _Work, t: TabledStep, notes: Notes | None) -> dict[str, Floats]:
    """Attention of decoding tokens with their caches and states, and of a prompt's tokens."""
    zero, B = np.zeros(len(s)), c.hbm_Bps
    seen = np.minimum(w.context, s.window)
    kv_B = np.sum(s.att_layers * s.kv * seen, axis=0) * w.n * s.b_kv / s.cp
    flop = np.sum(s.att_layers * s.f_dec * seen, axis=0) * w.n * w.verify / s.cp
    state = passes(w.n * s.state_B, 2.0, B * c.a_decode)
    name = "attention.cache" if state[0] > 0 else "attention"
    cache = told(notes, name, cached_attention)(
        bytes_=kv_B * t.caches.rest, F=flop * t.caches.rest, B=B * c.a_decode, P=c.peak_16 * c.mla_compute
    )
    cache = t.caches.with_rest(cache, notes, name)
    decoding = told(notes if state[0] > 0 else None, "attention", attention_s)(cache=cache, state=state)

    s_half, e_a = zero + c.attention_half, zero + np.minimum(c.attention * c.attention_kernels, 1.0)
    pairs = np.sum(s.att_layers * s.f_pre * np.minimum(w.prompt_context, s.window), axis=0) * w.rows
    scans = w.rows * s.f_token
    name = "prefill_attention.core" if scans[0] > 0 else "prefill_attention"
    core = told(notes, name, fused_attention)(
        F=pairs * t.prompts.rest, s=np.maximum(2.0 * w.prompt_context, 1.0), s_half=s_half, e_a=e_a, P16=c.peak_16
    )
    core = t.prompts.with_rest(core, notes, name)
    with_scan = notes if scans[0] > 0 else None
    scan = told(with_scan, "prefill_attention.scan", fused_attention)(
        F=scans, s=zero + 1.0, s_half=zero, e_a=e_a, P16=c.peak_16
    )
    prompts = told(with_scan, "prefill_attention", prompt_attention_s)(core=core, scan=scan)
    return {"attention": decoding, "prefill_attention": prompts}


def _fixed(s: Shapes, c: EngineCosts, w: _Work, notes: Notes | None) -> dict[str, Floats]:
    """What layers and the host take whatever the tokens."""
    with_layers = c.fixed_times * w.with_prompt(c.prefill_layer, 1.0)
    moe_layers, zero = np.sum(s.moe_layers, axis=0), np.zeros(len(s))
    with_norms = np.where((s.tp > 1) & (c.reduce_crosses == 0), 2.0 * s.L * c.reduce_norms, 0.0)
    moe_layer, visit = c.moe_layer * with_layers, zero + c.expert_visit * c.fixed_times
    launch = w.with_prompt(c.expert_launch * c.fixed_times, 0.0)
    layers = told(notes, "layers", _layers_s)(
        kernels=s.kernels - with_norms,
        kernel=zero + c.fixed_times * c.kernel,
        L=s.L,
        layer=c.layer * with_layers,
    )
    with_moe = notes if moe_layers[0] > 0 and (moe_layer[0] > 0 or visit[0] > 0 or launch[0] > 0) else None
    local = zero
    if np.any(visit > 0):  # of a layer with experts, in the mean of their kinds; a rank is as late as one that has one
        each = np.where(s.moe_layers > 0, np.maximum(_visited(s, c, w.m) * _copies(s) / s.ep, 1.0), 0.0)
        local = np.sum(s.moe_layers * each, axis=0) / np.maximum(moe_layers, 1.0)
    return {
        "layers": told(with_moe, "layers", moe_layers_s)(
            dense=layers,
            moe_layers=moe_layers,
            moe_layer=moe_layer,
            local=local,
            visit=visit,
            experts=np.max(s.experts, axis=0),
            ep=s.ep,
            q=zero + c.launch_ep,
            launch=launch,
        ),
        "host": told(notes, "host", host_s)(
            step=zero + c.step,
            per_sequence=c.per_sequence + np.where(w.verify > 1, c.guess_host, 0.0),
            n=w.n,
            prefill_step=w.with_prompt(c.prefill_step, 0.0),
        ),
    }


def _launches(s: Shapes, c: EngineCosts, w: _Work, device: Floats, notes: Notes | None) -> Floats:
    """What the host's launches take beyond the device: graphs hold the steps of few tokens, but for some kernels of
    prompts, and none of longer ones."""
    by_host = s.uncaptured + np.where(w.m <= c.capture, 0.0, s.kernels)
    launch = w.with_prompt(c.prefill_kernel, 0.0)
    law = told(notes if launch[0] > 0 else None, "launches", launch_wait_s)
    return law(kernels=by_host, launch=launch, device=device)


def _exchanges(s: Shapes, c: EngineCosts, w: _Work, notes: Notes | None) -> dict[str, Floats]:
    """Messages among the ranks of a worker."""
    zero, moved = np.zeros(len(s)), 2.0 * w.m * s.d
    stage, next_ = (wire.by_software(c.tp_graph, c.tp_wires) for wire in (c.wires.stage, c.wires.next))
    # kernels of the engine reduce within a domain; beyond it the library does
    reduce = c.wires.reduce.by_software(np.where(c.reduce_crosses > 0, 1.0, c.tp_graph), c.tp_wires)
    inside, outside = (wire.by_software(c.tp_graph, c.ep_wires) for wire in (c.wires.inside, c.wires.outside))
    wait = zero + c.tp_latency
    sent = _SENT * moved * np.minimum(np.max(s.top_k, axis=0), np.maximum(s.tp * s.dp, 1.0))
    ranks = {"tp": s.tp, "ep": s.dp, "cp": s.cp, "pp": s.pp}
    of = {name: notes if num[0] > 1 else None for name, num in ranks.items()}
    parts = {
        "tp": told(of["tp"], "tp", tp_s)(
            L=s.L,
            wire=_reduce_s(of["tp"], c, reduce, moved, s.tp),
            wait=wait * (c.fixed_times * w.with_prompt(c.prefill_layer, 1.0)),
        ),
        "ep": told(of["ep"], "ep", ep_s)(
            moe_layers=np.sum(s.moe_layers, axis=0),
            inside=_wire_s(of["ep"], "ep.inside", inside, sent, s.dp),
            outside=_wire_s(of["ep"], "ep.outside", outside, sent, s.dp),
            wait=zero + c.ep_latency,
        ),
        "cp": told(of["cp"], "cp", cp_s)(L=s.L, wire=_wire_s(of["cp"], "cp.wire", next_, moved, s.cp), wait=wait),
        "pp": told(of["pp"], "pp", pp_s)(
            pp=s.pp, wire=_wire_s(of["pp"], "pp.wire", stage, moved / s.tp, s.pp), wait=wait
        ),
    }
    return {name: np.where(ranks[name] > 1, seconds, 0.0) for name, seconds in parts.items()}


def lines_s(L: Floats, b: Floats, S: Floats) -> Floats:
    """Seconds of a message by the line that was measured for its size.

    T = L + b * S

    Units: L s, b s/B, S B.
    """
    return np.asarray(L + b * S)


def _reduce_s(notes: Notes | None, c: EngineCosts, wire: Wire, data_B: Floats, ranks: Floats) -> Floats:
    """Seconds of an all-reduce of tensor parallel ranks: as it was measured with the engine, else by the law."""
    is_measured = c.wires.lines.is_measured
    if not is_measured.any():
        return _wire_s(notes, "tp.wire", wire, data_B, ranks)
    L, b = c.wires.lines.taken(data_B)
    if is_measured.all():
        law = told(notes, "tp.wire", lines_s, note="one message, by a measured table of this chip and engine")
        return law(L=L, b=b, S=data_B)
    return np.where(is_measured, lines_s(L, b, data_B), _wire_s(None, "tp.wire", wire, data_B, ranks))


def _wire_s(notes: Notes | None, name: str, wire: Wire, data_B: Floats, ranks: Floats) -> Floats:
    """Seconds of messages on a wire; zeros where no group has two ranks."""
    if not np.any(ranks > 1):
        return np.zeros_like(data_B)
    if notes is None:
        return wire.seconds(data_B)
    L, b = wire.taken(data_B)
    law = told(notes, name, pipelined_s, note="one message")
    return law(L=L, b=b, S=data_B, g=wire.pipeline, r=wire.pipeline_limit)


def total(parts: dict[str, Floats]) -> Floats:
    """Sum of the parts of a step."""
    return np.asarray(sum(parts.values()))
