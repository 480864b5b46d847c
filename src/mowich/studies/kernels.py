"""What a run of a kernel gave, and what differs between two versions of one, as answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mowich.shown import Keyed, Shown

if TYPE_CHECKING:
    from mowich.neuroncore.changes import FigureRow
    from mowich.neuroncore.order import KernelOrder
    from mowich.neuroncore.profile import Profile
    from mowich.nki import Result
    from mowich.studies.kernel_reference import ReferenceFit


@dataclass(frozen=True, slots=True, kw_only=True)
class Output(Keyed):
    """An array that a kernel returned. place: from 0; low, high, mean: over all elements, None where they are no plain
    numbers or there are none."""

    KEYS = "output=place shape dtype min=low? max=high? mean?"

    place: int
    shape: tuple[int, ...]
    dtype: str
    low: float | None = None
    high: float | None = None
    mean: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRun(Shown):
    """One run of a kernel. generation: of the NeuronCore; instructions: executed and checked on all cores;
    reference: how far it is from what the file's reference gives, None: nobody asked."""

    SCHEMA = "mowich/kernel-run@1"
    KEYS = "kernel generation cores instructions outputs warnings reference=compared?"

    kernel: str
    generation: int
    cores: int
    instructions: int
    outputs: tuple[Output, ...]
    warnings: tuple[str, ...]
    reference: ReferenceFit | None = None

    @property
    def compared(self) -> ReferenceFit | None:
        """The reference, where it could be compared with."""
        return None if self.reference is None or self.reference.why_not else self.reference


def ran(kernel: str, result: Result, reference: ReferenceFit | None = None) -> KernelRun:
    """What a run gave. kernel: the name that was asked for; reference: how far it is from one."""
    return KernelRun(
        kernel=kernel,
        generation=result.cores[0].generation,
        cores=len(result.cores),
        instructions=result.instructions,
        outputs=tuple(_output(i, np.asarray(value)) for i, value in enumerate(result.outputs)),
        warnings=tuple(result.warnings),
        reference=reference,
    )


def _output(place: int, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Output:
    low = high = mean = None
    if array.dtype.names is None and array.size:
        numbers = array.astype(np.float64)
        with np.errstate(all="ignore"):  # the mean of inf and -inf is NaN
            low, high, mean = float(numbers.min()), float(numbers.max()), float(numbers.mean())
    return Output(place=place, shape=array.shape, dtype=str(array.dtype), low=low, high=high, mean=mean)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelDiff(Shown):
    """Two versions of a kernel. a, b: files or folders; order: which of them is slower, None where only tables are at
    hand; sections: "summary", "engines", "causes", "opcodes", "lines" -> rows (`neuroncore.changes.FigureRow`)."""

    SCHEMA = "mowich/kernel-diff@1"
    KEYS = "a b order **sections"

    a: str
    b: str
    order: KernelOrder | None
    sections: Mapping[str, Sequence[FigureRow]]


def folders_compared(a: Path, b: Path) -> KernelDiff:
    """Two folders of Neuron Explorer's tables, simulated or measured."""
    from mowich.neuroncore import explorer

    return KernelDiff(a=str(a), b=str(b), order=None, sections=explorer.compare_profiles(a, b))


def profiles_compared(a: str, b: str, profiles: tuple[Profile, Profile]) -> KernelDiff:
    """Two profiles: what their folders of tables would give, without DuckDB."""
    from mowich.neuroncore.changes import changes_between, figure_row, version_of
    from mowich.neuroncore.order import order_of

    one, two = profiles
    summary = [
        figure_row("total_time", one.time_s.value, two.time_s.value),
        figure_row("instructions", float(len(one)), float(len(two))),
        *(
            figure_row(name, float(x), float(y))
            for name, x, y in zip(("hbm_read_bytes", "hbm_write_bytes"), one.hbm_B, two.hbm_B, strict=True)
        ),
        figure_row("model_flops", float(one.flop), float(two.flop)),
        figure_row("spill_bytes", float(one.spill_B), float(two.spill_B)),
        figure_row("sbuf_peak_bytes", float(one.sbuf_peak_B), float(two.sbuf_peak_B)),
        figure_row("psum_peak_banks", float(one.psum_peak_banks), float(two.psum_peak_banks)),
    ]
    changes = changes_between(version_of(one), version_of(two))
    return KernelDiff(a=a, b=b, order=order_of(one, two), sections={"summary": summary, **changes})
