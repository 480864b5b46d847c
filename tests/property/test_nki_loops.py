"""Repeated loops: a run without values gives the same trace, warnings and errors whether its loops are repeated or
traced in full.

Tutorial kernels, examples, and kernels made at random: nested loops with tiles, lists, helper functions, and what a
loop may not be repeated for. `LOOPS_SEED`, `LOOPS_KERNELS`: another seed, more kernels.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import inspect
import itertools
import linecache
import os
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from ctypes import CDLL
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tests.loop_growth import growth_found, others_found

import mowich.nki as nki
from mowich.neuroncore import repeat, scattered
from mowich.neuroncore.access import storage_of
from mowich.neuroncore.clock import compiled
from mowich.neuroncore.core import Core, NkiValidationError
from mowich.neuroncore.memory import SOME, RepeatedStorage
from mowich.neuroncore.trace import Trace
from mowich.nki import affine, language, loops, runtime
from mowich.nki.affine import analysis
from mowich.nki.beta1 import language as older_language
from mowich.nki.control import with_range_loops
from mowich.nki.hollows import hollow
from mowich.nki.result import Result
from mowich.nki.runtime import run_kernel

ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("LOOPS_SEED", "20261127"))
KERNELS = int(os.environ.get("LOOPS_KERNELS", "24"))
HEADER = """
import nki
import nki.isa as nisa
import nki.language as nl
import math

