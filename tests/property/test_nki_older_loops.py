"""Repeated loops of the older interface: a run without values gives the same trace, warnings and errors whether its
loops are repeated or traced in full. Kernels by name, for what a loop may and may not be repeated for, and kernels made
at random. `LOOPS_SEED`, `LOOPS_KERNELS`: another seed, more kernels.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_nki_loops import compared, fills, has_repeated, load

import mowich.nki as nki
from mowich.neuroncore import repeat, scattered
from mowich.nki import loops, runtime
from mowich.nki.hollows import hollow

SEED = int(os.environ.get("LOOPS_SEED", "20261128"))
KERNELS = int(os.environ.get("LOOPS_KERNELS", "24"))
HEADER = """
import numpy as np
import neuronxcc.nki as nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
from neuronxcc.nki.language import par_dim

def scaled(tile, by):
    doubled = nisa.tensor_scalar(tile, op0=nl.multiply, operand0=by)
    return nl.exp(doubled)

@nki.jit
def k(x, w):
    p, f, c = nl.arange(128)[:, None], nl.arange(64)[None, :], nl.arange(128)[None, :]
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    kept = nl.zeros((par_dim(128), 4096), dtype=np.float32, buffer=nl.sbuf)
    grid = nl.ndarray((40, 8, par_dim(128), 64), dtype=np.float32, buffer=nl.sbuf)
    blocks = nl.ndarray((40, par_dim(128), 64), dtype=np.float32, buffer=nl.sbuf)
"""
REGULAR = {
    "load and store": """
    for i in nl.affine_range(24):
        t = nl.load(x[128 * i + p, f])
        nl.store(out[128 * i + p, f], value=nisa.activation(op=nl.exp, data=t, scale=np.dtype(np.float32).type(2)))
""",
    "a mask that holds everywhere": """
    for i in nl.affine_range(24):
        t = nl.load(x[128 * i + p, f], mask=128 * i + p < 128 * 24)
        nl.store(out[128 * i + p, f], value=t, mask=(128 * i + p < 128 * 24) & (f < 64))
""",
    "a mask that cuts the last iteration": """
    for i in nl.affine_range(24):
        t = nl.load(x[128 * i + p, f], mask=128 * i + p < 128 * 23 + 40)
        nl.store(out[128 * i + p, f], value=scaled(t, 2.0), mask=128 * i + nl.arange(128)[:, None] < 128 * 23 + 40)
""",
    "blocks that were made before": """
    for i in nl.affine_range(24):
        blocks[i, p, f] = nl.load(x[128 * i + p, f])
    for i in nl.affine_range(24):
        total = nl.zeros((par_dim(64), 64), dtype=np.float32, buffer=nl.psum)
        total[nl.arange(64)[:, None], f] += nisa.nc_matmul(blocks[i, p, f], blocks[0, p, f])
        nl.store(out[128 * i + nl.arange(64)[:, None], f], value=nl.copy(total))
""",
    "blocks of a tensor from before, made one by one": """
    squares = nl.ndarray((24, 2, par_dim(128), 64), dtype=np.float32, buffer=nl.sbuf)
    for i in nl.affine_range(24):
        blocks[i + 3, p, f] = nl.load(x[128 * i + p, f])
        for j in nl.affine_range(2):
            squares[i, j, p, f] = nisa.activation(op=nl.square, data=blocks[i + 3, p, f])
    for i in nl.affine_range(24):
        nl.store(out[128 * i + p, f], value=blocks[i + 3, p, f])
    nl.store(out[p, f], value=squares[7, 1, p, f] + squares[23, 0, p, f])
""",
    "blocks that repeated loops within make": """
    grid = nl.ndarray((24, 12, par_dim(128), 64), dtype=np.float32, buffer=nl.sbuf)
    for i in nl.affine_range(24):
        for j in nl.affine_range(12):
            grid[i, j, p, f] = nl.load(x[128 * i + p, f])
    for i in nl.affine_range(24):
        for j in nl.affine_range(12):
            nl.store(out[128 * i + p, f], value=grid[i, j, p, f])
    nl.store(out[p, f], value=grid[9, 7, p, f])
""",
    "blocks of the iteration": """
    for i in nl.affine_range(24):
        mine = nl.ndarray((3, par_dim(128), 64), dtype=np.float32, buffer=nl.sbuf)
        for j in nl.affine_range(3):
            mine[j, p, f] = nl.load(x[128 * i + p, f], dtype=np.float32)
        nl.store(out[128 * i + p, f], value=mine[0] + mine[1] * mine[2])
""",
    "slices, operators, a result that goes to a place that moves": """
    for i in nl.sequential_range(24):
        t = nl.load(x[i * 128:(i + 1) * 128, 0:64])
        t += t * 2.0
        kept[:, i * 64:(i + 1) * 64] = t
        kept[p, 64 * i + f] += nl.load(x[nl.ds(i * 128, 128), 0:64])
        nl.store(out[nl.ds(i * 128, 128), 0:64], value=kept[p, 64 * i + f])
