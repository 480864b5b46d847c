"""Reads a value of an activation: what runs depends on it."""

import torch
from torch import nn


class Early(nn.Module):
    def __init__(self, width, layers):
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(layers)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
            if x.abs().mean() > 100:
                break
        return x


class Picked(nn.Module):
    """Rows that a mask picks: their number is a value."""

    def __init__(self, width):
        super().__init__()
        self.up = nn.Linear(width, width)

    def forward(self, x):
        rows = (x.sum(-1) > 0).nonzero()
        return self.up(x[rows[:, 0], rows[:, 1]])


def inputs(batch, tokens):
    return {"x": torch.empty(batch, tokens, 64)}


def build(width=64, layers=2):
    return Early(width, layers), inputs


def picked(width=64):
    return Picked(width), inputs
