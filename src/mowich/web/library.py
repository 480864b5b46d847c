"""What there is to ask for: models, systems, facts. Runs in a worker process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from mowich.errors import UserError, unknown
from mowich.facts import Fact, Facts
from mowich.models import model_names
from mowich.requests.fields import Edge
from mowich.requests.jobs import COMPARE
from mowich.web.reading import Knowledge, chart_data, given_model, reply


def models(_: Knowledge) -> bytes:
    """Built-in models with their sizes."""
    rows = []
    for name in model_names():
        model = given_model(name)
        rows.append(
            {
                "name": name,
                "kind": model.kind,
                "params": model.params,
                "params_active": model.params_active,
                "layers": model.num_layers,
                "context": model.max_seq or model.learned_positions,
            }
        )
    return reply({"schema": "mowich/models@1", "models": rows})


def model(given: str | Mapping[str, object], _: Knowledge) -> bytes:
    """Parameters, FLOP and bytes per token."""
    from mowich.models.view import DEFAULT_SEQ

    return reply(given_model(given).view(seq=DEFAULT_SEQ).to_dict())


TEACHING = ("startup", "trainium-tenants")
"""Scenarios that stand first: each has a clear decision, and little stands idle."""


def scenarios(verb: str, _: Knowledge) -> bytes:
    """Scenarios of a verb that ship, with their text: those that teach first, then by name."""
    from mowich.examples import names_of, shipped

    found = [shipped("scenarios", name) for name in dict.fromkeys((*TEACHING, *names_of("scenarios")))]
    rows = [
        {"name": s.name, "what": s.what, "command": s.command, "text": s.path.read_text(encoding="utf-8")}
        for s in found
        if s.command.startswith(f"mowich {verb} ")
    ]
    return reply({"schema": "mowich/scenarios@1", "scenarios": rows})


def kernel_examples(_: Knowledge) -> bytes:
    """Kernels that ship, each with what it is."""
    from mowich.examples import names_of, shipped

    found = [shipped("kernels", name) for name in names_of("kernels")]
    return reply({"schema": "mowich/kernels@1", "kernels": [{"name": k.name, "what": k.what} for k in found]})


def head_words(_: Knowledge) -> bytes:
    """What the words on heads of tables mean."""
    from mowich.show.glossary import glossary

    means = {head: term.means for term in glossary().values() for head in (*term.heads, term.name)}
    return reply({"schema": "mowich/glossary@1", "means": means})


def systems(known: Knowledge) -> bytes:
    """Systems that can be asked for, the software that they can be asked to run (training stacks, engines), the words
    of a question of prices, and those of fields of a job."""
    from mowich.economics.ownership import quarters
    from mowich.machines.system import resolve
    from mowich.models.task import TASKS
    from mowich.price_terms import BUYERS, COST_RULES
    from mowich.software.engine import engine_names
    from mowich.software.stack import training_stacks

    facts = known.facts
    rows = []
    for name in facts.ids("systems"):
        try:
            one = resolve(facts, name)
        except UserError:
            continue  # a fabric without levels: not for jobs
        rows.append(
            {
                "id": name,
                "display": one.display,
                "vendor": one.vendor,
                "chip": one.chip,
                "chips_per_unit": one.chips_per_unit,
                "max_chips": one.max_chips,
                "estimated": one.is_estimated,
                "aliases": list(facts.aliases()[name].aliases) if name in facts.aliases() else [],
            }
        )
    software = {"stacks": training_stacks(facts), "engines": engine_names(facts)}
    prices = {"quarter": quarters(facts), "rule": COST_RULES, "buyer": BUYERS}
    asked = (field for field in COMPARE.at(Edge.KEY) if field.group != "forward")
    words = {field.name: field.vocabulary for field in asked if field.words} | {"task": TASKS}
    return reply({"schema": "mowich/systems@1", "systems": rows, **software, "prices": prices, "words": words})


def facts_list(known: Knowledge) -> bytes:
    """What is known, by kind."""
    from mowich.facts.load import FACT_KINDS
    from mowich.studies.fact_list import fact_entries

    facts = known.facts
    entries = fact_entries(facts, FACT_KINDS, with_models=True)
    return reply({"schema": "mowich/facts@1", "facts_hash": facts.hash(), "entries": entries})


def facts_show(names: Sequence[str], known: Knowledge) -> bytes:
    """Every number of some things."""
    from mowich.facts.find import fact_rows, locate

    facts = known.facts
    rows = fact_rows(facts, [p for name in names for p in locate(facts, name)])
    return reply({"schema": "mowich/facts@1", "facts_hash": facts.hash(), "facts": rows})


def _display(facts: Facts, paths: Sequence[str]) -> str:
    """What a chip or a system is called in full."""
    named = [facts.meta(*path.split(".", 1)) for path in reversed(paths)]
    return next((str(meta["name"]) for meta in named if meta.get("name")), "")


def facts_side(names: Sequence[str], known: Knowledge) -> bytes:
    """Chips of systems (or chips) side by side: every field with the fact that each has."""
    from mowich.facts.find import facts_below, locate

    facts = known.facts
    columns: list[dict[str, object]] = []
    found: list[dict[str, Fact]] = []
    for name in names:
        paths = {p.split(".")[0]: p for p in locate(facts, name)}
        fields: dict[str, Fact] = {}
        for kind in ("chips", "systems"):
            if kind in paths:
                fields |= {
                    f"{kind}.{f.path[len(paths[kind]) + 1 :]}"
                    if f.path.startswith(paths[kind])
                    else f"{kind}.{f.path}": f
                    for f in facts_below(facts, paths[kind])
                }
        if not fields:
            raise unknown("chip or system", name, [*facts.ids("chips"), *facts.ids("systems")])
        columns.append({"name": name, "display": _display(facts, list(paths.values())), "paths": list(paths.values())})
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


def map_picture(name: str, known: Knowledge) -> bytes:
    """A machine chip by chip with its links, as a picture."""
    from mowich.show.charts_map import machine_chart
    from mowich.studies.machine_map import map_of

    facts = known.facts
    drawn = chart_data(machine_chart(map_of(facts, name)))
    return reply({"schema": "mowich/map@1", "facts_hash": facts.hash(), "name": name}, chart=drawn)


def fact_dict(facts: Facts, path: str) -> dict[str, object]:
    fact = facts.fact(path)
    return {**{k: v for k, v in asdict(fact).items() if v not in (None, "")}, "shown": fact.as_written}


LISTINGS = (
    *(models, model, head_words, scenarios, kernel_examples, systems),
    *(facts_list, facts_show, facts_side, map_picture),
)
