"""Seconds of an encoder of images or of sound on a worker: its products, attention in both directions, launches.

The law is that of an engine's step (`serving.step`): the layers are prompt tokens that all attend to one another. There
is no cache, nothing is sampled, and no captured graph. Weights are of 16 bits. Two ways of spreading an encoder over
the tensor parallel ranks of a worker, as engines have them: its weights are cut (`weights`), or each rank holds them
all and encodes its share of the pictures (`data`), after which every rank gathers the embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mowich.arrays import Floats
from mowich.models.encoder import EncodedItem, Encoder
from mowich.models.model import Layer, Model
from mowich.operators.law import Sides
from mowich.plans.plan import ServePlan, ServePlans
from mowich.plans.shapes import Shapes, shapes
from mowich.serving.step import step
from mowich.shown import Keyed
from mowich.software.engine import EngineCosts
from mowich.sums import float_sum

EncoderParallel = Literal["weights", "data"]
ENCODER_PARALLEL: tuple[EncoderParallel, ...] = ("weights", "data")
EMBEDDING_B = 2.0
"""Bytes of an element of an embedding, and of a weight of an encoder: 16 bits."""
_WHOLE = ("patches", "conv")
"""Products that every rank has whole: engines do not cut convolutions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedImages(Keyed):
    """The images of each request of a job: how many, of which width and height in pixels; tokens: that all of them
    stand for in a prompt."""

    count: float
    width: float
    height: float
    tokens: float


def gather_s(bytes_: Floats | float, ranks: Floats, Bps: Floats) -> Floats:
    """Seconds until every rank has the embeddings that all ranks made.

    T = bytes_ * (1 - 1 / ranks) / Bps

    bytes_: of all embeddings.

    Units: bytes_ B, Bps B/s.
    """
    return np.asarray(bytes_ * (1.0 - 1.0 / ranks) / Bps)


def tower(encoder: Encoder) -> Model:
    """The layers of an encoder as a model, for the functions that take one."""
    layers = [
        Layer(count=x.count, mixer=x.attention, ffn=x.mlp, norm_params=x.norm_params, hidden=encoder.hidden)
        for x in encoder.layers
    ]
    return Model(
        name=f"{encoder.kind} encoder",
        architecture="encoder",
        hidden=encoder.hidden,
        vocab=0,
        layers=tuple(layers),
        tied_embeddings=True,
        embedding_params=0,
        head_params=0,
        final_norm_params=0,
    )


def can_cut(encoder: Encoder, tp: int) -> bool:
    """Whether a number of ranks can cut the encoder's weights: it divides the heads."""
    return all(layer.attention.num_heads % tp == 0 for layer in encoder.layers)


def encoder_plan(encoder: Encoder, plan: ServePlan, parallel: EncoderParallel | None) -> tuple[ServePlan, int]:
    """(how the encoder is cut on a worker of this plan, ranks that share its pictures). parallel: None for what the
    ranks allow: cut weights where they divide the heads, else each rank its own pictures."""
    way = parallel or ("weights" if can_cut(encoder, plan.tp) else "data")
    return (ServePlan(tp=plan.tp), 1) if way == "weights" else (ServePlan(), plan.tp)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderWork:
    """An encoder on workers, as columns [n]. layers: its layers with the products of each position; beside: the other
    products, with their rows for each position; costs: of the machine and the engine; ranks: that share the pictures;
    link_Bps: of a rank, to the others; factor: what all times are multiplied by."""

    encoder: Encoder
    layers: Shapes
    beside: tuple[tuple[float, Shapes], ...]
    costs: EngineCosts
    ranks: Floats
    link_Bps: Floats
    factor: float = 1.0

    @classmethod
    def of(
        cls, encoder: Encoder, plans: Sequence[tuple[ServePlan, int]], costs: EngineCosts, link_Bps: Floats
    ) -> EncoderWork:
        """On workers of plans, each with the ranks that share its pictures (`encoder_plan`)."""
        columns = ServePlans.of([plan for plan, _ in plans])
        base = shapes(tower(encoder), columns)
        rows: dict[float, list[tuple[Floats, Floats]]] = {}
        for p in encoder.products:
            cut = np.ones(len(plans)) if p.name.startswith(_WHOLE) else columns.tp
            rows.setdefault(p.rows, []).append((p.n / cut, float(p.k) + 0.0 * cut))
        apart = tuple((each, _products_only(base, sides)) for each, sides in rows.items())
        closed = replace(costs, kernel_tables=np.zeros_like(costs.kernel_tables))  # tables are of causal attention
        ranks = np.array([float(n) for _, n in plans])
        return cls(encoder=encoder, layers=base, beside=apart, costs=closed, ranks=ranks, link_Bps=link_Bps)

    @property
    def weights_B(self) -> Floats:
        """Bytes of its weights on a device [n]."""
        return np.asarray(EMBEDDING_B * self.encoder.params / self.layers.tp)

    def parts(self, items: Sequence[tuple[EncodedItem, float]]) -> dict[str, Floats]:
        """Seconds by part of encoding items together, so many of each, on the rank that has most of them."""
        count = float_sum(n for _, n in items)
        if count <= 0:
            return {"linear": np.zeros(len(self.layers))}
        positions = float_sum(n * item.positions for item, n in items)
        span = float_sum(n * item.positions * item.span for item, n in items) / positions
        share = np.ceil(count / self.ranks) / count
        m = positions * share
        out = _device_s(self.layers, self.costs, m, span)
        for rows, products in self.beside:
            for name, seconds in _device_s(products, self.costs, m * rows, 0.0).items():
                out[name] = out[name] + seconds
        embeddings_B = EMBEDDING_B * self.encoder.out * float_sum(n * item.tokens for item, n in items)
        out["gather"] = np.where(self.ranks > 1, gather_s(embeddings_B, self.ranks, self.link_Bps), 0.0)
        return {name: seconds * self.factor for name, seconds in out.items()}

    def seconds(self, items: Sequence[tuple[EncodedItem, float]]) -> Floats:
        """Seconds of encoding items together [n]."""
        return np.asarray(sum(self.parts(items).values()))

    def scaled(self, log: float) -> EncoderWork:
        """All times times e^log."""
        return replace(self, factor=self.factor * math.exp(log))


def _device_s(s: Shapes, c: EngineCosts, m: Floats, span: float) -> dict[str, Floats]:
    """Seconds by part of m positions of which each attends to `span`; scheduler and sampler are the step's own."""
    found = step(s, c, n=0.0, context=0.0, prompt=m, prompt_context=span)
    return {name: seconds for name, seconds in found.items() if name not in ("host", "head")}


def _products_only(s: Shapes, sides: Sequence[tuple[Floats, Floats]]) -> Shapes:
    """The shapes with these products (n, k) on one rank in the place of all layers."""
    total = sum((Sides.of(n, k) for n, k in sides[1:]), Sides.of(*sides[0]))
    zero = 0.0 * s.d
    return replace(
        s,
        L=zero,
        W_linear=total.total("weights"),
        linear_count=total.count,
        linear_inner=total.inner,
        linear_outer=total.outer,
        linear_longer=total.longer,
        linear_weights=total.weights,
        kernels=zero + len(sides),
        uncaptured=zero,
        att_layers=0.0 * s.att_layers,
    )