P = 128
"""


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with nki.installed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def written(folder: Path, text: str, name: str = "written") -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(HEADER + text, encoding="utf-8")
    return load(path)


def told(core: Core) -> dict[str, Any]:
    """All that a run leaves of a core: the columns of its trace, its counters, its warnings."""
    t = core.trace
    assert t is not None
    shown = {
        n: getattr(t, n)
        for n in (
            "kind",
            "site",
            "number",
            "touched",
            "kinds",
            "plain_reads",
            "sites",
            "patterns",
            "edges",
            "meetings",
            "in_order",
        )
    }
    return {
        **shown,
        "storages": dict(t.storages.items()),
        "clock": core.clock,
        "serial": core.serial,
        "warnings": core.warnings,
    }


def ran(kernel: Any, arguments: tuple[Any, ...], repeat_loops: bool, **how: Any) -> Result | str:
    """The result of a run, or the text of its error."""
    try:
        result = run_kernel(kernel, *arguments, values=False, repeat_loops=repeat_loops, **how)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    assert isinstance(result, Result)
    return result


def compared(make: Callable[[], tuple[Any, ...]], kernel: Any, schedule: bool = True, **how: Any) -> Result | str:
    """The run with repeated loops, after a comparison with the full one."""
    full, repeated = (ran(kernel, make(), on, **how) for on in (False, True))
    if isinstance(full, str) or isinstance(repeated, str):
        assert repeated == full
        return full
    for a, b in zip(full.cores, repeated.cores, strict=True):
        x, y = told(a), told(b)
        for name in x:
            assert x[name] == y[name], name
        assert not a.has_repeated
    if schedule and len(full.cores[0].trace or ()) < 3000:
        s, r = full.schedule, repeated.schedule
        assert s.total == r.total
        assert all(list(x) == list(y) for x, y in ((s.data, r.data), (s.end, r.end)))
    return repeated


def has_repeated(result: Result | str) -> bool:
    assert isinstance(result, Result), result
    return any(c.has_repeated for c in result.cores)


# kernels of others
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sorted(p.stem for p in (ROOT / "kernels").glob("*.py") if p.stem != "all_reduce_ranks")
)
@pytest.mark.parametrize("lnc", [1, 2])
def test_tutorial_kernels(name: str, lnc: int) -> None:
    module = load(ROOT / "kernels" / f"{name}.py")
    kernel = getattr(module, name, None) or next(v for v in vars(module).values() if isinstance(v, nki.Kernel))
    given = module.inputs()
    full, repeated = (
        ran(
            kernel,
            tuple(v.copy() if isinstance(v, np.ndarray) else v for v in given.values()),
            on,
            lnc=lnc,
            target="trn3",
        )
        for on in (False, True)
    )
    if isinstance(full, str) or isinstance(repeated, str):
        assert full == repeated
        return
    for a, b in zip(full.cores, repeated.cores, strict=True):
        assert told(a) == told(b)
    assert full.schedule.total == repeated.schedule.total


MATMULS = {
    "tiled": ((1024, 2048), (1024, 2048)),
    "blocked": ((1024, 2048), (1024, 4096)),
}


@pytest.mark.parametrize("name", MATMULS)
def test_clock_kernels(name: str) -> None:
    module = load(ROOT / "tests" / "fixtures" / "clock_kernels.py")
    shapes = MATMULS[name]
    found = compared(lambda: tuple(hollow(s, "float32") for s in shapes), getattr(module, name), target="trn2")
    assert has_repeated(found)


SAMPLES = (
    ROOT / "../../up/nki-samples/src/nki_samples/tutorials/matrix_multiplication/matrix_multiplication_nki_kernels.py"
)


@pytest.mark.skipif(not SAMPLES.exists(), reason="the samples are not here")
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("nki_matmul_tiled_", (1024, 1024, 2048)),
        ("nki_matmul_hoist_load_", (512, 1024, 4096)),
        ("nki_matmul_block_free_dimension_", (512, 1024, 8192)),
        ("nki_matmul_fully_optimized_", (2048, 2048, 2048)),
    ],
)
def test_samples(name: str, shape: tuple[int, int, int]) -> None:
    k, m, n = shape
    found = compared(lambda: (hollow((k, m), "bfloat16"), hollow((k, n), "bfloat16")), getattr(load(SAMPLES), name))
    assert has_repeated(found)


# what must not be repeated, and what may
# ----------------------------------------------------------------------------------------

LOAD = (
    "        t = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)\n        nisa.dma_copy(dst=t, src=x[:, i * 64 : (i"
    " + 1) * 64])\n"
)
STORE = "        nisa.dma_copy(dst=out[:, i * 64 : (i + 1) * 64], src=t)\n"
START = "@nki.jit\ndef k(x):\n    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)\n"
LOOP = "    for i in nl.affine_range(64):\n"
FEW = "\n    return out\n"
ODD = "        nisa.tensor_scalar(dst=t, data=t, op0=nl.multiply, operand0=2.0)\n"

CYCLE = "    ts = [nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf) for _ in range(9)]\n"
COPY = "        nisa.dma_copy(dst=t, src=x[:, i * 64 : (i + 1) * 64])\n"
SWAP = "        a, b = b, a\n"
REPEATED = {
    "names that change places": (
        START
        + CYCLE
        + "    a, b = ts[0], ts[1]\n"
        + LOOP
        + "        t = a\n"
        + COPY
        + STORE
        + SWAP
        + "    nisa.tensor_copy(dst=b, src=a)"
        + FEW
    ),
    "names that change places, of an odd number of turns": (
        START
        + CYCLE
        + "    a, b = ts[0], ts[1]\n"
        + LOOP.replace("64", "3, 62, 2")
        + "        t = a\n"
        + COPY
        + STORE
        + ODD
        + SWAP
        + "    nisa.tensor_copy(dst=b, src=a)"
        + FEW
    ),
    "names that change places, and are not read": (
        START
        + CYCLE
        + "    a, b = ts[0], ts[1]\n"
        + LOOP.replace("64", "63")
        + LOAD
        + STORE
        + SWAP
        + "    nisa.tensor_copy(dst=b, src=a)"
        + FEW
    ),
    "three names": (
        START
        + CYCLE
        + "    a, b, c = ts[:3]\n"
        + LOOP
        + "        t = a\n"
        + COPY
        + STORE.replace("src=t", "src=c")
        + "        a, b, c = b, c, a\n    nisa.tensor_copy(dst=b, src=a)"
        + FEW
    ),
    "tiles of one size": (
        START + LOOP + "        size = min(64, x.shape[1] - i * 64)\n"
        "        t = nl.ndarray((P, size), dtype=x.dtype, buffer=nl.sbuf)\n"
        + (COPY + STORE).replace("(i + 1) * 64", "i * 64 + size")
        + FEW
    ),
    "the last one shorter": (
        START + LOOP + "        size = min(64, 4090 - i * 64)\n"
        "        t = nl.ndarray((P, size), dtype=x.dtype, buffer=nl.sbuf)\n"
        + (COPY + STORE).replace("(i + 1) * 64", "i * 64 + size")
        + FEW
    ),
    "remainder": START + LOOP + LOAD.replace("i * 64 : (i + 1) * 64", "i // 2 * 64 : i // 2 * 64 + 64") + STORE + FEW,
    "cycle": START + CYCLE + LOOP + "        t = ts[i % 3]\n" + COPY + STORE + FEW,
    "cycle by bits": START + CYCLE + LOOP + "        t = ts[3 - (i & 1)]\n" + COPY + STORE + FEW,
    "cycle of views": (
        START
        + "    big = nl.ndarray((P, 256), dtype=x.dtype, buffer=nl.sbuf)\n"
        + LOOP
        + "        slot = i % 4\n        t = big[:, slot * 64 : slot * 64 + 64]\n"
        + COPY
        + STORE
        + FEW
    ),
    "two places": (
        START
        + CYCLE
        + LOOP
        + "        row, slot = i // 4, i % 4\n        t = ts[slot]\n"
        + COPY.replace("i * 64 : (i + 1) * 64", "(row * 4 + slot) * 64 : (row * 4 + slot) * 64 + 64")
        + STORE
        + FEW
    ),
    "branches in turn": (
        START + CYCLE + LOOP + "        if i % 2 == 0:\n            t = ts[0]\n        else:\n            t = ts[1]\n"
        "            nisa.memset(dst=t, value=1.0)\n" + COPY + STORE + FEW
    ),
    "cycle in a loop": (
        START + CYCLE + "    for m in nl.affine_range(3):\n        for n in nl.affine_range(21):\n"
        "            i = m * 21 + n\n            t = ts[n % 2]\n"
        + (COPY + ODD + STORE).replace("        ", "            ")
        + FEW
    ),
    "loop in a cycle": (
        START
        + CYCLE
        + "    for i in nl.affine_range(13):\n        t = ts[i % 2]\n        for n in nl.affine_range(6):\n    "
        + ODD.replace("t, d", "t[:, n : n + 32], d").replace("data=t", "data=ts[8][:, n : n + 32]")
        + STORE
        + FEW
    ),
    "plain": START + LOOP + LOAD + ODD + STORE + FEW,
    "sequential": START + LOOP.replace("affine", "sequential") + LOAD + STORE + FEW,
    "static": START + LOOP.replace("affine", "static") + LOAD + STORE + FEW,
    "step": START + "    for i in nl.affine_range(3, 63, 2):\n" + LOAD + ODD + STORE + FEW,
    "backwards": START + "    for i in nl.affine_range(63, -1, -1):\n" + LOAD + STORE + FEW,
    "first iteration": (
        START
        + "    s = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)\n"
        + LOOP
        + LOAD
        + "        if i == 0:\n            nisa.memset(dst=s, value=0.0)\n        nisa.tensor_tensor(dst=s, data1=s,"
        " data2=t, op=nl.add)\n" + STORE + FEW
    ),
    "names": (
        START
        + LOOP
        + "        at = i * 64\n        end = at + 64\n        t = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)\n"
        "        nisa.dma_copy(dst=t, src=x[:, at:end])\n        u = nl.ndarray(x[:, at : at + 64].shape,"
        " dtype=x.dtype, buffer=nl.sbuf)\n        nisa.tensor_copy(dst=u, src=t)\n        nisa.dma_copy(dst=out[:,"
        " at:end], src=u)\n" + FEW
    ),
    "list inside": (
        START + LOOP + "        ts = []\n        for j in range(3):\n            t = nl.ndarray((P, 64), dtype=x.dtype,"
        " buffer=nl.sbuf)\n            nisa.dma_copy(dst=t, src=x[:, i * 64 : (i + 1) * 64])\n           "
        " ts.append(t)\n        for t in ts[1:]:\n            nisa.tensor_tensor(dst=t, data1=ts[0], data2=t,"
        " op=nl.add)\n" + STORE + FEW
    ),
    "comprehension": (
        START + LOOP + "        ts = [nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf) for _ in range(2)]\n"
        "        for j, t in enumerate(ts):\n            nisa.dma_copy(dst=t, src=x[:, i * 64 : (i + 1) * 64])\n"
        + STORE
        + FEW
    ),
    "list from before": (
        START
        + "    ts = []\n"
        + LOOP
        + LOAD
        + "        ts.append(t)\n"
        + LOOP
        + "        t = ts[i]\n"
        + ODD
        + STORE
        + FEW
    ),
    "appended": (
        START
        + "    ts = []\n"
        + LOOP
        + LOAD
        + STORE
        + "        ts.append(t)\n    for i in range(0, len(ts), 7):\n        t = ts[i]\n"
        + STORE
        + FEW
    ),
    "appended twice and used": (
        START
        + "    ts, us = [], []\n"
        + LOOP
        + LOAD
        + "        u = nl.ndarray((P, 32), dtype=x.dtype, buffer=nl.sbuf)\n"
        "        nisa.tensor_copy(dst=u, src=t[:, 32:])\n"
        "        ts.append(t)\n        us.append(u[:, 8:24])\n"
        "    for t, u in zip(ts[::5], us[3:]):\n        nisa.tensor_copy(dst=t[:, 16:32], src=u)\n"
        "        nisa.dma_copy(dst=out[:, 0:64], src=t)\n    for u in us:\n"
        "        nisa.tensor_tensor(dst=u, data1=u, data2=us[len(us) // 2], op=nl.add)\n" + FEW
    ),
    "lists in a list": (
        START
        + "    rows = []\n    for m in nl.affine_range(5):\n        row = []\n        for n in nl.affine_range(12):\n"
        "            i = m * 12 + n\n"
        + LOAD.replace("        ", "            ")
        + "            row.append(t)\n        rows.append(row)\n    for m in nl.affine_range(5):\n"
        "        for n in nl.affine_range(12):\n            t = rows[m][n]\n            i = m * 12 + n\n"
        + (ODD + STORE).replace("        ", "            ")
        + FEW
    ),
    "lists from before": (
        START
        + "    ts = []\n"
        + LOOP
        + LOAD
        + "        ts.append([t, t])\n"
        + LOOP
        + "        for j in range(2):\n            t = ts[i][j]\n            nisa.tensor_copy(dst=ts[i][j], src=t)\n"
        + ODD
        + STORE
        + FEW
    ),
    "helper": (
        "def doubled(t, n=2.0):\n    u = nl.ndarray(t.shape, dtype=t.dtype, buffer=nl.sbuf)\n"
        "    nisa.tensor_scalar(dst=u, data=t, op0=nl.multiply, operand0=n)\n    return u\n\n"
        + START
        + LOOP
        + LOAD
        + "        t = doubled(t)\n"
        + STORE
        + FEW
    ),
    "depends_on": (
        START
        + LOOP
        + LOAD
        + "        a = nisa.tensor_copy(dst=t, src=t)\n        nisa.memset(dst=t, value=1.0).depends_on(a)\n"
        + STORE
        + FEW
    ),
    "no_reorder": (
        START + LOOP + "        with nl.no_reorder():\n" + (LOAD + STORE).replace("        ", "            ") + FEW
    ),
    "placed": START + LOOP + LOAD.replace("buffer=nl.sbuf", "buffer=nl.sbuf, address=(0, 4096)") + STORE + FEW,
    "operators": START + LOOP + LOAD + "        t = nl.multiply(nl.exp(t), t)\n" + STORE + FEW,
    "nested": (
        START
        + "    for m in nl.affine_range(8):\n        for n in nl.affine_range(8):\n            i = m * 8 + n\n"
        + (LOAD + STORE).replace("        ", "            ")
        + FEW
    ),
    "affine in the end": (
        START
        + "    starts = [i * 64 for i in range(64)]\n"
        + LOOP
        + LOAD
        + "        at = min(i * 64, 4032)\n        nisa.tensor_copy(dst=t, src=t)\n        nisa.dma_copy(dst=out[:, at"
        " : at + 64], src=t)\n        nisa.dma_copy(dst=out[:, starts[i] : starts[i] + 64], src=t)\n" + FEW
    ),
    "two helpers deep": (
        "def inner(t):\n    for k in range(2):\n        nisa.tensor_copy(dst=t[:, 32 * k : 32 * k + 32], src=t[:,"
        " 0:32])\n    return t\n\n\ndef doubled(t, x, i):\n    nisa.dma_copy(dst=t, src=x[:, i * 64 : (i + 1) * 64])\n "
        "   return inner(t)\n\n" + START + LOOP + LOAD + "        t = doubled(t, x, i)\n" + STORE + FEW
    ),
    "method": (
        "class Kept:\n    def __init__(self, n):\n        self.n = n\n\n    def more(self, t):\n       "
        " nisa.tensor_scalar(dst=t, data=t, op0=nl.add, operand0=self.n)\n\n\n"
        + START
        + "    kept = Kept(3.0)\n"
        + LOOP
        + LOAD
        + "        kept.more(t)\n"
        + STORE
        + FEW
    ),
    "number": START + LOOP + LOAD + "        nisa.tensor_scalar(dst=t, data=t, op0=nl.add, operand0=i)\n" + STORE + FEW,
    "no cycle": (
        START
        + LOOP
        + "        t = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)\n        at = i * 7 % 64 * 64\n       "
        " nisa.dma_copy(dst=t, src=x[:, at : at + 64])\n" + STORE + FEW
    ),
    "no cycle, with a loop within": (
        START + LOOP + LOAD + "        row, column = i // 12, i % 12\n        for k in nl.affine_range(8):\n           "
        " nisa.dma_copy(dst=out[:, row * 8 + k : row * 8 + k + 1], src=t[:, column + k : column + k + 1])\n" + FEW
    ),
    "no cycle, in a loop that is not repeated": (
        START
        + CYCLE
        + "    for m in nl.affine_range(3):\n        for i in nl.affine_range(20 + m):\n"
        + "            t = ts[(i * i + m) % 9]\n"
        + (COPY + STORE).replace("        ", "            ")
        + FEW
    ),
    "cycle of nine": START + CYCLE + LOOP + "        t = ts[i % 9]\n" + COPY + STORE + FEW,
    "table of offsets": (
        START
        + "    where = [0, 1, 2] + [3] * 60 + [63]\n"
        + LOOP
        + "        j = where[i]\n"
        + LOAD.replace("i", "j").replace("jsa", "isa").replace("njsa", "nisa")
        + STORE
        + FEW
    ),
    "shuffled": (
        START
        + "    ts = []\n    for i in range(64):\n"
        + LOAD
        + "        ts.append(t)\n    ts[30], ts[31] = ts[31], ts[30]\n"
        + LOOP
        + "        t = ts[i]\n"
        + STORE
        + FEW
    ),
}

IN_FULL = {
    "triangle": (
        START
        + "    for m in nl.affine_range(8):\n        for n in nl.affine_range(m + 1):\n            i = m\n"
        + (LOAD + STORE).replace("        ", "            ")
        + FEW
    ),
    "place in a cycle from before": (
        START
        + CYCLE
        + "    slot = 0\n"
        + LOOP
        + "        t = ts[slot]\n"
        + COPY
        + STORE
        + "        slot = i % 2\n"
        + FEW
    ),
    "names that change places in half of the turns": (
        START
        + CYCLE
        + "    a, b = ts[0], ts[1]\n"
        + LOOP
        + "        t = a\n"
        + COPY
        + STORE
        + "        if i % 4 > 1:\n    "
        + SWAP
        + FEW
    ),
    "list in a cycle": (
        START
        + CYCLE
        + "    made = []\n"
        + LOOP
        + LOAD
        + "        made.append(t)\n"
        + COPY.replace("t, s", "ts[i % 2], s")
        + STORE
        + FEW
    ),
    "one iteration": START + LOOP + LOAD + "        if i == 37:\n    " + ODD + STORE + FEW,
    "table": (
        START + "    where = [i * i % 64 for i in range(64)]\n" + LOOP + LOAD + "        i = where[i]\n" + STORE + FEW
    ),
    "break": START + LOOP + LOAD + STORE + "        if i == 40:\n            break\n" + FEW,
    "counter": (
        START
        + "    n = 0\n"
        + LOOP
        + LOAD
        + STORE
        + "        n += 1\n    for i in range(n // 40):\n"
        + LOAD
        + STORE
        + FEW
    ),
    "carried": (
        START
        + "    u = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)\n    nisa.memset(dst=u, value=0.0)\n"
        + LOOP
        + LOAD
        + "        nisa.tensor_tensor(dst=t, data1=t, data2=u, op=nl.add)\n        u = t\n"
        + STORE
        + FEW
    ),
    "a list with two names": (
        START
        + "    ts = us = []\n"
        + LOOP
        + LOAD
        + "        n = 32 if len(us) > 30 else 64\n        nisa.tensor_copy(dst=t[:, :n], src=t[:, :n])\n"
        "        ts.append(t)\n" + FEW
    ),
    "a list that is in another": (
        START
        + "    ts = []\n    both = {0: ts}\n"
        + LOOP
        + LOAD
        + "        n = 32 if len(both[0]) > 30 else 64\n        nisa.tensor_copy(dst=t[:, :n], src=t[:, :n])\n"
        "        ts.append(t)\n" + FEW
    ),
    "a list of views that move": (
        START + "    ts = []\n" + LOOP + LOAD + STORE + "        ts.append(t[:, i : i + 1])\n    for t in ts[::9]:\n"
        "        nisa.tensor_copy(dst=t, src=t)\n" + FEW
    ),
    "a list of tiles from before": (
        START
        + "    ts = []\n    s = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)\n    nisa.memset(dst=s, value=0.0)\n"
        + LOOP
        + LOAD
        + STORE
        + "        ts.append(s)\n    for t in ts[::9]:\n        nisa.tensor_copy(dst=t, src=t)\n"
        + FEW
    ),
    "a list that gets some": (
        START
        + "    ts = []\n"
        + LOOP
        + LOAD
        + STORE
        + "        if i % 3 == 0:\n            ts.append(t)\n    for t in ts:\n        nisa.tensor_copy(dst=t, src=t)\n"
        + FEW
    ),
    "item": (
        START
        + "    ts = [None] * 64\n"
        + LOOP
        + LOAD
        + ODD
        + "        ts[i] = t\n    for i in [40]:\n        t = ts[41]\n"
        + STORE
        + FEW
    ),
    "attribute": (
        "class Kept:\n    n = 0\n\n"
        + START
        + "    kept = Kept()\n"
        + LOOP
        + LOAD
        + STORE
        + "        kept.n = kept.n + 1\n    for i in range(kept.n // 40):\n"
        + LOAD
        + STORE
        + FEW
    ),
    "counted in a helper": (
        "counted = []\n\n\ndef note(i):\n    counted.append(i)\n\n\n"
        + START
        + "    counted.clear()\n"
        + LOOP
        + LOAD
        + STORE
        + "        note(i)\n    for i in counted[::9]:\n"
        + LOAD
        + STORE
        + FEW
    ),
    "iterator": (
        START
        + "    it = iter([0, 2, 4, 6] * 16)\n"
        + LOOP
        + LOAD
        + "        for j in it:\n            break\n        i = j\n"
        + STORE
        + FEW
    ),
    "zipped iterator": (
        START
        + "    it = iter([k * k % 64 for k in range(64)])\n"
        + LOOP
        + LOAD
        + "        for j, _ in zip(it, range(1)):\n            pass\n        nisa.dma_copy(dst=out[:, j * 64 : (j + 1)"
        " * 64], src=t)\n" + FEW
    ),
    "name": START + LOOP + LOAD.replace("buffer=nl.sbuf", 'buffer=nl.sbuf, name=f"t{i % 3}"') + STORE + FEW,
    "smaller end": (
        START
        + LOOP.replace("64", "65")
        + "        stop = min(x.shape[1], i * 64 + 64)\n        if stop > i * 64:\n"
        + (LOAD + STORE).replace("        ", "            ")
        + FEW
    ),
    "zero once": START + LOOP + LOAD + "        nisa.memset(dst=t, value=i - 37)\n" + STORE + FEW,
    "filled with zero once": (
        START + LOOP + "        t = nl.full((P, 64), i - 37, dtype=x.dtype, buffer=nl.sbuf)\n" + STORE + FEW
    ),
    "property": (
        "class Kept:\n    n = 0\n\n    @property\n    def more(self):\n        self.n += 1\n        return self.n\n\n\n"
        + START
        + "    kept = Kept()\n"
        + LOOP
        + LOAD
        + STORE
        + "        kept.more\n    for i in range(kept.n // 40):\n"
        + LOAD
        + STORE
        + FEW
    ),
    "register": (
        START
        + "    r = nisa.register_alloc(0)\n"
        + LOOP
        + LOAD
        + "        nisa.register_move(r, i * i % 50)\n        nisa.dma_copy(dst=out[:, nl.ds(r, 64)], src=t)\n"
        + FEW
    ),
    "closure": (
        START
        + "    n = 0\n\n    def note():\n        nonlocal n\n        n += 1\n\n"
        + LOOP
        + LOAD
        + STORE
        + "        note()\n    for i in range(n // 40):\n"
        + LOAD
        + STORE
        + FEW
    ),
    "moving address": (
        START + LOOP + LOAD.replace("buffer=nl.sbuf", "buffer=nl.sbuf, address=(0, i * 128)") + STORE + FEW
    ),
}


def sixtyfour() -> tuple[Any, ...]:
    return (hollow((128, 64 * 64), "bfloat16"),)


@pytest.mark.parametrize("case", REPEATED)
def test_regular_loops_are_repeated(case: str, tmp_path: Path) -> None:
    assert has_repeated(compared(sixtyfour, written(tmp_path, REPEATED[case]).k))


def fills(monkeypatch: pytest.MonkeyPatch, kind: Any) -> list[Any]:
    """Gets what is written from now on in one of the two ways."""
    wrote: list[Any] = []
    fill = kind.fill

    def filled(self: Any, given: Any) -> None:
        wrote.append(given)
        fill(self, given)

    monkeypatch.setattr(kind, "fill", filled)
    return wrote


@pytest.mark.parametrize("case", IN_FULL)
def test_other_loops_are_traced_in_full(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written for them in the first place, so that no run has to start again."""
    wrote = fills(monkeypatch, repeat.Repeat), fills(monkeypatch, scattered.ScatteredTurns)
    found = compared(sixtyfour, written(tmp_path, IN_FULL[case].replace("\n" + STORE, "\n" + ODD + ODD + STORE)).k)
    assert isinstance(found, Result)
    assert wrote == ([], [])


