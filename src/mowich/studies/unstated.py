"""Settings of an engine that a question does not state: between which ends its times lie for want of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mowich.facts import Facts
from mowich.serving.search import ServeJob, closed_load
from mowich.serving.steady import closed_loop
from mowich.shown import Keyed
from mowich.software.engine import UNSTATED
from mowich.studies.serving import Deployment

TOLD_FROM = 0.05
"""Share of a time below which a setting is not named."""
_WORDS = {"graphs": ("decode", "piecewise"), "moe": ("trtllm", "deepgemm")}
"""Settings of words -> those of the low and the high end of their facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnstatedSetting(Keyed):
    """A setting that nobody stated. low, high: what measured rows of the engine were started with; ttft, tpot: the
    time to first token and the time per token at these ends over those of their mean."""

    KEYS = "setting=field low high ttft tpot"

    setting: str
    low: str
    high: str
    ttft: tuple[float, float]
    tpot: tuple[float, float]

    @property
    def field(self) -> str:
        """The setting as a question names it."""
        return f"plan.{self.setting}"

    @property
    def matters(self) -> bool:
        """Whether a time moves by `TOLD_FROM` or more."""
        return max(abs(math.log(x)) for x in (*self.ttft, *self.tpot)) >= TOLD_FROM

    def line(self, engine: str) -> str:
        """What stating it would narrow."""
        moves = [
            f"{what} by {100.0 * (min(both) - 1.0):+.0f}% to {100.0 * (max(both) - 1.0):+.0f}%"
            for what, both in (("TTFT", self.ttft), ("TPOT", self.tpot))
            if max(abs(math.log(x)) for x in both) >= TOLD_FROM
        ]
        return (
            f"{self.field} of {engine} is not stated: measured rows have {self.low} to {self.high}, which moves"
            f" {' and '.join(moves)}; --set {self.field}={self.low} narrows the range"
        )


def unstated_settings(d: Deployment, i: int, users: float, job: ServeJob, facts: Facts) -> tuple[UnstatedSetting, ...]:
    """The settings that plan i does not state, and that its engine's measured rows do. users: per rank group."""
    names = d.table.take(np.array([i])).names
    start = f"{UNSTATED}.{d.engine}_"
    open_ = [(k, fact) for k, fact in enumerate(map(facts.fact, names)) if fact.path.startswith(start)]
    open_ = [(k, fact) for k, fact in open_ if fact.low is not None and fact.low != fact.high]
    if not open_:
        return ()
    values = np.array([facts.number(path) for path in names])
    cases = [values]
    for k, fact in open_:
        for end in (fact.low, fact.high):
            cases.append(values.copy())
            cases[-1][k] = end
    rows = np.full(len(cases), i)
    costs, around, verified, accepted = d.table.take(rows).assemble(np.array(cases))
    load = closed_load(job, np.full(len(cases), users), verified, accepted)
    found = closed_loop(d.shapes.take(rows), costs, around, load, d.system.hbm_usable_B)
    ttft, tpot = (x[1:].reshape(-1, 2) / x[0] for x in (found.ttft_s, found.tpot_s))
    out = []
    for (_, fact), first, later in zip(open_, ttft.tolist(), tpot.tolist(), strict=True):
        name = fact.path.removeprefix(start)
        low, high = _WORDS.get(name) or (f"{fact.low:g}", f"{fact.high:g}")
        out.append(UnstatedSetting(setting=name, low=low, high=high, ttft=tuple(first), tpot=tuple(later)))
    return tuple(out)


def first_token_spreads(settings: Sequence[UnstatedSetting]) -> tuple[list[float], list[float]]:
    """(downs, ups) in ln TTFT of settings that are not stated. Those of the kernels of experts are in the time per
    token, whose ranges a time to first token has too."""
    moves = [[math.log(x) for x in s.ttft] for s in settings if s.setting != "moe"]
    return [max(0.0, *(-x for x in m)) for m in moves], [max(0.0, *m) for m in moves]


def unstated_lines(settings: Sequence[UnstatedSetting], engine: str) -> tuple[str, ...]:
    """A line for each setting that would narrow a time."""
    return tuple(s.line(engine) for s in settings if s.matters)
