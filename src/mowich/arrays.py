"""The types of arrays that formulas take and give."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
"""Numbers in SI units. A formula takes columns and gives columns: one place for each plan, case or point, or arrays
that broadcast to that shape."""
