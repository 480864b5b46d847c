"""Jobs, machines, results and scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from mowich import models
from mowich.api.keywords import Forward, Serve, Train, keywords_asked, name_called, names_called
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.launch.origin import LaunchedRow
from mowich.machines.system import System, resolve
from mowich.models import Model
from mowich.plans.plan import parse_fixed
from mowich.requests import brief as about
from mowich.requests import gaps, jobs, machines
from mowich.requests.common import model_name
from mowich.requests.fields import Edge
from mowich.shown import Text
from mowich.studies import answers
from mowich.studies import trade as _trade
from mowich.studies.compare import Comparison, PlanList, Row
from mowich.studies.outcome import SystemAsk
from mowich.studies.trade import Why

if TYPE_CHECKING:
    from mowich.studies.brief.verdicts import Brief
    from mowich.studies.forward_answer import ForwardAnswer
    from mowich.studies.gap import Gap
    from mowich.studies.rates import RateResult
    from mowich.studies.serving_plan import ServeResult
    from mowich.studies.value import ValueStudy


def load(model: str | Path) -> Model:
    """A model by name or from a file.

    Args:
        model: a built-in name ("llama-3.1-8b"), a Hugging Face id, a `config.json`, a directory that holds one, or
            the file that `python -m mowich.capture` wrote of a model's code.

    Returns: the model: layers with exact shapes, parameters as plain counts. Units: counts, bytes, FLOP.

    Example:
        >>> import mowich
        >>> mowich.load("llama-3.1-8b").params
        8030261248
    """
    return models.load_model(model_name(model))


def system(name: str, *, chips: int | None = None, facts: Facts | None = None) -> System:
    """A machine with a number of chips.

    Args:
        name: "trn3", "trn3:64" (chips), "trn3-gen2*4" (units), "ironwood:4x4x8".
        chips: chips, where the name does not say.
        facts: other facts than the shipped ones.

    Returns: the machine, hardware only. Units: SI (bytes, bytes per second, FLOP/s, watts).

    Example:
        >>> import mowich
        >>> mowich.system("trn3", chips=64).chips
        64
    """
    with keywords_asked(machines.SYSTEM, facts, name=name, chips=chips) as asked:
        return resolve(asked.facts, asked.name, chips=asked.chips)


def _model(model: str | Model) -> Model:
    return load(model) if isinstance(model, str) else model


@overload
def compare(
    model: str | Model,
    systems: Sequence[str | System] = (),
    *,
    train: Train,
    serve: None = None,
    chips: int | None = None,
    equal: str = "chips",
    budget: str | float | None = None,
    days: float | None = None,
    have: Sequence[str | System] = (),
    power: str | float | None = None,
    per: str | None = None,
    sells: str | None = None,
    within: str | float | None = None,
    fixed: Mapping[str, str] | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    recipe: str | None = None,
    facts: Facts | None = None,
) -> Comparison: ...
@overload
def compare(
    model: str | Model,
    systems: Sequence[str | System] = (),
    *,
    forward: Forward,
    train: None = None,
    serve: None = None,
    chips: int | None = None,
    fixed: Mapping[str, str] | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
) -> ForwardAnswer: ...
@overload
def compare(
    model: str | Model,
    systems: Sequence[str | System] = (),
    *,
    serve: Serve,
    train: None = None,
    chips: int | None = None,
    equal: str = "chips",
    budget: str | float | None = None,
    days: float | None = None,
    have: Sequence[str | System] = (),
    power: str | float | None = None,
    per: str | None = None,
    sells: str | None = None,
    within: str | float | None = None,
    fixed: Mapping[str, str] | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    recipe: str | None = None,
    facts: Facts | None = None,
) -> ServeResult: ...
def compare(
    model: str | Model,
    systems: Sequence[str | System] = (),
    *,
    train: Train | None = None,
    serve: Serve | None = None,
    forward: Forward | None = None,
    chips: int | None = None,
    equal: str = "chips",
    budget: str | float | None = None,
    days: float | None = None,
    have: Sequence[str | System] = (),
    power: str | float | None = None,
    per: str | None = None,
    sells: str | None = None,
    within: str | float | None = None,
    fixed: Mapping[str, str] | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    recipe: str | None = None,
    facts: Facts | None = None,
) -> Comparison | ServeResult | ForwardAnswer:
    """The best plan of each system for one job: training, serving, or forward passes (images, clips, encoders).

    Args:
        model: a name, a file, or what `mowich.load` gave.
        systems: names ("trn3", "gb300:72") or what `mowich.system` gave; at least one, here or in `have`.
        train: the training job, {"tokens": "1T", "seq": 4096, "batch": "512seqs"}; keys as in `mowich.Train`.
        serve: the serving job, {"isl": "8k", "osl": "1k", "ttft": "2s", "tpot": "30ms"}; keys as in `mowich.Serve`.
        forward: forward passes, {"task": "diffuse", "height": 1024, "width": 1024, "steps": 28}; keys as in
            `mowich.Forward`.
        chips: of each system; None takes the number in its name, else one unit.
        equal: what is the same for all: "chips", "units", "usd" or "power".
        budget: money for `days`, "$2M". It rents the chips of a system without a size; chips of a size are there
            already, and it pays their electricity (`owned` of a row). Rows have `tokens_trained` or `tokens_served`.
        days: that the budget pays for.
        have: systems that are there already, with their sizes ("trn2:512"). They come first, and cost electricity.
        power: of a site at the meter, "5MW": each system without a size has as many chips as it feeds.
        per: "year", "month" or "day": what each row comes to in that time (`yearly` of a row).
        sells: with `per`, what tokens are sold at: "$0.50/Mtok", or a range, "$0.3..$0.6/Mtok".
        within: with `per`, by when a port to another maker's software has to pay: "2y".
        fixed: choices of the plan that are not searched, {"tp": "4,8"}.
        plan: a launch command or config of another program, whose plan is taken.
        price: kind of price: "tco" (without one), "rent", "on-demand", "1y", "3y", "capacity-block", "spot", "list",
            "market", "electricity". A row without it has no cost.
        term: the same under its older name.
        stack: training software, "jax-gpu".
        recipe: a release whose recipes training software is set by, "bridge-26-06"; "future" takes precisions too that
            no software ships on a chip; "shipped" is the default.
        facts: other facts than the shipped ones (`mowich.load_facts`).

    Returns: a `Comparison` of training, a `ServeResult` of serving, a `ForwardAnswer` of forward passes: `.rows`, one
    for each system in the order given.
    Units: SI (seconds, bytes, joules), dollars; each number an `Estimate` with its 90% range and grade.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> found = mowich.compare("llama-3.1-8b", ["trn3", "h100"], train=job, chips=64)
        >>> [row.system for row in found.rows], found.rows[0].step_s.unit
        (['trn3', 'h100'], 's')
    """
    given = {
        "train": train,
        "serve": serve,
        "forward": forward,
        "chips": chips,
        "equal": equal,
        "budget": budget,
        "days": days,
        "have": names_called(have) or None,
        "power": power,
        "per": per,
        "sells": sells,
        "within": within,
        "fixed": fixed,
        "plan": plan,
        "price": price,
        "term": term,
        "recipe": recipe,
    }
    with keywords_asked(jobs.COMPARE, facts, model=model, systems=names_called(systems), stack=stack, **given) as asked:
        return answers.compare_answered(asked)


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
    recipe: str | None = None,
    emit: str | None = None,
    facts: Facts | None = None,
) -> PlanList: ...
@overload
def plan(
    model: str | Model,
    on: str | System,
    *,
    forward: Forward,
    train: None = None,
    serve: None = None,
    chips: int | None = None,
    top: int = 5,
    fixed: Mapping[str, str] | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    facts: Facts | None = None,
) -> ForwardAnswer: ...
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
    recipe: str | None = None,
    emit: str | None = None,
    facts: Facts | None = None,
) -> ServeResult | RateResult: ...
def plan(
    model: str | Model,
    on: str | System,
    *,
    train: Train | None = None,
    serve: Serve | None = None,
    forward: Forward | None = None,
    chips: int | None = None,
    top: int = 5,
    fixed: Mapping[str, str] | None = None,
    plan: str | Path | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    recipe: str | None = None,
    emit: str | None = None,
    facts: Facts | None = None,
) -> PlanList | ServeResult | RateResult | ForwardAnswer:
    """The best plans of one system for a job of training, of serving or of forward passes, best first.

    Args:
        model: a name, a file, or what `mowich.load` gave.
        on: one system, "trn3:64"; with a load several, "trn3,h100".
        train: the training job, {"tokens": "1T", "seq": 4096, "batch": "512seqs"}; keys as in `mowich.Train`.
        serve: the serving job, {"isl": "8k", "osl": "1k", "ttft": "2s", "tpot": "30ms"}; keys as in `mowich.Serve`.
        forward: forward passes, {"task": "diffuse", "height": 1024, "width": 1024, "steps": 28}; keys as in
            `mowich.Forward`.
        chips: of the system; None takes the number in its name, else one unit.
        top: plans to give, at most 1000.
        fixed: choices of the plan that are not searched, {"tp": "4,8"}.
        plan: a launch command or config of another program, whose plan is taken.
        price: kind of price: "tco" (without one), "rent", "on-demand", "1y", "3y", "capacity-block", "spot", "list",
            "market", "electricity". A row without it has no cost.
        term: the same under its older name.
        stack: training software, "jax-gpu".
        recipe: a release whose recipes training software is set by, "bridge-26-06"; "future" takes precisions too that
            no software ships on a chip; "shipped" is the default.
        emit: a program that must be able to run the plans, "torchtitan": then `.rows[0].emit("torchtitan")` is the
            launch command.
        facts: other facts than the shipped ones (`mowich.load_facts`).

    Returns: a `PlanList` of training; a `ServeResult` of serving, with the front between speed and throughput in
    `.front`; a `RateResult` where `serve` has a load ("rate" or "users"), with the smallest and the cheapest
    deployment; a `ForwardAnswer` of forward passes. `.compromise` says what a plan for `emit` costs. Units: SI
    (seconds, bytes, joules), dollars.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> best = mowich.plan("llama-3.1-8b", "h100:64", train=job, top=1).rows[0]
        >>> best.feasible, best.step_s.unit
        (True, 's')
    """
    given = {
        "train": train,
        "serve": serve,
        "forward": forward,
        "chips": chips,
        "top": top,
        "fixed": fixed,
        "plan": plan,
        "price": price,
        "term": term,
        "stack": stack,
        "recipe": recipe,
        "emit": emit,
    }
    with keywords_asked(jobs.PLAN, facts, model=model, on=name_called(on), **given) as asked:
        return answers.plan_answered(asked)


def brief(
    *,
    against: Sequence[str] = about.RIVALS,
    models: Sequence[str | Model] = about.ABOUT_MODELS,
    facts: Facts | None = None,
) -> Brief:
    """Trainium 3 on one page: jobs by rival, then questions, each with a verdict and numbers.

    Args:
        against: machines beside it; the first is the one that the gap is explained to.
        models: the first is trained, all are served.
        facts: other facts than the shipped ones.

    Returns: a `Brief`: `.rows`, `.section("memory")`. Units: SI. It plans for half a minute.

    Example:
        >>> import mowich
        >>> print(mowich.brief().section("memory").verdict)  # doctest: +SKIP +ELLIPSIS
        In some work...
    """
    with keywords_asked(about.BRIEF, facts, against=against, models=models) as asked:
        return answers.briefed(asked)


def emit(row: LaunchedRow, program: str) -> Text:
    """The plan of a row of `plan` as a launch command or config of another program.

    Args:
        row: a row of `plan`.
        program: "vllm", "sglang", "nxdi", "torchtitan", "megatron", "maxtext", "skypilot", "kubernetes"
            ("kubernetes:sglang": with that program).

    Returns: text, ready for a file; a remark where a choice has no name there. Units: those of the program.

    Example:
        >>> import mowich
        >>> serve = {"isl": "2k", "osl": "200"}
        >>> found = mowich.plan("llama-3.1-8b", "h100:8", serve=serve, fixed={"mode": "aggregated"}, top=1)
        >>> "vllm serve" in mowich.emit(found.rows[0], "vllm")
        True
    """
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
    recipe: str | None = None,
    seed: int = 0,
    facts: Facts | None = None,
) -> Gap:
    """Why the second of two machines beats the first at a job: factors that multiply to the ratio.

    Args:
        first: a system.
        second: the system that it is set against.
        model: a name, a file, or what `mowich.load` gave.
        train: the training job, keys as in `mowich.Train`.
        serve: the serving job, keys as in `mowich.Serve`.
        chips: of each system.
        metric: "tokens_per_s_per_chip", "usd_per_mtok", or "usd_total" of a training run.
        fixed: choices of the plan that are not searched.
        price: kind of price for both.
        term: the same under its older name.
        stack: training software.
        recipe: "future" takes precisions too that no software ships on a chip; "shipped" is the default.
        seed: of the orders of exchange, where they are drawn.
        facts: other facts than the shipped ones.

    Returns: a `Gap`: `.rows` with a factor for each property, `.ratio`. Units: factors have none; rows name their own.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> found = mowich.gap("trn2", "trn3", model="llama-3.2-1b", train=job, chips=8)  # doctest: +SKIP
        >>> round(found.product / float(found.ratio), 6)  # doctest: +SKIP
        1.0
    """
    given = {"train": train, "serve": serve, "chips": chips, "metric": metric, "fixed": fixed}
    with keywords_asked(
        gaps.GAP,
        facts,
        first=name_called(first),
        second=name_called(second),
        model=model,
        stack=stack,
        recipe=recipe,
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
    recipe: str | None = None,
    facts: Facts | None = None,
) -> ValueStudy:
    """What more of a property of a machine is worth, for each model and each job that is given.

    Args:
        on: one system.
        of: "memory", "bandwidth", "scale-up", "scale-out", "compute" or "software".
        models: one model or several.
        train: the training job, keys as in `mowich.Train`.
        serve: the serving job, keys as in `mowich.Serve`.
        chips: of the system.
        low: where the range begins, "96 GiB" or SI.
        high: where it ends.
        points: amounts between them, evenly.
        fixed: choices of the plan that are not searched.
        price: kind of price.
        term: the same under its older name.
        stack: training software.
        recipe: "future" takes precisions too that no software ships on a chip; "shipped" is the default.
        facts: other facts than the shipped ones.

    Returns: a `ValueStudy`: `.rows`, one for each amount, model and job. Units: SI (bytes, bytes/s, FLOP/s), dollars.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> found = mowich.value("h100:8", of="memory", models="llama-3.1-8b", train=job, points=2)  # doctest: +SKIP
        >>> len(found.rows)  # doctest: +SKIP
        3
    """
    given = {
        "train": train,
        "serve": serve,
        "chips": chips,
        "fixed": fixed,
        "term": term,
        "stack": stack,
        "recipe": recipe,
    }
    ends = {"low": low, "high": high, "points": points, "price": price}
    with keywords_asked(gaps.VALUE, facts, on=name_called(on), of=of, models=models, **ends, **given) as asked:
        return answers.value_found(asked)


def neighbours(result: PlanList, *, fixed: Mapping[str, str] | None = None) -> Why:
    """Why the best plan of `plan` wins: the best with each choice a step away, ties, and a sentence.

    Args:
        result: what `plan` gave for a training job.
        fixed: the `fixed` that `plan` had.

    Returns: a `Why`: `.sentence`, `.neighbours`, `.ties`. Units: times relative to the best plan; memory in bytes.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> plans = mowich.plan("llama-3.1-8b", "h100:64", train=job, top=1)
        >>> len(mowich.neighbours(plans).neighbours) > 3
        True
    """
    with jobs.PLAN.told(Edge.KEYWORD):
        return _trade.why(_ask(result), fixed=parse_fixed(fixed or {}))


def pareto(result: PlanList, *, fixed: Mapping[str, str] | None = None) -> tuple[Row, ...]:
    """Plans that nothing beats in time, memory, cost and energy at once, fastest first.

    Args:
        result: what `plan` gave for a training job; its chips and halves of them are looked at.
        fixed: the `fixed` that `plan` had.

    Returns: rows as those of `plan`. Units: SI (seconds, bytes, joules), dollars.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> plans = mowich.plan("llama-3.1-8b", "h100:64", train=job, top=1)
        >>> mowich.pareto(plans)[0].chips_used
        64
    """
    with jobs.PLAN.told(Edge.KEYWORD):
        return _trade.pareto(_ask(result), fixed=parse_fixed(fixed or {}))


def _ask(result: PlanList) -> SystemAsk:
    if result.ask is None:
        raise UserError("these plans do not say what was asked", fix="give what mowich.plan returned")
    return result.ask


def fit(
    model: str | Model,
    on: str | System,
    *,
    train: Train | None = None,
    forward: Forward | None = None,
    kv: int | str | None = None,
    chips: int | None = None,
    engine: str | None = None,
    fixed: Mapping[str, str] | None = None,
    stack: str | None = None,
    recipe: str | None = None,
    facts: Facts | None = None,
) -> bool | None:
    """Whether a job fits into the memory of a machine.

    Args:
        model: a name, a file, or what `mowich.load` gave.
        on: one system.
        train: the training job, keys as in `mowich.Train`; "tokens" may be left out.
        forward: forward passes, keys as in `mowich.Forward`.
        kv: of a served model, tokens of one request's cache: "128k".
        chips: of the system.
        engine: software of serving.
        fixed: choices of the plan that are not searched.
        stack: software of training.
        recipe: a release whose recipes training software is set by, "bridge-26-06"; "future" takes precisions too that
            no software ships on a chip; "shipped" is the default.
        facts: other facts than the shipped ones.

    Returns: True, False, or None where the range of the memory itself decides. Units: of `kv` tokens; of memory bytes.

    Example:
        >>> import mowich
        >>> mowich.fit("llama-3.1-8b", "trn3:1", kv="8k")
        True
    """
    given = {
        "train": train,
        "forward": forward,
        "kv": kv,
        "chips": chips,
        "engine": engine,
        "fixed": fixed,
        "stack": stack,
        "recipe": recipe,
    }
    with keywords_asked(jobs.FIT, facts, model=model, on=name_called(on), **given) as asked:
        if asked.forward is not None:
            return answers.forward_found(asked, "fit").is_feasible
        return answers.fitted(asked).fits
