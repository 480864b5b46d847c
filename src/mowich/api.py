"""The verbs as Python functions: keyword arguments, strings with units at the edge, immutable results.

`facts` may be given (`mowich.facts.load(...)`, `.with_values(...)`); otherwise the shipped facts are used.

>>> import mowich
>>> best = mowich.plan("llama-3.1-8b", "h100:64", train={"tokens": "1T", "seq": 4096, "batch": "256seqs"}).rows[0]
>>> best.feasible, best.step_s.unit
(True, 's')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from mowich import asked, models
from mowich import facts as _facts
from mowich.errors import Problems, UserError, unknown
from mowich.evidence import validate as _validate
from mowich.evidence.scores import Validation
from mowich.facts import Facts
from mowich.machines.system import System, resolve
from mowich.models import Model
from mowich.plans.plan import TrainJob, parse_fixed
from mowich.studies import compare as _compare
from mowich.studies import explain as _explain
from mowich.studies import fleet as _fleet
from mowich.studies import sweep as _sweep
from mowich.studies import trade as _trade
from mowich.studies.compare import Ask, Comparison, PlanList, Row
from mowich.studies.explain import Explanation
from mowich.studies.fleet import Fleet
from mowich.studies.sweep import Sweep
from mowich.studies.trade import Why

if TYPE_CHECKING:
    from mowich.nki import Result
    from mowich.serving.search import ServeJob
    from mowich.studies.claims import Claim
    from mowich.studies.collectives import CollectiveStudy
    from mowich.studies.goodput import GoodputStudy
    from mowich.studies.power import PowerRow
    from mowich.studies.serving_plan import ServeResult
    from mowich.studies.sweep_store import Parts
    from mowich.studies.system_run import SystemRun
    from mowich.studies.traffic import TrafficResult

Train = Mapping[str, object]
"""{"tokens": "15T", "seq": 4096, "batch": "16384seqs" or "64M" (tokens)}; also "task": "sft", "lora:16:attention",
"document": mean tokens of packed documents, "fill": share of a sequence that is no padding."""


Serve = Mapping[str, object]
"""{"isl": "8k", "osl": "1k"}: tokens of a prompt and of an answer; also "ttft": "2s" and "tpot": "30ms" (limits;
numbers are seconds), "cached": share of prompts in the prefix cache, 0.6 or "60%", "accept": tokens kept per
speculative step, "engine": "vllm"."""


def load(model: str) -> Model:
    """A built-in name, a Hugging Face `config.json` or a directory holding one -> Model."""
    return models.load(model)


def system(name: str, *, chips: int | None = None, facts: Facts | None = None) -> System:
    """ "trn3", "trn3:64", "trn3-gen2*4", "ironwood:4x4x8" -> System."""
    return resolve(facts or _facts.load(), name, chips=asked.chips(chips, "chips"))


_TRAIN = '{"tokens": "15T", "seq": 4096, "batch": "16384seqs"}'
_SERVE = '{"isl": "8k", "osl": "1k", "ttft": "2s", "tpot": "30ms"}'


def _job(train: Train) -> TrainJob:
    keys = ("tokens", "seq", "batch", "task", "document", "fill")
    for key in train:
        if key not in keys:
            raise unknown("key of train", key, keys)
    for key in ("tokens", "seq", "batch"):
        if key not in train:
            raise UserError(f"train needs {key!r}", allowed=_TRAIN)
    problems = Problems()
    task = train.get("task")
    job = asked.train(
        train["tokens"],
        train["seq"],
        train["batch"],
        problems,
        lambda key: f"train.{key}",
        task=None if task is None else str(task),
        document=train.get("document"),
        fill=train.get("fill", 1.0),
    )
    problems.stop()
    if job is None:
        raise UserError("train needs 'tokens', 'seq' and 'batch'", given=dict(train), allowed=_TRAIN)
    return job


def _systems(
    given: Sequence[str | System], chips: int | None, facts: Facts, *, equal: str = "chips", stack: str | None = None
) -> list[str]:
    """What the verbs call the systems of a comparison, each checked."""
    if isinstance(given, str | System):
        raise UserError(
            "compare takes a list of systems", where="systems", given=_name(given), fix=f"[{_name(given)!r}]"
        )
    problems = Problems()
    names = asked.systems([_name(s) for s in given], chips, facts, problems, "systems", equal=equal, stack=stack)
    problems.stop()
    return names


def _name(system: str | System) -> str:
    """What the verbs call a system."""
    return system if isinstance(system, str) else f"{system.id}:{system.chips}"


def _model(model: str | Model) -> Model:
    return load(model) if isinstance(model, str) else model


def _serving(serve: Serve) -> tuple[ServeJob, str | None]:
    """The serving job, and the engine asked for."""
    keys = ("isl", "osl", "ttft", "tpot", "cached", "accept", "engine")
    for key in serve:
        if key not in keys:
            raise unknown("key of serve", key, keys)
    for key in ("isl", "osl"):
        if key not in serve:
            raise UserError(f"serve needs {key!r}", allowed=_SERVE)
    problems = Problems()
    engine = serve.get("engine")
    job = asked.serve(
        serve["isl"],
        serve["osl"],
        problems,
        lambda key: f"serve.{key}",
        ttft=serve.get("ttft"),
        tpot=serve.get("tpot"),
        cached=serve.get("cached"),
        accept=serve.get("accept"),
        engine=engine,
    )
    problems.stop()
    if job is None:
        raise UserError("serve needs 'isl' and 'osl'", given=dict(serve), allowed=_SERVE)
    return job, None if engine is None else str(engine)


def _one_job(train: Train | None, serve: Serve | None, stack: str | None) -> None:
    if (train is None) == (serve is None):
        raise UserError("give either train or serve", given="neither" if train is None else "both")
    if serve is not None and stack is not None:
        raise UserError(
            "is an option of training", where="stack", given=stack, fix='serve={"engine": ...} names serving software'
        )


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
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
) -> Comparison | ServeResult:
    """The best plan of each system for one training or serving job; `fixed` restricts plan fields, {"tp": "4,8"};
    stack: training software, "jax-gpu"."""
    _one_job(train, serve, stack)
    known, chips = facts or _facts.load(), asked.chips(chips, "chips")
    names = _systems(systems, chips, known, equal=equal, stack=stack)
    if serve is not None:
        from mowich.studies import serving_plan

        if equal != "chips":
            raise UserError("serving compares on equal chips", where="equal", given=equal)
        job, engine = _serving(serve)
        return serving_plan.compare(
            _model(model),
            names,
            job=job,
            facts=known,
            chips=chips,
            engine=engine,
            fixed=serving_plan.parse_serving(fixed or {}),
            term=term,
        )
    assert train is not None
    return _compare.compare(
        _model(model),
        names,
        train=_job(train),
        chips=chips,
        equal=equal,
        fixed=parse_fixed(fixed or {}),
        term=term,
        stack=stack,
        facts=known,
    )


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
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
) -> ServeResult: ...
def plan(
    model: str | Model,
    on: str | System,
    *,
    train: Train | None = None,
    serve: Serve | None = None,
    chips: int | None = None,
    top: int = 5,
    fixed: Mapping[str, str] | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
) -> PlanList | ServeResult:
    """The best plans of one system for a training or a serving job, best first; a serving result has the Pareto front
    too."""
    _one_job(train, serve, stack)
    known, chips, top = facts or _facts.load(), asked.chips(chips, "chips"), asked.top(top, "top")
    if serve is not None:
        from mowich.studies import serving_plan

        job, engine = _serving(serve)
        return serving_plan.plan(
            _model(model),
            _name(on),
            job=job,
            facts=known,
            chips=chips,
            engine=engine,
            top=top,
            fixed=serving_plan.parse_serving(fixed or {}),
            term=term,
        )
    assert train is not None
    return _compare.plan(
        _model(model),
        _name(on),
        train=_job(train),
        chips=chips,
        top=top,
        fixed=parse_fixed(fixed or {}),
        term=term,
        stack=stack,
        facts=known,
    )


def traffic(
    scenario: str | Path,
    *,
    requests_out: str | Path | None = None,
    trace_out: str | Path | None = None,
    facts: Facts | None = None,
) -> TrafficResult:
    """Simulate the serving traffic of a scenario file; requests_out: one CSV line per request, trace_out: a timeline
    for ui.perfetto.dev."""
    from mowich.studies import traffic as study

    def file(path: str | Path | None) -> Path | None:
        return None if path is None else Path(path)

    return study.traffic(scenario, facts or _facts.load(), requests_out=file(requests_out), trace_out=file(trace_out))


def neighbours(result: PlanList, *, fixed: Mapping[str, str] | None = None) -> Why:
    """Why the best plan of `plan` wins: the best with each choice a step away, ties, and a sentence. Give the `fixed`
    that `plan` had."""
    return _trade.why(_ask(result), fixed=parse_fixed(fixed or {}))


def pareto(result: PlanList, *, fixed: Mapping[str, str] | None = None) -> tuple[Row, ...]:
    """Plans that nothing beats in time, memory, cost and energy at once, on the chips of `plan` and halves of them,
    fastest first."""
    return _trade.pareto(_ask(result), fixed=parse_fixed(fixed or {}))


def _ask(result: PlanList) -> Ask:
    if result.ask is None:
        raise UserError("these plans do not say what was asked", fix="give what mowich.plan returned")
    return result.ask


@overload
def sweep(
    scenario: str | Path,
    *,
    out: None = None,
    vary: Mapping[str, str] | None = None,
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
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
    executor: Executor | None = None,
    tasks: int = 1,
) -> Sweep | Parts:
    """The best plan at every point of a scenario's grid. vary: further axes, {"chips": "64..4096:x2"}; out: a directory
    for Parquet, where a killed sweep goes on;
    executor: any of `concurrent.futures`, with about `tasks` pieces of work for it (out: that many workers)."""
    known = facts or _facts.load()
    if out is None:
        grid = _sweep.read(scenario, known, vary=vary, stack=stack)
        return _sweep.sweep(grid, known, term=term, stack=stack, executor=executor, tasks=tasks)
    from mowich.studies.sweep_store import sweep_to

    grid = _sweep.read(scenario, known, vary=vary, most=_sweep.MAX_STORED, stack=stack)
    return sweep_to(Path(out), grid, known, term=term, stack=stack, executor=executor, workers=tasks)


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
    if (train is None) == (kv is None):
        raise UserError("fit takes one of train and kv", allowed='train={"tokens": "15T", ...} or kv="128k"')
    for name, given, job in (("engine", engine, train), ("stack", stack, kv)):
        if given is not None and job is not None:
            raise UserError(f"is an option of {'serving' if name == 'engine' else 'training'}", where=name, given=given)
    if train is not None:
        return plan(model, on, train=train, chips=chips, top=1, fixed=fixed, stack=stack, facts=facts).rows[0].feasible
    from mowich.studies.serving_fit import fit_serving
    from mowich.studies.serving_plan import parse_serving

    chips, tokens, choices = (
        asked.chips(chips, "chips"),
        asked.count(kv, "kv", maximum=asked.LONGEST_SERVED),
        parse_serving(fixed or {}),
    )
    problems = Problems()
    asked.check_engine(engine, problems, "engine")
    problems.stop()
    return fit_serving(
        _model(model), _name(on), tokens=tokens, facts=facts or _facts.load(), chips=chips, engine=engine, fixed=choices
    ).fits


def explain(result: Any, metric: str, *, model: str | Model | None = None, facts: Facts | None = None) -> Explanation:
    """Where a number of a result comes from: formula, inputs, facts, and what would move it most. result: what a verb
    returned, or its JSON object;
    metric: "trn3.step_s.ep", "1.mfu", "ttft_s.p99"; give the model and the facts that made it where they are not the
    shipped ones."""
    data = result if isinstance(result, Mapping) else result.to_dict()
    return _explain.explain(data, metric, facts or _facts.load(), model=None if model is None else _model(model))


def validate(path: str | Path | None = None, *, facts: Facts | None = None) -> Validation:
    """Predicted against measured for a table of training steps (None: the published rows that ship)."""
    return _validate.validate(path, facts or _facts.load())


def fleet(
    scenario: str | Path,
    *,
    rates: str | Path | None = None,
    draws: int = 0,
    flips: bool = False,
    relaxed: bool = False,
    gap: float = 0.005,
    seed: int = 0,
    facts: Facts | None = None,
) -> Fleet:
    """What to buy, rent and assign in each period of a scenario file; rates: speeds from a file instead of predicting
    them."""
    return _fleet.fleet(
        scenario,
        facts or _facts.load(),
        rates_file=None if rates is None else Path(rates),
        draws=draws,
        with_flips=flips,
        relaxed=relaxed,
        gap=gap,
        seed=seed,
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
    from mowich.studies import collectives as study

    amounts = [asked.size(x, "sizes") for x in sizes]
    return study.collective(
        facts or _facts.load(),
        kind,
        on,
        sizes=amounts,
        group=asked.chips(group, "group"),
        network=network,
        oversubscription=oversubscription,
        fail=fail,
        beside=beside,
    )


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
    from mowich.studies import goodput as study
    from mowich.training.faults import STRATEGIES

    return study.goodput(
        facts or _facts.load(),
        on,
        days=days,
        step_s=step_s,
        strategies=STRATEGIES if strategies is None else strategies,
        spare_share=spare_share,
        replica=asked.chips(replica, "replica"),
        checkpoint_s=checkpoint_s,
        samples=samples,
        seed=seed,
    )


def claims(*, facts: Facts | None = None) -> list[Claim]:
    """Each public claim, derived again, with a verdict."""
    from mowich.studies import claims as study

    return study.claims(facts or _facts.load())


def power(
    systems: Sequence[str],
    *,
    cap_W: float | None = None,
    spares: float = 0.0,
    tokens_per_s: float | None = None,
    facts: Facts | None = None,
) -> list[PowerRow]:
    """Power of machines by part; chips under a cap of a site and tokens per megawatt where asked for."""
    from mowich.studies import power as study

    return study.study(facts or _facts.load(), systems, cap_W=cap_W, spares=spares, tokens_per_s=tokens_per_s)


def _copied(arrays: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The same arguments for one rank, arrays copied so that ranks do not write into each other's."""
    if kwargs:
        raise UserError(
            "with system, arguments go by position", given=sorted(kwargs), fix="inputs=[...] takes a dict for each rank"
        )
    return [a.copy() if hasattr(a, "copy") else a for a in arrays]


