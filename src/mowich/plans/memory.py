"""Bytes per device of a plan, by category: of a training plan for the fullest stage, and of a worker that serves.

Columns of plans in, columns of bytes out. A plan fits when the sum is at most what a program may use on the device.
Activation bytes follow from the layer's shapes with fused attention (no seq x seq matrix is kept).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes, told
from mowich.machines.system import PRECISIONS
from mowich.models import ops
from mowich.models.model import Layer, Model, Moe
from mowich.plans.plan import EXPERTS_AGAIN, OFFLOAD_BITS, OFFLOADS, Plans, TrainJob
from mowich.plans.schedules import ZB_V, copies, in_flight, in_flight_at_head
from mowich.software.stack import Platform

if TYPE_CHECKING:
    from mowich.plans.shapes import Shapes
    from mowich.software.engine import Engine

CATEGORIES = ("weights", "gradients", "optimizer", "activations", "temporary", "reserve")

TIME_FIELDS = ("order", "tp_overlap", "dp_overlap", "pp_scatter")
"""Fields of a plan that change its time and not its memory."""

MEMORY_FIELDS = tuple(f.name for f in fields(Plans) if f.name not in TIME_FIELDS)
"""Fields of a plan that its memory depends on."""


def layers_per_stage(model: Model, p: Plans) -> Floats:
    """Layers of the fullest stage: vpp whole chunks of ceil(L / (pp vpp)) layers, at most all layers."""
    L = float(model.num_layers)
    even = np.minimum(np.ceil(L / (p.pp * p.vpp)) * p.vpp, np.ceil(L / p.pp) + (p.vpp > 1))
    return np.asarray(np.where(p.split > 0, stage_split(model, p)[0], even) if np.any(p.split > 0) else even)


def head_layers(model: Model) -> float:
    """The size of the head in layers, by the parameters that a token meets. A balanced split makes room for that many
    layers."""
    outside = model.embedding_params + model.head_params
    return model.heads * float(model.vocab) * model.hidden * model.num_layers / (model.params_active - outside)


def stage_split(model: Model, p: Plans) -> tuple[Floats, Floats]:
    """(layers of every stage but the last, layers of the last) of a balanced split: k and L - k (pp-1), of k =
    ceil(L/pp) and k = ceil((L+H)/pp) the one whose slowest device, max(k, last + H), is the faster; H: `head_layers`.
    A device of DualPipe works half of the time in the last stage and half in the first: max(k, (k + last + H)/2)."""
    L, H = float(model.num_layers), head_layers(model)
    few, more = np.ceil(L / p.pp), np.ceil((L + H) / p.pp)

    def last(k: Floats) -> Floats:
        return np.maximum(0.0, L - k * (p.pp - 1.0))

    def slowest(k: Floats) -> Floats:
        return np.maximum(k, np.where(copies(p) > 1, (k + last(k) + H) / 2.0, last(k) + H))

    better = slowest(more) < slowest(few)
    k = np.where(better, more, few)
    return k, last(k)


def _split(layer: Layer, hidden: int, tp: Floats) -> Floats:
    """Dense parameters of one layer on one of tp ranks: matrices split, norms and replicated projections whole."""
    total = np.full_like(tp, float(layer.norm_params))
    for gemm in ops.dense_gemms(layer, hidden):
        if gemm.is_held:
            n, k = gemm.local(tp)
            total = total + n * k
    return total


def dense_params_per_device(model: Model, p: Plans) -> Floats:
    """Parameters on one device of the fullest stage, experts left out: its layers plus the larger of embedding and head
    (both on one stage when pp = 1)."""
    per_stage = matrix_params_per_device(model, p)
    ends = float(model.embedding_params) / p.tp
    head = float(model.head_params) / p.tp
    # in a V the first device also holds the last stage; so do DualPipe's two directions
    return np.asarray(per_stage + np.where((p.pp == 1) | (p.schedule >= ZB_V), ends + head, np.maximum(ends, head)))


def matrix_params_per_device(model: Model, p: Plans) -> Floats:
    """Parameters of layers on one device of the fullest stage, experts, embedding and head left out: matrices, and the
    few of norms."""
    distinct, inverse = p.unique("tp")
    total = sum(
        (layer.count * _split(layer, model.hidden, distinct.tp) for layer in model.work), np.zeros_like(distinct.tp)
    )[inverse]
    return np.asarray(total / model.num_layers * layers_per_stage(model, p) * copies(p))


def expert_params_per_device(model: Model, p: Plans) -> Floats:
    """Routed-expert parameters on one device of the fullest stage: num_experts / ep experts, each cut etp ways."""
    total = 0.0
    for layer in model.layers:
        if isinstance(layer.ffn, Moe):
            total += float(layer.count) * layer.ffn.num_experts * layer.ffn.expert_matmul_params(model.hidden)
    return np.asarray(total / model.num_layers * layers_per_stage(model, p) * copies(p) / (p.ep * p.etp))


def sharding_ranks(p: Plans) -> tuple[Floats, Floats]:
    """Ranks over which ZeRO cuts what a device has of (dense parameters, experts): those of its sharding group, or all
    data ranks; of experts those among them that hold the same ones."""
    ranks = p.group * copies(p)
    return np.asarray(ranks * p.cp), np.maximum(1.0, p.tp * p.cp * ranks / (p.ep * p.etp))


def adapter_params_per_device(model: Model, job: TrainJob, p: Plans) -> Floats:
    """Adapter weights on one device of the fullest stage; zero when every weight trains. The factor on the side that
    tensor parallelism cuts is cut with it."""
    lora = job.adapters
    total = np.zeros_like(p.tp)
    if lora is None:
        return total
    for layer in model.layers:
        for gemm in lora.gemms(layer, model.hidden):
            n, k = gemm.local(p.tp)
            total = total + layer.count * lora.rank * (n + k)
    return np.asarray(total / model.num_layers * layers_per_stage(model, p))


def activation_B_per_layer(model: Model, layer: Layer, system: Platform, job: TrainJob, p: Plans) -> Floats:
    """Bytes that one layer keeps for backward, one micro-batch, by recompute mode.

    none: inputs of every matrix multiplication and norm, q, k, v, the attention output and its statistics, and the
    feed-forward's intermediate values, 2 B each (GEMM inputs of 8-bit recipes less). selective: norms, activation
    functions and MLA up-projections are recomputed. full: the layer's input only. experts: of a mixture of experts its
    input only. Before fused attention "selective" recomputes the attention core only, and "none" keeps 5 B per score
    (Korthikanti et al. 2022).
    """
    h, keeps = float(model.hidden), ops.kept_by_layer(layer, model.hidden, float(job.seq))
    t = p.micro_batch * job.seq / p.cp
    spread = np.where(p.sp > 0, p.tp, 1.0)

    def on_rank(part: ops.RankPart) -> Floats:
        return part.on_rank(p.tp, spread)

    q_kv = on_rank(keeps.queries) + on_rank(keeps.keys)
    low = np.where(p.precision == PRECISIONS.index("bf16"), 1.0, system.stack.stored_activation_8bit)
    # per block a GEMM input (normed) and the residual streams; whole: the share of inputs that are kept as gathered
    whole = np.where((p.sp > 0) & (p.regather == 0), 1.0 - 1.0 / p.tp, 0.0)
    lora = job.adapters  # a frozen matrix without an adapter needs no input for backward
    inputs = low * keeps.inputs_of(lora.targets if lora else None) * (1.0 / spread + whole)
    kept = inputs + layer.blocks * layer.streams * h / spread
    kept = kept + (keeps.latent / spread + on_rank(keeps.outputs) + 4.0 * on_rank(keeps.statistics) / 2.0)
    scores = np.where((p.recompute == 0) | (p.recompute == EXPERTS_AGAIN) | (not keeps.is_latent), q_kv, 0.0)
    up, down = on_rank(keeps.up), on_rank(keeps.down)
    gate = system.stack.unfused_gate
    inner = up + gate * np.maximum(up - down, 0.0) + (low * down if lora is None or lora.adapts("mlp_down") else 0.0)
    inner_selective = up
    inner_experts = inner
    if isinstance(layer.ffn, Moe):
        inner_experts = 0.0 * inner
        outputs = ops.ffn_width(layer.ffn)[1]
        gate = gate * (outputs - 1.0)
        rows = layer.ffn.top_k * p.etp / p.tp  # rows per token on this device
        w = layer.ffn.width(model.hidden)
        inner = inner + rows * (low * w + (outputs + gate + low) * layer.ffn.ffn / p.etp)
        inner_selective = inner_selective + rows * (low * w + outputs * layer.ffn.ffn / p.etp)
    none = 2.0 * t * (kept + scores + inner)
    selective = 2.0 * t * (kept - inputs / 2.0 + scores + inner_selective)
    if system.stack.unfused_attention:  # selective then means the attention core alone
        selective = none
        none = none + 5.0 * t * job.seq * on_rank(keeps.scores)
    else:
        by_software = system.stack.unfused_encoder and not layer.attention.causal
        written = keeps.scores if by_software else keeps.unfused
        if written != ops.RankPart():
            none, selective = (kept_B + 5.0 * t * job.seq * on_rank(written) for kept_B in (none, selective))
    full = 2.0 * t * layer.streams * h / spread
    kept_B = np.where(p.recompute == 2, full, np.where(p.recompute == 1, selective, none))
    if np.any(p.recompute == EXPERTS_AGAIN):
        experts = 2.0 * t * (kept + scores + inner_experts)
        kept_B = np.where(p.recompute == EXPERTS_AGAIN, experts, kept_B)
    return np.asarray(kept_B)


def away(p: Plans) -> dict[str, Floats]:
    """1 where a part of a plan's state is in the host's memory, by name of the part."""
    code = p.offload.astype(np.intp)
    return {name: _AWAY[bit][code] for bit, name in enumerate(OFFLOAD_BITS)}


_AWAY = np.array([[float(code >> bit & 1) for code in range(len(OFFLOADS))] for bit in range(len(OFFLOAD_BITS))])
"""[part of OFFLOAD_BITS, code of OFFLOADS] -> whether the part is in the host's memory."""


