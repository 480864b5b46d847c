"""The command line, Python and HTTP accept and refuse alike, and ask the same where they accept.

Questions are drawn from the schemas: every field of a verb takes good values and nearly good ones of its kind. Each
question is put to all edges in this process. An edge may refuse alone only what it has no form for, or what is more
work than a server does.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

import mowich
from mowich import cli, facts
from mowich.errors import UserError
from mowich.requests import jobs
from mowich.requests.fields import Edge, Field
from mowich.requests.rooms import collective, goodput, power, prices
from mowich.requests.schema import Schema
from mowich.web import asks, verbs
from mowich.web.reading import Knowledge

FACTS = facts.load_facts()
KNOWN = Knowledge(FACTS)
QUESTIONS = 50
"""Questions a verb."""
ACCEPTED = (0, 3, 4)
"""Exit codes of an answer: also where nothing is feasible, or a limit is broken."""

TRAIN = {"train": True, "seq": "1Ki", "batch": "8seqs", "tokens": "1B"}
SERVE = {"serve": True, "isl": "512", "osl": "64"}
SMALL = {"model": "gpt2", "set": ("plan.tp=1", "plan.pp=1")}
GOOD: Mapping[str, tuple[dict[str, Any], ...]] = {
    "compare": ({**SMALL, **TRAIN, "on": ("h100:2",)}, {**SMALL, **SERVE, "on": ("h100:1", "trn3:1")}),
    "plan": ({**SMALL, **TRAIN, "on": "h100:2"}, {**SMALL, **SERVE, "on": "h100:1"}),
    "fit": (
        {**SMALL, "train": True, "seq": "1Ki", "batch": "8seqs", "on": "h100:2"},
        {**SMALL, "kv": "1k", "on": "h100:1"},
    ),
    "collective": ({"kind": "all-reduce", "on": "trn3-gen2", "sizes": ("1MiB",)},),
    "goodput": ({"on": "h100:1024", "samples": "10", "days": "5"},),
    "power": ({"on": ("h100",)},),
    "prices": ({"on": ("h100", "trn3"), "quarter": "2026Q1"},),
}
"""Questions that every edge answers, at once."""

COUNTS = ("1", "2", "64", "4k", "1Ki", "0", "-1", "1.5", "1e3", "1e400", "1e12", "nan", "inf", "x", "4 k", "1T tokens")
NUMBERS = ("0", "0.5", "1", "1.0", "1.5", "2.3", "16", "17", "-1", "nan", "inf", "1e400", "x", "50%", "2 s")
SHARES = ("0", "0.6", "60%", "100%", "1", "150%", "-0.1", "x", "nan", "0.6 x", "6 s")
WORDS = (
    "tco",
    "spot",
    "2026Q1",
    "semianalysis",
    "neocloud",
    "sft",
    "lora:8",
    "lora:0",
    "usd",
    "units",
    "megatron",
    "vllm",
    "vlm",
    "efa",
    "sync",
    "none",
    "chips",
)
SYSTEMS = ("h100", "h100:2", "trn3:1", "trn3-gen2", "h1000", "trn3:0", "h100:1e9", "ironwood:2x2x1", "efa")
SETTINGS = (
    "plan.tp=2",
    "plan.tp=0",
    "plan.pp=1,2",
    "plan.x=1",
    "prices.term=3y",
    "prices.term=4y",
    "plan.zero=1",
)
FAULTS = ("link:3", "link:9999", "chip:5", "x", "link:3=0.5", "link:3=2", "all-to-all:0-7", "all-to-all:7-0")
TYPED: tuple[Any, ...] = (1, 2.0, 0, -1, 0.5, 1.5, True, math.nan, math.inf, 10**400, [1], {}, None, 1e12)
"""Values that are no text: what Python and JSON have, and the command line has not."""


def values(field: Field[Any], rng: random.Random) -> Any:
    """A value for a field, good or nearly good."""

    def some(pool: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(rng.choice(pool) for _ in range(rng.randint(0, 3)))

    if field.name == "model":
        return rng.choice(("gpt2", "gpt-2x", "llama-3.1-8b"))
    if field.name == "batch":
        return rng.choice(("8seqs", "1 seqs", "8k", "100", "0seqs", "x", "1e12seqs", "-8seqs", "64k tokens"))
    if field.name == "set":
        return some(SETTINGS)
    if field.kind == "flag":
        return rng.random() < 0.7
    if field.kind == "texts":
        return some(FAULTS)
    if field.kind == "names":
        return some(SYSTEMS if field.completes else ("1MiB", "1 B", "0B", "x", "3 GB") if field.unit else ("sync", "x"))
    if field.completes == "systems":
        return rng.choice(SYSTEMS)
    if field.kind == "quantity":
        return rng.choice([*(f"{x}{field.unit}" for x in ("2 ", "0.5 m", "0 ", "-1 ", "1e400 ")), "2", "x", "1 K"])
    return rng.choice({"count": COUNTS, "number": NUMBERS, "share": SHARES}.get(field.kind, WORDS))


def questions(schema: Schema[Any]) -> Iterator[dict[str, Any]]:
    """Good questions of a verb with none, one or two fields drawn again."""
    rng = random.Random(f"edges of {schema.name}")
    fields = [f for f in schema.fields if f.edges >= {Edge.OPTION} and f.edges & {Edge.KEYWORD, Edge.KEY}]
    for index in range(QUESTIONS):
        asked = dict(rng.choice(GOOD[schema.name]))
        for field in rng.sample(fields, 0 if index < 2 else rng.randint(1, 2)):
            if field.kind != "flag" or (not field.group and field.name not in schema.groups):
                asked[field.name] = values(field, rng)
        yield asked


def words(schema: Schema[Any], asked: Mapping[str, Any]) -> list[str]:
    """A question as it is typed."""
    out = [schema.name]
    flat = {**asked, "serve": True} if schema is jobs.FIT and "kv" in asked and "train" not in asked else dict(asked)
    for field in schema.at(Edge.OPTION):
        value = flat.get(field.name)
        if value is None or value is False:
            continue
        if field.kind == "flag":
            out.append(field.flag)
        elif field.is_argument:
            out.append(value)
        elif field.kind == "texts":
            out += [f"{field.flag}={text}" for text in value]
        else:
            out.append(f"{field.flag}={','.join(value) if isinstance(value, tuple) else value}")
    return [*out, "--json"]


def nested(schema: Schema[Any], asked: Mapping[str, Any], edge: Edge) -> dict[str, Any] | None:
    """A question as keywords or as JSON; None where this edge has no form for it."""
    out: dict[str, Any] = {}
    fields = {f.name: f for f in schema.at(edge)}
    for name, value in asked.items():
        if name in schema.groups or name == "serve":
            if value and name in schema.groups:
                out.setdefault(name, {})
        elif name == "set" and edge is Edge.KEYWORD:
            pairs = [text.split("=") for text in value]
            plan = {key.removeprefix("plan."): text for key, text in pairs if key.startswith("plan.")}
            terms = [text for key, text in pairs if key == "prices.term"]
            if len(plan) + len(terms) < len(pairs):
                return None  # a mapping names each field once
            more = ({"fixed": plan} if plan else {}) | ({"term": terms[0]} if terms else {})
            if not more.keys() <= fields.keys():
                return None
            out |= more
        elif name not in fields:
            return None
        elif fields[name].group:
            if not asked.get(fields[name].group):
                return None  # an option of a job that is not asked for
            out.setdefault(fields[name].group, {})[name] = value
        else:
            out[(fields[name].keyword if edge is Edge.KEYWORD else "") or name] = value
    return out


def typed(schema: Schema[Any], asked: Mapping[str, Any]) -> Any:
    """Inputs of the command line's answer, or None where it refuses."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as told:
        code = cli.run(words(schema, asked))
    assert code in (*ACCEPTED, 2), told.getvalue()
    return json.loads(out.getvalue()) if code in ACCEPTED else None


