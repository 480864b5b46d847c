"""One grammar of numbers: what one edge takes for a number, every edge does, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.requests.loads import read_rate
from mowich.serving.arrivals import lengths
from mowich.units import StepBatch, is_digits, parse, parse_count

FACTS = load_facts()
EDGES: dict[str, Callable[[str], object]] = {
    "a count": parse_count,
    "a quantity": lambda text: parse(f"{text} s"),
    "money": lambda text: parse(f"${text}"),
    "a batch": lambda text: StepBatch.read(f"{text}seqs").of(4096),
    "tokens": lambda text: lengths(text, "prompt"),
    "a rate": read_rate,
    "chips of a system": lambda text: resolve(FACTS, f"h100:{text}"),
}
"""Where a user writes a number."""

WRONG = [
    *("1_", "_1", "1__0", "1_.5", "1.5.5", "1,000", "1e", "1e1_0", "0x10", "", " ", "--1", "one"),
    *("\uff18", "\u00b2", "1\u0660", "\u2167"),  # digits of other scripts
]
RIGHT = {"8": 8, "1_000": 1000, "12_5": 125, "8.": 8, "16e0": 16, "1e3": 1000}


def is_taken(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("edge", EDGES)
def test_every_edge_takes_the_same_numbers(edge: str) -> None:
    read = EDGES[edge]
    assert [text for text in WRONG if is_taken(read, text)] == []
    assert [text for text in RIGHT if not is_taken(read, text)] == []


def test_a_number_is_the_one_that_is_written() -> None:
    assert [parse_count(text) for text in RIGHT] == list(RIGHT.values())


@given(st.text(st.sampled_from("0123456789_.e+-k \u0665\u00b2"), min_size=1, max_size=8))
def test_what_is_taken_is_what_python_reads_of_plain_digits(text: str) -> None:
    word = text.strip()
    try:
        number = parse_count(word, minimum=-1e300, whole=False)
    except UserError:
        return
    plain = word.removesuffix("k").rstrip()
    assert plain.isascii()
    assert number == float(plain.replace("_", "")) * (1000.0 if word.endswith("k") else 1.0)
    float(plain)  # Python's own grammar takes it too, underscores and all


@given(st.text(max_size=4))
def test_digits_are_those_that_int_reads(text: str) -> None:
    assert is_digits(text) == (bool(text) and set(text) <= set("0123456789"))
