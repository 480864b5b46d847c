"""What was captured of a model's code (`mowich/captured@1`): the record, and how it is read.

The file is written by `python -m mowich.capture` on another machine, so nothing in it is trusted: each key, type and
bound is checked against the records below, then the sums that hold between numbers, then the digest of the whole. What
is wrong is one line with its place in the JSON. `fold` makes the `Model`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Literal

from mowich.errors import UserError
from mowich.readback import FieldReader, Most, WholeBounds, place_in

_FORM = "mowich/captured@"
CAPTURED_SCHEMA = f"{_FORM}1"
MAX_CAPTURED_BYTES = 100_000
"""Largest file: a hundred layers of one kind are one row, so none has a tenth of it."""

_AGAIN = "capture it again with python -m mowich.capture"

_SIZE = 10**9
_SUM = 10**15
_Size = Annotated[int, WholeBounds(1, _SIZE)]
_Count = Annotated[int, WholeBounds(0, _SIZE)]
_Total = Annotated[int, WholeBounds(0, _SUM)]
_Coefficient = Annotated[int, WholeBounds(-_SUM, _SUM)]
_Name = Annotated[str, Most(300)]
_Words = Annotated[str, Most(1000)]

CapturedKind = Literal["decoder", "encoder", "encoder-decoder", "vision-language", "speech", "diffusion", "module"]
CapturedRole = Literal["column", "row", "vocabulary", "experts", "replicated", "unknown"]
ScanKind = Literal["mamba2", "mamba", "gdn", "kda", "lightning", "rwkv", "other"]

CapturedDimension = tuple[_Coefficient, _Coefficient, _Coefficient, _Coefficient]
"""(a, b, c, d): a + b batch + c tokens + d batch tokens."""


def sizeplace_in(dimension: CapturedDimension, batch: int, tokens: int) -> int:
    """The size of a dimension in a pass of `batch` sequences of `tokens` tokens.

    >>> sizeplace_in((1, 0, 2, 3), 2, 128)
    1025
    """
    a, b, c, d = dimension
    return a + b * batch + c * tokens + d * batch * tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedProduct:
    """One weight and what is multiplied with it; weight None: two activations. rows: of one use, summed over the
    batch; times: uses in a layer; shared: whether the weight is counted elsewhere already."""

    module: _Name
    weight: _Name | None
    n: _Size
    k: _Size
    rows: CapturedDimension
    role: CapturedRole
    biases: _Count
    times: _Size
    shared: bool

    @property
    def params(self) -> int:
        """Weights that it adds to its layer, biases among them."""
        return self.biases + (0 if self.shared or self.weight is None else self.n * self.k)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedLatent:
    """Widths of what latent attention caches."""

    kv_lora: _Size
    rope: _Count


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedCore:
    """One attention core. masked: by a dense mask that is not the causal one; eager: the user's code writes scores;
    kept: keys that a query attends to at most, chosen by their scores (None: all)."""

    module: _Name
    heads: _Size
    kv_heads: _Size
    qk: _Count
    v: _Count
    sequences: CapturedDimension
    queries: CapturedDimension
    keys: CapturedDimension
    causal: bool
    window: _Size | None
    chunked: bool
    sinks: bool
    masked: bool
    cached: bool
    eager: bool
    latent: CapturedLatent | None
    kept: _Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedExperts:
    """Routed experts that were taken whole. width: that they read and write; rows: tokens that are routed; biases: of
    all experts together; run: whether the code runs the chosen experts of a token, or all."""

    module: _Name
    number: _Size
    top_k: _Size
    ffn: _Size
    width: _Size
    gated: bool
    biases: _Total
    rows: CapturedDimension
    params: _Total
    run: Literal["chosen", "all"]
    groups: _Size
    top_groups: _Size

    @property
    def matrices(self) -> int:
        """Weights of the matrices of all experts."""
        return self.number * (3 if self.gated else 2) * self.width * self.ffn


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedScan:
    """A recurrence that was taken whole. flop: forward, of the pass; elements: kept of one sequence."""

    module: _Name
    kind: ScanKind
    heads: _Size
    head_dim: _Size
    groups: _Size
    state: _Size
    conv: _Count
    flop: CapturedDimension
    state_elements: _Total
    conv_elements: _Total


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedLayer:
    """A kind of layer, or what runs once. params: of one; moved, moved_eager: elements that passes between products
    read and write."""

    module: _Name
    # the key is a word of Python
    class_: _Name
    count: _Size
    params: _Total
    hidden: _Size
    blocks: _Count
    products: Annotated[tuple[CapturedProduct, ...], Most(2000)]
    cores: Annotated[tuple[CapturedCore, ...], Most(200)]
    experts: Annotated[tuple[CapturedExperts, ...], Most(50)]
    scans: Annotated[tuple[CapturedScan, ...], Most(50)]
    cached_elements: _Total
    moved: CapturedDimension
    moved_eager: CapturedDimension
    norms: _Count
    launches: _Count


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedComponents:
    """Parameters by component."""

    embedding: _Total
    head: _Total
    layers: _Total
    other: _Total


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionLatent:
    """How an image or a clip becomes tokens; None where it is not known. patch: (time, height, width); vae_...:
    pixels, or frames, of one latent element; causal_frames: the first frame is encoded alone; branches: passes of a
    step."""

    patch: tuple[_Size, _Size, _Size] | None
    vae_spatial: _Size | None
    vae_temporal: _Size | None
    causal_frames: bool | None
    text_tokens: _Count | None
    branches: Annotated[int, WholeBounds(1, 2)] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedRead:
    """A value that the code read while it ran: what follows from it may be otherwise with other inputs."""

    module: _Name
    what: _Name
    where: _Name
    count: _Size


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUnderstood:
    """An operation that is in no count."""

    module: _Name
    what: _Name
    why: _Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A model as it was captured. hidden: width of what flows between layers; pattern: index into `layers` of every
    layer in order; outside: what runs once; config: the `config.json` behind it.

    Units: counts.

    Example: `load_model("my_model.json").captured`.
    """

    schema: Literal["mowich/captured@1"]
    name: _Name
    source: _Words
    kind: CapturedKind
    versions: Annotated[Mapping[str, _Name], Most(50)]
    probes: Annotated[tuple[tuple[_Size, _Size], ...], Most(20)]
    checked: tuple[_Size, _Size]
    inputs: Annotated[Mapping[str, tuple[CapturedDimension, ...]], Most(50)]
    hidden: _Size
    vocab: _Count
    tied: bool
    max_seq: _Count | None
    params: _Total
    components: CapturedComponents
    layers: Annotated[tuple[CapturedLayer, ...], Most(1000)]
    pattern: Annotated[tuple[_Count, ...], Most(10_000)]
    outside: CapturedLayer
    mtp: None
    latent: DiffusionLatent | None
    config: Mapping[str, object] | None
    reads: Annotated[tuple[CapturedRead, ...], Most(500)]
    not_understood: Annotated[tuple[NotUnderstood, ...], Most(500)]
    notes: Annotated[tuple[_Words, ...], Most(100)]
    digest: _Name


