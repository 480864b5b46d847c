"""Independent packages from PyPI in their NKI mode: trntensor, trnblas, trnsparse (new interface, through their own
simulator switch), trnfft, trnsolver (older interface, called as on a device).

Each public function runs twice: its kernel on our machine, and the package's own PyTorch path as the reference. The
packages fall back to PyTorch when a kernel fails; their `*_REQUIRE_NKI` switches turn that off.
"""

import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from registry import Skip, case, close, uniform

SWITCHES = {
    **{f"TRN{p}_REQUIRE_NKI": "1" for p in ("TENSOR", "BLAS", "SPARSE", "SOLVER", "FFT")},
    **{f"TRN{p}_USE_SIMULATOR": "1" for p in ("TENSOR", "BLAS", "SPARSE")},
    "TRNTENSOR_MIN_NKI_FLOPS": "0",
    "TRNBLAS_AUTOTUNE": "0",
}


def package(name: str) -> ModuleType:
    os.environ.update(SWITCHES)  # read when the package is imported
    try:
        importlib.import_module("torch")
        return importlib.import_module(name)
    except ImportError as error:
        raise Skip(f"pip install {name} torch ({error})") from error


def tensor(*shape: int, **kwargs: Any) -> Any:
    import torch

    return torch.from_numpy(uniform(*shape, **kwargs))


def flat(result: Any) -> list[np.ndarray]:
    """The arrays of a result: a tensor, a complex pair, or a sequence of them."""
    if isinstance(result, (tuple, list)):
        return [a for r in result for a in flat(r)]
    if hasattr(result, "real") and hasattr(result, "to_torch_complex"):
        return [np.asarray(result.real), np.asarray(result.imag)]
    return [np.asarray(result.detach() if hasattr(result, "detach") else result)]


def both(name: str, function: Callable[[ModuleType], Any], rtol: float = 1e-4, atol: float = 1e-4) -> None:
    """Run `function(package)` on the kernel and on PyTorch, and compare."""
    p = package(name)
    if not p.HAS_NKI:
        raise AssertionError(f"{name} did not find nki")
    try:
        p.set_backend("pytorch")
        want = flat(function(p))
        p.set_backend("nki")
        got = flat(function(p))
    finally:
        p.set_backend("auto")
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        close(g, w, rtol, atol)


def energies(occupied: int, virtual: int) -> tuple[Any, Any]:
    return tensor(occupied, low=-2, high=-1), tensor(virtual, seed=1, low=1, high=2)


# ---------------------------------------------------------------- trntensor
for _m, _k, _n in ((128, 128, 512), (100, 200, 70), (256, 128, 1024)):

    @case(f"pypi/trntensor/einsum_matmul/{_m}x{_k}x{_n}")
    def _(m: int = _m, k: int = _k, n: int = _n) -> None:
        both("trntensor", lambda p: p.einsum("ij,jk->ik", tensor(m, k), tensor(k, n, seed=1)), atol=1e-3)


@case("pypi/trntensor/einsum_batched")
def _() -> None:
    both("trntensor", lambda p: p.einsum("bij,bjk->bik", tensor(3, 100, 130), tensor(3, 130, 64, seed=1)), atol=1e-3)


@case("pypi/trntensor/mp2_energy")
def _() -> None:
    both("trntensor", lambda p: p.mp2_energy(tensor(3, 16, 32), *energies(3, 16)), atol=1e-3)


@case("pypi/trntensor/ao_to_mo_transform")
def _() -> None:
    args = tensor(24, 24, 8), tensor(24, 5, seed=1), tensor(24, 19, seed=2)
    both("trntensor", lambda p: p.ao_to_mo_transform(*args), atol=1e-3)


# ---------------------------------------------------------------- trnblas
for _m, _k, _n in ((128, 128, 512), (200, 300, 100)):

    @case(f"pypi/trnblas/gemm/{_m}x{_k}x{_n}")
    def _(m: int = _m, k: int = _k, n: int = _n) -> None:
        both("trnblas", lambda p: p.gemm(1.5, tensor(m, k), tensor(k, n, seed=1)), atol=1e-3)