def optimizer_state_B(system: Platform, job: TrainJob) -> Floats | float:
    """Bytes of optimizer states per parameter: of the job's optimizer, and of the outer one that joins several
    sites."""
    return system.stack.optimizer_memory_B + (system.stack.outer_memory_B if job.sites > 1 else 0.0)


def layer_activations_B(model: Model, system: Platform, job: TrainJob, p: Plans) -> Floats:
    """Bytes that an average layer keeps for backward, one micro-batch."""
    return _layers_of_modes(model, system, job, p, None)[0] / model.num_layers


def host_memory_B(model: Model, system: Platform, job: TrainJob, p: Plans, g: Floats) -> Floats:
    """Bytes per device that a plan keeps in the host's memory."""
    gone, s = away(p), system.stack
    dense, expert = dense_params_per_device(model, p), expert_params_per_device(model, p)
    shard, e_shard = (np.where(p.zero >= 1, ranks, 1.0) for ranks in sharding_ranks(p))
    kept = layer_activations_B(model, system, job, p) * layers_per_stage(model, p) * in_flight(p, g)
    away_share = np.maximum(gone["activations"], np.minimum(1.0, s.offloaded_layers / model.num_layers))
    return np.asarray(
        gone["weights"] * (s.weight_B + s.grad_memory_B) * (dense + expert)
        + away_share * kept
        + gone["optimizer"] * optimizer_state_B(system, job) * (dense / shard + expert / e_shard)
    )