def digest_of(data: Mapping[str, object]) -> str:
    """SHA-256 of the canonical JSON without its digest: sorted keys, no spaces, ASCII.

    >>> digest_of({"b": 1, "a": [2]})[:8] == digest_of({"a": [2], "b": 1, "digest": "x"})[:8]
    True
    """
    return sha256(_canonical({key: value for key, value in data.items() if key != "digest"})).hexdigest()


def _canonical(data: Mapping[str, object]) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def read_captured(data: Mapping[str, object], where: str) -> Captured:
    """The record of a JSON object; `where` names the file in errors. Raises UserError, or UserErrors, for another form,
    a file above 100,000 bytes, an unknown or missing key, a wrong type, a number out of its bounds, sums that do not
    hold, and a file that was changed after it was captured: each with its place in the JSON."""
    schema = data.get("schema")
    if schema != CAPTURED_SCHEMA:
        is_later = isinstance(schema, str) and schema.startswith(_FORM)
        raise UserError(
            "captured in a form that this version does not read" if is_later else "was not captured from a model",
            where=place_in(where, "schema"),
            given=schema,
            allowed=CAPTURED_SCHEMA,
            fix=f"update mowich, or {_AGAIN} of this version" if is_later else None,
        )
    try:
        size = len(_canonical(data))
    except ValueError:
        raise UserError("holds a number that is not finite", where=where, fix=_AGAIN) from None
    if size > MAX_CAPTURED_BYTES:
        raise UserError(
            f"a captured model of {size:,} bytes",
            where=where,
            allowed=f"up to {MAX_CAPTURED_BYTES:,}",
            fix="leave its config out",
        )
    reader = FieldReader(where=where, fix=_AGAIN)
    captured = reader.record(Captured, data, "")
    reader.stop()
    assert isinstance(captured, Captured)
    for at, what, given, allowed in _wrong_sums(captured):
        reader.wrong(at, what, given=given, allowed=allowed)
    reader.stop()
    if captured.digest != digest_of(data):
        raise UserError(
            "the file was changed after it was captured: the digest is not that of what it holds",
            where=place_in(where, "digest"),
            given=captured.digest,
            fix=_AGAIN,
        )
    return captured


