"""Samples of a run as columns, drawn once for the Python code and the compiled code that play them.

Draws are by index: the first samples of a run are the same however many follow, and a length is drawn as a share of the
distribution. So runs of one seed differ only by what was changed between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.rl.job import RlJob


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """samples: of a group; tokens: of an answer [samples of all groups]; turns: of the model in it; kept: 0 where a
    group is dropped after its rewards [groups]; ends: groups that were started for the first steps, and ends[k] those
    of step k and all before [steps]. Each step has the same number of kept groups."""

    samples: int
    tokens: Floats
    turns: NDArray[np.int64]
    kept: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def step_of(self) -> NDArray[np.intp]:
        """The step that each group is started for [groups]."""
        return np.searchsorted(self.ends, np.arange(len(self.kept)), side="right")

    @classmethod
    def of(cls, job: RlJob, steps: int, period: int, seed: int) -> Draws:
        """Samples of so many steps, of which the first `period` come again and again. Within these every share of the
        lengths comes once, in drawn order, so the mean is met; groups that are dropped are drawn within their step."""
        ends = np.floor(np.arange(1, period + 1) * (job.prompts / job.acceptance) + 1e-9).astype(np.int64)
        groups = int(ends[-1])
        lengths, turns, groups_at = (np.random.default_rng((seed, part)) for part in range(3))
        tokens = np.maximum(job.lengths.at(_shares(lengths.random(groups * job.samples))), 1.0)
        least = math.floor(job.environment.turns)
        more = _shares(turns.random(len(tokens))) < job.environment.turns - least
        kept = np.ones(groups, np.int64)
        order = groups_at.random(groups)
        for begin, end in pairwise((0, *ends.tolist())):
            kept[begin + np.argsort(order[begin:end], kind="stable")[job.prompts :]] = 0
        again = -(-steps // period)
        all_ends = (ends + groups * np.arange(again)[:, None]).ravel()[:steps]
        n = int(all_ends[-1])
        return cls(
            job.samples,
            np.tile(tokens, again)[: n * job.samples],
            np.tile(least + more.astype(np.int64), again)[: n * job.samples],
            np.tile(kept, again)[:n],
            all_ends,
        )


def _shares(drawn: Floats) -> Floats:
    """Drawn shares, moved so that they lie evenly: their ranks."""
    out = np.empty(len(drawn))
    out[np.argsort(drawn, kind="stable")] = (np.arange(len(drawn)) + 0.5) / max(len(drawn), 1)
    return out
