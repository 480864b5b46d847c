"""Questions about a job of training, of serving or of forward passes: `compare` and `plan` of whichever job.

A question of one job imports the studies of that job alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mowich.errors import UserError
from mowich.studies.heard import heard

if TYPE_CHECKING:
    from mowich import shown
    from mowich.facts import Facts
    from mowich.launch.origin import LaunchedRow
    from mowich.models.model import Model
    from mowich.requests import jobs
    from mowich.studies.compare import Comparison, PlanList
    from mowich.studies.forward_answer import ForwardAnswer, ForwardVerb
    from mowich.studies.rates import RateResult
    from mowich.studies.serving_plan import ServeResult


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
def forward_found(asked: jobs.JobRequest, verb: ForwardVerb, top: int = 1) -> ForwardAnswer:
    """What forward passes come to: the best plan of each system, or the `top` best of one."""
    from mowich.studies.forward_answer import forward_answer

    return forward_answer(asked, verb, top=top)
