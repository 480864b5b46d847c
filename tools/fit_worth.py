"""What each constant of a fit is worth: how the errors of rows left out grow when it stays in the middle of its prior.

One step of the fit, without a fold of groups, gives constants and their covariance; a constant that is held moves the
others along that covariance. So all constants are held in turn for the price of one solve a fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats

SERVED = Path(__file__).with_name("serving_worth.csv")
"""What the last fit of serving found, as its rows do not ship."""


def held_errors(
    r: Floats, J: Floats, weight: Floats, pull: Floats, to_prior: Floats, fold: NDArray[np.intp]
) -> tuple[Floats, Floats]:
    """(log errors of rows by a fit without their fold [m], the same with each constant held at its prior [m, n]).

    r: ln (predicted / measured) at the fit [m]; J: its slopes by ln of the constants [m, n]; weight: of each row [m];
    pull: precision of the priors [n, n]; to_prior: ln of the prior's middle less that of the fitted constant [n].

    >>> import numpy as np
    >>> r, J = np.array([0.0, 0.0]), np.array([[1.0], [1.0]])
    >>> free, held = held_errors(r, J, np.ones(2), np.zeros((1, 1)), np.array([0.5]), np.array([0, 1]))
    >>> free.tolist(), held[:, 0].tolist()
    ([0.0, 0.0], [0.5, 0.5])
    """
    free, held = np.zeros(len(r)), np.zeros(J.shape)
    for one in np.unique(fold):
        out = fold == one
        kept = J[~out]
        covariance = np.linalg.inv((kept * weight[~out, None]).T @ kept + pull)
        step = covariance @ (pull @ to_prior - kept.T @ (weight[~out] * r[~out]))
        free[out] = r[out] + J[out] @ step
        held[out] = free[out, None] + (J[out] @ covariance) * ((to_prior - step) / np.diag(covariance))
    return free, held


def points(free: Floats, held: Floats) -> Floats:
    """By how many percentage points the mean log error of rows left out grows without each constant [n]."""
    return np.asarray(100.0 * (np.abs(held).mean(axis=0) - np.abs(free).mean()))


def write_served(paths: Sequence[str], worth: Mapping[str, Floats]) -> None:
    """`SERVED`: path, and the points of each metric."""
    lines = [f"path,{','.join(worth)}"]
    lines += [f"{path},{','.join(f'{of[i]:.4f}' for of in worth.values())}" for i, path in enumerate(paths)]
    SERVED.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_served() -> dict[str, tuple[float, ...]]:
    """Points by path, in the order of metrics of the file."""
    _, *lines = SERVED.read_text(encoding="utf-8").splitlines()
    return {path: tuple(map(float, of)) for path, *of in (line.split(",") for line in lines)}
