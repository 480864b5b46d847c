"""What kernels of third parties compute, in NumPy: name in third_party.yaml -> function of the inputs of a call."""

from collections.abc import Callable
from typing import Any

import numpy as np
from registry import f32, mamba


def softmax(x: Any) -> np.ndarray:
    x = f32(x)
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def conv2d(x: Any, w: Any, bias: Any, pool_size: int = 1) -> np.ndarray:
    x, w = f32(x), f32(w)
    height, width = x.shape[2] - w.shape[2] + 1, x.shape[3] - w.shape[3] + 1
    out = np.zeros((x.shape[0], w.shape[0], height, width), np.float32)
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            out += np.einsum("oc,bchw->bohw", w[:, :, i, j], x[:, :, i : i + height, j : j + width])
    out += f32(bias)[None, :, None, None]
    p = pool_size
    return out.reshape(x.shape[0], w.shape[0], height // p, p, width // p, p).max((3, 5))


def pooled(x: Any, pool_size: int) -> np.ndarray:
    x, p = f32(x), pool_size
    return x.reshape(x.shape[0], x.shape[1] // p, p, x.shape[2] // p, p)


def attention(q: Any, k: Any, v: Any) -> np.ndarray:
    """q, k, v [head size, positions]; no scale, no mask."""
    return softmax(f32(q).T @ f32(k)) @ f32(v).T


def attention_of_rows(q: Any, k: Any, v: Any) -> np.ndarray:
    """The same with v [positions, head size]."""
    return softmax(f32(q).T @ f32(k)) @ f32(v)


def rmsnorm(x: Any, w: Any, eps: float) -> np.ndarray:
    x = f32(x)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * f32(w)


def complex_product(a: Any, ai: Any, b: Any, bi: Any, times: Callable[..., Any] = np.multiply) -> Any:
    z = times(f32(a) + 1j * f32(ai), f32(b) + 1j * f32(bi))
    return z.real, z.imag


def butterflies(x: Any, xi: Any, t: Any, ti: Any, n: int, stage: int) -> Any:
    """One stage of an FFT of radix 2: groups of 2^(stage + 1) numbers."""
    half = 2**stage
    z, w = (f32(x) + 1j * f32(xi)).reshape(-1, 2, half), f32(t) + 1j * f32(ti)
    odd = w * z[:, 1]
    out = np.stack([z[:, 0] + odd, z[:, 0] - odd], 1).reshape(-1, n)
    return out.real, out.imag


def twiddled_dft(x: Any, xi: Any, t: Any, ti: Any) -> Any:
    n = x.shape[1]
    dft = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    out = (f32(x) + 1j * f32(xi)) * (f32(t) + 1j * f32(ti)) @ dft
    return out.real, out.imag


def gelu(x: Any) -> np.ndarray:
    x = f32(x)
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gated_delta_rule(q: Any, k: Any, v: Any, log_decay: Any, beta: Any) -> Any:
    """A recurrent layer: the state decays, and moves towards giving v for k. log_decay and beta: one number a row."""
    state, out = np.zeros((k.shape[1], v.shape[1]), np.float32), np.zeros_like(v)
    for t in range(len(q)):
        state = state * np.exp(log_decay[t])
        state = state + np.outer(k[t], (v[t] - k[t] @ state) * beta[t])
        out[t] = q[t] @ state
    return out


def gate(u: Any, state: Any) -> np.ndarray:
    z = (u[0] + 1j * u[1]) @ (state[0] + 1j * state[1])
    return np.stack([z.real, z.imag])


REFERENCES: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: f32(a) + f32(b),
    "double": lambda x: 2 * f32(x),
    "negative": lambda x: -f32(x),
    "transpose": lambda x: f32(x).T,
    "transpose_in_rows": lambda x, shape2D: f32(x).reshape(len(x), *shape2D).transpose(0, 2, 1).reshape(len(x), -1),
    "matmul": lambda a, b: f32(a) @ f32(b),
    "matmul_of_transposed": lambda a, b: f32(a).T @ f32(b),
    "linear_of_transposed": lambda a, b, bias: f32(a).T @ f32(b) + f32(bias),
    "softmax": softmax,
    "gelu": gelu,
    "gelu_of_linear": lambda a, b, bias: gelu(f32(a).T @ f32(b) + f32(bias)),
    "conv2d": conv2d,
    "average_pool": lambda x, pool_size: pooled(x, pool_size).mean((2, 4)),
    "max_pool": lambda x, pool_size: pooled(x, pool_size).max((2, 4)),
    "mamba": mamba,
    "attention": attention,
    "attention_of_rows": attention_of_rows,
    "rmsnorm": rmsnorm,
    "matvec": lambda a, v: f32(a) @ f32(v),
    "rank2": lambda a, u, v: f32(a) - f32(u) @ f32(v).T - f32(v) @ f32(u).T,
    "complex_multiply": complex_product,
    "complex_matmul": lambda a, ai, b, bi: complex_product(a, ai, b, bi, np.matmul),
    "complex_linear": lambda x, xi, w, wi: complex_product(x, xi, w.T, wi.T, np.matmul),
    "gated_delta_rule": gated_delta_rule,
    "butterflies": butterflies,
    "twiddled_dft": twiddled_dft,
    "gate": gate,
    "ao_to_mo": lambda eri, occupied, virtual: np.einsum("mnp,mi,na->iap", eri, occupied, virtual, optimize=True),
    "sum_of_blocks": lambda a, b: np.einsum("tkij,tkjn->tin", a, b, optimize=True).reshape(-1, b.shape[-1]),
    "max_pool_stride_1": lambda x, pool_size: np.lib.stride_tricks.sliding_window_view(x, (pool_size, pool_size)).max(
        (2, 3)
    ),
}
