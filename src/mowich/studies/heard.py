"""What an answer did with facts: which it read, and of those that its question gave which it did not, and which moved
nothing.

A fact that nothing read is known from the ledger (`facts.load.Ledger`), at no cost. A fact that is read and moves
nothing is found by asking again without it, at the cost of the answer: so of at most `MOST_ASKED_AGAIN` facts, and of
answers that take no longer than a search of plans. What was made of facts that it does not touch is made once
(`Facts.once`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from mowich.errors import UserError
from mowich.facts import Fact, Facts
from mowich.launch.origin import know_answer
from mowich.shown import Result, Shown, with_heard, with_record
from mowich.studies.record import AnswerRecord

if TYPE_CHECKING:
    from mowich.requests.common import Asked
    from mowich.requests.jobs import JobRequest

P = ParamSpec("P")
Q = TypeVar("Q", bound="Asked | JobRequest")
R = TypeVar("R", bound=Shown)

MOST_ASKED_AGAIN = 4
"""An answer is asked again without each of so many given facts; with more of them nobody looks."""

NEAREST = 3
"""Facts that are named in the place of one that nothing reads."""


def heard(*, again: bool = False) -> Callable[[Callable[Concatenate[Q, P], R]], Callable[Concatenate[Q, P], R]]:
    """Decorates what answers a request: its result says what it is made of, and what it did with the facts that were
    given. again: whether the answer is quick enough to be asked again without one of them."""

    def of(answer: Callable[Concatenate[Q, P], R]) -> Callable[Concatenate[Q, P], R]:
        @wraps(answer)
        def told(asked: Q, /, *args: P.args, **named: P.kwargs) -> R:
            def under(facts: Facts) -> R:
                return answer(replace(asked, facts=facts), *args, **named)

            found = answer(asked, *args, **named)
            beside = [x for x in (*args, *named.values()) if not callable(x)]  # what is told of progress is not asked
            result = note_heard(found, asked.facts, under if again else None, question=[asked, beside])
            if callable(words := getattr(asked, "again", None)):  # of rl it is a mapping
                know_answer(result, words())
            return result

        return told

    return of


def note_heard(
    result: R,
    facts: Facts,
    under: Callable[[Facts], R] | None = None,
    *,
    question: object,
    axes: Sequence[str] | None = None,
) -> R:
    """A result with what it is made of, and what it did with the given facts. facts: those that it was made of, after
    all was read; under: the answer under other facts, None where it is not asked again; question: what decides the
    answer beside facts, for `record.question_data`, None where not all was read here; axes: the facts that a sweep
    varies, whose rows say by themselves what moves nothing."""
    ledger = facts.ledger
    if ledger is None:
        return result
    known, asked = facts.silent(), ledger.asked
    if question is not None:
        result = with_record(result, AnswerRecord(type(result).__name__, question, known, asked, ledger.limit))
    if not ledger.said:
        return result
    unread, there = ledger.unread(), list(known.found(sorted(asked)).values())
    read = [path for path in ledger.said if path not in unread]
    found: dict[str, object] = {
        "unread": list(unread),
        "read_instead": {path: near for path in unread if (near := _nearest(path, there, known))},
        "unmoved": None,
    }
    if axes is not None:
        found["unmoved"] = list(_level_axes([path for path in axes if path in read], result.to_dict(), known))
    elif under is not None and len(read) <= MOST_ASKED_AGAIN:
        found["unmoved"] = list(_unmoved(read, result.to_dict(), known, under))
    return with_heard(result, found)


# what is read in the place of a fact
# -----------------------------------------------------------------------------------------------------------------
def _nearest(path: str, read: Sequence[Fact], facts: Facts) -> list[str]:
    """The facts that an answer read and that are most like one that it did not: of the same unit, and of the same
    machine, or under the same name elsewhere; at most `NEAREST`, empty where none is."""
    own = facts.get(path)
    alike = [fact.path for fact in read if own is not None and fact.unit == own.unit and own.unit != "text"]
    scores = {at: _likeness(path, at, facts) for at in alike}
    most = max(scores.values(), default=0)
    best = [at for at in alike if most and scores[at] == most]
    return best if len(best) <= NEAREST else []


def _likeness(path: str, other: str, facts: Facts) -> int:
    """How much two paths have in common; 0: nothing that matters."""
    (kind, name, *own), (kind_2, name_2, *tail) = path.split("."), other.split(".")
    if kind == kind_2 and name != name_2:
        return 100 if own == tail else 0
    machines = ("chips", "systems")
    if kind not in machines or kind_2 not in machines or _chip(facts, kind, name) != _chip(facts, kind_2, name_2):
        return 0
    words, words_2 = (set(re.split(r"[._]", ".".join(part))) for part in (own, tail))
    return len(words & words_2) + 2 * (own[0] == tail[0])


def _chip(facts: Facts, kind: str, name: str) -> str:
    return name if kind == "chips" else str(facts.meta(kind, name).get("chip"))


# what is read and moves nothing
# -----------------------------------------------------------------------------------------------------------------
_NO_NUMBERS = frozenset(
    ("low", "high", "grade", "coverage", "spread", "inputs", "facts_hash", "warnings", "memory_capacity_B")
)
"""Keys of an answer that say what it rests on, and how surely."""


def _numbers(data: object) -> object:
    """What an answer says, without what it rests on."""
    if isinstance(data, Mapping):
        return {key: _numbers(value) for key, value in data.items() if key not in _NO_NUMBERS}
    return [_numbers(value) for value in data] if isinstance(data, list | tuple) else data


def _rows_of(result: Result) -> Sequence[Result]:
    """The rows of an answer; the answer itself where it is one row."""
    rows = result.get("rows", result.get("plans"))
    return rows if isinstance(rows, Sequence) and rows else [result]


def _unmoved(
    read: Sequence[str], result: Result, facts: Facts, under: Callable[[Facts], Shown]
) -> Iterator[dict[str, str]]:
    """The given facts without which the rows of an answer are the same, with what hides each."""
    now = _numbers(_rows_of(result))
    for path in read:
        without = facts.without(path)
        if without is None:
            continue
        try:
            before = _numbers(_rows_of(under(without).to_dict()))
        except UserError:  # without it there is no answer
            continue
        if before == now:
            yield {"path": path, "because": because(path, result, facts, without)}


_OF_POINT = (
    *("model", "system", "chips_requested", "seq", "batch_seqs", "tokens", "train_task", "lora_rank", "document"),
    *("fill", "sites", "site_Bps", "outer_every", "isl", "osl", "ttft_limit_s", "tpot_limit_s", "cached", "accept"),
)
"""What makes a point of a sweep another question, beside what it sets."""


def _level_axes(axes: Sequence[str], result: Result, facts: Facts) -> Iterator[dict[str, str]]:
    """The facts that a sweep varies while its rows stay the same, with what hides each."""
    for path in axes:
        found: dict[str, set[str]] = {}
        for row in result["rows"]:
            point = {key: value for key, value in row["set"].items() if key != path}
            same = [point, *(row.get(key) for key in _OF_POINT)]
            found.setdefault(repr(same), set()).add(repr(_numbers({**row, "set": point})))
        if all(len(answers) == 1 for answers in found.values()):
            yield {"path": path, "because": because(path, result, facts)}


def because(path: str, result: Result, facts: Facts, without: Facts | None = None) -> str:
    """What hides a fact that is read and moves nothing. without: the facts without it, where it was set."""
    fact, before = facts.get(path), None if without is None else without.get(path)
    if fact is not None and before is not None and fact.value == before.value:
        return f"it is {before.shown} without it, too"
    rows = [row for row in _rows_of(result) if "system_id" in row]
    if rows and (level := _unused_level(path, rows, facts)):
        return f"no exchange crosses the level {level} here"
    _, _, precision = path.partition(".peak_dense.")
    plans = [row["plan"] for row in rows if row.get("plan")]
    if precision and plans and all("precision" in plan and plan["precision"] != precision for plan in plans):
        return f"no plan here multiplies in {precision}"
    found = list(dict.fromkeys(str(row["binds"]) for row in _rows_of(result) if row.get("binds")))
    is_speed = path.startswith(_MACHINES) and fact is not None and fact.unit in ("B", "B/s", "FLOP/s", "s")
    return f"{' and '.join(found)} binds" if found and is_speed else "no row here rests on it"


_MACHINES = ("chips.", "systems.", "networks.")
"""Kinds of facts whose sizes and speeds another part of a machine can hide."""


def _unused_level(path: str, rows: Sequence[Result], facts: Facts) -> str:
    """The level of the fabric that a fact is of, where the chips of every row are within the level inside it."""
    from mowich.machines.system import resolve

    crossed = ""
    for row in rows:
        system = resolve(facts, str(row["system_id"]))
        at = f"systems.{system.id}.levels"
        for i, level in enumerate(system.levels):
            own = (facts.get(f"{at}.{level.name}.{name}") for name in ("bandwidth", "latency", "efficiency"))
            if path not in [fact.path for fact in own if fact is not None]:
                continue
            inner = system.levels[i - 1].devices if i else 1
            if int(row.get("chips_used") or row["chips_requested"]) * system.devices_per_chip > inner:
                return ""
            crossed = level.name
    return crossed
