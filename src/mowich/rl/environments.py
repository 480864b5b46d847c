"""Environments as facts: what a tool call and a reward take, where a run states neither."""

from __future__ import annotations

from mowich.errors import unknown
from mowich.facts import Facts
from mowich.facts.schema import Fact

_ROOT = "rl.environments"


def environment_times(facts: Facts, kind: str) -> tuple[Fact | None, Fact]:
    """(a call, None where no tool is called; a reward) of a kind of environment, in seconds, each with its range.
    Raises UserError for a kind that is not known.

    >>> from mowich.facts import load_facts
    >>> call, reward = environment_times(load_facts(), "swe")
    >>> (call.value if call else None), reward.value
    (0.4, 25.0)
    """
    kinds = facts.children(_ROOT)
    if kind not in kinds:
        raise unknown("kind of environment", kind, kinds)
    return facts.get(f"{_ROOT}.{kind}.call"), facts.fact(f"{_ROOT}.{kind}.reward")
