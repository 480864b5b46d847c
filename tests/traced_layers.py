"""Layers of ours written as blocks that were captured, for tests that compare both."""

from __future__ import annotations

from dataclasses import replace

from mowich.models import ops
from mowich.models.model import NO_FFN, Layer, Mlp, Model, Moe
from mowich.models.traced import Role, Traced, TracedCore, TracedProduct, TracedScan

ROLES: dict[str, Role] = {"n": "column", "k": "row", "none": "replicated"}


def traced_of(layer: Layer) -> Layer:
    """The same work as a list: every product with its role, the core, and what `operators.list.stream` counts. Routed
    experts stay beside it."""
    h, r = layer.hidden, layer.recurrent
    is_moe = isinstance(layer.ffn, Moe)
    gemms = ops.mixer_gemms(layer, h)
    width, outputs = (0.0, 0) if is_moe else ops.ffn_width(layer.ffn)
    mlp = ops.mlp_gemms(layer.ffn.ffn, layer.ffn.gated, h) if isinstance(layer.ffn, Mlp) and layer.ffn.ffn else ()
    products = [
        TracedProduct(module=f"{where}.{g.name}", n=g.n + sum(n for n, _ in g.fused), k=g.k, role=ROLES[g.split])
        for where, of in (("attn", gemms), ("mlp", mlp))
        for g in of
    ]
    cores = (TracedCore(module="attn", attention=layer.attention),) if layer.attention.num_heads else ()
    scans = ()
    if r is not None:
        scans = (
            TracedScan(
                module="attn",
                kind=r.kind,
                flop=r.chunked_flop_per_token(),
                state_elements=r.state_elements,
                conv_elements=r.conv_elements,
                moved=r.core_elements,
                num_heads=r.num_heads,
            ),
        )
    if is_moe:
        width, outputs = ops.ffn_width(layer.ffn)
    moved = 5.0 * layer.blocks * h + 3.0 * ops.mixer_width(layer) + outputs * width
    mixer = Traced(
        module="layers.{}",
        products=tuple(products),
        cores=cores,
        scans=scans,
        moved=(0.0, moved),
        norms=layer.blocks,
        blocks=layer.blocks,
        launches=40,
    )
    biases = layer.mixer.params(h) - layer.mixer.matmul_params(h)
    biases += 0 if is_moe else layer.ffn.params(h) - layer.ffn.matmul_params(h)
    if biases:
        mixer = replace(mixer, products=(replace(products[0], biases=biases), *products[1:]))
    return replace(layer, mixer=mixer, ffn=layer.ffn if is_moe else NO_FFN)


def traced_model(model: Model) -> Model:
    """The model with every layer as it would be captured."""
    return replace(model, layers=tuple(traced_of(layer) for layer in model.layers))