_STATE = (("weights", "weight_B", 3), ("gradients", "grad_memory_B", 2), ("optimizer", "optimizer_memory_B", 1))
"""The bytes that a plan holds for each parameter: category, field of the stack, ZeRO stage from which it is cut."""


def memory_B(
    model: Model,
    system: Platform,
    job: TrainJob,
    p: Plans,
    g: Floats,
    notes: Notes | None = None,
    modes: Mapping[str, Floats] | None = None,
) -> dict[str, Floats]:
    """Bytes per device by category, fullest stage; g: micro-batches per step. Categories sum to the total.

    modes: recompute and precision [m] that replace each plan's own; the columns are then [n, m], or [n, 1] where no
    mode changes them. Not with offload.

    The first stage holds the most activations, the last one the logits; the sum takes the larger of the two extras.
    `training.memory_time` plays out what each device holds, and peaks at this sum.
    """

    def dealt(column: Floats) -> Floats:
        """A column beside those of the modes."""
        return column[:, None] if modes else column

    s, layers = system.stack, layers_per_stage(model, p)
    dense, expert = dense_params_per_device(model, p), expert_params_per_device(model, p)
    per_layer, biggest, widest_rows = _layers_of_modes(model, system, job, p, modes)
    recompute = modes["recompute"] if modes else p.recompute
    flying = in_flight(p, g)
    held, here = _on_device(p, layers, layers * flying * (1.0 - np.minimum(1.0, s.offloaded_layers / model.num_layers)))
    of_activations = {"per_layer": per_layer / model.num_layers, "held": dealt(held)}
    activations = told(
        notes,
        "memory.activations",
        kept_B,
        unit="B",
        also={"layers_per_stage": layers, "in_flight": flying, "tokens": p.micro_batch * job.seq / p.cp},
        note="held: layers of a stage x micro-batches in flight, less what travels to the host",
    )(**of_activations)
    of_temporary = {
        # one layer, whole, while its backward runs; not at the same time as the loss
        "recomputed": np.where(recompute >= 2, biggest, 0.0),
        "logits": dealt(p.micro_batch * job.seq / p.cp * float(model.vocab) / p.tp * s.logit_B),
        "activations": activations,
        "at_head": dealt(in_flight_at_head(p, g) / flying),
        "gathered": dealt(np.where(p.zero == 3, 2.0 * s.weight_B * gathered_params(p, dense, expert) / layers, 0.0)),
        "expert_buffers": widest_rows,
    }
    of_state = _state(model, system, job, p, dense, expert, here)
    out = {
        **{
            name: dealt(told(notes, f"memory.{name}", held_B, unit="B", also={"zero": p.zero})(**given))
            for name, given in of_state.items()
        },
        "activations": activations,
    }
    out["temporary"] = temporary = told(notes, "memory.temporary", temporary_B, unit="B")(**of_temporary)
    out["reserve"] = told(notes, "memory.reserve", reserve_B, unit="B")(
        runtime=system.efficiency.runtime_reserve,
        groups=dealt(groups_of_ranks(p)),
        communicator=s.communicator_B,
        workspace=s.workspace_B,
        graph_pool=s.graph_pool_B,
        fragmentation=s.fragmentation,
        moving=activations + temporary,
    )
    return out


