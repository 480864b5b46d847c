"""The verbs as Python functions.

Written by `tools/python_stubs.py` from their schemas. Do not edit."""

from collections.abc import Mapping, Sequence
from mowich.api.kernel_verbs import advise as advise, check_kernel as check_kernel, debug_kernel as debug_kernel, judge as judge, load_kernel as load_kernel, run_kernel as run_kernel, run_layer as run_layer, tune as tune
from mowich.api.keywords import Forward, Serve, Train
from mowich.api.result_verbs import calibrate as calibrate, explain as explain, forecasts as forecasts, next_measurements as next_measurements, stale_facts as stale_facts, validate as validate, verify as verify
from mowich.api.scenario_verbs import fleet as fleet, rl as rl, sweep as sweep, traffic as traffic
from mowich.api.verbs import brief as brief, emit as emit, load as load, neighbours as neighbours, pareto as pareto, system as system
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.models import Model
from mowich.studies.claims import ClaimStudy
from mowich.studies.collectives import CollectiveStudy
from mowich.studies.compare import Comparison, PlanList
from mowich.studies.forward_answer import ForwardAnswer
from mowich.studies.gap import Gap
from mowich.studies.goodput import GoodputStudy
from mowich.studies.power import PowerStudy
from mowich.studies.prices import PriceStudy
from mowich.studies.rates import RateResult
from mowich.studies.serving_plan import ServeResult
from mowich.studies.value import ValueStudy
from pathlib import Path
from typing import overload

def claims(
    word: str | None = None,
    *,
    facts: Facts | None = None,
) -> ClaimStudy: ...
def collective(
    kind: str,
    on: str | System,
    *,
    sizes: str | Sequence[int | str] = ...,
    group: int | None = None,
    network: str = "",
    oversubscription: float = 1.0,
    fail: Sequence[str] = (),
    beside: Sequence[str] = (),
    layer: str = "graph",
    lnc: int | None = None,
    model: str | Model | None = None,
    to: str | System = "",
    method: str = "",
    link_Bps: float | str | None = None,
    worker: int | None = None,
    weights: str = "bf16",
    facts: Facts | None = None,
) -> CollectiveStudy: ...
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
def goodput(
    on: str | System,
    *,
    days: float = 90.0,
    step_s: float | str = 5.0,
    strategies: str | Sequence[str] | None = None,
    spare_share: float | str = 0.02,
    replica: int | None = None,
    checkpoint_s: float | str | None = None,
    samples: int = 1000,
    seed: int = 0,
    facts: Facts | None = None,
) -> GoodputStudy: ...
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
def power(
    systems: Sequence[str | System],
    *,
    cap_W: float | str | None = None,
    spares: float | str = 0.0,
    tokens_per_s: float | None = None,
    facts: Facts | None = None,
) -> PowerStudy: ...
def prices(
    systems: Sequence[str | System] | None = None,
    *,
    price: str | None = None,
    quarter: str | None = None,
    rule: str | None = None,
    buyer: str | None = None,
    life_s: float | str | None = None,
    chips: float | str | None = None,
    margin: float | str | None = None,
    facts: Facts | None = None,
) -> PriceStudy: ...
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
