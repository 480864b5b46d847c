"""How far the outputs of a kernel are from those of a reference, and whether that is too far."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mowich.arrays import Array
from mowich.errors import EXIT_CHECK_FAILED, UserError
from mowich.shown import Keyed

if TYPE_CHECKING:
    from mowich.nki import Result

TOLERANCES = {4: 1e-4, 2: 2e-2, 1: 0.125}
"""Bytes of the narrowest number among arguments and outputs -> most that an element may differ. The product of two
numbers of 16 bits is right to 1 part in 256, of 8 bits to 1 in 8; float32 sums in another order differ by 1e-6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFit(Keyed):
    """The element that is farthest from the reference. output, place: where it is, None: no element differs;
    difference: largest of all, as numbers are; share: of that element and the root mean square of its output, which the
    tolerance bounds; got, wanted: of that element; why_not: why nothing was compared, "" where it was."""

    KEYS = "is_close largest_difference=difference share tolerance output place"

    output: int | None = None
    place: tuple[int, ...] = ()
    difference: float = 0.0
    share: float = 0.0
    got: float = 0.0
    wanted: float = 0.0
    tolerance: float = 0.0
    why_not: str = ""

    @property
    def is_close(self) -> bool:
        """Whether the outputs are those of the reference, to the tolerance."""
        return self.share <= self.tolerance

    def text(self) -> str:
        """The largest difference, and where it is."""
        if self.why_not:
            return self.why_not
        at = "" if self.output is None else f" at {list(self.place)} of output {self.output}"
        return f"largest difference from reference(): {self.difference:.3g}{at}, tolerance {self.tolerance:g}"

    def check(self, option: str, where: str | None = None, finds: str = "") -> None:
        """Raise UserError, with the exit code of a check, where the difference is above the tolerance. option: how to
        state another one, told where the outputs have the size of the reference's; finds: what names the
        instruction."""
        if self.is_close:
            return
        fixes = [f"add {finds} to name the instruction"] if finds else []
        fixes += [f"{option}{self.share * 1.1:.2g} allows it"] if self.share < 1 or not finds else []
        raise UserError(
            f"output {self.output} is not that of reference(): at {list(self.place)} it has {self.got:.6g}, the"
            f" reference {self.wanted:.6g}; the largest difference is {self.difference:.3g}",
            where=where,
            given=f"{self.share:.3g} of the element and the root mean square",
            allowed=f"at most {self.tolerance:g}",
            fix="; ".join(fixes),
            code=EXIT_CHECK_FAILED,
        )


_ADD = "no reference: add reference(), with the arguments of the kernel, to be told how far its outputs are"


def wanted_of(reference: object, arrays: Sequence[object], named: Mapping[str, object]) -> list[Array] | str:
    """What a reference gives for these arguments, before a kernel writes to them; or why there is nothing to compare
    with."""
    if not callable(reference):
        return _ADD
    try:
        inspect.signature(reference).bind(*arrays, **named)
    except TypeError:
        return f"{_ADD} (the one in the file takes other arguments)"
    copied = [_copied(x) for x in arrays]
    _, outputs = within_and_returned(reference(*copied, **{name: _copied(x) for name, x in named.items()}))
    return _ADD if outputs is None else outputs


def within_and_returned(found: object) -> tuple[dict[str, list[Array]], list[Array] | None]:
    """(Arrays of tiles within, by name in the order in which they come; the outputs, None: there are none) of what a
    reference gives: outputs, a mapping of tiles, or a generator of (name, array) that returns the outputs. Raises
    UserError for what it yields beside that."""
    within: dict[str, list[Array]] = {}
    if inspect.isgenerator(found):
        found = _drained(found, within)
    elif isinstance(found, Mapping):
        for name, array in found.items():
            within.setdefault(str(name), []).append(np.asarray(array))
        found = None
    listed = found if isinstance(found, tuple | list) else [found]
    return within, None if found is None else [np.asarray(x) for x in listed]