def gathered_params(p: Plans, dense: Floats, expert: Floats) -> Floats:
    """Parameters that a device gathers before use where weights are sharded. Experts that no other rank holds are whole
    already."""
    return dense + np.where(sharding_ranks(p)[1] > 1, expert, 0.0)


def _layers_of_modes(
    model: Model, system: Platform, job: TrainJob, p: Plans, modes: Mapping[str, Floats] | None
) -> list[Floats]:
    """`_layer_extremes` of each plan as it is [n], or in each mode [n, m]."""
    distinct, inverse = p.unique("tp", "sp", "cp", "etp", "micro_batch", "recompute", "precision", "regather")
    if not modes:
        return [v[..., inverse] for v in _layer_extremes(model, system, job, distinct)]
    m, size = len(modes["recompute"]), len(distinct)
    each = distinct.take(np.repeat(np.arange(size), m))
    each = replace(each, **{name: np.tile(v, size) for name, v in modes.items()})
    return [v.reshape(size, m)[inverse] for v in _layer_extremes(model, system, job, each)]


def _on_device(p: Plans, layers: Floats, held: Floats) -> tuple[Floats, dict[str, Floats]]:
    """(layers x micro-batches whose activations a device holds, the share of its weights and optimizer state that it
    holds). Of offloaded parts it holds two layers: the one at work and the one in transfer."""
    if not np.any(p.offload > 0):
        return held, dict.fromkeys(OFFLOAD_BITS, np.ones(1))
    gone = away(p)
    here = {name: np.where(is_away > 0, np.minimum(1.0, 2.0 / layers), 1.0) for name, is_away in gone.items()}
    return np.where(gone["activations"] > 0, np.minimum(held, 2.0), held), here