CALLS: Mapping[str, Callable[..., Any]] = {name: getattr(mowich, name) for name in GOOD}


def called(schema: Schema[Any], given: Mapping[str, Any]) -> Any:
    """Python's answer, or None where it refuses."""
    given = {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}
    first = [given.pop(f.spelled(Edge.KEYWORD)) for f in schema.fields if f.needs]
    try:
        found = CALLS[schema.name](*first, **given, facts=FACTS)
    except UserError:
        return None
    if isinstance(found, list):
        return {"rows": [row.to_dict() for row in found]}
    return {"fits": found} if schema is jobs.FIT else json.loads(json.dumps(found.to_dict()))


def sent(schema: Schema[Any], given: Mapping[str, Any]) -> Any:
    """The server's answer, or None where it refuses; the text of a refusal where it is one of work."""
    body: type[asks.Ask] = getattr(asks, f"{schema.name.title()}Body")
    try:
        ask = body.model_validate(given)
        if schema is jobs.COMPARE:
            reply = verbs.VERBS["together"](
                ask, [verbs.VERBS["row"](ask, i, KNOWN) for i in range(len(ask.given("on")) or 1)], KNOWN
            )
        else:
            reply = verbs.VERBS[schema.name](ask, KNOWN)
    except ValidationError:
        return None
    except UserError as error:
        return "work" if " here" in error.line() else None
    return json.loads(reply)["result"]


