"""One function for each verb: a checked request in, its result as the command line's JSON has it out. Runs in a worker process.

Words are read by the readers of the command line (`cli.inputs`), so that a request and a command are judged alike, and the same studies
compute. `row` and `together` are `compare` in pieces, one for each system, so that they can run side by side. Nothing here opens a file but those
that ship.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mowich.cli.inputs import Problems, Settings, note_context, read_count, read_job, read_settings, read_systems
from mowich.cli.output import overlay, rerun
from mowich.cli.serving import read_serving
from mowich.errors import UserError, did_you_mean, unknown
from mowich.facts import Facts
from mowich.facts import load as load_facts
from mowich.report.json import to_json
from mowich.web import asks
from mowich.workloads import names as model_names
from mowich.workloads.builtin import aliases, find
from mowich.workloads.model import Model

if TYPE_CHECKING:
    from mowich.plans.plan import TrainJob
    from mowich.simulate.serving_search import ServeJob
    from mowich.studies.compare import Questions, Row
    from mowich.studies.serve_plan import ServeResult

MOST = {"seq": 1e7, "tokens": 1e18, "batch_seqs": 1e8}
"""Larger jobs are not computed here."""


@lru_cache(maxsize=4)
def facts_of(dirs: tuple[str, ...]) -> Facts:
    """The facts of this server, parsed once in each worker."""
    return load_facts(tuple(Path(d) for d in dirs))


@lru_cache(maxsize=32)
def _pasted(text: str) -> Model:
    from mowich.workloads.config import model_from_config

    config = json.loads(text)
    given = str(config.get("_name_or_path") or config.get("model_type") or "pasted")
    return model_from_config(
        config, name=given.rstrip("/").rsplit("/", 1)[-1][:60] or "pasted", where="config.json", source="pasted"
    )


def model_of(given: str | Mapping[str, Any]) -> Model:
    """A built-in name or a pasted config; never a path."""
    if not isinstance(given, str):
        return _pasted(asks.canonical(given))
    name = find(given)
    if name is None:
        close = did_you_mean(given.rsplit("/", 1)[-1], [*model_names(), *aliases()])
        raise UserError(
            f"unknown model '{given}'", where="MODEL", allowed="a built-in name, or a pasted config.json", fix=close
        )
    from mowich.workloads.builtin import builtin

    return builtin(name)


@dataclass(slots=True)
class Read:
    """A request as the studies take it, and what the command line would have noted on stderr."""

    model: Model
    settings: Settings
    systems: list[str]
    chips: int | None
    job: TrainJob | None = None
    serving: ServeJob | None = None
    fixed: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


_read: OrderedDict[str, Read] = OrderedDict()
"""Requests that this worker has read lately: a comparison is read once for each of its systems."""


def read(ask: asks.Compare | asks.Plan | asks.ServePlans | asks.Fit, facts: Facts) -> Read:
    """A request as the studies take it. Raises UserErrors with every mistake at once, as the command line would say them."""
    key = f"{type(ask).__name__}:{facts.hash()}:{asks.canonical(ask)}"
    if key not in _read:
        _read[key] = _read_now(ask, facts)
        if len(_read) > 64:
            _read.popitem(last=False)
    return _read[key]


def _settings(items: Sequence[str], facts: Facts, problems: Problems) -> Settings:
    """`read_settings`, with the same facts for the same settings, so that what is kept for them is used again."""
    kept = _kept_settings.get(key := (facts.hash(), *items))
    if kept is None:
        kept = read_settings(items, facts, problems)
        if not problems.found:
            _kept_settings[key] = kept
            if len(_kept_settings) > 16:
                _kept_settings.popitem(last=False)
    return kept


_kept_settings: OrderedDict[tuple[str, ...], Settings] = OrderedDict()


def _read_now(ask: asks.Compare | asks.Plan | asks.ServePlans | asks.Fit, facts: Facts) -> Read:
    from mowich.plans.plan import parse_fixed
    from mowich.studies.serve_plan import parse_serving

    problems, notes = Problems(), cast("list[str]", [])
    chosen = _settings(ask.set, facts, problems)
    count = read_count(ask.chips, "--chips", problems)
    model: Model | None = None
    with problems.watch("MODEL"):
        model = model_of(ask.model)
    train, serve = getattr(ask, "train", None), getattr(ask, "serve", None)
    job, serving = None, None
    if train is not None:
        needs = not isinstance(ask, asks.Fit)
        job = read_job(True, train.tokens, train.seq, train.batch, problems, notes.append, needs_tokens=needs, task=train.task, document=train.document,
                       fill=train.fill)  # fmt: skip
        for name, most in MOST.items():
            if job is not None and getattr(job, name) > most:
                problems.add(
                    f"must be at most {most:g}",
                    where=f"--{name.removesuffix('_seqs')}",
                    given=f"{getattr(job, name):g}",
                )
    elif serve is not None:
        serving = read_serving(
            serve.isl, serve.osl, serve.ttft, serve.tpot, serve.cached, serve.accept, serve.engine, problems
        )
    equal = getattr(ask, "equal", None)
    if equal is not None and count is None:
        problems.add(
            "needs --chips", where="--equal", fix="--chips counts the first system's chips (units with --equal units)"
        )
    on = ask.on if isinstance(ask.on, str) else ",".join(ask.on)
    systems = read_systems(on, None if count is None else int(count), chosen.facts, problems, equal=equal or "chips", single=isinstance(ask.on, str),
                           stack=ask.stack)  # fmt: skip
    fixed: Mapping[str, Sequence[int | str]] = {}
    with problems.watch():
        fixed = parse_fixed(chosen.plan) if train is not None else parse_serving(chosen.plan)
    problems.stop()
    assert model is not None
    note_context(model, job, notes.append)
    if (
        serving is not None
        and (limit := model.learned_positions or model.max_seq)
        and serving.prompt + serving.output > limit
    ):
        notes.append(
            f"isl + osl = {serving.prompt + serving.output:g} is longer than the context of {model.name}, {limit} tokens"
        )
    return Read(model=model, settings=chosen, systems=systems, chips=None if count is None else int(count), job=job, serving=serving, fixed=fixed,
                notes=notes)  # fmt: skip


def reply(result: Mapping[str, Any], *, inputs: Mapping[str, Any] | None = None, **more: Any) -> bytes:
    """The body of an answer: `result`, the same object that `--json` prints, and what goes with it."""
    head = json.dumps({k: v for k, v in more.items() if v is not None}, ensure_ascii=False, allow_nan=False)
    return (
        f'{head[:-1]}{", " if len(head) > 2 else ""}"result": {to_json(result, inputs=inputs, indent=None)}}}'.encode()
    )


def again(ask: Any, loaded: Model) -> dict[str, Any]:
    """What the command line adds to a result's inputs so that it can be run again."""
    return rerun(ask.model if isinstance(ask.model, str) else "config.json", loaded, list(ask.set), None, 0)


