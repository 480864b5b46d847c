"""A difference shared out among its causes: the shares add up, whatever the causes do to each other."""

from __future__ import annotations

import random

import pytest

from mowich.errors import UserError
from mowich.studies.attribution import over_all_orders, over_some_orders

CAUSES = ("a", "b", "c", "d")


def tangled(seed: int) -> dict[frozenset[str], float]:
    """A worth for each set of causes, drawn."""
    draw = random.Random(seed)
    return {frozenset(c for i, c in enumerate(CAUSES) if n >> i & 1): draw.uniform(-1.0, 2.0) for n in range(16)}


def test_a_cause_that_adds_the_same_everywhere_gets_that() -> None:
    worths = {"a": 0.5, "b": -0.25, "c": 0.0}
    found = over_all_orders(tuple(worths), lambda taken: sum(worths[c] for c in taken))
    assert {c: s.value for c, s in found.shares.items()} == pytest.approx(worths)
    assert all(s.low == pytest.approx(s.high) for s in found.shares.values())
    assert (found.orders, found.sets, found.is_exact) == (6, 8, True)


def test_two_causes_that_need_each_other_share_alike() -> None:
    found = over_all_orders(("a", "b"), lambda taken: 1.0 if len(taken) == 2 else 0.0)
    assert [s.value for s in found.shares.values()] == [0.5, 0.5]
    assert [(s.low, s.high) for s in found.shares.values()] == [(0.0, 1.0), (0.0, 1.0)]


@pytest.mark.parametrize("seed", range(8))
def test_shares_add_up_to_the_whole(seed: int) -> None:
    worth = tangled(seed)
    whole = worth[frozenset(CAUSES)] - worth[frozenset()]
    every = over_all_orders(CAUSES, worth.__getitem__)
    some = over_some_orders(CAUSES, worth.__getitem__, most_sets=12, seed=seed)
    for found in (every, some):
        assert sum(s.value for s in found.shares.values()) == pytest.approx(whole)
        assert all(s.low - 1e-12 <= s.value <= s.high + 1e-12 for s in found.shares.values())
    assert some.sets <= 12
    assert not some.is_exact
    again = over_some_orders(CAUSES, worth.__getitem__, most_sets=12, seed=seed)
    assert again == some


@pytest.mark.parametrize("seed", range(8))
def test_many_drawn_orders_come_close_to_all(seed: int) -> None:
    worth = tangled(seed)
    every = over_all_orders(CAUSES, worth.__getitem__)
    drawn = [over_some_orders(CAUSES, worth.__getitem__, most_sets=10, seed=s) for s in range(200)]
    for cause in CAUSES:
        mean = sum(found.shares[cause].value for found in drawn) / len(drawn)
        assert mean == pytest.approx(every.shares[cause].value, abs=0.15)


def test_orders_through_a_set_that_reaches_nothing_do_not_count() -> None:
    """With "b" alone nothing runs: of the orders of three causes those that begin with "b" are left out."""

    def worth(taken: frozenset[str]) -> float | None:
        return None if taken == {"b"} else float(len(taken))

    found = over_all_orders(("a", "b", "c"), worth)
    assert found.orders == 4
    assert {c: s.value for c, s in found.shares.items()} == {"a": 1.0, "b": 1.0, "c": 1.0}


def test_where_no_order_reaches_the_end_that_is_said() -> None:
    def worth(taken: frozenset[str]) -> float | None:
        return 0.0 if len(taken) in (0, 2) else None

    for find in (over_all_orders, lambda *a: over_some_orders(*a, most_sets=8, seed=0)):
        with pytest.raises(UserError, match="cannot be exchanged one by one"):
            find(("a", "b"), worth)
