"""A formula that `explain` shows gives the number beside it, with the numbers that it shows.

Each answer is explained number by number. Every recorded term with a formula, and every number whose rule is one, must
come out within 1e-9, so that a formula line that is edited without its function, or the other way round, is found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import mowich
from mowich import cli
from mowich.estimate import Notes, Term
from mowich.facts import load_facts
from mowich.formula import printed
from mowich.models import load_model
from mowich.plans.plan import Plan, TrainJob
from mowich.software.stack import equip
from mowich.studies.explain import Explainer, tree
from mowich.studies.explain.formula import evaluate, names_in
from mowich.training.step import predict_step

FACTS = load_facts()
ROOT = Path(__file__).resolve().parents[2]
TRAIN = {"tokens": "1T", "seq": 4096, "batch": "512seqs"}
SERVE = {"isl": 2000, "osl": 500, "ttft": 2.0, "tpot": 0.05}
EXACT = 1e-9

ANSWERS: Mapping[str, Callable[[], Any]] = {
    "dense": lambda: mowich.compare("llama-3.1-8b", ["trn3:64", "h100:64"], train=TRAIN),
    "experts": lambda: mowich.compare("deepseek-v3", ["gb300"], train=TRAIN | {"batch": "4096seqs"}, chips=2048),
    "scan": lambda: mowich.compare("qwen3.5-27b", ["h100:64"], train=TRAIN),
    "sinks": lambda: mowich.compare("gpt-oss-120b", ["b200:64"], train=TRAIN),
    "serving": lambda: mowich.compare("llama-3.1-8b", ["h100:8", "trn2:4"], serve=SERVE),
    "serving experts": lambda: mowich.compare("deepseek-v3", ["gb300:72"], serve=SERVE),
    "goodput": lambda: mowich.goodput("trn3:16384", days=10, samples=20),
    "collective": lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=["1MiB", "1GiB"]),
}
"""Answers of all kinds, small ones."""


@cache
def answer(name: str) -> dict[str, Any]:
    return dict(json.loads(json.dumps(ANSWERS[name]().to_dict(), default=str)))


def numbers_of(term: Term) -> dict[str, float]:
    return {k: float(v) for k, v in term.inputs.items() if not isinstance(v, str)}


def check(term: Term) -> None:
    """The shown formula, read back from how it is shown, with the shown names."""
    if term.formula:
        shown = printed(term.formula).replace("^", "**").replace(" x ", " * ")
        given = numbers_of(term)
        assert set(names_in(shown)) <= set(given), term.name
        assert set(term.units) <= set(term.inputs), (term.name, "a unit of no symbol")
        by_hand = evaluate(shown, given.__getitem__)
        assert by_hand == pytest.approx(term.value, rel=EXACT, abs=1e-18), (term.name, term.formula)
    else:
        assert not any(c in term.words for c in "=^"), (term.name, "a formula in words")


def told(result: Mapping[str, Any]) -> Iterator[tuple[tree.ResultPath, Any]]:
    explainer = Explainer(result, FACTS)
    for path in tree.numbers(result):
        yield path, explainer.at(path, sensitivity=False)


@pytest.mark.share(8)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in ("experts", "scan") else n for n in ANSWERS]
)
def test_every_shown_formula_gives_its_number(name: str) -> None:
    result, explainer = answer(name), Explainer(answer(name), FACTS)
    formulas = 0
    for path, found in told(result):
        for term in found.terms:
            check(term)
            formulas += bool(term.formula)
        if found.formula and found.estimate.value is not None:
            formulas += 1
            assert explainer.evaluate(path) == pytest.approx(found.estimate.value, rel=EXACT), (path, found.formula)
        assert bool(found.formula) != bool(found.words), path
    assert formulas >= 5


@pytest.mark.parametrize(
    "args",
    [
        ("fleet", "{startup}.yaml", "--rates", "{startup}.rates.json"),
        ("power", "--on", "trn3,gb300", "--cap", "100MW", "--tokens-per-s", "1000"),
        ("model", "deepseek-v3"),
    ],
    ids=lambda args: args[0],
)
def test_the_formulas_of_rules_give_their_numbers(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    given = [a.format(startup=ROOT / "scenarios" / "startup") for a in args]
    assert cli.run([*given, "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    explainer = Explainer(result, FACTS)
    seen = 0
    for path in tree.numbers(result):
        rule = explainer.rule(path)
        if rule is not None and rule.formula:
            node = tree.at(result, path)
            value = node["value"] if tree.is_estimate(node) else node
            assert explainer.evaluate(path) == pytest.approx(value, rel=EXACT), (path, rule.formula)
            seen += 1
    assert seen


PLANS = (
    ("llama-3.1-70b", "h100:64", Plan(tp=8, dp=4, cp=2, sp=True)),
    ("llama-3.1-70b", "h100:64", Plan(tp=4, pp=4, dp=4, sp=True, tp_overlap=True)),
    ("llama-3.1-8b", "h100:64", Plan(tp=1, dp=64, zero=3)),
    ("llama-3.1-8b", "h100:64", Plan(tp=1, dp=64, zero=2)),
    ("bert-large", "trn1:8", Plan(tp=2, dp=8)),
    *(
        ("llama-3.1-70b", "h100:64", Plan(tp=8, pp=4, dp=2, schedule=name, vpp=2 if name == "interleaved" else 1))
        for name in ("gpipe", "interleaved", "zb-h1", "zb-v", "dualpipe", "dualpipe-v")
    ),
)


@pytest.mark.parametrize(("model", "on", "plan"), PLANS, ids=lambda x: getattr(x, "schedule", str(x)))
def test_formulas_of_other_plans_give_their_numbers(model: str, on: str, plan: Plan) -> None:
    """Every schedule, every state of ZeRO, contexts cut, transfers beside products, unfused attention."""
    notes = Notes()
    predict_step(load_model(model), equip(FACTS, on), TrainJob(tokens=1e12, seq=4096, batch_seqs=512.0), plan, notes)
    for term in notes.terms.values():
        check(term)
    assert sum(bool(t.formula) for t in notes.terms.values()) > 20
