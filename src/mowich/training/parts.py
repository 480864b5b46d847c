"""The parts of a training step: one row each, from which the sums, the search, `explain` and pages are made.

A new part of a layer is its law (`operators.law`, or one that is there), a function of `training.layer` that gives
the law what a layer has of it, and a row of `PARTS_OF_STEP`. The row puts it into the forward and the backward pass,
into what is computed again, into the formulas that `explain` prints, into columns of sweeps and into pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from inspect import Parameter, Signature
from typing import Literal

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes
from mowich.models.model import Layer, Model
from mowich.operators.kernels import Kernels
from mowich.operators.list import backward_times
from mowich.operators.parts import TimePart
from mowich.plans.plan import Plans, TrainJob
from mowich.software.stack import Platform, Stack
from mowich.training.layer import (
    LayerExchange,
    LayerWork,
    Once,
    accumulated_s,
    all_products_s,
    context_exchange,
    expert_exchange,
    last_products_s,
    quantised_s,
    tensor_exchange,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackwardJob:
    """What decides how often the backward pass does the work of the forward pass."""

    stack: Stack
    is_frozen: bool
    """No gradients of weights are asked for."""
    p: Plans

    @property
    def tensor_exchanges(self) -> Floats:
        """Exchanges of a layer between tensor-parallel ranks for each of the forward pass: inputs that are kept are not
        gathered again."""
        return np.where((self.p.sp > 0) & (self.p.regather == 0), 1.0, self.stack.backward_tp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """How a layer computes a part."""

    forward: Callable[[LayerWork], Floats]
    """Seconds of the forward pass."""
    symbol: str = ""
    """In formulas, "" the name of the part."""
    times: Callable[[BackwardJob], float] | None = None
    """How often the backward pass takes the same again. None: it has a law of its own."""
    times_symbol: str = ""
    """In formulas."""
    backward: Callable[[LayerWork], Floats] | None = None
    """Seconds of the backward pass that are no multiple of the forward pass."""
    backward_symbol: str = ""
    """In formulas, "" the symbol."""
    repeated: Literal["share", "core"] = "share"
    """What repeats it where the backward pass computes layers again: a share of the layer, or the attention core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """How the ranks of a layer exchange a part."""

    forward: Callable[[LayerWork], LayerExchange]
    """Of the forward pass."""
    times: Callable[[BackwardJob], Floats | float]
    """How often the backward pass does the same again."""
    repeated: Literal["", "share", "whole"] = ""
    """What repeats it: nothing; a share of the layer; only where that is a whole layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPart(TimePart):
    """A part of a training step, or of a forward pass."""

    terms: tuple[str, ...] = ()
    """The recorded terms that make it begin with one of these."""
    binds: str = ""
    """What a step is said to be bound by that has most of it, "" nothing: it scales all alike."""
    binds_pass: str = ""
    """The same of a forward pass, "" where that has no such part."""
    is_wire: bool = False
    """No software of the devices makes it longer: transfers, and the wait for the slowest rank."""
    of_layers: bool = False
    """Layers have it; else it belongs to the step."""
    law: Computed | Exchanged | None = None
    """How a layer takes it; None where it follows from the others."""


PARTS_OF_STEP: tuple[StepPart, ...] = (
    StepPart(
        name="gemm",
        words="matrix products",
        group="compute",
        short="matmul",
        terms=("gemm.", "moe.experts"),
        binds="compute",
        binds_pass="matrix products",
        of_layers=True,
        law=Computed(
            forward=all_products_s,
            symbol="products",
            times=lambda of: backward_times("product", is_frozen=of.is_frozen),
            times_symbol="weight_grad",
        ),
    ),
    StepPart(
        name="attention",
        words="attention",
        group="compute",
        terms=("attention.",),
        binds="compute",
        binds_pass="attention",
        of_layers=True,
        law=Computed(forward=lambda of: of.core[0], backward=lambda of: of.core[1], repeated="core"),
    ),
    StepPart(
        name="memory_bound",
        words="work bound by memory",
        group="memory",
        short="HBM-bound",
        terms=("memory_bound",),
        binds="hbm bandwidth",
        binds_pass="passes over memory",
        of_layers=True,
        law=Computed(
            forward=lambda of: of.stream,
            times=lambda _: backward_times("stream"),
            times_symbol="stream",
            backward=accumulated_s,
            backward_symbol="accumulate",
        ),
    ),
    StepPart(
        name="quantise",
        words="conversion to 8 bits",
        group="memory",
        terms=("quantise",),
        binds="hbm bandwidth",
        binds_pass="matrix products",
        of_layers=True,
        law=Computed(forward=quantised_s, times=lambda of: of.stack.backward_quantise, times_symbol="casts"),
    ),
    StepPart(
        name="moe",
        words="routing of experts",
        group="memory",
        short="MoE routing",
        terms=("moe.",),
        binds="hbm bandwidth",
        binds_pass="matrix products",
        of_layers=True,
        law=Computed(
            forward=lambda of: of.mixture.routing, times=lambda _: backward_times("routing"), times_symbol="routing"
        ),
    ),
    StepPart(name="head", words="output head", group="compute", terms=("head",), binds="compute"),
    StepPart(
        name="recompute",
        words="recomputation",
        group="compute",
        terms=("recompute.", "gemm.", "attention."),
        binds="compute",
        of_layers=True,
    ),
    StepPart(
        name="host",
        words="launches by the host",
        group="software",
        terms=("host.", "stage"),
        binds="host",
        binds_pass="launches",
        of_layers=True,
    ),
    StepPart(
        name="tp",
        words="tensor-parallel exchange",
        group="network",
        short="TP",
        terms=("tp.",),
        binds="tensor-parallel links",
        binds_pass="links",
        is_wire=True,
        of_layers=True,
        law=Exchanged(forward=tensor_exchange, times=lambda of: of.tensor_exchanges, repeated="share"),
    ),
    StepPart(
        name="cp",
        words="context-parallel exchange",
        group="network",
        short="CP",
        terms=("cp.",),
        binds="tensor-parallel links",
        binds_pass="links",
        is_wire=True,
        of_layers=True,
        law=Exchanged(forward=context_exchange, times=lambda _: backward_times("exchange")),
    ),
    StepPart(
        name="ep",
        words="expert exchange",
        group="network",
        short="EP",
        terms=("ep.",),
        binds="expert all-to-all",
        binds_pass="links",
        is_wire=True,
        of_layers=True,
        law=Exchanged(forward=expert_exchange, times=lambda _: backward_times("exchange"), repeated="whole"),
    ),
    StepPart(
        name="pp_transfer",
        words="hand-over between stages",
        group="network",
        short="PP transfer",
        terms=("pp_transfer",),
        binds="pipeline",
        is_wire=True,
    ),
    StepPart(
        name="pp_bubble",
        words="pipeline bubbles",
        group="waiting",
        short="bubble",
        terms=("pp_bubble", "stage"),
        binds="pipeline",
    ),
    StepPart(
        name="dp",
        words="exchange of gradients",
        group="network",
        short="DP",
        terms=("dp",),
        binds="data-parallel network",
        is_wire=True,
    ),
    StepPart(name="optimizer", words="optimizer", group="memory", terms=("optimizer",), binds="hbm bandwidth"),
    StepPart(
        name="offload",
        words="offload to the host's memory",
        group="network",
        terms=("offload",),
        binds="host memory link",
        is_wire=True,
    ),
    StepPart(
        name="fixed",
        words="fixed time of a step",
        group="software",
        terms=("step",),
        binds="host",
        binds_pass="launches",
    ),
    StepPart(name="jitter", words="wait for the slowest chip", group="waiting", terms=("jitter",), is_wire=True),
    StepPart(
        name="software",
        words="software beyond tuned kernels",
        group="software",
        terms=("software",),
        binds_pass="software",
    ),
)
"""Every part of a step, in print order, which is the order of sums."""

LAYER_PARTS = tuple(part.name for part in PARTS_OF_STEP if part.of_layers)
"""The parts that layers have; the others belong to the step."""

COMPUTED: Mapping[str, Computed] = {p.name: p.law for p in PARTS_OF_STEP if isinstance(p.law, Computed)}
"""What the devices compute of a layer, forward and backward."""

EXCHANGED: Mapping[str, Exchanged] = {p.name: p.law for p in PARTS_OF_STEP if isinstance(p.law, Exchanged)}
"""What the ranks of a layer exchange."""


def bound_by(parts: Iterable[StepPart], word: Callable[[StepPart], str]) -> dict[str, tuple[str, ...]]:
    """What a time is said to be bound by -> the names of its parts."""
    out: dict[str, tuple[str, ...]] = {}
    for part in parts:
        if word(part):
            out[word(part)] = (*out.get(word(part), ()), part.name)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """Seconds of one layer and one micro-batch on one rank, by part."""

    forward: Mapping[str, Floats]
    """Of the forward pass, by COMPUTED and EXCHANGED; of exchanges the exposed share."""
    backward: Mapping[str, Floats]
    """Of the backward pass, what is no multiple of the forward pass."""
    late: Mapping[str, Floats]
    """By EXCHANGED, what the software can issue early and finds no compute to run beside: waits for the host hide
    it."""
    last: Floats
    """Of the products, those whose outputs the backward pass does not need."""
    experts_again: Floats
    """Of repeating the mixture of experts alone."""

    def __getitem__(self, part: str) -> Floats:
        return self.forward[part]


def layer_times(
    model: Model,
    layer: Layer,
    system: Platform,
    job: TrainJob,
    p: Plans,
    notes: Notes | None = None,
    kernels: Kernels | None = None,
    once: Once | None = None,
) -> LayerTimes:
    """Times of one layer kind under each plan (columns [n]); once: shared with the model's other kinds."""
    of = LayerWork(model, layer, system, job, p, notes, kernels, Once() if once is None else once)
    forward = {name: law.forward(of) for name, law in COMPUTED.items()}
    backward = {name: law.backward(of) for name, law in COMPUTED.items() if law.backward is not None}
    exchanges = {name: law.forward(of) for name, law in EXCHANGED.items()}
    return LayerTimes(
        forward=forward | {name: x.exposed for name, x in exchanges.items()},
        backward=backward,
        late={name: x.late for name, x in exchanges.items()},
        last=last_products_s(of),
        experts_again=of.mixture.again,
    )


