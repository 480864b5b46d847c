"""Arrays without values: arguments of runs that only time a kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mowich.arrays import Array
from mowich.neuroncore.dtypes import as_dtype


class Hollow(np.ndarray):
    """An array with a shape and a format and no values: an argument of a run without values. Make it with `hollow`."""


def hollow(shape: Sequence[int], dtype: object) -> Array:
    """An argument for `run_kernel(..., values=False)`: it takes no memory, and control flow that reads it is refused.

    >>> hollow((8192, 8192), "bfloat16").nbytes
    134217728
    """
    return np.empty(tuple(shape), as_dtype(dtype).dtype).view(Hollow)
