"""The verbs as Python functions: keyword arguments, strings with units at the edge, immutable results.

`facts` may be given (`mowich.facts.load_facts(...)`, `.with_values(...)`); otherwise the shipped facts are used.

>>> import mowich
>>> best = mowich.plan("llama-3.1-8b", "h100:64", train={"tokens": "1T", "seq": 4096, "batch": "256seqs"}).rows[0]
>>> best.feasible, best.step_s.unit
(True, 's')
"""

from __future__ import annotations

from mowich.api.kernel_verbs import (
    advise,
    check_kernel,
    debug_kernel,
    judge,
    load_kernel,
    run_kernel,
    run_layer,
    tune,
)
from mowich.api.machine_verbs import claims, collective, goodput, power, prices
from mowich.api.result_verbs import calibrate, explain, forecasts, next_measurements, stale_facts, validate, verify
from mowich.api.scenario_verbs import fleet, rl, sweep, traffic
from mowich.api.verbs import brief, compare, emit, fit, gap, load, neighbours, pareto, plan, system, value

__all__ = [
    "advise",
    "brief",
    "calibrate",
    "check_kernel",
    "claims",
    "collective",
    "compare",
    "debug_kernel",
    "emit",
    "explain",
    "fit",
    "fleet",
    "forecasts",
    "gap",
    "goodput",
    "judge",
    "load",
    "load_kernel",
    "neighbours",
    "next_measurements",
    "pareto",
    "plan",
    "power",
    "prices",
    "rl",
    "run_kernel",
    "run_layer",
    "stale_facts",
    "sweep",
    "system",
    "traffic",
    "tune",
    "validate",
    "value",
    "verify",
]
