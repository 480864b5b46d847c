"""The verbs as Python functions.

Written by `tools/python_stubs.py` from their schemas. Do not edit."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from mowich.api.kernel_verbs import check_kernel as check_kernel, debug_kernel as debug_kernel, load_kernel as load_kernel, run_kernel as run_kernel
from mowich.api.keywords import Forward as Forward, Serve as Serve, Train as Train
from mowich.api.result_verbs import explain as explain, stale_facts as stale_facts, verify as verify
from mowich.api.verbs import emit as emit, load as load, neighbours as neighbours, pareto as pareto
from mowich.errors import UserError as UserError
from mowich.estimate import Estimate as Estimate
from mowich.evidence.scores import Validation as Validation
from mowich.facts import Facts as Facts, load_facts as load_facts
from mowich.machines.system import System as System
from mowich.models import Model as Model
from mowich.shown import AnswerList as AnswerList, Rows as Rows, Shown as Shown
from mowich.studies.advise.advise import KernelAdvice as KernelAdvice
from mowich.studies.brief.verdicts import Brief as Brief
from mowich.studies.calibrate import Calibration as Calibration
from mowich.studies.compare import Comparison as Comparison, PlanList as PlanList, Row as Row
from mowich.studies.debug.answer import KernelDebug as KernelDebug
from mowich.studies.explain import Explanation as Explanation
from mowich.studies.fleet import Fleet as Fleet
from mowich.studies.forecasts import Forecasts as Forecasts
from mowich.studies.forward_answer import ForwardAnswer as ForwardAnswer
from mowich.studies.judge.judge import KernelJudge as KernelJudge
from mowich.studies.kernel_check import KernelsChecked as KernelsChecked
from mowich.studies.layer.study import LayerStudy as LayerStudy
from mowich.studies.next_measure import NextMeasurements as NextMeasurements
from mowich.studies.rates import RateResult as RateResult
from mowich.studies.rl_answer import RlAnswer as RlAnswer
from mowich.studies.rooms.claims import ClaimStudy as ClaimStudy
from mowich.studies.rooms.collective.group import CollectiveStudy as CollectiveStudy
from mowich.studies.rooms.gap import Gap as Gap
from mowich.studies.rooms.goodput import GoodputStudy as GoodputStudy
from mowich.studies.rooms.power import PowerStudy as PowerStudy
from mowich.studies.rooms.prices import PriceStudy as PriceStudy
from mowich.studies.rooms.value import ValueStudy as ValueStudy
from mowich.studies.serving_plan import ServeResult as ServeResult
from mowich.studies.staleness import Staleness as Staleness
from mowich.studies.sweep import Sweep as Sweep
from mowich.studies.sweep_store import Parts as Parts
from mowich.studies.system_run import SystemRun as SystemRun
from mowich.studies.trade import Why as Why
from mowich.studies.traffic import TrafficResult as TrafficResult
from mowich.studies.tune.tune import KernelTune as KernelTune
from mowich.studies.verify import Verification as Verification
from pathlib import Path
from typing import overload

__version__: str

def advise(
    file: str | Path,
    arguments: Sequence[str] = (),
    *,
    kernel: str | None = None,
    target: str | None = None,
    lnc: int | None = None,
    nki: str | None = None,
    top: int = 3,
    shows_all: bool = False,
    runs: bool = True,
    tolerance: float | None = None,
    seed: int = 0,
) -> KernelAdvice: ...
def brief(
    *,
    against: Sequence[str | System] = ('gb300', 'ironwood'),
    models: str | Model | Sequence[str | Model] = ('deepseek-v3', 'gpt-oss-120b'),
    facts: Facts | None = None,
) -> Brief: ...
def calibrate(
    files: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    on: str | System | None = None,
    model: str | None = None,
    software: str | None = None,
    plan: str | Mapping[str, str] | None = None,
    format: str | None = None,
    scenario: str | Path | None = None,
    widen: bool = False,
    facts: Facts | None = None,
) -> Calibration: ...
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
    model: str | Path | Model | None = None,
    to: str | System = "",
    method: str = "",
    link_Bps: float | str | None = None,
    worker: int | None = None,
    weights: str = "bf16",
    facts: Facts | None = None,
) -> CollectiveStudy: ...
@overload
def compare(
    model: str | Path | Model,
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
    model: str | Path | Model,
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
    model: str | Path | Model,
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
    model: str | Path | Model,
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
def fleet(
    scenario: str | Path | None = None,
    *,
    have: str | Sequence[str] | None = None,
    work: str | Sequence[str] = (),
    rates: str | Path | None = None,
    draws: int = 30,
    flips: bool = False,
    tenant: str | tuple[str, float] | None = None,
    relaxed: bool = False,
    gap: float = 0.005,
    seed: int = 0,
    facts: Facts | None = None,
) -> Fleet: ...
def forecasts(
    ledger: str | Path | None = None,
) -> Forecasts: ...
def gap(
    first: str | System,
    second: str | System,
    *,
    model: str | Path | Model,
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
def judge(
    candidates: Sequence[str | Path],
    reference: str | Path,
    *,
    on: str = "trn3",
    kernel: str | None = None,
    shapes: Sequence[str] = (),
    seeds: int = 2,
    tolerance: float | None = None,
    measured: Mapping[str, float | str] = {},
    measure_budget: int | None = None,
    time_alone: bool = False,
    lnc: int | None = None,
    nki: str | None = None,
    processes: int = 1,
    timeout_s: float = 20.0,
    memory_GiB: float = 4.0,
    cache: str | Path | None = None,
    seed: int = 0,
) -> KernelJudge: ...
def next_measurements(
    question: str,
    *,
    on: str | System,
    number: str | None = None,
    budget: int = 3,
) -> NextMeasurements: ...
@overload
def plan(
    model: str | Path | Model,
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
    model: str | Path | Model,
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
    model: str | Path | Model,
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
def rl(
    model: str | Path | Model | None = None,
    *,
    algorithm: str | None = None,
    teacher: str | Path | Model | None = None,
    critic: str | Path | Model | None = None,
    prompts: int | None = None,
    samples: int | None = None,
    batch: int | None = None,
    global_batch: int | None = None,
    epochs: int | None = None,
    mean: float | str | None = None,
    cap: float | str | None = None,
    sigma: float | None = None,
    quantiles: Mapping[str, object] | str | None = None,
    lengths: str | Path | None = None,
    column: str | None = None,
    prompt: float | str | None = None,
    max_sequence: float | str | None = None,
    reference: bool | None = None,
    acceptance: float | str | None = None,
    placement: str | None = None,
    staleness: int | None = None,
    order: str | None = None,
    partial: bool | None = None,
    on: str | Sequence[str | System] | None = None,
    chips: int | None = None,
    goal: str | None = None,
    budget: float | None = None,
    rollouts: str | System | None = None,
    trainer: str | System | None = None,
    engine: str | None = None,
    release: str | None = None,
    rollout_plan: Mapping[str, object] | str | None = None,
    memory_share: float | str | None = None,
    accept: float | None = None,
    drafts: int | None = None,
    stack: str | None = None,
    trainer_plan: Mapping[str, object] | str | None = None,
    framework: str | None = None,
    sync: str | None = None,
    link: float | str | None = None,
    environment: str | None = None,
    turns: float | None = None,
    call: float | str | None = None,
    reward: float | str | None = None,
    judge: str | Path | Model | None = None,
    judge_on: str | System | None = None,
    judge_tokens: float | str | None = None,
    price: str | None = None,
    term: str = "default",
    seed: int = 0,
    facts: Facts | None = None,
) -> RlAnswer: ...
def run_layer(
    model: str | Path | Model,
    on: str | System,
    *,
    tp: int | None = None,
    lnc: int = 2,
    batch: int = 1,
    context: float | str = 2048.0,
    prefill: bool = False,
    library: str | Path | None = None,
    facts: Facts | None = None,
) -> LayerStudy: ...
@overload
def sweep(
    scenario: str | Path | Model | Sequence[str | Path | Model],
    systems: str | Sequence[str | System] | None = None,
    *,
    train: Mapping[str, object] | None = None,
    serve: Mapping[str, object] | None = None,
    chips: int | str | Sequence[int | str] | None = None,
    fixed: Mapping[str, str] | None = None,
    vary: Mapping[str, str] | None = None,
    executor: Executor | None = None,
    tasks: int = 1,
    price: str | None = None,
    stack: str | None = None,
    recipe: str | None = None,
    term: str = "default",
    out: None = None,
    facts: Facts | None = None,
) -> Sweep: ...
@overload
def sweep(
    scenario: str | Path | Model | Sequence[str | Path | Model],
    systems: str | Sequence[str | System] | None = None,
    *,
    train: Mapping[str, object] | None = None,
    serve: Mapping[str, object] | None = None,
    chips: int | str | Sequence[int | str] | None = None,
    fixed: Mapping[str, str] | None = None,
    vary: Mapping[str, str] | None = None,
    executor: Executor | None = None,
    tasks: int = 1,
    price: str | None = None,
    stack: str | None = None,
    recipe: str | None = None,
    term: str = "default",
    out: str | Path,
    facts: Facts | None = None,
) -> Parts: ...
def system(
    name: str,
    *,
    chips: int | None = None,
    facts: Facts | None = None,
) -> System: ...
def traffic(
    scenario: str | Path,
    *,
    requests_out: str | Path | None = None,
    sessions_out: str | Path | None = None,
    trace_out: str | Path | None = None,
    draws: int | None = None,
    autoscale: str | Sequence[str] = (),
    regret: bool = False,
    facts: Facts | None = None,
) -> TrafficResult: ...
def tune(
    file: str | Path,
    vary: Mapping[str, Sequence[object]] | Sequence[str],
    *,
    on: str | Sequence[str] = ('trn3',),
    kernel: str | None = None,
    shapes: Sequence[str] = (),
    reference: str | Path | None = None,
    seeds: int = 2,
    tolerance: float | None = None,
    limit: int = 1000,
    all_values: bool = False,
    lnc: int | None = None,
    nki: str | None = None,
    processes: int = 1,
    timeout_s: float = 20.0,
    memory_GiB: float = 4.0,
    seed: int = 0,
) -> KernelTune: ...
def validate(
    path: str | Path | None = None,
    *,
    facts: Facts | None = None,
) -> Validation: ...
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
