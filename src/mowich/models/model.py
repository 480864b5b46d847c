"""What is computed, with no hardware in it: a `Model` is a stack of layer kinds with exact shapes.

A layer is a mixer (attention, or a recurrence) and a feed-forward block; either may be absent, as in hybrids that stack
single blocks. Parameters are counted from the shapes, so the counts are exact; FLOP, cache and state bytes follow from
the same shapes. How a model is split over devices (plans) and how long it takes (training, serving) are other modules'
work.
Notation: h hidden width, s sequence length, one FLOP = one addition or one multiplication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from mowich.models.attention import NO_ATTENTION, Attention, Compressor, Indexer
from mowich.models.ffn import NO_FFN, Mlp, Moe
from mowich.models.layer import Layer, Mixer
from mowich.models.recurrent import Recurrent
from mowich.models.storage import STORED_COMPONENTS, WeightStorage, layer_params
from mowich.models.traced import Traced
from mowich.readback import record_of
from mowich.sums import float_sum

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.models.captured import Captured
    from mowich.models.view import ModelView

__all__ = [
    "NO_ATTENTION",
    "NO_FFN",
    "Attention",
    "Compressor",
    "Indexer",
    "Layer",
    "Mixer",
    "Mlp",
    "Model",
    "Moe",
    "Recurrent",
    "Traced",
    "as_trained",
]

FROM_CODE = "captured"
"""The architecture of a model that only its code describes."""


@lru_cache(maxsize=64)
def _shapes(model: Model) -> list[str]:
    left = {"source", "config", "media", "captured", "remarks", *(name for name in _SELDOM if not getattr(model, name))}
    return [repr(getattr(model, f.name)) for f in fields(model) if f.name not in left]


_SELDOM = ("outside", "doubts")
"""Fields that a digest leaves out where a model has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A decoder (or BERT-like encoder) as a stack of layer kinds, unsharded.

    layers: kinds in order of first appearance, with counts. embedding_params: token (and learned position)
    tables; head_params: the output matrix, 0 when tied to the embedding; other_params: anything else outside
    the layers; other_matmul_params: those of them that are matrices each token uses once. mtp_layers:
    multi-token-prediction blocks, each the layers of `mtp` (the last layer kind when that is empty), a 2h x h
    projection and three norms; not in `params`. storage: bytes per weight of the checkpoint, by component. heads: times
    that the head runs per token (see `as_trained`). source: where the shapes were read. read_as: another architecture
    that it was read as, because its own is not known; "" otherwise. outside: what runs once a pass beside layers and
    head, of a model that was captured from its code; its matrices are among `other_params`. vocab is 0 without a head.
    doubts: why numbers of it have grade D, a line each; remarks: what else to tell of it.

    Units: counts; bytes and FLOP where methods say so.

    Example:
        >>> import mowich
        >>> mowich.load("llama-3.1-8b").params
        8030261248
    """

    name: str
    architecture: str
    hidden: int
    vocab: int
    layers: tuple[Layer, ...]
    tied_embeddings: bool
    embedding_params: int
    head_params: int
    final_norm_params: int
    learned_positions: int = 0
    other_params: int = 0
    other_matmul_params: int = 0
    mtp_layers: int = 0
    mtp: tuple[Layer, ...] = ()
    heads: int = 1
    max_seq: int = 0
    config_precision: str = ""
    storage: WeightStorage = field(default_factory=WeightStorage)
    source: str = ""
    read_as: str = ""
    outside: Traced | None = None
    doubts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    pattern: tuple[int, ...] = field(default=())
    """Index into `layers` of every layer in order; empty when the order is not known."""
    config: Mapping[str, object] | None = field(default=None, compare=False, repr=False)
    """What a user's `config.json` or captured file holds: a result carries it, so that it can be explained where that
    file is not. None for a model that ships."""
    captured: Captured | None = field(default=None, compare=False, repr=False)
    """What was captured from the model's code; None where its shapes came from a config."""
    media: Mapping[str, object] | None = field(default=None, compare=False, repr=False)
    """The config around the text model where it describes encoders of images or of sound (`models.encoder`)."""

    def digested(self) -> object:
        """What the digest of an answer has of a model: its shapes, and not where and how it was read; of a model that
        is read from its captured code alone, what was captured too."""
        code = self.captured if self.is_from_code else None
        return [*_shapes(self), code.digest] if code else _shapes(self)

    def inputs(self) -> dict[str, object]:
        """The model as results state it: its name, and what it was read from where it does not ship."""
        config = (
            {} if self.config is None else {"model_config": dict(self.config), "model_read_as": self.read_as or None}
        )
        return {"model": self.name, **config}

    def graded(self, grade: str) -> str:
        """The grade of a number that rests on the model's shapes: D where `doubts` says why."""
        return "D" if self.doubts else grade

    @property
    def is_from_code(self) -> bool:
        """Whether its shapes come from what was captured, and not from a config."""
        return self.architecture == FROM_CODE

    @property
    def kind(self) -> str:
        """What its tokens are for: what was captured ("diffusion", "speech"...); else "decoder", or "encoder" where
        some layer reads in both directions."""
        if self.captured:
            return self.captured.kind
        return "decoder" if all(layer.attention.causal for layer in self.layers) else "encoder"

    @property
    def has_experts(self) -> bool:
        """Whether some layer is a mixture of experts."""
        return any(isinstance(layer.ffn, Moe) for layer in self.layers)

    @property
    def work(self) -> tuple[Layer, ...]:
        """What a forward pass computes beside the head: the layers, and what runs once as one more of them."""
        if self.outside is None:
            return self.layers
        return (*self.layers, Layer(count=1, mixer=self.outside, ffn=NO_FFN, norm_params=0, hidden=self.hidden))

    @property
    def captured_share(self) -> float:
        """Share of the layers that are blocks as they were captured."""
        return sum(layer.count for layer in self.layers if layer.traced) / max(1, self.num_layers)

    @property
    def num_layers(self) -> int:
        """Layers, multi-token-prediction blocks left out."""
        return sum(layer.count for layer in self.layers)

    @property
    def layers_in_order(self) -> list[Layer]:
        """The kind of every layer, first to last; kind by kind where the order is not known."""
        if self.pattern:
            return [self.layers[kind] for kind in self.pattern]
        return [layer for layer in self.layers for _ in range(layer.count)]

    @property
    def params(self) -> int:
        """Every weight once: tied weights once, multi-token-prediction blocks and buffers left out."""
        inner = sum(layer.count * layer.params for layer in self.layers)
        return inner + self.embedding_params + self.head_params + self.final_norm_params + self.other_params

    @property
    def params_active(self) -> int:
        """Weights with only the experts that one token visits; embeddings and head included."""
        return self.params - sum(layer.count * (layer.params - layer.params_active) for layer in self.layers)

    @property
    def params_embedding(self) -> int:
        """Token and position tables."""
        return self.embedding_params

    @property
    def mtp_block(self) -> tuple[Layer, ...]:
        """The layers of one multi-token-prediction block, each with its count in one block."""
        return self.mtp or (replace(self.layers[-1], count=1),)

    @property
    def mtp_params(self) -> int:
        """Weights of the multi-token-prediction blocks (embedding and head are shared with the model)."""
        block = sum(layer.count * layer.params for layer in self.mtp_block)
        return self.mtp_layers * (block + 2 * self.hidden**2 + 3 * self.hidden)

    def flop_per_token(self, seq: float, *, mtp: bool = False) -> float:
        """Forward model FLOP per token: what the model asks for, whatever the machine does.

        flop = 2 * (matrix weights that a token uses, router and head included, embedding lookup left out)
             + sum over layers of the mixer's core: 2 * context(seq) * heads * (qk + v), or the recurrence.
        Causal attention is halved, windows, sparse choices and compression are honoured; norms, softmax and activations
        are left out. With `mtp` each prediction block adds its layers, its projection and the head. Training is 3 times
        this.
        """
        flop = 2.0 * (self.vocab * self.hidden * self.heads + self.other_matmul_params)
        flop += float_sum(layer.count * layer.flop_per_token(seq) for layer in self.work)
        if mtp and self.mtp_layers:
            block = float_sum(layer.count * layer.flop_per_token(seq) for layer in self.mtp_block)
            flop += self.mtp_layers * (block + 2 * (2 * self.hidden**2 + self.vocab * self.hidden))
        return flop

    def attention_flop_per_token(self, seq: float) -> float:
        """The part of `flop_per_token` that is no matrix of weights: attention cores (which grow with context) and
        recurrences."""
        return float_sum(layer.count * layer.mixer.core_flop_per_token(seq) for layer in self.work)

    def kv_bytes_per_token(self, bytes_per_element: float = 2.0) -> float:
        """Bytes of cache that each token writes, over all layers (windows do not reduce it)."""
        elements = float_sum(layer.count * layer.kv_elements_per_token for layer in self.layers)
        return bytes_per_element * elements

    def kv_bytes(self, seq: float, bytes_per_element: float = 2.0) -> float:
        """Bytes of cache of one sequence of `seq` tokens: windowed layers keep their window only, compressed ones their
        entries. What recurrent layers keep instead is `state_bytes`."""
        elements = float_sum(layer.count * layer.cached_elements(seq) for layer in self.layers)
        return bytes_per_element * elements

    def state_bytes(self, bytes_per_state: float = 4.0, bytes_per_element: float = 2.0) -> float:
        """Bytes that recurrent layers keep of one sequence, whatever its length (`Layer.state_bytes`)."""
        return float_sum(layer.count * layer.state_bytes(bytes_per_state, bytes_per_element) for layer in self.layers)

    def component_params(self) -> dict[str, int]:
        """Weights by component (`storage.STORED_COMPONENTS`); they sum to `params`."""
        out = dict.fromkeys(STORED_COMPONENTS, 0)
        for layer in self.layers:
            for name, params in layer_params(layer).items():
                out[name] += layer.count * params
        out["embedding"] = self.embedding_params
        out["head"] = self.head_params
        out["other"] += self.final_norm_params + self.other_params
        return out

    def weight_bytes(self) -> dict[str, float]:
        """Bytes of the checkpoint by component, scales included; prediction blocks left out."""
        return {name: params * self.storage.of(name) for name, params in self.component_params().items()}

    def view(self, *, seq: int | None = None, bytes_per_element: float = 2.0, facts: Facts | None = None) -> ModelView:
        """The figures of the model for sequences of `seq` tokens (4,096, or the model's context if that is shorter).
        facts: with the limits of encoders (None: as shipped)."""
        from mowich.models.view import DEFAULT_SEQ, ModelView, encoder_views, layer_view

        tokens = seq or min(DEFAULT_SEQ, self.max_seq or DEFAULT_SEQ)
        return record_of(
            ModelView,
            self,
            seq=tokens,
            params_head=self.head_params,
            params_other=self.final_norm_params + self.other_params,
            flop_per_token_forward=self.flop_per_token(tokens),
            flop_per_token_train=3 * self.flop_per_token(tokens),
            attention_flop_per_token_forward=self.attention_flop_per_token(tokens),
            head_flop_per_token_forward=2.0 * self.hidden * self.vocab,
            kv_bytes_per_token=self.kv_bytes_per_token(bytes_per_element),
            kv_bytes_at_seq=self.kv_bytes(tokens, bytes_per_element),
            state_bytes_per_sequence=self.state_bytes(),
            bytes_per_element=bytes_per_element,
            weight_bytes={name: size for name, size in self.weight_bytes().items() if size},
            weight_bytes_assumed=self.storage.assumed,
            layers=tuple(layer_view(layer, tokens, bytes_per_element) for layer in self.layers),
            encoders=encoder_views(self, facts),
            captured=self._captured_view(tokens),
        )

    def _captured_view(self, seq: float) -> dict[str, object]:
        """What `view` tells of a model that was captured from code; empty for others."""
        from mowich.models.view import captured_view

        if self.captured is None:
            return {}
        once = 2.0 * self.other_matmul_params
        once += float_sum(layer.flop_per_token(seq) for layer in self.work[len(self.layers) :])
        forms = [layer.mixer for layer in self.layers] if self.is_from_code else None
        return captured_view(
            self.captured, forms=forms, outside=self.outside, once=once, doubts=self.doubts, remarks=self.remarks
        )

    def to_dict(self) -> dict[str, object]:
        """The `mowich/model@1` JSON, with FLOP at 4,096 tokens or the model's context if that is shorter."""
        return self.view().to_dict()


def as_trained(model: Model) -> Model:
    """The model with its multi-token-prediction blocks as layers of their own and the head run once more for each: what
    a training step computes. Unchanged when the model has none."""
    if not model.mtp_layers:
        return model
    first, *rest = (replace(layer, count=model.mtp_layers * layer.count) for layer in model.mtp_block)
    first = replace(first, extra_matmul_params=first.extra_matmul_params + 2 * model.hidden**2)
    return replace(model, layers=(*model.layers, first, *rest), heads=1 + model.mtp_layers, mtp_layers=0, pattern=())