ERRORS = {
    "beyond the tensor": START + "    for i in nl.affine_range(70):\n" + LOAD + STORE + FEW,
    "beyond in one dimension": (
        START
        + "    y = nl.ndarray((8, P, 1024), dtype=x.dtype, buffer=nl.shared_hbm)\n"
        + LOOP
        + LOAD
        + "        nisa.dma_copy(dst=y[0, :, i * 64 : (i + 1) * 64], src=t)\n"
        + FEW
    ),
    "partitions": (
        START + "    t = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)\n    for i in nl.affine_range(40):\n"
        "        nisa.memset(dst=t[i * 4 : i * 4 + 4, :], value=0.0)\n" + FEW
    ),
    "list too short": (
        START
        + "    ts = []\n"
        + LOOP
        + LOAD
        + "        ts.append(t)\n    for i in nl.affine_range(70):\n        nisa.memset(dst=ts[i], value=0.0)\n"
        + FEW
    ),
    "own assertion": (
        START + "    for i in nl.affine_range(70):\n" + LOAD + "        assert i < 50, 'no more'\n" + STORE + FEW
    ),
    "after the loop": START + LOOP + LOAD + STORE + "    nisa.nc_matmul(dst=t, stationary=t, moving=t)\n" + FEW,
    "wrong operand": START + LOOP + LOAD + "        nisa.nc_matmul(dst=t, stationary=t, moving=t)\n" + FEW,
    "returned": START + LOOP + LOAD + ODD + STORE + "    return t\n",
    "data": START + LOOP + LOAD + "        if int(t[0, 0]) > 3:\n            pass\n" + STORE + FEW,
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_the_same(case: str, tmp_path: Path) -> None:
    found = compared(sixtyfour, written(tmp_path, ERRORS[case]).k)
    assert isinstance(found, str)


def test_error_that_the_kernel_catches(tmp_path: Path) -> None:
    """The iteration that raises is not the last one, so that those after it must not be in the trace."""
    inside = ("    for i in nl.affine_range(70):\n" + LOAD + ODD + STORE).replace("\n    ", "\n        ")
    text = (
        START
        + "    try:\n    "
        + inside.rstrip()
        + "\n    except AssertionError:\n        nisa.memset(dst=t, value=0.0)\n"
        + FEW
    )
    found = compared(sixtyfour, written(tmp_path, text).k)
    assert isinstance(found, Result)
    assert not has_repeated(found)


def test_negative_index_starts_again(tmp_path: Path) -> None:
    """The source shows a regular loop, but a negative index counts from the end: the run starts again."""
    text = (
        START
        + LOOP
        + "        t = nl.ndarray((P, 1), dtype=x.dtype, buffer=nl.sbuf)\n        nisa.dma_copy(dst=t, src=x[:, i - 3 :"
        " i - 3 + 1])\n" + FEW
    )
    text = text.replace("x[:, i - 3 : i - 3 + 1]", "x[:, i - 3]")
    compared(sixtyfour, written(tmp_path, text).k)


def test_capacity_is_judged_from_the_whole_trace(tmp_path: Path) -> None:
    """200 tiles that live until the end do not fit; the warning of a run without values counts them."""
    text = (
        START
        + "    ts = []\n    for m in nl.affine_range(16):\n        for i in nl.affine_range(64):\n            if m =="
        " m:\n" + (LOAD + ODD).replace("        ", "                ")
    )
    text += (
        "                u = nl.ndarray((P, 4096), dtype=x.dtype, buffer=nl.sbuf)\n                nisa.memset(dst=u,"
        " value=0.0)\n"
    )
    text += (
        "            nisa.tensor_copy(dst=t, src=u[:, 0:64])\n        us = [nl.ndarray((P, 4096), dtype=x.dtype,"
        " buffer=nl.sbuf) for _ in range(40)]\n"
    )
    text += (
        "        for u in us:\n            nisa.memset(dst=u, value=0.0)\n        for u in us:\n           "
        " nisa.tensor_copy(dst=u, src=u)\n" + FEW
    )
    found = compared(sixtyfour, written(tmp_path, text).k, schedule=False)
    assert has_repeated(found)
    assert isinstance(found, Result)
    assert any("over capacity" in w for w in found.cores[0].warnings)
    with pytest.raises(NkiValidationError, match="over capacity"):
        run_kernel(load(tmp_path / "written.py").k, *sixtyfour(), values=False, spill=False)


PAIR = """
@nki.jit
def k(x):
    me = nl.program_id(0)
    EARLY
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for i in nl.affine_range(8 + 16 * me):
        for j in range(8):
            t = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=t, src=x[:, i * 64 : (i + 1) * 64])
            nisa.tensor_copy(dst=t, src=t)
            nisa.dma_copy(dst=out[:, (i * 2 + me) * 32 : (i * 2 + me) * 32 + 32], src=t[:, 0:32])
    LATE
    for i in nl.affine_range(32):
        for j in range(4):
            nisa.dma_copy(dst=t, src=more[:, i * 64 : (i + 1) * 64])
            nisa.dma_copy(dst=more[:, (i * 2 + me) * 32 : (i * 2 + me) * 32 + 32], src=t[:, 0:32])
    BARRIER
    return out
"""
MORE = "more = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)"


@pytest.mark.parametrize("barrier", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_pairs_of_cores(late: bool, barrier: bool, tmp_path: Path) -> None:
    """A tensor that both cores share is made by the one that comes first: after a loop that was repeated the run starts
    again."""
    text = PAIR.replace("EARLY", "" if late else MORE).replace("LATE", MORE if late else "")
    text = text.replace("BARRIER", "nisa.core_barrier(out, (0, 1))" if barrier else "")
    found = compared(sixtyfour, written(tmp_path, text).k, lnc=2, target="trn2")
    assert has_repeated(found) is not late


def test_meetings_in_a_loop(tmp_path: Path) -> None:
    text = PAIR.replace("EARLY", MORE).replace("LATE", "").replace("BARRIER", "").replace("8 + 16 * me", "24")
    text = text.replace("src=t[:, 0:32])\n    \n", "src=t[:, 0:32])\n        nisa.core_barrier(out, (0, 1))\n")
    found = compared(sixtyfour, written(tmp_path, text).k, lnc=2, target="trn2")
    assert isinstance(found, Result)
    assert found.cores[0].trace is not None
    assert found.cores[0].trace.meetings


def test_source_that_changed_is_not_believed(tmp_path: Path) -> None:
    module = written(tmp_path, REPEATED["plain"].replace("2.0", "3.25"))
    (tmp_path / "written.py").write_text(HEADER + REPEATED["operators"], encoding="utf-8")
    linecache.checkcache()
    assert not has_repeated(compared(sixtyfour, module.k))


def test_environment_turns_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = written(tmp_path, REPEATED["plain"])
    assert has_repeated(run_kernel(module.k, *sixtyfour(), values=False))  # type: ignore[arg-type]
    monkeypatch.setenv(loops.VARIABLE, "full")
    assert not has_repeated(run_kernel(module.k, *sixtyfour(), values=False))  # type: ignore[arg-type]


def test_runs_with_values_run_every_iteration(tmp_path: Path) -> None:
    module = written(tmp_path, REPEATED["plain"])
    x = np.arange(128 * 64 * 64, dtype=np.float32).reshape(128, -1)
    result = run_kernel(module.k, x)
    assert not has_repeated(result)  # type: ignore[arg-type]
    np.testing.assert_array_equal(result.outputs[0], 2 * x)  # type: ignore[union-attr]


NESTED = (
    START
    + "    for m in nl.affine_range(1, 7):\n        for n in nl.affine_range(20):\n            i = m * 6 + n\n"
    + (LOAD + STORE).replace("        ", "            ")
    + FEW
)


def counted(monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], list[bool]]:
    """Instructions that run from here on, and runs that start; loops are repeated that save ten instructions."""
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 10)
    ran_at, runs = [], []
    add, run = Trace.add, runtime._run

    def added(self: Trace, number: int, *given: Any) -> None:
        ran_at.append(number)
        add(self, number, *given)

    def started(*given: Any) -> Any:
        runs.append(True)
        return run(*given)

    monkeypatch.setattr(Trace, "add", added)
    monkeypatch.setattr(runtime, "_run", started)
    return ran_at, runs


