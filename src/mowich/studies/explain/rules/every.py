"""The rules of every kind of result, by its schema."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.requests.rooms import room_of
from mowich.shown import Result
from mowich.studies.explain.rules import (
    evidence,
    fleet,
    kernels,
    models,
    passes,
    reinforcement,
    serving,
    training,
)
from mowich.studies.explain.rules.rule import R, Rule
from mowich.studies.rooms import room_study

RULES: Mapping[str, tuple[Rule, ...]] = {
    schema: rules
    for kind in (
        training.TRAINING_RULES,
        serving.SERVING_RULES,
        evidence.EVIDENCE_RULES,
        models.MODEL_RULES,
        fleet.FLEET_RULES,
        kernels.KERNEL_RULES,
        evidence.BRIEF_RULES,
        reinforcement.RL_RULES,
        passes.FORWARD_RULES,
    )
    for schema, rules in kind.items()
}
"""Schema -> rules, the first that matches wins; "serve" stands for serving results of compare and plan."""


BUNDLE_RULES = (
    R("bundle pick", "1", "which row the bundle runs, from 1", "lookup: --pick"),
    R("bundle predicted *", "", "what the benchmark will show", "lookup: the row that runs, which has its terms"),
)
"""What the forecast of a bundle adds to the answer."""


def _rules_of_room(schema: str) -> tuple[Rule, ...]:
    name = room_of(schema)
    return () if name is None else tuple(room_study(name).RULES)


def rules_of(result: Result) -> tuple[Rule, ...]:
    """The rules of a result; none for an unknown schema."""
    schema = str(result.get("schema"))
    found = _rules_of_room(schema)
    if found:
        return found
    is_serving = (
        isinstance(result.get("inputs"), Mapping)
        and result["inputs"].get("task") == "serve"
        and schema not in ("mowich/fit@1", "mowich/rates@1", *evidence.BRIEF_RULES)
    )
    found = RULES.get("serve" if is_serving else schema, ())
    return (*found, *BUNDLE_RULES) if found and "bundle" in result else found