# ---- compare, plan, serve, fit ----------------------------------------------------------------------------------------------------------


def questions(ask: asks.Compare, got: Read) -> Questions:
    from mowich.studies import compare as study

    assert got.job is not None
    return study.questions(got.model, got.systems, train=got.job, chips=got.chips, facts=got.settings.facts, equal=ask.equal or "chips", fixed=got.fixed,
                           term=got.settings.term, stack=ask.stack)  # fmt: skip


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
        found = study.solve(one, fixed=around({str(k): v for k, v in near.items()}, got.fixed, got.model))[0]
        if found.plan is not None:
            return found
    return study.solve(one, fixed=got.fixed)[0]


def around(
    near: Mapping[str, str | int], fixed: Mapping[str, Sequence[int | str]], model: Model
) -> dict[str, Sequence[int | str]]:
    """Choices one step about those of a plan, within `fixed`: halves and doubles of its degrees, the same precision."""
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
    from mowich.workloads.model import Moe

    return next((layer.ffn.num_experts for layer in model.layers if isinstance(layer.ffn, Moe)), 1)


def together(ask: asks.Compare | asks.ServePlans, rows: Sequence[Any], facts: Facts) -> bytes:
    """`compare` from the rows of its systems."""
    from mowich.studies import compare as study
    from mowich.studies import serve_plan

    got = read(ask, facts)
    if got.serving is not None:
        result = serve_plan.joined(rows).to_dict()
    else:
        assert isinstance(ask, asks.Compare)
        asked = questions(ask, got)
        answer = study.answer(asked, rows)
        if ask.near:
            answer = replace(
                answer,
                complete=False,
                warnings=(*answer.warnings, "searched only near the plans that were shown; the whole search follows"),
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
    """What the report shows of a result, as data: headline, assumptions, warnings, tables, and charts as ECharts options."""
    from mowich.report.html import PAGES

    page = PAGES[str(result["schema"])](result)
    return {"title": page.title, "headline": page.headline, "assumptions": page.assumptions, "warnings": page.warnings,
            "tables": [asdict(t) for t in page.tables if tables], "charts": [asdict(c) for c in page.charts]}  # fmt: skip


def _serving(ask: Any, got: Read, systems: Sequence[str]) -> ServeResult:
    from mowich.studies import serve_plan

    assert got.serving is not None
    return serve_plan.compare(got.model, systems, job=got.serving, facts=got.settings.facts, chips=got.chips, engine=ask.serve.engine, fixed=got.fixed,
                              term=got.settings.term)  # fmt: skip


def plan(ask: asks.Plan, facts: Facts) -> bytes:
    """The best plans of one system."""
    from mowich.studies import compare as study
    from mowich.studies import serve_plan, trade

    got = read(ask, facts)
    if got.serving is not None:
        assert ask.serve is not None
        served = serve_plan.plan(got.model, got.systems[0], job=got.serving, facts=got.settings.facts, chips=got.chips, engine=ask.serve.engine, top=ask.top,
                                 fixed=got.fixed, term=got.settings.term)  # fmt: skip
        result = served.to_dict()
    else:
        assert got.job is not None
        plans = study.plan(got.model, got.systems[0], train=got.job, chips=got.chips, facts=got.settings.facts, top=ask.top, fixed=got.fixed,
                           term=got.settings.term, stack=ask.stack)  # fmt: skip
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
        from mowich.cli.serving import check_engine
        from mowich.studies.serve_fit import fit_serving

        problems = Problems()
        check_engine(ask.engine, problems)
        tokens = read_count(ask.kv, "--kv", problems, maximum=1e8)
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
            got.model, got.systems[0], train=got.job, facts=got.settings.facts, chips=got.chips, fixed=got.fixed
        )
    return reply(
        found.to_dict(),
        inputs=again(ask, got.model),
        notes=got.notes,
        command=asks.command(ask),
        headline=found.sentence(),
    )


