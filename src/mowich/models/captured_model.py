"""The `Model` of what was captured from code: by its config where that says the same, else layer by layer (`fold`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from mowich.errors import UserError
from mowich.models.captured import Captured, CapturedLayer, CapturedProduct, read_captured
from mowich.models.config import model_from_config
from mowich.models.fold import COMPARED_TOKENS, layers_of, rows_per_sequence, traced_of
from mowich.models.model import FROM_CODE, Layer, Model
from mowich.models.traced import EACH_TOKEN, Traced

_SAME = 1e-3
"""Share by which forward FLOP of a config's model may differ from the code's: counts of recurrences differ so much."""
_NEAR = 1e-2
"""Share up to which the difference is told and the config still counts; above it, the code counts."""
_TOLD = 3
"""Modules that a doubt names."""


def model_from_captured(data: Mapping[str, object], *, where: str, source: str = "") -> Model:
    """The Model of a parsed captured file; `where` names it in errors. Raises UserError as `read_captured` does, and
    for a capture whose FLOP cannot be known."""
    return replace(model_of_code(read_captured(data, where), where), source=source)


def model_of_code(captured: Captured, where: str = "") -> Model:
    """The Model of a record. Units: counts. Raises UserError where its FLOP cannot be known.

    The model of its config is taken where that has the same parameters and FLOP (0.1%). Else each layer is one of ours
    where its products say so exactly, else `Traced`.
    """
    _refuse(captured, where)
    captured = captured if captured.layers else _one_layer(captured)
    layers = layers_of(captured.layers)
    head, outside = _outside(captured)
    parts = captured.components
    is_text = captured.kind in ("decoder", "encoder")
    matrices = _matrices(outside) if is_text else None
    outside = outside if matrices is None else None
    final = parts.other if outside is None and not matrices and parts.other <= 2 * captured.hidden else 0
    vocab = captured.vocab if head is not None else 0
    rows, rest = divmod(parts.embedding - vocab * captured.hidden, captured.hidden) if vocab else (0, 0)
    by_code = Model(
        name=captured.name,
        architecture=FROM_CODE,
        hidden=captured.hidden,
        vocab=vocab,
        layers=layers,
        tied_embeddings=captured.tied,
        learned_positions=rows if rows > 0 and not rest else 0,
        embedding_params=parts.embedding,
        head_params=parts.head,
        final_norm_params=final,
        other_params=parts.other - final,
        other_matmul_params=matrices or 0,
        max_seq=captured.max_seq or 0,
        pattern=captured.pattern,
        outside=outside,
        captured=captured,
        doubts=tuple(dict.fromkeys(_doubts(captured))),  # kinds of layers may share one
        remarks=tuple(_remarks(captured, layers)),
    )
    by_config, said = _by_config(captured, by_code)
    if by_config is not None:
        return replace(by_config, captured=captured, remarks=said)
    if is_text:
        return replace(by_code, doubts=(*said, *by_code.doubts))
    return replace(by_code, remarks=(*said, *by_code.remarks))


def _one_layer(captured: Captured) -> Captured:
    """The record of a module without repeats: everything but its head is one layer."""
    head = _head(captured)
    once, parts = captured.outside, captured.components
    layer = replace(once, products=tuple(p for p in once.products if p is not head), params=parts.other)
    rest = replace(
        once, products=() if head is None else (head,), cores=(), experts=(), scans=(), params=once.params - parts.other
    )
    components = replace(parts, layers=parts.other, other=0)
    return replace(captured, layers=(layer,), pattern=(0,), outside=rest, components=components)


def _refuse(captured: Captured, where: str) -> None:
    """Raises UserError for what leaves no count to trust."""
    for at, layer in (
        *((f"layers.{i}", layer) for i, layer in enumerate(captured.layers)),
        ("outside", captured.outside),
    ):
        for i, scan in enumerate(layer.scans):
            if not any(scan.flop):
                raise UserError(
                    f"the FLOP of {scan.module}, a scan of kind {scan.kind}, are not known",
                    where=f"{where} {at}.scans.{i}.flop".strip(),
                    allowed="a model whose scans were recognised",
                )


def _head(captured: Captured) -> CapturedProduct | None:
    """The product of the hidden state with each word of the vocabulary."""
    shape = (captured.vocab, captured.hidden)
    return next((p for p in captured.outside.products if (p.n, p.k) == shape), None)


def _outside(captured: Captured) -> tuple[CapturedProduct | None, Traced | None]:
    """The product of the head, and the rest of what runs once; None where there is no more than lookups and norms."""
    layer, head = captured.outside, _head(captured)
    rest: CapturedLayer = replace(layer, products=tuple(p for p in layer.products if p is not head))
    mixer = traced_of(rest)
    return head, mixer if mixer.products or mixer.cores or mixer.scans else None


def _matrices(outside: Traced | None) -> int | None:
    """Weights of what runs once where it is only matrices that each token uses once; None where it is more."""
    if outside is None:
        return 0
    plain = all(p.rows == EACH_TOKEN and p.is_weight and not p.is_shared for p in outside.products)
    return None if outside.cores or outside.scans or not plain else outside.matmul_params(0)


def _by_config(captured: Captured, by_code: Model) -> tuple[Model | None, tuple[str, ...]]:
    """The model of the config behind a capture where both say the same, and what to tell."""
    if captured.config is None:
        return None, ()
    try:
        model = model_from_config(captured.config, name=captured.name, where="config")
    except UserError:
        return None, ()  # an architecture that only its code describes
    if model.params != captured.params:
        return None, (
            f"its code has {captured.params:,} parameters and its config.json says {model.params:,}: the code is taken",
        )
    share = max((_flop_ratio(by_code, model, seq) - 1.0 for seq in COMPARED_TOKENS), key=abs)
    if abs(share) <= _SAME:
        return model, ()
    # code of sparse attention computes every score, and leaves out those that are not chosen
    is_sparse = any(layer.attention.indexer or layer.attention.compressor for layer in model.layers)
    products = max(abs(_flop_ratio(by_code, model, seq, products=True) - 1.0) for seq in COMPARED_TOKENS)
    said = f"its code computes {abs(share):.1%} {'more' if share > 0 else 'less'} than its config.json says"
    if abs(share) <= _NEAR or (is_sparse and products <= _SAME):
        return model, (f"{said}, which is taken",)
    return None, (f"{said}: the code is taken",)


def _flop_ratio(by_code: Model, by_config: Model, seq: float, *, products: bool = False) -> float:
    """Forward FLOP of the code over those of the config; products: those of matrices of weights alone."""
    code, config = (
        m.flop_per_token(seq) - (m.attention_flop_per_token(seq) if products else 0.0) for m in (by_code, by_config)
    )
    return code / config


def _doubts(captured: Captured) -> Iterator[str]:
    """Why its counts may be wrong, a line each."""
    every = (*captured.layers, captured.outside)
    for e in (e for layer in every for e in layer.experts if e.run == "all"):
        yield f"its code runs all {e.number} experts of {e.module} for each token, and {e.top_k} are counted"
    if captured.not_understood:
        what = _named([f"{n.what} in {n.module or 'the model'} ({n.why})" for n in captured.not_understood])
        yield f"not understood and in no count: {what}"
    if captured.reads:
        what = _named([f"{r.what} in {r.module or 'the model'} at {r.where}" for r in captured.reads])
        yield f"its code reads values, so other inputs may run other work: {what}"
    scans = sorted({s.module for layer in every for s in layer.scans if s.kind == "other"})
    if scans:
        yield f"scans of a kind that is not known: {_named(scans)}"
    across = sorted({c.module for layer in every for c in layer.cores if any((c.keys[1], c.keys[3]))})
    if across:
        yield f"attention over the whole batch, counted as within a sequence: {_named(across)}"


def _named(items: list[str]) -> str:
    """The first few, and how many more.

    >>> _named(["a", "b", "c", "d"])
    'a; b; c; 1 more'
    """
    more = len(items) - _TOLD
    return "; ".join([*items[:_TOLD], *([f"{more} more"] if more > 0 else [])])


def _remarks(captured: Captured, layers: tuple[Layer, ...]) -> Iterator[str]:
    """What else to tell: weights that every device holds whole, work that is counted more often than it runs."""
    pairs = zip(captured.layers, layers, strict=True)
    traced = [layer for layer, form in pairs if isinstance(form.mixer, Traced)]
    unknown = sum(layer.count for layer in traced for p in layer.products if p.role == "unknown")
    total = sum(layer.count for layer in traced for p in layer.products if p.weight is not None)
    if unknown:
        yield f"how {unknown} of {total} matrices split is not known: each device holds them whole"
    once = [f"{layer.module}.{p.module}" for layer in traced for p in layer.products if p.rows[0] > 0 or p.rows[2] > 0]
    if once:
        yield f"work that does not grow with the batch is counted for each sequence: {_named(once)}"
    sizes = [p.rows for layer in captured.layers for p in layer.products]
    if sizes and not any(c or d for _, _, c, d in sizes):
        yield "an item has a fixed number of rows, whatever its tokens"
    head = _head(captured)
    if head is not None and rows_per_sequence(head.rows) != EACH_TOKEN:
        yield "its head runs for some tokens only, and is counted for each"
