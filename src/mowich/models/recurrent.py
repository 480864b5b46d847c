"""Mixers with a state of fixed size in place of a cache: Mamba-2, gated delta nets, Kimi delta attention, lightning
attention.

Per layer and unsharded. H heads with values of P and keys of N columns, G groups of heads that share keys. The state is
H N P elements per sequence whatever the context, so FLOP and bytes per token do not grow with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrent:
    """One recurrent mixer.

    num_heads H, head_dim P, num_groups G, state_dim N. conv: taps of the causal convolution over values and keys (0:
    none).
    gate_rank: rank of the output gate's projection (0: full). decay_rank: rank of the per-channel decay's projection
    (kda).
    conv_bias, proj_bias: biases. chunk: tokens that kernels process as one block (`chunked_flop_per_token`).
    """

    kind: Literal["mamba2", "gdn", "kda", "lightning"]
    num_heads: int
    head_dim: int
    num_groups: int
    state_dim: int
    conv: int = 4
    gate_rank: int = 0
    decay_rank: int = 0
    conv_bias: bool = False
    proj_bias: bool = False
    chunk: int = 64

    @property
    def value_width(self) -> int:
        """H P: columns of the values and of the output before its projection."""
        return self.num_heads * self.head_dim

    @property
    def key_width(self) -> int:
        """G N: columns of the keys, and of the queries."""
        return self.num_groups * self.state_dim

    @property
    def conv_width(self) -> int:
        """Channels of the convolution: values, keys and queries; 0 without one."""
        return self.value_width + 2 * self.key_width if self.conv else 0

    @property
    def in_width(self) -> int:
        """Columns projected from the hidden state: values, keys, queries, the output gate (unless low-rank) and what
        steers the
        state: one step per head (mamba2), decay and learning rate (gdn), learning rate (kda), nothing (lightning)."""
        steer = {"mamba2": 1, "gdn": 2, "kda": 1, "lightning": 0}[self.kind] * self.num_heads
        gate = 0 if self.gate_rank else self.value_width
        return self.value_width + 2 * self.key_width + gate + steer

    @property
    def low_rank_params(self) -> tuple[tuple[int, int], ...]:
        """(rank, columns) of each projection h -> rank -> columns: a low-rank output gate, kda's decay per key
        channel."""
        gate = ((self.gate_rank, self.value_width),) if self.gate_rank else ()
        decay = ((self.decay_rank, self.num_heads * self.state_dim),) if self.decay_rank else ()
        return gate + decay

    def matmul_params(self, hidden: int) -> int:
        """Weights of the projections, each used once per token: h in_width + low ranks + value_width h."""
        low = sum(rank * (hidden + columns) for rank, columns in self.low_rank_params)
        return hidden * (self.in_width + self.value_width) + low

    def params(self, hidden: int) -> int:
        """All weights: projections, convolution, norm of the output and what the state's dynamics learn.

        mamba2: norm H P; A, D and dt per head. gdn: norm P; A, dt per head. kda: norm P; A per head, dt per key
        channel.
        lightning: norm H P.
        """
        own = {
            "mamba2": self.value_width + 3 * self.num_heads,
            "gdn": self.head_dim + 2 * self.num_heads,
            "kda": self.head_dim + self.num_heads * (1 + self.state_dim),
            "lightning": self.value_width,
        }[self.kind]
        bias = self.in_width + hidden if self.proj_bias else 0
        return self.matmul_params(hidden) + self.conv_width * (self.conv + self.conv_bias) + own + bias

    def core_flop_per_token(self, seq: float = 0.0) -> float:
        """Model FLOP of the recurrence, forward, whatever `seq`: the count of published MFU figures, token by token.

        mamba2: 7 H N P; delta rules (decay, read, correct, write, query): 8 H N P; lightning: 4 H N P. The convolution
        adds 2 taps per channel. What a chunked kernel computes is `chunked_flop_per_token`.
        """
        steps = {"mamba2": 7, "gdn": 8, "kda": 8, "lightning": 4}[self.kind]
        return float(steps * self.num_heads * self.state_dim * self.head_dim + 2 * self.conv * self.conv_width)

    def chunked_flop_per_token(self) -> float:
        """FLOP of the matrix products that the chunked algorithm executes, forward; Q = chunk tokens.

        mamba2, lightning: 2 Q (groups N + H P) + 4 H N P (within the chunk; its state written and read). Delta rules:
        2 Q H (3 N + 2 P) + 6 H N P (the chunk's triangular system as well; its inversion, about 2 Q^2/3 per head, is
        left out).
        """
        H, P, N, Q = self.num_heads, self.head_dim, self.state_dim, self.chunk
        if self.kind in ("gdn", "kda"):
            return float(2 * Q * H * (3 * N + 2 * P) + 6 * H * N * P)
        return float(2 * Q * (self.num_groups * N + H * P) + 4 * H * N * P)

    def decode_flop(self, context: float = 0.0) -> float:
        """FLOP of the core for one new token: the recurrence's, whatever the context."""
        return self.core_flop_per_token()

    @property
    def state_elements(self) -> int:
        """Elements of the state of one sequence, H N P; kept in 32 bits by shipped engines."""
        return self.num_heads * self.state_dim * self.head_dim

    @property
    def conv_elements(self) -> int:
        """Elements that the convolution keeps of one sequence: its last taps - 1 inputs."""
        return max(0, self.conv - 1) * self.conv_width

    @property
    def core_elements(self) -> int:
        """Elements per token that pass through memory if each step of the core is a kernel: the convolution in and out,
        the scan's inputs and output, the gated norm's two inputs and output. What a fused kernel saves is left to the
        caller."""
        scan = (
            self.value_width * 2
            + 2 * self.key_width
            + self.num_heads * (1 + (self.state_dim if self.kind == "kda" else 0))
        )
        return 2 * self.conv_width + scan + 3 * self.value_width
