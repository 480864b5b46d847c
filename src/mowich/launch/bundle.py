"""A bundle: everything that takes a plan from an answer to a running job, and back to the answer.

A bundle is a folder with start scripts, manifests, a router, a benchmark that checks the forecast, and the forecast
itself. Which files there are depends on the work: `serving_bundle.py`, `training_bundle.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mowich.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFile:
    """One file. path: inside the bundle, with "/"; is_script: whether it may be run."""

    path: str
    text: str
    is_script: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A number of the forecast that a benchmark measures. name: its path in a row, as `explain` takes it
    ("ttft_s.p99"); what: the same in words."""

    name: str
    what: str
    estimate: Estimate

    def to_dict(self) -> dict[str, object]:
        return {"name": self.name, "what": self.what, **self.estimate.to_dict()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What measures the forecast. program: "vllm bench serve"; log: the file that it writes, inside the bundle; files:
    that run it; predictions: what it will show."""

    program: str
    log: str
    files: Sequence[BundleFile]
    predictions: Sequence[Prediction]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """All files of a bundle. program: the tool that runs the plan; notes: what is left to the user, a line each."""

    program: str
    files: Sequence[BundleFile]
    benchmark: Benchmark
    notes: Sequence[str] = ()
