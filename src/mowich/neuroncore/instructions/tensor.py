"""Instructions of the Tensor Engine: products of tiles in PSUM, and transposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, SupportsInt

import numpy as np

from mowich.neuroncore import core as machine
from mowich.neuroncore.access import read_tile, storage_of, tile_elements, tile_f32, write_tile
from mowich.neuroncore.core import Limits, NkiValidationError, fail
from mowich.neuroncore.dtypes import (
    DType,
    bfloat16,
    cast,
    float8_e4m3,
    float8_e4m3fn,
    float8_e5m2,
    float16,
    float32,
    round_tf32,
    tfloat32,
    to_f32,
)
from mowich.neuroncore.instructions.issue import Named, issue
from mowich.neuroncore.instructions.microscaling import dequantise, scale_blocks
from mowich.neuroncore.instructions.operands import Array, as_rows, like
from mowich.neuroncore.instructions.products import waits
from mowich.neuroncore.instructions.rates import TENSOR, Cost, InstructionRates, free_size, one_pass
from mowich.neuroncore.instructions.table import PACKED, SCALES, instruction
from mowich.neuroncore.trace import Kind
from mowich.neuroncore.views import Tile

# what they cost
# -------------------------------------------------------------------------------------------------------------


PAIR_COLUMNS = 128
"""Columns of a matmul up to which the load of its stationary tile does not hide in full behind the matmul before."""


def _array_cost(
    r: InstructionRates,
    kind: Kind,
    *,
    columns: int,
    weights: int,
    passes: float,
    instructions: float,
    flop: int,
    dtype: str,
) -> Cost:
    """`columns` of the moving tile through the array, whose stationary tile has `weights` columns, in `passes`
    passes."""
    n = r.number
    work = passes * max(columns, n("tensor_engine.least"))
    extra = instructions * n("tensor_engine.overhead")
    short = (
        dtype != "float32"
    )  # only 16-bit and smaller stationary tiles load fast; what they wait for is apart from it
    load = passes * weights / n("tensor_engine.load_columns" if short else "tensor_engine.load_columns_fp32")
    late = n("tensor_engine.load_latency") if short else 0
    drain = r.cycles("tensor", n("tensor_engine.drain"))
    parts = {"tensor_engine.clock": r.cycles("tensor", work), "tensor_engine.overhead": r.cycles("tensor", extra)}
    pair = n("tensor_engine.pair_least") - work - extra
    if passes == 1 and columns <= PAIR_COLUMNS and pair > 0:
        parts["tensor_engine.pair_least"] = r.cycles("tensor", pair)
    return Cost(
        queue=TENSOR,
        occupancy=sum(parts.values()),
        latency=drain,
        weights=r.cycles("tensor", load + late),
        load=r.cycles("tensor", load),
        flop=flop,
        elements=columns * weights,
        parts=parts,
        latency_parts={"tensor_engine.drain": drain},
        opcode=kind.name,
        dtype=dtype,
        groups=_groups(kind),
    )


def _groups(kind: Kind) -> tuple[int, ...]:
    """Which of the 4 x 4 groups of 32 rows and columns a tiled matmul holds; none: the whole array."""
    tile = kind.flag("tile")
    if not tile:
        return ()
    r0, c0, r, c = (int(x) // 32 for x in tile)
    return tuple(4 * i + j for i in range(r0, r0 + r) for j in range(c0, c0 + c)) if r * c < 16 else ()


def _fp32_instructions(r: InstructionRates, passes: float) -> float:
    return r.number("tensor_engine.instructions_fp32") if passes > 1 else 1


def matmul_cost(r: InstructionRates, kind: Kind) -> Cost:
    """Columns of the moving tile, in several passes for float32. Each packed element of an MX format holds four."""
    stationary, moving, out = kind.reads[0], kind.reads[1], kind.writes[0]
    weights, columns = out.shape[0], free_size(out)
    depth = stationary.shape[0] * (4 if kind.name == "nc_matmul_mx" else 2 if kind.flag("mode") == "double_row" else 1)
    passes: float = 1
    if moving.dtype == "float32":
        passes = r.number("tensor_engine.passes_fp32")
        if kind.flag("transpose"):
            passes = r.number("tensor_engine.passes_fp32_transpose")
        elif kind.flag("onezero"):
            passes = r.number("tensor_engine.passes_fp32_onezero")
        elif kind.flag("broadcast"):
            passes = r.number("tensor_engine.passes_fp32_broadcast")
    return _array_cost(
        r,
        kind,
        columns=columns,
        weights=weights,
        passes=passes,
        instructions=_fp32_instructions(r, passes),
        flop=0 if kind.flag("transpose") else 2 * depth * weights * columns,
        dtype=moving.dtype,
    )


def _transpose_cost(r: InstructionRates, kind: Kind) -> Cost:
    """A product with an identity on the Tensor Engine, a pass over the elements on the Vector Engine."""
    if kind.engine != "tensor":
        return one_pass(r, kind)
    data = kind.reads[0]
    p, f = data.shape[0], free_size(data)
    passes = r.number("tensor_engine.passes_fp32_transpose") if data.itemsize == 4 else 1
    return _array_cost(
        r,
        kind,
        columns=max(p, min(64, f)),
        weights=f,
        passes=passes,
        instructions=_fp32_instructions(r, passes),
        flop=0,
        dtype=data.dtype,
    )


# what they do
# ---------------------------------------------------------------------------------------------------------------

_FP8 = (float8_e4m3, float8_e4m3fn, float8_e5m2)


@instruction(engines=("tensor",), cost=matmul_cost, spaces={"dst": "P", "stationary": "S", "moving": "S"}, keeps=True)
def nc_matmul(
    dst: Tile,
    stationary: Tile,
    moving: Tile,
    is_stationary_onezero: bool = False,
    is_moving_onezero: bool = False,
    is_transpose: bool = False,
    accumulate: bool | None = None,
    tile_position: Sequence[SupportsInt] = (),
    tile_size: Sequence[SupportsInt] = (),
    perf_mode: str = "none",
    *,
    name: str = "nc_matmul",
) -> None:
    """dst [M, N] (+)= stationary [K, M] transposed @ moving [K, N], products and sums in float32."""
    flags: dict[str, object] = {
        "mode": perf_mode,
        "transpose": is_transpose,
        "onezero": is_stationary_onezero or is_moving_onezero,
    }
    if tile_size or tile_position:
        flags["tile"] = _tile(name, tile_position, tile_size)
    if accumulate is False:
        flags["overwrites"] = True
    engine, reads = "tensor" if name != "nc_matmul" else "", (("stationary", stationary), ("moving", moving))
    issued = issue(name, engine, (("dst", dst),), reads, flags, _matmul_rules)
    _check_bank(name, dst)
    if not issued:
        return
    k = stationary.shape[0]
    sd, md = stationary.dtype, moving.dtype
    if (
        not is_transpose
        and perf_mode != "double_row"
        and tfloat32 not in (sd, md)
        and waits(dst, stationary, moving, accumulate)
    ):
        return
    storage_of(dst).core.compute_waiting()
    if is_transpose:
        data = _transpose_source(stationary, moving)
        if data is not None:
            write_tile(dst, data if data.dtype == dst.dtype.dtype else cast(data.astype(np.float32), dst.dtype))
            return
    a, b = tile_f32(stationary), tile_f32(moving)
    if sd is tfloat32:
        a = round_tf32(np.ascontiguousarray(a))
    if md is tfloat32:
        b = round_tf32(np.ascontiguousarray(b))
    if perf_mode == "double_row":
        m, n = stationary.size // k // 2, moving.size // k // 2
        a2, b2 = _halves(a, k, m), _halves(b, k, n)
        product = a2.reshape(2 * k, m).T @ b2.reshape(2 * k, n)
    else:
        product = as_rows(a).T @ as_rows(b)
    _accumulate_into(dst, product, accumulate)


def _matmul_rules(name: str, writes: Sequence[Named], reads: Sequence[Named], flags: Mapping[str, object]) -> None:
    """What the operands of a matmul must be together: shapes, formats, the tile of the array."""
    [(_, dst)], [(_, stationary), (_, moving)] = writes, reads
    tile, is_transpose = flags.get("tile", ()), flags["transpose"]
    assert isinstance(tile, tuple)
    limits = machine.active().limits
    k = stationary.shape[0]
    if moving.shape[0] != k:
        raise _contraction(name, stationary, moving)
    sd, md = stationary.dtype, moving.dtype
    m, n = stationary.size // k, moving.size // k
    if flags["mode"] == "double_row":
        if limits.generation < 3:
            raise fail("double_row needs NeuronCore-v3", tile=stationary, fix="leave perf_mode out on v2")
        if sd not in _FP8 or md not in _FP8:
            raise fail("double_row takes float8 tiles", tile=stationary, given=f"{sd}, {md}")
        if tile and tile[3] < limits.stationary_columns:
            raise fail("double_row cannot be combined with column tiles", given=f"tile_size {tile[2:]}")
        m, n = m // 2, n // 2
    if not is_transpose:
        _check_matmul_dtypes(name, sd, md, stationary, limits.generation)
    _check_stationary(name, tile, stationary, m, limits)
    if dst.shape[0] != m or dst.size != m * n:
        raise fail(
            f"{name}: dst must be [{m}, {n}]",
            tile=dst,
            given=list(dst.shape),
            fix="[stationary columns, moving columns]",
        )
    _check_columns(name, dst, moving, n, limits)
    if is_transpose:
        if (
            limits.generation > 2
            and dst.dtype is not (md if md.itemsize == dst.itemsize else sd)
            and dst.dtype.itemsize != sd.itemsize
        ):
            raise fail("transposes keep the dtype", tile=dst, allowed=str(sd))
    elif dst.dtype is not float32 and not (dst.dtype is bfloat16 and limits.generation >= 4):
        raise fail(
            f"{name}: dst must be float32"
            + (" or bfloat16" if limits.generation >= 4 else f" on NeuronCore-v{limits.generation}"),
            tile=dst,
            fix="accumulate in float32 and cast with tensor_copy",
        )


@instruction(
    engines=("tensor",),
    cost=matmul_cost,
    since=4,
    keeps=True,
    spaces={"dst": "P", "stationary": "S", "moving": "S", "stationary_scale": "S", "moving_scale": "S"},
    dtypes={
        "dst": ("float32", "bfloat16"),
        "stationary": PACKED,
        "moving": PACKED,
        "stationary_scale": SCALES,
        "moving_scale": SCALES,
    },
)
def nc_matmul_mx(
    dst: Tile,
    stationary: Tile,
    moving: Tile,
    stationary_scale: Tile,
    moving_scale: Tile,
    tile_position: Sequence[SupportsInt] | None = None,
    tile_size: Sequence[SupportsInt] | None = None,
    accumulate: bool | None = None,
) -> None:
    """dst [M, N] (+)= dequantised stationary [K, 4, M] transposed @ moving [K, 4, N], one scale per 8 partitions x 4
    parts."""
    reads = (
        ("stationary", stationary),
        ("moving", moving),
        ("stationary_scale", stationary_scale),
        ("moving_scale", moving_scale),
    )
    tile = _tile("nc_matmul_mx", tile_position, tile_size) if tile_size or tile_position else ()
    issued = issue("nc_matmul_mx", "", (("dst", dst),), reads, {"tile": tile} if tile else None)
    limits = machine.active().limits
    k = stationary.shape[0]
    for t in (stationary, moving):
        if t.shape[0] != k or k % limits.quadrant:
            if moving.shape[0] != k:
                raise _contraction("nc_matmul_mx", stationary, moving)
            raise fail(f"nc_matmul_mx: both operands have the same partitions, a multiple of {limits.quadrant}", tile=t)
    m, n = stationary.size // k, moving.size // k
    _check_stationary("nc_matmul_mx", tile, stationary, m, limits)
    if dst.shape[0] != m or dst.size != m * n:
        raise fail(f"nc_matmul_mx: dst must be [{m}, {n}]", tile=dst)
    _check_columns("nc_matmul_mx", dst, moving, n, limits)
    _check_bank("nc_matmul_mx", dst)
    scale_blocks(stationary_scale, k, m, limits)
    scale_blocks(moving_scale, k, n, limits)
    if not issued:
        return
    a, b = dequantise(stationary, stationary_scale), dequantise(moving, moving_scale)
    _accumulate_into(dst, a.T @ b, accumulate)


@instruction(engines=("tensor", "vector"), cost=_transpose_cost, face="* name | dtype")
def nc_transpose(dst: Tile, data: Tile, engine: str = "") -> None:
    """dst [F, P] = data [P, F] transposed, bits untouched. Tensor Engine: SBUF to PSUM, up to 128 x 128; Vector Engine:
    up to 32 x 32."""
    p, f = data.shape[0], data.size // data.shape[0]
    limits = machine.active().limits
    if not engine:
        small = p <= limits.transpose_rows and f <= limits.transpose_rows
        engine = (
            "tensor"
            if storage_of(dst).space == "P" and storage_of(data).space == "S" and not small
            else "vector"
            if small
            else "tensor"
        )
    issued = issue("nc_transpose", engine, (("dst", dst),), (("data", data),))
    if dst.shape[0] != f or dst.size != p * f:
        raise fail(f"nc_transpose: dst must be [{f}, {p}]", tile=dst)
    if engine == "tensor":
        if storage_of(data).space != "S" or storage_of(dst).space != "P":
            raise fail(
                "nc_transpose on the Tensor Engine reads SBUF and writes PSUM",
                tile=dst if storage_of(dst).space != "P" else data,
            )
        most = limits.stationary_columns
    else:
        most = limits.transpose_rows
    # a measured kernel of the older interface gives the Vector Engine 128 x 128: its time is told, its values are not
    if (p > most or f > most) and (issued or engine == "tensor"):
        raise fail(
            f"nc_transpose on the {engine} engine takes at most {most} x {most}",
            tile=data,
            fix="transpose blocks" + (" or use the tensor engine" if engine == "vector" else ""),
        )
    if not issued:
        return
    a = as_rows(read_tile(data)).T
    if data.dtype is not dst.dtype:
        a = cast(np.ascontiguousarray(to_f32(a, data.dtype)), dst.dtype)
    write_tile(dst, like(a, dst.shape))


def _accumulate_into(dst: Tile, product: Array, accumulate: bool | None) -> None:
    """Write or add a product to PSUM. None: overwrite elements that nothing wrote since allocation, add to the
    others."""
    product = like(product, dst.shape)
    s = storage_of(dst)
    if accumulate is None:
        if s.state == 0:
            accumulate = False
        elif s.state == 2:
            accumulate = True
        else:
            flags: Any = s.flags(dst)
            if flags.ndim > dst.ndim:
                flags = flags.all(axis=-1)
            if not flags.any():
                accumulate = False
            elif flags.all():
                accumulate = True
            else:
                old = to_f32(tile_elements(dst), dst.dtype)
                write_tile(dst, np.where(flags, old + product, product))
                return
    if accumulate:
        if dst.dtype is float32 and dst.dynamic is None:
            s.check(dst) if s.state != 2 else None
            s.mark(dst)
            view = tile_elements(dst)
            np.add(view, product, out=view)
        else:
            write_tile(dst, tile_f32(dst) + product)
    else:
        write_tile(dst, product)


def _tile(
    name: str, position: Sequence[SupportsInt] | None, size: Sequence[SupportsInt] | None
) -> tuple[int, int, int, int]:
    """The tile of the array that a matmul names: first row and column, rows and columns."""
    if not size or not position:
        raise fail(f"{name}: tile_position and tile_size go together", given=f"{position}, {size}")
    (r0, c0), (r, c) = position, size
    return int(r0), int(c0), int(r), int(c)


def _check_stationary(name: str, tile: tuple[int, ...], stationary: Tile, columns: int, limits: Limits) -> None:
    """Raise for a stationary tile of so many columns that the array, or the tile of it that is named, does not hold."""
    rows = stationary.shape[0]
    if columns > limits.stationary_columns:
        raise fail(
            f"{name}: the stationary tile has {columns} columns",
            tile=stationary,
            allowed=f"at most {limits.stationary_columns}",
        )
    if not tile:
        return
    r0, c0, r, c = tile
    most = limits.stationary_columns
    legal = [limits.tile_rows << i for i in range((most // limits.tile_rows).bit_length())]
    widths = [most] if name == "nc_matmul_mx" else legal
    if r not in legal or c not in widths or r0 % r or c0 % c or r0 + r > most or c0 + c > most:
        raise fail(
            f"{name}: no such tile of the array",
            given=f"position {(r0, c0)}, size {(r, c)}",
            allowed=(
                f"rows {', '.join(map(str, legal))}, columns {', '.join(map(str, widths))}; positions multiples of the"
                " size"
            ),
        )
    if rows > r or columns > c:
        raise fail(f"{name}: operands [{rows}, {columns}] exceed tile_size {(r, c)}")


def _halves(a: Array, k: int, m: int) -> Array:
    """[K, 2, M] (any split of the free axes) -> [K, 2, M]; a trailing 2 is the other accepted layout."""
    if a.ndim >= 3 and a.shape[1] != 2 and a.shape[-1] == 2:
        return np.moveaxis(a.reshape(k, m, 2), 2, 1)
    return a.reshape(k, 2, m)


def _contraction(name: str, stationary: Tile, moving: Tile) -> NkiValidationError:
    """The error for operands whose partitions, the contraction, differ."""
    k, other = stationary.shape[0], moving.shape[0]
    wrong, right = "moving", k
    if stationary.size // k == other and moving.size // other != k:
        wrong, right = "stationary", other
    return fail(
        f"{name}: stationary has {k} partitions and moving {other}: both are the contraction K, stationary is [K, M]"
        " and moving [K, N]",
        tile=moving,
        given=f"stationary {list(stationary.shape)}, moving {list(moving.shape)}",
        allowed="the same number of partitions",
        fix=(
            f"if {wrong} has K along its free axis, transpose it first (nc_transpose, dma_transpose) or load it with K"
            f" = {right} on partitions"
        ),
    )


def _check_matmul_dtypes(name: str, sd: DType, md: DType, tile: Tile, generation: int) -> None:
    legal = (bfloat16, float16, float32, tfloat32, *_FP8)
    for d in (sd, md):
        if d not in legal:
            raise fail(f"{name} does not take {d}", tile=tile, allowed=", ".join(map(str, legal)))
        if d is float8_e4m3fn and generation < 4:
            raise fail(f"{name}: float8_e4m3fn needs NeuronCore-v4", tile=tile, fix="use float8_e4m3 on v2 and v3")
    wide = (float32, tfloat32)
    if (sd in wide) != (md in wide):
        raise fail(
            f"{name}: float32 goes with float32 only", tile=tile, given=f"{sd}, {md}", fix="cast one of the tiles"
        )
    if {sd, md} == {float8_e4m3, float8_e4m3fn}:
        raise fail(
            f"{name}: float8_e4m3 and float8_e4m3fn cannot meet in one matmul",
            tile=tile,
            given=f"{sd}, {md}",
            fix="cast one of the tiles",
        )


def _check_columns(name: str, dst: Tile, moving: Tile, n: int, limits: Limits) -> None:
    most = (
        limits.moving_columns
        * limits.banks_per_matmul
        * (2 if dst.itemsize == 2 and limits.banks_per_matmul > 1 else 1)
    )
    if n > most:
        raise fail(
            f"{name}: the moving tile has {n} columns",
            tile=moving,
            allowed=f"at most {most}",
            fix="tile the moving free dimension by nl.tile_size.gemm_moving_fmax",
        )


def _check_bank(name: str, dst: Tile) -> None:
    """Where in its partition a destination lies is no part of its form: this is looked at for each instruction."""
    s = storage_of(dst)
    limits = s.core.limits
    if s.address is None and s.row_B * limits.psum_banks <= limits.psum_B:
        return
    if limits.banks_per_matmul == 1 and s.row_B:
        first = (dst.offset * dst.itemsize) % s.row_B + (s.address[1] if s.address else 0)
        last = (
            first
            + sum((c - 1) * t for c, t in zip(dst.shape[1:], dst.strides[1:], strict=True)) * dst.itemsize
            + dst.itemsize
            - 1
        )
        bank = limits.psum_bank_B
        if first // bank != last // bank:
            raise fail(
                f"{name}: dst crosses a PSUM bank",
                tile=dst,
                given=f"bytes {first} .. {last} of the partition",
                allowed=f"within one bank of {bank} bytes",
                fix=f"one matmul writes at most {bank // dst.itemsize} {dst.dtype} values per partition, within a bank",
            )


def _transpose_source(stationary: Tile, moving: Tile) -> Array | None:
    """The transpose that a matmul with an identity performs, bits untouched, or None where neither operand is an
    identity."""
    for ident, data, flip in ((moving, stationary, True), (stationary, moving, False)):
        if ident.shape[0] == ident.size // ident.shape[0]:
            e = as_rows(tile_f32(ident))
            if np.array_equal(e, np.eye(e.shape[0], dtype=np.float32)):
                a = as_rows(read_tile(data))
                return a.T if flip else a
    return None
