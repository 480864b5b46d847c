"""A question that was read -> its answer, one call a verb: the command line, Python and the server all ask here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from mowich.errors import UserError
from mowich.studies.heard import heard

if TYPE_CHECKING:
    from mowich import shown
    from mowich.facts import Facts
    from mowich.launch.origin import LaunchedRow
    from mowich.models.model import Model
    from mowich.nki import Result
    from mowich.requests import (
        advising,
        brief,
        calibrate,
        forecasting,
        gaps,
        jobs,
        judging,
        known,
        launches,
        machines,
        next_measure,
        prices,
        results,
        rl,
        tuning,
        verify,
    )
    from mowich.studies.advise.advise import KernelAdvice
    from mowich.studies.brief.verdicts import Brief
    from mowich.studies.calibrate import Calibration
    from mowich.studies.collectives import CollectiveStudy
    from mowich.studies.compare import Comparison, PlanList
    from mowich.studies.debug.answer import KernelDebug
    from mowich.studies.explain import Explanation
    from mowich.studies.fit import Fit
    from mowich.studies.forecasts import Forecasts
    from mowich.studies.forward_answer import ForwardAnswer, ForwardVerb
    from mowich.studies.gap import Gap
    from mowich.studies.goodput import GoodputStudy
    from mowich.studies.judge.candidate import KernelCandidate
    from mowich.studies.judge.judge import Judged, KernelJudge
    from mowich.studies.next_measure import NextMeasurements
    from mowich.studies.prices import PriceStudy
    from mowich.studies.rates import RateResult
    from mowich.studies.rl_answer import RlAnswer
    from mowich.studies.serving_fit import ServeFit
    from mowich.studies.serving_plan import ServeResult
    from mowich.studies.staleness import Staleness
    from mowich.studies.system_run import SystemRun
    from mowich.studies.tune.tune import KernelTune
    from mowich.studies.value import ValueStudy
    from mowich.studies.verify import Verification


@heard(again=True)
def compared(asked: jobs.CompareRequest) -> Comparison:
    """The best plan of each system for a training job."""
    from mowich.studies.compare import compare

    return compare(asked)


def compare_answered(asked: jobs.CompareRequest) -> Comparison | ServeResult | ForwardAnswer:
    """The answer to `compare`, of whichever job."""
    if asked.forward is not None:
        return forward_found(asked, "compare")
    return compared(asked) if asked.serve is None else served_compared(asked)


def plan_answered(asked: jobs.PlanRequest) -> PlanList | ServeResult | RateResult | ForwardAnswer:
    """The answer to `plan`, of whichever job."""
    if asked.forward is not None:
        return forward_found(asked, "plan", asked.top)
    if asked.load is not None:
        return rated_planned(asked)
    return planned(asked) if asked.serve is None else served_planned(asked)


def ask_here(words: Sequence[str], facts: Facts | None = None, model: Model | None = None) -> shown.Result:
    """The JSON of the answer to the words of a command: of `compare` and `plan` made in this process, of others
    by one of their own. facts, model: as `asked.read_words` takes them. Raises UserError for what is refused."""
    from mowich.requests.jobs import COMPARE, PLAN
    from mowich.studies.asked import ask_question, not_answered, read_words, result_of

    verb, *rest = words or ("",)
    try:
        if verb == "compare":
            compared = read_words(COMPARE, rest, facts, model)
            return result_of(compare_answered(compared), compared)
        if verb == "plan":
            planned = read_words(PLAN, rest, facts, model)
            return result_of(plan_answered(planned), planned)
    except UserError as error:
        raise not_answered(words, str(error).splitlines()[0]) from error
    return ask_question(words)


@heard(again=True)
def planned(asked: jobs.PlanRequest) -> PlanList:
    """The best plans of one system for a training job."""
    from mowich.studies.plan import plan

    return plan(asked)


@heard(again=True)
def served_compared(asked: jobs.CompareRequest) -> ServeResult:
    """The best deployment of each system for a serving job."""
    from mowich.studies.serving_plan import compare_serving

    return compare_serving(asked)


@heard(again=True)
def served_planned(asked: jobs.PlanRequest) -> ServeResult:
    """The best deployments of one system for a serving job."""
    from mowich.studies.served_plan import served_plan

    return served_plan(asked)


def plan_text(result: PlanList | ServeResult | RateResult, asked: jobs.PlanRequest) -> str:
    """The plan that a question picks, as the launch command or config that it asks for, or what was written of its
    bundle; where it is not the best plan, what it costs."""
    row = _picked(result.rows, asked)
    assert asked.emit is not None
    if asked.form.out is not None:
        from mowich.launch.origin import bundle_text

        text, mark = bundle_text(row.written_bundle(asked.emit, asked.form.out)), "note: "
    else:
        text, mark = row.emit(asked.emit), "# "
    told = "" if result.compromise is None else f"{mark}{result.compromise.words()}\n"
    reason = getattr(row, "reason", None)
    return (f"{mark}{reason}\n" if reason else "") + told + text


def _picked(rows: Sequence[LaunchedRow], asked: jobs.PlanRequest) -> LaunchedRow:
    if asked.pick > len(rows):
        raise UserError("is not among the plans", field="pick", given=asked.pick, allowed=f"1 to {len(rows)}")
    return rows[asked.pick - 1]


@heard()
def rated_planned(asked: jobs.PlanRequest) -> RateResult:
    """The smallest and the cheapest deployment for a load."""
    from mowich.studies.rates import plan_rates

    return plan_rates(asked)


@heard(again=True)
def fitted(asked: jobs.FitRequest) -> Fit | ServeFit:
    """Whether a training job, or a served model with the cache of one request, fits on a system."""
    if asked.train is not None:
        from mowich.studies.fit import fit

        return fit(asked)
    from mowich.studies.serving_fit import fit_serving

    return fit_serving(asked)


@heard(again=True)
def forward_found(asked: jobs.JobRequest, verb: ForwardVerb, top: int = 1) -> ForwardAnswer:
    """What forward passes come to: the best plan of each system, or the `top` best of one."""
    from mowich.studies.forward_answer import forward_answer

    return forward_answer(asked, verb, top=top)


def rl_found(asked: rl.RlRequest) -> RlAnswer:
    """What a run of reinforcement learning comes to, or the split that a search finds."""
    return _run_found(asked) if asked.chips is None else _split_found(asked)


@heard(again=True)
def _run_found(asked: rl.RlRequest) -> RlAnswer:
    from mowich.studies.rl_answer import rl as study

    return study(asked)


@heard()
def _split_found(asked: rl.RlRequest) -> RlAnswer:  # a search takes seconds: nobody looks for what moves nothing
    from mowich.studies.rl_answer import rl as study

    return study(asked)


@heard()
def briefed(asked: brief.BriefRequest) -> Brief:
    """Trainium 3 on one page."""
    from mowich.studies.brief.one_page import brief as one_page

    return one_page(asked.facts, against=asked.against, models=asked.models, given=asked.given, ask=ask_here)


@heard(again=True)
def gap_explained(asked: gaps.GapRequest) -> Gap:
    """Why the second of two machines beats the first."""
    from mowich.studies.gap import gap

    return gap(asked)


@heard()
def value_found(asked: gaps.ValueRequest) -> ValueStudy:
    """What more of a property of a machine is worth."""
    from mowich.studies.value import value

    return value(asked)


@heard(again=True)
def collective_timed(asked: machines.CollectiveRequest) -> CollectiveStudy:
    """The time of a collective for each size; of weights, of a sync by each method."""
    from mowich.studies.collectives import collective

    if asked.model is not None:
        from mowich.studies.weight_sync import weight_sync

        return weight_sync(asked)
    return collective(asked)


@heard(again=True)
def goodput_found(asked: machines.GoodputRequest) -> GoodputStudy:
    """The goodput of a long run by way of surviving failures."""
    from mowich.studies.goodput import goodput

    return goodput(asked)


@heard()
def calibrated(asked: calibrate.CalibrateRequest, tell: Callable[[str], None] = lambda text: None) -> Calibration:
    """What measurements say of the constants; writes the overlay that was asked for. tell: is told what goes on."""
    from mowich.evidence.readers.setup import Setup
    from mowich.studies.calibrate import calibrate as study

    if asked.scenario is not None:
        from mowich.studies.calibrate_log import calibrate_log

        return calibrate_log(asked, tell)
    given = Setup(on=asked.on or "", model=asked.model or "", software=asked.software or "", plan=asked.plan or {})
    return study(
        asked.files,
        asked.facts,
        setup=given,
        out=asked.out,
        name=asked.format,
        widen=asked.widen,
        tell=tell,
    )


@heard()
def verified(asked: verify.VerifyRequest, tell: Callable[[str], None] = lambda text: None) -> Verification:
    """Logs of a run beside the forecast of it. tell: is told what goes on."""
    from mowich.studies.verify import verify as study

    return study(asked, tell)


def measurements_chosen(asked: next_measure.NextRequest) -> NextMeasurements:
    """Which measurements narrow the range of an answer most."""
    from mowich.studies.asked import question_words
    from mowich.studies.next_measure import next_measurements

    return next_measurements(
        asked.question,
        question_words(asked.question),
        on=asked.on,
        number=asked.number,
        budget=asked.budget,
        ask=ask_here,
    )


def forecasts_found(asked: forecasting.ForecastsRequest) -> Forecasts:
    """Frozen forecasts, and what came of them."""
    from mowich.studies.forecasts import ledger_file, read_forecasts

    return read_forecasts(ledger_file(asked.ledger))


def stale_found(asked: known.CheckRequest, facts: Facts | None = None) -> Staleness:
    """Facts that nobody has looked at for as long as is asked for. facts: None: those that ship, with the user's."""
    from mowich.facts import load_facts
    from mowich.studies.staleness import find_stale

    return find_stale(facts or load_facts(asked.dirs), asked.stale_s or 0.0, asked.as_of or date.today())