_Weighted = tuple[str, str]
"""A term of a sum: the symbol of its factor, "" for one, and that of its seconds."""


def _sum_law(name: str, words: str, terms: Sequence[_Weighted]) -> Callable[..., Floats]:
    """The law that sums the terms, with its formula in its docstring as every law has it."""

    def law(**given: Floats | float) -> Floats:
        return np.asarray(reduce(np.add, (given[w] * given[x] if w else given[x] for w, x in terms)))

    seconds = ", ".join(f"{x} s" for _, x in terms)
    law.__name__ = law.__qualname__ = name
    law.__doc__ = (
        f"{words}\n\n    T = {' + '.join(f'{w} * {x}' if w else x for w, x in terms)}\n\n    Units: {seconds}."
    )
    symbols = [symbol for term in terms for symbol in term if symbol]
    law.__signature__ = Signature([Parameter(s, Parameter.KEYWORD_ONLY) for s in symbols])  # type: ignore[attr-defined]
    return law


def symbol_of(part: str) -> str:
    """The symbol of what a layer computes of a part."""
    return COMPUTED[part].symbol or part


def _backward_terms() -> list[_Weighted]:
    """First one term of each part, then laws of their own beside a multiple of the forward pass."""
    own = [("", law.backward_symbol) for law in COMPUTED.values() if law.times is not None and law.backward is not None]
    return [(law.times_symbol, symbol_of(name)) for name, law in COMPUTED.items()] + own


