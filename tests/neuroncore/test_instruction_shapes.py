"""Operands that do not go together are refused alike whether values are computed or not."""

import ast
import inspect
import textwrap

import numpy as np
import pytest

import mowich.nki as nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.neuroncore.instructions import TABLE
from mowich.neuroncore.instructions.vector import tensor_scalar_reduce
from mowich.nki import NkiValidationError

add, mult, less = nl.add, nl.multiply, nl.less


def sb(*shape, dtype=nl.float32, buffer=nl.sbuf):
    """A tile of zeros."""
    t = nl.ndarray(shape, dtype=dtype, buffer=buffer)
    nisa.memset(t, 0)
    return t


def ps(*shape):
    return sb(*shape, buffer=nl.psum)


def i32(*shape):
    return sb(*shape, dtype=nl.int32)


def u32(*shape):
    return sb(*shape, dtype=nl.uint32)


def u16(*shape):
    return sb(*shape, dtype=nl.uint16)


def f8(*shape, dtype=nl.float8_e4m3fn_x4):
    return nl.ndarray(shape, dtype=dtype, buffer=nl.sbuf)


def scales(*shape):
    return sb(*shape, dtype=nl.uint8)


WRONG = {
    "tensor_copy": lambda x: nisa.tensor_copy(sb(4, 4), sb(4, 5)),
    "tensor_copy: partitions": lambda x: nisa.tensor_copy(sb(4, 4), sb(2, 8)),
    "memset: packed": lambda x: nisa.memset(f8(32, 4), 1),
    "tensor_tensor": lambda x: nisa.tensor_tensor(sb(4, 4), sb(4, 4), sb(4, 5), add),
    "tensor_tensor: PSUM": lambda x: nisa.tensor_tensor(sb(4, 4), ps(4, 4), ps(4, 4), add),
    "tensor_tensor: one operand": lambda x: nisa.tensor_tensor(sb(4, 4), sb(4, 4), sb(4, 4), nl.exp),
    "tensor_tensor: bits": lambda x: nisa.tensor_tensor(sb(4, 4), sb(4, 4), sb(4, 4), nl.bitwise_or),
    "tensor_scalar": lambda x: nisa.tensor_scalar(sb(4, 5), sb(4, 4), add, 1.0),
    "tensor_scalar: operand0": lambda x: nisa.tensor_scalar(sb(4, 4), sb(4, 4), add, sb(4, 2)),
    "tensor_scalar: operand1": lambda x: nisa.tensor_scalar(sb(4, 4), sb(4, 4), add, 1.0, op1=mult, operand1=sb(2, 1)),
    "tensor_scalar: missing": lambda x: nisa.tensor_scalar(sb(4, 4), sb(4, 4), add),
    "tensor_scalar: bits": lambda x: nisa.tensor_scalar(sb(4, 4), sb(4, 4), nl.bitwise_and, 1),
    "tensor_scalar: bits of a tile": lambda x: nisa.tensor_scalar(i32(4, 4), i32(4, 4), nl.bitwise_and, i32(4, 3)),
    "tensor_scalar: mixed": lambda x: nisa.tensor_scalar(i32(4, 4), i32(4, 4), nl.bitwise_and, 1, op1=add, operand1=1),
    "scalar_tensor_tensor": lambda x: nisa.scalar_tensor_tensor(sb(4, 4), sb(4, 4), add, 1.0, mult, sb(4, 5)),
    "scalar_tensor_tensor: operand0": lambda x: nisa.scalar_tensor_tensor(
        sb(4, 4), sb(4, 4), add, sb(4, 2), mult, sb(4, 4)
    ),
    "tensor_scalar_reduce": lambda x: tensor_scalar_reduce(sb(4, 4), sb(4, 4), add, 1.0, add, sb(4, 2)),
    "tensor_scalar_cumulative": lambda x: nisa.tensor_scalar_cumulative(sb(4, 4), sb(4, 5), add, add, 0.0),
    "tensor_tensor_scan": lambda x: nisa.tensor_tensor_scan(sb(4, 4), sb(4, 4), sb(4, 5), 0.0, mult, add),
    "tensor_tensor_scan: initial": lambda x: nisa.tensor_tensor_scan(sb(4, 4), sb(4, 4), sb(4, 4), sb(4, 2), mult, add),
    "tensor_reduce": lambda x: nisa.tensor_reduce(sb(4, 2), add, sb(4, 4), 1),
    "tensor_reduce: partitions": lambda x: nisa.tensor_reduce(sb(1, 4), add, sb(4, 4), 0),
    "tensor_reduce: inner axis": lambda x: nisa.tensor_reduce(sb(4, 3), add, sb(4, 2, 3), 1),
    "bn_stats": lambda x: nisa.bn_stats(sb(4, 5), sb(4, 8)),
    "bn_stats: too many": lambda x: nisa.bn_stats(sb(4, 6), sb(4, 1024)),
    "bn_aggr": lambda x: nisa.bn_aggr(sb(4, 2), sb(4, 8)),
    "bn_aggr: dst": lambda x: nisa.bn_aggr(sb(4, 3), sb(4, 6)),
    "reciprocal": lambda x: nisa.reciprocal(sb(4, 4), sb(4, 5)),
    "exponential": lambda x: nisa.exponential(sb(4, 4), sb(4, 4), sb(4, 2)),
    "quantize_mx": lambda x: nisa.quantize_mx(f8(32, 4), sb(32, 32, dtype=nl.bfloat16), scales(32, 8)),
    "quantize_mx: scale": lambda x: nisa.quantize_mx(f8(32, 8), sb(32, 32, dtype=nl.bfloat16), scales(32, 4)),
    "activation": lambda x: nisa.activation(sb(4, 4), nl.exp, sb(4, 5)),
    "activation: bias": lambda x: nisa.activation(sb(4, 4), nl.exp, sb(4, 4), bias=sb(4, 2)),
    "activation: scale": lambda x: nisa.activation(sb(4, 4), nl.exp, sb(4, 4), scale=sb(2, 1)),
    "activation_reduce": lambda x: nisa.activation_reduce(sb(4, 4), nl.exp, sb(4, 4), add, sb(4, 2)),
    "activate2": lambda x: nisa.activate2(sb(4, 4), nl.exp, sb(4, 4), sb(4, 2), op0=mult),
    "range_select": lambda x: nisa.range_select(sb(4, 4), sb(4, 4), less, less, sb(4, 1), sb(4, 2)),
    "select_reduce": lambda x: nisa.select_reduce(sb(4, 4), scales(4, 4), sb(4, 5), 0.0),
    "select_reduce: on_false": lambda x: nisa.select_reduce(sb(4, 4), scales(4, 4), sb(4, 4), sb(4, 2)),
    "tensor_copy_predicated": lambda x: nisa.tensor_copy_predicated(sb(4, 4), sb(4, 5), scales(4, 4)),
    "max8": lambda x: nisa.max8(sb(4, 7), sb(4, 16)),
    "max8: too few": lambda x: nisa.max8(sb(4, 8), sb(4, 4)),
    "nc_find_index8": lambda x: nisa.nc_find_index8(u32(4, 7), sb(4, 16), sb(4, 8)),
    "nc_find_index8: vals": lambda x: nisa.nc_find_index8(u32(4, 8), sb(4, 16), sb(4, 7)),
    "nc_match_replace8": lambda x: nisa.nc_match_replace8(sb(4, 15), sb(4, 16), sb(4, 8), 0.0),
    "nc_stream_shuffle": lambda x: nisa.nc_stream_shuffle(sb(32, 4), sb(32, 5), list(range(32))),
    "nc_stream_shuffle: source": lambda x: nisa.nc_stream_shuffle(sb(32, 4), sb(16, 4), list(range(32))),
    "iota": lambda x: nisa.iota(i32(4, 5), [[1, 4]]),
    "affine_select": lambda x: nisa.affine_select(sb(4, 5), [[1, 4]], 0, sb(4, 5), 0.0),
    "tensor_partition_reduce": lambda x: nisa.tensor_partition_reduce(sb(1, 5), add, sb(4, 4)),
    "local_gather": lambda x: nisa.local_gather(sb(16, 15), sb(16, 8), u16(16, 1)),
    "local_gather: partitions": lambda x: nisa.local_gather(sb(15, 16), sb(15, 8), u16(15, 1)),
    "nc_n_gather": lambda x: nisa.nc_n_gather(sb(4, 3), sb(4, 8), u32(4, 4)),
    "nonzero_with_count": lambda x: nisa.nonzero_with_count(i32(4, 4), sb(4, 4)),
    "sequence_bounds": lambda x: nisa.sequence_bounds(sb(1, 2, 5), sb(1, 4)),
    "sequence_bounds: partitions": lambda x: nisa.sequence_bounds(sb(1, 2, 4), sb(2, 4)),
    "topk": lambda x: nisa.topk(sb(16, 4, dtype=nl.bfloat16), u32(16, 3), sb(16, 64, dtype=nl.bfloat16), 512),
    "rand2": lambda x: nisa.rand2(sb(4, 4), sb(4, 2), 1.0),
    "dropout": lambda x: nisa.dropout(sb(4, 4), sb(4, 5), 0.5),
    "set_rng_seed": lambda x: nisa.set_rng_seed(i32(1, 2)),
    "rand_set_state": lambda x: nisa.rand_set_state(u32(4, 3)),
    "nc_matmul": lambda x: nisa.nc_matmul(ps(4, 4), sb(5, 4), sb(4, 4)),
    "nc_matmul: dst": lambda x: nisa.nc_matmul(ps(4, 5), sb(4, 4), sb(4, 4)),
    "nc_matmul: columns": lambda x: nisa.nc_matmul(ps(128, 4), sb(4, 256), sb(4, 4)),
    "nc_matmul: formats": lambda x: nisa.nc_matmul(ps(4, 4), sb(4, 4), sb(4, 4, dtype=nl.bfloat16)),
    "nc_matmul: tile": lambda x: nisa.nc_matmul(
        ps(64, 4), sb(64, 64), sb(64, 4), tile_position=(0, 0), tile_size=(32, 64)
    ),
    "nc_matmul_mx": lambda x: nisa.nc_matmul_mx(ps(4, 4), f8(32, 4), f8(64, 4), scales(32, 4), scales(32, 4)),
    "nc_matmul_mx: scales": lambda x: nisa.nc_matmul_mx(ps(4, 4), f8(32, 4), f8(32, 4), scales(32, 4), scales(32, 3)),
    "nc_transpose": lambda x: nisa.nc_transpose(ps(4, 4), sb(4, 5)),
    "nc_transpose: too large": lambda x: nisa.nc_transpose(ps(4, 256), sb(256, 4), engine=nisa.engine.tensor),
    "dma_copy": lambda x: nisa.dma_copy(dst=sb(4, 4), src=x[0:4, 0:5]),
    "dma_transpose": lambda x: nisa.dma_transpose(dst=sb(4, 5), src=x[0:4, 0:4]),
    "dma_compute": lambda x: nisa.dma_compute(sb(4, 4), [x[0:4, 0:4], x[0:4, 0:5]], add),
}


