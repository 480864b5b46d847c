"""How far a predicted step may be off: the 90% half-width of ln(predicted/measured), computed from the parts of the
step.

Errors on rows left out of the fit grow with some parts of a step (experts, network, host, attention), with the software
(tuned, framework, Neuron), and with assumed inputs. Each such feature x_j has a fact w_j of `training.residuals`; they
combine as independent errors, W = sqrt(sum (w_j x_j)^2), to which every doubling beyond the measured sizes adds
(`BEYOND`). `tools/fit_training.py cross` fits the facts to errors of groups of rows and of whole sources left out. Most
kinds of runs are slower than predicted more often than faster, so each kind (`kind_of`) has two multiples of W, one for
each end. `studies.compare._spread` adds ranges of facts that no measurement has tested.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from mowich.facts import Facts
from mowich.models.model import Model
from mowich.software.stack import Platform
from mowich.sums import float_sum

_SHARES: Mapping[str, tuple[str, ...]] = {
    "experts": ("moe", "ep"),
    "attention": ("attention",),
    "network": ("tp", "cp", "dp", "pp_transfer", "pp_bubble"),
    "host": ("host", "fixed"),
}
"""Features that are shares of the step, and the parts that each sums."""

OPEN_PLAN = frozenset({"tp", "pp", "ep", "cp", "batch", "micro_batch", "vpp"})
MEASURED_CHIPS = 16384
"""Chips of the largest measured job that is fully specified."""

_SOFTWARE = ("framework", "jax_gpu", "tpu", "neuron")
"""Features that the stack or the machine's vendor gives a step (`Platform.residuals`)."""

FEATURES = (
    "floor",
    *_SHARES,
    "moe_model",
    *_SOFTWARE,
    "encoder",
    "unstated_recompute",
    "unstated_plan",
)
"""Fitted features."""

BEYOND = "beyond_measured_size"
"""Doublings above `MEASURED_CHIPS`. Its fact is an estimate, because no measurement tests it. It is added to W, because
it is no independent error: a law that drifts at the largest measured sizes drifts further beyond them."""


CAPTURED = "captured"
"""Share of passes over memory in the step, for layers captured from code. Its fact is not fitted: no step of such a
model is published."""


def features(
    parts: Mapping[str, float], model: Model, system: Platform, inferred: Iterable[str] = ()
) -> dict[str, float]:
    """x_j of a step. parts: seconds by name; inferred: names of plan fields that were filled in, "recompute" among
    them."""
    total = float_sum(parts.values())
    filled = {item.split("=")[0] for item in inferred}
    out = {name: float_sum(parts.get(k, 0.0) for k in keys) / total for name, keys in _SHARES.items()}
    return out | {
        "floor": 1.0,
        "moe_model": float(model.has_experts),
        **{name: float(name in system.residuals) for name in _SOFTWARE},
        "encoder": float(not all(layer.attention.causal for layer in model.layers)),
        "unstated_recompute": float("recompute" in filled),
        "unstated_plan": float(bool(filled & OPEN_PLAN)),
        CAPTURED: parts.get("memory_bound", 0.0) / total * model.captured_share,
        BEYOND: math.log2(max(1.0, system.chips / MEASURED_CHIPS)),
    }


RUN_KINDS: Mapping[str, str] = {
    "gpu_dense_stated": "gpu_dense",
    "gpu_dense_stated_other": "gpu_dense",
    "gpu_dense_open": "gpu_dense",
    "gpu_dense_open_other": "gpu_dense",
    "gpu_dense": "all",
    "gpu_moe_air": "gpu_moe",
    "gpu_moe_rest": "gpu_moe",
    "gpu_moe": "all",
    "tpu_dense": "all",
    "tpu_moe": "all",
    "neuron_decoder": "all",
    "neuron_encoder": "all",
}
"""Kind of a run -> the wider kind towards which its quantiles are pulled where few groups were measured."""


def kind_of(model: Model, system: Platform, inferred: Iterable[str] = ()) -> str:
    """The kind of a run, a leaf of `RUN_KINDS`: vendor, experts or none, whether the plan is stated in full, and for
    GPUs whether the software differs from the tuned NVIDIA stack (dense), or the chip is the Blackwell of an 8-GPU
    server (experts: their published plans change most between releases)."""
    experts = model.has_experts
    if "neuron" in system.residuals:
        return "neuron_decoder" if all(layer.attention.causal for layer in model.layers) else "neuron_encoder"
    if "tpu" in system.residuals:
        return "tpu_moe" if experts else "tpu_dense"
    if experts:
        return "gpu_moe_air" if system.chip in ("b200_sxm", "b300_sxm") else "gpu_moe_rest"
    is_open = bool({item.split("=")[0] for item in inferred} & OPEN_PLAN)
    return f"gpu_dense_{'open' if is_open else 'stated'}{'_other' if 'framework' in system.residuals else ''}"


def step_interval(
    parts: Mapping[str, float], model: Model, system: Platform, facts: Facts, inferred: Iterable[str] = ()
) -> tuple[float, float]:
    """How far the truth may lie below and above a predicted step, 90%, in ln time."""
    filled = list(inferred)
    width, kind = half_width(parts, model, system, facts, filled), kind_of(model, system, filled)
    faster, slower = (facts.number(f"training.residuals.{kind}_{end}") for end in ("faster", "slower"))
    return faster * width, slower * width


def half_width(
    parts: Mapping[str, float], model: Model, system: Platform, facts: Facts, inferred: Iterable[str] = ()
) -> float:
    """W = sqrt(sum (w_j x_j)^2) + w x of the doublings beyond the measured sizes, in ln time."""
    x = features(parts, model, system, inferred)
    weighed = {name: facts.number(f"training.residuals.{name}") * value for name, value in x.items() if value}
    beyond = weighed.pop(BEYOND, 0.0)
    return math.sqrt(float_sum(value**2 for value in weighed.values())) + beyond
