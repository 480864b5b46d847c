"""The verbs as Python functions: keyword arguments, strings with units at the edge, immutable results.

`facts` may be given (`mowich.facts.load_facts(...)`, `.with_values(...)`); otherwise the shipped facts are used.

>>> import mowich
>>> best = mowich.plan("llama-3.1-8b", "h100:64", train={"tokens": "1T", "seq": 4096, "batch": "256seqs"}).rows[0]
>>> best.feasible, best.step_s.unit
(True, 's')
"""

from __future__ import annotations

from mowich.api.kernel_verbs import check_kernel, run_kernel, run_layer
from mowich.api.verbs import (
    brief,
    calibrate,
    claims,
    collective,
    compare,
    emit,
    explain,
    fit,
    fleet,
    gap,
    goodput,
    load,
    neighbours,
    pareto,
    plan,
    power,
    prices,
    stale_facts,
    sweep,
    system,
    traffic,
    validate,
    value,
)

__all__ = [
    "brief",
    "calibrate",
    "check_kernel",
    "claims",
    "collective",
    "compare",
    "emit",
    "explain",
    "fit",
    "fleet",
    "gap",
    "goodput",
    "load",
    "neighbours",
    "pareto",
    "plan",
    "power",
    "prices",
    "run_kernel",
    "run_layer",
    "stale_facts",
    "sweep",
    "system",
    "traffic",
    "validate",
    "value",
]