def test_a_loop_within_runs_once_in_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outer loop runs three times; the inner one three times, once, and once."""
    ran_at, runs = counted(monkeypatch)
    k = written(tmp_path, NESTED).k
    assert has_repeated(compared(sixtyfour, k))
    ran_at.clear()
    runs.clear()
    assert isinstance(ran(k, sixtyfour(), True), Result)
    assert len(ran_at) == (3 + 1 + 1) * 2
    assert len(runs) == 1


LISTS = (
    START
    + """
    for o in nl.affine_range(6):
        rows = []
        for m in OUTER:
            row = []
            for n in INNER:
                t = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)
                nisa.dma_copy(dst=t, src=x[:, 64 * (6 * o + n) : 64 * (6 * o + n + 1)])
                nisa.tensor_copy(dst=t, src=t)
                row.append(t)
            rows.append(row)
        for m in OUTER:
            for n in INNER:
                nisa.tensor_copy(dst=rows[m][n], src=rows[m][n])
                nisa.dma_copy(dst=out[:, 64 * n : 64 * n + 64], src=rows[m][n])
        AFTER
    return out
"""
)


@pytest.mark.parametrize(
    ("outer", "inner", "after", "most"),
    [
        ("nl.affine_range(5)", "nl.affine_range(6)", "pass", 56),
        ("range(5)", "range(6)", "pass", 56),
        ("range(2)", "range(6)", "pass", 68),
        ("range(3)", "range(2)", "pass", 48),
        ("range(2)", "range(3)", "pass", 48),
        ("range(2)", "range(3)", "rows[1].append(rows[0][0])", 48),
        ("range(2)", "range(3)", "rows[1] = rows[0]", 48),
    ],
)
def test_short_loops_lists_of_lists_and_loops_over_plain_ranges(
    outer: str, inner: str, after: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are recorded in the first iteration of the loop around them. most: instructions that run; without that it
    is half of all."""
    ran_at = counted(monkeypatch)[0]
    k = written(tmp_path, LISTS.replace("OUTER", outer).replace("INNER", inner).replace("AFTER", after)).k
    found = compared(sixtyfour, k)
    assert has_repeated(found)
    ran_at.clear()
    again = ran(k, sixtyfour(), True)
    assert isinstance(again, Result)
    assert len(ran_at) <= most, len(ran_at)