def same(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Whether two answers are to the same question, and made of the same facts: one may say more of how it came."""
    record = ("facts_read",) if "seed" in one.get("inputs", {}) else ("facts_read", "digest")  # not all keep a seed
    if all("digest" in x for x in (one, two)) and any(one[k] != two[k] for k in record):
        return False
    if "inputs" not in one or "inputs" not in two:
        keys = set(one) & set(two) - {"inputs"}
        return all(one[k] == two[k] for k in keys)
    a, b = one["inputs"], two["inputs"]
    shared = set(a) & set(b)
    return bool(shared) and all(a[k] == b[k] for k in shared - {"model_given", "set", "seed"})


SCHEMAS = (
    jobs.COMPARE,
    jobs.PLAN,
    jobs.FIT,
    collective.SCHEMA,
    goodput.SCHEMA,
    power.SCHEMA,
    prices.SCHEMA,
)


@pytest.mark.share(2)
@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: s.name)
def test_all_edges_accept_and_refuse_alike(schema: Schema[Any]) -> None:
    taken = refused = 0
    for asked in questions(schema):
        answer = typed(schema, asked)
        others = {}
        keywords = nested(schema, asked, Edge.KEYWORD)
        if keywords is not None:
            others["Python"] = called(schema, keywords)
        body = nested(schema, asked, Edge.KEY) if hasattr(asks, schema.name.title()) else None
        if body is not None:
            others["HTTP"] = sent(schema, body)
        for edge, other in others.items():
            if other != "work":
                assert (answer is None) == (other is None), f"{edge}: {asked}"
                assert answer is None or same(answer, other), f"{edge}: {asked}"
        taken, refused = taken + (answer is not None), refused + (answer is None)
    assert taken >= 5
    assert refused > 5


@pytest.mark.parametrize(
    "schema",
    [pytest.param(jobs.PLAN, marks=pytest.mark.slow), collective.SCHEMA, goodput.SCHEMA],
    ids=lambda s: s.name,
)
def test_python_and_http_judge_values_that_are_no_text_alike(schema: Schema[Any]) -> None:
    fields = [f for f in schema.at(Edge.KEY) if f.edges >= {Edge.KEYWORD} and f.kind not in ("flag", "object")]
    for field in fields:
        for value in TYPED:
            asked = dict(next(q for q in GOOD[schema.name] if not field.group or field.group in q))
            if field.kind in ("texts", "names") and isinstance(value, list | None):
                continue
            asked[field.name] = value
            keywords, body = (nested(schema, asked, edge) for edge in (Edge.KEYWORD, Edge.KEY))
            assert keywords is not None
            assert body is not None
            python, http = called(schema, keywords), sent(schema, body)
            if http != "work":
                assert (python is None) == (http is None), (field.name, value)
                assert python is None or same(python, http), (field.name, value)