_Wrong = Iterator[tuple[str, str, object, str]]
"""Key, what is wrong, given, allowed."""


def _wrong_sums(c: Captured) -> _Wrong:
    """What does not fit together."""
    parts = c.components
    total = parts.embedding + parts.head + parts.layers + parts.other
    if c.params != total:
        yield "params", "is not the sum of its components", c.params, f"{total}"
    inner = sum(layer.count * layer.params for layer in c.layers)
    if parts.layers != inner:
        yield "components.layers", "is not the sum over layers of count x params", parts.layers, f"{inner}"
    if c.outside.params != c.params - parts.layers:
        allowed = f"{c.params - parts.layers}, the components beside layers"
        yield "outside.params", "does not fit the components", c.outside.params, allowed
    if c.outside.count != 1:
        yield "outside.count", "runs once", c.outside.count, "1"
    counts = Counter(c.pattern)
    for i, layer in enumerate(c.layers):
        in_pattern = counts.pop(i, 0)
        if layer.count != in_pattern:
            yield f"layers.{i}.count", "is not how often the pattern has it", layer.count, f"{in_pattern}"
    if counts:
        yield "pattern", "names a kind of layer that is not listed", max(counts), f"0 to {len(c.layers) - 1}"
    every = [*((f"layers.{i}", layer) for i, layer in enumerate(c.layers)), ("outside", c.outside)]
    if not any(layer.products or layer.experts for _, layer in every):
        yield "layers", "compute nothing", 0, "1 product and more"
    for at, layer in every:
        yield from _below(at, _wrong_layer(layer, (*c.probes, c.checked)))


def _wrong_layer(layer: CapturedLayer, probes: Sequence[tuple[int, int]]) -> _Wrong:
    """probes: (batch, tokens) of passes."""
    least = sum(p.params for p in layer.products) + sum(e.params for e in layer.experts)
    if layer.params < least:
        yield "params", "is below that of its products and experts", layer.params, f"{least} and above"
    for key, dimension in _dimensions(layer):
        _, b, c, d = dimension
        slopes = (d, c + d, *(b + d * tokens for _, tokens in probes))
        if min(*slopes, *(sizeplace_in(dimension, *probe) for probe in probes)) < 0:
            yield key, "falls with batch or tokens, or is below 0", str(list(dimension)), "0 and above"
    for i, core in enumerate(layer.cores):
        yield from _below(f"cores.{i}", _wrong_core(core))
    for i, experts in enumerate(layer.experts):
        yield from _below(f"experts.{i}", _wrong_experts(experts))


def _below(at: str, problems: _Wrong) -> _Wrong:
    """Problems with the place that they are below."""
    return ((f"{at}.{key}", what, given, allowed) for key, what, given, allowed in problems)


def _wrong_core(core: CapturedCore) -> _Wrong:
    if core.heads % core.kv_heads:
        yield "kv_heads", "does not divide the heads", core.kv_heads, f"a divisor of {core.heads} heads"
    if core.chunked and core.window is None:
        yield "window", "is the size of a chunk", "null", "a number where chunked is true"
    if core.latent and core.latent.rope > core.qk:
        yield "latent.rope", "is wider than a head", core.latent.rope, f"0 to {core.qk}"


def _wrong_experts(e: CapturedExperts) -> _Wrong:
    whole = e.matrices + e.biases
    if e.params != whole:
        yield "params", "does not fit the experts' sizes", e.params, f"{whole}, from their sizes"
    if e.top_k > e.number:
        yield "top_k", "is above the number of experts", e.top_k, f"1 to {e.number}"
    if e.number % e.groups:
        yield "groups", "does not divide the experts", e.groups, f"a divisor of {e.number}"
    if e.top_groups > e.groups:
        yield "top_groups", "is above the groups", e.top_groups, f"1 to {e.groups}"


def _dimensions(layer: CapturedLayer) -> Iterator[tuple[str, CapturedDimension]]:
    """Every dimension of a layer with its place."""
    yield "moved", layer.moved
    yield "moved_eager", layer.moved_eager
    for i, p in enumerate(layer.products):
        yield f"products.{i}.rows", p.rows
    for i, core in enumerate(layer.cores):
        yield f"cores.{i}.sequences", core.sequences
        yield f"cores.{i}.queries", core.queries
        yield f"cores.{i}.keys", core.keys
    for i, e in enumerate(layer.experts):
        yield f"experts.{i}.rows", e.rows
    for i, scan in enumerate(layer.scans):
        yield f"scans.{i}.flop", scan.flop