@case("pypi/trnblas/batched_gemm")
def _() -> None:
    both("trnblas", lambda p: p.nki.nki_batched_gemm(tensor(2, 96, 128), tensor(2, 128, 80, seed=1)), atol=1e-3)


@case("pypi/trnblas/syrk")
def _() -> None:
    both("trnblas", lambda p: p.nki.nki_syrk(tensor(200, 150)), atol=1e-3)


@case("pypi/trnblas/trsm")
def _() -> None:
    import torch

    a = tensor(300, 300) * 0.01 + torch.eye(300)
    both("trnblas", lambda p: p.nki.nki_trsm(a, tensor(300, 40, seed=1), uplo="lower"), atol=1e-3)


@case("pypi/trnblas/mp2_energy")
def _() -> None:
    occupied, virtual, chunk = 3, 128, 1
    occ, vir = energies(occupied, virtual)
    t = tensor(chunk * virtual, occupied * virtual)
    both("trnblas", lambda p: p.nki.nki_mp2_energy(t, occ[:chunk], occ, vir), rtol=1e-3)


@case("pypi/trnblas/fused_gemm_energy")
def _() -> None:
    _, vir = energies(1, 128)
    b = tensor(128, 64), tensor(128, 64, seed=1)
    both("trnblas", lambda p: p.nki.nki_fused_gemm_energy(*b, -1.0, -1.5, vir), rtol=1e-3)


@case("pypi/trnblas/batched_pair_energy")
def _() -> None:
    both("trnblas", lambda p: p.nki.nki_batched_pair_energy(tensor(3, 128, 64), *energies(3, 128)), rtol=1e-3)


# ---------------------------------------------------------------- trnsparse
def sparse(rows: int, cols: int, seed: int = 0) -> Any:
    import torch

    a = tensor(rows, cols, seed=seed)
    return torch.where(tensor(rows, cols, seed=seed + 7) > 0.6, a, torch.zeros_like(a))


def blocks(rows: int, cols: int) -> Any:
    """A dense matrix in which only some 128 x 128 blocks are not zero."""
    import torch

    a, mask = tensor(rows * 128, cols * 128), torch.eye(rows, cols) + torch.eye(rows, cols).flip(0)
    return a * (mask > 0).repeat_interleave(128, 0).repeat_interleave(128, 1)


@case("pypi/trnsparse/spmm")
def _() -> None:
    both("trnsparse", lambda p: p.spmm(p.from_dense(sparse(150, 200)), tensor(200, 60, seed=1)), atol=1e-3)


@case("pypi/trnsparse/bsr_spmm")
def _() -> None:
    both("trnsparse", lambda p: p.bsr_spmm(p.BSRMatrix.from_dense(blocks(3, 3)), tensor(384, 40, seed=1)), atol=1e-3)


@case("pypi/trnsparse/screened_spmm")
def _() -> None:
    args = tensor(256, 256), tensor(256, seed=1), tensor(256, 64, seed=2)
    both("trnsparse", lambda p: p.screened_spmm(*args, threshold=0.05), atol=1e-3)


for _dim in (64, 128, 256):

    @case(f"pypi/trnsparse/block_sparse_attention/{_dim}")
    def _(dim: int = _dim) -> None:
        qkv = [tensor(512, dim, seed=s) for s in range(3)]  # two blocks in each row: where rows differ, padding counts
        both(
            "trnsparse", lambda p: p.block_sparse_attention_tiled(*qkv, p.BSRMatrix.from_dense(blocks(4, 4))), atol=1e-3
        )


@case("pypi/trnsparse/block_sparse_attention_backward")
def _() -> None:
    def gradients(p: ModuleType) -> list[Any]:
        qkv = [tensor(256, 64, seed=s).requires_grad_() for s in range(3)]
        p.block_sparse_attention_tiled(*qkv, p.BSRMatrix.from_dense(blocks(2, 2))).square().sum().backward()
        return [x.grad for x in qkv]

    both("trnsparse", gradients, atol=1e-3)


