"""What a run of a kernel gives: its outputs, what ran, and when."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mowich.errors import UserError
from mowich.estimate import Estimate
from mowich.neuroncore.clock.records import ClockOptions, Schedule
from mowich.neuroncore.core import Core

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.neuroncore.order import KernelOrder
    from mowich.neuroncore.profile import Profile


@dataclass(slots=True)
class Peers:
    """Cores of all ranks of one run: they are scheduled together, once."""

    cores: list[Core]
    schedule: Schedule | None = None


@dataclass(slots=True, kw_only=True)
class Result:
    """What a run gives. kernel: name of its function; outputs: arrays that it returned; cores: state of each program,
    with its trace; warnings: lines;
    timed: whether the clock may replay the trace, with `options`; static_dma: compiled with --disable-dge; older:
    written in the older interface; peers: the cores of all ranks of the run; facts: of the clock, None: those that
    ship."""

    kernel: str
    outputs: list[object]
    value: object
    cores: list[Core] = field(repr=False)
    warnings: list[str] = field(default_factory=list)
    timed: bool = False
    options: ClockOptions = field(default_factory=ClockOptions, repr=False)
    static_dma: bool = False
    older: bool = False
    peers: Peers | None = field(default=None, repr=False)
    facts: Facts | None = field(default=None, repr=False)
    _schedule: Schedule | None = field(default=None, repr=False)
    _profile: Profile | None = field(default=None, repr=False)

    @property
    def schedule(self) -> Schedule:
        """When each instruction ran; made when first asked for. Raises UserError for a run without times."""
        if self._schedule is None:
            from mowich.neuroncore.clock.costs import Costs, costs
            from mowich.neuroncore.clock.schedule import schedule

            cores = self.peers.cores if self.peers is not None else self.cores
            traces = [c.trace for c in cores if c.trace is not None]
            if not self.timed or len(traces) < len(cores):
                raise UserError("this run has no times", fix="run_kernel(..., timed=True)")
            if self.peers is not None and self.peers.schedule is not None:
                self._schedule = self.peers.schedule
            else:
                options = replace(self.options, older=self.older)
                if options.dge is None:
                    options = replace(options, dge=not self.static_dma)
                generation = self.cores[0].generation
                known = costs(generation) if self.facts is None else Costs(generation, self.facts)
                self._schedule = schedule(traces, known, options)
            if self.peers is not None:
                self.peers.schedule = self._schedule
        return self._schedule

    @property
    def time_s(self) -> Estimate:
        """Latency from the first trigger to the last result, in seconds; unknown, with the reason, where no instruction
        ran. Raises UserError for a run without times."""
        return self.profile.time_s

    @property
    def profile(self) -> Profile:
        """Who was busy, who waited for whom, what binds. Raises UserError for a run without times."""
        if self._profile is None:
            from mowich.neuroncore.profile import Profile

            self._profile = Profile(self.schedule, self.kernel)
        return self._profile

    def against(self, other: Result) -> KernelOrder:
        """Which of two kernels is slower: this run is A, the other one B. `ratio` is the time of B over the time of A
        (an Estimate without unit, with its own 90% range), `p_a_slower` the probability that A takes longer, `verdict`
        one of "a slower", "b slower", "tie" and "no order known". Raises UserError for a run without times.

        Example:
            >>> order = mowich.run_kernel(before, x).against(mowich.run_kernel(after, x))  # doctest: +SKIP
            >>> print(order)  # doctest: +SKIP
            A is slower than B with a probability of 97%.
        """
        from mowich.neuroncore.order import order_of

        return order_of(self.profile, other.profile)

    @property
    def device_s(self) -> float:
        """Latency as profilers of the device report it: with the start-up and tear-down of a launch, where known
        (Trainium1). Raises ValueError where no instruction ran."""
        return float(self.time_s) + self.schedule.costs.number("launch.startup")

    @property
    def instructions(self) -> int:
        """Instructions that ran on all cores."""
        return sum(c.clock for c in self.cores)
