"""Which facts a term rests on: those that move it. They are found, and not listed next to a formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mowich.errors import UserError
from mowich.estimate import Notes
from mowich.facts.load import Facts, Watched
from mowich.facts.schema import Fact

_FAR = 0.07
"""Share by which a fact is moved to either side: far enough for another side of a roofline to bind."""


def nudges(fact: Fact) -> Sequence[float]:
    """The values that show whether anything rests on a fact: to either side, the ends of its range, and of a count one
    more and one less; none of a text."""
    v = fact.value
    if not isinstance(v, float):
        return ()
    counted = (v - 1.0, v + 1.0) if fact.unit == "" and v == round(v) else ()
    tried = (v * (1.0 - _FAR), v * (1.0 + _FAR), fact.low, fact.high, *counted)
    return tuple(dict.fromkeys(x for x in tried if x is not None and x != v))


def noted(evaluate: Callable[[Facts, Notes], object], facts: Facts) -> Notes:
    """The terms that an evaluation records, each with the facts that move it, the largest move first.

    Every number that the evaluation reads is moved by itself (`nudges`), and the evaluation is asked again: what it
    holds fixed (an operating point, a time) is given to it, and not computed from the facts that move.

    >>> from mowich.facts import load_facts
    >>> from mowich.economics.energy import chip_power
    >>> notes = noted(lambda facts, notes: chip_power(facts, "trn3-gen2", notes=notes), load_facts())
    >>> notes.terms["provisioned"].facts
    ('chips.trainium3.power.all_in',)
    """
    notes, watched = Notes(), Watched(facts)
    evaluate(watched, notes)
    for path, fact in facts.found(watched.asked).items():
        for value in nudges(fact):
            own = Notes()
            try:
                evaluate(facts.with_values({path: value}), own)
            except (UserError, ZeroDivisionError):  # what the fact cannot be
                continue
            notes.learn(path, own)
    return notes.with_facts()
