"""One function for each verb: a checked request in, its result as the command line's JSON has it out. Runs in a worker
process.

The same studies compute as behind the command line. `row` and `together` are `compare` in pieces, one for each system,
so that they can run side by side. Nothing here opens a file but those that ship.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.models.model import Model
from mowich.requests import Problems, facts_changes, read_count, read_settings
from mowich.web import asks, library
from mowich.web.reading import Read, again, model_of, read, reply, safe_yaml

if TYPE_CHECKING:
    from mowich.show.page import Page
    from mowich.studies.compare import Questions, Row
    from mowich.studies.explain import Explainer
    from mowich.studies.serving_plan import ServeResult


# ---- compare, plan, serve, fit
# ----------------------------------------------------------------------------------------------------------------------


def questions(ask: asks.Compare, got: Read) -> Questions:
    from mowich.studies import compare as study

    assert got.job is not None
    return study.questions(
        got.model,
        got.systems,
        train=got.job,
        chips=got.chips,
        facts=got.settings.facts,
        equal=ask.equal or "chips",
        fixed=got.fixed,
        term=got.settings.term,
        stack=ask.stack,
    )


def row(ask: asks.Compare | asks.ServePlans, place: int, facts: Facts) -> Row | ServeResult:
    """What `compare` finds for one of its systems."""
    from mowich.studies import compare as study

    got = read(ask, facts)
    if got.serving is not None:
        return _serving(ask, got, [got.systems[place]])
    assert isinstance(ask, asks.Compare)
    one = questions(ask, got).asks[place]
    near = (ask.near or {}).get(got.systems[place])
    if near:
        among = around({str(k): v for k, v in near.items()}, got.fixed, got.model)
        found = study.solve(one, fixed=among, brief=True)[0]
        if found.plan is not None:
            return found
    return study.solve(one, fixed=got.fixed)[0]


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
            here = max(1, min(int(value), 4096)) if str(value).isdigit() else 1
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


def together(ask: asks.Compare | asks.ServePlans, rows: Sequence[Any], facts: Facts) -> bytes:
    """`compare` from the rows of its systems."""
    from mowich.studies import compare as study
    from mowich.studies import serving_plan

    got = read(ask, facts)
    if got.serving is not None:
        result = serving_plan.joined(rows).to_dict()
    else:
        assert isinstance(ask, asks.Compare)
        asked = questions(ask, got)
        answer = study.answer(asked, rows)
        if ask.near:
            answer = replace(
                answer,
                complete=False,
                warnings=(
                    *answer.warnings,
                    (
                        "searched only near the plans that were shown, without hand-tuned kernels; the whole search"
                        " follows"
                    ),
                ),
            )
        result = answer.to_dict()
    return reply(
        result,
        inputs=again(ask, got.model),
        notes=got.notes,
        command=asks.command(ask),
        view=view(result, tables=False),
    )


def view(result: Mapping[str, Any], *, tables: bool = True) -> dict[str, Any]:
    """What the report shows of a result, as data: headline, marks of the best rows, words beside numbers, assumptions,
    warnings, tables, and charts as ECharts options."""
    from mowich.show.html import PAGES

    return as_data(PAGES[str(result["schema"])](result), tables=tables)


def as_data(page: Page, *, tables: bool = True) -> dict[str, Any]:
    return {
        "title": page.title,
        "headline": page.headline,
        "assumptions": [a[:2] for a in page.assumptions],
        "warnings": page.warnings,
        "marks": page.marks,
        "beside": page.beside,
        "tables": [_shallow(t) for t in page.tables if tables],
        "charts": [_shallow(c) for c in page.charts],
    }


def _shallow(part: Any) -> dict[str, Any]:
    """A table's or a chart's fields, which are plain data: `asdict` would copy them all."""
    return {f.name: getattr(part, f.name) for f in fields(part)}


def deepen(result: Mapping[str, Any], ask: asks.Compare | asks.Plan, facts: Facts) -> bytes:
    """What the report adds to a result that can be made again: what would change the answer, scaling, the nearest
    measured points."""
    from mowich.show.deepen import deepen as report
    from mowich.show.html import PAGES

    page = PAGES[str(result["schema"])](result)
    more = report(page, explainer(result, ask, facts))
    had = {c.title for c in page.charts}, {t.title for t in page.tables}
    new = replace(
        more,
        warnings=(),
        assumptions=[a for a in more.assumptions if a not in page.assumptions],
        charts=[c for c in more.charts if c.title not in had[0]],
        tables=[t for t in more.tables if t.title not in had[1]],
    )
    return reply({"schema": "mowich/deepen@1", "facts": [f.path for f in more.facts]}, view=as_data(new))


def explainer(result: Mapping[str, Any], ask: asks.Compare | asks.Plan | asks.Fleet, facts: Facts) -> Explainer:
    """Explains a result by the model and the facts of its request."""
    from mowich.studies.explain import Explainer

    got = None if isinstance(ask, asks.Fleet) else read(ask, facts)
    return Explainer(result, got.settings.facts if got else facts, got.model if got else None)


def _serving(ask: Any, got: Read, systems: Sequence[str]) -> ServeResult:
    from mowich.studies import serving_plan

    assert got.serving is not None
    return serving_plan.compare(
        got.model,
        systems,
        job=got.serving,
        facts=got.settings.facts,
        chips=got.chips,
        engine=ask.serve.engine,
        fixed=got.fixed,
        term=got.settings.term,
    )


def plan(ask: asks.Plan, facts: Facts) -> bytes:
    """The best plans of one system."""
    from mowich.studies import compare as study
    from mowich.studies import serving_plan, trade

    got = read(ask, facts)
    if got.serving is not None:
        assert ask.serve is not None
        served = serving_plan.plan(
            got.model,
            got.systems[0],
            job=got.serving,
            facts=got.settings.facts,
            chips=got.chips,
            engine=ask.serve.engine,
            top=ask.top,
            fixed=got.fixed,
            term=got.settings.term,
        )
        result = served.to_dict()
    else:
        assert got.job is not None
        plans = study.plan(
            got.model,
            got.systems[0],
            train=got.job,
            chips=got.chips,
            facts=got.settings.facts,
            top=ask.top,
            fixed=got.fixed,
            term=got.settings.term,
            stack=ask.stack,
        )
        result = plans.to_dict()
        if plans.ask is not None and plans.rows[0].plan is not None:
            if ask.neighbours:
                result["why"] = trade.why(plans.ask, fixed=got.fixed).to_dict()
            if ask.pareto:
                result["pareto"] = [r.to_dict() for r in trade.pareto(plans.ask, fixed=got.fixed)]
    return reply(result, inputs=again(ask, got.model), notes=got.notes, command=asks.command(ask), view=view(result))


def fit(ask: asks.Fit, facts: Facts) -> bytes:
    """Does it fit, what takes the memory, how few chips would do."""
    got = read(ask, facts)
    found: Any
    if ask.kv is not None:
        from mowich.asked import LONGEST_SERVED, check_engine
        from mowich.studies.serving_fit import fit_serving

        problems = Problems()
        check_engine(ask.engine, problems, "--engine")
        tokens = read_count(ask.kv, "--kv", problems, maximum=LONGEST_SERVED)
        problems.stop()
        assert tokens is not None
        found = fit_serving(
            got.model,
            got.systems[0],
            tokens=tokens,
            facts=got.settings.facts,
            chips=got.chips,
            engine=ask.engine,
            fixed=got.fixed,
        )
    else:
        from mowich.studies.fit import fit as study

        assert got.job is not None
        found = study(
            got.model,
            got.systems[0],
            train=got.job,
            facts=got.settings.facts,
            chips=got.chips,
            fixed=got.fixed,
            stack=ask.stack,
        )
    return reply(
        found.to_dict(),
        inputs=again(ask, got.model),
        notes=got.notes,
        command=asks.command(ask),
        headline=found.sentence(),
    )


# ---- the other verbs
# ----------------------------------------------------------------------------------------------------------------------


SENT = "scenario (as sent)"
"""Name of a scenario that is no file."""


def fleet(ask: asks.Fleet, facts: Facts) -> bytes:
    """What to buy, rent and assign in each period of a scenario."""
    from mowich.fleets.read import read_problem
    from mowich.studies.fleet import fleet as study

    safe_yaml(ask.yaml)
    problem = read_problem(SENT, facts, text=ask.yaml)
    if problem.rates_file:
        raise UserError(
            "files are not read here", where="rates", given=problem.rates_file, fix="leave it out: speeds are predicted"
        )
    for task in problem.tasks:
        model_of(str(task.ask["model"]))
    with_rates = known_rates(problem, facts)
    found = study(
        SENT,
        facts,
        relaxed=ask.relaxed,
        gap=ask.gap,
        draws=ask.draws,
        time_limit_s=8.0,
        problem=problem,
        speeds=with_rates,
    )
    result = found.to_dict()
    return reply(
        result,
        inputs=facts_changes(None, None),
        view=view(result),
        command="mowich fleet scenario.yaml" + (" --lp" if ask.relaxed else f" --gap {ask.gap:g}"),
    )


_rates: dict[str, Any] = {}
"""Speeds that this worker has predicted, by task and system: a slider that moves a price asks for them again."""


def known_rates(problem: Any, facts: Facts) -> dict[tuple[str, str], Any]:
    from mowich.studies.fleet import rate

    out = {}
    for workload in problem.workloads:
        for task in workload.tasks:
            for choice in problem.allowed(workload):
                key = asks.canonical(
                    {
                        "task": task.name,
                        "ask": {k: str(v) for k, v in task.ask.items()},
                        "system": choice.name,
                        "id": choice.system.id,
                        "unit": choice.unit_chips,
                    }
                )
                if key not in _rates:
                    if len(_rates) >= 512:
                        _rates.pop(next(iter(_rates)))
                    _rates[key] = rate(task, choice, facts)
                out[task.name, choice.name] = _rates[key]
    return out


def collective(ask: asks.Collective, facts: Facts) -> bytes:
    """Time of a collective for each size."""
    from mowich.studies.collectives import collective as study
    from mowich.units import parse

    problems = Problems()
    chosen = read_settings(ask.set, facts, problems)
    sizes: list[int] = []
    for word in ask.sizes:
        with problems.watch():
            sizes.append(max(1, round(parse(word, "B", where="--bytes").value)))
            if sizes[-1] > 2**50:
                problems.add("at most 1 PiB", where="--bytes", given=word)
    problems.stop()
    found = study(
        chosen.facts,
        ask.kind,
        ask.on,
        sizes=sizes,
        group=ask.group,
        network=ask.network or "",
        oversubscription=ask.oversubscription,
        fail=ask.fail,
        beside=ask.beside,
    )
    return reply(found.to_dict(), inputs=facts_changes(ask.set, None))


def goodput(ask: asks.Goodput, facts: Facts) -> bytes:
    """Goodput of a long run by way of surviving failures."""
    from mowich.studies.goodput import goodput as study
    from mowich.units import parse

    problems = Problems()
    chosen = read_settings(ask.set, facts, problems)
    step_s, checkpoint_s = 5.0, None
    with problems.watch():
        step_s = parse(ask.step, "s", where="--step").value
        if not 1e-3 <= step_s <= 1e5:
            problems.add("must lie in 1 ms to 100000 s", where="--step", given=ask.step)
    if ask.checkpoint is not None:
        with problems.watch():
            checkpoint_s = parse(ask.checkpoint, "s", where="--checkpoint").value
    problems.stop()
    found = study(
        chosen.facts,
        ask.on,
        days=ask.days,
        step_s=step_s,
        spare_share=ask.spares,
        replica=ask.replica,
        checkpoint_s=checkpoint_s,
        samples=ask.samples,
        seed=0,
    )
    return reply(found.to_dict(), inputs=facts_changes(ask.set, None))


def validate(facts: Facts) -> bytes:
    """Predicted against measured, for the published rows that ship."""
    from mowich.evidence.validate import validate as study

    result = study(None, facts).to_dict()
    return reply(result, inputs=facts_changes(None, None), view=view(result))


def report(result: Mapping[str, Any], command: str, ask: asks.Compare | asks.Plan | asks.Fleet, facts: Facts) -> bytes:
    """A result as one HTML file; of a fleet without what would need its scenario again."""
    from mowich.show.html import render

    return render(
        result, command=command, explainer=None if isinstance(ask, asks.Fleet) else explainer(result, ask, facts)
    ).encode()


def explain(result: Mapping[str, Any], metric: str, ask: asks.Compare | asks.Plan | asks.Fleet, facts: Facts) -> bytes:
    """Formula, numbers, facts and sources of one number of a result."""
    from mowich.show.explain import explain_text
    from mowich.show.table import Style

    by = explainer(result, ask, facts)
    found = by.explain(metric)
    data = found.to_dict() | {
        "estimate": found.estimate.to_dict(),
        "facts": [library.fact_dict(by.facts, f.path) for f in found.facts],
    }
    return reply(data, text=explain_text(found, Style(unicode=True, colour=False, width=96)))


# ---- scenarios
# ----------------------------------------------------------------------------------------------------------------------


def scenario(ask: asks.Scenario, facts: Facts) -> bytes:
    """A comparison's YAML as the request that it means, with its command."""
    from mowich.web.scenario import read_scenario

    safe_yaml(ask.yaml)
    compare = read_scenario(ask.yaml)
    got = read(compare, facts)
    return reply(
        {
            "schema": "mowich/scenario@1",
            "ask": compare.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
        },
        notes=got.notes,
        command=asks.command(compare),
    )


VERBS: Mapping[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        row,
        together,
        plan,
        fit,
        fleet,
        collective,
        goodput,
        validate,
        report,
        deepen,
        explain,
        scenario,
        *library.ALL,
    )
}