@heard(again=True)
def prices_found(asked: prices.PricesRequest) -> PriceStudy:
    """Costs and prices of systems."""
    from mowich.studies.prices import prices

    return prices(asked)


def metric_explained(asked: results.ExplainRequest) -> Explanation:
    """One number of a result. Raises UserError where no number is named."""
    from mowich.studies.explain import explain

    assert asked.metric is not None
    return explain(asked.data, asked.metric, asked.facts, model=asked.model)


def launched(
    asked: launches.Launch, arrays: Sequence[object], named: Mapping[str, Any]
) -> Result | list[Result] | SystemRun:
    """A kernel on a NeuronCore, on several ranks, or on the chips of a machine. arrays, named: the arguments of every
    rank, where the question does not give each its own."""
    if asked.system is not None:
        from mowich.studies import system_run

        given = asked.inputs if asked.inputs is not None else [_copied(arrays, named) for _ in range(asked.ranks)]
        return system_run.run_system(
            asked.facts,
            asked.kernel,
            given,
            system=asked.system,
            lnc=asked.lnc,
            values=asked.values,
            version=asked.nki,
        )
    from mowich.nki import run_kernel
    from mowich.studies.kernel_reference import fit_to_reference, wanted_of

    wanted = None if asked.reference is None else wanted_of(asked.reference, arrays, named)
    result = run_kernel(
        asked.kernel,
        *arrays,
        target=asked.target,
        lnc=asked.lnc,
        version=asked.nki,
        values=asked.values,
        ranks=asked.ranks,
        timed=asked.timed,
        strict=True if asked.strict else None,
        **named,
    )
    if wanted is not None and not isinstance(result, list):
        fit_to_reference(result, wanted, [*arrays, *named.values()], asked.tolerance).check("tolerance=")
    return result


