"""A measured figure as the fit sees it, and what predicts figures of one kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mowich.arrays import Floats

ConstantValues = Mapping[str, float]
"""Path of a constant -> its value, SI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPoint:
    """One figure. where: file and line; what: the run, in words; metric: its name, which gives the unit of `measured`;
    is_rate: whether more is faster; machine: what ran on which machine, the points of which share an error that no
    constant explains; setting: points of one setting repeat one measurement and are left out together."""

    where: str
    kind: str
    what: str
    metric: str
    measured: float
    is_rate: bool = False
    machine: str
    setting: str


class Predictor(Protocol):
    """What predicts the points of one kind. paths: constants that may move them.

    Errors are ln(predicted time / measured time), [points]; slopes are their derivatives by ln of each constant,
    [points, paths].
    """

    @property
    def points(self) -> Sequence[MeasuredPoint]: ...

    @property
    def paths(self) -> tuple[str, ...]: ...

    def errors(self, values: ConstantValues) -> Floats: ...

    def slopes(self, values: ConstantValues) -> tuple[Floats, Floats]: ...


DELTA = 1e-3
"""Step of a numerical slope, in ln of the constant."""


def numerical_slopes(
    errors: Callable[[ConstantValues], Floats], values: ConstantValues, paths: Sequence[str]
) -> tuple[Floats, Floats]:
    """(errors [points], their slopes by ln of each constant [points, paths]): every constant moved by itself."""
    r = errors(values)
    J = np.zeros((len(r), len(paths)))
    for j, path in enumerate(paths):
        J[:, j] = (errors({**values, path: values[path] * math.exp(DELTA)}) - r) / DELTA
    return r, J
