"""A language model of one's own, in plain PyTorch: no class of a library, no config.json.

Three of four layers mix tokens by a gated causal convolution, the fourth by attention of grouped heads whose queries
and keys are normed. Every second layer has a feed-forward of routed experts beside a shared one; the experts are
written as a loop that runs all of them, as research code often is.

`build()` is what `mowich capture examples/my_model.py:build` calls. Nothing in this file knows of Mowich.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass
class Config:
    """Sizes of the model; the defaults make one of 6.6 billion parameters."""

    vocab: int = 65_536
    hidden: int = 3072
    layers: int = 32
    heads: int = 24
    kv_heads: int = 6
    head_dim: int = 128
    taps: int = 5
    ffn: int = 8192
    experts: int = 16
    chosen: int = 2
    expert_ffn: int = 1536
    attention_every: int = 4
    experts_every: int = 2
    longest: int = 32_768


class Norm(nn.Module):
    """Root mean square norm over the last dimension."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.float().pow(2).mean(-1, keepdim=True)
        return (x.float() * torch.rsqrt(mean + self.eps)).to(x.dtype) * self.scale


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of [batch, heads, tokens, width]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query attention; one weight for queries, keys and values."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.qkv = nn.Linear(c.hidden, (c.heads + 2 * c.kv_heads) * c.head_dim, bias=False)
        self.out = nn.Linear(c.heads * c.head_dim, c.hidden, bias=False)
        self.q_norm, self.k_norm = Norm(c.head_dim), Norm(c.head_dim)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        c = self.c
        batch, tokens, _ = x.shape
        widths = [count * c.head_dim for count in (c.heads, c.kv_heads, c.kv_heads)]
        q, k, v = self.qkv(x).split(widths, dim=-1)
        q = q.view(batch, tokens, c.heads, c.head_dim).transpose(1, 2)
        k = k.view(batch, tokens, c.kv_heads, c.head_dim).transpose(1, 2)
        v = v.view(batch, tokens, c.kv_heads, c.head_dim).transpose(1, 2)
        q, k = rotated(self.q_norm(q), cos, sin), rotated(self.k_norm(k), cos, sin)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, c.heads * c.head_dim))


class Convolution(nn.Module):
    """A gated causal convolution over tokens, one filter per channel."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.taps = c.taps
        self.into = nn.Linear(c.hidden, 3 * c.hidden, bias=False)
        self.filter = nn.Conv1d(c.hidden, c.hidden, c.taps, groups=c.hidden, bias=False)
        self.out = nn.Linear(c.hidden, c.hidden, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        before, gate, values = self.into(x).chunk(3, dim=-1)
        padded = functional.pad((before * values).transpose(1, 2), (self.taps - 1, 0))
        return self.out(gate * self.filter(padded).transpose(1, 2))


class FeedForward(nn.Module):
    """A gated feed-forward."""

    def __init__(self, hidden: int, ffn: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(hidden, 2 * ffn, bias=False)
        self.down = nn.Linear(ffn, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(functional.silu(gate) * up)


class Experts(nn.Module):
    """Routed experts beside a shared one. Simple rather than fast: every expert runs on every token, and those that a
    token did not choose count nothing."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.chosen = c.chosen
        self.router = nn.Linear(c.hidden, c.experts, bias=False)
        self.shared = FeedForward(c.hidden, c.expert_ffn)
        self.experts = nn.ModuleList([FeedForward(c.hidden, c.expert_ffn) for _ in range(c.experts)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = functional.softmax(self.router(x), dim=-1)
        best, which = scores.topk(self.chosen, dim=-1)
        best = best / best.sum(-1, keepdim=True)
        out = self.shared(x)
        for number, expert in enumerate(self.experts):
            share = (best * (which == number)).sum(-1, keepdim=True)
            out = out + share * expert(x)
        return out


class Layer(nn.Module):
    """A mixer of tokens, then a feed-forward, each behind a norm and added to the stream."""

    def __init__(self, c: Config, number: int) -> None:
        super().__init__()
        attends = number % c.attention_every == c.attention_every - 1
        routes = number % c.experts_every == c.experts_every - 1
        self.mixer_norm, self.mlp_norm = Norm(c.hidden), Norm(c.hidden)
        self.mixer = Attention(c) if attends else Convolution(c)
        self.mlp = Experts(c) if routes else FeedForward(c.hidden, c.ffn)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.mixer(self.mixer_norm(x), cos, sin)
        return x + self.mlp(self.mlp_norm(x))


class Model(nn.Module):
    """Token ids [batch, tokens] -> logits [batch, tokens, vocab]."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.embed = nn.Embedding(c.vocab, c.hidden)
        self.layers = nn.ModuleList([Layer(c, number) for number in range(c.layers)])
        self.norm = Norm(c.hidden)
        self.head = nn.Linear(c.hidden, c.vocab, bias=False)

    def angles(self, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of positions, [tokens, width]."""
        width = self.c.head_dim
        rates = 1.0 / 500_000.0 ** (torch.arange(0, width, 2) / width)
        turns = torch.outer(torch.arange(tokens), rates)
        turns = torch.cat((turns, turns), dim=-1)
        return turns.cos(), turns.sin()

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        cos, sin = self.angles(input_ids.shape[1])
        x = self.embed(input_ids)
        cos, sin = cos.to(x), sin.to(x)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.head(self.norm(x))


def build(layers: int = 32) -> Model:
    """The model that is captured: `mowich capture examples/my_model.py:build --set layers=16` makes half of it."""
    return Model(Config(layers=layers)).to(torch.bfloat16)


if __name__ == "__main__":
    small = Model(Config(vocab=512, hidden=96, heads=6, kv_heads=2, head_dim=16, ffn=128, expert_ffn=32))
    logits = small(torch.randint(0, 512, (2, 64)))
    count = sum(parameter.numel() for parameter in small.parameters())
    print(f"{count:,} parameters, logits {tuple(logits.shape)}")
