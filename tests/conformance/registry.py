"""Cases outside nki-library: how one is declared, how a kernel is loaded from a checkout, how a result is judged.

A case is a function that raises when the machine is wrong and `Skip`s when what it needs is absent. No third-party
code is kept here: a kernel is imported from the checkout, or cut out of an .rst file into a temporary one, so that
source-based front ends still find a file behind it.
"""

import importlib
import importlib.util
import os
import re
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

SDK = Path(os.environ.get("NEURON_SDK") or "/nonexistent")
SAMPLES = Path(os.environ.get("NKI_SAMPLES") or "/nonexistent")
BF16 = ml_dtypes.bfloat16
TARGETS = {"gen2": "trn1", "gen3": "trn2", "gen4": "trn3"}


class Skip(Exception):
    """What the case needs is not there; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    id: str  # suite/kernel[/variant]
    run: Callable[[], None]
    generation: str  # gen2, gen3 or gen4

    @property
    def suite(self) -> str:
        return self.id.split("/")[0]


CASES: list[Case] = []
_loaded: dict[str, ModuleType] = {}


def case(id: str, generation: str = "gen3") -> Callable[[Callable[[], None]], Callable[[], None]]:
    def declare(run: Callable[[], None]) -> Callable[[], None]:
        CASES.append(Case(id=id, run=run, generation=generation))
        return run

    return declare


def load(path: Path) -> ModuleType:
    """Import one file by path: its folder is importable meanwhile, environment variables it sets are undone."""
    key = str(path)
    if key in _loaded:
        return _loaded[key]
    if not path.exists():
        raise Skip(f"not in this checkout: {path.name}")
    environment, before = dict(os.environ), set(sys.modules)
    sys.path.insert(0, str(path.parent))
    try:
        name = "case_" + re.sub(r"\W", "_", key)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and inspect look their module up
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
        os.environ.clear()
        os.environ.update(environment)
        for other in set(sys.modules) - before:  # files of different folders share module names (mx_kernel_utils)
            file = getattr(sys.modules[other], "__file__", None)
            if other != name and file and Path(file).parent == path.parent:
                del sys.modules[other]
    _loaded[key] = module
    return module


def rst_blocks(path: Path) -> list[str]:
    """The Python code blocks of a reStructuredText file, dedented, without their options."""
    blocks, lines, i = [], path.read_text().split("\n"), 0
    while i < len(lines):
        directive = re.match(r"( *)\.\. code-block:: python", lines[i])
        i += 1
        if not directive:
            continue
        indent, block = len(directive.group(1)), []
        while i < len(lines) and (not lines[i].strip() or len(lines[i]) - len(lines[i].lstrip()) > indent):
            block.append(lines[i])
            i += 1
        blocks.append(textwrap.dedent(re.sub(r"^\s*:[\w-]+:.*$", "", "\n".join(block), flags=re.M)))
    return blocks


IMPORTS = (
    "from dataclasses import dataclass\nimport nki\nimport nki.isa as nisa\nimport nki.language as nl\nfrom"
    " nki.language import NKIObject\n"
)


def load_rst(path: Path, pattern: str, nth: int = 0, preamble: str = "") -> ModuleType:
    """The nth code block that matches, as a module of its own; `preamble` has the imports that the text takes as
    read."""
    if not path.exists():
        raise Skip(f"not in this checkout: {path.name}")
    matching = [b for b in rst_blocks(path) if re.search(pattern, b)]
    if len(matching) <= nth:
        raise Skip(f"{path.name} has no block {nth} with {pattern!r}")
    file = Path(tempfile.mkdtemp(prefix="conformance_")) / f"{path.stem.replace('-', '_')}_{nth}.py"
    file.write_text(preamble + matching[nth])
    return load(file)


def simulate(kernel: Any, *args: Any, grid: Any = None, **kwargs: Any) -> Any:
    import nki

    return nki.simulate(kernel[grid] if grid else kernel)(*args, **kwargs)


def close(got: Any, want: Any, rtol: float, atol: float) -> None:
    got, want = np.asarray(got).astype(np.float64), np.asarray(want).astype(np.float64)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def uniform(*shape: int, dtype: Any = np.float32, seed: int = 0, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)


def f32(x: Any) -> np.ndarray:
    return np.asarray(x).astype(np.float32)


def mamba(delta: np.ndarray, u: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Selective scan, y[t] = sum over states of c[t] h[t], h[t] = exp(delta[t] a) h[t-1] + delta[t] b[t] u[t]."""
    decay = np.exp(delta[:, :, None, :] * a[None, :, :, None])
    drive = delta[:, :, None, :] * b[:, None] * u[:, :, None, :]
    h, ys = np.zeros(decay.shape[:3]), []
    for t in range(delta.shape[2]):
        h = decay[..., t] * h + drive[..., t]
        ys.append((c[:, None, :, t] * h).sum(2))
    return np.stack(ys, -1)


def mamba_inputs() -> tuple[np.ndarray, ...]:
    batch, channels, steps, states = 1, 256, 512, 4
    return (
        uniform(batch, channels, steps, low=0, high=0.2),
        uniform(batch, channels, steps, seed=1),
        uniform(channels, states, seed=2, low=-1, high=-0.1),
        uniform(batch, states, steps, seed=3),
        uniform(batch, states, steps, seed=4),
    )


@contextmanager
def target(generation: str) -> Iterator[None]:
    """The environment that names the generation to both front ends."""
    names = {"NKI_NC_VERSION": generation, "NEURON_PLATFORM_TARGET_OVERRIDE": TARGETS[generation]}
    before = {n: os.environ.get(n) for n in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for n, value in before.items():
            if value is None:
                os.environ.pop(n, None)
            else:
                os.environ[n] = value
