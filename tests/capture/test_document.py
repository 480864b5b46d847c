"""The document of graphs written by hand: attention that the code writes out, layers, parameters, FLOP and bytes that
follow by hand. No PyTorch here."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mowich
from hand_graphs import Graph
from mowich.capture.__main__ import main
from mowich.capture.cores import with_cores
from mowich.capture.dimensions import CHECKED, PROBES
from mowich.capture.document import MAX_BYTES, About, digest, document, written
from mowich.capture.graph import Call, Trace
from mowich.capture.problem import CaptureError


@dataclass(frozen=True)
class Form:
    """A decoder written by hand. repeats: of keys for heads; is_eager: its attention is written out."""

    vocab: int = 50
    width: int = 16
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 40
    layers: int = 3
    is_eager: bool = True
    is_tied: bool = False
    is_shared: bool = False

    def params(self) -> int:
        """By hand."""
        kv = self.kv_heads * self.width // self.heads
        layer = 2 * self.width**2 + 2 * self.width * kv + 3 * self.width * self.ffn + 2 * self.width
        layers = 1 if self.is_shared else self.layers
        return layers * layer + self.width + (1 if self.is_tied else 2) * self.vocab * self.width


def decoder(form: Form, batch: int, tokens: int) -> Trace:
    graph, calls = Graph(), []
    modules = {"": "Decoder", "layers": "ModuleList"}
    width, head = form.width, form.width // form.heads
    x = graph.embed("embed", graph.given("input_ids", batch, tokens), form.vocab, width)
    for index in range(form.layers):
        path = "layers.0" if form.is_shared else f"layers.{index}"
        modules |= {path: "Block", f"{path}.attn": "Attention"}
        start = len(graph.ops)
        graph.module = f"{path}.attn"
        y = graph.norm(f"{path}.norm1", x)
        q, k, v = (
            graph.heads(graph.linear(f"{path}.attn.{one}", y, count * head), count)
            for one, count in (("q", form.heads), ("k", form.kv_heads), ("v", form.kv_heads))
        )
        out = eager(graph, form, q, k, v) if form.is_eager else whole(graph, form, q, k, v)
        x = graph.each("add", x, graph.linear(f"{path}.attn.o", out, width))
        graph.module = path
        y = graph.norm(f"{path}.norm2", x)
        gate = graph.each("silu", graph.linear(f"{path}.gate", y, form.ffn))
        y = graph.each("mul", gate, graph.linear(f"{path}.up", y, form.ffn))
        x = graph.each("add", x, graph.linear(f"{path}.down", y, width))
        calls.append(Call(path, start, len(graph.ops)))
    graph.module = "head"
    x = graph.norm("norm", x)
    if form.is_tied:
        flat = graph.view(x, batch * tokens, width)
        x = graph.op(
            "aten.mm", (flat,), (batch * tokens, form.vocab), weights=("embed.weight",), operands="aw",
            weight_shapes=((width, form.vocab),),
        )  # fmt: skip
    else:
        x = graph.linear("head", x, form.vocab)
    return replace(
        graph.trace(x),
        sizes=(batch, tokens),
        calls=(*calls, Call("", 0, len(graph.ops))),
        modules=modules,
        input_shapes={"input_ids": (batch, tokens)},
    )


def eager(graph: Graph, form: Form, q: int, k: int, v: int) -> int:
    """bmm, scale, mask, softmax, bmm, as code writes it; keys repeated for the heads."""
    batch, heads, tokens, head = graph.shapes[q]

    def rows(x: int) -> int:
        if graph.shapes[x][1] < heads:
            few = graph.shapes[x][1]
            x = graph.op("aten.unsqueeze", (x,), (batch, few, 1, tokens, head), dim=2)
            x = graph.op("aten.expand", (x,), (batch, few, heads // few, tokens, head))
            x = graph.op("aten.clone", (x,), graph.shapes[x])
        return graph.view(x, batch * heads, tokens, head)

    scores = graph.op("aten.bmm", (rows(q), graph.turned(rows(k))), (batch * heads, tokens, tokens))
    scores = graph.each("mul", graph.view(scores, batch, heads, tokens, tokens))
    scores = graph.op("aten.masked_fill", (scores,), graph.shapes[scores], operands="ac", mask={"causal": True})
    weights = graph.view(
        graph.op("aten._softmax", (scores,), graph.shapes[scores], dim=-1), *(batch * heads, tokens, tokens)
    )
    out = graph.op("aten.bmm", (weights, rows(v)), (batch * heads, tokens, head))
    out = graph.turned(graph.view(out, batch, heads, tokens, head))
    return graph.view(graph.op("aten.clone", (out,), graph.shapes[out]), batch, tokens, heads * head)


def whole(graph: Graph, form: Form, q: int, k: int, v: int) -> int:
    batch, heads, tokens, head = graph.shapes[q]
    sizes = {"sequences": batch, "queries": tokens, "keys": tokens}
    out = graph.op(
        "attention", (q, k, v), (batch, heads, tokens, head),
        heads=heads, kv_heads=graph.shapes[k][1], qk=head, v=head, causal=True, **sizes,
    )  # fmt: skip
    out = graph.turned(out)
    return graph.view(graph.op("aten.clone", (out,), graph.shapes[out]), batch, tokens, heads * head)


def captured(form: Form) -> dict[str, object]:
    traces = [with_cores(decoder(form, *sizes)) for sizes in (*PROBES, CHECKED)]
    return document(traces, About(name="by hand", source="here"))


FORMS = st.builds(
    lambda heads, groups, head, ffn, layers, vocab, flags: Form(
        vocab, heads * head, heads, heads // groups, ffn, layers, *flags
    ),
    st.sampled_from((4, 8)),
    st.sampled_from((1, 2, 4)),
    st.sampled_from((2, 6)),
    st.integers(3, 50),
    st.integers(1, 3),
    st.integers(60, 90),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)


@given(FORMS)
def test_a_decoder_is_written_as_it_was_made(form: Form) -> None:
    made = json.loads(written(captured(form)))
    assert made["digest"] == digest(made)
    assert made["params"] == form.params() == sum(made["components"].values())
    assert (made["kind"], made["vocab"], made["hidden"], made["tied"]) == (
        "decoder",
        form.vocab,
        form.width,
        form.is_tied,
    )
    assert sum(layer["count"] for layer in made["layers"]) == form.layers == len(made["pattern"])
    assert len(made["layers"]) == (2 if form.is_shared and form.layers > 1 else 1)
    assert sum(layer["count"] * layer["params"] for layer in made["layers"]) == made["components"]["layers"]
    for later, layer in enumerate(made["layers"]):
        (core,) = layer["cores"]
        sizes = (core["sequences"], core["queries"], core["keys"])
        assert sizes == ([0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0])
        assert (core["heads"], core["kv_heads"], core["qk"]) == (form.heads, form.kv_heads, form.width // form.heads)
        assert (core["causal"], core["masked"], core["eager"]) == (True, False, form.is_eager)
        assert layer["cached_elements"] == 2 * form.kv_heads * form.width // form.heads
        assert (layer["blocks"], layer["norms"], layer["hidden"]) == (2, 2, form.width)
        assert [row["n"] for row in layer["products"]][-3:] == [form.ffn, form.ffn, form.width]
        assert {row["shared"] for row in layer["products"]} == {bool(later)}
    (head,) = made["outside"]["products"]
    assert (head["n"], head["role"], head["shared"]) == (form.vocab, "vocabulary", form.is_tied)


@given(FORMS)
def test_passes_move_less_when_they_are_fused(form: Form) -> None:
    """By hand for a layer: fused, each block reads stream and product and writes stream and norm, and the feed-forward
    reads two and writes one; rotary and masks have none here. Elements of four bytes count twice."""
    (layer, *_) = json.loads(written(captured(form)))["layers"]
    assert layer["moved"][:3] == layer["moved_eager"][:3] == [0, 0, 0]
    width, ffn = form.width, form.ffn
    first, middle, last, gated = 2 * width, 4 * width, 3 * width, 3 * ffn
    assert layer["moved"][3] == 2 * (first + middle + last + gated)
    assert layer["moved"][3] < layer["moved_eager"][3]


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(CaptureError, match="the file would have"):
        written({"layers": [], "name": "x" * MAX_BYTES})


def test_nothing_but_the_exporter_needs_torch() -> None:
    """Neither at the top of a module nor inside of a function; kernels of others run beside the torch that they ask
    for."""
    package = Path(mowich.__file__).parent
    asks = re.compile(
        r"^\s*(?:import|from)\s+(?:torch|mowich\.capture)\b|import_module\(.(?:torch|mowich\.capture)", re.M
    )
    found = [path for path in package.rglob("*.py") if asks.search(path.read_text(encoding="utf-8"))]
    assert {path.relative_to(package).parts[0] for path in found} == {"capture", "nki"}


def test_without_torch_the_command_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["my_model.py:build", "--out", "model.json"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: PyTorch is not installed in this environment; run it with the Python of your model")
    assert error.count("\n") == 1
