"""The parts of a training step: one row each, from which the sums, the search, `explain` and pages are made.

A new part of a layer is its law (`operators.law`, or one that is there), a function of `training.layer` that gives
the law what a layer has of it, and a row of `PARTS_OF_STEP`. The row puts it into the forward and the backward pass,
into what is computed again, into the formulas that `explain` prints, into columns of sweeps and into pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Literal, NamedTuple

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
    times: tuple[str, Callable[[BackwardJob], float]] | None = None
    """(symbol, how often the backward pass takes the same again). None: that has a law of its own."""
    own: tuple[str, Callable[[LayerWork], Floats]] | None = None
    """(symbol, seconds of the backward pass that are no multiple of the forward pass)."""
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
    """How the names of its recorded terms begin; empty: with its own name."""
    binds: str = ""
    """Words for what bounds a step of which this part takes the most; "": none, as it scales all parts alike."""
    binds_pass: str = ""
    """Words for what bounds a forward pass of which this part takes the most; "" where it has no such part."""
    is_wire: bool = False
    """Whether software of the devices never makes it longer: transfers, and the wait for the slowest rank."""
    law: Computed | Exchanged | Literal["", "others"] = ""
    """How a layer takes it; "others": it follows from what the layer takes else; "": it belongs to the step."""


_HBM, _LINKS = "hbm bandwidth", "tensor-parallel links"

PARTS_OF_STEP: tuple[StepPart, ...] = (
    StepPart(
        *("gemm", "matrix products", "compute", "matmul"),
        terms=("gemm.", "moe.experts"),
        binds="compute",
        binds_pass="matrix products",
        law=Computed(
            forward=all_products_s,
            symbol="products",
            times=("weight_grad", lambda of: backward_times("product", is_frozen=of.is_frozen)),
        ),
    ),
    StepPart(
        *("attention", "attention", "compute"),
        terms=("attention.",),
        binds="compute",
        binds_pass="attention",
        law=Computed(forward=lambda of: of.core[0], own=("attention", lambda of: of.core[1]), repeated="core"),
    ),
    StepPart(
        *("memory_bound", "work bound by memory", "memory", "HBM-bound"),
        binds=_HBM,
        binds_pass="passes over memory",
        law=Computed(
            forward=lambda of: of.stream,
            times=("stream", lambda _: backward_times("stream")),
            own=("accumulate", accumulated_s),
        ),
    ),
    StepPart(
        *("quantise", "conversion to 8 bits", "memory"),
        binds=_HBM,
        binds_pass="matrix products",
        law=Computed(forward=quantised_s, times=("casts", lambda of: of.stack.backward_quantise)),
    ),
    StepPart(
        *("moe", "routing of experts", "memory", "MoE routing"),
        terms=("moe.",),
        binds=_HBM,
        binds_pass="matrix products",
        law=Computed(forward=lambda of: of.mixture.routing, times=("routing", lambda _: backward_times("routing"))),
    ),
    StepPart("head", "output head", "compute", binds="compute"),
    StepPart(
        *("recompute", "recomputation", "compute"),
        terms=("recompute.", "gemm.", "attention."),
        binds="compute",
        law="others",
    ),
    StepPart(
        *("host", "launches by the host", "software"),
        terms=("host.", "stage"),
        binds="host",
        binds_pass="launches",
        law="others",
    ),
    StepPart(
        *("tp", "tensor-parallel exchange", "network", "TP"),
        terms=("tp.",),
        binds=_LINKS,
        binds_pass="links",
        is_wire=True,
        law=Exchanged(forward=tensor_exchange, times=lambda of: of.tensor_exchanges, repeated="share"),
    ),
    StepPart(
        *("cp", "context-parallel exchange", "network", "CP"),
        terms=("cp.",),
        binds=_LINKS,
        binds_pass="links",
        is_wire=True,
        law=Exchanged(forward=context_exchange, times=lambda _: backward_times("exchange")),
    ),
    StepPart(
        *("ep", "expert exchange", "network", "EP"),
        terms=("ep.",),
        binds="expert all-to-all",
        binds_pass="links",
        is_wire=True,
        law=Exchanged(forward=expert_exchange, times=lambda _: backward_times("exchange"), repeated="whole"),
    ),
    StepPart("pp_transfer", "hand-over between stages", "network", "PP transfer", binds="pipeline", is_wire=True),
    StepPart("pp_bubble", "pipeline bubbles", "waiting", "bubble", terms=("pp_bubble", "stage"), binds="pipeline"),
    StepPart("dp", "exchange of gradients", "network", "DP", binds="data-parallel network", is_wire=True),
    StepPart("optimizer", "optimizer", "memory", binds=_HBM),
    StepPart("offload", "offload to the host's memory", "network", binds="host memory link", is_wire=True),
    StepPart("fixed", "fixed time of a step", "software", terms=("step",), binds="host", binds_pass="launches"),
    StepPart("jitter", "wait for the slowest chip", "waiting", is_wire=True),
    StepPart("software", "software beyond tuned kernels", "software", binds_pass="software"),
)
"""Every part of a step, in print order, which is the order of sums."""

LAYER_PARTS = tuple(part.name for part in PARTS_OF_STEP if part.law)
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
    """The time of the backward pass that is not a multiple of the forward pass."""
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
    backward = {name: law.own[1](of) for name, law in COMPUTED.items() if law.own}
    exchanges = {name: law.forward(of) for name, law in EXCHANGED.items()}
    return LayerTimes(
        forward=forward | {name: x.exposed for name, x in exchanges.items()},
        backward=backward,
        late={name: x.late for name, x in exchanges.items()},
        last=last_products_s(of),
        experts_again=of.mixture.again,
    )


class _SumTerm(NamedTuple):
    """A term of a sum over the parts of a layer. factor: its symbol, "" for one; symbol: of the seconds; part: whose;
    is_own: those of the backward pass that are no multiple of the forward pass."""

    factor: str
    symbol: str
    part: str
    is_own: bool = False


class LayerSum:
    """A sum over the parts of a layer. law: its function, with the formula in its docstring as every law has it."""

    def __init__(self, words: str, terms: Iterable[_SumTerm]) -> None:
        self.terms = tuple(terms)
        of = [(term.factor, term.symbol) for term in self.terms]

        def law(**given: Floats | float) -> Floats:
            return np.asarray(reduce(np.add, (given[w] * given[x] if w else given[x] for w, x in of)))

        formula, units = " + ".join(f"{w} * {x}" if w else x for w, x in of), ", ".join(f"{x} s" for _, x in of)
        law.__doc__ = f"{words}\n\nT = {formula}\n\nUnits: {units}."
        self.law: Callable[..., Floats] = law

    def given(self, x: LayerTimes, factors: Mapping[str, Floats | float]) -> dict[str, Floats | float]:
        """What the law takes. factors: by their symbols."""
        out: dict[str, Floats | float] = {}
        for factor, symbol, part, is_own in self.terms:
            out |= ({factor: factors[factor]} if factor else {}) | {symbol: (x.backward if is_own else x.forward)[part]}
        return out


def _backward_terms() -> Iterator[_SumTerm]:
    """One term of each part, then what is no multiple of the forward pass beside one that is."""
    for name, law in COMPUTED.items():
        if law.times:
            yield _SumTerm(law.times[0], law.symbol or name, name)
        elif law.own:
            yield _SumTerm("", law.own[0], name, is_own=True)
    yield from (_SumTerm("", law.own[0], name, is_own=True) for name, law in COMPUTED.items() if law.times and law.own)


FORWARD = LayerSum(
    "Seconds that the device computes in the forward pass of a layer.",
    (_SumTerm("", law.symbol or name, name) for name, law in COMPUTED.items()),
)

BACKWARD_PASS = LayerSum(
    "Seconds that the device computes in the backward pass of a layer: so many times what its forward pass takes, and"
    " what has a law of its own.",
    _backward_terms(),
)

NEEDED_AGAIN = LayerSum(
    "Seconds of what the backward pass of a layer needs again, repeated once. whole: 1 where all of the layer is"
    " repeated, so that rows go to their experts again.",
    (
        *(_SumTerm("", law.symbol or name, name) for name, law in COMPUTED.items() if law.repeated == "share"),
        *(_SumTerm(law.repeated.removeprefix("share"), name, name) for name, law in EXCHANGED.items() if law.repeated),
    ),
)


def both_passes_s(x: LayerTimes, name: str, factors: Mapping[str, float]) -> Floats:
    """Seconds of a computed part, forward and backward. factors: how often the backward pass takes it again, by
    symbol."""
    law = COMPUTED[name]
    seconds = (1.0 + factors[law.times[0]]) * x[name] if law.times else x[name]
    return seconds + x.backward[name] if law.own else seconds
