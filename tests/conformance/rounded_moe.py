"""The reference of nki-library's MoE block with its kernel's roundings: what differs then differs by the machine.

`moe_block_tkg_torch_ref` computes in float32 and rounds only where it quantises. The kernel keeps its results in tiles
of bfloat16, as the functions below say, each with the file that writes such a tile. The MX formats have three bits
after the leading one (float8_e4m3fn), so that the last bit of a bfloat16 may decide between values 6% to 12% apart.
In between all is float32; the order of a float32 sum is not followed. With all local experts on MX weights every
stage is rounded, in other cases the normalised input alone, and nothing where the input is float16.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
from rounded import CORES, ROWS, Array, bf16

TILE = 4 * ROWS
"""Elements that one nc_matmul_mx contracts: four in each row of the array."""
BLOCK = 8
"""Rows that share a scale."""
SLOPES = {"silu": 1.0, "swish": 1.702}
"""Of the activations x * sigmoid(slope * x) that are followed."""


def normed(x: Array, gamma: Array, eps: float, size: int, mx: bool) -> Array:
    """The RMSNorm of x, (..., H), over `size` elements. rmsnorm_mx_quantize_tkg.py (`mx`) keeps x * gamma in a tile of
    bfloat16, rmsnorm_tkg.py in one of float32; both write the result as bfloat16."""
    mean = np.square(x).sum(-1, keepdims=True) * np.float32(1 / size)
    scaled = x * gamma
    return bf16((bf16(scaled) if mx else scaled) * (1 / np.sqrt(mean + np.float32(eps))))


def accumulated(product: Callable[..., Array], a: Any, b: Any, a_scale: Any, b_scale: Any) -> Array:
    """`product`, an MX matmul that contracts the rows of its arguments, a tile of the array at a time: the products are
    added in PSUM tiles of bfloat16 (gate_up_projection_mx.py, down_projection_mx.py)."""
    total = np.float32(0)
    for row in range(0, len(a), ROWS):
        rows, blocks = slice(row, row + ROWS), slice(row // BLOCK, (row + ROWS) // BLOCK)
        total = bf16(total + product(a[rows], b[rows], a_scale[blocks], b_scale[blocks]))
    return total


def weighted(outputs: list[Array], affinities: Array) -> Array:
    """The sum of the experts' outputs, each (T, H), times their affinities, (T, E): down_projection_mx.py writes each
    product and each sum as bfloat16."""
    first, *others = (bf16(out * affinities[:, [e]]) for e, out in enumerate(outputs))
    return functools.reduce(lambda total, out: bf16(total + out), others, first)


def shares(parts: int) -> list[slice]:
    """Of `parts` tiles of the intermediate dimension, those of each core; one core's where there are too few."""
    cores = CORES if parts >= CORES else 1
    each = -(-parts // cores)
    return [slice(first, min(first + each, parts)) for first in range(0, parts, each)]


def all_experts(moe: Any, **given: Any) -> Array:
    """`_moe_tkg_mx_ref` of `moe`, the reference's module, where each local expert takes all tokens.

    gate_up_projection_mx.py writes gate and up, each with its bias, the activation of the gate, and its product with up
    as bfloat16. down_projection_mx.py: the cores share out the intermediate dimension; each adds its half of the bias,
    writes that as bfloat16 and adds up its experts; then the cores' sums are added in bfloat16."""
    import torch

    x, weights, down = given["hidden_input"].numpy(), given["expert_gate_up_weights"], given["expert_down_weights"]
    gate_up_bias, down_bias = given["expert_gate_up_bias"], given["expert_down_bias"]
    (tokens, hidden), experts, inter = x.shape, len(weights), weights.shape[-1]
    unpack = moe.unpack_float4_x4 if "float4" in str(weights.dtype) else moe.unpack_float8_e4m3fn_x4
    tiles, slope = hidden // TILE, SLOPES[given["act_fn"]]
    swizzled = x.reshape(tokens, 4, tiles, ROWS).transpose(3, 2, 0, 1).reshape(ROWS, -1)
    packed, scale = moe.quantize_to_mx(swizzled, moe.nl.float8_e4m3fn_x4)
    packed, scales = packed.reshape(ROWS, tiles, tokens), torch.from_numpy(scale.reshape(ROWS // BLOCK, tiles, tokens))

    def projected(e: int, part: int, name: str) -> Array:
        out = moe.gate_up_proj_mxfp4_torch_ref(
            packed,
            scales,
            weights[e][:, part],
            given["expert_gate_up_weights_scale"][e][:, part],
            None if gate_up_bias is None else gate_up_bias[e][:, part],
            hidden,
            inter,
            tokens,
            hidden_unpack_fn=moe.unpack_float8_e4m3fn_x4,
            weight_unpack_fn=unpack,
        )["out"]
        low, high = given[f"{name}_clamp_lower_limit"], given[f"{name}_clamp_upper_limit"]
        return bf16(out).clip(-np.inf if low is None else low, np.inf if high is None else high)

    def multiplied(e: int) -> Array:
        gate, up = projected(e, 0, "gate"), projected(e, 1, "up")
        return bf16(bf16(gate / (1 + np.exp(-slope * gate))) * up)

    def output(e: int, core: int, share: slice, count: int) -> Array:
        half = np.arange(hidden) * count // hidden == core
        return bf16(
            moe.down_proj_mxfp4_torch_ref(
                torch.from_numpy(products[e][:, share]),
                down[e][:, share],
                given["expert_down_weights_scale"][e][:, share],
                None if down_bias is None else down_bias[e] * torch.from_numpy(half),
                hidden,
                min(inter, share.stop * TILE) - share.start * TILE,
                tokens,
                weight_unpack_fn=unpack,
            )["out"]
        )

    products = [multiplied(e) for e in range(experts)]
    cores = shares(-(-inter // TILE))
    sums = [
        weighted([output(e, core, share, len(cores)) for e in range(experts)], given["expert_affinities"].numpy())
        for core, share in enumerate(cores)
    ]
    return functools.reduce(lambda total, out: bf16(total + out), sums)


def apply() -> None:
    """Put the roundings into the reference (torch tensors in and out), in this process."""
    import torch

    library = "nkilib_src.nkilib.core."
    block: Any = importlib.import_module(library + "moe_block.moe_block_tkg_torch")
    moe: Any = importlib.import_module(library + "moe.moe_tkg.moe_tkg_torch")
    projections: Any = importlib.import_module(library + "mlp.mlp_tkg.mlp_proj_mxfp4_torch")
    experts, reference, multiply = moe._moe_tkg_mx_ref, block.moe_block_tkg_torch_ref, projections.mx_matmul

    def product(*operands: Any) -> torch.Tensor:
        return torch.from_numpy(accumulated(lambda *tile: multiply(*tile).numpy(), *operands))

    def rounded_experts(**given: Any) -> dict[str, Array]:
        if not given["is_all_expert"] or given["act_fn"] not in SLOPES or given["scale_mode"] != 1:
            return experts(**given)
        with mock.patch.object(projections, "mx_matmul", product):
            return {"out": all_experts(moe, **given)}

    @functools.wraps(reference)
    def rounded_block(**given: Any) -> Any:
        x, gamma = given["inp"].numpy(), given["gamma"].numpy()
        if not np.array_equal(bf16(x), x):
            return reference(**given)
        mx = given["is_all_expert"] and moe._is_mx_weight(given["expert_gate_up_weights"])

        def norm(*_: Any, eps: float, hidden_actual: int | None) -> torch.Tensor:
            return torch.from_numpy(normed(x, gamma, eps, hidden_actual or x.shape[-1], mx))

        with (
            mock.patch.object(block, "rms_norm_torch_ref", norm),
            mock.patch.object(moe, "_moe_tkg_mx_ref", rounded_experts),
        ):
            return reference(**given)

    block.moe_block_tkg_torch_ref = rounded_block
    for name, module in list(sys.modules.items()):
        if name.endswith(".test_moe_block_tkg"):
            module.moe_block_tkg_torch_ref = rounded_block  # type: ignore[attr-defined]