@case("pypi/trnsparse/cg_bsr")
def _() -> None:
    import torch

    a = blocks(2, 2)
    a = 0.01 * (a + a.T) + 4 * torch.eye(256)
    both("trnsparse", lambda p: p.cg_bsr(p.BSRMatrix.from_dense(a), tensor(256, seed=3), max_iter=20)[0], atol=1e-3)


# ---------------------------------------------------------------- trnfft
def pair(p: ModuleType, *shape: int, seed: int = 0) -> Any:
    return p.ComplexTensor(tensor(*shape, seed=seed), tensor(*shape, seed=seed + 50))


for _shape in ((4, 64), (2, 512), (3, 1024)):

    @case(f"pypi/trnfft/fft/{_shape[0]}x{_shape[1]}")
    def _(shape: tuple[int, int] = _shape) -> None:
        both("trnfft", lambda p: p.fft(pair(p, *shape)), atol=2e-3)


@case("pypi/trnfft/fft_kahan")
def _() -> None:
    def run(p: ModuleType) -> Any:
        p.set_precision("kahan")
        try:
            return p.fft(pair(p, 2, 64))
        finally:
            p.set_precision("fast")

    both("trnfft", run)


@case("pypi/trnfft/ifft")
def _() -> None:
    both("trnfft", lambda p: p.ifft(pair(p, 2, 512)))


@case("pypi/trnfft/fft_bluestein")
def _() -> None:
    both("trnfft", lambda p: p.fft(pair(p, 2, 100)), atol=2e-3)


@case("pypi/trnfft/rfft")
def _() -> None:
    both("trnfft", lambda p: p.rfft(tensor(4, 256)), atol=2e-3)


@case("pypi/trnfft/stft")
def _() -> None:
    both("trnfft", lambda p: p.stft(tensor(1, 2048), n_fft=256, hop_length=128), atol=2e-3)


@case("pypi/trnfft/complex_gemm")
def _() -> None:
    def run(p: ModuleType) -> Any:
        f = importlib.import_module("trnfft.nki.dispatch").complex_gemm
        return f(pair(p, 128, 256), pair(p, 256, 512, seed=1))

    both("trnfft", run, atol=1e-3)


@case("pypi/trnfft/complex_linear")
def _() -> None:
    def run(p: ModuleType) -> Any:
        f = importlib.import_module("trnfft.nki.dispatch").complex_linear
        return f(pair(p, 128, 128), tensor(64, 128, seed=1), tensor(64, 128, seed=2))

    both("trnfft", run, atol=1e-3)


@case("pypi/trnfft/complex_mask")
def _() -> None:
    def run(p: ModuleType) -> Any:
        f = importlib.import_module("trnfft.nki.dispatch").complex_mask_apply
        return f(pair(p, 64, 128), pair(p, 64, 128, seed=1))

    both("trnfft", run)


# ---------------------------------------------------------------- trnsolver
@case("pypi/trnsolver/eigh")
def _() -> None:
    a = tensor(8, 8)

    def run(p: ModuleType) -> Any:
        return p.eigh(a + a.T)[0]  # eigenvectors have no sign

    both("trnsolver", run, atol=1e-3)


@case("pypi/trnsolver/jacobi_rotation_kernel")
def _() -> None:
    package("trnsolver")
    d = importlib.import_module("trnsolver.nki.dispatch")
    n, p, q, c, s = 8, 1, 5, 0.8, 0.6
    a, v = uniform(n, n), np.eye(n, dtype=np.float32)
    want, basis = a + a.T, v.copy()
    got, got_basis = want.copy(), v.copy()
    for m in (want, want.T, basis.T):  # rows of D, its columns, the columns of V
        m[p], m[q] = c * m[p] - s * m[q], s * m[p] + c * m[q]
    want[p, q] = want[q, p] = 0
    d.jacobi_rotation_kernel(got, got_basis, p, q, c, s, n)
    close(got, want, 1e-5, 1e-5)
    close(got_basis, basis, 1e-5, 1e-5)
