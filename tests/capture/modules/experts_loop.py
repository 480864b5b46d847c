"""A mixture of experts written as a Python loop: every expert runs on every token."""

import torch
from llama_like import Attention, Decoder, Mlp, Norm
from torch import nn
from torch.nn import functional


class Experts(nn.Module):
    def __init__(self, hidden, ffn, number, top_k):
        super().__init__()
        self.top_k = top_k
        self.router = nn.Linear(hidden, number, bias=False)
        self.experts = nn.ModuleList([Mlp(hidden, ffn) for _ in range(number)])

    def forward(self, x):
        weights, chosen = torch.topk(functional.softmax(self.router(x), dim=-1), self.top_k, dim=-1)
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            share = (weights * (chosen == index)).sum(-1, keepdim=True)
            out = out + share * expert(x)
        return out


class Block(nn.Module):
    def __init__(self, hidden, heads, ffn, number, top_k):
        super().__init__()
        self.attn_norm, self.mlp_norm = Norm(hidden), Norm(hidden)
        self.self_attn = Attention(hidden, heads, heads)
        self.mlp = Experts(hidden, ffn, number, top_k)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.attn_norm(x), cos, sin)
        return x + self.mlp(self.mlp_norm(x))


def build(vocab=500, hidden=128, layers=2, heads=4, ffn=64, number=8, top_k=2):
    model = Decoder(vocab, hidden, 0, heads, heads, ffn)
    model.layers = nn.ModuleList([Block(hidden, heads, ffn, number, top_k) for _ in range(layers)])
    return model
