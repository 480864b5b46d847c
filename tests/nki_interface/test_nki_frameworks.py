"""Arrays of torch and jax enter a kernel and come back as such, in every format that both have (where the packages are
installed)."""

from typing import Any

import pytest

import mowich.nki as nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl

FORMATS = ("float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int32")


@nki.jit
def double(x: Any) -> Any:
    given, twice = (nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf) for _ in range(2))
    nisa.dma_copy(dst=given, src=x)
    nisa.tensor_scalar(dst=twice, data=given, op0=nl.multiply, operand0=2.0)
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=twice)
    return out


@pytest.mark.parametrize("name", FORMATS)
def test_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(1, 9).reshape(2, 4).to(getattr(torch, name))
    y = double(x)
    assert isinstance(y, torch.Tensor)
    assert y.dtype == x.dtype
    assert (y.float() == 2 * x.float()).all()


@pytest.mark.parametrize("name", FORMATS)
def test_jax(name: str) -> None:
    jax = pytest.importorskip("jax")
    x = jax.numpy.arange(1, 9).reshape(2, 4).astype(name)
    y = double(x)
    assert isinstance(y, jax.Array)
    assert y.dtype == x.dtype
    assert (y.astype("float32") == 2 * x.astype("float32")).all()
