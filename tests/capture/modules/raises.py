"""Raises while it is built, or while it runs; or is something else than a module; or has a loop over tokens."""

import torch
from torch import nn


def build():
    raise ValueError("no such checkpoint\nin two lines")


class Broken(nn.Module):
    def forward(self, input_ids):
        return torch.empty(2, 3) @ torch.empty(4, 5)


def runs_badly():
    return Broken()


def no_module():
    return {"a": 1}


class Loop(nn.Module):
    """A recurrence that runs token by token."""

    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(16, 16)

    def forward(self, x):
        state = x[:, 0]
        for position in range(x.shape[1]):
            state = self.cell(state + x[:, position])
        return state


def inputs(batch, tokens):
    return {"x": torch.empty(batch, tokens, 16)}


def loop():
    return Loop(), inputs


class Cube(nn.Module):
    """As many channels as half of the tokens, squared: no size that a captured model may have."""

    def forward(self, x):
        return x[:, :1, :1].expand(-1, (x.shape[1] // 2) ** 2, -1).relu()


class Cubes(nn.Module):
    def __init__(self):
        super().__init__()
        self.cube = Cube()

    def forward(self, x):
        return self.cube(x)


def cubes():
    return Cubes(), inputs
