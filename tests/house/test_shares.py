"""Cases that a run leaves out are all in the slow suite."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shares import put_aside


class Case:
    """What `put_aside` asks of a case."""

    def __init__(self, name: str, marks: dict[str, pytest.Mark]) -> None:
        self.name, self.nodeid, self.marks = name, f"test_x.py::{name}", marks

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return self.marks.get(name)

    def add_marker(self, name: str) -> None:
        self.marks[name] = getattr(pytest.mark, name).mark


def quick(cases: list[Case]) -> set[str]:
    put_aside(cases)  # type: ignore[arg-type]
    return {case.name for case in cases if "slow" not in case.marks}


@given(words=st.sets(st.text(max_size=5), max_size=20), every=st.integers(1, 8), seed=st.integers(0, 99))
def test_one_case_in_so_many_is_of_every_run_whatever_their_order(words: set[str], every: int, seed: int) -> None:
    def cases(marks: dict[str, pytest.Mark]) -> list[Case]:
        return [Case(f"test_x[{word}]", dict(marks)) for word in sorted(words)]

    shared = cases({"share": pytest.mark.share(every).mark})
    turned = random.Random(seed).sample(shared, len(shared))
    kept = quick(turned)
    assert len(kept) == -(-len(words) // every)
    assert quick(cases({"share": pytest.mark.share(every).mark})) == kept
    assert quick(cases({})) == {case.name for case in shared}
    assert not quick(cases({"share": pytest.mark.share(every).mark, "slow": pytest.mark.slow.mark}))


def test_a_case_that_is_asked_for_alone_is_run() -> None:
    assert quick([Case("test_x[a]", {"share": pytest.mark.share(8).mark})]) == {"test_x[a]"}
