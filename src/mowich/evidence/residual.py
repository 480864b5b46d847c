"""How far a predicted step may be off: the 90% half-width of ln(predicted/measured), from what the step is made of.

Errors on rows left out of the fit grow with some parts of a step (experts, network, host, attention), with the software
(tuned, framework, Neuron), and with what had to be assumed. Each such feature x_j has a fact w_j of
`training.residuals`; they combine as independent errors, W = sqrt(sum (w_j x_j)^2). `tools/fit_training.py cross` fits
the facts to errors of groups of rows and of whole sources left out. Ranges of facts that no measurement has tested come
on top (`studies.compare._spread`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from mowich.facts import Facts
from mowich.models.model import Model, Moe
from mowich.software.stack import Platform

_SHARES: Mapping[str, tuple[str, ...]] = {
    "experts": ("moe", "ep"),
    "attention": ("attention",),
    "network": ("tp", "cp", "dp", "pp_transfer", "pp_bubble"),
    "host": ("host", "fixed"),
}
"""Features that are shares of the step: the parts that each sums."""

OPEN_PLAN = frozenset({"tp", "pp", "ep", "cp", "batch", "micro_batch", "vpp"})
MEASURED_CHIPS = 16384
"""The largest job that is measured and fully specified."""

_SOFTWARE = ("framework", "jax_gpu", "tpu", "neuron")
"""Features that the stack, or the vendor of the machine, says that a step has (`Platform.residuals`)."""

FEATURES = (
    "floor",
    *_SHARES,
    "moe_model",
    *_SOFTWARE,
    "encoder",
    "unstated_recompute",
    "unstated_plan",
)
"""Fitted features. `beyond_measured_size`, in doublings, has a fact that is an estimate: nothing measured tests it."""


def features(
    parts: Mapping[str, float], model: Model, system: Platform, inferred: Iterable[str] = ()
) -> dict[str, float]:
    """x_j of a step. parts: seconds by name; inferred: names of plan fields that were filled in, "recompute" among
    them."""
    total = sum(parts.values())
    filled = {item.split("=")[0] for item in inferred}
    out = {name: sum(parts.get(k, 0.0) for k in keys) / total for name, keys in _SHARES.items()}
    return out | {
        "floor": 1.0,
        "moe_model": float(any(isinstance(layer.ffn, Moe) for layer in model.layers)),
        **{name: float(name in system.residuals) for name in _SOFTWARE},
        "encoder": float(not all(layer.attention.causal for layer in model.layers)),
        "unstated_recompute": float("recompute" in filled),
        "unstated_plan": float(bool(filled & OPEN_PLAN)),
        "beyond_measured_size": math.log2(max(1.0, system.chips / MEASURED_CHIPS)),
    }


def half_width(
    parts: Mapping[str, float], model: Model, system: Platform, facts: Facts, inferred: Iterable[str] = ()
) -> float:
    """W = sqrt(sum (w_j x_j)^2), in ln time."""
    x = features(parts, model, system, inferred)
    return math.sqrt(
        sum((facts.number(f"training.residuals.{name}") * value) ** 2 for name, value in x.items() if value)
    )
