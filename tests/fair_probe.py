"""The fair probe: what a term says it rests on, against what moves it when every fact that its making reads is moved by
itself, by other steps than those by which the facts were found."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator

from mowich.errors import UserError
from mowich.estimate import LEAST_MOVE, Notes
from mowich.facts import Fact, Facts, Watched
from mowich.facts.moves import nudges

Record = Callable[[Facts, Notes], object]
"""Records the terms of an evaluation under some facts."""


def steps_of(fact: Fact, rng: random.Random) -> Iterator[float]:
    """The values that a fact is moved to: those by which facts are found, and others between them."""
    v = fact.value
    if isinstance(v, float):
        yield from nudges(fact)
        yield from (v * 0.995, v * rng.uniform(0.93, 1.07))


def probe(record: Record, facts: Facts) -> dict[str, set[str]]:
    """Term -> the facts that move it, each by itself."""
    rng, watched, base = random.Random(0), Watched(facts), Notes()
    record(watched, base)
    found: dict[str, set[str]] = defaultdict(set)
    for path, fact in facts.found(watched.asked).items():
        for value in steps_of(fact, rng):
            own = Notes()
            try:
                record(facts.with_values({path: value}), own)
            except (UserError, ZeroDivisionError):
                continue
            for name in base.terms.keys() & own.terms.keys():
                now = base.terms[name].value
                if abs(own.terms[name].value - now) > LEAST_MOVE * abs(now):
                    found[name].add(path)
    return found


def unfair(told: Notes, record: Record, facts: Facts) -> list[str]:
    """What the terms that were told say wrongly of their facts: a line for each fact that is missing, and for each that
    moves nothing."""
    moved = probe(record, facts)
    return [
        f"{name}: {word} {path}"
        for name, term in told.terms.items()
        for word, paths in (("lacks", moved[name] - set(term.facts)), ("need not say", set(term.facts) - moved[name]))
        for path in sorted(paths)
    ]
