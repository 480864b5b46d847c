"""Kernels of nki-samples (both generations of the interface) and the documentation's unit files (the older one).

nki-samples' own tests import reference modules which its repository no longer has, so the references are ours.
"""

import importlib.util
import unittest
from pathlib import Path
from typing import Any

import numpy as np
from cases_docs import MATMULS
from registry import BF16, SAMPLES, SDK, Skip, case, close, f32, load, mamba, mamba_inputs, simulate, uniform

TUTORIALS = SAMPLES / "src/nki_samples/tutorials"
CONTRIBUTED = SAMPLES / "contributed"


def needs_beta1() -> None:
    try:
        found = importlib.util.find_spec("neuronxcc.nki.language") is not None
    except (ImportError, ValueError, AttributeError):
        found = False
    if not found:
        raise Skip("no neuronxcc.nki: the older front end is not there")


def simulate_beta1(kernel: Any, *args: Any, **kwargs: Any) -> Any:
    from neuronxcc import nki

    return nki.simulate_kernel(kernel, *args, **kwargs)


for _kernel, _shape, _blocks in MATMULS:

    @case(f"samples/matmul_{_kernel}")
    def _(kernel: str = _kernel, shape: tuple[int, int, int] = _shape, blocks: dict[str, int] = _blocks) -> None:
        m = load(TUTORIALS / "matrix_multiplication/matrix_multiplication_nki_kernels.py")
        k, rows, cols = shape
        a, b = uniform(k, rows, dtype=BF16), uniform(k, cols, dtype=BF16, seed=1)
        close(simulate(getattr(m, f"nki_matmul_{kernel}_"), a, b, **blocks), f32(a).T @ f32(b), 2e-2, 0.3)


@case("samples/tensor_addition")
def _() -> None:
    needs_beta1()
    m = load(TUTORIALS / "tensor_addition/tensor_addition_nki_kernels.py")
    a, b = uniform(256, 1024), uniform(256, 1024, seed=1)
    close(simulate_beta1(m.nki_tensor_add_kernel_[2, 2], a, b), a + b, 1e-5, 1e-6)


@case("samples/spmd_tensor_addition")
def _() -> None:
    needs_beta1()
    m = load(TUTORIALS / "tensor_addition/spmd_tensor_addition_nki_kernels.py")
    a, b = uniform(512, 2048), uniform(512, 2048, seed=1)
    close(simulate_beta1(m.nki_tensor_add_kernel_[4, 4], a, b), a + b, 1e-5, 1e-6)


@case("samples/spmd_tensor_addition_two_cores")
def _() -> None:
    needs_beta1()
    m = load(TUTORIALS / "tensor_addition/spmd_multiple_nc_tensor_addition_nki_kernels.py")
    a, b = uniform(512, 2048, dtype=np.float16), uniform(512, 2048, dtype=np.float16, seed=1)
    close(m.nki_tensor_add_nc2(a, b), a + b, 1e-2, 1e-4)


@case("samples/transpose2d")
def _() -> None:
    needs_beta1()
    m = load(TUTORIALS / "transpose2d/transpose2d_nki_kernels.py")
    x = uniform(2, 35)
    want = x.reshape(2, 5, 7).transpose(0, 2, 1).reshape(2, 35)
    close(simulate_beta1(m.tensor_transpose2D_kernel_, x, (5, 7)), want, 0, 0)


@case("samples/average_pool2d")
def _() -> None:
    needs_beta1()
    m = load(TUTORIALS / "average_pool2d/average_pool2d_nki_kernels.py")
    x = uniform(2, 6, 6)
    close(simulate_beta1(m.tensor_avgpool_kernel, x, 2), x.reshape(2, 3, 2, 3, 2).mean((2, 4)), 1e-5, 1e-6)


