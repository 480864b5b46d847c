"""Functions of Python that are made from schemas: what they take, and the stub that editors read."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

import mowich
from mowich.api.keyword_verb import KeywordVerb, keyword_verb
from mowich.errors import UserError
from mowich.requests.jobs import COMPARE, FIT, CompareRequest, FitRequest

JOB = {"seq": 4096, "batch": "256seqs"}
STUB = Path(mowich.__file__).with_suffix(".pyi")
VERBS = [name for name in mowich.__all__ if isinstance(getattr(getattr(mowich, name), "verb", None), KeywordVerb)]


@keyword_verb(FIT, "model", "on")
def asked_fit(asked: FitRequest) -> FitRequest:
    """The request itself."""
    return asked


@keyword_verb(COMPARE, "model", "systems", listed=("systems", "have"))
def asked_compare(asked: CompareRequest) -> CompareRequest:
    """The request itself."""
    return asked


def test_arguments_become_the_request() -> None:
    asked = asked_fit("llama-3.1-8b", mowich.system("trn3", chips=64), train=JOB, fixed={"tp": 4})
    assert (asked.model.name, asked.systems, asked.fixed) == ("llama-3.1-8b", ("trn3-gen2:64",), {"tp": (4,)})
    assert asked_fit("llama-3.1-8b", on="trn3:64", train=JOB).train == asked.train
    own = mowich.load_facts()
    assert asked_fit("llama-3.1-8b", "trn3:64", train=JOB, facts=own).facts.hash() == own.hash()


def test_an_empty_list_of_what_is_there_is_not_given() -> None:
    job = {"tokens": "1T", **JOB}
    assert asked_compare("llama-3.1-8b", ["trn3:64"], have=[], train=job).systems == ("trn3:64",)
    with pytest.raises(UserError, match="compare takes a list of systems, got 'trn3'"):
        asked_compare("llama-3.1-8b", "trn3", train=job)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"on": "trn3", "chip": 3}, r"asked_fit\(\) got an unexpected keyword argument 'chip'"),
        ({}, r"asked_fit\(\) missing a required argument: 'on'"),
    ],
)
def test_arguments_that_python_refuses_are_a_type_error(given: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        asked_fit("llama-3.1-8b", **given)


def test_the_stub_has_the_arguments_that_help_shows() -> None:
    shown: dict[str, list[list[str]]] = {}
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            named = [a.arg for a in (*node.args.args, *node.args.kwonlyargs)]
            shown.setdefault(node.name, []).append(named)
    assert {"compare", "plan", "fit"} <= set(VERBS)
    assert sorted(shown) == sorted(VERBS)
    for name, each in shown.items():
        found = getattr(mowich, name)
        assert all(named == list(inspect.signature(found).parameters) for named in each), name
        assert len(each) == max(1, len(found.verb.gives))