def run_kernel(
    kernel: Any,
    *arrays: Any,
    target: str | None = None,
    lnc: int = 1,
    values: bool = True,
    ranks: int = 1,
    timed: bool = True,
    system: str | None = None,
    inputs: Sequence[Any] | None = None,
    facts: Facts | None = None,
    **kwargs: Any,
) -> Result | list[Result] | SystemRun:
    """Run an NKI kernel on a simulated NeuronCore; `.outputs` are what it returned, `.warnings` what it should not do,
    `.time_s` how long it takes (an Estimate in seconds, made when asked for).

    target: trn1, trn2 or trn3 (default: the kernel's own, else trn3); lnc: cores of the logical core, 1 or 2;
    values=False times a kernel and checks its instructions without arithmetic; timed=False: no clock; ranks=N runs the
    same arguments on N ranks and gives a list. For other arguments on each rank there is `mowich.nki.simulate_ranks`.

    system="trn3-gen2", ranks=144: the kernel on 144 chips of that machine, one core of each; gives a `SystemRun` with
    the results of all ranks and the time of every collective on the fabric, by level. inputs: arguments of each rank,
    instead of the same `arrays` on all.
    """
    if system is not None:
        from mowich.studies import system_run

        if target is not None:
            raise UserError("system says which core runs: leave target out", given=target)
        given = list(inputs) if inputs is not None else [_copied(arrays, kwargs) for _ in range(ranks)]
        return system_run.run(facts or _facts.load(), kernel, given, system=system, lnc=lnc, values=values)
    if inputs is not None:
        raise UserError("inputs of each rank need a system", fix='run_kernel(kernel, inputs=[...], system="trn3-gen2")')
    from mowich import nki

    return nki.run_kernel(kernel, *arrays, target=target, lnc=lnc, values=values, ranks=ranks, timed=timed, **kwargs)
