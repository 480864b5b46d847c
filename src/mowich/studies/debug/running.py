"""A kernel that is run more than once on the same arguments."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from mowich.neuroncore.core import Watcher
from mowich.nki import Result
from mowich.nki.runtime import kernel_launched
from mowich.studies.debug.session import StoppedRun


@contextlib.contextmanager
def silently() -> Iterator[None]:
    """What a kernel prints and warns of when it runs again was told by its first run."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class LaunchDetails(TypedDict, total=False):
    """How a kernel is launched: see `nki.runtime.run_function`. lnc: programs where no grid is given."""

    generation: int
    lnc: int
    strict: bool
    finite: bool


@dataclass(slots=True, kw_only=True)
class Launcher:
    """A kernel with its arguments. The first run writes
    to the caller's arrays, and later ones to copies of what these were."""

    kernel: Callable[..., object]
    args: Sequence[object]
    named: Mapping[str, object]
    how: LaunchDetails
    _kept: tuple[Sequence[object], Mapping[str, object]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._kept = copy.deepcopy((self.args, self.named))

    def run(self, watcher: Watcher) -> Result | None:
        """One run under a watcher; None where the watcher stopped it."""
        args, named = copy.deepcopy(self._kept) if watcher.is_again else (self.args, self.named)
        try:
            return kernel_launched(self.kernel, args, named, watcher=watcher, values=True, record=True, **self.how)
        except StoppedRun:
            return None

    def arguments(self) -> tuple[Sequence[object], Mapping[str, object]]:
        """Copies of the arguments, as they were before the first run."""
        return copy.deepcopy(self._kept)
