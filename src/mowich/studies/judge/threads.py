"""Products of matrices by one thread. As many processes run as the user asked for: threads of each beside that would
wait for one another, and waiting is a loop that takes processor time."""

from __future__ import annotations

import ctypes
import importlib
from contextlib import suppress
from functools import cache
from typing import Any

_SETTERS = (
    *("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads"),
    *("openblas_set_num_threads64_", "openblas_set_num_threads", "MKL_Set_Num_Threads"),
)
"""What libraries that NumPy is built with call it."""


@cache
def _setter() -> Any:
    """The function of NumPy's library for matrices that sets how many threads it takes; None where it has none."""
    with suppress(ImportError, AttributeError, OSError, TypeError):
        core = importlib.import_module("numpy._core._multiarray_umath")
        library = ctypes.CDLL(core.__file__)  # names are looked for in what it is linked with, too
        return next((getattr(library, name) for name in _SETTERS if hasattr(library, name)), None)
    return None


def one_thread() -> None:
    """Let this process multiply matrices by one thread from now on."""
    setter = _setter()
    if setter is not None:
        setter(1)