def kernel_debugged(asked: launches.Debugging, arrays: Sequence[object], named: Mapping[str, object]) -> KernelDebug:
    """A kernel that is looked at while it runs, or compared with a reference. arrays, named: its arguments."""
    from mowich.neuroncore.targets import generation_of
    from mowich.studies.debug.answer import debugged
    from mowich.studies.debug.running import LaunchDetails

    how = LaunchDetails(strict=asked.strict, finite=asked.strict, lnc=asked.lnc)
    if asked.target is not None:
        how["generation"] = generation_of(asked.target)
    return debugged(
        asked.kernel,
        arrays,
        named,
        how=how,
        stop=asked.stop,
        tiles=asked.tiles,
        watch=asked.watch,
        reference=asked.first_difference,
        tolerance=asked.tolerance,
        spelled=lambda name: "tiles" if name == "print" else name,
    )


def kernels_judged(
    asked: judging.JudgeRequest,
    candidates: Sequence[KernelCandidate] | None = None,
    told: Callable[[Judged], None] = lambda _: None,
) -> KernelJudge:
    """Candidates of a kernel beside one another. candidates: None: those of the files that are named; told: is given
    each as soon as it is known."""
    from mowich.studies.judge.candidate import JudgeRun
    from mowich.studies.judge.judge import JudgeAsk, candidate_files, judge_kernels

    ask = JudgeAsk(
        reference=asked.reference,
        kernel=asked.kernel,
        how=JudgeRun(target=asked.on, lnc=asked.lnc, version=asked.nki, values=not asked.time_alone),
        shapes=asked.shapes,
        seeds=1 if asked.time_alone else asked.seeds,
        seed=asked.seed,
        tolerance=asked.tolerance,
        measured_s=asked.measured,
        budget=asked.measure_budget,
        at_once=asked.processes,
        time_s=asked.timeout_s,
        memory_B=int(asked.memory_GiB * 2**30),
        cache=asked.cache,
    )
    return judge_kernels(candidate_files(asked.candidates) if candidates is None else candidates, ask, told)


