"""What Muon adds to a step: each matrix of a layer is orthogonalised by Newton-Schulz iterations, and for that gathered
from the ranks that share it.

An iteration on an m x n matrix, m the smaller side, is three products in 16 bit: X X^T and (A) X of 2 m m n FLOP each,
A A of 2 m^3. Ranks that share the optimizer take whole matrices in turn. Embeddings, head and norms are left to AdamW.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes, told
from mowich.machines import collectives
from mowich.models import ops
from mowich.models.model import Model, Moe
from mowich.operators.law import gemm_s
from mowich.operators.rates import rates
from mowich.plans import schedules
from mowich.plans.memory import expert_params_per_device, layers_per_stage, matrix_params_per_device, sharding_ranks
from mowich.plans.plan import Plans
from mowich.software.stack import Platform


def matrices(model: Model, *, experts: bool) -> Iterator[tuple[float, int, int]]:
    """(how many, sides) of the matrices of all layers: those that every token takes, or those of routed experts."""
    for layer in model.layers:
        f = layer.ffn
        if not experts:
            yield from ((float(layer.count), g.n, g.k) for g in ops.dense_gemms(layer, model.hidden) if g.is_held)
        elif isinstance(f, Moe):
            of_expert = ops.mlp_gemms(f.ffn, f.gated, f.width(model.hidden))
            yield from ((float(layer.count) * f.num_experts, g.n, g.k) for g in of_expert)


def newton_schulz_s(model: Model, system: Platform, *, experts: bool) -> tuple[float, Floats]:
    """(matrices of all layers, seconds [1] that a device takes for one of them in the mean); 0 without any."""
    r, seconds, count = rates(system, np.zeros(1)), np.zeros(1), 0.0
    for many, a, b in matrices(model, experts=experts):
        m, n = np.array([float(min(a, b))]), np.array([float(max(a, b))])
        once = gemm_s(m, m, n, r, is_wide=True) + gemm_s(m, m, m, r, is_wide=True) + gemm_s(m, n, m, r, is_wide=True)
        seconds = seconds + many * system.stack.newton_schulz * once
        count += many
    return count, seconds / max(count, 1.0)


def orthogonal_s(model: Model, system: Platform, p: Plans, notes: Notes | None = None) -> Floats:
    """Seconds of a step in which matrices are gathered and orthogonalised, hidden behind nothing; 0 unless the
    optimizer does so."""
    s = system.stack
    if not s.newton_schulz:
        return np.zeros(len(p))
    is_sharded, stage = p.zero >= 1, layers_per_stage(model, p) / model.num_layers * schedules.copies(p)
    group, e_group = (np.where(is_sharded, ranks, 1.0) for ranks in sharding_ranks(p))
    stride = np.where(p.order == 0, p.tp, p.stride("dp"))
    e_stride = np.where(p.order == 0, p.ep * p.etp, stride)
    total = np.zeros(len(p))
    for name, of_experts, held, over, apart, cut, dealt in (
        ("dense", False, matrix_params_per_device(model, p), group, stride, p.tp, 1.0),
        ("experts", True, expert_params_per_device(model, p), e_group, e_stride, p.etp, p.ep),
    ):
        count, each = newton_schulz_s(model, system, experts=of_experts)
        if not count:
            continue
        per_B, latency = collectives.linear(system, over, apart)
        across = np.where(over > 1, s.matrix_gather_B * held * per_B + latency, 0.0)
        per_B, latency = collectives.linear(system, np.asarray(cut), p.stride("tp"))
        inside = np.where(cut > 1, s.matrix_gather_B * held * cut / over * per_B + latency, 0.0)
        total = total + told(notes, f"optimizer.{name}", matrices_s, also={"params": held})(
            gather=across + inside, each=each + np.zeros(len(p)), matrices=stage * count / dealt, ranks=over * cut
        )
    return total


def matrices_s(gather: Floats, each: Floats, matrices: Floats, ranks: Floats) -> Floats:
    """Seconds in which the ranks that share the matrices of a stage gather and orthogonalise them, each rank whole
    ones.

    T = gather + each * max(1, matrices / ranks)

    gather: of the parts of matrices from the ranks that hold them; each: of one matrix, all iterations; matrices: of
    the stage; ranks: that share them. A rank has at least one where there are fewer matrices than ranks.

    Units: gather s, each s.
    """
    return np.asarray(gather + each * np.maximum(1.0, matrices / ranks))
