"""What was captured of a model's code (`mowich/captured@1`): the record, and how it is read.

The file is written by `python -m mowich.capture` on another machine, so nothing in it is trusted: each key, type and
bound is checked against the records below, then the sums that hold between numbers, then the digest of the whole. What
is wrong is one line with its place in the JSON. `fold` makes the `Model`.
"""

from __future__ import annotations

import json
import types
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from mowich.errors import UserError, UserErrors, did_you_mean, shorten

FORM = "mowich/captured@"
SCHEMA = f"{FORM}1"
MAX_BYTES = 100_000
"""Largest file: a hundred layers of one kind are one row, so none has a tenth of it."""

_TOLD = 5
"""Problems that are told at once."""
_AGAIN = "capture it again with python -m mowich.capture"


@dataclass(frozen=True, slots=True)
class _Whole:
    """Bounds of a whole number."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class _Most:
    """Characters of a text, or entries of a list, at most."""

    number: int


_SIZE = 10**9
_SUM = 10**15
Size = Annotated[int, _Whole(1, _SIZE)]
Count = Annotated[int, _Whole(0, _SIZE)]
Total = Annotated[int, _Whole(0, _SUM)]
Coefficient = Annotated[int, _Whole(-_SUM, _SUM)]
Name = Annotated[str, _Most(200)]
Words = Annotated[str, _Most(1000)]

Kind = Literal["decoder", "encoder", "encoder-decoder", "vision-language", "speech", "diffusion", "module"]
CapturedRole = Literal["column", "row", "vocabulary", "experts", "replicated", "unknown"]
ScanKind = Literal["mamba2", "mamba", "gdn", "kda", "lightning", "rwkv", "other"]

Dimension = tuple[Coefficient, Coefficient, Coefficient, Coefficient]
"""(a, b, c, d): a + b batch + c tokens + d batch tokens."""


def size_at(dimension: Dimension, batch: int, tokens: int) -> int:
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

    module: Name
    weight: Name | None
    n: Size
    k: Size
    rows: Dimension
    role: CapturedRole
    biases: Count
    times: Size
    shared: bool

    @property
    def params(self) -> int:
        """Weights that it adds to its layer, biases among them."""
        return self.biases + (0 if self.shared or self.weight is None else self.n * self.k)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedLatent:
    """Widths of what latent attention caches."""

    kv_lora: Size
    rope: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedCore:
    """One attention core. masked: by a dense mask that is not the causal one; eager: the user's code writes scores."""

    module: Name
    heads: Size
    kv_heads: Size
    qk: Size
    v: Size
    sequences: Dimension
    queries: Dimension
    keys: Dimension
    causal: bool
    window: Size | None
    chunked: bool
    sinks: bool
    masked: bool
    cached: bool
    eager: bool
    latent: CapturedLatent | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedExperts:
    """Routed experts that were taken whole. width: that they read and write; rows: tokens that are routed; biases: of
    all experts together; run: whether the code runs the chosen experts of a token, or all."""

    module: Name
    number: Size
    top_k: Size
    ffn: Size
    width: Size
    gated: bool
    biases: Total
    rows: Dimension
    params: Total
    run: Literal["chosen", "all"]
    groups: Size
    top_groups: Size

    @property
    def matrices(self) -> int:
        """Weights of the matrices of all experts."""
        return self.number * (3 if self.gated else 2) * self.width * self.ffn


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedScan:
    """A recurrence that was taken whole. flop: forward, of the pass; elements: kept of one sequence."""

    module: Name
    kind: ScanKind
    heads: Size
    head_dim: Size
    groups: Size
    state: Size
    conv: Count
    flop: Dimension
    state_elements: Total
    conv_elements: Total


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedLayer:
    """A kind of layer, or what runs once. params: of one; moved, moved_eager: elements that passes between products
    read and write."""

    module: Name
    # the key is a word of Python
    class_: Name
    count: Size
    params: Total
    hidden: Size
    blocks: Count
    products: Annotated[tuple[CapturedProduct, ...], _Most(2000)]
    cores: Annotated[tuple[CapturedCore, ...], _Most(200)]
    experts: Annotated[tuple[CapturedExperts, ...], _Most(50)]
    scans: Annotated[tuple[CapturedScan, ...], _Most(50)]
    cached_elements: Total
    moved: Dimension
    moved_eager: Dimension
    norms: Count
    launches: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedComponents:
    """Parameters by component."""

    embedding: Total
    head: Total
    layers: Total
    other: Total


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionLatent:
    """How an image or a clip becomes tokens; None where it is not known. patch: (time, height, width); vae_...:
    pixels, or frames, of one latent element; causal_frames: the first frame is encoded alone; branches: passes of a
    step."""

    patch: tuple[Size, Size, Size] | None
    vae_spatial: Size | None
    vae_temporal: Size | None
    causal_frames: bool | None
    text_tokens: Count | None
    branches: Annotated[int, _Whole(1, 2)] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedRead:
    """A value that the code read while it ran: what follows from it may be otherwise with other inputs."""

    module: Name
    what: Name
    where: Name
    count: Size


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUnderstood:
    """An operation that is in no count."""

    module: Name
    what: Name
    why: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A model as it was captured. hidden: width of what flows between layers; pattern: index into `layers` of every
    layer in order; outside: what runs once; config: the `config.json` behind it.

    Units: counts.

    Example: `load_model("my_model.json").captured`.
    """

    schema: Literal["mowich/captured@1"]
    name: Name
    source: Words
    kind: Kind
    versions: Annotated[Mapping[str, Name], _Most(50)]
    probes: Annotated[tuple[tuple[Size, Size], ...], _Most(20)]
    checked: tuple[Size, Size]
    inputs: Annotated[Mapping[str, tuple[Dimension, ...]], _Most(50)]
    hidden: Size
    vocab: Count
    tied: bool
    max_seq: Count
    params: Total
    components: CapturedComponents
    layers: Annotated[tuple[CapturedLayer, ...], _Most(1000)]
    pattern: Annotated[tuple[Count, ...], _Most(10_000)]
    outside: CapturedLayer
    mtp: None
    latent: DiffusionLatent | None
    config: Mapping[str, object] | None
    reads: Annotated[tuple[CapturedRead, ...], _Most(500)]
    not_understood: Annotated[tuple[NotUnderstood, ...], _Most(500)]
    notes: Annotated[tuple[Words, ...], _Most(100)]
    digest: Name

    def to_dict(self) -> dict[str, object]:
        """The JSON object that it was read from."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {("class" if key == "class_" else key): _plain(x) for key, x in value.items()}
    return [_plain(x) for x in value] if isinstance(value, list | tuple) else value


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
    if schema != SCHEMA:
        is_later = isinstance(schema, str) and schema.startswith(FORM)
        raise UserError(
            "captured in a form that this version does not read" if is_later else "was not captured from a model",
            where=_at(where, "schema"),
            given=schema,
            allowed=SCHEMA,
            fix=f"update mowich, or {_AGAIN} of this version" if is_later else None,
        )
    try:
        size = len(_canonical(data))
    except ValueError:
        raise UserError("holds a number that is not finite", where=where, fix=_AGAIN) from None
    if size > MAX_BYTES:
        raise UserError(
            f"a captured model of {size:,} bytes",
            where=where,
            allowed=f"up to {MAX_BYTES:,}",
            fix="leave its config out",
        )
    reader = _RecordReader(where)
    captured: Captured = reader.record(Captured, data, "")
    reader.stop()
    for error in _wrong_sums(captured, where):
        reader.errors.append(error)
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


