"""Every fact that is set is heard: it moves a row, or the answer says that it did not read it, or what hides it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from zlib import crc32

import pytest

import mowich
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.facts.find import facts_below, locate
from mowich.machines.system import core_groups, machines, resolve

FACTS = mowich.load_facts()
SYSTEMS = machines(FACTS)
TRAIN: mowich.Train = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
SERVE: mowich.Serve = {"isl": "1k", "osl": 200}
MODEL = "llama-3.1-8b"


def units_of(system: str) -> str:
    """Two units or servers of a system, so that every link between chips is crossed, or as much as there is."""
    one = resolve(FACTS, system)
    within = max((level.devices for level in one.levels if not level.is_network), default=one.devices_per_chip)
    return f"{system}:{min(2 * within // one.devices_per_chip, one.max_chips)}"


QUESTIONS: Mapping[str, Callable[[str, Facts], mowich.Shown]] = {
    "training": lambda on, facts: mowich.plan(MODEL, units_of(on), train=TRAIN, top=1, facts=facts),
    "serving": lambda on, facts: mowich.plan(MODEL, on, serve=SERVE, top=1, facts=facts),
    "cluster": lambda on, facts: mowich.collective("all-reduce", units_of(on), sizes=["1MiB", "1GiB"], facts=facts),
    "exchange": lambda on, facts: mowich.collective("all-to-all", units_of(on), sizes=["1MiB", "1GiB"], facts=facts),
    "price": lambda on, facts: mowich.prices([on], facts=facts),
}


def stripped(data: object) -> object:
    """The numbers of a row without its ranges, and without what it repeats of the question."""
    gone = ("low", "high", "grade", "coverage", "spread", "memory_capacity_B")
    if isinstance(data, Mapping):
        return {key: stripped(value) for key, value in data.items() if key not in gone}
    return [stripped(value) for value in data] if isinstance(data, list | tuple) else data


def asked(question: str, on: str, facts: Facts) -> tuple[str, Mapping[str, object]] | None:
    """(the rows of an answer, all of it); None where there is none."""
    try:
        found = QUESTIONS[question](on, facts).to_dict()
    except UserError:
        return None
    return repr(stripped(found.get("rows", found.get("plans")))), found


@cache
def as_shipped(question: str, on: str) -> tuple[str, Mapping[str, object]] | None:
    return asked(question, on, FACTS)


def numeric(on: str) -> list[str]:
    """The numeric facts that `mowich facts show` prints of a system."""
    found = [fact for path in locate(FACTS, on) for fact in facts_below(FACTS, path)]
    return list(dict.fromkeys(fact.path for fact in found if isinstance(fact.value, float)))


def moved(path: str, factors: Sequence[float] = (2.0, 0.5)) -> Facts | None:
    """The facts with one of them times the first factor that its field holds; None where it holds none."""
    for factor in factors:
        try:
            return FACTS.with_values({path: factor * FACTS.number(path)})
        except UserError:
            continue
    return None


def check(path: str, on: str, questions: Sequence[str], factors: Sequence[float] = (2.0, 0.5)) -> set[str]:
    """The questions whose rows a fact moves; of every other the answer says why not."""
    facts, found = moved(path, factors), set[str]()
    for question in questions if facts is not None else ():
        assert facts is not None
        before, after = as_shipped(question, on), asked(question, on, facts)
        if before is None or after is None:
            found |= {question} if before != after else set()
            continue
        unread, unmoved = after[1]["unread"], after[1]["unmoved"]
        assert isinstance(unread, list)
        assert isinstance(unmoved, list)
        told = path in [*unread, *(one["path"] for one in unmoved)]
        assert told == (after[0] == before[0]), (question, on, path, unread, unmoved)
        found |= set() if told else {question}
    return found


def drawn(on: str, count: int) -> list[str]:
    return random.Random(crc32(on.encode())).sample(numeric(on), count)


DRAWN = random.Random(37).sample(SYSTEMS, 5)


@pytest.mark.share(3)
@pytest.mark.parametrize("on", DRAWN)
def test_a_fact_moves_a_row_or_is_told(on: str) -> None:
    for path in drawn(on, 2):
        check(path, on, tuple(QUESTIONS))


@pytest.mark.slow
@pytest.mark.parametrize("on", SYSTEMS)
def test_every_fact_moves_a_row_or_is_told(on: str) -> None:
    for path in numeric(on):
        check(path, on, tuple(QUESTIONS))


def main_facts(on: str) -> list[str]:
    """Capacity, bandwidth, the peak of 16 bit and every link of a system."""
    system = resolve(FACTS, on)
    chip = f"chips.{system.chip}"
    levels = [f"systems.{system.id}.levels.{level.name}.bandwidth" for level in system.levels if level.name != "joined"]
    within = core_groups(FACTS, system.chip) is None and system.devices_per_chip == 1
    links = [path for path in levels if FACTS.get(path) and not (within and ".chip." in path)]
    links = links[:-1] if system.max_chips == system.chips_per_unit else links  # its network joins nothing
    paths = [f"{chip}.memory.hbm_capacity", f"{chip}.memory.hbm_bandwidth", f"{chip}.peak_dense.bf16", *links]
    return list(dict.fromkeys(FACTS.fact(path).path for path in paths))


@pytest.mark.slow
@pytest.mark.parametrize("on", SYSTEMS)
def test_memory_peaks_and_links_move_a_row(on: str) -> None:
    for path in main_facts(on):
        found = check(path, on, tuple(QUESTIONS)) or check(path, on, tuple(QUESTIONS), (0.5,))
        assert found, (on, path)
