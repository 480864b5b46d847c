"""Roles of weights by dataflow, on graphs that are written by hand: no PyTorch here. `check_roles.py` compares them
with the plans that transformers ships."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hand_graphs import BATCH, TOKENS, Graph
from mowich.capture.axes import Axes, merged, plain
from mowich.capture.roles import roles

HIDDEN, VOCAB = 48, 1000


def _begun() -> tuple[Graph, int]:
    graph = Graph()
    ids = graph.given("input_ids", BATCH, TOKENS)
    return graph, graph.embed("embed", ids, VOCAB, HIDDEN)


def _swiglu(graph: Graph, name: str, x: int, *, is_fused: bool, is_interleaved: bool = False) -> int:
    if is_fused:
        both = graph.linear(f"{name}.gate_up", x, 128)
        if is_interleaved:
            shape = (*graph.shapes[both][:-1], 64)
            gate = graph.op("aten.slice", (both,), shape, dim=-1, start=0, end=2**60, step=2)
            up = graph.op("aten.slice", (both,), shape, dim=-1, start=1, end=2**60, step=2)
        else:
            gate, up = graph.cut(both, 0, 64), graph.cut(both, 64, 128)
    else:
        gate, up = graph.linear(f"{name}.gate", x, 64), graph.linear(f"{name}.up", x, 64)
    return graph.linear(f"{name}.down", graph.each("mul", graph.each("silu", gate), up), graph.shapes[x][-1])


FUSED = ("apart", "in a row", "by head", "three of each")
"""How queries, keys and values lie in their weights: four projections; [q | k | v]; [heads, 3, width]; [3, heads,
width]."""


def _attention(graph: Graph, name: str, x: int, *, fused: str, kv_heads: int, is_normed: bool, is_eager: bool) -> int:
    heads, width = 6, 8
    batch, tokens, hidden = graph.shapes[x]
    if fused == "apart":
        q = graph.heads(graph.linear(f"{name}.q", x, heads * width), heads)
        k, v = (graph.heads(graph.linear(f"{name}.{one}", x, kv_heads * width), kv_heads) for one in "kv")
    elif fused == "in a row":
        qkv = graph.linear(f"{name}.qkv", x, (heads + 2 * kv_heads) * width)
        ends = [0, heads * width, (heads + kv_heads) * width, (heads + 2 * kv_heads) * width]
        q, k, v = (
            graph.heads(graph.cut(qkv, start, end), (end - start) // width) for start, end in itertools.pairwise(ends)
        )
    elif fused == "by head":
        qkv = graph.view(graph.linear(f"{name}.qkv", x, 3 * heads * width), batch, tokens, heads, 3 * width)
        q, k, v = (graph.turned(graph.cut(qkv, i * width, (i + 1) * width)) for i in range(3))
    else:
        qkv = graph.view(graph.linear(f"{name}.qkv", x, 3 * heads * width), batch, tokens, 3, heads, width)
        q, k, v = (
            graph.turned(graph.op("aten.select", (qkv,), (batch, tokens, heads, width), dim=2, index=i))
            for i in range(3)
        )
    if is_normed:
        q, k = graph.norm(f"{name}.q_norm", q), graph.norm(f"{name}.k_norm", k)
    if not is_eager:
        out = graph.core(q, k, v)
    else:
        shapes = graph.shapes
        if shapes[k][1] != heads:  # each head of keys is repeated for its queries
            count = heads // shapes[k][1]
            k, v = (
                graph.view(
                    graph.op(
                        "aten.expand",
                        (graph.view(one, batch, shapes[one][1], 1, tokens, width),),
                        (batch, shapes[one][1], count, tokens, width),
                        size=[-1],
                    ),
                    batch,
                    heads,
                    tokens,
                    width,
                )
                for one in (k, v)
            )
        flat = [graph.view(one, batch * heads, tokens, width) for one in (q, k, v)]
        scores = graph.op("aten.bmm", (flat[0], graph.turned(flat[1])), (batch * heads, tokens, tokens))
        scores = graph.view(scores, batch, heads, tokens, tokens)
        weights = graph.op("aten._softmax", (scores,), (batch, heads, tokens, tokens), dim=-1)
        values = graph.op(
            "aten.bmm", (graph.view(weights, batch * heads, tokens, tokens), flat[2]), (batch * heads, tokens, width)
        )
        out = graph.view(graph.turned(graph.view(values, batch, heads, tokens, width)), batch, tokens, heads * width)
    return graph.linear(f"{name}.o", out, hidden)


blocks = st.lists(
    st.one_of(
        st.fixed_dictionaries({"kind": st.just("mlp"), "is_fused": st.booleans(), "is_interleaved": st.booleans()}),
        st.fixed_dictionaries(
            {
                "kind": st.just("attention"),
                "fused": st.sampled_from(FUSED),
                "kv_heads": st.sampled_from((2, 3, 6)),
                "is_normed": st.booleans(),
                "is_eager": st.booleans(),
            }
        ),
    ),
    min_size=1,
    max_size=4,
)


@given(
    blocks=blocks,
    order=st.sampled_from(("before", "after", "none")),
    is_parallel=st.booleans(),
    is_tied=st.booleans(),
)
def test_blocks_of_columns_then_rows_are_split_so(
    blocks: list[dict[str, Any]], order: str, is_parallel: bool, is_tied: bool
) -> None:
    """Whatever the order of blocks, however their projections are fused, wherever the norms and residual additions lie:
    the projections into heads or a feed-forward are split by columns, those out of it by rows, and norms are whole."""
    graph, x = _begun()
    branch = x
    for number, block in enumerate(blocks):
        name, options = f"layers.{number}", dict(block)
        kind = options.pop("kind")
        read = branch if is_parallel else x
        read = graph.norm(f"{name}.norm", read) if order == "before" else read
        made = _swiglu(graph, name, read, **options) if kind == "mlp" else _attention(graph, name, read, **options)
        made = graph.norm(f"{name}.norm", made) if order == "after" else made
        x = graph.each("add", x, made)
    head = "embed" if is_tied else "head"
    logits = graph.linear(head, graph.norm("norm", x), VOCAB)
    found = roles(graph.trace(logits))
    assert set(found) == set(graph.weights)
    for name, role in found.items():
        part = name.split(".")[-2]
        if part in ("embed", "head"):
            expected = "vocabulary"
        elif part in ("down", "o"):
            expected = "row"
        elif "norm" in part:
            expected = "replicated"
        else:
            expected = "column"
        assert role == expected, name


def test_biases_lie_with_their_columns() -> None:
    graph, x = _begun()
    up = graph.each("gelu", graph.linear("up", graph.norm("norm", x), 64, bias=True))
    found = roles(graph.trace(graph.each("add", x, graph.linear("down", up, HIDDEN, bias=True))))
    assert (found["up.weight"], found["up.bias"]) == ("column", "column")
    assert (found["down.weight"], found["down.bias"]) == ("row", "replicated")


def _latent(graph: Graph, x: int, *, is_written: bool) -> int:
    """Multi-head latent attention: both low ranks are normed, one rotary key is shared by the heads; `is_written`: keys
    are written part by part into a new tensor."""
    heads, nope, rope, value, rank = 6, 8, 4, 8, 16
    batch, tokens, hidden = graph.shapes[x]
    q = graph.linear("q_b", graph.norm("q_norm", graph.linear("q_a", x, 24)), heads * (nope + rope))
    q = graph.heads(q, heads)
    compressed = graph.linear("kv_a", x, rank + rope)
    kv = graph.linear("kv_b", graph.norm("kv_norm", graph.cut(compressed, 0, rank)), heads * (nope + value))
    kv = graph.heads(kv, heads)
    k, v = graph.cut(kv, 0, nope), graph.cut(kv, nope, nope + value)
    rotary = graph.turned(graph.view(graph.cut(compressed, rank, rank + rope), batch, tokens, 1, rope))
    rotary = graph.op("aten.expand", (rotary,), (batch, heads, tokens, rope), size=[-1])
    if is_written:
        shape = (batch, heads, tokens, nope + rope)
        key = graph.op("aten.new_empty", (kv,), shape)
        for part in (k, rotary):
            place = graph.op("aten.slice", (key,), graph.shapes[part], dim=-1, start=0, end=graph.shapes[part][-1])
            written = graph.op("aten.copy_", (place, part), graph.shapes[part])
            key = graph.op("update", (key, written), shape)
    else:
        key = graph.join(k, rotary)
    return graph.linear("o", graph.core(q, key, v), hidden)


@pytest.mark.parametrize("is_written", [False, True])
def test_latent_attention_splits_heads_alone(is_written: bool) -> None:
    graph, x = _begun()
    found = roles(graph.trace(graph.each("add", x, _latent(graph, graph.norm("norm", x), is_written=is_written))))
    expected = {"q_a": "replicated", "kv_a": "replicated", "q_b": "column", "kv_b": "column", "o": "row"}
    assert {name: found[f"{name}.weight"] for name in expected} == expected


def test_a_norm_over_all_heads_is_healed_by_a_small_exchange() -> None:
    """OLMo 2 norms queries and keys before it splits them into heads."""
    graph, x = _begun()
    q, k = (graph.heads(graph.norm(f"{one}_norm", graph.linear(one, x, 48)), 6) for one in "qk")
    v = graph.heads(graph.linear("v", x, 48), 6)
    out = graph.linear("o", graph.core(q, k, v), HIDDEN)
    found = roles(graph.trace(graph.each("add", x, graph.norm("after", out))))
    assert [found[f"{one}.weight"] for one in "qkvo"] == ["column"] * 3 + ["row"]


def test_one_shared_head_of_keys_stays_whole() -> None:
    graph, x = _begun()
    q = graph.heads(graph.linear("q", x, 48), 6)
    k, v = (graph.heads(graph.linear(one, x, 8), 1) for one in "kv")
    found = roles(graph.trace(graph.each("add", x, graph.linear("o", graph.core(q, k, v), HIDDEN))))
    assert [found[f"{one}.weight"] for one in "qkvo"] == ["column", "replicated", "replicated", "row"]


@pytest.mark.parametrize("between", ["_softmax", "cumsum", "flip"])
def test_what_mixes_columns_stands_against_splitting_them(between: str) -> None:
    graph, x = _begun()
    mixed = graph.op(f"aten.{between}", (graph.linear("up", x, 64),), (BATCH, TOKENS, 64), dim=-1, dims=[-1])
    found = roles(graph.trace(graph.linear("down", mixed, HIDDEN)))
    assert (found["up.weight"], found["down.weight"]) == ("replicated", "replicated")


def test_an_operation_that_is_not_known_makes_roles_unknown() -> None:
    graph, x = _begun()
    odd = graph.op("mylib.fused", (graph.linear("up", x, 64),), (BATCH, TOKENS, 64))
    found = roles(graph.trace(graph.linear("down", odd, HIDDEN)))
    assert found["up.weight"] == "unknown"
    assert found["down.weight"] in ("unknown", "replicated")


def test_several_streams_of_the_residual_are_whole() -> None:
    """Hyper-connections keep four streams and mix them by learned weights before each block."""
    graph, x = _begun()
    streams = graph.op("aten.expand", (graph.view(x, BATCH, TOKENS, 1, HIDDEN),), (BATCH, TOKENS, 4, HIDDEN), size=[-1])
    for number in range(2):
        mix = graph.linear(f"{number}.mix", graph.view(streams, BATCH, TOKENS, 4 * HIDDEN), 4)
        weighted = graph.each("mul", streams, graph.view(mix, BATCH, TOKENS, 4, 1))
        one = graph.op("aten.sum", (weighted,), (BATCH, TOKENS, HIDDEN), dim=[2])
        made = _swiglu(graph, f"{number}", graph.norm(f"{number}.norm", one), is_fused=False)
        streams = graph.each("add", streams, graph.view(made, BATCH, TOKENS, 1, HIDDEN))
    found = roles(graph.trace(streams))
    for number in range(2):
        parts = [found[f"{number}.{one}.weight"] for one in ("mix", "gate", "up", "down")]
        assert parts == ["replicated", "column", "column", "row"]


def test_a_weight_that_is_used_twice_has_one_role() -> None:
    """The same projection into a feed-forward and out of one cannot be split both ways."""
    graph, x = _begun()
    for name in ("one", "two"):
        up = graph.each("gelu", graph.linear("shared" if name == "one" else "up", x, HIDDEN))
        x = graph.each("add", x, graph.linear("down" if name == "one" else "shared", up, HIDDEN))
    found = roles(graph.trace(graph.norm("norm", x)))
    assert found["shared.weight"] == "replicated"


def test_experts_taken_whole_and_products_of_each_head() -> None:
    graph, x = _begun()
    gate = graph.op("aten.topk", (graph.linear("router", x, 16),), (BATCH, TOKENS, 2), k=2, dim=-1)
    names = (graph.weight("experts.up", 16, 96, HIDDEN), graph.weight("experts.down", 16, HIDDEN, 48))
    x = graph.each("add", x, graph.op("experts", (x, gate), graph.shapes[x], weights=names))
    heads = graph.op(
        "aten.permute",
        (graph.view(graph.linear("in", x, 48), BATCH * TOKENS, 6, 8),),
        (6, BATCH * TOKENS, 8),
        dims=[1, 0, 2],
    )
    block = graph.weight("block", 6, 8, 8)
    each = graph.op(
        "aten.bmm", (heads,), graph.shapes[heads], weights=(block,), weight_shapes=((6, 8, 8),), operands="aw"
    )
    joined = graph.op("aten.permute", (each,), (BATCH * TOKENS, 6, 8), dims=[1, 0, 2])
    found = roles(graph.trace(graph.linear("out", graph.view(joined, BATCH, TOKENS, 48), HIDDEN)))
    assert found["experts.up"] == found["experts.down"] == "experts"
    assert found["router.weight"] == "replicated"
    assert [found[one] for one in ("in.weight", "block", "out.weight")] == ["column", "column", "row"]


@pytest.mark.parametrize("is_turned", [False, True])
def test_a_scan_keeps_its_heads_apart(is_turned: bool) -> None:
    """[batch, tokens, heads, width], or heads before tokens."""
    graph, x = _begun()
    q, k, v = (graph.view(graph.linear(one, x, 48), BATCH, TOKENS, 6, 8) for one in "qkv")
    if is_turned:
        q, k, v = (graph.turned(one) for one in (q, k, v))
    out = graph.op("scan", (q, k, v), graph.shapes[v], heads=6, groups=6, head_dim=8, state=8)
    out = graph.norm("norm", graph.turned(out) if is_turned else out)
    found = roles(graph.trace(graph.linear("o", graph.view(out, BATCH, TOKENS, 48), HIDDEN)))
    assert [found[f"{one}.weight"] for one in "qkvo"] == ["column"] * 3 + ["row"]


sizes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(sizes=sizes, data=st.data())
def test_views_of_an_axis_give_its_sizes(sizes: list[int], data: Any) -> None:
    """Laid into other dimensions and cut, factors keep their sizes, and the whole laid back is the whole."""
    axes = Axes()
    total = 1
    for size in sizes:
        total *= size
    dim = axes.new(total)
    laid = axes.lay(axes.factors(dim), tuple(sizes))
    assert laid is not None
    assert [axes.width(one) for one in laid] == sizes
    start = data.draw(st.integers(0, total - 1))
    stop = data.draw(st.integers(start + 1, total))
    cut = axes.cut(dim, start, stop)
    assert axes.width(cut) == stop - start
    axes.unite(dim, axes.new(total))
    assert axes.width(tuple(axes.factors(dim))) == total
    assert merged(axes.factors(plain((total,))[0])) == plain((total,))[0]


def test_a_factorised_head_is_split_by_its_vocabulary_alone() -> None:
    graph, x = _begun()
    narrow = graph.linear("narrow", graph.norm("norm", x), 16)
    found = roles(graph.trace(graph.linear("head", narrow, VOCAB)))
    assert (found["narrow.weight"], found["head.weight"]) == ("replicated", "vocabulary")
