"""Dataclasses of columns, and what both searches share."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pytest

from mowich.arrays import Columns, Floats, constant, distinct, ranked
from mowich.errors import UserError
from mowich.plans.plan import FEW, KV, Plan, Plans, ServePlan, ServePlans, numbered, one_of
from mowich.plans.search import fastest, first_of, rising


@dataclass(frozen=True, slots=True)
class Table(Columns):
    one: Floats
    kinds: Floats


def test_rows_are_taken_of_every_field() -> None:
    table = Table(np.arange(4.0), np.arange(8.0).reshape(2, 4))
    for index in (np.array([3, 1]), np.array([False, True, False, True])):
        found = table.take(index)
        assert found.one.tolist() == table.one[index].tolist()
        assert found.kinds.tolist() == table.kinds[:, index].tolist()


def test_a_constant_column_and_a_shared_number_stay_what_they_are() -> None:
    found = Table(constant(2.0, 5), np.float64(7.0)).take(np.array([0, 4, 4]))  # type: ignore[arg-type]
    assert found.one.strides == (0,)
    assert found.one.tolist() == [2.0] * 3
    assert found.kinds == 7.0


def test_fewer_kinds_are_joined_as_zeros() -> None:
    one, two = Table(np.ones(1), np.ones((1, 1))), Table(np.zeros(2), np.full((2, 2), 5.0))
    found = Table.joined([one, two])
    assert found.one.tolist() == [1.0, 0.0, 0.0]
    assert found.kinds.tolist() == [[1.0, 5.0, 5.0], [0.0, 5.0, 5.0]]


def test_plans_come_back_from_their_columns() -> None:
    plans = [Plan(tp=2, recompute="full", schedule="zb-v"), Plan(precision="mxfp8", order="pp-tp-dp")]
    served = [ServePlan(tp=4, weights="int4", kv="fp8"), ServePlan(dp=8, ep=8)]
    assert list(Plans.of(plans)) == plans
    columns = ServePlans.of(served)
    assert [f.name for f in fields(columns.take(np.array([1])))] == [
        *(f.name for f in fields(ServePlan) if f.name != "launch"),
        "redundant",  # of the launch settings, the one that the memory of a plan rests on
    ]
    assert [ServePlan.from_dict(plan.to_dict()) for plan in served] == served


def test_a_word_that_is_none_is_refused_with_those_that_are() -> None:
    assert one_of("fp8", KV, "format of the cache") == "fp8"
    with pytest.raises(UserError, match="format of the cache") as error:
        one_of("fp9", KV, "format of the cache")
    assert "bf16" in error.value.line()


def test_the_fastest_and_the_front_of_random_points() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        seconds, need = rng.integers(1, 6, 30) / 4.0, rng.integers(1, 4, 30) * 1.0
        fits = rng.random(30) < 0.7
        by_hand = sorted((i for i in range(30) if fits[i]), key=lambda i: (seconds[i], need[i], i))
        for last_bits in (0.0, 1e-15, 1e-13):  # of another processor: equals stay equals
            moved = seconds * (1.0 + last_bits * rng.uniform(-1.0, 1.0, 30))
            assert fastest(moved, need, fits, 4).tolist() == by_hand[:4]
        order = np.lexsort((-need, seconds))
        front = rising(order, need)
        assert all(need[front[: k + 1]].max() == need[i] for k, i in enumerate(front))
        assert len({need[i] for i in front}) == len(front)


def test_the_first_of_many_are_the_beginning_of_a_stable_sort() -> None:
    rng = np.random.default_rng(4)
    for _ in range(100):
        values = rng.integers(0, 8, rng.integers(0, 40)) / 8.0
        most = int(rng.integers(1, 45))
        assert first_of(values, most).tolist() == np.argsort(values, kind="stable")[:most].tolist()


def test_different_values_and_their_ranks_are_those_of_a_sort() -> None:
    draw = np.random.default_rng(3)
    for n in (0, 1, 7, 500):
        values = draw.integers(0, 40, n).astype(np.float64)
        assert distinct(values).tolist() == np.unique(values).tolist()
        assert distinct(constant(5.0, n)).tolist() == [5.0] * min(n, 1)
    whole = draw.integers(0, 90, 200)
    rank, ranks = ranked(whole, 95)
    assert rank.tolist() == np.unique(whole, return_inverse=True)[1].tolist()
    assert ranks == len(np.unique(whole))


@pytest.mark.parametrize("seed", range(8))
def test_rows_that_differ_are_numbered_as_by_a_sort(seed: int) -> None:
    """Few rows, which are sorted, and many, which are counted; columns of few values, of many, large and constant."""
    draw = np.random.default_rng(seed)
    for n in (1, 30, FEW, 6 * FEW):
        most = draw.choice([1, 2, 9, 300, 5 * n, 40 * n, 10**9], draw.integers(1, 9))
        columns = [draw.integers(0, high + 1, n).astype(np.float64) for high in most]
        if seed % 2:
            columns.insert(int(draw.integers(len(columns) + 1)), constant(3.0, n))
        first, kind = numbered(columns)
        _, by_first, by_kind = np.unique(np.stack(columns), axis=1, return_index=True, return_inverse=True)
        assert first.tolist() == by_first.tolist()
        assert kind.tolist() == by_kind.reshape(-1).tolist()
