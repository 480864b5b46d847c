"""A diffusion transformer: image and text tokens in joint attention, modulated by the time step."""

import torch
from torch import nn
from torch.nn import functional


class JointBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width)
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.image_qkv, self.text_qkv = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)
        self.image_out, self.text_out = nn.Linear(width, width), nn.Linear(width, width)
        self.ffn = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def heads_of(self, x):
        return x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def forward(self, image, text, time):
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(functional.silu(time))[:, None].chunk(6, dim=-1)
        tokens = text.shape[1]
        qi, ki, vi = self.heads_of(self.image_qkv(self.norm1(image) * (1 + scale) + shift))
        qt, kt, vt = self.heads_of(self.text_qkv(text))
        q, k, v = (torch.cat(pair, dim=2) for pair in ((qt, qi), (kt, ki), (vt, vi)))
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        text = text + self.text_out(y[:, :tokens])
        image = image + gate * self.image_out(y[:, tokens:])
        image = image + gate2 * self.ffn(self.norm2(image) * (1 + scale2) + shift2)
        return image, text


class Dit(nn.Module):
    def __init__(self, width, layers, heads, channels, text_width):
        super().__init__()
        self.patch = nn.Linear(channels, width)
        self.text = nn.Linear(text_width, width)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList([JointBlock(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = nn.Linear(width, channels)

    def forward(self, latents, text, timestep):
        rates = torch.exp(-torch.arange(128, device=timestep.device) / 128 * 9.2)
        angles = timestep[:, None] * rates
        time = self.time(torch.cat((angles.cos(), angles.sin()), dim=-1))
        image, text = self.patch(latents), self.text(text)
        for block in self.blocks:
            image, text = block(image, text, time)
        return self.out(self.norm(image))


def inputs(batch, tokens):
    return {
        "latents": torch.empty(batch, tokens, 64),
        "text": torch.empty(batch, 77, 512),
        "timestep": torch.empty(batch),
    }


def build(width=256, layers=3, heads=4, channels=64, text_width=512):
    return Dit(width, layers, heads, channels, text_width), inputs
