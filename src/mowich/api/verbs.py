"""Jobs, machines, results and scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, overload

from mowich import models
from mowich.api.keywords import Serve, Train, keywords_asked, name_called, names_called
from mowich.errors import UserError
from mowich.evidence import validate as _validate
from mowich.evidence.scores import Validation
from mowich.facts import Facts
from mowich.launch.origin import LaunchedRow
from mowich.machines.system import System, resolve
from mowich.models import Model
from mowich.plans.plan import parse_fixed
from mowich.requests import brief as about
from mowich.requests import calibrate as measurements
from mowich.requests import gaps, jobs, known, machines, results, scenarios
from mowich.requests import prices as price_questions
from mowich.requests.fields import Edge
from mowich.shown import Text, Told
from mowich.studies import answers
from mowich.studies import fleet as _fleet
from mowich.studies import sweep as _sweep
from mowich.studies import trade as _trade
from mowich.studies.compare import Comparison, PlanList, Row, SystemAsk
from mowich.studies.explain import Explanation
from mowich.studies.fleet import Fleet
from mowich.studies.sweep import Sweep
from mowich.studies.trade import Why

if TYPE_CHECKING:
    from mowich.studies.brief.verdicts import Brief
    from mowich.studies.calibrate import Calibration
    from mowich.studies.claims import Claim
    from mowich.studies.collectives import CollectiveStudy
    from mowich.studies.gap import Gap
    from mowich.studies.goodput import GoodputStudy
    from mowich.studies.power import PowerRow
    from mowich.studies.prices import PriceStudy
    from mowich.studies.rates import RateResult
    from mowich.studies.serving_plan import ServeResult
    from mowich.studies.staleness import Staleness
    from mowich.studies.sweep_store import Parts
    from mowich.studies.traffic import TrafficResult
    from mowich.studies.value import ValueStudy


def load(model: str) -> Model:
    """A built-in name, a Hugging Face `config.json` or a directory holding one -> Model."""
    return models.load_model(model)


def system(name: str, *, chips: int | None = None, facts: Facts | None = None) -> System:
    """ "trn3", "trn3:64", "trn3-gen2*4", "ironwood:4x4x8" -> System."""
    with keywords_asked(machines.SYSTEM, facts, name=name, chips=chips) as asked:
        return resolve(asked.facts, asked.name, chips=asked.chips)


def _model(model: str | Model) -> Model:
    return load(model) if isinstance(model, str) else model


@overload
def compare(
    model: str | Model,
    systems: Sequence[str | System],
    *,
    train: Train,
    serve: None = None,
    chips: int | None = None,
    equal: str = "chips",
    fixed: Mapping[str, str] | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
) -> Comparison: ...
@overload
def compare(
    model: str | Model,
    systems: Sequence[str | System],
    *,
    serve: Serve,
    train: None = None,
    chips: int | None = None,
    equal: str = "chips",
    fixed: Mapping[str, str] | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
) -> ServeResult: ...
def compare(
    model: str | Model,
    systems: Sequence[str | System],
    *,
    train: Train | None = None,
    serve: Serve | None = None,
    chips: int | None = None,
    equal: str = "chips",
    fixed: Mapping[str, str] | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
) -> Comparison | ServeResult:
    """The best plan of each system for one training or serving job; `fixed` restricts plan fields, {"tp": "4,8"};
    stack: training software, "jax-gpu"."""
    given = {
        "train": train,
        "serve": serve,
        "chips": chips,
        "equal": equal,
        "fixed": fixed,
        "plan": plan,
        "price": price,
        "term": term,
    }
    with keywords_asked(jobs.COMPARE, facts, model=model, systems=names_called(systems), stack=stack, **given) as asked:
        return answers.compared(asked) if asked.serve is None else answers.served_compared(asked)


@overload
def plan(
    model: str | Model,
    on: str | System,
    *,
    train: Train,
    serve: None = None,
    chips: int | None = None,
    top: int = 5,
    fixed: Mapping[str, str] | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
) -> PlanList: ...
@overload
def plan(
    model: str | Model,
    on: str | System,
    *,
    serve: Serve,
    train: None = None,
    chips: int | None = None,
    top: int = 5,
    fixed: Mapping[str, str] | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
) -> ServeResult | RateResult: ...
def plan(
    model: str | Model,
    on: str | System,
    *,
    train: Train | None = None,
    serve: Serve | None = None,
    chips: int | None = None,
    top: int = 5,
    fixed: Mapping[str, str] | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
) -> PlanList | ServeResult | RateResult:
    """The best plans of one system for a training or a serving job, best first; a serving result has the Pareto front
    too. With a load (serve: rate or users, p99_ttft, p99_tpot), the smallest and the cheapest deployment on one system
    or several."""
    given = {
        "train": train,
        "serve": serve,
        "chips": chips,
        "top": top,
        "fixed": fixed,
        "plan": plan,
        "price": price,
        "term": term,
        "stack": stack,
    }
    with keywords_asked(jobs.PLAN, facts, model=model, on=name_called(on), **given) as asked:
        if asked.load is not None:
            return answers.rated_planned(asked)
        return answers.planned(asked) if asked.serve is None else answers.served_planned(asked)


def brief(
    *,
    against: Sequence[str] = about.RIVALS,
    models: Sequence[str | Model] = about.ABOUT_MODELS,
    facts: Facts | None = None,
) -> Brief:
    """Trainium 3 on one page: eight questions, `.rows`, each with a verdict and numbers; against: machines beside it;
    models: the first is trained, all are served.

    >>> mowich.brief().section("memory").verdict  # doctest: +SKIP
    'Hardly. With twice the memory and nothing else ...'
    """
    with keywords_asked(about.BRIEF, facts, against=against, models=models) as asked:
        return answers.briefed(asked)


def emit(row: LaunchedRow, program: str) -> Text:
    """The plan of a row of `plan` as a launch command or config: "vllm", "sglang", "nxdi", "torchtitan", "megatron",
    "maxtext", "skypilot", "kubernetes" ("kubernetes:sglang": with that program)."""
    return row.emit(program)


def gap(
    first: str | System,
    second: str | System,
    *,
    model: str | Model,
    train: Train | None = None,
    serve: Serve | None = None,
    chips: int | None = None,
    metric: str = "tokens_per_s_per_chip",
    fixed: Mapping[str, str] | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    seed: int = 0,
    facts: Facts | None = None,
) -> Gap:
    """Why `second` beats `first` at a job: `.rows`, factors that multiply to `.ratio`; metric: also "usd_per_mtok", and
    "usd_total" of a training run."""
    given = {"train": train, "serve": serve, "chips": chips, "metric": metric, "fixed": fixed}
    with keywords_asked(
        gaps.GAP,
        facts,
        first=name_called(first),
        second=name_called(second),
        model=model,
        stack=stack,
        seed=seed,
        price=price,
        term=term,
        **given,
    ) as asked:
        return answers.gap_explained(asked)


def value(
    on: str | System,
    *,
    of: str,
    models: str | Model | Sequence[str | Model],
    train: Train | None = None,
    serve: Serve | None = None,
    chips: int | None = None,
    low: float | str | None = None,
    high: float | str | None = None,
    points: int = 7,
    fixed: Mapping[str, str] | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
) -> ValueStudy:
    """What more of a property is worth ("memory", "bandwidth", "scale-up", "scale-out", "compute", "software"), for
    each model and each job that is given; low, high: ends of the range, "96 GiB" or SI."""
    given = {"train": train, "serve": serve, "chips": chips, "fixed": fixed, "term": term, "stack": stack}
    ends = {"low": low, "high": high, "points": points, "price": price}
    with keywords_asked(gaps.VALUE, facts, on=name_called(on), of=of, models=models, **ends, **given) as asked:
        return answers.value_found(asked)


def traffic(
    scenario: str | Path,
    *,
    requests_out: str | Path | None = None,
    trace_out: str | Path | None = None,
    draws: int | None = None,
    facts: Facts | None = None,
) -> TrafficResult:
    """Simulate the serving traffic of a scenario: a file, or its text in braces; requests_out: one CSV line per
    request, trace_out: a timeline for ui.perfetto.dev, draws: other draws for the ranges (0: no ranges)."""
    from mowich.studies import traffic as study

    given = {"requests_out": requests_out, "trace_out": trace_out, "draws": draws}
    with keywords_asked(scenarios.TRAFFIC, facts, scenario=scenario, **given) as asked:
        return study.traffic(
            asked.scenario,
            asked.facts,
            requests_out=asked.requests_out,
            trace_out=asked.trace_out,
            draws=asked.draws,
        )


def neighbours(result: PlanList, *, fixed: Mapping[str, str] | None = None) -> Why:
    """Why the best plan of `plan` wins: the best with each choice a step away, ties, and a sentence. Give the `fixed`
    that `plan` had."""
    with jobs.PLAN.told(Edge.KEYWORD):
        return _trade.why(_ask(result), fixed=parse_fixed(fixed or {}))


def pareto(result: PlanList, *, fixed: Mapping[str, str] | None = None) -> tuple[Row, ...]:
    """Plans that nothing beats in time, memory, cost and energy at once, on the chips of `plan` and halves of them,
    fastest first."""
    with jobs.PLAN.told(Edge.KEYWORD):
        return _trade.pareto(_ask(result), fixed=parse_fixed(fixed or {}))


def _ask(result: PlanList) -> SystemAsk:
    if result.ask is None:
        raise UserError("these plans do not say what was asked", fix="give what mowich.plan returned")
    return result.ask


@overload
def sweep(
    scenario: str | Path,
    *,
    out: None = None,
    vary: Mapping[str, str] | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
    executor: Executor | None = None,
    tasks: int = 1,
) -> Sweep: ...
@overload
def sweep(
    scenario: str | Path,
    *,
    out: str | Path,
    vary: Mapping[str, str] | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
    executor: Executor | None = None,
    tasks: int = 1,
) -> Parts: ...
def sweep(
    scenario: str | Path,
    *,
    out: str | Path | None = None,
    vary: Mapping[str, str] | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
    executor: Executor | None = None,
    tasks: int = 1,
) -> Sweep | Parts:
    """The best plan at every point of a scenario's grid. vary: further axes, {"chips": "64..4096:x2"}; out: a directory
    for Parquet, where a killed sweep goes on;
    executor: any of `concurrent.futures`, with about `tasks` pieces of work for it (out: that many workers)."""
    given = {
        "out": out,
        "vary": vary,
        "price": price,
        "term": term,
        "stack": stack,
        "executor": executor,
        "tasks": tasks,
    }
    with keywords_asked(scenarios.SWEEP, facts, scenario=scenario, **given) as asked:
        known, more, pool = asked.facts, asked.vary, asked.executor
        if asked.folder is None:
            grid = _sweep.read_sweep(asked.scenario, known, vary=more, stack=asked.stack)
            return _sweep.sweep(grid, known, term=asked.term, stack=asked.stack, executor=pool, tasks=asked.tasks)
        from mowich.studies.sweep_store import sweep_to

        grid = _sweep.read_sweep(asked.scenario, known, vary=more, most=_sweep.MAX_STORED, stack=asked.stack)
        return sweep_to(
            asked.folder, grid, known, term=asked.term, stack=asked.stack, executor=pool, workers=asked.tasks
        )


def fit(
    model: str | Model,
    on: str | System,
    *,
    train: Train | None = None,
    kv: int | str | None = None,
    chips: int | None = None,
    engine: str | None = None,
    fixed: Mapping[str, str] | None = None,
    stack: str | None = None,
    facts: Facts | None = None,
) -> bool | None:
    """Whether a training job fits with any plan, or, with kv ("128k": tokens of a request), a served model with the
    cache of one request; None where the range of the memory itself decides. stack: software of training, engine: of
    serving."""
    given = {"train": train, "kv": kv, "chips": chips, "engine": engine, "fixed": fixed, "stack": stack}
    with keywords_asked(jobs.FIT, facts, model=model, on=name_called(on), **given) as asked:
        return answers.fitted(asked).fits


def explain(
    result: Told | Mapping[str, object], metric: str, *, model: str | Model | None = None, facts: Facts | None = None
) -> Explanation:
    """Where a number of a result comes from: formula, inputs, facts, and what would move it most. result: what a verb
    returned, or its JSON object;
    metric: "trn3.step_s.ep", "1.mfu", "ttft_s.p99"; give the model and the facts that made it where they are not the
    shipped ones."""
    with keywords_asked(results.EXPLAIN, facts, result=result, metric=metric, model=model) as asked:
        return answers.metric_explained(asked)


def validate(path: str | Path | None = None, *, facts: Facts | None = None) -> Validation:
    """Predicted against measured for a table of training steps (None: the published rows that ship)."""
    with keywords_asked(results.VALIDATE, facts, path=path) as asked:
        return _validate.validate_rows(asked.path, asked.facts)


def calibrate(
    files: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    on: str | None = None,
    model: str | None = None,
    software: str | None = None,
    plan: str | Mapping[str, str] | None = None,
    format: str | None = None,
    widen: bool = False,
    facts: Facts | None = None,
) -> Calibration:
    """The constants that your own measurements identify, with narrower ranges; out: the overlay of facts to write, for
    `load_facts`. on, model, software, plan: what the files do not state ("trn3:64", {"tp": "8"})."""
    given = {"on": on, "model": model, "software": software, "plan": plan, "format": format, "widen": widen}
    with keywords_asked(measurements.CALIBRATE, facts, files=files, out=out, **given) as asked:
        return answers.calibrated(asked)


def fleet(
    scenario: str | Path,
    *,
    rates: str | Path | None = None,
    draws: int = 30,
    flips: bool = False,
    relaxed: bool = False,
    gap: float = 0.005,
    seed: int = 0,
    facts: Facts | None = None,
) -> Fleet:
    """What to buy, rent and assign in each period of a scenario file; rates: speeds from a file instead of predicting
    them."""
    given = {"draws": draws, "flips": flips, "relaxed": relaxed, "gap": gap, "seed": seed}
    with keywords_asked(scenarios.FLEET, facts, scenario=scenario, rates=rates, **given) as asked:
        assert asked.scenario is not None
        return _fleet.fleet(
            asked.scenario,
            asked.facts,
            rates_file=asked.rates,
            draws=asked.draws,
            with_flips=asked.flips,
            relaxed=asked.relaxed,
            gap=asked.gap,
            seed=asked.seed,
        )


def collective(
    kind: str,
    on: str,
    *,
    sizes: Sequence[int | str],
    group: int | None = None,
    network: str = "",
    oversubscription: float = 1.0,
    fail: Sequence[str] = (),
    beside: Sequence[str] = (),
    facts: Facts | None = None,
) -> CollectiveStudy:
    """Time of a collective among whole chips for each size (bytes, or "1GiB"), with failed links and jobs beside it."""
    given = {"sizes": sizes, "group": group, "network": network, "oversubscription": oversubscription}
    with keywords_asked(machines.COLLECTIVE, facts, kind=kind, on=on, fail=fail, beside=beside, **given) as asked:
        return answers.collective_timed(asked)


def goodput(
    on: str,
    *,
    days: float = 90.0,
    step_s: float = 5.0,
    spare_share: float = 0.02,
    replica: int | None = None,
    checkpoint_s: float | None = None,
    strategies: Sequence[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
    facts: Facts | None = None,
) -> GoodputStudy:
    """Goodput of a long run by way of surviving failures ("sync", "async", "memory", "elastic"; None: all): formula,
    Monte Carlo and range."""
    given = {
        "days": days,
        "step_s": step_s,
        "spare_share": spare_share,
        "replica": replica,
        "samples": samples,
        "checkpoint_s": checkpoint_s,
        "strategies": strategies,
        "seed": seed,
    }
    with keywords_asked(machines.GOODPUT, facts, on=on, **given) as asked:
        return answers.goodput_found(asked)


def claims(word: str | None = None, *, facts: Facts | None = None) -> list[Claim]:
    """Each public claim, derived again, with a verdict; word: only those with these words in title, id, figures or
    verdict ("4x", "energy trainium")."""
    with keywords_asked(results.CLAIMS, facts, word=word) as asked:
        return answers.claims_checked(asked)


def power(
    systems: Sequence[str],
    *,
    cap_W: float | None = None,
    spares: float = 0.0,
    tokens_per_s: float | None = None,
    facts: Facts | None = None,
) -> list[PowerRow]:
    """Power of machines by part; chips under a cap of a site and tokens per megawatt where asked for."""
    given = {"cap_W": cap_W, "spares": spares, "tokens_per_s": tokens_per_s}
    with keywords_asked(machines.POWER, facts, systems=systems, **given) as asked:
        return answers.power_found(asked)


def stale_facts(older_than: str, *, as_of: str | None = None, facts: Facts | None = None) -> Staleness:
    """Facts that nobody has looked at for long, the oldest first: `.stale`, each with its age in days and what to
    search for. older_than: "90d"; as_of: a day such as "2027-03-01", else today.

    >>> import mowich
    >>> mowich.stale_facts("90d", as_of="2026-12-01").stale
    ()
    """
    with keywords_asked(known.FACTS_CHECK, facts, older_than=older_than, as_of=as_of) as asked:
        return answers.stale_found(asked, facts)


def prices(
    systems: Sequence[str] | None = None,
    *,
    price: str | None = None,
    quarter: str | None = None,
    rule: str | None = None,
    buyer: str | None = None,
    life_s: float | str | None = None,
    chips: float | None = None,
    margin: float | str | None = None,
    facts: Facts | None = None,
) -> PriceStudy:
    """What a chip-hour costs its owner, part by part, the price of a kind for all rows, and what sellers keep: `.rows`.

    systems: None: all whose cost is known; price: "tco" (default), "list", "on-demand", ...; quarter: of purchase,
    "2026Q1"; rule: "owner", "semianalysis" or "epoch"; buyer: "hyperscaler" or "neocloud"; life_s: of the machine;
    chips: that share one network; margin: of a seller, a share of his price.
    """
    given = {"price": price, "quarter": quarter, "rule": rule, "buyer": buyer, "life_s": life_s, "chips": chips}
    with keywords_asked(price_questions.PRICES, facts, systems=systems, margin=margin, **given) as asked:
        return answers.prices_found(asked)
