"""A public claim about serving, derived: GPT-OSS on a Trn3 UltraServer against a Trn2 UltraServer.

AWS (re:Invent 2025) claims 3 times the throughput per chip and 4 times faster responses. Neither the formats nor the
operating points were published. Derived
here: the precondition that makes the ratios come out, which is that Trainium3 serves the checkpoint's own MXFP4 weights
while Trainium2, whose matrix unit has no block-scaled format, serves them expanded to 16 bit; throughput compared at
one TPOT, and speed of responses at one throughput per chip.
"""

from __future__ import annotations

from mowich.facts import Facts
from mowich.models import load_model
from mowich.requests.jobs import PlanRequest
from mowich.serving.search import ServeJob
from mowich.studies.serving_plan import ServeResult, plan_serving

_MODEL, _OLD, _NEW = "gpt-oss-120b", "trn2", "trn3"
_ENGINE = "nxdi-megakernel"
"""The vendor's own plan for this model decodes in one kernel for all layers: the claim is about hand-tuned software."""


def _at_rate(result: ServeResult, rate: float) -> float:
    """The least TPOT at which a plan of the front gives at least `rate` tokens/s per chip."""
    return min((r.tpot_s.value or 0.0) for r in result.front if (r.tokens_per_s_per_chip.value or 0.0) >= rate)


def gpt_oss_served(facts: Facts) -> dict[str, float]:
    """What a claim's check may print (`facts.claim_check.SERVED_NAMES`), new machine over old one: throughput within a
    limit of tpot_ms; same_weights: what is left of it when both serve 16-bit weights; response: speed of responses at
    the throughput that the old machine has there; alone: that of a lone user."""
    model, job = load_model(_MODEL), ServeJob(prompt=1000, output=1000, ttft_s=5.0, tpot_s=0.03)
    runs = {
        (on, w): plan_serving(
            PlanRequest(
                facts=facts, model=model, systems=(on,), serve=job, engine=_ENGINE, top=1, fixed={"weights": (w,)}
            )
        )
        for on in (_OLD, _NEW)
        for w in ("bf16", "mxfp4")
    }
    best = {k: float(r.rows[0].tokens_per_s_per_chip) for k, r in runs.items()}
    old, new = runs[_OLD, "bf16"], runs[_NEW, "mxfp4"]
    rate = best[_OLD, "bf16"]
    return {
        "tpot_ms": job.tpot_s * 1e3,
        "throughput": best[_NEW, "mxfp4"] / rate,
        "same_weights": best[_NEW, "bf16"] / rate,
        "response": _at_rate(old, rate) / _at_rate(new, rate),
        "alone": min(float(r.tpot_s) for r in old.front) / min(float(r.tpot_s) for r in new.front),
    }