forward_s = _sum_law(
    "forward_s",
    "Seconds that the device computes in the forward pass of a layer.",
    [("", symbol_of(name)) for name in COMPUTED],
)

backward_s = _sum_law(
    "backward_s",
    "Seconds that the device computes in the backward pass of a layer: so many times what its forward pass takes, and"
    " what has a law of its own.",
    _backward_terms(),
)

needed_s = _sum_law(
    "needed_s",
    "Seconds of what the backward pass of a layer needs again, repeated once. whole: 1 where all of the layer is"
    " repeated, so that rows go to their experts again.",
    [
        *(("", symbol_of(name)) for name, law in COMPUTED.items() if law.repeated == "share"),
        *(("whole" if law.repeated == "whole" else "", name) for name, law in EXCHANGED.items() if law.repeated),
    ],
)


def forward_given(x: LayerTimes) -> dict[str, Floats]:
    """What `forward_s` takes."""
    return {symbol_of(name): x[name] for name in COMPUTED}


def backward_given(x: LayerTimes, times: Mapping[str, float]) -> dict[str, Floats | float]:
    """What `backward_s` takes. times: how often the backward pass takes a part of the forward pass again."""
    given: dict[str, Floats | float] = {}
    for name, law in COMPUTED.items():
        if law.times is None:
            given[symbol_of(name)] = x.backward[name]
        else:
            given |= {law.times_symbol: times[name], symbol_of(name): x[name]}
    beside = {law.backward_symbol: name for name, law in COMPUTED.items() if law.backward_symbol}
    return given | {symbol: x.backward[name] for symbol, name in beside.items()}


def both_passes_s(x: LayerTimes, name: str, times: Mapping[str, float]) -> Floats:
    """Seconds of a computed part, forward and backward."""
    seconds = (1.0 + times[name]) * x[name] if name in times else x[name]
    return seconds + x.backward[name] if name in x.backward else seconds


def needed_again_s(x: LayerTimes, products: Floats, whole: Floats) -> Floats:
    """`needed_s` of a layer. products: those that are needed; whole: 1 where all of the layer is repeated."""
    given = {symbol_of(name): x[name] for name, law in COMPUTED.items() if law.repeated == "share"}
    given |= {name: x[name] for name, law in EXCHANGED.items() if law.repeated}
    return needed_s(**given | {symbol_of("gemm"): products}, whole=whole)


def cores_s(x: LayerTimes) -> Floats:
    """Seconds of what is repeated with the attention core."""
    return reduce(np.add, (x[name] for name, law in COMPUTED.items() if law.repeated == "core"))
