"""Files with kernels import more than `nki`: Neuron's frameworks, kernels inside AWS's compiler, names of newer
releases. They load unmodified, and what is not there says so in one line when it is used."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import mowich.nki as nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.errors import UserError

HEADER = """
import torch_neuronx
import torch_xla
import torch_xla.core.xla_model as xm
import neuronxcc.nki as nki
import neuronxcc.nki.nccl as nccl
import neuronxcc.nki.language as nl
import neuronxcc.nki.compiler.backends.neuron.dimensions as dimensions
from neuronxcc.nki._private.private_api import vnc as private_vnc
from neuronxcc.starfish.penguin.targets.nki.private_api import vnc
from neuronxcc.nki.compiler.backends.neuron.dimensions import VNC, CCPipeline
from neuronxcc.nki.kernels.attention import attention_isa_kernel, FlashConfig
from neuronxcc.nki._private_kernels.mlp import mlp_isa_kernel
from neuronxcc.nki._pre_prod_kernels import ActFnType, NormType
from torch_neuronx.xla_impl.ops import nki_jit, xla_hlo_call, RmsNorm
from libtorch_neuronx_lite.nki.nki_hop import wrap_nki
from jax_neuronx import nki_call

attention = nki_jit()(attention_isa_kernel)

class Norm(RmsNorm):
    kind: NormType = NormType.RMS_NORM

def act(x, kind=ActFnType.SiLU): ...

@nki_jit
def add_into(a, b, out):
    nl.store(out, nl.load(a) + nl.load(b))

