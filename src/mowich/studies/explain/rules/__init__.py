"""What every number of every result is: one line each, as data (`rule.Rule`), one file for each kind of result."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.shown import Result
from mowich.studies.explain.rules import evidence, fleet, kernels, machines, models, serving, training
from mowich.studies.explain.rules.rule import KINDS, UNITS, Rule

__all__ = ["KINDS", "RULES", "UNITS", "Rule", "rules_of"]

RULES: Mapping[str, tuple[Rule, ...]] = {
    schema: rules
    for kind in (training, serving, machines, evidence, models, fleet, kernels)
    for schema, rules in kind.RULES.items()
}
"""Schema -> rules, the first that matches wins; "serve" stands for serving results of compare and plan."""


def rules_of(result: Result) -> tuple[Rule, ...]:
    """The rules of a result; none for an unknown schema."""
    schema = str(result.get("schema"))
    is_serving = (
        isinstance(result.get("inputs"), Mapping)
        and result["inputs"].get("task") == "serve"
        and schema != "mowich/fit@1"
    )
    return RULES.get("serve" if is_serving else schema, ())
