"""Sizes found from probes, over drawn polynomials; masks over drawn windows. No PyTorch here."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hand_graphs import Graph
from mowich.capture.dimensions import CHECKED, PROBES, at, checked, fit
from mowich.capture.graph import Trace
from mowich.capture.masks import mask_kind
from mowich.capture.problem import CaptureError

SIZES = (*PROBES, CHECKED)
COEFFICIENT = st.integers(0, 10**9)


@given(st.tuples(COEFFICIENT, COEFFICIENT, COEFFICIENT, COEFFICIENT))
def test_a_dimension_is_found_from_its_sizes(dimension: tuple[int, int, int, int]) -> None:
    assert fit([at(dimension, *size) for size in SIZES]) == dimension


@given(
    st.tuples(COEFFICIENT, COEFFICIENT, COEFFICIENT, COEFFICIENT),
    st.integers(1, 10**6),
    st.sampled_from(((0, 2), (1, 2), (2, 0), (2, 1), (0, 3))),
)
def test_a_higher_power_is_no_dimension(dimension: tuple[int, int, int, int], of: int, power: tuple[int, int]) -> None:
    """The fifth pass finds what four cannot."""
    b, s = power
    assert fit([at(dimension, *size) + of * size[0] ** b * size[1] ** s for size in SIZES]) is None


@given(st.integers(2, 7))
def test_parts_of_tokens_are_sizes_inside_and_no_dimension(part: int) -> None:
    sizes = [tokens // part for _, tokens in SIZES]
    assert fit(sizes) is None


def passes(*, rows: int = 0, extra: int = 0, other: str = "aten.relu") -> list[Trace]:
    """A product and an operation at each size; the checked pass has `extra` rows, and another last operation."""
    made = []
    for batch, tokens in SIZES:
        last = (batch, tokens) == CHECKED
        graph = Graph(module="block.up")
        x = graph.given("x", batch, tokens + (extra if last else 0), 8)
        x = graph.linear("block.up", x, 16)
        for _ in range(rows * tokens):
            x = graph.each("relu", x)
        graph.module = "block.act"
        out = graph.op(other if last else "aten.relu", (x,), graph.shapes[x])
        made.append(replace(graph.trace(out), sizes=(batch, tokens)))
    return made


def test_every_size_of_every_operation_is_checked() -> None:
    shapes = checked(passes())
    assert [str(one) for one in shapes[-1][0][1]] == ["0", "0", "1", "0"]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (passes(extra=1), ("module block.up, operation aten.view", "is not a + b*batch")),
        (passes(other="aten.gelu"), ("module block.act, operation aten.relu", "something else at batch 5")),
        (passes(rows=1), ("module block.up", "grow with tokens (131 at 128, 259 at 256)", "--scan")),
    ],
)
def test_a_size_or_an_operation_that_differs_is_named(made: list[Trace], words: tuple[str, ...]) -> None:
    with pytest.raises(CaptureError) as error:
        checked(made)
    for word in words:
        assert word in str(error.value)


@given(st.integers(1, 12), st.integers(0, 5), st.integers(1, 20), st.sampled_from(("past", "window", "chunks", "all")))
def test_a_mask_is_known_by_what_it_shows(queries: int, before: int, window: int, kind: str) -> None:
    """Queries are the last of the keys; a window of all keys is no window."""
    keys = queries + before

    def shows(query: int, key: int) -> bool:
        past = key <= query + before
        if kind == "window":
            return past and key > query + before - window
        if kind == "chunks":
            return past and key >= (query + before) // window * window
        return past or kind == "all"

    found = mask_kind([[shows(query, key) for key in range(keys)] for query in range(queries)])
    again = [[shown(found, query + before, key) for key in range(keys)] for query in range(queries)]
    assert again == [[shows(query, key) for key in range(keys)] for query in range(queries)]


def shown(kind: dict[str, object], query: int, key: int) -> bool:
    """Whether a mask of this kind shows a key to a query, both by their place."""
    if not kind.get("causal"):
        return True
    window = kind.get("window")
    first = 0
    if isinstance(window, int):
        first = query // window * window if kind.get("chunked") else query - window + 1
    return first <= key <= query


@given(st.integers(3, 8), st.data())
def test_a_mask_with_a_hole_is_dense(size: int, data: st.DataObject) -> None:
    query = data.draw(st.integers(2, size - 1))
    key = data.draw(st.integers(1, query - 1))
    mask = [[k <= q and (q, k) != (query, key) for k in range(size)] for q in range(size)]
    assert mask_kind(mask) == {"masked": True}
