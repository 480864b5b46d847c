"""What `explain` shows of a step's terms: formulas with their symbols, and the paths of the facts behind them."""

from __future__ import annotations

from mowich.arrays import Floats
from mowich.estimate import Notes
from mowich.models.model import Layer
from mowich.operators import list as list_
from mowich.operators.formula import formula_of, printed
from mowich.operators.law import (
    product,
    unevenness,
)
from mowich.operators.rates import Rates
from mowich.software.stack import Platform


def is_unfused(system: Platform, core: list_.Core) -> bool:
    """Whether the software writes the scores of an attention core."""
    s = system.stack
    return bool(s.unfused_attention or (s.unfused_encoder and not core.is_causal))


def note_product(notes: Notes, name: str, seconds: Floats, g: list_.Product, r: Rates, system: Platform) -> None:
    """Record the term of one product, with every symbol of its formula (`operators.law.product`)."""
    is_wide = g.format == "16 bit"
    notes.add(
        name,
        seconds,
        "s",
        f"{printed(formula_of(product))}, forward, one layer",
        groups=1.0,
        m=g.m,
        n=g.n,
        k=g.k,
        P=r.P16 * system.efficiency.gemm_efficiency if is_wide else r.P,
        B=r.B,
        w=2.0 if is_wide else r.width_B,
        m_half=r.m_half,
        n_half=r.n_half,
        Q=unevenness(g.m, g.n, g.k, 1.0, r),
        p=r.power,
        note=r.by(seconds),
        facts=paths_of(system, "peak", "efficiency.gemm_efficiency", "efficiency.gemm_m_half", "hbm_Bps"),
    )


def core_formula(
    layer: Layer, core: list_.Core, share: list_.Share, system: Platform
) -> tuple[str, dict[str, float], tuple[str, ...]]:
    """(formula of a layer's attention core, its constants, their names), as `layer_times` computes it."""
    a, s, e = layer.attention, system.stack, system.efficiency
    if is_unfused(system, core):
        return (
            "unfused: 4 t s q / (e_g P16) + b_u scores / B; scores = t s heads / tp",
            {"s": share.seq, "e_g": e.gemm_efficiency, "b_u": s.unfused_attention_B},
            ("efficiency.gemm_efficiency", "stack.unfused_attention_B", "hbm_Bps"),
        )
    if layer.recurrent is not None:
        flop, elements = layer.recurrent.chunked_flop_per_token(), layer.recurrent.core_elements
        return (
            "chunked scan: soft_max(t F / (tp e_a P16), b_r t elements / (tp B)); F, elements: of a token",
            {"F": flop, "elements": elements, "b_r": s.recurrent_B, "e_a": e.attention_efficiency},
            ("efficiency.attention_efficiency", "stack.recurrent_B", "hbm_Bps"),
        )
    formula = "fused: 4 t c q (1 + s_half/s) / (e_a P16)"
    numbers = {"s": share.attended, "s_half": e.attention_s_half, "e_a": e.attention_efficiency}
    constants = ["efficiency.attention_efficiency", "efficiency.attention_s_half"]
    if a.indexer:
        formula += ", and the indexer's FLOP at that rate"
    if a.sinks:
        formula += " + b_s scores / B (sinks are outside the fused kernel); scores = t s heads / tp"
        numbers["b_s"] = s.sink_attention_B
        constants += ["stack.sink_attention_B", "hbm_Bps"]
    return f"{formula}; c = attended tokens, q = heads x head size / tp", numbers, tuple(constants)


def paths_of(system: Platform, *wanted: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for name, path in system.paths.items() for w in wanted if w in name))
