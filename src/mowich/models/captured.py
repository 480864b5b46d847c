"""What was captured of a model's code (`mowich/captured@1`): the record, and how it is read.

The file is written by `python -m mowich.capture` on another machine, so nothing in it is trusted: each key, type and
bound is checked against the records below, then the sums that hold between numbers, then the digest of the whole. What
is wrong is one line with its place in the JSON. `fold` makes the `Model`.
"""

from __future__ import annotations

import json
import types
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, Literal, Union, Unpack, get_args, get_origin, get_type_hints

from mowich.errors import ErrorDetails, UserError, UserErrors, did_you_mean, shorten

_FORM = "mowich/captured@"
CAPTURED_SCHEMA = f"{_FORM}1"
MAX_CAPTURED_BYTES = 100_000
"""Largest file: a hundred layers of one kind are one row, so none has a tenth of it."""

_TOLD = 5
"""Problems that are told at once."""
_AGAIN = "capture it again with python -m mowich.capture"


@dataclass(frozen=True, slots=True)
class _Whole:
    """Bounds of a whole number."""

    low: int
    high: int

    def holds(self, value: int) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class _Most:
    """Characters of a text, or entries of a list, at most."""

    number: int


_SIZE = 10**9
_SUM = 10**15
_Size = Annotated[int, _Whole(1, _SIZE)]
_Count = Annotated[int, _Whole(0, _SIZE)]
_Total = Annotated[int, _Whole(0, _SUM)]
_Coefficient = Annotated[int, _Whole(-_SUM, _SUM)]
_Name = Annotated[str, _Most(300)]
_Words = Annotated[str, _Most(1000)]

CapturedKind = Literal["decoder", "encoder", "encoder-decoder", "vision-language", "speech", "diffusion", "module"]
CapturedRole = Literal["column", "row", "vocabulary", "experts", "replicated", "unknown"]
ScanKind = Literal["mamba2", "mamba", "gdn", "kda", "lightning", "rwkv", "other"]

CapturedDimension = tuple[_Coefficient, _Coefficient, _Coefficient, _Coefficient]
"""(a, b, c, d): a + b batch + c tokens + d batch tokens."""


