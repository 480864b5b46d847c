"""The reference of nki-library's attention block with its kernel's roundings: what differs then differs by the machine,
or by the arithmetic.

`AttentionBlockTkgTorchRef` computes in float32 throughout; the kernel (attention_block_tkg.py and what it calls) keeps
the result of each stage in a tile of bfloat16 or float8_e4m3. `apply` replaces or wraps the stages of the reference by
those below, which round where the named file of the kernel writes such a tile. In between they compute in float32, as
PSUM and the engines do; the order of a float32 sum is not followed. Two stages, the projections, are rounded only for
static fp8 weights without bias, of any batch; with other weights they stay as they are. Not followed: flash attention
takes exponentials against the largest score so far, whose bfloat16 has the same relative error.
"""

import importlib
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]
FP8_MAX = np.float32(ml_dtypes.finfo(ml_dtypes.float8_e4m3).max)
CORES = 2
"""Physical cores (LNC), between which the kernel shares out the hidden dimension."""
ROWS = 128
"""Of the systolic array; more rows of batch x tokens than that go through qkv_cte.py instead of qkv_tkg.py."""


def bf16(x: Any) -> Array:
    """What a bfloat16 tile holds after x is written to it (to nearest, even), as float32.

    >>> float(bf16(257))
    256.0
    """
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def fp8(x: Any) -> Array:
    """What a float8_e4m3 tile holds after x, clipped to +-240, is written to it, as float32.

    >>> fp8([17, 300]).tolist()
    [16.0, 240.0]
    """
    return np.asarray(x, np.float32).clip(-FP8_MAX, FP8_MAX).astype(ml_dtypes.float8_e4m3).astype(np.float32)


def normalised(x: Array, gamma: Array, eps: float, size: int, scale: Any) -> Array:
    """The fp8 input of the QKV product, (rows, H), from x, (rows, H): its RMSNorm over `size` elements, divided by the
    input's scale.

    Up to 128 rows: rmsnorm_tkg.py writes x * gamma / rms as bfloat16; qkv_tkg.py writes its product with 1 / scale as
    bfloat16, then as fp8. More rows: qkv_cte.py writes x / rms as bfloat16, its product with gamma as bfloat16, that
    with 1 / scale as fp8; its eps is in an fp8 tile."""
    small = len(x) <= ROWS
    mean = np.square(x).sum(-1, keepdims=True) * np.float32(1 / size)
    rsqrt = 1 / np.sqrt(mean + np.float32(eps if small else fp8(eps)))
    inverse = 1 / np.float32(scale)
    return fp8(bf16(bf16(x * gamma * rsqrt) * inverse)) if small else fp8(bf16(bf16(x * rsqrt) * gamma) * inverse)


def projected(x: Array, w: Array, scales: Array) -> Array:
    """Q, K and V of all heads in bfloat16, (rows, I), from fp8 x, (rows, H), fp8 w, (H, I), and a scale for each
    column, (I,).

    qkv_cte.py (over 128 rows) writes the product as bfloat16, then times the scale. qkv_tkg.py adds partial sums in a
    bfloat16 tile: up to 32 (64) rows use 4 (2) parts of the systolic array, and a core's tile t of 128 of the hidden
    dimension goes to part t mod 4 (2). Each core then applies the scale, and adds what the other core sends."""
    rows, hidden = x.shape
    if rows > ROWS:
        return bf16(bf16(x @ w) * scales)
    parts = 4 if rows <= 32 else 2 if rows <= 64 else 1
    tiles = hidden // CORES // 128
    if tiles % parts:
        raise NotImplementedError(f"{tiles} tiles of the hidden dimension in {parts} parts")
    x, w = x.reshape(rows, CORES, 128, tiles), w.reshape(CORES, 128, tiles, -1)
    halves = []
    for core in range(CORES):
        out = np.zeros((rows, w.shape[-1]), np.float32)
        for p in range(parts):
            out = bf16(out + x[:, core, :, p::parts].reshape(rows, -1) @ w[core, :, p::parts].reshape(-1, w.shape[-1]))
        halves.append(bf16(out * scales))
    return bf16(halves[0] + halves[1])