@nki.jit
def which(x):
    out = nl.ndarray((2, 1), dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(out[nl.program_id(0)], nl.full((1, 1), nl.num_programs(0), dtype=x.dtype))
    return out

@nki.jit
def summed(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    mine = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(mine, nl.load(x))
    nccl.all_reduce(op=nl.add, srcs=[mine], dsts=[out], replica_groups=[[0, 1]], dtype=x.dtype)
    return out
"""


@pytest.fixture
def loaded() -> Any:
    """The file as a module, while `nki` resolves to Mowich."""
    with nki.installed():
        module = ModuleType("with_kernels")
        exec(compile(HEADER, "with_kernels.py", "exec"), vars(module))
        yield module


@nki.jit
def scaled(x: Any, by: float = 2.0) -> Any:
    given, out = (nl.ndarray(x.shape, dtype=x.dtype, buffer=b) for b in (nl.sbuf, nl.shared_hbm))
    nisa.dma_copy(dst=given, src=x)
    nisa.tensor_scalar(dst=given, data=given, op0=nl.multiply, operand0=by)
    nisa.dma_copy(dst=out, src=given)
    return out


def test_names_of_the_device_and_the_grid(loaded: Any) -> None:
    assert loaded.dimensions.VNC is loaded.VNC
    one, two = np.ones((1, 1), np.float32), np.ones((2, 1), np.float32)
    for grid in (loaded.VNC(2), loaded.vnc(2), (loaded.CCPipeline(1) * loaded.nl.nc(2),)):
        assert (loaded.which[grid](one) == 2 * two).all()
    with pytest.raises(UserError, match=r"CCPipeline cuts a kernel into pieces, got 4"):
        loaded.CCPipeline(4)


def test_older_kernels_write_to_what_they_are_given(loaded: Any) -> None:
    a, b, out = np.ones((128, 4), np.float32), np.full((128, 4), 2, np.float32), np.zeros((128, 4), np.float32)
    loaded.add_into(a, b, out)
    assert (out == 3).all()


def test_older_collectives(loaded: Any) -> None:
    both = [{"x": np.full((128, 4), rank + 1.0, np.float32)} for rank in range(2)]
    for found in nki.simulate_ranks(loaded.summed, both):
        assert (np.asarray(found) == 3).all()


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (
            lambda m: m.attention_isa_kernel(1),
            "nki.kernels.attention.attention_isa_kernel is a kernel inside",
        ),
        (lambda m: m.mlp_isa_kernel[2](1), "neuronxcc.nki._private_kernels.mlp.mlp_isa_kernel is a kernel inside"),
        (lambda m: m.attention(np.ones((128, 4), np.float32)), "attention_isa_kernel is a kernel inside"),
        (lambda m: m.FlashConfig(seq_tile_size=1), "FlashConfig is a kernel inside"),
        (lambda m: m.Norm(), "torch_neuronx.xla_impl.ops.RmsNorm is not part"),
        (lambda m: m.torch_neuronx.trace(1), "torch_neuronx.trace is not part of what a kernel needs"),
        (
            lambda m: m.xm.optimizer_step(1),
            "torch_xla.core.xla_model.optimizer_step is not part",
        ),
    ],
)
def test_what_is_absent_says_so_when_it_is_used(loaded: Any, use: Any, words: str) -> None:
    with pytest.raises(UserError) as error:
        use(loaded)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_stays_behind() -> None:
    before = set(sys.modules), list(sys.meta_path)
    with nki.installed():
        importlib.import_module("neuronxcc.nki._private_kernels.mlp")
        importlib.import_module("torch_neuronx.testing.validation")
    assert {n for n in set(sys.modules) - before[0] if not n.startswith("mowich.")} == set()
    assert sys.meta_path == before[1]
    with pytest.raises(ImportError):
        importlib.import_module("neuronxcc.nki._private_kernels.mlp")


def test_other_packages_are_not_invented() -> None:
    with nki.installed():
        for name in ("neuronxcc.nki.nothing", "neuronx_distributed", "nkilib"):
            with pytest.raises(ImportError):
                importlib.import_module(name)


def test_configuration_of_the_next_release() -> None:
    options = nki.compiler.CompileConfig(non_ssa_legalization=True)
    kernel = nki.jit(compile_config=options, specialization_config=nki.compiler.SpecializationConfig())(scaled.func)
    assert (kernel(np.ones((128, 4), np.float32)) == 2).all()


# torch
# ----------------------------------------------------------------------------------------------------


def test_torch_compile_leaves_its_graph_for_a_kernel() -> None:
    torch = pytest.importorskip("torch")
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(lambda x: scaled(x + 1, 3.0) * 2, backend=backend)
    assert (compiled(torch.ones(128, 4)) == 12).all()
    assert len(graphs) == 2, "one before the kernel and one after it, none inside"


def test_a_whole_graph_says_what_to_do() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(Exception, match=r"register it as an operator with torch_neuronx\.nki_op"):
        torch.compile(lambda x: scaled(x), backend="eager", fullgraph=True)(torch.ones(128, 4))


@pytest.mark.parametrize("fullgraph", [False, True])
def test_an_operator_stays_in_the_graph(fullgraph: bool) -> None:
    torch = pytest.importorskip("torch")
    with nki.installed():
        from torch_neuronx import nki_op, wrap_nki  # type: ignore[import-not-found]

        def twice(x: torch.Tensor, by: float) -> torch.Tensor:
            return wrap_nki(scaled)(x, by)  # type: ignore[no-any-return]

        twice.__annotations__ = {"x": torch.Tensor, "by": float, "return": torch.Tensor}
        operator = nki_op(f"mowich_test::twice_{fullgraph}", mutates_args={})(twice)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.arange(512).reshape(128, 4).to(dtype)
        compiled = torch.compile(lambda x: operator(x + 1, 2.0) - 1, backend="eager", fullgraph=fullgraph)
        assert torch.equal(compiled(x), (x + 1) * 2 - 1)
        shape = operator(x.to("meta"), 2.0)
        assert (shape.shape, shape.dtype, shape.device.type) == (x.shape, dtype, "meta")


# jax
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
def test_jax_jit(dtype: str) -> None:
    jax = pytest.importorskip("jax")
    x = jax.numpy.arange(512).reshape(128, 4).astype(dtype)
    found = jax.jit(lambda x: scaled(x + 1) - 1)(x)
    assert found.dtype == x.dtype
    assert (found == (x + 1) * 2 - 1).all()


def test_nki_call() -> None:
    jax = pytest.importorskip("jax")
    with nki.installed():
        from jax_neuronx import nki_call  # type: ignore[import-not-found]
        from neuronxcc.nki import language as older  # type: ignore[import-not-found]

        def add(a: Any, b: Any, out: Any) -> None:
            i = older.program_id(0)
            older.store(out[i], older.load(a[i]) + older.load(b[i]))

        def call(a: Any, b: Any) -> Any:
            return nki_call(add, a, b, grid=(2,), out_shape=jax.ShapeDtypeStruct(a.shape, a.dtype))

        a, b = (jax.numpy.full((2, 128, 4), v, "float32") for v in (1, 2))
        assert (call(a, b) == 3).all()
        assert (jax.jit(call)(a, b) == 3).all()