def told(instruction, values):
    def kernel(x):
        instruction(x)

    with pytest.raises(NkiValidationError) as raised:
        nki.run_kernel(kernel, np.zeros((8, 8), np.float32), target="trn3", values=values)
    return str(raised.value)


@pytest.mark.parametrize("name", WRONG)
def test_a_run_without_values_refuses_what_a_run_with_values_refuses(name):
    line = told(WRONG[name], values=False)
    assert "test_instruction_shapes.py:" in line
    assert "\n" not in line
    assert line == told(WRONG[name], values=True)


def test_the_bank_of_a_destination_is_looked_at_each_time():
    """Where a view starts in its partition is no part of the form that a known instruction is recognised by."""

    def kernel(x, first):
        wide = nl.ndarray((128, 1024), dtype=nl.float32, buffer=nl.psum)
        a, b = sb(128, 128), sb(128, 512)
        for start in (0, 512, first):
            nisa.nc_matmul(wide[:, start : start + 512], a, b)

    x = np.zeros((1, 1), np.float32)
    for values in (True, False):
        nki.run_kernel(kernel, x, 0, target="trn2", values=values)
        with pytest.raises(NkiValidationError, match="crosses a PSUM bank"):
            nki.run_kernel(kernel, x, 256, target="trn2", values=values)


RULES = {"same_partitions", "gives", "one_each", "reduces_into", "of_integers", "two_operands"}


def late(effect):
    """Rules about operands that an effect looks at after it has left a run without values."""
    body = ast.parse(textwrap.dedent(inspect.getsource(effect))).body[0].body
    leaves = [i for i, s in enumerate(body) if isinstance(s, ast.If) and isinstance(s.body[-1], ast.Return)]
    leaves = [i for i in leaves if "issue" in ast.unparse(body[i].test)]
    after = [node for s in body[leaves[0] + 1 :] for node in ast.walk(s)] if leaves else []
    return sorted({n.func.id for n in after if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)} & RULES)


def test_no_effect_looks_at_shapes_after_it_left():
    assert {name: late(row.effect) for name, row in TABLE.items() if late(row.effect)} == {}

    def wrong(dst, src):
        if not issue("x", "", (), ()):  # noqa: F821
            return
        same_partitions("x", dst, ("src", src))  # noqa: F821

    assert late(wrong) == ["same_partitions"]