""",
    "grids": """
    for i in nl.affine_range(24):
        a, b = nl.mgrid[0:128, 0:64]
        rows = i * 128 + a
        nl.store(out[rows, b], value=nl.load(x[rows, b]))
""",
}
IN_CYCLES = {
    "blocks": """
    for i in nl.affine_range(24):
        blocks[i % 2, p, f] = nl.load(x[128 * i + p, f])
        nl.store(out[128 * i + p, f], value=nl.exp(blocks[i % 2, p, f]))
""",
    "columns": """
    for i in nl.affine_range(23):
        slot = i % 3
        kept[p, slot * 64 + f] = nl.load(x[128 * i + p, f])
        nl.store(out[128 * i + p, f], value=nl.exp(kept[p, slot * 64 + f]))
""",
    "branches, and a mask that cuts the last iteration": """
    for i in nl.affine_range(23):
        t = nl.load(x[256 * (i // 2) + 128 * (i % 2) + p, f], mask=128 * i + p < 128 * 23 - 5)
        if i % 2 == 1:
            t = nl.exp(t)
        nl.store(out[128 * i + p, f], value=t, mask=128 * i + p < 128 * 23 - 5)
""",
}
FULL = {
    "a view onto itself in the middle": """
    for i in nl.affine_range(24):
        kept[p, 64 * i + f] = kept[p, 64 * 11 + f]
        nl.store(out[128 * i + p, f], value=kept[p, 64 * i + f])
""",
    "blocks that are made one by one": """
    for i in nl.affine_range(24):
        mine = nl.ndarray((24, par_dim(128), 64), dtype=np.float32, buffer=nl.sbuf)
        mine[i, p, f] = nl.load(x[128 * i + p, f])
        mine[13, p, f] = nl.load(x[128 * i + p, f])
        nl.store(out[128 * i + p, f], value=mine[i, p, f])
""",
    "blocks that are made one by one, and one of them": """
    for i in nl.affine_range(24):
        blocks[i, p, f] = nl.load(x[128 * i + p, f])
        blocks[15, p, f] = nl.load(x[128 * i + p, f])
        nl.store(out[128 * i + p, f], value=blocks[i, p, f])
""",
    "blocks that two indices reach from both ends": """
    for i in nl.affine_range(24):
        blocks[i, p, f] = nl.load(x[128 * i + p, f])
        blocks[31 - i, p, f] = nl.load(x[128 * i + p, f])
""",
    "blocks from the end": """
    for i in nl.affine_range(24):
        blocks[i - 9, p, f] = nl.load(x[128 * i + p, f])
""",
    "the block of the iteration before": """
    blocks[0, p, f] = nl.load(x[p, f])
    for i in nl.affine_range(24):
        blocks[i + 1, p, f] = nl.exp(blocks[i, p, f])
""",
    "a number where engines may not start": """
    for i in nl.affine_range(100):
        kept[nl.ds(i + 1, 1), 0:64] = 0
        nl.store(out[0:1, 0:64], value=nl.load(x[0:1, 0:64]))
""",
    "a mask that cuts the middle": """
    for i in nl.affine_range(24):
        t = nl.load(x[128 * i + p, f], mask=(i * 10 - 128 + p >= 0) & (70 - i * 10 + p >= 0))
        nl.store(out[128 * i + p, f], value=t)
""",
    "a mask whose box is the same at both ends": """
    for i in nl.affine_range(24):
        t = nl.load(x[128 * i + p, f], mask=3 * p < 10 + (i // 23))
        u = nl.load(x[128 * i + p, f], mask=3 * p < 37 - i)
        nl.store(out[128 * i + p, f], value=u, mask=3 * p < 37 - i)
""",
    "the parity of the index": """
    for i in nl.affine_range(24):
        if i % 2:
            nl.store(out[128 * i + p, f], value=nl.load(x[128 * i + p, f]))
""",
    "a predicate of the index as a test": """
    for i in nl.affine_range(24):
        t = nl.load(x[128 * i + p, f])
        if i * 128 + p[0:1] < 1024:
            t = scaled(t, 2.0)
        nl.store(out[128 * i + p, f], value=t)
""",
    "a step that grows": """
    for i in nl.affine_range(24):
        t = nl.load(x[p * i, f])
        nl.store(out[128 * i + p, f], value=t)
""",
    "a reduction over the loop": """
    for i in nl.affine_range(24):
        t = nl.loop_reduce(nl.load(x[128 * i + p, f]), op=np.add, loop_indices=[i])
        kept[p, f] = t
    nl.store(out[p, f], value=kept[p, f])
""",
}
ERRORS = {
    "past the end": """
    for i in nl.affine_range(30):
        nl.store(out[128 * i + p, f], value=nl.load(x[nl.ds(128 * i, 128), 0:64]))
""",
    "more partitions than there are": """
    for i in nl.affine_range(24):
        kept[nl.ds(32 * i, 32), 0:64] = nl.load(x[nl.ds(32 * i, 32), 0:64])
""",
}


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with nki.installed():
        yield


def kernel(folder: Path, body: str, name: str = "older") -> Any:
    path = folder / f"{name}.py"
    path.write_text(HEADER + body + "    return out\n", encoding="utf-8")
    return load(path).k


def arguments() -> tuple[Any, ...]:
    return hollow((128 * 24, 64), "float32"), hollow((128, 512), "float32")


@pytest.mark.parametrize("case", sorted(REGULAR))
def test_regular_loops_are_repeated(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 10)
    counted: list[int] = []
    runs: list[bool] = []
    fill, run = repeat.Repeat.fill, runtime._run

    def filled(self: repeat.Repeat, count: int) -> None:
        counted.append(count)
        fill(self, count)

    def started(*given: Any) -> Any:
        runs.append(True)
        return run(*given)

    monkeypatch.setattr(repeat.Repeat, "fill", filled)
    monkeypatch.setattr(runtime, "_run", started)
    result = compared(arguments, kernel(tmp_path, REGULAR[case]), target="trn2")
    assert has_repeated(result)
    assert max(counted) >= 20  # 24 iterations, of which two or three run at the beginning, and the last
    assert len(runs) == 2  # none starts again


@pytest.mark.parametrize("case", sorted(IN_CYCLES))
def test_loops_that_go_in_a_cycle_are_repeated(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 10)
    assert has_repeated(compared(arguments, kernel(tmp_path, IN_CYCLES[case]), target="trn2"))


@pytest.mark.parametrize("case", sorted(FULL))
def test_other_loops_are_traced_in_full(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 10)
    result = compared(arguments, kernel(tmp_path, FULL[case]), target="trn2")
    assert isinstance(result, str) or not has_repeated(result)


@pytest.mark.parametrize("case", sorted(ERRORS))
def test_errors_are_the_same(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 10)
    assert isinstance(compared(arguments, kernel(tmp_path, ERRORS[case]), target="trn2"), str)


class Maker:
    """Random bodies of kernels: nested loops over tiles, blocks, products, masks at the edge of x and in it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.count = rng, 0
        self.lines: list[str] = []

    def put(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def row(self, index: str) -> str:
        r = self.rng
        step = r.choice([128, 128, 128, 64, 32, 1])
        return r.choice(
            [f"{step} * {index} + p", f"p + {index} * {step}", f"p + {r.choice([0, 0, 3])} + {step} * {index}", "p"]
        )

    def mask(self, row: str, index: str) -> str:
        r = self.rng
        edge = r.choice(["x.shape[0]", "3000", "2500", "2900", "1100"])
        cuts = [
            f"{row} < {edge}",
            f"{row} <= {edge}",
            f"({row} < {edge}) & (f < {r.choice([64, 40])})",
            f"{edge} > {row}",
            f"{row} >= {r.choice([0, 5])}",
            f"3 * p < {r.choice([600, 100])} - {index}",
            f"({row} < {edge}) & (p + {index} >= 0)",
        ]
        return f", mask={r.choice(cuts)}" if r.random() < 0.5 else ""

    def statement(self, depth: int, index: str, inner: str, tiles: list[str], outer: str = "0") -> None:
        r = self.rng
        kind = r.randrange(13)
        made = self.name()
        if kind <= 2 or not tiles:
            row = self.row(index)
            self.put(depth, f"{made} = nl.load(x[{row}, f]{self.mask(row, index)})")
        elif kind == 3:
            self.put(depth, f"{made} = scaled({r.choice(tiles)}, {r.choice(['2.0', '3'])})")
        elif kind == 4:
            self.put(depth, f"{made} = {r.choice(tiles)} {r.choice('+-*')} {r.choice([*tiles, '2.0'])}")
        elif kind == 5:
            at = r.choice([index, inner, f"({index} + 1)", "7", f"39 - {index}"])
            self.put(depth, f"kept[p, 64 * {at} + f] = {r.choice([*tiles, *tiles, 'kept[p, 64 * 5 + f]', '0'])}")
            self.put(depth, f"{made} = nl.copy(kept[p, 64 * {at} + f])")
        elif kind == 6:
            at = r.choice([index, inner, index, f"{index} + 2", "0", "11"])
            self.put(depth, f"blocks[{at}, p, f] = {r.choice(tiles)}")
            at = r.choice([at, at, at, index, f"{index} - 1", "11"])
            self.put(depth, f"{made} = nl.negative(blocks[{at}, p, f])")
        elif kind == 7:
            self.put(depth, f"{made} = nl.zeros((par_dim(128), 64), dtype=np.float32, buffer=nl.psum)")
            self.put(depth, f"{made} += nisa.nc_matmul(filled[p, c], {r.choice(tiles)})")
        elif kind == 8:
            self.put(depth, f"{made} = nl.sum({r.choice(tiles)}, axis=1, keepdims=True) * {r.choice(tiles)}")
        elif kind == 10:
            at = r.choice([f"{index}, {inner} % 8", f"{index}, 3", f"{outer}, {index}" if outer != index else "2, 5"])
            self.put(depth, f"grid[{at}, p, f] = {r.choice(tiles)}")
            self.put(depth, f"{made} = nl.negative(grid[{at}, p, f])")
        elif kind == 9:
            self.put(depth, f"{made} = {r.choice(tiles)}")
            self.put(depth, f"{made} *= {r.choice(tiles)}")
        else:
            row = self.row(index)
            self.put(depth, f"nl.store(out[{row}, f], value={r.choice(tiles)}{self.mask(row, index)})")
            return
        tiles.append(made)

    def loop(self, depth: int, outer: str, tiles: list[str]) -> None:
        r = self.rng
        index = f"i{depth}"
        count = r.choice([24, 23, 12, 6]) if depth == 1 else r.choice([2, 4, 6])
        self.put(depth, f"for {index} in nl.{r.choice(['affine_range', 'sequential_range'])}({count}):")
        inside = list(tiles)
        for _ in range(r.randint(2, 6)):
            if depth == 1 and r.random() < 0.15:
                self.loop(2, index, inside)
            else:
                self.statement(depth + 1, index if r.random() < 0.7 or depth == 1 else outer, index, inside, outer)
        if r.random() < 0.1:
            self.put(depth + 1, f"if {index} {r.choice(['== 0', '== 9', '% 2', '< 3'])}:")
            self.statement(depth + 2, index, index, list(inside) or ["kept[p, f]"])
        if len(inside) == len(tiles):
            self.put(depth + 1, "nl.store(out[p, f], value=nl.load(x[p, f]))")

    def body(self) -> str:
        self.put(1, "filled = nl.load(w[p, c])")
        for _ in range(self.rng.randint(1, 3)):
            self.loop(1, "0", [])
        return "\n".join(self.lines) + "\n"


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2, 3))])
def test_random_kernels(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 8)
    repeated = errors = 0
    for n in range(part * KERNELS, (part + 1) * KERNELS):
        body = Maker(random.Random(f"{SEED}/{n}")).body()
        try:
            result = compared(arguments, kernel(tmp_path, body, f"random{n}"), target="trn2")
        except AssertionError as error:
            raise AssertionError(f"LOOPS_SEED={SEED}, kernel {n}: {error}\n{body}") from None
        errors += isinstance(result, str)
        repeated += not isinstance(result, str) and has_repeated(result)
    print(f"{KERNELS} kernels: {repeated} with repeated loops, {errors} end in an error")
    assert repeated >= KERNELS // 8


class ScatterMaker(Maker):
    """Loops whose rows and columns follow no cycle, now and then beyond the tensor."""

    def row(self, index: str) -> str:
        r = self.rng
        if r.random() < 0.4:
            return super().row(index)
        most = r.choice([24, 24, 24, 23, 13, 25])
        return r.choice([f"128 * ({index} * 7 % {most}) + p", f"({index} * {index} + 2) % {most} * 128 + p"])

    def statement(self, depth: int, index: str, inner: str, tiles: list[str], outer: str = "0") -> None:
        if self.rng.random() < 0.2 and tiles:
            place = f"64 * ({index} * {self.rng.choice([3, 5])} % {self.rng.choice([11, 64, 64, 65])}) + f"
            self.put(depth, f"kept[p, {place}] = nl.copy({self.rng.choice(tiles)})")
        else:
            super().statement(depth, index, inner, tiles, outer)


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2, 3))])
def test_random_kernels_that_follow_no_pattern(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 8)
    wrote = fills(monkeypatch, scattered.ScatteredTurns)
    errors = 0
    for n in range(part * KERNELS, (part + 1) * KERNELS):
        body = ScatterMaker(random.Random(f"{SEED}/{n}")).body()
        try:
            result = compared(arguments, kernel(tmp_path, body, f"scattered{n}"), schedule=n % 4 == 0, target="trn2")
        except AssertionError as error:
            raise AssertionError(f"LOOPS_SEED={SEED}, kernel {n}: {error}\n{body}") from None
        errors += isinstance(result, str)
    print(f"{KERNELS} kernels: {len(wrote)} loops that follow no pattern, {errors} end in an error")
    assert len(wrote) >= KERNELS // 8
