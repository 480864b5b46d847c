"""Encoders of images and of sound: what makes tokens of a picture or of a second of audio before a text model reads.

A config's `vision_config` or `audio_config` becomes an `Encoder`: layers with exact shapes, as a decoder has them,
that attend in both directions, and products before them (patches, convolutions) and behind them (merging of patches,
the projection to the text model's width). Each family is one row of `FAMILIES`: its reader, and how a picture is
resized and how many tokens it makes. What no row describes is refused by the name of its key: a wrong guess would look
like an answer. Numbers that no config holds (limits of pixels, of tiles) are facts: `serving.encoders.*`.
Structure and rules are those of transformers 5.24; parameters are compared with it (tests/models/test_encoders.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.models.attention import Attention
from mowich.models.ffn import Mlp
from mowich.models.reader import ConfigReader
from mowich.sums import float_sum

MediaKind = Literal["image", "audio"]
CONFIG_OF: Mapping[MediaKind, str] = {"image": "vision_config", "audio": "audio_config"}
_MOST_LAYERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderProduct:
    """A product beside the layers: out[m, n] = in[m, k] x weight[k, n]. rows: m for each position of the layers."""

    name: str
    n: int
    k: int
    rows: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderLayer:
    """A kind of layer and how many of them: attention in both directions, then a feed-forward block. norm_params:
    weights of its norms and other small vectors."""

    count: int
    attention: Attention
    mlp: Mlp
    norm_params: int

    def params(self, hidden: int) -> int:
        """Weights of one layer."""
        return self.attention.params(hidden) + self.mlp.params(hidden) + self.norm_params

    def flop_per_position(self, hidden: int, span: float) -> float:
        """Forward FLOP of one layer for a position that attends to `span`."""
        matrices = self.attention.matmul_params(hidden) + self.mlp.matmul_params(hidden)
        return 2.0 * matrices + self.attention.core_flop_per_token(span)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedItem:
    """A picture, or a piece of sound, as an encoder sees it. positions: that the layers compute; span: of these, that
    attend to each other (a tile of a picture, a window of sound); tokens: that come out, each an embedding; prompt:
    that stand in the prompt for it, marks of rows and tiles among them."""

    positions: int
    span: int
    tokens: int
    prompt: int


ItemRule = Callable[["Encoder", float, float, Callable[[str], float]], EncodedItem]
"""(encoder, width and height in pixels, or seconds and 0, a number of the family's facts) -> the item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """An encoder of a model. layers: kinds with counts, of width `hidden`; products: beside the layers; params: all
    weights; out: elements of an embedding (several for each token where layers of the text model get their own);
    patch, merge: pixels of a patch, and patches along a side that one token joins; side: pixels of a tile or of the
    longest side, 0 where the size is free; item: its family's rule.

    Units: counts, pixels.

    Example:
        >>> from mowich.facts import load_facts
        >>> from mowich.models import load_model
        >>> encoder = encoder_of(load_model("qwen3.5-27b"), "image")
        >>> encoder.image(1024, 1024, load_facts()).tokens
        1024
    """

    kind: MediaKind
    family: str
    hidden: int
    layers: tuple[EncoderLayer, ...]
    products: tuple[EncoderProduct, ...]
    params: int
    out: int
    item: ItemRule
    patch: int = 0
    merge: int = 1
    side: int = 0
    pooled: int = 0

    @property
    def num_layers(self) -> int:
        return sum(layer.count for layer in self.layers)

    def image(self, width: float, height: float, facts: Facts) -> EncodedItem:
        """A picture of so many pixels, by the rule of the family."""
        return self.item(self, width, height, self._limits(facts))

    def audio(self, seconds: float, facts: Facts) -> EncodedItem:
        """Sound of so many seconds."""
        return self.item(self, seconds, 0.0, self._limits(facts))

    def _limits(self, facts: Facts) -> Callable[[str], float]:
        return lambda name: facts.number(f"serving.encoders.{self.family}.{name}")

    def flop(self, item: EncodedItem) -> float:
        """Forward FLOP of an item: 2 for each weight that a position uses, and the scores and values of attention in
        both directions."""
        beside = float_sum(2.0 * p.rows * p.n * p.k for p in self.products)
        of_layers = float_sum(layer.count * layer.flop_per_position(self.hidden, item.span) for layer in self.layers)
        return item.positions * (beside + of_layers)


class HasMedia(Protocol):
    """A model, as far as its encoders go: its name and width, and the config around it (None: it has none)."""

    @property
    def name(self) -> str: ...
    @property
    def hidden(self) -> int: ...
    @property
    def media(self) -> Mapping[str, object] | None: ...


def encoder_kinds(model: HasMedia) -> tuple[MediaKind, ...]:
    """What a model's config describes an encoder of."""
    return tuple(kind for kind in CONFIG_OF if _section(model.media or {}, kind) is not None)


def encoder_of(model: HasMedia, kind: MediaKind) -> Encoder:
    """The encoder of images or of sound of a model. Raises UserError where its config describes none, and for a key
    that is missing, wrong or not understood."""
    config = model.media or {}
    section = _section(config, kind)
    where = f"{CONFIG_OF[kind]} of {model.name}"
    if section is None:
        has = [CONFIG_OF[k] for k in encoder_kinds(model)]
        raise UserError(
            f"{model.name} reads no {'images' if kind == 'image' else 'sound'}: its config has no '{CONFIG_OF[kind]}'",
            fix=f"it has {' and '.join(has)}" if has else "a model with an encoder, such as qwen3.5-27b",
        )
    name = str(config.get("model_type"))
    row = FAMILIES.get((name, kind))
    if row is None:
        raise _not_understood(name, section, where)
    reader = ConfigReader(section, where, name)
    encoder = row.read(reader, _Around(config, model))
    reader.check()
    left = [k for k, v in section.items() if v and k not in reader.asked and _STRUCTURE.search(k) and k not in _SILENT]
    if left:
        raise UserError(f"'{left[0]}' is not understood", where=where, given=section[left[0]])
    return replace(encoder, family=row.limits or name, item=row.item)


def _section(config: Mapping[str, object], kind: MediaKind) -> Mapping[str, object] | None:
    found = config.get(CONFIG_OF[kind])
    return found if isinstance(found, Mapping) else None


_STRUCTURE = re.compile(
    r"window|merge|pool|deepstack|^num_|depth|layers|heads|_dim$|hidden_size|experts?|sink|compress|ratio|group|chunk|stride|kernel|indexes|gate"
)
"""Keys of an encoder's config that say how it is built."""
_SILENT = frozenset(
    (
        *("num_position_embeddings", "num_labels", "vision_feature_layer", "num_return_sequences", "num_beams"),
        *("num_beam_groups", "chunk_size_feed_forward", "tokens_per_second", "rope_ratio", "num_channels"),
        *("conv_chunksize", "n_window_infer", "video_attn_type", "num_hidden_layers", "encoder_layerdrop"),
        *("global_head_dim", "default_output_length"),
    )
)
"""Those that change neither weights nor work, or that others of the same config repeat."""


def _not_understood(name: str, section: Mapping[str, object], where: str) -> UserError:
    usual = {"depth", "num_hidden_layers", "hidden_size", "intermediate_size", "num_heads", "num_attention_heads"}
    first = next((k for k in section if _STRUCTURE.search(k) and k not in usual and k not in _SILENT), "model_type")
    known = sorted({family for family, _ in FAMILIES})
    return UserError(
        f"the encoder of model_type '{name}' is not understood: '{first}'",
        where=where,
        given=section.get(first, name),
        allowed=f"encoders of {', '.join(known)}",
    )


@dataclass(frozen=True, slots=True)
class _Around:
    """What stands around an encoder's section: the whole config, the text model."""

    config: Mapping[str, object]
    model: HasMedia

    def reader(self, where: str) -> ConfigReader:
        return ConfigReader(self.config, where, str(self.config.get("model_type")))


# building blocks
# ----------------------------------------------------------------------------------------------------------------------


def _layer(
    count: int,
    hidden: int,
    heads: int,
    ffn: int,
    *,
    head_dim: int = 0,
    kv_heads: int = 0,
    gated: bool = False,
    bias: bool = True,
    out_bias: bool | None = None,
    mlp_bias: bool | None = None,
    qk_norm: Literal["none", "head", "full"] = "none",
    norms: int = 0,
    window: int | None = None,
) -> EncoderLayer:
    """A layer that attends in both directions. norms: weights of its norms and other small vectors."""
    width = head_dim or hidden // max(heads, 1)
    return EncoderLayer(
        count=count,
        attention=Attention(
            kind="gqa",
            num_heads=heads,
            num_kv_heads=kv_heads or heads,
            head_dim=width,
            v_head_dim=width,
            qkv_bias=bias,
            out_bias=bias if out_bias is None else out_bias,
            qk_norm=qk_norm,
            causal=False,
            window=window,
        ),
        mlp=Mlp(ffn=ffn, gated=gated, bias=bias if mlp_bias is None else mlp_bias),
        norm_params=norms,
    )


def _made(
    kind: MediaKind,
    hidden: int,
    layers: tuple[EncoderLayer, ...],
    products: tuple[EncoderProduct, ...],
    *,
    other: int,
    out: int,
    weights: int | None = None,
    **sizes: int,
) -> Encoder:
    """An encoder with its parameters: of layers, of products (or `weights` where these share some), and others."""
    of_products = sum(p.n * p.k for p in products) if weights is None else weights
    return Encoder(
        kind=kind,
        family="",
        hidden=hidden,
        layers=layers,
        products=products,
        params=sum(layer.count * layer.params(hidden) for layer in layers) + of_products + other,
        out=out,
        item=_free_size,
        **sizes,
    )


def _heads(c: ConfigReader, hidden: int, *keys: str) -> int:
    """Heads that divide the width."""
    heads = c.count(*keys)
    if hidden % heads:
        c.errors.append(UserError(f"'{keys[0]}' does not divide hidden_size", where=c.where, given=heads))
        return 1
    return heads


# rules: how a picture becomes tokens
# ----------------------------------------------------------------------------------------------------------------------


def _fitted(width: float, height: float, factor: int, least: float, most: float) -> tuple[int, int]:
    """(columns, rows) of units of `factor` pixels, with the shape kept and between `least` and `most` pixels in all."""
    columns, rows = (max(1, round(x / factor)) for x in (width, height))
    pixels = columns * rows * factor**2
    if pixels > most:
        beta = math.sqrt(width * height / most)
        return max(1, math.floor(width / beta / factor)), max(1, math.floor(height / beta / factor))
    if pixels < least:
        beta = math.sqrt(least / (width * height))
        return math.ceil(width * beta / factor), math.ceil(height * beta / factor)
    return columns, rows


def _whole(e: Encoder, columns: int, rows: int, *, marks: int = 0) -> EncodedItem:
    """A picture of `columns` x `rows` tokens that is encoded in one piece."""
    tokens = columns * rows
    positions = tokens * e.merge**2
    return EncodedItem(positions=positions, span=positions, tokens=tokens, prompt=tokens + marks)


def _free_size(e: Encoder, width: float, height: float, limit: Callable[[str], float]) -> EncodedItem:
    """Qwen: sides to multiples of a token's pixels, within limits of pixels."""
    columns, rows = _fitted(width, height, e.patch * e.merge, limit("min_pixels"), limit("max_pixels"))
    return _whole(e, columns, rows)


def _longest_side(e: Encoder, width: float, height: float, _: Callable[[str], float]) -> EncodedItem:
    """Pixtral: the longer side no longer than the model's, a mark behind each row."""
    ratio = max(width / e.side, height / e.side, 1.0)
    unit = e.patch * e.merge
    columns, rows = (max(1, math.ceil(math.floor(x / ratio) / unit)) for x in (width, height))
    return _whole(e, columns, rows, marks=rows)


def _fixed_size(e: Encoder, width: float, height: float, _: Callable[[str], float]) -> EncodedItem:
    """Gemma 3: every picture has the model's size."""
    patches = (e.side // e.patch) ** 2
    return EncodedItem(positions=patches, span=patches, tokens=e.pooled, prompt=e.pooled)


def _budget(e: Encoder, width: float, height: float, _: Callable[[str], float]) -> EncodedItem:
    """Gemma 4: the largest picture of the same shape that makes so many tokens at most."""
    unit = e.patch * e.merge
    factor = math.sqrt(e.pooled * unit**2 / (width * height))
    columns, rows = (math.floor(factor * x / unit) for x in (width, height))
    if not rows:
        columns, rows = min(math.floor(width / height), e.pooled), 1
    elif not columns:
        columns, rows = 1, min(math.floor(height / width), e.pooled)
    return _whole(e, columns, rows)


def _shrunk(e: Encoder, width: float, height: float, limit: Callable[[str], float]) -> EncodedItem:
    """Kimi: shrunk where it has too many patches, else its own size; padded to whole tokens."""
    most, longest = limit("max_patches"), limit("max_side_patches")
    patches = max(1.0, height // e.patch) * max(1.0, width // e.patch)
    scale = min(1.0, math.sqrt(most / patches), *(longest * e.patch / x for x in (width, height)))
    unit = e.patch * e.merge
    columns, rows = (math.ceil(max(1, int(x * scale)) / unit) for x in (width, height))
    return _whole(e, columns, rows)


def _canvases(most: int) -> Iterator[tuple[int, int]]:
    """(rows, columns) of all canvases of up to so many tiles."""
    for tiles in range(most, 0, -1):
        for rows in range(1, tiles + 1):
            if tiles % rows == 0:
                yield rows, tiles // rows


def _tiled(e: Encoder, rows: int, columns: int, marks: int) -> EncodedItem:
    """Tiles of a picture, and the whole of it as one more where there are several."""
    tiles = rows * columns + (rows * columns > 1)
    patches = (e.side // e.patch) ** 2 + 1  # one position for the class
    tokens = tiles * e.pooled
    return EncodedItem(positions=tiles * patches, span=patches, tokens=tokens, prompt=tokens + marks)


def _best_scale(e: Encoder, width: float, height: float, limit: Callable[[str], float]) -> EncodedItem:
    """Llama 4: the canvas of tiles that enlarges the picture least, else shrinks it least, the smallest of equal ones;
    a mark behind each tile and the whole."""
    of = {c: min(c[0] * e.side / height, c[1] * e.side / width) for c in _canvases(int(limit("max_tiles")))}
    larger = [scale for scale in of.values() if scale >= 1.0]
    chosen = min(larger) if larger else max(of.values())
    rows, columns = min((c for c, scale in of.items() if scale == chosen), key=lambda c: c[0] * c[1])
    return _tiled(e, rows, columns, marks=rows * columns if rows * columns > 1 else 0)


def _best_shape(e: Encoder, width: float, height: float, limit: Callable[[str], float]) -> EncodedItem:
    """InternVL: the canvas of tiles whose shape is nearest to the picture's; of equal ones more tiles, as long as the
    picture has half of their pixels."""
    best, found = math.inf, (1, 1)
    canvases = sorted({(c, r) for r, c in _canvases(int(limit("max_tiles")))}, key=lambda g: (g[0] * g[1], g))
    for columns, rows in canvases:
        off = abs(width / height - columns / rows)
        if off < best or (off == best and width * height > 0.5 * e.side**2 * columns * rows):
            best, found = off, (columns, rows)
    return _tiled(e, found[1], found[0], marks=0)


def _frames(seconds: float, limit: Callable[[str], float]) -> int:
    return max(1, math.floor(seconds * limit("frames_per_s")))


def _padded_sound(e: Encoder, seconds: float, _h: float, limit: Callable[[str], float]) -> EncodedItem:
    """Whisper's towers: pieces of 30 s, padded to their whole length; two positions make a token."""
    frames, whole = _frames(seconds, limit), 2 * e.side
    pieces = math.ceil(frames / whole)
    lengths = [whole] * (pieces - 1) + [frames - whole * (pieces - 1)]
    tokens = sum(max(1, ((n - 1) // 2 + 1 - 2) // 2 + 1) for n in lengths)
    return EncodedItem(positions=pieces * e.side, span=e.side, tokens=tokens, prompt=tokens)


def _chunked_sound(e: Encoder, seconds: float, _h: float, limit: Callable[[str], float]) -> EncodedItem:
    """Qwen3-Omni: chunks of `side` frames, three convolutions of stride 2, attention inside of windows."""

    def out(n: int) -> int:
        for _ in range(3):
            n = (n - 1) // 2 + 1
        return n

    chunks, rest = divmod(_frames(seconds, limit), e.side)
    tokens = chunks * out(e.side) + (out(rest) if rest else 0)
    return EncodedItem(positions=tokens, span=tokens, tokens=tokens, prompt=tokens)


# families: what their configs say
# ----------------------------------------------------------------------------------------------------------------------


def _merged(hidden: int, merge: int, out: int, name: str = "merger") -> tuple[EncoderProduct, EncoderProduct]:
    """The two products that join merge x merge patches and bring them to the text model's width."""
    wide = hidden * merge**2
    return (
        EncoderProduct(name=f"{name}_up", n=wide, k=wide, rows=1.0 / merge**2),
        EncoderProduct(name=f"{name}_down", n=out, k=wide, rows=1.0 / merge**2),
    )


def _patches(c: ConfigReader, hidden: int, patch: int, frames: int = 1) -> EncoderProduct:
    channels = c.count("in_channels", "in_chans", "num_channels", default=3)
    return EncoderProduct(name="patches", n=hidden, k=channels * frames * patch**2, rows=1.0)


def _text_hidden(around: _Around) -> int:
    return around.model.hidden


def _qwen2_vl(c: ConfigReader, around: _Around) -> Encoder:
    hidden, depth = c.count("embed_dim"), c.count("depth", maximum=_MOST_LAYERS)
    out, patch, merge = c.count("hidden_size"), c.count("patch_size"), c.count("spatial_merge_size")
    frames, ratio = c.count("temporal_patch_size", default=2), c.count("mlp_ratio", default=4)
    layer = _layer(depth, hidden, _heads(c, hidden, "num_heads"), hidden * ratio, norms=4 * hidden)
    merger = _merged(hidden, merge, out)
    other = 2 * hidden + hidden * merge**2 + out
    products = (_patches(c, hidden, patch, frames), *merger)
    return _made("image", hidden, (layer,), products, other=other, out=out, patch=patch, merge=merge)


def _qwen2_5_vl(c: ConfigReader, around: _Around) -> Encoder:
    hidden, depth = c.count("hidden_size"), c.count("depth", maximum=_MOST_LAYERS)
    out, patch, merge = (
        c.count("out_hidden_size"),
        c.count("patch_size", "spatial_patch_size"),
        c.count("spatial_merge_size"),
    )
    frames, ffn = c.count("temporal_patch_size", default=2), c.count("intermediate_size")
    heads, full = _heads(c, hidden, "num_heads"), c.get("fullatt_block_indexes", default=[])
    window = (c.count("window_size") // (patch * merge)) ** 2 * merge**2
    if not isinstance(full, list) or any(not isinstance(i, int) or not 0 <= i < depth for i in full):
        c.errors.append(UserError("'fullatt_block_indexes' must be a list of layers", where=c.where, given=full))
        full = []
    layers = tuple(
        _layer(count, hidden, heads, ffn, gated=True, norms=2 * hidden, window=w)
        for count, w in ((len(set(full)), None), (depth - len(set(full)), window))
        if count
    )
    products = (_patches(c, hidden, patch, frames), *_merged(hidden, merge, out))
    other = hidden + hidden * merge**2 + out
    return _made("image", hidden, layers, products, other=other, out=out, patch=patch, merge=merge)


def _qwen3_vl(c: ConfigReader, around: _Around) -> Encoder:
    hidden, depth = c.count("hidden_size"), c.count("depth", maximum=_MOST_LAYERS)
    out, patch, merge = c.count("out_hidden_size"), c.count("patch_size"), c.count("spatial_merge_size")
    frames, positions = c.count("temporal_patch_size", default=2), c.count("num_position_embeddings")
    deep = c.get("deepstack_visual_indexes", default=[])
    if not isinstance(deep, list):
        c.errors.append(UserError("'deepstack_visual_indexes' must be a list of layers", where=c.where, given=deep))
        deep = []
    layer = _layer(depth, hidden, _heads(c, hidden, "num_heads"), c.count("intermediate_size"), norms=4 * hidden)
    wide = hidden * merge**2
    mergers = tuple(p for i in range(1 + len(deep)) for p in _merged(hidden, merge, out, f"merger{i or ''}"))
    other = hidden + positions * hidden + 2 * hidden + (1 + len(deep)) * (wide + out) + len(deep) * 2 * wide
    products = (_patches(c, hidden, patch, frames), *mergers)
    total = out * (1 + len(deep))
    return _made("image", hidden, (layer,), products, other=other, out=total, patch=patch, merge=merge)


def _glm4v(c: ConfigReader, around: _Around) -> Encoder:
    hidden, depth = c.count("hidden_size"), c.count("depth", maximum=_MOST_LAYERS)
    out, patch, merge = c.count("out_hidden_size"), c.count("patch_size"), c.count("spatial_merge_size")
    frames, context = c.count("temporal_patch_size", default=2), c.count("intermediate_size")
    positions = (c.count("image_size") // patch) ** 2
    layer = _layer(
        depth,
        hidden,
        _heads(c, hidden, "num_heads"),
        out,
        gated=True,
        bias=c.flag("attention_bias"),
        out_bias=False,
        mlp_bias=False,
        norms=2 * hidden,
    )
    each = 1.0 / merge**2
    products = (
        _patches(c, hidden, patch, frames),
        EncoderProduct(name="downsample", n=out, k=hidden * merge**2, rows=each),
        EncoderProduct(name="merger", n=out, k=out, rows=each),
        EncoderProduct(name="merger_up", n=2 * context, k=out, rows=each),
        EncoderProduct(name="merger_down", n=out, k=context, rows=each),
    )
    other = hidden + positions * hidden + 2 * hidden + out + 2 * out
    return _made("image", hidden, (layer,), products, other=other, out=out, patch=patch, merge=merge)


def _gemma3(c: ConfigReader, around: _Around) -> Encoder:
    hidden, depth = c.count("hidden_size"), c.count("num_hidden_layers", maximum=_MOST_LAYERS)
    patch, side, out = c.count("patch_size"), c.count("image_size"), _text_hidden(around)
    tokens = around.reader(c.where).count("mm_tokens_per_image", default=256)
    layer = _layer(
        depth, hidden, _heads(c, hidden, "num_attention_heads"), c.count("intermediate_size"), norms=4 * hidden
    )
    patches = (side // patch) ** 2
    products = (
        _patches(c, hidden, patch),
        EncoderProduct(name="projection", n=out, k=hidden, rows=tokens / max(patches, 1)),
    )
    other = hidden + patches * hidden + 2 * hidden + hidden
    return _made("image", hidden, (layer,), products, other=other, out=out, patch=patch, side=side, pooled=tokens)


def _gemma4(c: ConfigReader, around: _Around) -> Encoder:
    hidden, depth = c.count("hidden_size"), c.count("num_hidden_layers", maximum=_MOST_LAYERS)
    patch, merge, out = c.count("patch_size"), c.count("pooling_kernel_size"), _text_hidden(around)
    heads, width = c.count("num_attention_heads"), c.count("head_dim")
    tokens = around.reader(c.where).count("vision_soft_tokens_per_image", default=280)
    layer = _layer(
        depth,
        hidden,
        heads,
        c.count("intermediate_size"),
        head_dim=width,
        kv_heads=c.count("num_key_value_heads"),
        gated=True,
        bias=c.flag("attention_bias"),
        mlp_bias=False,
        qk_norm="head",
        norms=4 * hidden,
    )
    products = (
        _patches(c, hidden, patch),
        EncoderProduct(name="projection", n=out, k=hidden, rows=1.0 / merge**2),
    )
    other = 2 * c.count("position_embedding_size") * hidden
    return _made("image", hidden, (layer,), products, other=other, out=out, patch=patch, merge=merge, pooled=tokens)


def _mistral3(c: ConfigReader, around: _Around) -> Encoder:
    hidden, depth = c.count("hidden_size"), c.count("num_hidden_layers", maximum=_MOST_LAYERS)
    patch, side, out = c.count("patch_size"), c.count("image_size"), _text_hidden(around)
    outside = around.reader(c.where)
    merge, bias = outside.count("spatial_merge_size", default=2), outside.flag("multimodal_projector_bias")
    layer = _layer(
        depth,
        hidden,
        c.count("num_attention_heads"),
        c.count("intermediate_size"),
        head_dim=c.count("head_dim", default=0, minimum=0),
        gated=True,
        bias=False,
        norms=2 * hidden,
    )
    each = 1.0 / merge**2
    products = (
        _patches(c, hidden, patch),
        EncoderProduct(name="merger", n=hidden, k=hidden * merge**2, rows=each),
        EncoderProduct(name="projection_up", n=out, k=hidden, rows=each),
        EncoderProduct(name="projection", n=out, k=out, rows=each),
    )
    other = 2 * hidden + (2 * out if bias else 0)
    return _made("image", hidden, (layer,), products, other=other, out=out, patch=patch, merge=merge, side=side)


def _llama4(c: ConfigReader, around: _Around) -> Encoder:
    hidden, depth = c.count("hidden_size"), c.count("num_hidden_layers", maximum=_MOST_LAYERS)
    patch, side, out = c.count("patch_size"), c.count("image_size"), _text_hidden(around)
    ffn, between = c.count("intermediate_size"), c.count("projector_input_dim")
    behind, seen = c.count("projector_output_dim"), c.count("vision_output_dim")
    merge = _merge_of(c, "pixel_shuffle_ratio", 0.5)
    layer = _layer(depth, hidden, _heads(c, hidden, "num_attention_heads"), ffn, norms=4 * hidden)
    patches = (side // patch) ** 2
    each = patches / merge**2 / (patches + 1)
    products = (
        _patches(c, hidden, patch),
        EncoderProduct(name="adapter_up", n=between, k=ffn, rows=each),
        EncoderProduct(name="adapter_down", n=behind, k=behind, rows=each),
        EncoderProduct(name="projection", n=out, k=seen, rows=each),
    )
    other = hidden + (patches + 1) * hidden + 4 * hidden
    sizes = {"patch": patch, "merge": merge, "side": side, "pooled": patches // merge**2}
    return _made("image", hidden, (layer,), products, other=other, out=out, **sizes)


def _merge_of(c: ConfigReader, key: str, default: float) -> int:
    """Patches along a side of a token, from the share of them that is left."""
    ratio = c.get(key, default=default)
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or ratio <= 0 or (1 / ratio) % 1:
        c.errors.append(UserError(f"'{key}' must be 1 over a whole number", where=c.where, given=ratio))
        return 1
    return int(1 / ratio)


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) and value else value


def _internvl(c: ConfigReader, around: _Around) -> Encoder:
    hidden, depth = c.count("hidden_size"), c.count("num_hidden_layers", maximum=_MOST_LAYERS)
    out = _text_hidden(around)
    patch, side = (c.whole(_first(c.get(k)), k) for k in ("patch_size", "image_size"))
    merge = _merge_of(around.reader(c.where), "downsample_ratio", 0.5)
    is_rms = str(c.get("norm_type", default="layer_norm")) == "rms_norm"
    has_norm = c.flag("use_qk_norm")
    layer = _layer(
        depth,
        hidden,
        _heads(c, hidden, "num_attention_heads"),
        c.count("intermediate_size"),
        bias=c.flag("attention_bias"),
        out_bias=True,
        mlp_bias=True,
        qk_norm="full" if has_norm else "none",
        norms=(2 if is_rms else 4) * hidden + 2 * hidden,
    )
    patches = (side // patch) ** 2
    wide, each = hidden * merge**2, patches / merge**2 / (patches + 1)
    products = (
        _patches(c, hidden, patch),
        EncoderProduct(name="projection_up", n=out, k=wide, rows=each),
        EncoderProduct(name="projection", n=out, k=out, rows=each),
    )
    mask = hidden if c.flag("use_mask_token") else 0
    seats = (patches + 1) * hidden if c.flag("use_absolute_position_embeddings") else 0
    last = 0 if c.flag(("use_mean_pooling", True)) else 2 * hidden
    other = hidden + hidden + mask + seats + last + 2 * wide + 2 * out
    sizes = {"patch": patch, "merge": merge, "side": side, "pooled": patches // merge**2}
    return _made("image", hidden, (layer,), products, other=other, out=out, **sizes)


def _kimi(c: ConfigReader, around: _Around) -> Encoder:
    hidden, depth = c.count("vt_hidden_size"), c.count("vt_num_hidden_layers", maximum=_MOST_LAYERS)
    patch, merge = (
        c.count("patch_size"),
        c.whole(_first(c.get("merge_kernel_size", default=[2, 2])), "merge_kernel_size"),
    )
    out, wide = c.count("text_hidden_size"), hidden * merge**2
    for key, known in (("mm_projector_type", "patchmerger"), ("merge_type", "sd2_tpool")):
        if c.get(key, default=known) != known:
            c.errors.append(UserError(f"'{key}' is not understood", where=c.where, given=c.get(key), allowed=known))
    c.get("mm_hidden_size", "init_pos_emb_time", "video_attn_type")
    seats = c.count("init_pos_emb_height") * c.count("init_pos_emb_width")
    layer = _layer(
        depth, hidden, _heads(c, hidden, "vt_num_attention_heads"), c.count("vt_intermediate_size"), norms=4 * hidden
    )
    products = (_patches(c, hidden, patch), *_merged(hidden, merge, out))
    other = hidden + seats * hidden + 2 * hidden + 2 * hidden + wide + out
    return _made("image", hidden, (layer,), products, other=other, out=out, patch=patch, merge=merge)


def _qwen2_audio(c: ConfigReader, around: _Around) -> Encoder:
    hidden, depth = c.count("d_model"), c.count("encoder_layers", maximum=_MOST_LAYERS)
    mel, seats, out = c.count("num_mel_bins"), c.count("max_source_positions"), _text_hidden(around)
    heads = _heads(c, hidden, "encoder_attention_heads")
    layer = _layer(depth, hidden, heads, c.count("encoder_ffn_dim"), norms=3 * hidden)  # keys have no bias
    products = (
        EncoderProduct(name="conv1", n=hidden, k=3 * mel, rows=2.0),
        EncoderProduct(name="conv2", n=hidden, k=3 * hidden, rows=1.0),
        EncoderProduct(name="projection", n=out, k=hidden, rows=0.5),
    )
    other = 2 * hidden + seats * hidden + 2 * hidden + out
    return _made("audio", hidden, (layer,), products, other=other, out=out, side=seats)


_CHUNK_S, _CHUNKS_PER_WINDOW = 2, 8


def _qwen3_omni_audio(c: ConfigReader, around: _Around) -> Encoder:
    hidden, depth = c.count("d_model"), c.count("encoder_layers", maximum=_MOST_LAYERS)
    mel, down, out = c.count("num_mel_bins"), c.count("downsample_hidden_size"), c.count("output_dim")
    chunk, inside = _CHUNK_S * c.count("n_window"), c.count("n_window_infer", default=0, minimum=0)
    heads = _heads(c, hidden, "encoder_attention_heads")
    bins, times, made = mel, chunk, []
    stages = []
    for i in range(3):
        bins, times = (bins - 1) // 2 + 1, (times - 1) // 2 + 1
        stages.append((i, bins * times, 9 * (down if i else 1)))
        made.append(times)
    positions = made[-1]
    window = positions * max(1, (inside or chunk * _CHUNKS_PER_WINDOW) // chunk)
    layer = _layer(depth, hidden, heads, c.count("encoder_ffn_dim"), norms=4 * hidden, window=window)
    products = (
        *(EncoderProduct(name=f"conv{i + 1}", n=down, k=k, rows=rows / positions) for i, rows, k in stages),
        EncoderProduct(name="conv_out", n=hidden, k=down * bins, rows=1.0),
        EncoderProduct(name="projection_up", n=hidden, k=hidden, rows=1.0),
        EncoderProduct(name="projection", n=out, k=hidden, rows=1.0),
    )
    other = 3 * down + 2 * hidden + hidden + out
    return _made("audio", hidden, (layer,), products, other=other, out=out, side=chunk)


@dataclass(frozen=True, slots=True)
class _Family:
    """A reader of a config's section, the rule of its items, the facts with its limits ("": of its own name)."""

    read: Callable[[ConfigReader, _Around], Encoder]
    item: ItemRule
    limits: str = ""


FAMILIES: Mapping[tuple[str, MediaKind], _Family] = {
    ("qwen2_vl", "image"): _Family(_qwen2_vl, _free_size),
    ("qwen2_5_vl", "image"): _Family(_qwen2_5_vl, _free_size, "qwen2_vl"),
    ("qwen3_vl", "image"): _Family(_qwen3_vl, _free_size),
    ("qwen3_vl_moe", "image"): _Family(_qwen3_vl, _free_size, "qwen3_vl"),
    ("qwen3_5", "image"): _Family(_qwen3_vl, _free_size, "qwen3_vl"),
    ("qwen3_5_moe", "image"): _Family(_qwen3_vl, _free_size, "qwen3_vl"),
    ("qwen3_omni_moe_thinker", "image"): _Family(_qwen3_vl, _free_size, "qwen3_omni"),
    ("qwen3_omni_moe_thinker", "audio"): _Family(_qwen3_omni_audio, _chunked_sound, "qwen3_omni"),
    ("qwen2_audio", "audio"): _Family(_qwen2_audio, _padded_sound),
    ("glm4v", "image"): _Family(_glm4v, _free_size),
    ("glm4v_moe", "image"): _Family(_glm4v, _free_size, "glm4v"),
    ("gemma3", "image"): _Family(_gemma3, _fixed_size),
    ("gemma4", "image"): _Family(_gemma4, _budget),
    ("mistral3", "image"): _Family(_mistral3, _longest_side),
    ("llama4", "image"): _Family(_llama4, _best_scale),
    ("internvl", "image"): _Family(_internvl, _best_shape),
    ("kimi_k25", "image"): _Family(_kimi, _shrunk),
}
"""(model_type of the whole config, kind) -> how its encoder is read."""
