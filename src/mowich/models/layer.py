"""One kind of layer of a model: a mixer, a feed-forward block, and what is counted from their shapes."""

from __future__ import annotations

from dataclasses import dataclass

from mowich.models.attention import NO_ATTENTION, Attention
from mowich.models.ffn import Mlp, Moe
from mowich.models.recurrent import Recurrent
from mowich.models.traced import Traced

Mixer = Attention | Recurrent | Traced


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer kind and how many of them: mixer then feed-forward, with `norm_params` for its norms
    (and any other small vectors). `hidden` is the model's h. `extra_matmul_params`: weights of further
    matrices that each token uses once (Gemma's per-layer inputs, the mixing weights of hyper-connections).
    streams: residual streams; above 1 (hyper-connections) every block collapses them, and mixes them with its output.
    side_flop: FLOP per token of small products beside blocks and projections (attention over residuals of earlier
    layers)."""

    count: int
    mixer: Mixer
    ffn: Mlp | Moe
    norm_params: int
    hidden: int
    extra_matmul_params: int = 0
    streams: int = 1
    side_flop: float = 0.0

    @property
    def attention(self) -> Attention:
        """The mixer where it is attention; of a captured block its main core; else an attention of zero heads, whose
        widths, FLOP and cache are all zero."""
        mixer = self.mixer
        if isinstance(mixer, Attention):
            return mixer
        return NO_ATTENTION if isinstance(mixer, Recurrent) else mixer.attention

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """Every attention core with heads: one, several in a captured block, or none."""
        of_layer = self.traced.attentions if self.traced else (self.attention,)
        return tuple(a for a in of_layer if a.num_heads)

    @property
    def traced(self) -> Traced | None:
        """The mixer where it is a block as it was captured."""
        return self.mixer if isinstance(self.mixer, Traced) else None

    @property
    def has_state(self) -> bool:
        """Whether it keeps a state of fixed size of each sequence."""
        return self.mixer.state_elements > 0

    @property
    def recurrent(self) -> Recurrent | None:
        """The mixer where it is a recurrence."""
        return self.mixer if isinstance(self.mixer, Recurrent) else None

    @property
    def has_mixer(self) -> bool:
        return self.mixer != NO_ATTENTION

    @property
    def has_ffn(self) -> bool:
        return isinstance(self.ffn, Moe) or self.ffn.ffn > 0

    @property
    def blocks(self) -> int:
        """Residual blocks, 1 or 2, or as captured: each reads the residual stream once and adds to it once."""
        if isinstance(self.mixer, Traced):
            return self.mixer.blocks
        return int(self.has_mixer) + int(self.has_ffn)

    @property
    def params(self) -> int:
        """Weights of one layer of this kind."""
        h = self.hidden
        return self.mixer.params(h) + self.ffn.params(h) + self.norm_params + self.extra_matmul_params

    @property
    def params_active(self) -> int:
        """Weights that one token uses in one layer of this kind."""
        h = self.hidden
        return self.mixer.params(h) + self.ffn.params_active(h) + self.norm_params + self.extra_matmul_params

    @property
    def matmul_params(self) -> int:
        """Weights of the matrices that one token uses in one layer of this kind."""
        h = self.hidden
        return self.mixer.matmul_params(h) + self.ffn.matmul_params(h) + self.extra_matmul_params

    @property
    def residual_flop(self) -> float:
        """FLOP per token of mixing n > 1 residual streams, 2 n^2 h a block (collapse and expansion are elementwise),
        and `side_flop`."""
        mixing = 2.0 * self.blocks * self.streams**2 * self.hidden if self.streams > 1 else 0.0
        return mixing + self.side_flop

    def state_bytes(self, bytes_per_state: float = 4.0, bytes_per_element: float = 2.0) -> float:
        """Bytes that one recurrent layer keeps of one sequence, whatever its length: the state (32 bits in shipped
        engines) and the last inputs of the convolution; 0 for attention."""
        return bytes_per_state * self.mixer.state_elements + bytes_per_element * self.mixer.conv_elements

    @property
    def kv_elements_per_token(self) -> float:
        """Elements that each token writes to the cache (a window forgets them later)."""
        return (self.traced or self.attention).kv_elements_per_token

    def cached_elements(self, context: float) -> float:
        """Elements that the cache of one sequence of `context` tokens holds."""
        return self.traced.kept_elements(context) if self.traced else self.attention.cached_elements(context)

    def mixer_product_flop(self, seq: float) -> float:
        """Forward FLOP per token of the products of its mixer: 2 * matrix weights, of a captured block by the rows of
        each product."""
        return (
            self.mixer.product_flop_per_token(seq)
            if isinstance(self.mixer, Traced)
            else 2.0 * self.mixer.matmul_params(self.hidden)
        )

    def flop_per_token(self, seq: float) -> float:
        """Forward FLOP per token of one layer of this kind: 2 * matrix weights + mixer core + residual mixing."""
        others = 2 * (self.ffn.matmul_params(self.hidden) + self.extra_matmul_params)
        return self.mixer_product_flop(seq) + others + self.mixer.core_flop_per_token(seq) + self.residual_flop