for _version in ("v1", "v2", "v3"):

    @case(f"samples/mamba_{_version}")
    def _(version: str = _version) -> None:
        needs_beta1()
        m = load(TUTORIALS / "fused_mamba/mamba_nki_kernels.py")
        inputs = mamba_inputs()
        close(simulate_beta1(getattr(m, f"mamba_{version}"), *inputs), mamba(*inputs), 1e-2, 1e-2)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """softmax(q^T k) v^T for [head, sequence] operands; no scale, no mask."""
    scores = q.T @ k
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return (weights / weights.sum(1, keepdims=True)) @ v.T


for _nth in range(1, 12):

    @case(f"samples/attention_fwd_v{_nth}")
    def _(nth: int = _nth) -> None:
        needs_beta1()
        m = load(TUTORIALS / "attention_fwd_performance/attention_kernels.py")
        kernel = getattr(m, f"attn_fwd_v{nth}", None)
        if kernel is None:
            raise Skip(f"this checkout has no attn_fwd_v{nth}")
        length = 128 if nth < 3 else 2048
        q, k, v = (uniform(128, length, seed=s) for s in range(3))
        close(simulate_beta1(kernel, q, k, v), attention(q, k, v), 0, 1e-2)


@case("samples/contributed_matmul")
def _() -> None:
    needs_beta1()
    from neuronxcc import nki

    m = load(CONTRIBUTED / "matmul.py")
    a, b = uniform(1024, 512, dtype=np.float16, low=0), uniform(1024, 2048, dtype=np.float16, seed=1, low=0)
    close(simulate_beta1(nki.jit(m.matmul), a, b), f32(a).T @ f32(b), 1e-2, 1e-2)


@case("samples/contributed_maxpooling")
def _() -> None:
    needs_beta1()
    m = load(CONTRIBUTED / "maxpooling.py")
    x = uniform(448, 448)
    want = np.lib.stride_tricks.sliding_window_view(x, (3, 3)).max((2, 3))
    close(simulate_beta1(m.max_pooling_2d_stride_1, x, 3), want, 1.3e-6, 1e-5)


def doubled(x: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation to twice the size along one axis, half-pixel centres, edges held."""
    n = x.shape[axis]
    before, after = np.take(x, np.r_[0, : n - 1], axis), np.take(x, np.r_[1:n, n - 1], axis)
    both = np.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
    return both.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])


@case("samples/contributed_interpolate_bilinear")
def _() -> None:
    needs_beta1()
    m = load(CONTRIBUTED / "interpolate_bilinear_fwd.py")
    x = uniform(2, 64, 32, 32, low=0)
    close(simulate_beta1(m.interpolate_bilinear_2x_fwd, x), doubled(doubled(x, 2), 3), 1e-2, 1e-4)


@case("samples/contributed_interpolate_trilinear")
def _() -> None:
    needs_beta1()
    m = load(CONTRIBUTED / "interpolate_trilinear_fwd.py")
    x = uniform(2, 64, 13, 13, 13, low=0)
    close(simulate_beta1(m.interpolate_trilinear_2x_fwd, x), doubled(doubled(doubled(x, 2), 3), 4), 1e-2, 1e-4)


def expected_to_fail(test: unittest.TestCase) -> bool:
    """True where the documentation itself marks the test xfail."""
    method = getattr(test, test.id().rsplit(".", 1)[-1], None)
    return any(m.name == "xfail" for m in getattr(method, "pytestmark", []))


def unit_file(path: Path) -> None:
    """One of the documentation's unittest files (`@nki.jit(mode="simulation")`), its own references."""
    needs_beta1()
    m = load(path)
    suite, result = unittest.defaultTestLoader.loadTestsFromModule(m), unittest.TestResult()
    suite.run(result)
    if result.testsRun == 0:
        raise Skip("no test in the file")
    bad = [(t, text) for t, text in result.errors + result.failures if not expected_to_fail(t)]
    if bad:
        raise AssertionError(f"{len(bad)} of {result.testsRun} tests: " + bad[0][1].strip().split("\n")[-1])


_unit = SDK / "nki/test"
for _file in sorted(_unit.glob("test_*.py")) if _unit.is_dir() else ():

    @case(f"beta1/{_file.stem.removeprefix('test_')}")
    def _(file: Path = _file) -> None:
        unit_file(file)
