"""A vision transformer: patches by a convolution, a class token, PyTorch's own encoder layers."""

import torch
from torch import nn


class Vit(nn.Module):
    def __init__(self, width, layers, heads, patch, size, classes):
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.pos = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        block = nn.TransformerEncoderLayer(width, heads, 4 * width, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, pixels):
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(x.shape[0], -1, -1), x), dim=1) + self.pos
        return self.head(self.encoder(x)[:, 0])


def inputs(batch, tokens):
    return {"pixels": torch.empty(batch, 3, 64, 64)}


def build(width=192, layers=3, heads=3, patch=8, size=64, classes=10):
    return Vit(width, layers, heads, patch, size, classes)
