"""An encoder and a decoder of PyTorch's own layers; the decoder attends to what the encoder made."""

import torch
from torch import nn


class Seq2Seq(nn.Module):
    def __init__(self, vocab, width, layers, heads):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.transformer = nn.Transformer(width, heads, layers, layers, 4 * width, batch_first=True)
        self.head = nn.Linear(width, vocab, bias=False)

    def forward(self, source, target):
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1], device="cpu")
        made = self.transformer(self.embed(source), self.embed(target), tgt_mask=mask, tgt_is_causal=True)
        return self.head(made)


def inputs(batch, tokens):
    return {
        "source": torch.empty(batch, tokens, dtype=torch.long),
        "target": torch.empty(batch, tokens, dtype=torch.long),
    }


def build(vocab=800, width=128, layers=2, heads=4):
    return Seq2Seq(vocab, width, layers, heads), inputs