def _state(
    model: Model,
    system: Platform,
    job: TrainJob,
    p: Plans,
    dense: Floats,
    expert: Floats,
    here: Mapping[str, Floats],
) -> dict[str, dict[str, Floats]]:
    """The arguments of `held_B` for the weights, and for the state of each trained parameter (only the adapters where
    the base is frozen)."""
    (d_ranks, e_ranks), one = sharding_ranks(p), np.ones_like(p.dp * p.cp)
    small = adapter_params_per_device(model, job, p)
    saves_B = 0.0 if job.frozen_base else system.stack.matrix_saves_B
    out = {}
    for name, field, sharded_from in _STATE:
        cut, is_weights = p.zero >= sharded_from, name == "weights"
        trains = is_weights or not job.frozen_base
        ranks = np.where(cut, d_ranks, 1.0)
        out[name] = {
            "bytes": one * (optimizer_state_B(system, job) if name == "optimizer" else getattr(system.stack, field)),
            "dense": dense if trains else 0.0 * dense,
            "experts": expert if trains else 0.0 * expert,
            "dense_ranks": ranks,
            "expert_ranks": np.where(cut, e_ranks, 1.0),
            "adapters": small if is_weights or job.frozen_base else 0.0 * one,
            "adapter_ranks": one if is_weights else ranks,
            "here": here["optimizer" if name == "optimizer" else "weights"],
        }
        if saves_B and name == "optimizer":  # what it does not keep of a layer's matrices
            matrices, per_B = matrix_params_per_device(model, p), saves_B / optimizer_state_B(system, job)
            out[name] |= {"dense": dense - per_B * matrices, "experts": expert * (1.0 - per_B)}
    return out


def held_B(
    bytes: Floats | float,
    dense: Floats,
    experts: Floats,
    dense_ranks: Floats,
    expert_ranks: Floats,
    adapters: Floats,
    adapter_ranks: Floats,
    here: Floats,
) -> Floats:
    """Bytes on a device of something kept for each parameter.

    T = here * (bytes * (dense / dense_ranks + experts / expert_ranks) + bytes * adapters / adapter_ranks)

    bytes: of a parameter; dense, experts, adapters: parameters of the device, cut over so many ranks by ZeRO (those of
    matrices count in part where the optimizer keeps less of them); here: the share that is on the device and not with
    the host.

    Units: bytes B.
    """
    return np.asarray(
        here * (bytes * (dense / dense_ranks + experts / expert_ranks) + bytes * adapters / adapter_ranks)
    )


def kept_B(per_layer: Floats, held: Floats) -> Floats:
    """Bytes of activations kept for the backward pass.

    T = per_layer * held

    per_layer: of the mean layer and one micro-batch; held: layers and micro-batches that are held at a time.

    Units: per_layer B.
    """
    return np.asarray(per_layer * held)


def groups_of_ranks(p: Plans) -> Floats:
    """Groups of more than one rank in which a device exchanges: tensor, pipeline, context, data and expert, and the one
    that joins sharding groups."""
    groups = (p.tp, p.pp, p.cp, p.group * p.cp, p.ep, *((p.dp / p.group,) if p.has_groups else ()))
    return np.asarray(sum((ranks > 1).astype(float) for ranks in groups))


def reserve_B(
    runtime: Floats | float,
    groups: Floats,
    communicator: Floats | float,
    workspace: Floats | float,
    graph_pool: Floats | float,
    fragmentation: Floats | float,
    moving: Floats,
) -> Floats:
    """Bytes of a device that no tensor of the model uses.

    T = runtime + groups * communicator + workspace + graph_pool + fragmentation * moving

    runtime: of the driver and its libraries; groups: of ranks that a device talks in, each with buffers of
    `communicator` bytes; workspace: of libraries; graph_pool: of captured graphs; moving: bytes that come and go in a
    step, of which the allocator wastes a share.

    Units: runtime B, communicator B, workspace B, graph_pool B, moving B.
    """
    return np.asarray(runtime + groups * communicator + workspace + graph_pool + fragmentation * moving)


def temporary_B(
    recomputed: Floats, logits: Floats, activations: Floats, at_head: Floats, gathered: Floats, expert_buffers: Floats
) -> Floats:
    """Bytes that a device needs for a while: the larger of a layer that is recomputed and of the logits beyond what the
    device of the head has free, with gathered weights and buffers of experts.

    T = max(recomputed, logits - activations * (1 - at_head)) + gathered + expert_buffers

    at_head: activations that the device of the head holds while it computes a loss, over those of the fullest device.

    Units: recomputed B, logits B, activations B, gathered B, expert_buffers B.
    """
    beyond = logits - activations * (1.0 - at_head)
    return np.asarray(np.maximum(recomputed, beyond) + gathered + expert_buffers)