COLUMNS = (
    "def in_rows(ts):\n    return ROWS\n\n\n"
    + START
    + """
    ts = []
    for i in nl.affine_range(40):
        t = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=x[:, 64 * i : 64 * (i + 1)])
        ts.append(t)
    rows = in_rows(ts)
    for n in nl.affine_range(8):
        for m in nl.affine_range(5):
            nisa.tensor_copy(dst=TILE, src=TILE)
            nisa.dma_copy(dst=out[:, 64 * (m + 5 * n) : 64 * (m + 5 * n) + 64], src=TILE)
            MORE
    return out
"""
)
IN_ROWS = "[ts[8 * k : 8 * k + 8] for k in range(5)]"


@pytest.mark.parametrize(
    ("rows", "tile", "more", "is_regular"),
    [
        (IN_ROWS, "rows[m][n]", "pass", True),
        (IN_ROWS, "rows[4 - m][7 - n]", "pass", True),
        ("[tuple(ts[8 * k : 8 * k + 8]) for k in range(5)]", "rows[m][n]", "pass", True),
        ("[ts[k::5] for k in range(5)]", "rows[m][n]", "pass", True),
        (f"[{IN_ROWS}, {IN_ROWS}]", "rows[m % 2][m][n]", "pass", True),
        (f"[{IN_ROWS}, {IN_ROWS}]", "rows[1][m][n]", "pass", True),
        # the tiles of a row follow each other by other steps than those of another row, or the rows are no lists
        ("[ts[:8], ts[:16:2], ts[8:16], ts[16:24], ts[24:32]]", "rows[m][n]", "pass", False),
        ("[ts[:8], ts[8:16], ts[16:24], ts[24:32], ts[39:31:-1]]", "rows[m][n]", "pass", False),
        ("[dict(enumerate(ts[8 * k : 8 * k + 8])) for k in range(5)]", "rows[m][n]", "pass", False),
        # the loop changes the rows
        (IN_ROWS, "rows[m][n]", "rows[m][n] = rows[m][0]", False),
        (IN_ROWS, "rows[m][n]", "rows[m].append(rows[m].pop(0))", False),
    ],
)
def test_columns_of_lists(
    rows: str, tile: str, more: str, is_regular: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop within chooses the list, the loop around it the place in that list. is_regular: the columns move alike:
    of the first loop 3 instructions run, of the nest (3 + 1 + 1) * 2."""
    ran_at = counted(monkeypatch)[0]
    text = COLUMNS.replace("ROWS", rows).replace("TILE", tile).replace("MORE", more)
    k = written(tmp_path, text).k
    assert has_repeated(compared(sixtyfour, k))
    ran_at.clear()
    assert isinstance(ran(k, sixtyfour(), True), Result)
    assert (len(ran_at) == 3 + (3 + 1 + 1) * 2) == is_regular


def test_tiles_that_a_loop_would_have_made_have_storages_of_their_own(tmp_path: Path) -> None:
    """What is set of one of them is set of no other, whether it was asked for anything before."""
    text = START + "    ts = []\n" + LOOP + LOAD + "        ts.append(t)\n    SEEN.extend(ts)\n" + FEW
    module = written(tmp_path, "SEEN = []\n\n\n" + text)
    assert has_repeated(ran(module.k, sixtyfour(), True))
    first, asked, *others = module.SEEN[:1] + module.SEEN[2:-1]
    assert type(storage_of(asked)) is type(storage_of(others[0])) is RepeatedStorage
    assert storage_of(asked).shape == storage_of(first).shape
    for tile in (asked, others[0]):
        storage_of(tile).state, storage_of(tile).noted_by = SOME, None
        assert (storage_of(tile).state, storage_of(tile).noted_by) == (SOME, None)
        assert storage_of(tile).form() == storage_of(first).form()
        assert storage_of(tile).record.number == storage_of(tile).number
    assert [storage_of(t).state for t in others[1:]] == [storage_of(first).state] * (len(others) - 1)
    assert [storage_of(t).number for t in module.SEEN] == list(
        range(storage_of(first).number, storage_of(first).number + 64)
    )
    with pytest.raises(AttributeError):
        _ = storage_of(others[1]).missing


def test_what_a_loop_asks_of_the_kernel_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that it is entered, also where an earlier run has read its source."""
    asked: list[str] = []
    holds = affine.Loop.holds

    def counted_holds(self: affine.Loop, *given: Any) -> bool:
        asked.append(self.index)
        return holds(self, *given)

    k = written(tmp_path, NESTED).k
    assert has_repeated(compared(sixtyfour, k))
    monkeypatch.setattr(affine.Loop, "holds", counted_holds)
    assert has_repeated(compared(sixtyfour, k))
    assert asked == ["n", "m"]


@pytest.mark.parametrize(
    "text",
    [
        "    for i in range(20):\n        assert type(range(i)) is range\n",
        "    for i in list(range(20)):\n        pass\n",
        "    range = nl.affine_range\n    for i in range(20):\n        pass\n",
    ],
)
def test_a_range_that_is_more_than_a_loop_is_left_alone(text: str, tmp_path: Path) -> None:
    k = written(tmp_path, START + text + "    return out\n").k
    assert with_range_loops(k.func) is k.func


def test_a_kernel_of_plain_ranges_keeps_its_globals(tmp_path: Path) -> None:
    """The function that runs has the code and the globals of the one that was given, and no name more."""
    module = written(tmp_path, START + "    for i in range(20):\n" + LOAD + STORE + FEW)
    names, before = set(vars(module)), module.__builtins__
    made = with_range_loops(module.k.func)
    assert made is not module.k.func
    assert made is with_range_loops(module.k.func)
    assert (made.__code__, made.__globals__) == (module.k.func.__code__, vars(module))  # type: ignore[attr-defined]
    assert module.__builtins__ is before
    assert set(vars(module)) == names
    assert has_repeated(compared(sixtyfour, module.k))


@pytest.mark.parametrize("at", ["m * n * 16", "(7 - m) * n * 16"])
def test_a_loop_whose_step_depends_on_the_one_around_it(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that was recorded is another one at the next entry: the run starts again, and records it each time."""
    ran_at, runs = counted(monkeypatch)
    k = written(tmp_path, NESTED.replace("m * 6 + n", at).replace("i * 64 : (i + 1) * 64", "i : i + 64")).k
    assert has_repeated(compared(sixtyfour, k))
    assert len(runs) == 3  # in full, with what was recorded, and recorded each time
    ran_at.clear()
    runs.clear()
    assert has_repeated(ran(k, sixtyfour(), True))
    assert len(ran_at) == 6 * 3 * 2  # it is known by now; the outer loop runs in full
    assert len(runs) == 1


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("at", ["m * n * 16", "(7 - m) * n * 16"])
def test_a_short_loop_whose_step_depends_on_the_one_around_it(
    at: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in full from the second or third start on: no kernel starts for ever."""
    _, runs = counted(monkeypatch)
    run = runtime._run

    def bounded(*given: Any) -> Any:
        assert len(runs) < 20
        return run(*given)

    monkeypatch.setattr(runtime, "_run", bounded)
    text = NESTED.replace("m * 6 + n", at).replace("i * 64 : (i + 1) * 64", "i : i + 64")
    k = written(tmp_path, text.replace("nl.affine_range(20)", f"range({count})")).k
    assert has_repeated(compared(sixtyfour, k))
    runs.clear()
    assert has_repeated(ran(k, sixtyfour(), True))
    assert len(runs) == 1


DEEP = (
    START
    + """
    s = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)
    nisa.memset(dst=s, value=0.0)
    for o in nl.affine_range(4):
        for m in nl.affine_range(4):
            FIRST
            for n in nl.affine_range(4):
                t = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)
                for k in nl.affine_range(4):
                    at = AT
                    nisa.dma_copy(dst=t[:, k * 16 : k * 16 + 16], src=x[:, at : at + 16])
                    nisa.tensor_tensor(dst=s, data1=s, data2=t, op=nl.add)
                AFTER_K
                nisa.dma_copy(dst=out[:, 64 * n : 64 * n + 64], src=t)
            AFTER_N
    return out
"""
)


def deep(first: str = "pass", at: str = "((o * 4 + m) * 4 + n) * 64 + k * 16", n: str = "pass", k: str = "pass") -> str:
    """Four loops in each other. first: what comes before the third; at: a column; n, k: what follows those loops."""
    given = {"FIRST": first, "AT": at, "AFTER_N": n, "AFTER_K": k}
    return re.sub("|".join(given), lambda found: given[found[0]], DEEP)


def ended(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Loops, by the line of the kernel, of which a sample of a loop around them runs the ends alone, from here on."""
    lines: set[int] = set()
    ends = loops._ends

    def watched(core: Core, sample: loops.Sample, entry: loops.LoopEntry, found: repeat.Repeat) -> Iterator[int]:
        code, at = entry.place
        lines.add(next(itertools.islice(code.co_positions(), at // 2, None))[0] or 0)
        return ends(core, sample, entry, found)

    monkeypatch.setattr(loops, "_ends", watched)
    return lines


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "mnk"),
        ({"at": "k * 16 + 64 * n + 256 * (m + 4 * o)"}, "mnk"),
        ({"at": "4032 - k * 16 - 64 * n - 256 * m - 1024 * (o // 8)"}, "mnk"),
        ({"at": "divmod(k, 8)[1] * 16 + 64 * n"}, "mn"),
        ({"k": "nisa.memset(dst=t[:, k : k + 1], value=1.0)"}, "mnk"),
        ({"k": "nisa.memset(dst=s[:, at : at + 1] if at < 8 else s, value=1.0)"}, ""),
        ({"n": "nisa.tensor_copy(dst=s, src=t)"}, "mnk"),
        ({"n": "nisa.tensor_copy(dst=s[:, n : n + 1], src=s[:, 0:1])"}, "mnk"),
        ({"first": "ts = [n for n in range(4)]", "n": "nisa.memset(dst=s[:, 0 : ts[n]], value=0.0)"}, "mnk"),
        ({"first": "if m == 0:\n                nisa.memset(dst=s, value=2.0)"}, "mnk"),
        ({"first": "if o == 0 and m == 0:\n                nisa.memset(dst=s, value=2.0)"}, "mnk"),
        ({"at": "o * m * 16 + n * 64"}, "mnk"),
        ({"at": "o * k * 16 + m * n * 16"}, "nk"),
        ({"at": "o * m * n * k"}, "mnk"),
        ({"at": "(3 - o) * (3 - m) * n * 16 + k"}, "nk"),
        ({"at": "o * o * 64 + n * n * 16 + k"}, "k"),
        ({"at": "min(m * 64, 128) + k * 16"}, "nk"),
    ],
)
def test_loops_within_loops(
    changes: dict[str, str], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wanted: those of the loops m, n and k of which a sample of a loop around them runs the ends alone."""
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 2)
    lines = ended(monkeypatch)
    found = compared(sixtyfour, written(tmp_path, deep(**changes)).k, schedule=False)
    assert has_repeated(found)
    text = (HEADER + deep(**changes)).splitlines()
    assert "".join(sorted({text[line - 1].split()[1] for line in lines}, key="mnk".index)) == wanted


def test_a_loop_that_is_not_repeated_after_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the sample of the outer loop the loop within runs its last iteration alone. The list gets what cannot be made
    for the iterations that do not run: the run starts again, and the outer loop runs in full."""
    runs = counted(monkeypatch)[1]
    lines = ended(monkeypatch)
    text = START + "    ts, s = [], nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)\n" + NESTED[len(START) :]
    k = written(tmp_path, text.replace(FEW, "        ts.append(s.reshape((P, 64)))\n" + FEW)).k
    assert has_repeated(compared(sixtyfour, k))
    assert len(runs) == 3  # each iteration, the loops repeated, and once more
    assert len(lines) == 1
    assert k.func.__code__ in {code for code, _ in loops._RUN_BEFORE}


@pytest.mark.parametrize("room", [4096, 4095])
def test_an_error_in_the_last_iterations_alone(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 2)
    lines = ended(monkeypatch)
    found = compared(lambda: (hollow((128, room), "float32"),), written(tmp_path, deep()).k, schedule=False)
    assert lines
    assert isinstance(found, str) is (room == 4095)


MIXED = (
    START
    + """
    s = nl.ndarray((P, 64), dtype=x.dtype, buffer=nl.sbuf)
    nisa.memset(dst=s, value=0.0)
    y = nl.ndarray((8, P, 1024), dtype=x.dtype, buffer=nl.shared_hbm)
    for o in nl.affine_range(COUNT_O):
        for m in nl.affine_range(COUNT_M):
            for n in nl.affine_range(COUNT_N):
                nisa.dma_copy(dst=s[:, 0:16], src=VIEW)
                nisa.tensor_copy(dst=s[:, 16:32], src=s[:, 0:16])
            nisa.dma_copy(dst=out[:, 64 * m : 64 * m + 64], src=s)
    return out
"""
)


def mixed(rng: random.Random) -> str:
    """Three loops around a view whose bounds rise with one index and fall with another, so that in some iteration in
    the middle they may leave the tensor; now and then with a product of two indices."""
    given = {}
    for name in "OMN":
        given[f"COUNT_{name}"] = rng.choice(["3", "4", "5", "0, 6", "6, 0, -1", "4, -1, -1", "1, 9, 2"])
    given["VIEW"] = rng.choice(
        [
            "x[:, AT : AT + 16]",
            "x.slice(1, AT, AT + 16)",
            "x[:, nl.ds(AT, 16)]",
            "y[3, :, AT : AT + 16]",
            "y[BLOCK, :, AT : AT + 16]",
            "y.reshape((8, P, 64, 16))[BLOCK, :, PART, :]",
            "y.select(0, BLOCK)[:, AT : AT + 16]",
        ]
    )
    steps = [rng.choice([-64, -32, -16, -8, 0, 8, 16, 32, 64]) for _ in range(3)]
    at = f"{rng.randrange(600)} + o * {steps[0]} + m * {steps[1]} + n * {steps[2]}"
    if rng.random() < 0.3:
        at += rng.choice([" + o * (m - n) * 16", " + (o - m) * n * 8", " + o * m * 8 - o * n * 8", " + o * m * n * 4"])
    given["AT"] = f"({at})"
    given["BLOCK"] = f"({rng.randrange(8)} + {rng.choice([-1, 0, 0, 1])} * o + {rng.choice([-1, 0, 0, 1])} * n)"
    given["PART"] = f"({rng.randrange(60)} + {rng.choice([-2, 0, 1])} * m + {rng.choice([-1, 0, 1])} * n)"
    text = MIXED
    for name, value in given.items():
        text = text.replace(name, value)
    return text


def test_bounds_that_no_iteration_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that leaves a tensor in the middle alone is found there, with the same message. Without the sums of the
    steps some of them would not be."""
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 2)
    lost: list[bool] = []
    reach = repeat.reach

    def reached(first: Any, last: Any) -> Any:
        found = reach(first, last)
        lost.append(found is None)
        return found

    monkeypatch.setattr(repeat, "reach", reached)
    failed = repeated = 0
    for number in range(KERNELS):
        text = mixed(random.Random(SEED + number))
        k = written(tmp_path, text, f"mixed{number}").k
        try:
            found = compared(lambda: (hollow((128, 1024), "float32"),), k, schedule=False)
        except AssertionError as error:
            raise AssertionError(f"seed {SEED + number}: {error}\n{text}") from error
        failed += isinstance(found, str)
        repeated += isinstance(found, Result) and has_repeated(found)
    assert failed > KERNELS // 8
    assert repeated > KERNELS // 4
    assert any(lost)


def test_tiles_of_lists_that_move_apart(tmp_path: Path) -> None:
    """In each place of a row the tiles of the rows follow each other by one step, in another place by another: what
    lies between the ends of a row is not seen from these."""
    text = (
        START
        + "    ts = []\n    for i in range(40):\n"
        + LOAD
        + "        ts.append(t)\n    rows = [[*ts[:3], ts[3 + m], *ts[4:8]] for m in range(8)]\n"
        + "    for m in nl.affine_range(8):\n        for n in nl.affine_range(8):\n            i = n\n"
        + "            t = rows[m][n]\n"
        + (ODD + STORE).replace("        ", "            ")
        + FEW
    )
    assert has_repeated(compared(sixtyfour, written(tmp_path, text).k))


def test_a_list_that_is_another_at_the_next_entry(tmp_path: Path) -> None:
    """Tiles of a list whose numbers grow by one, and by two where it is entered again."""
    text = (
        START
        + "    ts = []\n    for i in range(40):\n"
        + LOAD
        + "        ts.append(t)\n    for us in (ts[:20], ts[::2]):\n        for i in nl.affine_range(20):\n"
        + "            t = us[i]\n"
        + (ODD + STORE).replace("        ", "            ")
        + FEW
    )
    assert has_repeated(compared(sixtyfour, written(tmp_path, text).k))


# kernels made at random
# -----------------------------------------------------------------------------------------------------


class Writer:
    """Writes one kernel: nested loops, tiles made in them, lists, and now and then something that no loop may be
    repeated for."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lines: list[str] = []
        self.named = 0

    def put(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def name(self, stem: str) -> str:
        self.named += 1
        return f"{stem}{self.named}"

    def offset(self, indices: list[tuple[str, int]], room: int) -> str:
        """A column that stays within `room` columns."""
        terms, left = [], room
        for name, count in self.rng.sample(indices, len(indices)):
            step = self.rng.choice([0, 1, 2, 4, 8, 16])
            if step * (count - 1) < left:
                left -= step * (count - 1)
                terms.append(self.rng.choice([f"{name} * {step}", f"{step} * {name}", f"({name} + 0) * {step}"]))
        odd = self.rng.random()
        if len(indices) > 1 and odd > 0.9:  # the step of one loop depends on the other
            (one, n), (other, m) = self.rng.sample(indices, 2)
            if n * m < left:
                terms.append(self.rng.choice([f"{one} * {other}", f"({n - 1} - {one}) * {other}"]))
        if indices and odd < 0.06:
            name, count = self.rng.choice(indices)
            terms.append(
                self.rng.choice(
                    [
                        f"{name} % 3",
                        f"min({name}, {count // 2})",
                        f"{name} // 2",
                        f"TABLE[{name}]",
                        f"divmod({name}, 3)[0]",
                        f"divmod({name}, 64)[1]",
                    ]
                )
            )
        return " + ".join(terms) or str(self.rng.randrange(0, max(left, 1)))

    def block(self, depth: int, indices: list[tuple[str, int]], tiles: list[str], lists: list[tuple[str, int]]) -> None:
        """Statements of a body. tiles, lists: names that hold tiles here, and lists of them with their length."""
        tiles, lists = list(tiles), list(lists)
        self.put(depth, "pass")
        for _ in range(self.rng.randint(1, 4)):
            self.statement(depth, indices, tiles, lists)

    def statement(
        self, depth: int, indices: list[tuple[str, int]], tiles: list[str], lists: list[tuple[str, int]]
    ) -> None:
        pick = self.rng.random()
        wide = self.rng.choice([16, 32])
        if pick < 0.25 or not tiles:
            t = self.name("t")
            address = f", address=(0, {self.rng.choice([0, 2048])})" if self.rng.random() < 0.05 else ""
            self.put(depth, f"{t} = nl.ndarray((P, 32), dtype=x.dtype, buffer=nl.sbuf{address})")
            at = self.offset(indices, 2000)
            self.put(depth, f"nisa.dma_copy(dst={t}[:, 0:{wide}], src=x[:, {at} : {at} + {wide}])")
            tiles.append(t)
        elif pick < 0.40:
            a, b = self.rng.choice(tiles), self.rng.choice(tiles)
            self.put(
                depth,
                self.rng.choice(
                    [
                        f"nisa.tensor_tensor(dst={a}, data1={a}, data2={b}, op=nl.add)",
                        f"nisa.tensor_copy(dst={a}, src={b})",
                        f"nisa.tensor_scalar(dst={a}, data={b}, op0=nl.multiply, operand0=2.0)",
                        f"{self.name('u')} = nl.add({a}, {b})",
                        f"{self.name('u')} = helped({b}, {wide})",
                        f"nisa.memset(dst={a}[:, 0:{wide}], value=1.0)",
                        f"nisa.activation(dst={a}, op=nl.exp, data={b}).depends_on(nisa.tensor_copy(dst={b}, src={b}))",
                    ]
                ),
            )
        elif pick < 0.50:
            at = self.offset(indices, 2000)
            self.put(
                depth, f"nisa.dma_copy(dst=out[:, {at} : {at} + {wide}], src={self.rng.choice(tiles)}[:, 0:{wide}])"
            )
        elif pick < 0.55:
            found = self.name("ts")
            n = self.rng.randint(2, 8)
            self.put(depth, f"{found} = [nl.ndarray((P, 32), dtype=x.dtype, buffer=nl.sbuf) for _ in range({n})]")
            self.put(depth, f"for q in {found}:")
            self.put(depth + 1, "nisa.memset(dst=q, value=0.0)")
            lists.append((found, n))
        elif pick < 0.62 and lists:
            found, n = self.rng.choice(lists)
            fit = [i for i in indices if i[1] <= n]
            key = self.rng.choice(fit)[0] if fit and self.rng.random() < 0.7 else str(self.rng.randrange(n))
            self.put(
                depth,
                f"nisa.tensor_tensor(dst={found}[{key}], data1={found}[{key}], data2={self.rng.choice(tiles)},"
                " op=nl.add)",
            )
        elif pick < 0.66 and indices:
            name, count = self.rng.choice(indices)
            test = self.rng.choice(
                [
                    f"{name} == 0",
                    f"{name} < {count + 1}",
                    f"{name} == {count // 2}",
                    f"{name} % 2 == 0",
                    "x.shape[0] == 128",
                ]
            )
            self.put(depth, f"if {test}:")
            self.block(depth + 1, indices, tiles, lists)
        elif pick < 0.69:
            self.put(
                depth,
                self.rng.choice(
                    [
                        "kept.append(1)",
                        "n += 1",
                        "last = " + self.rng.choice(tiles),
                        "state['n'] = len(kept)",
                        "pass",
                        f"if last is not None:\n{'    ' * (depth + 1)}nisa.tensor_copy(dst={tiles[0]}, src=last)",
                    ]
                ),
            )
        elif pick < 0.72:
            self.put(depth, "with nl.no_reorder():")
            self.put(depth + 1, f"nisa.memset(dst={self.rng.choice(tiles)}, value=2.0)")
        elif len(indices) < 3:
            self.loop(depth, indices, tiles, lists)

    def loop(self, depth: int, indices: list[tuple[str, int]], tiles: list[str], lists: list[tuple[str, int]]) -> None:
        i = self.name("i")
        count = self.rng.choice([1, 3, 4, 7, 12, 20, 33] if len(indices) < 2 else [2, 3, 5, 8])
        kind = self.rng.choice(
            ["nl.affine_range", "nl.affine_range", "nl.sequential_range", "nl.static_range", "range"]
        )
        bounds = self.rng.choice([f"{count}", f"0, {count}", f"0, {count}, 1"])
        self.put(depth, f"for {i} in {kind}({bounds}):")
        appended = self.name("made") if self.rng.random() < 0.15 else ""
        left = self.name("left") if self.rng.random() < 0.2 else ""
        if appended:
            self.lines.insert(len(self.lines) - 1, "    " * depth + f"{appended} = []")
        inside = list(tiles)
        self.block(depth + 1, [*indices, (i, count)], inside, lists)
        if appended and tiles:
            t = self.name("t")
            self.put(depth + 1, f"{t} = nl.ndarray((P, 32), dtype=x.dtype, buffer=nl.sbuf)")
            self.put(depth + 1, f"nisa.memset(dst={t}, value=0.0)")
            self.put(depth + 1, f"{appended}.append({t})")
            lists.append((appended, count))
        if left:  # what the last iteration leaves is read after the loop
            at = self.offset([*indices, (i, count)], 2000)
            self.put(depth + 1, f"{left} = nl.ndarray((P, 32), dtype=x.dtype, buffer=nl.sbuf)")
            self.put(depth + 1, f"nisa.dma_copy(dst={left}[:, 0:16], src=x[:, {at} : {at} + 16])")
            self.put(
                depth,
                self.rng.choice(
                    [
                        f"nisa.tensor_copy(dst={left}, src={left})",
                        f"nisa.dma_copy(dst=out[:, {i} * 8 : {i} * 8 + 16], src={left}[:, 0:16])",
                        f"{left} = None",
                    ]
                ),
            )

    def deep(self, depth: int, indices: list[tuple[str, int]], tiles: list[str]) -> None:
        """Loops in each other with little else, so that each of them is repeated."""
        i, count = self.name("i"), self.rng.randint(4, 6)
        inside = [*indices, (i, count)]
        self.put(depth, f"for {i} in nl.affine_range({count}):")
        t = self.name("t")
        at = self.offset(inside, 2000)
        self.put(depth + 1, f"{t} = nl.ndarray((P, 32), dtype=x.dtype, buffer=nl.sbuf)")
        self.put(depth + 1, f"nisa.dma_copy(dst={t}[:, 0:16], src=x[:, {at} : {at} + 16])")
        if len(inside) < 4:
            self.deep(depth + 1, inside, [*tiles, t])
        for _ in range(self.rng.randint(0, 2)):
            self.statement(depth + 1, [*inside, *[("9", 10)] * 9], [*tiles, t], [])
        if self.rng.random() < 0.2:
            self.put(depth, f"nisa.tensor_copy(dst={tiles[0]}, src={self.rng.choice([t, tiles[0]])})")

    def kernel(self) -> str:
        self.put(1, "out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)")
        self.put(1, "kept, n, last, state = [], 0, None, {}")
        tiles: list[str] = []
        lists: list[tuple[str, int]] = []
        self.statement(1, [], tiles, lists)
        for _ in range(self.rng.randint(1, 3)):
            self.loop(1, [], tiles, lists)
        if self.rng.random() < 0.5:
            self.deep(1, [], tiles)
        self.put(1, "for _ in range(len(kept) % 5 + n % 3):")
        self.put(2, f"nisa.memset(dst={tiles[0]}, value=3.0)")
        self.put(1, "return out")
        helper = (
            "TABLE = [k * 7 % 5 for k in range(64)]\n\n\ndef helped(t, wide):\n    u = nl.ndarray((P, 32),"
            " dtype=t.dtype, buffer=nl.sbuf)\n"
        )
        helper += (
            "    for k in nl.affine_range(5):\n        nisa.tensor_copy(dst=u[:, k : k + wide // 2], src=t[:, 0 : wide"
            " // 2])\n    return u\n\n\n"
        )
        return helper + "@nki.jit\ndef k(x):\n" + "\n".join(self.lines) + "\n"


GROWTH = ("clock", "made", "touched", "edges", "elsewhere", "places", "which", "firsts", "offsets")
"""What the compiled code and plain Python find both."""


def with_oracle(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the compiled code finds to grow, and the storages that move, are compared with what plain Python finds.
    Gets whether each was alike."""
    found: list[bool] = []
    growth, others = repeat._growth, repeat.Repeat.others

    def both(library: CDLL, *given: Any) -> repeat.Growth | None:
        made, wanted = growth(library, *given), growth_found(*given)
        found.append(made is not None)
        if made is None or wanted is None:
            assert made is wanted
            return made
        for name in GROWTH:
            x, y = getattr(made, name), getattr(wanted, name)
            assert np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y
        return made

    def both_others(self: repeat.Repeat, count: int) -> list[tuple[int, int]] | None:
        made, wanted = others(self, count), others_found(self, count)
        assert (None if made is None else set(made)) == wanted
        return made

    monkeypatch.setattr(repeat, "_growth", both)
    monkeypatch.setattr(repeat.Repeat, "others", both_others)
    return found


@pytest.mark.skipif(compiled.library() is None, reason="there is no compiled clock")
def test_without_the_compiled_clock_each_iteration_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = written(tmp_path, Writer(random.Random(SEED)).kernel(), "without").k
    monkeypatch.setenv("MOWICH_CLOCK", "python")
    found = compared(lambda: (hollow((128, 2100), "float32"),), kernel, schedule=True)
    assert not has_repeated(found)


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2, 3))])
def test_random_kernels(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = SEED + part * KERNELS
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 4)
    ends, alike = ended(monkeypatch), with_oracle(monkeypatch)
    repeated = failed = 0
    for number in range(KERNELS):
        rng = random.Random(first + number)
        text = Writer(rng).kernel()
        module = written(tmp_path, text, f"kernel{number}")
        try:
            found = compared(lambda: (hollow((128, 2100), "float32"),), module.k, schedule=number % 4 == 0)
        except AssertionError as error:
            raise AssertionError(f"seed {first + number}: {error}\n{text}") from error
        failed += isinstance(found, str)
        repeated += isinstance(found, Result) and has_repeated(found)
    assert len(ends) > KERNELS // 4
    if compiled.library() is not None:
        assert alike.count(True) > 3 * KERNELS
        assert alike.count(False) > 0
    assert repeated > KERNELS // 4, f"only {repeated} of {KERNELS} kernels have loops that are repeated"
    assert failed < KERNELS // 4, f"{failed} of {KERNELS} kernels fail"


