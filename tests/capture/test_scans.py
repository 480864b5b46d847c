"""Recurrences that are known by name, and what the user states of a module or a kernel. No PyTorch here."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hand_graphs import BATCH, TOKENS, Graph
from mowich.capture.graph import Trace
from mowich.capture.honesty import kernel_of, lone_routers, parsed_kernels, with_experts, with_kernels
from mowich.capture.problem import CaptureError
from mowich.capture.scans import parsed, scan_of
from mowich.models.recurrent import Recurrent


@given(
    kind=st.sampled_from(("mamba2", "gdn", "kda", "lightning")),
    heads=st.integers(1, 64),
    head_dim=st.integers(1, 256),
    state=st.integers(1, 256),
    conv=st.integers(1, 8),
)
def test_a_scan_is_counted_as_the_mixer_that_it_is(kind: str, heads: int, head_dim: int, state: int, conv: int) -> None:
    """FLOP and state of a token by formula: those of our mixer, its convolution apart."""
    mixer = Recurrent(
        kind=kind,
        num_heads=heads,
        head_dim=head_dim,
        num_groups=heads,
        state_dim=state,
        conv=conv,  # type: ignore[arg-type]
    )
    scan = scan_of(
        kind,
        batch=3,
        tokens=5,
        heads=heads,
        head_dim=head_dim,
        groups=heads,
        state=state,  # type: ignore[arg-type]
        conv=conv,
        conv_width=mixer.conv_width,
    )
    assert scan["flop"] == 15 * (mixer.core_flop_per_token() - 2 * conv * mixer.conv_width)
    assert scan["state_elements"] == mixer.state_elements
    assert scan["conv_elements"] == mixer.conv_elements


@pytest.mark.parametrize(
    "given_", ["mixer", "mixer=1e6", "=1,2", "mixer=-1,2", "mixer=a,2", "mixer=inf,1", "mixer=1,2,3"]
)
@pytest.mark.parametrize(("read", "option"), [(parsed, "--scan"), (parsed_kernels, "--kernel")])
def test_stated_work_is_refused_in_one_line(given_: str, read: object, option: str) -> None:
    with pytest.raises(CaptureError) as error:
        read([given_])  # type: ignore[operator]
    text = str(error.value)
    assert text.startswith(f"{option}: ")
    assert given_ in text
    assert "allowed" in text
    assert "\n" not in text


def _with_kernel() -> Trace:
    graph = Graph()
    x = graph.given("x", BATCH, TOKENS, 8)
    graph.module = "mixer"
    return graph.trace(graph.op("mylib.fused", (x,), (BATCH, TOKENS, 8)))


def test_a_kernel_is_refused_unless_its_work_is_stated() -> None:
    with pytest.raises(
        CaptureError, match=r"module mixer: the work of mylib\.fused is not known: .*--kernel mylib\.fused=FLOP,BYTES"
    ):
        with_kernels(_with_kernel(), {})
    op = with_kernels(_with_kernel(), parsed_kernels(["mylib::fused=2e6,4096"])).ops[0]
    assert (op.name, op.attributes["flop"]) == ("scan", 2_000_000 * BATCH * TOKENS)
    assert op.attributes == kernel_of(2_000_000, 4096, BATCH * TOKENS)
    with pytest.raises(CaptureError, match=r"--kernel: no kernel of this name ran, got 'mylib\.other'; allowed: mylib"):
        with_kernels(_with_kernel(), {"mylib.other": (1, 1), "mylib.fused": (1, 1)})


def _experts(*, how: str, number: int, top_k: int, has_router: bool = True, is_gated: bool = True) -> Trace:
    """A mixture of experts in eager code that runs all of them: a loop over modules, over one weight's slices, or
    batched products."""
    graph = Graph()
    x = graph.given("x", BATCH * TOKENS, 32)
    graph.module = "mlp"
    scores = graph.linear("mlp.gate", x, number)
    if has_router:
        graph.op("aten.topk", (scores,), (BATCH * TOKENS, top_k), (BATCH * TOKENS, top_k), k=top_k, dim=-1)
    names = ["up", "gate"] if is_gated else ["up"]
    if how == "batched":
        every = graph.op("aten.expand", (x,), (number, BATCH * TOKENS, 32), size=[-1])
        for name in names:
            w = graph.weight(f"mlp.{name}", number, 32, 48)
            made = graph.op(
                "aten.bmm", (every,), (number, BATCH * TOKENS, 48), weights=(w,), weight_shapes=((number, 32, 48),)
            )
        w = graph.weight("mlp.down", number, 48, 32)
        x = graph.op("aten.bmm", (made,), (number, BATCH * TOKENS, 32), weights=(w,), weight_shapes=((number, 48, 32),))
    else:
        for expert in range(number):
            graph.module = f"mlp.experts.{expert}"
            for name in names:
                made = graph.linear(f"mlp.experts.{expert}.{name}", x, 48)
            made = graph.linear(f"mlp.experts.{expert}.down", graph.each("silu", made), 32)
        x = made
    return graph.trace(x)


@given(
    how=st.sampled_from(("loop", "batched")),
    number=st.integers(3, 8),
    top_k=st.integers(1, 2),
    is_gated=st.booleans(),
)
def test_experts_that_all_run_are_counted_as_chosen(how: str, number: int, top_k: int, is_gated: bool) -> None:
    trace = _experts(how=how, number=number, top_k=top_k, is_gated=is_gated)
    seen = with_experts(trace)
    (op,) = [op for op in seen.ops if op.name == "experts"]
    expected = {"number": number, "top_k": top_k, "ffn": 48, "width": 32, "gated": is_gated, "biases": 0}
    assert op.attributes == {**expected, "rows": BATCH * TOKENS, "run": "all"}
    weights = {name for op in seen.ops if op.name != "experts" for name in op.weights}
    assert weights == {"mlp.gate.weight"}
    assert {name for op in trace.ops for name in op.weights} == weights | set(op.weights)
    assert lone_routers(seen) == []


def test_experts_without_a_router_are_products() -> None:
    """All of them run for every token: nothing is chosen."""
    trace = _experts(how="loop", number=4, top_k=1, has_router=False)
    assert with_experts(trace) == trace


def test_a_router_whose_experts_are_not_found_is_told() -> None:
    trace = _experts(how="loop", number=4, top_k=2)
    broken = replace(trace, ops=tuple(op for op in trace.ops if op.module != "mlp.experts.3"))
    (row,) = lone_routers(with_experts(broken))
    assert row["module"] == "mlp"
    assert "2 of 4" in row["why"]
