"""A bundle: everything that takes a plan from an answer to a running job, and back to the answer.

A bundle is a folder with start scripts, manifests, a router, a benchmark that checks the forecast, and the forecast
itself. Which files there are depends on the work: `serving_bundle.py`, `training_bundle.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mowich.estimate import Estimate
from mowich.shown import Keyed, Result

FORECAST, BUNDLE_INDEX, README = "forecast.json", "bundle.json", "README.md"
"""Files of every bundle: the answer, the list of its files, and what to do with them."""


COMMANDS_FILE = "launch/commands.txt"
"""All commands of a plan, as `--emit` without a folder prints them: `--plan` reads them back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFile:
    """One file. path: inside the bundle, with "/"; is_script: whether it may be run; about: one line of README."""

    path: str
    text: str
    is_script: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Keyed):
    """A number of the forecast that a benchmark measures. name: its path in a row, as `explain` takes it
    ("ttft_s.p99"); what: its name in words."""

    KEYS = "name what value=estimate.value unit=estimate.unit low=estimate.low high=estimate.high grade=estimate.grade"

    name: str
    what: str
    estimate: Estimate


def predicted_numbers(row: Result, named: Mapping[str, str]) -> list[Prediction]:
    """The numbers that a row knows. named: number -> its name in words."""
    return [
        Prediction(name=name, what=what, estimate=Estimate.from_dict(data))
        for name, what in named.items()
        if isinstance(data := row.get(name), Mapping) and data.get("value") is not None
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What measures the forecast. program: "vllm bench serve"; log: the file that it writes, inside the bundle; files:
    that run it; predictions: what it will show; steps, after: commands before it and behind it, in order, each with
    what it does; notes: what is left to the user, a line each."""

    program: str
    log: str
    files: Sequence[BundleFile]
    predictions: Sequence[Prediction]
    steps: Sequence[tuple[str, str]] = ()
    after: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """All files of a bundle but its forecast. program: the tool that runs the plan; title: what it is of, in a line;
    notes: what is left to the user, a line each."""

    program: str
    title: str
    files: Sequence[BundleFile]
    benchmark: Benchmark
    notes: Sequence[str] = ()

    def about(self, pick: int) -> dict[str, object]:
        """What its forecast says of it. pick: which row of the answer, from 1."""
        return {
            "program": self.program,
            "pick": pick,
            "benchmark": self.benchmark.program,
            "log": self.benchmark.log,
            "predicted": [one.to_dict() for one in self.benchmark.predictions],
        }