class CycleWriter(Writer):
    """Kernels whose loops come back to the same tiles, branches and places after a few turns, and whose last turn is
    shorter than the others."""

    def of_cycle(self, indices: list[tuple[str, int]]) -> str:
        name, period = self.rng.choice(indices)[0], self.rng.choice([2, 2, 3, 4])
        return self.rng.choice([f"{name} % {period}", f"({name} + 1) % {period}", f"{name} // {period} % 2"])

    def offset(self, indices: list[tuple[str, int]], room: int) -> str:
        found = super().offset(indices, room - 64)
        if not indices or self.rng.random() < 0.6:
            return found
        name = self.rng.choice(indices)[0]
        return (
            f"{found} + {self.rng.choice([self.of_cycle(indices) + ' * 16', f'{name} // {self.rng.choice([2, 3])}'])}"
        )

    def statement(
        self, depth: int, indices: list[tuple[str, int]], tiles: list[str], lists: list[tuple[str, int]]
    ) -> None:
        pick = self.rng.random()
        if not indices or not tiles or pick > 0.3:
            super().statement(depth, indices, tiles, lists)
            return
        if pick < 0.05:  # as wide in each turn, but perhaps in the last
            (name, count), size, t = self.rng.choice(indices), self.name("size"), self.name("t")
            room = 8 * count + self.rng.choice([-4, 0, 8, 24])
            self.put(depth, f"{size} = min({self.rng.choice([4, 8, 16])}, {room} - {name} * 8)")
            self.put(depth, f"{t} = nl.ndarray((P, {size}), dtype=x.dtype, buffer=nl.sbuf)")
            self.put(depth, f"nisa.dma_copy(dst={t}, src=x[:, {name} * 8 : {name} * 8 + {size}])")
            return
        place = self.of_cycle(indices)
        if pick < 0.1:
            slot = self.name("slot")
            self.put(depth, f"{slot} = {place}")
            place = slot
        if pick < 0.2:
            self.put(depth, f"nisa.tensor_copy(dst=cycle[{place}], src={self.rng.choice(tiles)})")
            return
        self.put(depth, f"if {place} == {self.rng.randrange(3)}:")
        self.put(depth + 1, f"nisa.memset(dst={self.rng.choice(tiles)}, value=4.0)")

    def block(self, depth: int, indices: list[tuple[str, int]], tiles: list[str], lists: list[tuple[str, int]]) -> None:
        super().block(depth, indices, [*tiles, "sa", "sb"], lists)
        if self.rng.random() < 0.15:
            self.put(depth, "sa, sb = sb, sa")

    def kernel(self) -> str:
        self.put(1, "sa, sb = [nl.ndarray((P, 32), dtype=x.dtype, buffer=nl.sbuf) for _ in range(2)]")
        self.put(1, "cycle = [nl.ndarray((P, 32), dtype=x.dtype, buffer=nl.sbuf) for _ in range(4)]")
        self.first()
        return super().kernel()

    def first(self) -> None:
        """What comes before the loops of any kernel."""


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2, 3))])
def test_random_kernels_in_cycles(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 4)
    periods: list[int] = []
    write = loops._Running.write

    def noted(self: loops._Running) -> None:
        periods.append(self.period)
        write(self)

    monkeypatch.setattr(loops._Running, "write", noted)
    for number in range(part * KERNELS, (part + 1) * KERNELS):
        text = CycleWriter(random.Random(SEED + number)).kernel()
        module = written(tmp_path, text, f"cycles{number}")
        try:
            compared(lambda: (hollow((128, 2100), "float32"),), module.k, schedule=number % 4 == 0)
        except AssertionError as error:
            raise AssertionError(f"seed {SEED + number}: {error}\n{text}") from error
    assert sum(p > 1 for p in periods) > KERNELS // 3
    assert len(set(periods)) > 2


