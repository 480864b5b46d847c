"""What a log is held beside, and what comes of it: a row of a forecast, figures, words of the setup, causes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mowich.estimate import Estimate
from mowich.evidence.readers.setup import Setup
from mowich.shown import Keyed, Result

FigureStatus = Literal["inside", "above", "below", "another setup", "not predicted", "no range"]
"""above: more was measured than the high end of the range."""

MORE_IS_FASTER = ("tokens_per_s_per_chip",)
"""Figures that are larger where a machine is faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFigure(Keyed):
    """One figure of a log. measured: in `unit`; predicted: None where the forecast has no such number; ratio: predicted
    over measured, as times (above 1: predicted slower), None where the log is of another setup."""

    KEYS = "name what log measured unit predicted:bare ratio status"

    name: str
    what: str
    log: str
    measured: float
    unit: str
    predicted: Estimate | None
    ratio: float | None
    status: FigureStatus

    @property
    def is_outside(self) -> bool:
        return self.status in ("above", "below")

    @property
    def slower(self) -> float:
        """Measured over predicted, as times: 1.2 is 20% slower than predicted."""
        return 1.0 / self.ratio if self.ratio else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupItem(Keyed):
    """One word of the setup. log: as the log states it, None: it does not; agrees: None where it does not say."""

    name: str
    forecast: str
    log: str | None
    where: str
    agrees: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause(Keyed):
    """What would explain a figure that lies outside. of: the figure; factor: what it does to the time; reaches: whether
    it alone brings the range to what was measured; command: that shows it."""

    of: str
    name: str
    what: str
    factor: float
    reaches: bool
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The row of a result that logs are held beside. work: "train", "serve" or "load"; place: of the row, from 1;
    figures: number of the row -> its estimate; plan: words of its plan and its load."""

    where: str
    data: Result
    row: Result
    place: int
    work: str
    system: str
    chips: int
    software: str
    figures: Mapping[str, Estimate]
    plan: Mapping[str, str]

    @property
    def inputs(self) -> Result:
        found: Result = self.data["inputs"]
        return found

    @property
    def model(self) -> str:
        return str(self.inputs["model"])

    @property
    def verb(self) -> str:
        return str(self.data["schema"]).removeprefix("mowich/").partition("@")[0]

    @property
    def program(self) -> str | None:
        """The launch program of a bundle."""
        found: str | None = (self.data.get("bundle") or {}).get("program")
        return found

    def metric(self, name: str) -> str:
        """A number of the row, as `explain` names it."""
        return f"{self.place}.{name}"

    def setup(self) -> Setup:
        """What a log does not state, as the forecast has it."""
        return Setup(
            on=f"{self.row['system_id']}:{self.chips}",
            model=self.model,
            software=self.software,
            plan=self.plan,
            said="the forecast says",
        )