def kernel_tuned(asked: tuning.TuneRequest) -> KernelTune:
    """A kernel with other constants, each variant timed by the clock."""
    from mowich.examples import example_name
    from mowich.nki.check import kernels_text
    from mowich.requests.debugging import ReferenceFile
    from mowich.studies.judge.candidate import JudgeRun
    from mowich.studies.judge.judge import JudgeAsk
    from mowich.studies.tune.tune import TuneAsk, tune_kernel

    judge = JudgeAsk(
        reference=asked.reference or ReferenceFile(asked.file, ""),
        kernel=asked.kernel,
        how=JudgeRun(target=asked.on[0], lnc=asked.lnc, version=asked.nki),
        shapes=asked.shapes,
        seeds=asked.seeds,
        seed=asked.seed,
        tolerance=asked.tolerance,
        at_once=asked.processes,
        time_s=asked.timeout_s,
        memory_B=int(asked.memory_GiB * 2**30),
    )
    return tune_kernel(
        TuneAsk(
            file=example_name(asked.file, "kernels") or str(asked.file),
            text=kernels_text(asked.file),
            vary=asked.vary,
            targets=asked.on,
            judge=judge,
            has_reference=asked.reference is not None,
            limit=asked.limit,
            prunes=not asked.all_values,
        )
    )


def kernel_advised(asked: advising.AdviseRequest) -> KernelAdvice:
    """The edits of a kernel that gain most."""
    from mowich.studies.advise.files import file_advised

    return file_advised(asked)


def _copied(arrays: Sequence[object], named: Mapping[str, object]) -> list[object]:
    """The same arguments for one rank, arrays copied so that ranks do not write into each other's."""
    if named:
        raise UserError(
            "with system, arguments go by position", given=sorted(named), fix="inputs=[...] takes a dict for each rank"
        )
    return [a.copy() if hasattr(a, "copy") else a for a in arrays]
