"""What `explain` shows of a step's terms: formulas with their symbols, and the paths of the facts behind them."""

from __future__ import annotations

from mowich.arrays import Floats
from mowich.estimate import Notes
from mowich.formula import Law
from mowich.models.model import Layer
from mowich.operators import list as list_
from mowich.operators.law import (
    product,
    unevenness,
)
from mowich.operators.rates import DeviceRates
from mowich.software.stack import Platform


def is_unfused(system: Platform, core: list_.AttentionCore) -> bool:
    """Whether the software writes the scores of an attention core."""
    s = system.stack
    return bool(s.unfused_attention or (s.unfused_encoder and not core.is_causal))


def note_product(notes: Notes, name: str, seconds: Floats, g: list_.Product, r: DeviceRates, system: Platform) -> None:
    """Record the term of one product, forward, in one layer."""
    is_wide = g.format == "16 bit"
    note_gemm(
        notes,
        name,
        seconds,
        (g.m, g.n, g.k),
        r,
        system,
        P=r.P16 * system.efficiency.gemm_efficiency if is_wide else r.P,
        w=2.0 if is_wide else r.width_B,
    )


def by_tables(r: DeviceRates, law: Law) -> tuple[Law | None, str]:
    """(the law that gave a time, nothing in words); (None, words) where tables of kernels gave it."""
    return (law, "") if r.kernels is None else (None, "by the tables of kernels, where they hold it")


def note_gemm(
    notes: Notes,
    name: str,
    seconds: Floats,
    sides: tuple[Floats, Floats, Floats],
    r: DeviceRates,
    system: Platform,
    *,
    groups: Floats | float = 1.0,
    P: Floats | float | None = None,
    w: Floats | float | None = None,
) -> None:
    """Record the term of products of `sides` (m, n, k), with every symbol of their formula (`law.product`)."""
    m, n, k = sides
    law, words = by_tables(r, product)
    said = r.by(seconds)
    notes.add(
        name,
        seconds,
        "s",
        law,
        words=words,
        groups=groups,
        m=m,
        n=n,
        k=k,
        P=r.P if P is None else P,
        B=r.B,
        w=r.width_B if w is None else w,
        m_half=r.m_half,
        n_half=r.n_half,
        Q=unevenness(m, n, k, groups, r),
        p=r.power,
        note=f"forward, one layer; {said}" if said else "forward, one layer",
        facts=paths_of(system, "peak", "efficiency.gemm_efficiency", "efficiency.gemm_m_half", "hbm_Bps"),
    )


def core_paths(layer: Layer, core: list_.AttentionCore, system: Platform) -> tuple[str, ...]:
    """The names of the facts that the time of a layer's attention core rests on, as `layer_times` computes it."""
    if is_unfused(system, core):
        return ("efficiency.gemm_efficiency", "stack.unfused_attention_B", "hbm_Bps")
    if layer.recurrent is not None:
        return ("efficiency.attention_efficiency", "stack.recurrent_B", "hbm_Bps")
    own = ("efficiency.attention_efficiency", "efficiency.attention_s_half")
    return (*own, "stack.sink_attention_B", "hbm_Bps") if core.has_sinks else own


def paths_of(system: Platform, *wanted: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for name, path in system.paths.items() for w in wanted if w in name))
