"""A public claim about serving, derived: GPT-OSS on a Trn3 UltraServer against a Trn2 UltraServer.

AWS (re:Invent 2025) claims 3 times the throughput per chip and 4 times faster responses. Neither the formats nor the
operating points were published. Derived
here: the precondition that makes the ratios come out, which is that Trainium3 serves the checkpoint's own MXFP4 weights
while Trainium2, whose matrix unit has no block-scaled format, serves them expanded to 16 bit; throughput compared at
one TPOT, and speed of responses at one throughput per chip.
"""

from __future__ import annotations

from dataclasses import dataclass

from mowich.facts import Facts
from mowich.models import load_model
from mowich.requests.jobs import PlanRequest
from mowich.serving.search import ServeJob
from mowich.studies.serving_plan import ServeResult, plan_serving

_MODEL, _OLD, _NEW = "gpt-oss-120b", "trn2", "trn3"
_PUBLISHED = "claims.trainium3-reinvent-2025.claims"
THROUGHPUT = f"{_PUBLISHED}.GPT-OSS_throughput_per_chip_vs_Trn2_UltraServer.published"
RESPONSE = f"{_PUBLISHED}.GPT-OSS_response_time_vs_Trn2_UltraServer.published"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeClaim:
    """claimed and derived ratios (new over old). same_format: what is left of the throughput ratio when both serve
    16-bit weights. tpot_s: where throughput is compared; rate: tokens/s per chip at which responses are. verdict: in
    words."""

    throughput_claimed: float
    throughput: float
    throughput_same_format: float
    response_claimed: float
    response: float
    response_alone: float
    tpot_s: float
    rate: float
    verdict: str

    def numbers(self) -> dict[str, float]:
        """What a claim's check may print of it (`facts.claim_check.SERVED_NAMES`)."""
        return {
            "tpot_ms": self.tpot_s * 1e3,
            "throughput": self.throughput,
            "same_weights": self.throughput_same_format,
            "response": self.response,
            "alone": self.response_alone,
        }


def _at_rate(result: ServeResult, rate: float) -> float:
    """The least TPOT at which a plan of the front gives at least `rate` tokens/s per chip."""
    return min((r.tpot_s.value or 0.0) for r in result.front if (r.tokens_per_s_per_chip.value or 0.0) >= rate)


_ENGINE = "nxdi-megakernel"
"""The vendor's own plan for this model decodes in one kernel for all layers: the claim is about hand-tuned software."""


def gpt_oss_served(facts: Facts, *, prompt: float = 1000, output: float = 1000, tpot_s: float = 0.03) -> ServeClaim:
    """The claim at one operating point: TPOT limit `tpot_s`, and responses at the throughput that the old machine has
    there.

    A verdict of "consistent" means within a factor of 1.5 of the claim; anything else says how far off.
    """
    model, job = load_model(_MODEL), ServeJob(prompt=prompt, output=output, ttft_s=5.0, tpot_s=tpot_s)
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
    throughput = best[_NEW, "mxfp4"] / rate
    response = _at_rate(old, rate) / _at_rate(new, rate)
    alone = min(float(r.tpot_s) for r in old.front) / min(float(r.tpot_s) for r in new.front)
    claimed = (facts.number(THROUGHPUT), facts.number(RESPONSE))
    words = []
    for name, ours, theirs in (
        ("throughput per chip", throughput, claimed[0]),
        ("speed of responses", response, claimed[1]),
    ):
        near = max(ours / theirs, theirs / ours) <= 1.5
        words.append(
            f"{name}: {'consistent' if near else 'not reproduced'} ({ours:.1f}x derived, {theirs:.0f}x claimed)"
        )
    return ServeClaim(
        throughput_claimed=claimed[0],
        throughput=throughput,
        throughput_same_format=best[_NEW, "bf16"] / best[_OLD, "bf16"],
        response_claimed=claimed[1],
        response=response,
        response_alone=alone,
        tpot_s=tpot_s,
        rate=rate,
        verdict="; ".join(words)
        + "; needs MXFP4 weights on Trainium3 against 16-bit weights on Trainium2, and responses compared at equal"
        " throughput",
    )
