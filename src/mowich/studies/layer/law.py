"""Parts that no kernel does, by the planner's law: the same function of an engine step, for a model that has only this
part."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.models.attention import NO_ATTENTION
from mowich.models.ffn import NO_FFN
from mowich.models.model import Layer, Model
from mowich.plans.plan import ServePlan
from mowich.serving.step import step
from mowich.software.engine import engine_for
from mowich.studies.layer.shape import LayerJob
from mowich.studies.serving import deploy

_PARTS = {
    "mixer": ("linear", "attention", "prefill_attention"),
    "ffn": ("linear", "experts"),
}
_SPREAD = 2.0
"""Factor of the interval to either side: the law's constants are those of a software stack."""


def half_by_law_s(
    facts: Facts, system: System, model: Model, layer: Layer, half: Literal["mixer", "ffn"], job: LayerJob
) -> Estimate:
    """Seconds of one half of a layer on one rank by the law of serving. system: with a rank as its device."""
    one = replace(layer, count=1, **({"ffn": NO_FFN} if half == "mixer" else {"mixer": NO_ATTENTION}))
    alone = replace(model, layers=(one,), pattern=())
    made = deploy(alone, system, engine_for(facts, system, None), [ServePlan(tp=job.tp)], facts)
    sequences, prompt = (0.0, float(job.tokens)) if job.prefill else (float(job.batch), 0.0)
    parts = step(
        made.shapes,
        made.costs,
        n=sequences,
        context=float(job.context),
        prompt=prompt,
        prompt_context=job.context / 2.0,
    )
    value = float(sum(parts[name][0] for name in _PARTS[half]))
    return Estimate(value=value, low=value / _SPREAD, high=value * _SPREAD, unit="s", grade="D")
