"""No input crashes it: kept cases, and some that are drawn; `make fuzz` draws many more
(docs/project/reliability.md)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator

import hostile_guided
import pytest
from hostile_cases import (
    BODIES,
    CALLS,
    FLEET,
    KINDS,
    QUESTIONS,
    RL,
    SWEEP,
    TRAFFIC,
    drawn,
    launches,
    printed,
    rates,
)
from hostile_judge import ANSWERED, Case, problems, told
from hostile_seeds import KEPT

import mowich
from server_here import asked_here

DRAWN = 104
"""Cases drawn: 8 of each kind; the slow tests draw three times as many others."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cases", KEPT, ids=lambda cases: cases.__name__)
def test_what_once_went_wrong_is_refused_or_right(cases: Callable[[], Iterator[Case]]) -> None:
    made = list(cases())
    assert made
    wrong = [told(case, found) for case in made if (found := problems(case))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("first", "last"), [(0, DRAWN), pytest.param(DRAWN, 4 * DRAWN, marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", range(len(KINDS)))
def test_spoiled_input_ends_in_an_answer_or_a_line(place: int, first: int, last: int) -> None:
    wrong = []
    for seed in range(first + place, last, len(KINDS)):
        case = drawn(seed)
        found = problems(case)
        if found:
            wrong.append(f"seed {seed}: {told(case, found)}")
    assert not wrong, "\n".join(wrong)


def test_what_is_spoiled_is_right_as_it_stands() -> None:
    """A question that is refused as it stands would hide what its spoiled forms do."""
    for path, body in BODIES:
        asked_here(path, json.dumps(body).encode())
    for name, given in CALLS:
        getattr(mowich, name)(**given)
    for words in QUESTIONS:
        assert printed(words), words
    for name, (words, text) in launches().items():
        assert not problems(Case(name, words, {"launch": text}, ANSWERED))
    for verb, text in (("sweep", SWEEP), ("traffic", TRAFFIC), ("rl", RL), ("fleet", FLEET)):
        files = {"s.yaml": text, "r.json": rates()}
        assert not problems(Case(verb, (verb, "s.yaml", "--json"), files, frozenset({0})))


@pytest.mark.filterwarnings("ignore")
def test_a_batch_of_any_size_takes_no_longer_than_a_small_one() -> None:
    train = {"seq": 1024, "batch": 10**30}
    assert not problems(Case("batch", call=lambda: mowich.fit("gpt2", "h100:2", train=train), codes=ANSWERED))


def test_the_judge_finds_what_is_wrong() -> None:
    """A judge that never finds anything would let everything pass."""

    def crash() -> object:
        raise KeyError("x")

    class Answer:
        def __init__(self, **data: object) -> None:
            self.data = data

        def to_dict(self) -> dict[str, object]:
            return self.data

    assert "KeyError" in problems(Case("crash", call=crash))[0]
    assert "no-such" in problems(Case("code", ("no-such",), codes=frozenset({0})))[0]
    for data, said in (
        ({"step_s": -1.0}, "is below 0"),
        ({"mfu": 1.5}, "a share of 1.5"),
        ({"x": float("nan")}, "not JSON"),
        ({"step_s": {"low": 1.0, "value": 5.0, "high": 2.0}}, "is not from 1.0 to 2.0"),
    ):
        assert said in problems(Case("numbers", call=lambda data=data: Answer(**data)))[0]  # type: ignore[misc]
    assert problems(Case("fine", ("model", "gpt2", "--json"))) == []


@pytest.mark.filterwarnings("ignore")
def test_files_that_take_readers_along_many_ways_end_so_too() -> None:
    """Those that `hostile_run.py --guided --keep` found."""
    cases = list(hostile_guided.kept())
    assert len(cases) > 30
    wrong = [told(case, found) for case in cases if (found := problems(case))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.filterwarnings("ignore")
def test_a_search_is_led_by_ways_that_are_new() -> None:
    search = hostile_guided.Search(rng=random.Random("few"))
    empty = Case("config", ("model", "m.json", "--json"), {"m.json": "[]"})
    first, wrong = hostile_guided.ways(empty)
    again, _ = hostile_guided.ways(empty)
    other, _ = hostile_guided.ways(Case("config", ("model", "m.json", "--json"), {"m.json": '{"model_type": "llama"}'}))
    assert wrong == []
    assert not again - first
    assert len(again) > 10
    assert len(other - first) > 100
    for number in range(3):
        search.step(number * len(hostile_guided.KINDS))
    assert search.known == frozenset().union(*(taken for _, _, taken in search.kept))
    assert {kind for kind, _, _ in search.kept} == {"config"}
    assert 1 <= len(search.fewest()) <= len(search.kept)