def _drained(generator: Iterator[object], within: dict[str, list[Array]]) -> object:
    """What a generator returns; what it yields is put into `within`."""
    while True:
        try:
            item = next(generator)
        except StopIteration as end:
            return end.value
        for pair in [*item.items()] if isinstance(item, Mapping) else [item]:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise UserError(
                    "the reference yields something that is not a tile",
                    given=pair,
                    allowed='(name, array), as ("x", x), or a dict',
                )
            within.setdefault(pair[0], []).append(np.asarray(pair[1]))


def _copied(x: object) -> object:
    return x.copy() if isinstance(x, np.ndarray) else x


def tolerance_of(arrays: Sequence[object]) -> float:
    """The tolerance of a kernel on arrays: of the narrowest of their numbers.

    >>> tolerance_of([np.ones(2, np.float32), 3]), tolerance_of([np.ones(2, np.float16)])
    (0.0001, 0.02)
    """
    from mowich.neuroncore.dtypes import as_dtype

    kinds = [as_dtype(x.dtype) for x in arrays if isinstance(x, np.ndarray) and x.dtype.itemsize <= max(TOLERANCES)]
    sizes = [(d.part or d).itemsize for d in kinds if d.is_float or d.part is not None]
    return TOLERANCES[min(sizes, default=max(TOLERANCES))]


def fit_to_reference(
    result: Result, wanted: list[Array] | str, given: Sequence[object], tolerance: float | None
) -> ReferenceFit:
    """The outputs of a run beside those of the reference. given: the arguments; tolerance: None: by the formats."""
    if isinstance(wanted, str):
        return ReferenceFit(why_not=wanted)
    made = [np.asarray(x) for x in result.outputs]
    if [x.shape for x in wanted] != [x.shape for x in made]:
        return ReferenceFit(why_not=f"{_ADD} (the one in the file gives other shapes)")
    return farthest_of(made, wanted, tolerance_of([*given, *made]) if tolerance is None else tolerance)


def farthest_of(made: Sequence[Array], wanted: Sequence[Array], tolerance: float) -> ReferenceFit:
    """The element of all outputs that is farthest from a reference of the same shapes."""
    worst = ReferenceFit(tolerance=tolerance)
    for i, (got, want) in enumerate(zip(made, wanted, strict=True)):
        if got.size:
            found = _farthest(i, got.astype(np.float64), want.astype(np.float64), tolerance)
            worst = max(worst, found, key=lambda c: c.share)
    return worst


def apart(got: Array, want: Array) -> Array:
    """How far elements are from those of a reference: |got - want| / (|want| + root mean square of all), 0 where both
    are the same infinity or NaN, infinite where one alone is finite.

    >>> apart(np.array([1.0, 3.0]), np.array([1.0, 1.0])).tolist()
    [0.0, 1.0]
    """
    with np.errstate(all="ignore"):
        difference = np.abs(got - want)
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        finite = want[np.isfinite(want)]
        size = np.abs(want) + (np.sqrt(np.mean(finite * finite)) if finite.size else 0.0)
        share: Array = np.where(same, 0.0, np.where(np.isfinite(difference) & (size > 0), difference / size, np.inf))
    return share


def _farthest(output: int, got: Array, want: Array, tolerance: float) -> ReferenceFit:
    """The element of an output that is farthest from the reference; one that is finite in one of both alone, or another
    infinity, is infinitely far."""
    share = apart(got, want)
    place = np.unravel_index(int(np.argmax(share)), share.shape)
    if share[place] == 0.0:
        return ReferenceFit(tolerance=tolerance)
    with np.errstate(all="ignore"):
        difference = np.abs(got - want)
    largest = np.where(share == 0.0, 0.0, np.where(np.isfinite(difference), difference, np.inf)).max()
    return ReferenceFit(
        output=output,
        place=tuple(int(i) for i in place),
        difference=float(largest),
        share=float(share[place]),
        got=float(got[place]),
        wanted=float(want[place]),
        tolerance=tolerance,
    )
