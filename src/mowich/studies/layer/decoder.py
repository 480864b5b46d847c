"""Decoder layers as one launch: blocks of nki-library one after the other, with the all-reduces over all ranks and the
residuals between them, so that weights of a block are loaded while the one before it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from mowich.neuroncore.views import Tile
from mowich.nki import collectives as nccl
from mowich.nki import isa as nisa
from mowich.nki import language as nl

Block = tuple[Callable[..., object], Mapping[str, object]]


def decoder(x: Tile, attention: Block, ffn: Sequence[Block], layers: int, ranks: int) -> Tile:
    """x [B, 1, H] -> [B, 1, H] after so many layers of one shape. attention: a block that takes X; ffn: the blocks of
    the feed-forward half, of which the first takes the residual stream and each next one what the one before gave."""
    shape = x.shape
    for _ in range(layers):
        block, arguments = attention
        x = _added(x, _first(block(**{**arguments, "X": x})), ranks).reshape(shape)
        x = _added(x, _feed_forward(x, ffn), ranks).reshape(shape)
    return x


def _first(value: object) -> Tile:
    """What a block gives first: its output."""
    return cast("Tile", value[0] if isinstance(value, list | tuple) else value)


def _feed_forward(x: Tile, blocks: Sequence[Block]) -> Tile:
    if len(blocks) == 1:
        ((block, arguments),) = blocks
        name = "inp" if "inp" in arguments else "hidden_tensor"
        return _first(block(**{**arguments, name: x}))
    (norm, with_norm), (product, with_product), (choice, with_choice), (experts, with_experts) = blocks
    rows = x.reshape((x.shape[0] * x.shape[1], x.shape[2]))
    normed = _first(norm(**{**with_norm, "x": rows}))
    _meet(normed)
    logits = _first(product(**{**with_product, "lhsT": normed.permute((1, 0))}))
    _meet(logits)
    shares, chosen = cast("tuple[Tile, Tile]", choice(**{**with_choice, "logits": logits}))
    _meet(chosen)
    return _first(
        experts(**{**with_experts, "hidden_input": normed, "expert_affinities": shares, "expert_index": chosen})
    )


def _meet(tensor: Tile) -> None:
    """Both cores of a pair see what either stored."""
    if nl.num_programs(axes=0) > 1:
        nisa.core_barrier(data=tensor, cores=(0, 1))


def _added(x: Tile, part: Tile, ranks: int) -> Tile:
    """The residual stream with the sum of all ranks' parts of a block added."""
    tokens, width = x.shape[0] * x.shape[1], x.shape[2]
    part = part.reshape((tokens, width))
    _meet(part)
    if ranks > 1:
        total = nl.ndarray((tokens, width), dtype=part.dtype, buffer=nl.shared_hbm)
        nccl.all_reduce(srcs=[part], dsts=[total], replica_group=[list(range(ranks))], op=nl.add)
        part = total
    out = nl.ndarray((tokens, width), dtype=x.dtype, buffer=nl.shared_hbm)
    before, change, after = (nl.ndarray((tokens, width), dtype=x.dtype, buffer=nl.sbuf) for _ in range(3))
    nisa.dma_copy(dst=before, src=x.reshape((tokens, width)))
    nisa.dma_copy(dst=change, src=part)
    nisa.tensor_tensor(dst=after, data1=before, data2=change, op=nl.add)
    nisa.dma_copy(dst=out, src=after)
    return out


def reduce_among(tokens: int, width: int, ranks: int) -> Tile:
    """An all-reduce of [tokens, width] in bf16 among ranks, alone."""
    part, total = (nl.ndarray((tokens, width), dtype=nl.bfloat16, buffer=nl.shared_hbm) for _ in range(2))
    nccl.all_reduce(srcs=[part], dsts=[total], replica_group=[list(range(ranks))], op=nl.add)
    return total


def gather_among(tokens: int, width: int, ranks: int) -> Tile:
    """An all-gather of [tokens, width] float32 of each rank, alone."""
    part = nl.ndarray((tokens, width), dtype=nl.float32, buffer=nl.shared_hbm)
    every = nl.ndarray((ranks * tokens, width), dtype=nl.float32, buffer=nl.shared_hbm)
    nccl.all_gather(srcs=[part], dsts=[every], replica_group=[list(range(ranks))], collective_dim=0)
    return every
