"""The judge on families of kernels that were measured: what it chooses, when it stops, what it calls sure."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mowich.neuroncore.order import KernelSide
from mowich.studies.judge.measured import WORTH_MEASURING, KnownTimes

ROOT = Path(__file__).resolve().parents[2]
POINTS = ROOT.parent / "shared" / "nki" / "timing_points_measured.json"
CHECKOUTS = ("MEGAKERNEL", "NKILIB", "KDA", "ACCELOPT")
"""Environment variables with the checkouts of `make judge-replay`."""


@pytest.fixture(scope="module")
def replay() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "tools"))
    import judge_replay

    yield judge_replay
    sys.path.remove(str(ROOT / "tools"))


def side(clock_us: float, dma: float, **more: Any) -> KernelSide:
    """A kernel whose time is in part that of its DMAs, and in part that of the Vector Engine."""
    path = {"dma": (dma, 0.8, 1.25), "vector": (1 - dma, 0.8, 1.25)}
    given: dict[str, Any] = {"reason": "", "grade": "C", "kind": "3", "pair": 0.06, "width": (0.9, 1.1), "risks": ()}
    return KernelSide(time_s=clock_us / 1e6, path=path, **given | more)


def family(replay: ModuleType, rows: list[tuple[float, float, float]]) -> Any:
    """Of (measured us, us of the clock, share of DMA)."""
    times = tuple(us / 1e6 for us, _, _ in rows)
    names = tuple(f"k{i}" for i in range(len(rows)))
    sides = tuple(side(clock, dma) for _, clock, dma in rows)
    return replay.Family(name="ours trn2", chart=False, kernels=names, times_s=times, sides=sides)


def test_a_small_family_of_our_own(replay: ModuleType) -> None:
    """DMAs take 15% longer than predicted. The clock alone prefers the first; when that was measured, the judge prefers
    the third, which has few DMAs, asks for it, and stops: the fourth is surely slower, and was never measured."""
    ours = family(replay, [(11.5, 10.0, 1.0), (11.7, 10.2, 1.0), (10.5, 10.4, 0.1), (20.0, 19.0, 0.5)])
    found = replay.replayed(ours)
    assert found.budget == 2
    assert found.measured[:2] == (0, 2)
    assert 3 not in found.measured
    assert [found.regret_after(n) for n in (0, 1, 2)] == pytest.approx([11.5 / 10.5 - 1, 0.0, 0.0])
    counted = replay.pair_count(ours)  # all but those of 11.5 and 11.7
    assert (counted.differ, counted.sure, counted.right) == (5, 3, 3)


def test_the_judge_stops_where_no_gain_is_expected(replay: ModuleType) -> None:
    """Of drawn families: it asks for each kernel once, and when it stops no other is expected to save 1%."""
    draw = np.random.default_rng(4)
    for _ in range(20):
        rows = [(10 * float(np.exp(draw.normal(0, 0.2))), 0.0, float(draw.uniform())) for _ in range(8)]
        ours = family(replay, [(us, us * float(np.exp(draw.normal(0, 0.07))), dma) for us, _, dma in rows])
        found = replay.replayed(ours)
        assert len(set(found.measured)) == len(found.measured) == len(found.regrets) - 1
        known = KnownTimes(ours.sides, {at: ours.times_s[at] for at in found.measured})
        gains = [known.gains[at] for at in known.by_time[1:]]
        assert max(gains) < WORTH_MEASURING


def test_the_regret_at_random_is_the_mean_over_all_choices(replay: ModuleType) -> None:
    draw = np.random.default_rng(6)
    ours = family(replay, [(float(draw.uniform(10, 20)), 10.0, 0.5) for _ in range(6)])
    for count in range(1, 7):
        regrets = [min(ours.regret(at) for at in chosen) for chosen in combinations(range(6), count)]
        assert replay.regret_at_random(ours, count) == pytest.approx(np.mean(regrets))


def test_what_is_kept_of_families_is_read_as_it_was(replay: ModuleType) -> None:
    ours = family(replay, [(11.0, 10.0, 0.25), (12.0, 11.0, 1.0)])
    (again,) = replay.families(json.loads(json.dumps(replay.kept_of([ours]))))
    assert again.times_s == ours.times_s
    assert [s.path["dma"] for s in again.sides] == [s.path["dma"] for s in ours.sides]
    assert [s.path.get("vector", (0.0,))[0] for s in again.sides] == [0.75, 0.0]
    assert [(s.time_s, s.width, s.kind, s.pair, s.grade) for s in again.sides] == [
        (s.time_s, s.width, s.kind, s.pair, s.grade) for s in ours.sides
    ]


def check_bounds(replay: ModuleType, families: list[Any]) -> None:
    """What is asked of the judge on released families."""
    replays = [replay.replayed(each) for each in families]
    good, many = replay.good_choices(replays)
    assert (many, good >= 7) == (8, True)
    counts = [replay.pair_count(each) for each in families]
    differ, sure, right = (sum(getattr(c, name) for c in counts) for name in ("differ", "sure", "right"))
    assert sure >= 0.6 * differ > 200
    assert right >= 0.97 * sure


def test_the_judge_on_released_families(replay: ModuleType) -> None:
    check_bounds(replay, replay.families())


@pytest.mark.slow
@pytest.mark.skipif(not POINTS.is_file(), reason="the file of measured points is not here")
@pytest.mark.skipif(not all(map(os.environ.get, CHECKOUTS)), reason=f"name checkouts: {', '.join(CHECKOUTS)}")
def test_the_judge_on_released_families_run_anew(replay: ModuleType) -> None:
    """The clock as it is now, each family left out of a fit made now; it says what is kept."""
    words = [word for name in CHECKOUTS for word in (f"--{name.lower()}", os.environ[name])]
    found = replay.judged_families([str(POINTS), *words])
    check_bounds(replay, found)
    for now, kept in zip(found, replay.families(), strict=True):
        assert now.kernels == kept.kernels
        assert [s.time_s for s in now.sides] == pytest.approx([s.time_s for s in kept.sides], rel=1e-6)