@cache
def _hints(kind: type) -> dict[str, Any]:
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

    def wrong(self, at: str, what: str, given: object = None, **more: Any) -> Any:
        """Collect one problem; what is read instead is None."""
        given = shorten(json.dumps(given)) if isinstance(given, list | Mapping) else given
        self.errors.append(UserError(what, where=_at(self.where, at), given=given, **more))
        return None

    def record(self, kind: type, value: object, at: str) -> Any:
        """A record of that kind."""
        if not isinstance(value, Mapping):
            return self.wrong(at, "must be a mapping", value)
        hints = _hints(kind)
        found = len(self.errors)
        for key in value:
            if key not in hints:
                fix = did_you_mean(str(key), hints)
                self.wrong(f"{at}.{key}".lstrip("."), "unknown key", allowed=sorted(hints), fix=fix)
        read = {}
        for key, hint in hints.items():
            path = f"{at}.{key}".lstrip(".")
            if key not in value:
                self.wrong(path, "missing key", fix=_AGAIN)
            else:
                read[key if key != "class" else "class_"] = self.value(hint, value[key], path)
        return None if len(self.errors) > found else kind(**read)

    def value(self, hint: Any, value: object, at: str) -> Any:
        """A value of any type that a record has."""
        bounds: Any = None
        if get_origin(hint) is Annotated:
            hint, bounds = get_args(hint)
        origin, inner = get_origin(hint), get_args(hint)
        if hint is types.NoneType:
            return None if value is None else self.wrong(at, "must be null", value)
        if origin in (Union, types.UnionType):
            return None if value is None else self.value(inner[0], value, at)
        if is_dataclass(hint):
            return self.record(hint, value, at)  # type: ignore[arg-type]
        if origin is Literal:
            return value if value in inner else self.wrong(at, "is none of these", value, allowed=inner)
        if hint is bool:
            return value if isinstance(value, bool) else self.wrong(at, "must be true or false", value)
        if hint is int:
            return self._whole(bounds, value, at)
        if hint is str:
            return self._text(bounds.number, value, at)
        if origin is tuple:
            return self._list(inner, bounds, value, at)
        return self._mapping(inner[1], bounds, value, at)

    def _whole(self, bounds: _Whole, value: object, at: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int) or not bounds.low <= value <= bounds.high:
            return self.wrong(at, "must be a whole number", value, allowed=f"{bounds.low} to {bounds.high}")
        return value

    def _text(self, most: int, value: object, at: str) -> Any:
        if not isinstance(value, str):
            return self.wrong(at, "must be a text", value)
        if len(value) > most or not value.isprintable():
            return self.wrong(at, "must be one printable line", value, allowed=f"up to {most} characters")
        return value

    def _list(self, inner: tuple[Any, ...], bounds: _Most | None, value: object, at: str) -> Any:
        if not isinstance(value, list | tuple):
            return self.wrong(at, "must be a list", value)
        is_open = len(inner) == 2 and inner[1] is Ellipsis
        most = bounds.number if bounds else 50 if is_open else len(inner)
        if len(value) > most or (not is_open and len(value) < most):
            allowed = f"up to {most}" if is_open else f"{most}"
            return self.wrong(at, "has another number of entries", len(value), allowed=allowed)
        kinds = [inner[0]] * len(value) if is_open else inner
        return tuple(self.value(k, x, f"{at}.{i}") for i, (k, x) in enumerate(zip(kinds, value, strict=True)))

    def _mapping(self, kind: Any, bounds: _Most | None, value: object, at: str) -> Any:
        if not isinstance(value, Mapping):
            return self.wrong(at, "must be a mapping", value)
        if bounds is None:  # a config, which its own reader checks
            return value
        if len(value) > bounds.number:
            return self.wrong(at, "has too many keys", len(value), allowed=f"up to {bounds.number}")
        for key in value:
            self._text(200, key, at)
        return {key: self.value(kind, x, f"{at}.{key}") for key, x in value.items()}


