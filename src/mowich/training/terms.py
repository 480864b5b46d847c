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
    note_gemm(notes, name, seconds, (g.m, g.n, g.k), r, system, is_wide=g.format == "16 bit")


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
    is_wide: bool = False,
) -> None:
    """Record the term of products of `sides` (m, n, k), with every symbol of their formula (`law.product`)."""
    m, n, k = sides
    law, words = by_tables(r, product)
    said = r.by(seconds)
    rate = r.wide if is_wide else r.recipe
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
        P=rate.P,
        B=rate.B,
        w=rate.w,
        m_half=rate.m_half,
        n_half=r.n_half,
        narrow=r.narrow_columns,
        Q=unevenness(n, k, r.misaligned),
        note=f"forward, one layer; {said}" if said else "forward, one layer",
        facts=paths_of(system, "peak", "efficiency.product", "efficiency.rows_half", "efficiency.sustained", "hbm_Bps"),
    )


def core_paths(layer: Layer, core: list_.AttentionCore, system: Platform) -> tuple[str, ...]:
    """The names of the facts that the time of a layer's attention core rests on, as `layer_times` computes it."""
    if is_unfused(system, core):
        return ("efficiency.product_16", "efficiency.sustained", "stack.unfused_attention_B", "hbm_Bps")
    if layer.recurrent is not None:
        return ("efficiency.attention", "stack.recurrent_B", "hbm_Bps")
    own = ("efficiency.attention",)
    return (*own, "stack.sink_attention_B", "hbm_Bps") if core.has_sinks else own


def paths_of(system: Platform, *wanted: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for name, path in system.paths.items() for w in wanted if w in name))