def _layer_extremes(model: Model, system: Platform, job: TrainJob, p: Plans) -> tuple[Floats, Floats, Floats]:
    """Bytes kept by all layers together; by the largest layer while it is recomputed; in its expert dispatch
    buffers."""
    total, biggest, buffers = np.zeros(len(p)), np.zeros(len(p)), np.zeros(len(p))
    kept_whole = replace(p, recompute=np.zeros(len(p)))
    for layer in model.work:
        total = total + layer.count * activation_B_per_layer(model, layer, system, job, p)
        if np.any(p.recompute >= 2):  # else it is not needed
            biggest = np.maximum(biggest, activation_B_per_layer(model, layer, system, job, kept_whole))
        if isinstance(layer.ffn, Moe):
            rows = p.micro_batch * job.seq / p.cp * layer.ffn.top_k * p.etp / p.tp
            buffers = np.maximum(buffers, 2.0 * 2.0 * rows * layer.ffn.width(model.hidden))
    return total, biggest, buffers


# serving
# ----------------------------------------------------------------------------------------------------------------------


def weights_B(s: Shapes, notes: Notes | None = None) -> Floats:
    """Bytes of weights on one device: linear and head over pp stages, experts over all ranks of a stage, embedding like
    the head."""
    held = np.where(s.experts > 0, s.experts + s.redundant, 0.0)
    experts = np.sum(s.moe_layers * held * s.W_expert, axis=0) * s.b_expert
    return told(notes, "weights", served_weights_B, unit="B")(
        linear=s.W_linear, b=s.b_linear, experts_B=experts, ranks=s.tp * s.dp, pp=s.pp, head=s.W_head
    )


def served_weights_B(linear: Floats, b: Floats, experts_B: Floats, ranks: Floats, pp: Floats, head: Floats) -> Floats:
    """Bytes of weights of a rank of an engine.

    T = (linear * b + experts_B / ranks) / pp + 4 * head / min(pp, 2)

    linear, head: weights of all layers, and of the head, in 16 bit and as large as the embedding; b: bytes of a weight;
    experts_B: of all experts and copies of them, over the ranks of a stage.

    Units: b B, experts_B B.
    """
    return np.asarray((linear * b + experts_B / ranks) / pp + 2.0 * 2.0 * head / np.minimum(pp, 2.0))


def kept_by_engine_B(
    usable: Floats | float, share: Floats | float, reserve: Floats | float, taken: Floats | float
) -> Floats:
    """Bytes of a device that an engine does not use, and bytes of its own reserve.

    T = max(usable - taken, 0) * (1 - share) + reserve

    share: of the memory that the engine may use; taken: of the memory before that share is taken: 0, or weights and
    reserve where the share is of what is free beside them.

    Units: usable B, reserve B, taken B.
    """
    return np.asarray(np.maximum(usable - taken, 0.0) * (1.0 - share) + reserve)


def cache_room_B(usable: Floats | float, weights: Floats, reserve: Floats) -> Floats:
    """Bytes of a device for caches; negative where the weights do not fit.

    T = usable - weights - reserve

    Units: usable B, weights B, reserve B.
    """
    return np.asarray(usable - weights - reserve)


def kv_B_per_sequence(s: Shapes, tokens: Floats) -> Floats:
    """Bytes of cache and state on one device that one sequence of `tokens` tokens holds: windowed layers keep their
    window."""
    kept = np.minimum(tokens, s.held)
    cache = np.sum(s.att_layers * s.kv * kept, axis=0) * s.b_kv / s.cp
    return np.asarray((cache + s.state_B) / s.pp)


def serving_memory_B(s: Shapes, e: Engine, capacity_B: Floats | float, notes: Notes | None = None) -> dict[str, Floats]:
    """Bytes of one device by category: weights, engine reserve, and the cache that is left (negative: does not fit)."""
    w = weights_B(s, notes)
    law = told(notes, "reserve", kept_by_engine_B, unit="B")
    taken = e.of_free * (w + e.reserve_B)
    kept = law(usable=capacity_B, share=e.memory_share, reserve=e.reserve_B, taken=taken) + np.zeros(len(s))
    room = told(notes, "cache room", cache_room_B, unit="B")(usable=capacity_B, weights=w, reserve=kept)
    return {"weights": w, "reserve": kept, "kv": room}