class ScatterWriter(CycleWriter):
    """Kernels whose loops go by tables and remainders that come back to nothing after a few turns."""

    def of_cycle(self, indices: list[tuple[str, int]]) -> str:
        name, _ = self.rng.choice(indices)
        return self.rng.choice(
            [f"TABLE[{name}] % 4", f"{name} * 7 % 11 % 4", f"{name} // 9 % 4", f"{name} * {name} % 13 // 4"]
        )

    def statement(
        self, depth: int, indices: list[tuple[str, int]], tiles: list[str], lists: list[tuple[str, int]]
    ) -> None:
        before = len(self.lines)
        super().statement(depth, indices, tiles, lists)
        if any(f" {word} " in line for line in self.lines[before:] for word in ("if", "min(")):
            del self.lines[before:]  # turns that differ in more than in their places

    def first(self) -> None:
        """A loop that may leave its tensor now and then."""
        count, most = self.rng.choice([12, 20, 33]), self.rng.choice([64, 64, 68])
        at = self.rng.choice([f"i * 29 % {most}", f"(i * 5 + 3) % {count}", f"TABLE[i] * {most // 5}"])
        self.put(1, "out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)")
        self.put(1, "kept, n, last, state = [], 0, None, {}")
        self.put(1, f"for i in nl.affine_range({count}):")
        self.put(2, f"row, at = i // 10, {at} * 32")
        self.put(2, "u = nl.ndarray((P, 32), dtype=x.dtype, buffer=nl.sbuf)")
        self.put(2, "nisa.dma_copy(dst=u, src=x[:, at + row : at + row + 32])")
        Writer.block(self, 2, [("i", count)], ["u"], [])


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2, 3))])
def test_random_kernels_that_follow_no_pattern(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LEAST_WRITTEN", 4)
    wrote = fills(monkeypatch, scattered.ScatteredTurns)
    refused = 0
    for number in range(part * KERNELS, (part + 1) * KERNELS):
        text = ScatterWriter(random.Random(SEED + number)).kernel()
        module = written(tmp_path, text, f"scattered{number}")
        try:
            found = compared(lambda: (hollow((128, 2100), "float32"),), module.k, schedule=number % 4 == 0)
        except AssertionError as error:
            raise AssertionError(f"seed {SEED + number}: {error}\n{text}") from error
        refused += isinstance(found, str)
    assert len(wrote) > KERNELS // 2
    assert 0 < refused < KERNELS // 2


def test_sums_of_numbers_that_follow_no_pattern() -> None:
    """What iterations of a basis tell of all others: many columns, few iterations, sums of others."""
    rng = np.random.default_rng(SEED)
    for _ in range(200):
        count, width = int(rng.integers(4, 60)), int(rng.integers(1, 7))
        numbers = rng.integers(-50, 50, (width, count))
        numbers[rng.integers(width)] = 3 * np.arange(count) - 2 * numbers[0]
        basis = scattered.Basis.of(numbers.tolist())
        if basis is None:
            assert count <= width + 1
            continue
        terms = np.vstack([np.arange(count), numbers]).T
        told = terms @ rng.integers(-1000, 1000, (width + 1, 9)) + (1 << 40)
        rows = [0, *basis.rows]
        sums = scattered.Sums.of(basis, told[rows])
        assert sums is not None
        np.testing.assert_array_equal(sums.values(range(count)), told[:, sums.moving])


def test_objects_of_the_interfaces_have_what_they_are_told_by() -> None:
    """The analysis loads neither interface: it tells their objects by attributes, and by no name of a class."""
    text = inspect.getsource(analysis)
    assert not re.search(r'type\(\w+\).__name__ == "', text)
    assert set(re.findall(r'hasattr\(\w+, "([a-z]\w+)"\)', text)) == {"op_name", "is_free"}
    assert language.add.op_name == "add"
    assert older_language.max.op_name == "maximum"
    tensors = importlib.import_module("mowich.nki.beta1.tensor")  # the package has an annotation of that name
    classes = [c for c in vars(tensors).values() if isinstance(c, type) and issubclass(c, tensors.Tensor)]
    assert [c.__name__ for c in classes if hasattr(c, "is_free")] == ["TileBlocks"]


def test_a_run_leaves_no_cycles(tmp_path: Path) -> None:
    """What a run needed goes with its result: traces of many runs would stay until Python looks for cycles."""
    module = written(tmp_path, REPEATED["plain"])

    def cores() -> int:
        return sum(isinstance(x, Core) for x in gc.get_objects())

    ran(module.k, sixtyfour(), True)
    gc.collect()
    gc.disable()
    try:
        before = cores()
        for _ in range(3):
            assert has_repeated(ran(module.k, sixtyfour(), True))
        assert cores() == before
    finally:
        gc.enable()