def _wrong_sums(c: Captured, where: str) -> Iterator[UserError]:
    """What does not fit together."""

    def wrong(at: str, what: str, given: object, allowed: str) -> UserError:
        return UserError(what, where=_at(where, at), given=given, allowed=allowed)

    parts = c.components
    total = parts.embedding + parts.head + parts.layers + parts.other
    if c.params != total:
        yield wrong("params", "is not the sum of its components", c.params, f"{total}")
    inner = sum(layer.count * layer.params for layer in c.layers)
    if parts.layers != inner:
        yield wrong("components.layers", "is not the sum over layers of count x params", parts.layers, f"{inner}")
    if c.outside.params != c.params - parts.layers:
        allowed = f"{c.params - parts.layers}, the components beside layers"
        yield wrong("outside.params", "does not fit the components", c.outside.params, allowed)
    if c.outside.count != 1:
        yield wrong("outside.count", "runs once", c.outside.count, "1")
    counts = Counter(c.pattern)
    for i, layer in enumerate(c.layers):
        in_pattern = counts.pop(i, 0)
        if layer.count != in_pattern:
            yield wrong(f"layers.{i}.count", "is not how often the pattern has it", layer.count, f"{in_pattern}")
    if counts:
        yield wrong("pattern", "names a kind of layer that is not listed", max(counts), f"0 to {len(c.layers) - 1}")
    if not any(layer.products or layer.experts for layer in (*c.layers, c.outside)):
        yield UserError("computes nothing: it has no product", where=_at(where, "layers"))
    for at, layer in [*((f"layers.{i}", layer) for i, layer in enumerate(c.layers)), ("outside", c.outside)]:
        least = sum(p.params for p in layer.products) + sum(e.params for e in layer.experts)
        if layer.params < least:
            allowed = f"{least} and above"
            yield wrong(f"{at}.params", "is below that of its products and experts", layer.params, allowed)
        for name, dimension in _dimensions(layer):
            low = min((size_at(dimension, *probe) for probe in (*c.probes, c.checked)), default=0)
            if low < 0 or min(dimension[1:]) < 0:
                yield wrong(f"{at}.{name}", "falls with batch or tokens, or is below 0", list(dimension), "0 and above")
        for i, core in enumerate(layer.cores):
            for key, what, given, allowed in _wrong_core(core):
                yield wrong(f"{at}.cores.{i}.{key}", what, given, allowed)
        for i, experts in enumerate(layer.experts):
            for key, what, given, allowed in _wrong_experts(experts):
                yield wrong(f"{at}.experts.{i}.{key}", what, given, allowed)


_Wrong = Iterator[tuple[str, str, object, str]]
"""Key, what is wrong, given, allowed."""


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


def _dimensions(layer: CapturedLayer) -> Iterator[tuple[str, Dimension]]:
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
