"""Bytes and time of LoRA adapters of a model: each product that is a target gets two narrow products.

An adapter of rank r has beside a product of k inputs and n outputs A [r, k] and B [n, r], in 16 bit. Of products that
an engine runs as one (query, key and value; gate and up) each has an A of its own. Under tensor parallelism A is split
as the product's inputs are, and B as its outputs are. Routed experts have none here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mowich.models import ops
from mowich.models.model import Model

Targets = Literal["attention", "all"]
ADAPTER_TARGETS: tuple[Targets, ...] = ("attention", "all")
"""Products with an adapter: those of attention, or all but the router, the head and routed experts."""

ELEMENT_B = 2.0
"""Bytes of an element: adapters are served in 16 bit."""
_KERNELS = 2
"""Narrow products beside a product: into the rank, and out of it."""
OF_FFN = ("mlp", "shared", "latent", "router")
"""How the names of products outside of attention begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterShapes:
    """Of one adapter on one rank, over all layers: elements of A and B for each rank of the adapter (`elements`),
    products that have one (`products`), elements of a token's inputs and outputs that narrow products read and write
    (`moved`)."""

    elements: float
    products: float
    moved: float


def adapter_shapes(model: Model, targets: Targets, tp: int) -> AdapterShapes:
    """The shapes of an adapter of a model under tensor parallelism.

    >>> from mowich.models import load_model
    >>> shapes = adapter_shapes(load_model("llama-3.1-8b"), "all", 1)
    >>> round(adapter_B(shapes.elements, 16.0) / 1e6, 1)  # as published adapters of rank 16 of this model: 84 MB
    83.9
    """
    elements = products = moved = 0.0
    for layer in model.layers:
        for gemm in ops.dense_gemms(layer, model.hidden):
            if not _has_adapter(gemm, targets):
                continue
            n, k = (float(x[0]) for x in gemm.local(np.array([float(tp)])))
            inputs = _inputs(gemm, gated=getattr(layer.ffn, "gated", False))
            elements += layer.count * (inputs * k + n)
            products += layer.count
            moved += layer.count * (k + 2.0 * n)  # outputs are read and written again
    return AdapterShapes(elements=elements, products=products, moved=moved)


def _has_adapter(gemm: ops.Gemm, targets: Targets) -> bool:
    if gemm.group:  # of a captured block
        return gemm.is_held and (targets == "all" or gemm.group not in ops.FFN_GROUPS)
    return gemm.name != "router" and (targets == "all" or not gemm.name.startswith(OF_FFN))


def _inputs(gemm: ops.Gemm, *, gated: bool) -> int:
    """Matrices that a product of an engine holds side by side, each with an A of its own."""
    if gemm.name in ("mlp_up", "shared_up"):
        return 2 if gated else 1
    return 3 if gemm.name == "qkv" else 1


def adapter_B(elements: float, rank: float) -> float:
    """Bytes of an adapter on one rank.

    T = 2 * elements * rank

    Units: elements 1, rank 1.
    """
    return ELEMENT_B * elements * rank


def narrow_products_s(products: float, kernel: float) -> float:
    """Seconds that the narrow products of a step take whatever they read.

    T = 2 * products * kernel

    kernel: of one narrow product.

    Units: products 1, kernel s.
    """
    return _KERNELS * products * kernel


def token_s(moved: float, B: float, elements: float, rank: float, P: float) -> float:
    """Seconds of a token in the narrow products: it is read and written, or multiplied, whichever takes longer.

    T = max(2 * moved / B, 2 * elements * rank / P)

    Units: moved 1, B B/s, elements 1, rank 1, P FLOP/s.
    """
    return max(ELEMENT_B * moved / B, 2.0 * elements * rank / P)
