"""Instructions on random numbers, with the state of the generators of the Vector and GpSimd Engines."""

from __future__ import annotations

import numpy as np

from mowich.neuroncore import core as machine
from mowich.neuroncore.access import read_tile, write_tile
from mowich.neuroncore.core import Limits, fail
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.instructions.operands import Scalar, as_rows, column, like, one_each, same_partitions, tiles_of
from mowich.neuroncore.instructions.rates import InstructionRates, elementwise, one_pass
from mowich.neuroncore.instructions.table import INTEGERS, instruction
from mowich.neuroncore.trace import Kind
from mowich.neuroncore.views import Tile


def _random_work(r: InstructionRates, kind: Kind, n: int) -> float:
    return n / (r.number("vector_engine.rng_elements") if r.generation >= 4 and kind.engine == "vector" else 1)


random_cost = elementwise(_random_work)


@instruction(engines=("vector", "gpsimd"), cost=random_cost, engine_since={"gpsimd": 3}, dtypes={"dst": INTEGERS})
def rng(dst: Tile, engine: str = "vector") -> None:
    """dst = random bits (our own generator: AWS does not publish the hardware's polynomial)."""
    if not issue("rng", engine, (("dst", dst),), ()):
        return
    bits = machine.active().rng.integers(0, 1 << 32, size=dst.shape, dtype=np.uint32)
    write_tile(dst, bits.astype(f"u{dst.itemsize}").view(dst.dtype.dtype))


@instruction(engines=("vector",), cost=random_cost, since=4)
def rand2(dst: Tile, min: Scalar = 0.0, max: Scalar = 1.0) -> None:
    """dst = uniform numbers in [min, max)."""
    issued = issue("rand2", "", (("dst", dst),), tiles_of(("min", min), ("max", max)))
    one_each(min, dst, "rand2: min")
    one_each(max, dst, "rand2: max")
    if not issued:
        return
    u = machine.active().rng.random(dst.shape, dtype=np.float32)
    a, b = column(min, dst), column(max, dst)
    write_tile(dst, a + u * (b - a))


@instruction(engines=("vector",), cost=one_pass, face="* name | dtype")
def dropout(dst: Tile, data: Tile, prob: Scalar) -> None:
    """dst = data, each element 0 with probability `prob`."""
    issued = issue("dropout", "", (("dst", dst),), (("data", data), *tiles_of(("prob", prob))))
    same_partitions("dropout", dst, ("data", data))
    if dst.dtype is not data.dtype:
        raise fail("dropout keeps the format", tile=dst, given=dst.dtype, allowed=str(data.dtype))
    one_each(prob, data, "dropout: prob")
    if not issued:
        return
    u = machine.active().rng.random(data.shape, dtype=np.float32)
    keep = u >= column(prob, data)
    write_tile(dst, like(np.where(keep, read_tile(data), np.zeros((), data.dtype.dtype)), dst.shape))


@instruction(engines=("vector",), cost=one_pass, dtypes={"src_seeds": ("int32", "uint32", "float32")})
def set_rng_seed(src_seeds: Tile) -> None:
    """Seed the generator with a [1, 1] tile."""
    issued = issue("set_rng_seed", "", (), (("src_seeds", src_seeds),))
    if src_seeds.size != 1:
        raise fail("set_rng_seed takes one 32-bit value", tile=src_seeds, allowed="[1, 1]")
    if not issued:
        return
    machine.active().rng = np.random.default_rng(int(read_tile(src_seeds).reshape(-1)[0]) & 0xFFFFFFFF)


def _state_words(name: str, tile: Tile, engine: str, limits: Limits) -> None:
    words = limits.vector_rng_words if engine == "vector" else limits.gpsimd_rng_words
    if tile.size // tile.shape[0] != words:
        raise fail(f"{name}: the {engine} engine keeps {words} words of state in each partition", tile=tile)


@instruction(
    engines=("gpsimd", "vector"),
    cost=one_pass,
    since=3,
    engine_since={"vector": 4},
    spaces={"src_seeds": "S"},
    dtypes={"src_seeds": ("uint32",)},
)
def rand_set_state(src_seeds: Tile, engine: str = "gpsimd") -> None:
    """Load the generator's state words."""
    issued = issue("rand_set_state", engine, (), (("src_seeds", src_seeds),))
    core = machine.active()
    _state_words("rand_set_state", src_seeds, engine, core.limits)
    if not issued:
        return
    state = read_tile(src_seeds).astype(np.uint32)
    core.xorwow[engine] = as_rows(state).copy()
    core.rng = np.random.default_rng(state.reshape(-1).tolist())


@instruction(
    engines=("gpsimd", "vector"), cost=one_pass, since=3, engine_since={"vector": 4}, dtypes={"dst": ("uint32",)}
)
def rand_get_state(dst: Tile, engine: str = "gpsimd") -> None:
    """Store the state words that were loaded last."""
    issued = issue("rand_get_state", engine, (("dst", dst),), ())
    _state_words("rand_get_state", dst, engine, machine.active().limits)
    if not issued:
        return
    state = machine.active().xorwow.get(engine)
    write_tile(dst, like(state, dst.shape) if state is not None else np.zeros(dst.shape, np.uint32))
