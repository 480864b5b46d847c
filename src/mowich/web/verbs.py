"""One function for each verb: a checked request in, its result as the command line's JSON has it out. Runs in a worker
process.

The same studies compute as behind the command line. `row` and `together` are `compare` in pieces, one for each system,
so that they can run side by side. Nothing here opens a file but those that ship.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.models.model import Model
from mowich.requests import brief as briefs
from mowich.requests import jobs, scenarios
from mowich.requests.common import Asked
from mowich.requests.fields import Edge
from mowich.requests.rl import RlRequest
from mowich.requests.room import asked_again
from mowich.requests.rooms import room_names
from mowich.requests.rooms.value import ValueRequest
from mowich.scenario import is_inline
from mowich.show.json import with_inputs
from mowich.shown import Result
from mowich.units import is_digits
from mowich.web import asks, library
from mowich.web.reading import Knowledge, chart_data, given_model, reply, safe_yaml

if TYPE_CHECKING:
    from mowich.fleets.problem import Choice, FleetProblem, FleetTask, Rate
    from mowich.show.page import Page, Table
    from mowich.studies.compare import Row
    from mowich.studies.explain import Explainer, Explanation
    from mowich.studies.forward_answer import ForwardVerb
    from mowich.studies.serving_plan import ServeResult


# ---- compare, plan, serve, fit
# ----------------------------------------------------------------------------------------------------------------------


def row(ask: asks.Ask, place: int, known: Knowledge) -> tuple[Row | ServeResult, Sequence[str]]:
    """What `compare` finds for one of its systems, and the facts that it asked for."""
    got = known.compared(ask)
    found = _row(ask, place, got)
    return found, () if got.facts.ledger is None else tuple(got.facts.ledger.asked)


def _row(ask: asks.Ask, place: int, got: jobs.CompareRequest) -> Row | ServeResult:
    """What `compare` finds for one of its systems."""
    from mowich.studies import compare as study
    from mowich.studies import job_answers

    if got.serve is not None:
        if ask.nearby:
            raise UserError("serving searches all plans", field="near", fix="leave it out")
        return job_answers.served_compared(replace(got, systems=(got.systems[place],)))
    one = study.system_asks(got).asks[place]
    near = ask.nearby.get(got.systems[place])
    if near:
        among = around(near, got.fixed, got.model)
        found = study.solve_system(one, fixed=among, brief=True)[0]
        if found.plan is not None:
            return found
    return study.solve_system(one, fixed=got.fixed)[0]


def around(
    near: Mapping[str, str | int], fixed: Mapping[str, Sequence[int | str]], model: Model
) -> dict[str, Sequence[int | str]]:
    """Choices one step about those of a plan, within `fixed`: halves and doubles of its degrees and micro-batch, the
    same precision."""
    out: dict[str, Sequence[int | str]] = dict(fixed)
    for name, value in near.items():
        if name == "precision":
            steps: list[int | str] = [str(value)]
        else:
            here = max(1, min(int(value), 4096)) if is_digits(str(value)) else 1
            steps = sorted({max(1, here // 2), here, here * 2})
            if name == "ep":
                steps = [s for s in steps if _experts(model) % int(s) == 0] or [1]
        kept = [s for s in steps if name not in fixed or s in fixed[name]]
        if kept:
            out[name] = tuple(kept)
    return out


def _experts(model: Model) -> int:
    from mowich.models.model import Moe

    return next((layer.ffn.num_experts for layer in model.layers if isinstance(layer.ffn, Moe)), 1)


def together(ask: asks.Ask, found_rows: Sequence[tuple[Row | ServeResult, Sequence[str]]], known: Knowledge) -> bytes:
    """`compare` from the rows of its systems."""
    from mowich.studies import compare as study
    from mowich.studies import serving_plan
    from mowich.studies.heard import note_heard

    got, rows = known.compared(ask), [row for row, _ in found_rows]
    if got.facts.ledger is not None:
        for _, asked_for in found_rows:
            got.facts.ledger.note_all(asked_for)
    if got.serve is not None:
        found = serving_plan.joined_results([r for r in rows if isinstance(r, serving_plan.ServeResult)], got)
        result = note_heard(found, got.facts, question=[got, []]).to_dict()
    else:
        trained = [r for r in rows if isinstance(r, study.Row)]
        answer = study.answer(study.system_asks(got), trained, complete=not ask.nearby)
        if ask.nearby:
            answer = replace(
                answer,
                warnings=(
                    *answer.warnings,
                    (
                        "searched only near the plans that were shown, without hand-tuned kernels; the whole search"
                        " follows"
                    ),
                ),
            )
        question = [got, [ask.nearby] if ask.nearby else []]
        result = note_heard(answer, got.facts, question=question).to_dict()
    asked = with_inputs(result, got.again())
    return reply(asked, notes=list(got.notes), command=ask.command(), view=compare_view(asked, got.facts))


def view(result: Result) -> Result:
    """What the report shows of a result, as data: headline, what stands under it, marks of the best rows, words beside
    numbers, assumptions, warnings, tables, and charts as ECharts options."""
    from mowich.show.verbs import page_of

    return as_data(page_of(result))


def compare_view(result: Result, facts: Facts) -> dict[str, object]:
    """`view` of a comparison, why each row is what it is, and the name of the map of its machine ("": not of one
    scale-up unit). Its first table is made by the page, from the rows."""
    from mowich.show.why import footing, whys
    from mowich.studies.machine_map import map_name

    maps = [map_name(facts, r["system_id"], int(r["chips_requested"])) for r in result["rows"]]
    shown = view(result)
    more = {"tables": shown["tables"][1:], "footing": footing(result), "whys": whys(result), "maps": maps}
    return {**shown, **more}


def as_data(page: Page) -> Result:
    return {
        "title": page.title,
        "headline": page.headline,
        "under": page.under,
        "assumptions": [a[:2] for a in page.assumptions],
        "warnings": page.warnings,
        "marks": page.marks,
        "beside": page.beside,
        "notes": page.said("note", "basis"),
        "tables": [_table(t) for t in page.tables],
        "charts": [chart_data(c) for c in page.charts],
        "stories": [
            {
                "question": s.question,
                "verdict": s.verdict,
                "why": list(s.why),
                "chart": chart_data(s.chart),
                "table": _table(s.numbers),
                "commands": list(s.commands),
            }
            for s in page.stories
        ],
    }


def _table(table: Table) -> dict[str, object]:
    return {"title": table.title, "head": table.head, "rows": table.cells(), "note": table.note}


def deepen(result: Result, ask: asks.Ask, known: Knowledge) -> bytes:
    """What the report adds to a result that can be made again: what would change the answer, scaling, the nearest
    measured points."""
    from mowich.show.deepen import deepen_page as report
    from mowich.show.verbs import page_of

    page = page_of(result)
    more = report(page, explainer(result, ask, known))
    had = {c.title for c in page.charts}, {t.title for t in page.tables}
    new = replace(
        more,
        assumptions=[a for a in more.assumptions if a not in page.assumptions],
        charts=[c for c in more.charts if c.title not in had[0]],
        parts=[t for t in more.tables if t.title not in had[1]],
    )
    return reply({"schema": "mowich/deepen@1", "facts": [f.path for f in more.facts]}, view=as_data(new))


def explainer(result: Result, ask: asks.Ask, known: Knowledge) -> Explainer:
    """Explains a result by the model and the facts of its request."""
    from mowich.studies.explain import Explainer

    got = known.read(ask)
    assert isinstance(got, Asked)
    if isinstance(got, jobs.JobRequest | RlRequest) and not isinstance(got, ValueRequest):
        return Explainer(result, got.facts, got.model)
    return Explainer(result, got.facts)  # of several models, or of none


def forward(ask: asks.Ask, known: Knowledge) -> bytes:
    """Forward passes on several systems, the best plans of one, or whether a model fits."""
    from mowich.studies.job_answers import forward_found

    got = known.work(ask)
    verbs: Mapping[type, ForwardVerb] = {jobs.PlanRequest: "plan", jobs.FitRequest: "fit"}
    top = got.top if isinstance(got, jobs.PlanRequest) else 1
    result = forward_found(got, verbs.get(type(got), "compare"), top).to_dict()
    return reply(result, inputs=got.again(), notes=list(got.notes), command=ask.command(), view=view(result))


def plan(ask: asks.Ask, known: Knowledge) -> bytes:
    """The best plans of one system."""
    from mowich.studies import job_answers, trade

    got = known.read(ask)
    assert isinstance(got, jobs.PlanRequest)
    if got.forward is not None:
        return forward(ask, known)
    if got.load is not None:
        result = job_answers.rated_planned(got).to_dict()
    elif got.serve is not None:
        result = job_answers.served_planned(got).to_dict()
    else:
        plans = job_answers.planned(got)
        beside = trade.trades(plans, got.fixed, with_why=got.neighbours, with_front=got.pareto)
        result = {**plans.to_dict(), **beside.to_dict()}
    return reply(result, inputs=got.again(), notes=list(got.notes), command=ask.command(), view=view(result))


def fit(ask: asks.Ask, known: Knowledge) -> bytes:
    """Does it fit, what takes the memory, how few chips would do."""
    from mowich.show.verbs import page_of
    from mowich.studies import job_answers

    got = known.read(ask)
    assert isinstance(got, jobs.FitRequest)
    if got.forward is not None:
        return forward(ask, known)
    result = job_answers.fitted(got).to_dict()
    page = page_of(result)
    return reply(
        result,
        inputs=got.again(),
        notes=list(got.notes),
        command=ask.command(),
        headline=page.headline,
        under=page.under,
    )


def brief(ask: asks.Ask, known: Knowledge) -> bytes:
    """Trainium 3 on one page: the brief that ships where it holds for these facts, else a new one."""
    from mowich.studies.brief import one_page
    from mowich.web.shipped import is_current, shipped_brief

    got = known.read(ask)
    assert isinstance(got, briefs.BriefRequest)
    result = shipped_brief()
    if not is_current(result, got):
        result = one_page.brief(got).to_dict()
    return reply(result, inputs=got.given, command=ask.command(), view=view(result))


def first(known: Knowledge) -> bytes:
    """What a visitor sees first: the brief that ships, and whether it holds for the facts of this server."""
    from mowich.web.shipped import is_current, shipped_brief

    ask, result = asks.BriefBody(), shipped_brief()
    got = known.read(ask)
    assert isinstance(got, briefs.BriefRequest)
    return reply(result, command=ask.command(), view=view(result), current=is_current(result, got))


# ---- the other verbs
# ----------------------------------------------------------------------------------------------------------------------


_SENT = "scenario (as sent)"
"""Name of a scenario that is no file."""


def fleet(ask: asks.Ask, known: Knowledge) -> bytes:
    """What to buy, rent and assign in each period of a scenario."""
    from mowich.fleets.read import read_problem
    from mowich.studies.fleet import fleet as study

    got = known.read(ask)
    assert isinstance(got, scenarios.FleetRequest)
    assert got.yaml is not None
    safe_yaml(got.yaml)
    problem = read_problem(_SENT, got.facts, text=got.yaml)
    for task in problem.tasks:
        for model in _models_of(task):
            given_model(model)
    with_rates = _known_rates(problem, got.facts, known, _shipped_rates(problem, got.facts))
    asked = replace(got, scenario=Path(_SENT), time_limit_s=8.0)
    result = study(asked, problem=problem, speeds=with_rates, beside=got.yaml).to_dict()
    return reply(
        result,
        inputs=got.given,
        view=view(result),
        command="mowich fleet scenario.yaml" + (" --lp" if got.relaxed else f" --gap {got.gap:g}"),
    )


def _models_of(task: FleetTask) -> list[str]:
    """The models of a task. Raises UserError for a run of reinforcement learning that reads files of this server."""
    run = task.ask.get("run")
    if run is None:
        return [str(task.ask["model"])]
    text, where = str(run), f"{task.workload}.rl.run"
    if not is_inline(text):
        raise UserError("files are not read here", where=where, given=text, fix="write the run into the scenario")
    pairs = list(_pairs(json.loads(text)))
    if any(key == "csv" for key, _ in pairs):
        raise UserError("files are not read here", where=f"{where}.lengths.csv", fix="give lengths.quantiles")
    return [str(value) for key, value in pairs if key in ("model", "critic", "teacher")]


def _pairs(values: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Every key of a mapping, and of the mappings in it, with its value."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _pairs(value)
        else:
            yield key, value


def rl(ask: asks.Ask, known: Knowledge) -> bytes:
    """A run of reinforcement learning, or the split of chips over systems that costs least; with the fields of the
    question, and the same as a scenario."""
    from mowich.requests.command import command_of
    from mowich.studies.rl_answer import rl_found
    from mowich.web.scenario import rl_fields, rl_yaml

    given = ask.values()
    text = given.pop("yaml", None)
    if text is not None:
        safe_yaml(str(text))
    got = known.read(ask)
    assert isinstance(got, RlRequest)
    result = rl_found(got).to_dict()
    asked = {**({} if text is None else rl_fields(str(text))), **given}
    return reply(
        result,
        inputs=got.given,
        notes=list(got.notes),
        command=command_of({**result, "inputs": {"asked": asked}}),
        view=view(result),
        asked=asked,
        yaml=rl_yaml(asked),
    )


def _shipped_rates(problem: FleetProblem, facts: Facts) -> dict[str, Rate]:
    """Speeds that ship with the scenario whose file of them a problem names, by what they depend on: what was changed
    in the scenario is predicted. Raises UserError for any other file."""
    from mowich.examples import names_of
    from mowich.fleets.problem import read_rates
    from mowich.fleets.read import read_problem

    file = names_of("scenarios").get(problem.rates_file.removesuffix(".rates.json"))
    if not problem.rates_file:
        return {}
    if file is None or not file.with_name(problem.rates_file).exists():
        raise UserError(
            "files are not read here", where="rates", given=problem.rates_file, fix="leave it out: speeds are predicted"
        )
    found, made_from = read_rates(file.with_name(problem.rates_file))
    if made_from != facts.hash():
        return {}
    there = _speeds_asked(read_problem(file, facts))
    return {key: found[at] for key, (task, choice) in there.items() if (at := (task.name, choice.name)) in found}


def _speeds_asked(problem: FleetProblem) -> dict[str, tuple[FleetTask, Choice]]:
    """What a speed depends on -> the task and the system that it is of."""
    return {
        asks.canonical(
            {
                "task": task.name,
                "ask": {k: str(v) for k, v in task.ask.items()},
                "system": choice.name,
                "id": choice.system.id,
                "unit": choice.unit_chips,
                "engine": choice.engine,
            }
        ): (task, choice)
        for workload in problem.workloads
        for task in workload.tasks
        for choice in problem.allowed(workload)
    }


def _known_rates(
    problem: FleetProblem, facts: Facts, known: Knowledge, shipped: Mapping[str, Rate]
) -> dict[tuple[str, str], Rate]:
    """The speeds of a problem; shipped: those that need not be predicted. facts: read what their making read."""
    from mowich.facts import Watched
    from mowich.studies.fleet import rate

    def predicted(task: FleetTask, choice: Choice) -> tuple[Rate, Sequence[str]]:
        watched = Watched(facts)
        return rate(task, choice, watched), tuple(watched.asked)

    out, made_of = {}, facts.hash()
    for key, (task, choice) in _speeds_asked(problem).items():
        if key in shipped:
            out[task.name, choice.name] = shipped[key]
            continue
        out[task.name, choice.name], asked_for = known.rates.get((made_of, key), partial(predicted, task, choice))
        if facts.ledger is not None:
            facts.ledger.note_all(asked_for)
    return out


def _room(name: str) -> Callable[[asks.Ask, Knowledge], bytes]:
    """The answer of a room (`requests/rooms`)."""

    def answered(ask: asks.Ask, known: Knowledge) -> bytes:
        from mowich.studies.rooms import room_answered

        got = known.read(ask)
        assert isinstance(got, Asked)
        result = room_answered(name)(got).to_dict()
        return reply(result, inputs=asked_again(got), notes=list(got.notes), command=ask.command(), view=view(result))

    return answered


def validate(known: Knowledge) -> bytes:
    """Predicted against measured, for the published rows that ship: of training, and beside them of collectives."""
    from mowich.evidence.validate import validate_rows as study
    from mowich.show.page import Run
    from mowich.show.rooms.collective import published_table
    from mowich.show.validate import validate_page
    from mowich.studies.rooms.collective.published import compare_measured, measured

    result = study(None, known.facts).to_dict()
    shown = validate_page(result, Run(), beside=[published_table(compare_measured(known.facts, measured()))])
    return reply(result, inputs={"set": [], "facts_dirs": []}, view=as_data(shown))


def report(result: Result, command: str, ask: asks.Ask, known: Knowledge) -> bytes:
    """A result as one HTML file; of a fleet without what would need its scenario again."""
    from mowich.show.render.html import render_html

    return render_html(
        result, command=command, explainer=None if ask.schema_ is scenarios.FLEET else explainer(result, ask, known)
    ).encode()


def explain(result: Result, metric: str, ask: asks.Ask, known: Knowledge) -> bytes:
    """Formula, numbers, facts and sources of one number of a result."""
    from mowich.show.charts_parts import time_part
    from mowich.show.explain import explain_text
    from mowich.show.render.terminal import Style
    from mowich.studies.fact_labels import fact_label

    by = explainer(result, ask, known)
    found = by.explain(metric)
    data = found.to_dict() | {
        "estimate": found.estimate.to_dict(),
        "facts": [library.fact_dict(by.facts, f.path) for f in found.facts],
        "part_words": {part: time_part(part).words for part in found.parts},
        "fact_labels": {path: fact_label(path) for path in _fact_paths(found)},
    }
    return reply(data, text=explain_text(found, Style(unicode=True, colour=False, width=96)))


def _fact_paths(found: Explanation) -> list[str]:
    """Every fact that an explanation names."""
    named = [f.path for f in found.facts] + [move.fact.path for move in found.moves]
    return list(dict.fromkeys([*named, *(path for term in found.terms for path in term.facts)]))


# ---- scenarios
# ----------------------------------------------------------------------------------------------------------------------


def scenario(ask: asks.Scenario, known: Knowledge) -> bytes:
    """A comparison's YAML as the request that it means, with its command."""
    from mowich.web.scenario import scenario_ask

    safe_yaml(ask.yaml)
    compare = scenario_ask(ask.yaml)
    got = known.work(compare)
    return reply(
        {
            "schema": "mowich/scenario@1",
            "ask": compare.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
        },
        notes=list(got.notes),
        command=compare.command(),
    )


def _told(verb: Callable[..., object]) -> Callable[..., object]:
    """A verb whose errors name the fields of its body."""

    def run(*arguments: object) -> object:
        body = next((a for a in arguments if isinstance(a, asks.Ask) and a.schema_ is not None), None)
        with body.schema_of.told(Edge.KEY) if body else nullcontext():
            return verb(*arguments)

    return run


VERBS: Mapping[str, Callable[..., object]] = {
    f.__name__: _told(f)
    for f in (
        row,
        together,
        forward,
        plan,
        fit,
        brief,
        first,
        fleet,
        rl,
        validate,
        report,
        deepen,
        explain,
        scenario,
        *library.LISTINGS,
    )
} | {name: _told(_room(name)) for name in room_names()}
