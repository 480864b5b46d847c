"""Feed-forward blocks as shapes: dense, or a mixture of experts. Counts are per layer and unsharded; h is the hidden
width."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlp:
    """A dense feed-forward block: `gated` has three matrices (gate, up, down), else two."""

    ffn: int
    gated: bool = True
    bias: bool = False

    @property
    def matrices(self) -> int:
        """3 when gated, else 2."""
        return 3 if self.gated else 2

    def matmul_params(self, hidden: int) -> int:
        """Weights of the matrices, each used once per token."""
        return self.matrices * hidden * self.ffn

    def params(self, hidden: int) -> int:
        """Matrices and biases."""
        return self.matmul_params(hidden) + (((self.matrices - 1) * self.ffn + hidden) if self.bias else 0)

    params_active = params


NO_FFN = Mlp(ffn=0)
"""The feed-forward block of a layer that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe:
    """A mixture of experts: each token visits `top_k` of `num_experts` experts of width `ffn`, and one
    dense shared expert of width `shared_ffn` (0: none). `router_params` are weights of the router beyond its
    matrix and bias; `shared_gate` a sigmoid gate (h weights) on the shared expert.
    `latent` is the width that routed experts work in (0: h): two matrices that every token takes lead there and back,
    with a norm on the way back if `latent_norm`; what is sent between devices is latent as well.
    groups, top_groups: a token's experts are chosen from `top_groups` of `groups` equal groups of them (1, 1: from
    all), so that it visits few nodes."""

    num_experts: int
    top_k: int
    ffn: int
    shared_ffn: int = 0
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    shared_gate: bool = False
    router_params: int = 0
    latent: int = 0
    latent_norm: bool = False
    groups: int = 1
    top_groups: int = 1

    @property
    def matrices(self) -> int:
        """3 when gated, else 2."""
        return 3 if self.gated else 2

    def width(self, hidden: int) -> int:
        """Columns that routed experts read and write: the latent width, else h."""
        return self.latent or hidden

    def expert_params(self, hidden: int) -> int:
        """Weights of one routed expert."""
        return Mlp(ffn=self.ffn, gated=self.gated, bias=self.bias).params(self.width(hidden))

    def expert_matmul_params(self, hidden: int) -> int:
        """Weights of one routed expert's matrices."""
        return self.matrices * self.width(hidden) * self.ffn

    def shared_params(self, hidden: int) -> int:
        """Weights that every token uses: shared expert, its gate, the router, the way to the latent width and back."""
        total = self.matrices * hidden * self.shared_ffn + hidden * self.num_experts + self.router_params
        total += (hidden if self.shared_gate else 0) + (self.num_experts if self.router_bias else 0)
        return total + 2 * hidden * self.latent + (self.latent if self.latent_norm else 0)

    def matmul_params(self, hidden: int) -> int:
        """Weights of the matrices that one token uses: top_k experts, shared expert, gate, router, latent
        projections."""
        dense = self.matrices * self.shared_ffn + self.num_experts + (1 if self.shared_gate else 0) + 2 * self.latent
        return self.top_k * self.expert_matmul_params(hidden) + hidden * dense

    def params(self, hidden: int) -> int:
        """All weights."""
        return self.num_experts * self.expert_params(hidden) + self.shared_params(hidden)

    def params_active(self, hidden: int) -> int:
        """Weights that one token uses."""
        return self.top_k * self.expert_params(hidden) + self.shared_params(hidden)
