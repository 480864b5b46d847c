"""Random kernels as text, one instruction a line, so that a test can cut one off, change a line, and say the same in
NumPy."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mowich

ROWS, COLUMNS = 8, 16
_HEAD = """import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np


@nki.jit
def drawn(x, y):
"""
_REFERENCE = """

def reference(x, y):
"""
_NEW = "nl.ndarray((8, 16), dtype=nl.float32, buffer=nl.sbuf)"
_ONE = {
    "multiply": ("nisa.tensor_scalar(dst={d}, data={a}, op0=nl.multiply, operand0={c})", "{a} * np.float32({c})"),
    "add": ("nisa.tensor_scalar(dst={d}, data={a}, op0=nl.add, operand0={c})", "{a} + np.float32({c})"),
    "scaled": ("nisa.activation(dst={d}, op=nl.copy, data={a}, scale={c})", "{a} * np.float32({c})"),
}
_TWO = {
    "sum": ("nisa.tensor_tensor(dst={d}, data1={a}, data2={b}, op=nl.add)", "{a} + {b}"),
    "difference": ("nisa.tensor_tensor(dst={d}, data1={a}, data2={b}, op=nl.subtract)", "{a} - {b}"),
}
_OTHER = {"multiply": "add", "add": "multiply", "scaled": "scaled", "sum": "difference", "difference": "sum"}


@dataclass(frozen=True, slots=True)
class Step:
    """One statement. made: the tile that it allocates first, "" where it works in place; kernel, array: in both
    languages; changed: another one that gives other values; in_loop: it stands in the body of the loop."""

    target: str
    is_new: bool
    kernel: str
    array: str
    changed: str
    in_loop: bool


@dataclass(frozen=True, slots=True)
class DrawnKernel:
    """Statements before, in and behind a loop of `turns`."""

    steps: tuple[Step, ...]
    turns: int

    def executed(self) -> list[int]:
        """The statements in the order in which they run."""
        before = [i for i, s in enumerate(self.steps) if not s.in_loop and i < self._first()]
        body = [i for i, s in enumerate(self.steps) if s.in_loop]
        after = [i for i, s in enumerate(self.steps) if not s.in_loop and i > self._first()]
        return [*before, *body * self.turns, *after]

    def _first(self) -> int:
        return next(i for i, s in enumerate(self.steps) if s.in_loop)

    def text(self, planted: int | None = None) -> tuple[str, list[int]]:
        """(The file, the line of each statement). planted: the statement that is another one."""
        lines, at, is_open = _HEAD.splitlines(), [], False
        for i, s in enumerate(self.steps):
            if s.in_loop and not is_open:
                lines.append(f"    for _ in range({self.turns}):")
            is_open = s.in_loop
            indent = "        " if s.in_loop else "    "
            if s.is_new:
                lines.append(f"{indent}{s.target} = {_NEW}")
            lines.append(indent + (s.changed if planted == i else s.kernel))
            at.append(len(lines))
        names = self.names(self.executed())
        lines.append(f"    out = nl.ndarray(({len(names)}, 8, 16), dtype=nl.float32, buffer=nl.shared_hbm)")
        lines += [f"    nisa.dma_copy(dst=out[{n}], src={name})" for n, name in enumerate(names)]
        lines += ["    return out", *_REFERENCE.splitlines()]
        for i in self.executed():
            s = self.steps[i]
            lines += [f"    {s.target} = {s.array}", f"    yield {s.target!r}, {s.target}"]
        return "\n".join([*lines, f"    return np.stack([{', '.join(names)}])", ""]), at

    def names(self, ran: list[int]) -> list[str]:
        """The tiles after some statements, in the order in which they are first written."""
        return [*dict.fromkeys(self.steps[i].target for i in ran)]

    def cut(self, ran: list[int]) -> str:
        """A kernel that runs some statements, without a loop, and returns every tile."""
        lines, names = _HEAD.splitlines(), self.names(ran)
        for i in ran:
            s = self.steps[i]
            lines += [f"    {s.target} = {_NEW}"] if s.is_new else []
            lines.append(f"    {s.kernel}")
        lines.append(f"    out = nl.ndarray(({len(names)}, 8, 16), dtype=nl.float32, buffer=nl.shared_hbm)")
        lines += [f"    nisa.dma_copy(dst=out[{n}], src={name})" for n, name in enumerate(names)]
        return "\n".join([*lines, "    return out", ""])


def drawn_kernel(seed: int, *, in_place: bool) -> DrawnKernel:
    """A kernel of some ten statements; in_place: some of them write to a tile that is there."""
    rng = random.Random(seed)
    steps = [
        Step(name, True, f"nisa.dma_copy(dst={name}, src={src})", src, f"nisa.dma_copy(dst={name}, src={other})", False)
        for name, src, other in (("p", "x", "y"), ("q", "y", "x"))
    ]
    names = ["p", "q"]
    parts = [False] * rng.randint(0, 3) + [True] * rng.randint(1, 3) + [False] * rng.randint(1, 3)
    for n, in_loop in enumerate(parts):
        kind = rng.choice([*_ONE, *_TWO])
        a, b = rng.sample(names, 2)
        is_new = not in_place or rng.random() < 0.5
        target = f"t{n}" if is_new else a
        c = rng.choice([0.5, 1.5, -2.0, 3.0])
        kernel, array = {**_ONE, **_TWO}[kind]
        other, _ = {**_ONE, **_TWO}[_OTHER[kind]]
        how = {"d": target, "a": a, "b": b}
        changed = other.format(**how, c=c + 1.25)
        steps.append(Step(target, is_new, kernel.format(**how, c=c), array.format(**how, c=c), changed, in_loop))
        if is_new:
            names.append(target)
    return DrawnKernel(tuple(steps), rng.randint(1, 3))


def arrays(seed: int) -> dict[str, Any]:
    """Arguments, none of whose elements is 0."""
    rng = np.random.default_rng(seed)
    return {n: (rng.uniform(0.5, 2.0, (ROWS, COLUMNS)) * rng.choice([-1, 1])).astype(np.float32) for n in ("x", "y")}


def loaded_kernel(folder: Path, name: str, text: str) -> Any:
    """The kernel of a file with this text."""
    file = folder / f"{name}.py"
    file.write_text(text)
    return mowich.load_kernel(file, "drawn")