# ---- the other verbs --------------------------------------------------------------------------------------------------------------------


def fleet(ask: asks.Fleet, facts: Facts) -> bytes:
    """What to buy, rent and assign in each period of a scenario."""
    from mowich.fleets.problem import read_problem
    from mowich.studies.fleet import fleet as study

    safe_yaml(ask.yaml)
    problem = read_problem("scenario", facts, text=ask.yaml)
    if problem.rates_file:
        raise UserError(
            "files are not read here", where="rates", given=problem.rates_file, fix="leave it out: speeds are predicted"
        )
    for task in problem.tasks:
        model_of(str(task.ask["model"]))
    with_rates = known_rates(problem, facts)
    found = study(
        "scenario",
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
        inputs=overlay(None, None),
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
    found = study(chosen.facts, ask.kind, ask.on, sizes=sizes, group=ask.group, network=ask.network or "", oversubscription=ask.oversubscription,
                  fail=ask.fail, beside=ask.beside)  # fmt: skip
    return reply(found.to_dict(), inputs=overlay(ask.set, None))


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
    found = study(chosen.facts, ask.on, days=ask.days, step_s=step_s, spare_share=ask.spares, replica=ask.replica, checkpoint_s=checkpoint_s,
                  samples=ask.samples, seed=0)  # fmt: skip
    return reply(found.to_dict(), inputs=overlay(ask.set, None))


def validate(facts: Facts) -> bytes:
    """Predicted against measured, for the published rows that ship."""
    from mowich.studies.validate import validate as study

    result = study(None, facts).to_dict()
    return reply(result, inputs=overlay(None, None), view=view(result))


def report(result: Mapping[str, Any], command: str) -> bytes:
    """A result as one HTML file."""
    from mowich.report.html import render

    return render(result, command=command).encode()


def explain(result: Mapping[str, Any], metric: str, ask: asks.Compare | asks.Plan | asks.Fleet, facts: Facts) -> bytes:
    """Formula, numbers, facts and sources of one number of a result."""
    from mowich.report.explain import explain_text
    from mowich.report.table import Style
    from mowich.studies.explain import explain as study

    got = None if isinstance(ask, asks.Fleet) else read(ask, facts)
    known = got.settings.facts if got else facts
    found = study(result, metric, known, model=got.model if got else None)
    data = found.to_dict() | {
        "estimate": found.estimate.to_dict(), "facts": [fact_dict(known, f.path) for f in found.facts],
    }  # fmt: skip
    return reply(data, text=explain_text(found, Style(unicode=True, colour=False, width=96)))


def fact_dict(facts: Facts, path: str) -> dict[str, Any]:
    fact = facts.fact(path)
    return {**{k: v for k, v in asdict(fact).items() if v not in (None, "")}, "shown": fact.as_written}


def models(_: Facts) -> bytes:
    """Built-in models with their sizes."""
    rows = []
    for name in model_names():
        model = model_of(name)
        rows.append({"name": name, "params": model.params, "params_active": model.params_active, "layers": model.num_layers, "context": model.max_seq or model.learned_positions})  # fmt: skip
    return reply({"schema": "mowich/models@1", "models": rows})


def model(given: str | Mapping[str, Any], _: Facts) -> bytes:
    """Parameters, FLOP and bytes per token."""
    from mowich.workloads.view import DEFAULT_SEQ, model_view

    return reply(model_view(model_of(given), seq=DEFAULT_SEQ).to_dict())


def systems(facts: Facts) -> bytes:
    """Systems that can be asked for."""
    from mowich.machines.system import resolve

    rows = []
    for name in facts.ids("systems"):
        try:
            one = resolve(facts, name)
        except UserError:
            continue  # a fabric without levels: not for jobs
        rows.append({"id": name, "display": one.display, "vendor": one.vendor, "chip": one.chip, "chips_per_unit": one.chips_per_unit, "max_chips": one.max_chips,
                     "estimated": one.is_estimated, "aliases": list(facts.aliases().get(name, {}).get("aliases", ()))})  # fmt: skip
    return reply({"schema": "mowich/systems@1", "systems": rows})


def facts_list(facts: Facts) -> bytes:
    """What is known, by kind."""
    from mowich.report.facts import KINDS

    entries = [
        {"kind": k, "id": i, **{x: y for x, y in facts.meta(k, i).items() if isinstance(y, str) and x != "id"}}
        for k in KINDS
        for i in facts.ids(k)
    ]
    entries += [{"kind": "models", "id": n} for n in model_names()]
    return reply({"schema": "mowich/facts@1", "facts_hash": facts.hash(), "entries": entries})


def facts_show(names: Sequence[str], facts: Facts) -> bytes:
    """Every number of some things."""
    from mowich.report.facts import leaves, locate

    paths = [p for name in names for p in locate(facts, name)]
    rows = [asdict(fact) for path in paths for fact in leaves(facts, path)]
    return reply({"schema": "mowich/facts@1", "facts_hash": facts.hash(), "facts": rows})


def facts_side(names: Sequence[str], facts: Facts) -> bytes:
    """Chips of systems (or chips) side by side: every field with the fact that each has."""
    from mowich.report.facts import leaves, locate

    columns: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for name in names:
        paths = {p.split(".")[0]: p for p in locate(facts, name)}
        fields: dict[str, Any] = {}
        for kind in ("chips", "systems"):
            if kind in paths:
                fields |= {
                    f"{kind}.{f.path[len(paths[kind]) + 1 :]}"
                    if f.path.startswith(paths[kind])
                    else f"{kind}.{f.path}": f
                    for f in leaves(facts, paths[kind])
                }
        if not fields:
            raise unknown("chip or system", name, [*facts.ids("chips"), *facts.ids("systems")])
        columns.append({"name": name, "paths": list(paths.values())})
        found.append(fields)
    keys = dict.fromkeys(k for fields in found for k in fields)
    rows = [
        {
            "field": k,
            "facts": [
                None if (f := fields.get(k)) is None else fact_dict(facts, f.path) | {"path": f.path}
                for fields in found
            ],
        }
        for k in keys
    ]
    return reply({"schema": "mowich/facts-side@1", "facts_hash": facts.hash(), "columns": columns, "rows": rows})


# ---- scenarios --------------------------------------------------------------------------------------------------------------------------

MAX_YAML_DEPTH, MAX_YAML_EVENTS = 12, 8000


def safe_yaml(text: str) -> None:
    """Refuse what plain data does not need: anchors, tags, deep nesting. Raises UserError."""
    import yaml

    depth, count = 0, 0
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            count += 1
            opens = isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent)
            depth += 1 if opens else -1 if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent) else 0
            where = f"scenario:{event.start_mark.line + 1}" if event.start_mark else "scenario"
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise UserError("anchors, aliases and tags are not taken here", where=where)
            if depth > MAX_YAML_DEPTH or count > MAX_YAML_EVENTS:
                raise UserError(f"at most {MAX_YAML_EVENTS} values, nested {MAX_YAML_DEPTH} deep", where=where)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise UserError(f"not YAML: {error.problem}", where=f"scenario:{line}") from None
    except yaml.YAMLError as error:
        raise UserError(f"not YAML ({type(error).__name__})", where="scenario") from None


def scenario(ask: asks.Scenario, facts: Facts) -> bytes:
    """A comparison's YAML as the request that it means, with its command."""
    from mowich.web.scenario import read_scenario

    safe_yaml(ask.yaml)
    compare = read_scenario(ask.yaml)
    got = read(compare, facts)
    return reply({"schema": "mowich/scenario@1", "ask": compare.model_dump(mode="json", exclude_none=True, exclude_defaults=True)}, notes=got.notes,
                 command=asks.command(compare))  # fmt: skip


VERBS: Mapping[str, Callable[..., Any]] = {
    f.__name__: f for f in (row, together, plan, fit, fleet, collective, goodput, validate, report, explain, models, model, systems, facts_list, facts_show,
                            facts_side, scenario)
}  # fmt: skip
