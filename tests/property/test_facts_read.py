"""An answer says which facts it read: every fact that moves it, the same whatever was asked before it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import pytest

import mowich
from mowich.errors import UserError
from mowich.facts import Fact, Facts, Watched
from mowich.facts.load import FACT_KINDS, shipped_folder

TRAIN: mowich.Train = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
SERVE: mowich.Serve = {"isl": "1k", "osl": 200}
MODEL = "llama-3.1-8b"
SWEEP = f"{{mowich: 1, models: {MODEL}, on: [trn3, h100], chips: [64], seq: 4096, batch: 256seqs, tokens: 1T}}"
RUN = (
    "{mowich: 1, model: llama-3.2-1b, prompts: 4, samples: 4, lengths: {mean: 200, cap: 400}, on: 'h100:2',"
    " rollouts: {plan: {tp: 1}}, trainer: {plan: {tp: 1}}, environment: {kind: math}}"
)

Ask = Callable[[Facts], mowich.Shown]
QUESTIONS: Mapping[str, Ask] = {
    "compare": lambda facts: mowich.compare(MODEL, ["trn3:64", "h100:64"], train=TRAIN, facts=facts),
    "compare serving": lambda facts: mowich.compare(MODEL, ["trn3:1", "h100:1"], serve=SERVE, facts=facts),
    "plan": lambda facts: mowich.plan("mixtral-8x7b", "trn2:64", train=TRAIN, top=2, facts=facts),
    "plan serving": lambda facts: mowich.plan(MODEL, "trn3:4", serve=SERVE, top=1, facts=facts),
    "collective": lambda facts: mowich.collective("all-reduce", "trn3*2", sizes=["1MiB"], facts=facts),
    "an instance": lambda facts: mowich.collective("all-to-all", "p5.48xlarge", sizes=["1GiB"], facts=facts),
    "goodput": lambda facts: mowich.goodput("trn3:64", samples=20, facts=facts),
    "prices": lambda facts: mowich.prices(["trn3", "h100"], facts=facts),
    "power": lambda facts: mowich.power(["trn3", "gb300"], facts=facts),
    "gap": lambda facts: mowich.gap("h100:8", "trn3:8", model=MODEL, train=TRAIN, facts=facts),
    "value": lambda facts: mowich.value("trn3:8", of="memory", models=MODEL, train=TRAIN, points=2, facts=facts),
    "fleet": lambda facts: mowich.fleet("startup", draws=0, facts=facts),
    "traffic": lambda facts: mowich.traffic("chat-llama-70b", draws=0, facts=facts),
    "rl": lambda facts: mowich.rl(RUN, facts=facts),
    "claims": lambda facts: mowich.claims("4x", facts=facts),
    "sweep": lambda facts: mowich.sweep(SWEEP, facts=facts),
}
RECORD = ("facts_read", "digest")


def cold() -> Facts:
    """The shipped facts as a new process has them: nothing was made of them."""
    return Facts((shipped_folder(),), {}, {}, {})


@cache
def numeric() -> Mapping[str, Fact]:
    """Every number of the shipped facts, by its path; what refers to one is left out."""
    facts = cold()
    paths = [p for kind in FACT_KINDS for name in facts.ids(kind) for p in facts.paths(f"{kind}.{name}")]
    found = {p: facts.get(p) for p in paths if "ref" not in facts.leaf(p)}
    return {p: fact for p, fact in found.items() if fact is not None and isinstance(fact.value, float) and fact.value}


@cache
def elsewhere() -> Mapping[str, float]:
    """Every number, 7% larger, or smaller where its field ends there, a whole number one larger; what can be neither is
    left out."""
    out, facts = {}, cold()
    for path, fact in numeric().items():
        assert isinstance(fact.value, float)
        for value in (1.07 * fact.value, 0.93 * fact.value, fact.value + 1.0):
            try:
                facts.with_values({path: value})
            except UserError:
                continue
            out[path] = value
            break
    return out


def moved(paths: Iterable[str]) -> Facts:
    """Cold facts with each of these elsewhere."""
    return cold().with_values({path: elsewhere()[path] for path in paths if path in elsewhere()})


def numbers(data: object) -> object:
    """An answer without what it says of its facts, and without words, which name their hash."""
    gone = (*RECORD, "facts_hash", "warnings", "unread", "read_instead", "unmoved")
    if isinstance(data, Mapping):
        return {key: numbers(value) for key, value in data.items() if key not in gone}
    return [numbers(value) for value in data] if isinstance(data, list | tuple) else data


def record(answer: mowich.Shown) -> dict[str, object]:
    found = answer.to_dict()
    return {key: found[key] for key in RECORD}


SLOW = ("claims", "gap", "compare serving", "plan", "value", "sweep", "traffic")
QUICK = tuple(name for name in QUESTIONS if name not in SLOW)


@pytest.mark.share(2)
@pytest.mark.parametrize("name", [pytest.param(x, marks=pytest.mark.slow) if x in SLOW else x for x in QUESTIONS])
def test_a_fact_that_was_not_read_moves_nothing(name: str) -> None:
    """All of them are moved at once, and then those that were read."""
    now = QUESTIONS[name](cold())
    read = set(now.facts_read)
    unread = [path for path in elsewhere() if path not in read]
    assert len(unread) > 100
    after = QUESTIONS[name](moved(unread))
    assert numbers(after.to_dict()) == numbers(now.to_dict())
    assert (after.digest, after.heard()["unread"]) == (now.digest, unread)
    share = {path for path in read & numeric().keys() if not path.endswith(".hbm_usable")}  # goes with the capacity
    assert numbers(QUESTIONS[name](moved(share)).to_dict()) != numbers(now.to_dict())


@pytest.mark.parametrize("among", [QUICK, pytest.param(tuple(QUESTIONS), marks=pytest.mark.slow)])
def test_what_was_asked_before_changes_no_record(among: tuple[str, ...]) -> None:
    """Questions in a drawn order, of the same facts and of others in between: as each of a cold process."""
    rng = random.Random(len(among))
    names = rng.sample(among, 6)
    facts, others = cold(), ("chips.trainium3.memory.hbm_bandwidth", "systems.h100.levels.domain.bandwidth")
    alone = {name: record(QUESTIONS[name](cold())) for name in names}
    for name in rng.sample([*names, *names], 2 * len(names)):
        if rng.random() < 0.5:
            QUESTIONS[rng.choice(names)](facts.with_values({rng.choice(others): 1e12}))
        assert record(QUESTIONS[name](facts)) == alone[name], name


def test_who_watches_facts_sees_what_answers_read_of_them() -> None:
    """And no answer says that it read what another did."""
    watched, alone = Watched(cold()), {name: QUESTIONS[name](cold()).facts_read for name in ("power", "collective")}
    assert {name: QUESTIONS[name](watched).facts_read for name in alone} == alone
    assert watched.read.keys() == set().union(*alone.values())


def test_the_digest_is_of_the_question_of_its_facts_and_of_nothing_else() -> None:
    ask, rng = QUESTIONS["goodput"], random.Random(0)
    facts = cold()
    now = ask(facts)
    unread = [path for path in elsewhere() if path not in now.facts_read]
    for path in rng.sample([path for path in now.facts_read if path in elsewhere()], 12):
        assert ask(moved([path])).digest != now.digest, path
    assert ask(moved(unread)).digest == now.digest
    assert mowich.goodput("trn3:64", samples=21, facts=facts).digest != now.digest
    assert len(now.digest) == 16
