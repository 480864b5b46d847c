"""Jobs, machines, results and scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mowich import models
from mowich.api.keyword_verb import keyword_verb
from mowich.errors import UserError
from mowich.launch.origin import LaunchedRow
from mowich.machines.system import System, resolve
from mowich.models import Model
from mowich.plans.plan import parse_fixed
from mowich.requests import brief as about
from mowich.requests import jobs, machines
from mowich.requests.common import model_name
from mowich.requests.fields import Edge
from mowich.shown import Text
from mowich.studies import job_answers
from mowich.studies import trade as _trade
from mowich.studies.compare import Comparison, PlanList, Row
from mowich.studies.outcome import SystemAsk
from mowich.studies.trade import Why

if TYPE_CHECKING:
    from mowich.studies.brief.verdicts import Brief
    from mowich.studies.forward_answer import ForwardAnswer
    from mowich.studies.rates import RateResult
    from mowich.studies.serving_plan import ServeResult


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


@keyword_verb(machines.SYSTEM, "name")
def system(asked: machines.MachineRequest) -> System:
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
    return resolve(asked.facts, asked.name, chips=asked.chips)


def _model(model: str | Model) -> Model:
    return load(model) if isinstance(model, str) else model


@keyword_verb(
    jobs.COMPARE,
    "model",
    "systems",
    gives={"train": "Comparison", "serve": "ServeResult", "forward": "ForwardAnswer"},
    listed=("systems", "have"),
)
def compare(asked: jobs.CompareRequest) -> Comparison | ServeResult | ForwardAnswer:
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
        price: kind of price: "tco" (without one), "rent", "on-demand", "1y", "3y", "capacity-block", "spot", "list",
            "market", "electricity". A row without it has no cost.
        stack: training software, "jax-gpu".
        recipe: a release whose recipes training software is set by, "bridge-26-06"; "future" takes precisions too that
            no software ships on a chip; "shipped" is the default.
        plan: a launch command or config of another program, whose plan is taken.
        fixed: choices of the plan that are not searched, {"tp": "4,8"}.
        term: the older name of `price`.
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
    return job_answers.compare_answered(asked)


@keyword_verb(
    jobs.PLAN,
    "model",
    "on",
    gives={"train": "PlanList", "serve": "ServeResult | RateResult", "forward": "ForwardAnswer"},
)
def plan(asked: jobs.PlanRequest) -> PlanList | ServeResult | RateResult | ForwardAnswer:
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
        emit: a program that must be able to run the plans, "torchtitan": then `.rows[0].emit("torchtitan")` is the
            launch command.
        plan: a launch command or config of another program, whose plan is taken.
        price: kind of price: "tco" (without one), "rent", "on-demand", "1y", "3y", "capacity-block", "spot", "list",
            "market", "electricity". A row without it has no cost.
        stack: training software, "jax-gpu".
        recipe: a release whose recipes training software is set by, "bridge-26-06"; "future" takes precisions too that
            no software ships on a chip; "shipped" is the default.
        fixed: choices of the plan that are not searched, {"tp": "4,8"}.
        term: the older name of `price`.
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
    return job_answers.plan_answered(asked)


@keyword_verb(about.BRIEF)
def brief(asked: about.BriefRequest) -> Brief:
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
    from mowich.studies.brief import one_page

    return one_page.brief(asked)


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


@keyword_verb(jobs.FIT, "model", "on")
def fit(asked: jobs.FitRequest) -> bool | None:
    """Whether a job fits into the memory of a machine.

    Args:
        model: a name, a file, or what `mowich.load` gave.
        on: one system.
        train: the training job, keys as in `mowich.Train`; "tokens" may be left out.
        kv: of a served model, tokens of one request's cache: "128k".
        engine: software of serving.
        forward: forward passes, keys as in `mowich.Forward`.
        chips: of the system.
        stack: software of training.
        recipe: a release whose recipes training software is set by, "bridge-26-06"; "future" takes precisions too that
            no software ships on a chip; "shipped" is the default.
        fixed: choices of the plan that are not searched.
        facts: other facts than the shipped ones.

    Returns: True, False, or None where the range of the memory itself decides. Units: of `kv` tokens; of memory bytes.

    Example:
        >>> import mowich
        >>> mowich.fit("llama-3.1-8b", "trn3:1", kv="8k")
        True
    """
    if asked.forward is not None:
        return job_answers.forward_found(asked, "fit").is_feasible
    return job_answers.fitted(asked).fits