def rope(x: Array, cos: Array, sin: Array, contiguous: bool) -> Array:
    """x, (d, S), turned by cos and sin, (d/2, S): rope.py writes the four products and the two sums as bfloat16."""
    half = len(x) // 2
    first, second = (slice(half), slice(half, None)) if contiguous else (slice(0, None, 2), slice(1, None, 2))
    out = np.empty_like(x)
    out[first] = bf16(bf16(x[first] * cos) - bf16(x[second] * sin))
    out[second] = bf16(bf16(x[second] * cos) + bf16(x[first] * sin))
    return out


def apply() -> None:
    """Put the roundings into the reference (torch tensors in and out), in this process."""
    import torch

    library = "nkilib_src.nkilib."
    block: Any = importlib.import_module(library + "experimental.transformer.attention_block_tkg_torch")
    attention: Any = importlib.import_module(library + "core.attention.attention_tkg_torch")
    static = importlib.import_module(library + "core.utils.common_types").QuantizationType.STATIC
    reference = block.AttentionBlockTkgTorchRef
    project_in, project_out = block.qkv_tkg_torch_ref, block.output_projection_tkg_torch_ref
    norm, quantise, attend = reference._rms_norm, reference._quantize_kv_to_fp8, reference._run_attention

    def held(x: Any, tile: Callable[[Any], Array] = bf16) -> torch.Tensor:
        return torch.from_numpy(tile(x))

    def qkv(**given: Any) -> Any:
        if given["quantization_type"] != static or given["qkv_bias"] is not None or given["norm_w"] is None:
            return project_in(**given)
        (batch, tokens, hidden), heads, d = given["hidden"].shape, given["num_q_heads"], given["d_head"]
        arrays = (given[name].numpy() for name in ("hidden", "qkv_w", "norm_w", "qkv_in_scale", "qkv_w_scale"))
        x, w, gamma, scale, scales = (a.astype(np.float32) for a in arrays)
        size = given["hidden_actual"] or hidden
        x = normalised(x.reshape(-1, hidden), gamma, given["eps"], size, scale[0, 0])
        out = projected(x, w, np.repeat(scales[0] * scale[0, 0], (heads * d, d, d)))
        return {"out": torch.from_numpy(out).reshape(batch, tokens, heads + 2, d).permute(2, 0, 1, 3).contiguous()}

    def output(**given: Any) -> Any:
        """output_projection_tkg.py writes its input times 1 / scale as bfloat16, then as fp8; the product times both
        scales as bfloat16."""
        if given["quantization_type"] != static or given["bias"] is not None:
            return project_out(**given)
        scale = given["input_scale"][0, 0]
        x = held(held(given["attention"] * (1 / scale)), fp8)
        out = project_out(**given | {"attention": x, "quantization_type": None})["out"]
        return {"out": held(out * (given["weight_scale"][0, 0] * scale))}

    def run(self: Any, q: torch.Tensor, *rest: Any, **given: Any) -> torch.Tensor:
        """attention_block_tkg.py scales Q in its bfloat16 tile; attention_tkg.py writes the exponentials, before they
        are summed, and the attention's output as bfloat16."""
        *others, softmax_scale, heads = rest
        q = held(q * np.float32(len(q) ** -0.5 if softmax_scale is None else softmax_scale))
        rounding = types.SimpleNamespace(**vars(torch) | {"exp": lambda x: held(torch.exp(x))})
        with mock.patch.object(attention, "torch", rounding):
            return held(attend(self, q, *others, 1.0, heads, **given))

    def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, contiguous: bool) -> torch.Tensor:
        return torch.from_numpy(rope(x.numpy(), cos.numpy(), sin.numpy(), contiguous))

    block.qkv_tkg_torch_ref, block.output_projection_tkg_torch_ref = qkv, output
    block._rope_single_head = turned
    reference._rms_norm = lambda *args, **given: held(norm(*args, **given))
    reference._quantize_kv_to_fp8 = lambda *args: tuple(held(x, fp8) for x in quantise(*args))
    reference._run_attention = run
