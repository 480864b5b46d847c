"""The compiled clock for tests: the one that was installed, or one compiled for them; none without a C compiler."""

from __future__ import annotations

import importlib.util
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

from mowich.neuroncore.clock import compiled

ROOT = Path(__file__).resolve().parents[1]


def build_hook() -> ModuleType:
    """tools/hatch_build.py of this checkout."""
    spec = importlib.util.spec_from_file_location("mowich_hatch_build", ROOT / "tools" / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def available() -> bool:
    """Whether there is a compiled clock; compiled into a temporary folder where it was not installed."""
    if compiled.loaded()[0] is not None:
        return True
    hook = build_hook()
    if not hook.compilers():
        return False
    target = Path(tempfile.mkdtemp()) / compiled.LIBRARY.name
    problem = hook.compiled(compiled.SOURCES, target)
    assert not problem, problem
    compiled.LIBRARY = target
    compiled.loaded.cache_clear()
    return compiled.loaded()[0] is not None
