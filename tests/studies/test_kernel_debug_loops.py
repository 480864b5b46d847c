"""The debugger in loops on the device (`fori_loop`): what it says of a turn is what it says of the same turn of a loop
that Python unrolls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mowich
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.errors import UserError
from mowich.nki import jit

ROWS = np.random.default_rng(7).uniform(-1, 1, (3, 128, 8)).astype(np.float32)


def on_device(turns: int, body: Any) -> None:
    nl.fori_loop(0, turns, body)


def unrolled(turns: int, body: Any) -> None:
    for i in range(turns):
        body(i)


def added(total: Any, row: Any) -> None:
    twice = nl.ndarray(row.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=twice, data=row, op0=nl.multiply, operand0=2.0)
    nisa.tensor_tensor(dst=total, data1=total, data2=twice, op=nl.add)


def kernel_of(loop: Any, outer: int, inner: int) -> Any:
    """A loop of rows, with a loop of additions within: of that one each turn adds twice the row."""

    @jit
    def sums(x: Any) -> Any:
        out = nl.ndarray((128, 8), dtype=x.dtype, buffer=nl.shared_hbm)
        total = nl.ndarray((128, 8), dtype=nl.float32, buffer=nl.sbuf)
        nisa.memset(total, 0.0)

        def body(i: Any) -> None:
            row = nl.ndarray((128, 8), dtype=x.dtype, buffer=nl.sbuf)
            mine = x[i] if type(i) is int else x.ap(pattern=[[8, 128], [1, 8]], scalar_offset=i, indirect_dim=0)
            nisa.dma_copy(dst=row, src=mine)
            loop(inner, lambda j: added(total, row))

        loop(outer, body)
        nisa.dma_copy(dst=out, src=total)
        return out

    return sums


def line_of(function: Any, words: str) -> str:
    """The line of a function of this file that has these words, as `--stop` takes it."""
    first = function.__code__.co_firstlineno
    with open(__file__, encoding="utf-8") as file:
        lines = file.read().splitlines()
    return f"{__file__}:{next(n for n, text in enumerate(lines[first:], first + 1) if words in text)}"


TURNS = st.tuples(st.integers(1, 3), st.integers(1, 2))


@given(turns=TURNS, data=st.data())
def test_a_turn_of_the_device_is_looked_into_as_one_that_python_unrolls(
    turns: tuple[int, int], data: st.DataObject
) -> None:
    words = data.draw(st.sampled_from(["nisa.tensor_scalar(", "nisa.tensor_tensor("]))
    number = data.draw(st.integers(1, turns[0] * turns[1]))
    asked: dict[str, Any] = {"stop": f"{line_of(added, words)}:{number}", "watch": "total"}
    asked["tiles"] = ["row[5]", "total[0, 0:3]"]
    found = [mowich.debug_kernel(kernel_of(loop, *turns), ROWS, **asked) for loop in (on_device, unrolled)]
    seen = [
        (
            f.stop.turn,
            f.stop.issued.name,
            [(o.role, o.tile, o.summary) for o in f.stop.operands],
            [t.names for t in f.stop.tiles],
            [(t.names, t.summary) for t in f.stop.tiles if t.names[0] != "twice"],  # allocated once, or in each turn
            [p.values for p in f.prints],
            [c.summary for c in f.changes],
        )
        for f in found
    ]
    assert seen[0] == seen[1]
    assert len(found[0].changes) == number  # the first is the memset


@given(turns=TURNS, data=st.data())
def test_a_reference_is_compared_in_each_turn(turns: tuple[int, int], data: st.DataObject) -> None:
    outer, inner = turns
    wrong = data.draw(st.tuples(st.integers(0, outer - 1), st.integers(0, inner - 1)))

    def reference(x: Any) -> Iterator[tuple[str, Any]]:
        for i in range(outer):
            yield "row", x[i]
            for j in range(inner):
                yield "twice", 2 * x[i] + ((i, j) == wrong)

    found = mowich.debug_kernel(kernel_of(on_device, *turns), ROWS, first_difference=reference).comparison
    assert [(c.name, c.tiles) for c in found.compared] == [("row", outer), ("twice", outer * inner)]
    assert (found.difference.opcode, found.difference.tile) == ("tensor_scalar", "twice")
    assert found.difference.turn == wrong[0] * inner + wrong[1] + 1
    other = mowich.debug_kernel(kernel_of(unrolled, *turns), ROWS, first_difference=reference).comparison
    assert (other.difference.got, other.difference.turn) == (found.difference.got, found.difference.turn)


def test_a_loop_of_the_device_is_compared_with_one_that_python_unrolls() -> None:
    found = mowich.debug_kernel(kernel_of(on_device, 3, 2), ROWS, first_difference=kernel_of(unrolled, 3, 2)).comparison
    assert found.difference is None
    assert (found.unpaired, found.missing) == (3 * 2 + 3, 0)  # the ends of turns
    fewer = mowich.debug_kernel(kernel_of(on_device, 3, 2), ROWS, first_difference=kernel_of(unrolled, 3, 1)).comparison
    assert fewer.difference is not None


def test_the_turn_that_fails_has_the_state_of_its_body() -> None:
    @jit
    def leaves(x: Any) -> Any:
        out = nl.ndarray((128, 8), dtype=x.dtype, buffer=nl.shared_hbm)

        def body(i: Any) -> None:
            row = nl.ndarray((128, 8), dtype=x.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=row, src=x.ap(pattern=[[8, 128], [1, 8]], scalar_offset=i, indirect_dim=0))
            nisa.dma_copy(dst=out, src=row)

        nl.fori_loop(0, 5, body)  # of three rows
        return out

    place = line_of(leaves.func, "src=x.ap(")
    with pytest.raises(UserError, match=place):
        mowich.debug_kernel(leaves, ROWS, tiles=["row[0]"])
    found = mowich.debug_kernel(leaves, ROWS, stop=f"{place}:4", tiles=["row[0]"])
    assert found.prints[0].values == ROWS[2, 0].tolist()
    assert {n for t in found.stop.tiles for n in t.names} == {"x", "out", "row"}


def test_a_body_of_no_turn_is_not_stopped_in() -> None:
    with pytest.raises(UserError, match="no instruction comes from this line"):
        mowich.debug_kernel(kernel_of(on_device, 0, 1), ROWS, stop=line_of(added, "nisa.tensor_scalar("))