def size_at(dimension: CapturedDimension, batch: int, tokens: int) -> int:
    """The size of a dimension in a pass of `batch` sequences of `tokens` tokens.

    >>> size_at((1, 0, 2, 3), 2, 128)
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
    products: Annotated[tuple[CapturedProduct, ...], _Most(2000)]
    cores: Annotated[tuple[CapturedCore, ...], _Most(200)]
    experts: Annotated[tuple[CapturedExperts, ...], _Most(50)]
    scans: Annotated[tuple[CapturedScan, ...], _Most(50)]
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
    branches: Annotated[int, _Whole(1, 2)] | None


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
    versions: Annotated[Mapping[str, _Name], _Most(50)]
    probes: Annotated[tuple[tuple[_Size, _Size], ...], _Most(20)]
    checked: tuple[_Size, _Size]
    inputs: Annotated[Mapping[str, tuple[CapturedDimension, ...]], _Most(50)]
    hidden: _Size
    vocab: _Count
    tied: bool
    max_seq: _Count | None
    params: _Total
    components: CapturedComponents
    layers: Annotated[tuple[CapturedLayer, ...], _Most(1000)]
    pattern: Annotated[tuple[_Count, ...], _Most(10_000)]
    outside: CapturedLayer
    mtp: None
    latent: DiffusionLatent | None
    config: Mapping[str, object] | None
    reads: Annotated[tuple[CapturedRead, ...], _Most(500)]
    not_understood: Annotated[tuple[NotUnderstood, ...], _Most(500)]
    notes: Annotated[tuple[_Words, ...], _Most(100)]
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
            where=_at(where, "schema"),
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
    reader = _RecordReader(where)
    captured = reader.record(Captured, data, "")
    reader.stop()
    assert isinstance(captured, Captured)
    for at, what, given, allowed in _wrong_sums(captured):
        reader.wrong(at, what, given=given, allowed=allowed)
    reader.stop()
    if captured.digest != digest_of(data):
        raise UserError(
            "the file was changed after it was captured: the digest is not that of what it holds",
            where=_at(where, "digest"),
            given=captured.digest,
            fix=_AGAIN,
        )
    return captured


def _at(where: str, path: str) -> str:
    return f"{where} {path}" if path else where


_TypeForm = Any
"""A type of a field, `int` or `Annotated[int, ...]`: Python has no type for that yet."""


@cache
def _hints(kind: type) -> dict[str, _TypeForm]:
    """Key -> type of a record."""
    hints = get_type_hints(kind, include_extras=True)
    return {f.name.rstrip("_"): hints[f.name] for f in fields(kind)}


class _RecordReader:
    """Reads plain data as records say it, and collects what is wrong. What is wrong becomes None, and is never used."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.errors: list[UserError] = []

    def stop(self) -> None:
        """Raise what was collected."""
        if self.errors:
            raise self.errors[0] if len(self.errors) == 1 else UserErrors(self.errors[:_TOLD])

    def wrong(self, at: str, what: str, **more: Unpack[ErrorDetails]) -> object:
        """Collect one problem; what is read instead is None."""
        given = more.get("given")
        if isinstance(given, list | Mapping):
            more["given"] = shorten(json.dumps(given))
        self.errors.append(UserError(what, where=_at(self.where, at), **more))
        return None

    def record(self, kind: type, value: object, at: str) -> object:
        """A record of that kind."""
        if not isinstance(value, Mapping):
            return self.wrong(at, "must be a mapping", given=value)
        hints = _hints(kind)
        found = len(self.errors)
        for key in value:
            if key not in hints:
                fix = did_you_mean(str(key), hints)
                self.wrong(f"{at}.{key}".lstrip("."), "unknown key", allowed=sorted(hints), fix=fix)
        read = {}
        for f in fields(kind):
            key = f.name.rstrip("_")
            path = f"{at}.{key}".lstrip(".")
            if key in value:
                read[f.name] = self.value(hints[key], value[key], path)
            elif f.default is MISSING:
                self.wrong(path, "missing key", fix=_AGAIN)
        return None if len(self.errors) > found else kind(**read)

    def value(self, hint: _TypeForm, value: object, at: str) -> object:
        """A value of any type that a record has."""
        bounds: Sequence[_TypeForm] = getattr(hint, "__metadata__", ())  # of Annotated
        hint = get_args(hint)[0] if bounds else hint
        origin: _TypeForm = get_origin(hint)
        inner = get_args(hint)
        if hint is types.NoneType:
            return None if value is None else self.wrong(at, "must be null", given=value)
        if origin in (Union, types.UnionType):
            return None if value is None else self.value(inner[0], value, at)
        if is_dataclass(hint):
            return self.record(hint, value, at)  # type: ignore[arg-type]
        if origin in (tuple, Mapping):
            return self._many(origin is tuple, inner, bounds[0].number if bounds else None, value, at)
        if origin is Literal:
            is_known = isinstance(value, str) and value in inner
            return value if is_known else self.wrong(at, "is none of these", given=value, allowed=inner)
        if hint is bool:
            return value if isinstance(value, bool) else self.wrong(at, "must be true or false", given=value)
        if hint is int:
            is_whole = isinstance(value, int) and not isinstance(value, bool) and bounds[0].holds(value)
            allowed = f"{bounds[0].low} to {bounds[0].high}"
            return value if is_whole else self.wrong(at, "must be a whole number", given=value, allowed=allowed)
        return self._text(bounds[0].number, value, at)

    def _text(self, most: int, value: object, at: str) -> object:
        if isinstance(value, str) and len(value) <= most and value.isprintable():
            return value
        allowed = f"up to {most} printable characters"
        return self.wrong(at, "must be a text of one line", given=value, allowed=allowed)

    def _many(self, is_list: bool, inner: Sequence[_TypeForm], most: int | None, value: object, at: str) -> object:
        """A list, of one kind or with a kind for each place; or a mapping, of a config that its own reader checks."""
        if not isinstance(value, list | tuple if is_list else Mapping):
            return self.wrong(at, "must be a list" if is_list else "must be a mapping", given=value)
        if most is not None and len(value) > most:
            return self.wrong(at, "has too many entries", given=len(value), allowed=f"up to {most}")
        if isinstance(value, Mapping):
            if most is None:
                return value
            for key in value:
                self._text(most, key, at)
            return {key: self.value(inner[1], x, f"{at}.{key}") for key, x in value.items()}
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(value):
            return self.wrong(at, "has another number of entries", given=len(value), allowed=f"{len(kinds)}")
        return tuple(self.value(k, x, f"{at}.{i}") for i, (k, x) in enumerate(zip(kinds, value, strict=True)))


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
        if min(*slopes, *(size_at(dimension, *probe) for probe in probes)) < 0:
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
