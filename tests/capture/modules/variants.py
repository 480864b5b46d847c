"""Forms that are harder to see: a layer that runs again and again, a window, stages, weights that are cut."""

import torch
from torch import nn
from torch.nn import functional


class Window(nn.Module):
    """Attention over the last `window` tokens, written out with einsum, keys of fewer heads."""

    def __init__(self, width, heads, kv_heads, window):
        super().__init__()
        self.heads, self.kv_heads, self.window = heads, kv_heads, window
        self.norm = nn.LayerNorm(width)
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * kv_heads * width // heads, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x):
        b, s, _ = x.shape
        y = self.norm(x)
        q = self.q(y).view(b, s, self.kv_heads, self.heads // self.kv_heads, -1)
        k, v = self.kv(y).view(b, s, 2, self.kv_heads, -1).unbind(2)
        at = torch.arange(s, device=x.device)
        seen = (at[None] <= at[:, None]) & (at[None] > at[:, None] - self.window)
        scores = torch.einsum("bqkgd,bskd->bkgqs", q, k) * q.shape[-1] ** -0.5
        scores = torch.where(seen, scores, torch.finfo(scores.dtype).min)
        y = torch.einsum("bkgqs,bskd->bqkgd", scores.float().softmax(-1).to(x.dtype), v)
        return x + self.out(y.reshape(b, s, -1))


class Repeated(nn.Module):
    """One block that runs several times, as ALBERT's."""

    def __init__(self, block, times):
        super().__init__()
        self.times = times
        self.layers = nn.ModuleList([block])

    def forward(self, x):
        for _ in range(self.times):
            x = self.layers[0](x)
        return x


class Stage(nn.Module):
    def __init__(self, width, layers, next_width):
        super().__init__()
        self.blocks = nn.ModuleList([Window(width, 4, 2, 32) for _ in range(layers)])
        self.down = nn.Linear(width, next_width, bias=False)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.down(x)


class Unusual(nn.Module):
    """A matrix cut in three, a weight on the left, a stack of matrices, learned queries, values written in place."""

    def __init__(self, width):
        super().__init__()
        self.parts = nn.Parameter(torch.empty(3 * width, width))
        self.left = nn.Parameter(torch.empty(width, width))
        self.stack = nn.Parameter(torch.empty(4, width, width))
        self.queries = nn.Parameter(torch.empty(1, 16, width))
        self.up = nn.Linear(width, width)

    def forward(self, x):
        b, s, width = x.shape
        q, k, v = (functional.linear(x, part) for part in self.parts.chunk(3))
        turned = (self.left @ x.reshape(b * s, width).T).T.reshape(b, s, width)
        groups = torch.bmm(x.reshape(1, b * s, width).expand(4, -1, -1), self.stack).sum(0).view(b, s, width)
        learned = self.up(self.queries.expand(b, -1, -1))
        y = functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        out = torch.zeros(b, s, width, device=x.device)
        out[:, : s // 2] = y[:, : s // 2]
        out[:, s // 2 :] = turned[:, s // 2 :]
        return out + groups + learned.mean(1, keepdim=True)


def inputs(batch, tokens):
    return {"x": torch.empty(batch, tokens, 128)}


def shared():
    return Repeated(Window(128, 4, 4, 4096), 4), inputs


def window():
    return Repeated(Window(128, 4, 2, 64), 2), inputs


def stages():
    return nn.Sequential(Stage(128, 2, 64), Stage(64, 2, 32)), lambda b, s: {"input": torch.empty(b, s, 128)}


def unusual():
    return Unusual(128), inputs
