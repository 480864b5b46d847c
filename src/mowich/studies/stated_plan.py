"""The plan that an answer states, in words: read back from its JSON, so that a value that no plan has is refused."""

from __future__ import annotations

from mowich.plans.forward import ForwardPlan
from mowich.plans.plan import Plan, ServePlan
from mowich.shown import Result


def plan_words(plan: Result | None) -> str:
    """A plan of training, of serving or of forward passes, from its JSON: "tp8 pp4 dp64 z1 mb1 mxfp8", "tp4 fp8/bf16",
    "tp4 b1 bf16"; "-" for none.

    >>> plan_words(Plan(tp=8, dp=2).to_dict()), plan_words(None)
    ('tp8 dp2 z1 mb1 bf16', '-')
    """
    if not plan:
        return "-"
    kind = ForwardPlan if "cfg" in plan else ServePlan if "kv" in plan else Plan
    return str(kind.from_dict(plan))
