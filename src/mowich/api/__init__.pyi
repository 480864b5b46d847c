"""The verbs as Python functions.

Written by `tools/python_stubs.py` from their schemas. Do not edit."""

from collections.abc import Mapping, Sequence
from mowich.api.kernel_verbs import advise as advise, check_kernel as check_kernel, debug_kernel as debug_kernel, judge as judge, load_kernel as load_kernel, run_kernel as run_kernel, run_layer as run_layer, tune as tune
from mowich.api.keywords import Forward, Serve, Train
from mowich.api.machine_verbs import claims as claims, collective as collective, goodput as goodput, power as power, prices as prices
from mowich.api.result_verbs import calibrate as calibrate, explain as explain, forecasts as forecasts, next_measurements as next_measurements, stale_facts as stale_facts, validate as validate, verify as verify
from mowich.api.scenario_verbs import fleet as fleet, rl as rl, sweep as sweep, traffic as traffic
from mowich.api.verbs import brief as brief, emit as emit, load as load, neighbours as neighbours, pareto as pareto, system as system
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.models import Model
from mowich.studies.compare import Comparison, PlanList
from mowich.studies.forward_answer import ForwardAnswer
from mowich.studies.gap import Gap
from mowich.studies.rates import RateResult
from mowich.studies.serving_plan import ServeResult
from mowich.studies.value import ValueStudy
from pathlib import Path
from typing import overload

@overload
def compare(
    model: str | Model,
    systems: Sequence[str | System] = (),
    *,
    train: Train,
    serve: None = None,
    forward: None = None,
    chips: int | None = None,
    equal: str = "chips",
    budget: float | str | None = None,
    days: float | None = None,
    have: Sequence[str | System] = (),
    power: float | str | None = None,
    per: str | None = None,
    sells: str | None = None,
    within: float | str | None = None,
    price: str | None = None,
    stack: str | None = None,
    recipe: str | None = None,
    plan: str | Path | None = None,
    fixed: Mapping[str, str] | None = None,
    term: str = "default",
    facts: Facts | None = None,
) -> Comparison: ...
@overload
def compare(
    model: str | Model,
    systems: Sequence[str | System] = (),
    *,
    train: None = None,
    serve: Serve,
    forward: None = None,
    chips: int | None = None,
    equal: str = "chips",
    budget: float | str | None = None,
    days: float | None = None,
    have: Sequence[str | System] = (),
    power: float | str | None = None,
    per: str | None = None,
    sells: str | None = None,
    within: float | str | None = None,
    price: str | None = None,
    stack: str | None = None,
    recipe: str | None = None,
    plan: str | Path | None = None,
    fixed: Mapping[str, str] | None = None,
    term: str = "default",
    facts: Facts | None = None,
) -> ServeResult: ...
@overload
def compare(
    model: str | Model,
    systems: Sequence[str | System] = (),
    *,
    train: None = None,
    serve: None = None,
    forward: Forward,
    chips: int | None = None,
    equal: str = "chips",
    budget: float | str | None = None,
    days: float | None = None,
    have: Sequence[str | System] = (),
    power: float | str | None = None,
    per: str | None = None,
    sells: str | None = None,
    within: float | str | None = None,
    price: str | None = None,
    stack: str | None = None,
    recipe: str | None = None,
    plan: str | Path | None = None,
    fixed: Mapping[str, str] | None = None,
    term: str = "default",
    facts: Facts | None = None,
) -> ForwardAnswer: ...
def fit(
    model: str | Model,
    on: str | System,
    *,
    train: Train | None = None,
    kv: float | str | None = None,
    engine: str | None = None,
    forward: Forward | None = None,
    chips: int | None = None,
    stack: str | None = None,
    recipe: str | None = None,
    fixed: Mapping[str, str] | None = None,
    facts: Facts | None = None,
) -> bool | None: ...
def gap(
    first: str | System,
    second: str | System,
    *,
    model: str | Model,
    train: Train | None = None,
    serve: Serve | None = None,
    chips: int | None = None,
    metric: str = "tokens_per_s_per_chip",
    stack: str | None = None,
    seed: int = 0,
    price: str | None = None,
    recipe: str | None = None,
    fixed: Mapping[str, str] | None = None,
    term: str = "default",
    facts: Facts | None = None,
) -> Gap: ...
@overload
def plan(
    model: str | Model,
    on: str | System,
    *,
    train: Train,
    serve: None = None,
    forward: None = None,
    chips: int | None = None,
    top: int = 5,
    emit: str | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    stack: str | None = None,
    recipe: str | None = None,
    fixed: Mapping[str, str] | None = None,
    term: str = "default",
    facts: Facts | None = None,
) -> PlanList: ...
@overload
def plan(
    model: str | Model,
    on: str | System,
    *,
    train: None = None,
    serve: Serve,
    forward: None = None,
    chips: int | None = None,
    top: int = 5,
    emit: str | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    stack: str | None = None,
    recipe: str | None = None,
    fixed: Mapping[str, str] | None = None,
    term: str = "default",
    facts: Facts | None = None,
) -> ServeResult | RateResult: ...
@overload
def plan(
    model: str | Model,
    on: str | System,
    *,
    train: None = None,
    serve: None = None,
    forward: Forward,
    chips: int | None = None,
    top: int = 5,
    emit: str | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    stack: str | None = None,
    recipe: str | None = None,
    fixed: Mapping[str, str] | None = None,
    term: str = "default",
    facts: Facts | None = None,
) -> ForwardAnswer: ...
def value(
    on: str | System,
    *,
    of: str,
    models: str | Model | Sequence[str | Model],
    train: Train | None = None,
    serve: Serve | None = None,
    low: float | str | None = None,
    high: float | str | None = None,
    points: int = 7,
    chips: int | None = None,
    stack: str | None = None,
    price: str | None = None,
    recipe: str | None = None,
    fixed: Mapping[str, str] | None = None,
    term: str = "default",
    facts: Facts | None = None,
) -> ValueStudy: ...
