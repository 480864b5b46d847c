"""The score of measured kernels: errors, order, the search of constants, and what counts as time at work."""

from __future__ import annotations

import json
import math
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mowich
import mowich.nki.beta1 as older
import mowich.nki.beta1.language as older_nl
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.neuroncore.clock.risks import residual_of, risks_of
from mowich.nki import hollow

TOOLS = Path(__file__).resolve().parents[2] / "tools"
POINTS = Path(__file__).resolve().parents[3] / "shared" / "nki" / "timing_points_measured.json"


@pytest.fixture(scope="module")
def accuracy() -> Iterator[ModuleType]:
    sys.path.insert(0, str(TOOLS))
    import kernel_accuracy

    yield kernel_accuracy
    sys.path.remove(str(TOOLS))


def point(accuracy: ModuleType, name: str, us: float, family: str = "a", chart: bool = False) -> Any:
    return accuracy.Point(id=name, chip="trn2", family=family, us=us, older=False, chart=chart, static=False)


def test_error_is_the_same_in_both_directions(accuracy: ModuleType) -> None:
    assert accuracy.error(120.0, 100.0) == pytest.approx(0.2)
    assert accuracy.error(100.0, 120.0) == pytest.approx(0.2)


def test_pairs_of_a_family_that_differ_by_more_than_5_percent_count(accuracy: ModuleType) -> None:
    a, b, c = (point(accuracy, n, us) for n, us in (("a", 100.0), ("b", 104.0), ("c", 120.0)))
    other = point(accuracy, "d", 200.0, family="b")
    # a and b are too near; c is timed above a and below b: one of two is right; d has no family
    assert accuracy.pairs([(a, 90.0), (b, 130.0), (c, 110.0), (other, 10.0)]) == (1, 2)


def test_the_loss_is_median_and_worst_of_each_family_and_counts_charts_half(accuracy: ModuleType) -> None:
    rows = [
        (point(accuracy, "a", 100.0), 110.0),
        (point(accuracy, "b", 100.0), 130.0),
        (point(accuracy, "c", 100.0, chart=True), 150.0),
    ]
    # (0.2 + 0.3 x 0.3) and half of (0.5 + 0.3 x 0.5), over 1.5
    assert accuracy.loss(rows) == pytest.approx((0.29 + 0.5 * 0.65) / 1.5)


def test_the_search_finds_the_best_of_its_grids_and_keeps_the_prior_of_what_does_not_matter(
    accuracy: ModuleType,
) -> None:
    constants = [
        accuracy.Constant("x", (1.0, 2.0, 3.0), 1.0, 1.0),
        accuracy.Constant("y", (10.0, 20.0), 1.0, 10.0),
        accuracy.Constant("z", (5.0, 6.0, 7.0), 1.0, 6.5),
    ]
    assert accuracy.search(constants, lambda v: (v[0] - 2) ** 2 + (v[1] - 20) ** 2) == (2.0, 20.0, 6.5)


def test_the_search_finds_the_end_of_a_valley_in_which_constants_stand_for_each_other(accuracy: ModuleType) -> None:
    """Whatever the losses on the grid: nothing is below what was found. Along one constant at a time a search stays at
    the wall of a valley x + y = 1."""
    constants = [accuracy.Constant(n, tuple(i / 5 for i in range(6)), 1.0, 1.0) for n in "xy"]
    assert accuracy.search(constants, lambda v: abs(v[0] + v[1] - 1) * 10 + v[0]) == (0.0, 1.0)
    r = random.Random(8)
    for _ in range(20):
        losses = {(a / 5, b / 5): r.random() for a in range(6) for b in range(6)}
        assert losses[accuracy.search(constants, losses.__getitem__)] == min(losses.values())


def test_points_are_read_and_those_that_are_not_scored_are_left_out(accuracy: ModuleType, tmp_path: Path) -> None:
    rows = [
        {"id": "kev_moeq_trn3_v1", "chip": "trn3", "us": 80.0, "runner": {"kind": "moe_q"}, "pool_active_us": 40.0},
        {"id": "kev_moebc_trn2_v2", "chip": "trn2", "us": 90.0, "runner": {"kind": "moe_bf16"}},
        {"id": "kev_moeb_trn2_v20b", "chip": "trn2", "us": 90.0, "runner": {"kind": "moe_bf16"}},
        {"id": "kda_silu_v1", "chip": "trn2", "us": 600.0, "kernel": "github:a/kda k/silu/v1.py"},
        {"id": "kda_base_silu", "chip": "trn2", "us": 2000.0, "kernel": "github:a/AccelOpt silu.py"},
        {"id": "whole_layer", "chip": "trn2", "us": 1.0},
    ]
    file = tmp_path / "points.json"
    file.write_text(json.dumps(rows))
    found = accuracy.read(file)
    assert [(p.family, p.chart, p.older, p.static) for p in found] == [
        ("moeq trn3", False, False, False),
        ("moeb trn2", True, False, False),
        ("silu trn2", False, True, True),
        ("silu trn2", False, True, True),
    ]
    assert found[0].active_us == {"gpsimd": 40.0}
    file.write_text("[")
    with pytest.raises(UserError, match="no points can be read"):
        accuracy.read(file)


def test_a_file_of_kernels_sets_the_environment_of_its_own_run_alone(accuracy: ModuleType, tmp_path: Path) -> None:
    """The file asks for two cores a launch, as files with a benchmark do: a point runs on those that it says."""
    (tmp_path / "k.py").write_text(
        "import os\nimport nki\nimport nki.language as nl\nimport nki.isa as nisa\n"
        "os.environ['NEURON_LOGICAL_NC_CONFIG'] = '2'\n"
        "@nki.jit\n"
        "def k(x, *others):\n"
        "    nisa.dma_copy(dst=nl.ndarray((1, 2048), dtype=nl.bfloat16, buffer=nl.sbuf), src=x[0])\n"
    )
    before = dict(os.environ)
    for cores in (1, 2, 1):
        row = {"path": "k.py", "lnc": cores, "runner": {"kind": "moe_q", "func": "k"}}
        p = accuracy.Point(id="k", chip="trn2", family="a", us=1.0, older=False, chart=False, static=False, row=row)
        made = accuracy.run(p, accuracy.Checkouts(tmp_path / "points.json", megakernel=tmp_path))
        assert len(accuracy.traces(made)) == cores
        assert dict(os.environ) == before


def test_the_unit_of_a_source_is_what_the_work_of_its_busiest_engine_requires(accuracy: ModuleType) -> None:
    """Whatever the work, the share and the true factor: a clock within 10% of the work finds the factor."""
    r = random.Random(5)
    for _ in range(200):
        factor, printed_us, share, off = (
            r.choice((1, 2)),
            r.uniform(50, 5e4),
            r.uniform(0.3, 1.0),
            r.uniform(0.91, 1.09),
        )
        work_us = factor * share * printed_us * off
        assert accuracy.unit_factor(work_us, share, printed_us) == factor


def test_published_bytes_and_counts_are_read_with_their_rounding(accuracy: ModuleType) -> None:
    found = accuracy.published_counts()
    assert found["kev_moeq_trn3_v14a"].figures == {"read": (16_488 * 1024, 512), "spill": (0, 0), "matmuls": (1332, 0)}
    assert found["kda_silu_silu_v1"].figures == {"read": (117e6, 0.5e6), "write": (117e6, 0.5e6)}
    assert found["kda_matmul_matmul_v3_bf16_split"].figures["read"] == (2_036_662_272, 0)
    assert found["kda_silu_silu_v1"].active["dma"] == pytest.approx(0.97)


def test_bytes_that_differ_are_listed_and_others_counted(accuracy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load of 128 x 512 fp32 elements is 262,144 B; 2% are 5,243 B."""

    def kernel(x: Any) -> None:
        t = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=x)

    r = mowich.run_kernel(kernel, hollow((128, 512), "float32"), target="trn2", values=False, strict=False)
    timed = accuracy.Timed(point(accuracy, "k", 3.0), accuracy.traces(r))
    for read, said in ((262_144, "HBM read 1 of 1"), (267_000, "HBM read 1 of 1"), (270_000, "HBM read 0 of 1")):
        counts = {"k": accuracy.Counts(figures={"read": (read, 0)}, active={}, why="spills")}
        lines = accuracy.counted([timed], counts)
        assert said in lines[0]
        assert any("spills" in line for line in lines) == ("0 of 1" in said)


def test_pairs_are_scored_by_what_was_said_of_them(accuracy: ModuleType) -> None:
    a, b = point(accuracy, "a", 100.0), point(accuracy, "b", 120.0, family="b")
    sure = [accuracy.Pair(a, b, 0.95, 1.0, 1.2, 1.0, 1.3)] * 19 + [accuracy.Pair(a, b, 0.95, 0.0, 1.2, 0.7, 0.9)]
    open_ = [accuracy.Pair(a, a, 0.55, 0.5, ratio, 0.9, 1.1, True) for ratio in (0.85, 1.0, 1.0, 1.0)]
    lines = accuracy.orders(sure + open_)
    assert "| of two families | 20 | 20 | 20 (100%) | 19 (95%) | 19 (95%) |" in lines
    assert "| of one family | 4 | 1 | 0 (0%) | - | 3 (75%) |" in lines
    assert lines[-1] == "Said to be a tie: 4 pairs, of which 3 differ by less than 10%."
    # all are of the same two kernels: as much as one pair says. (1 + 2.71 / 2 - 1.645 sqrt(0.0475 + 2.71 / 4)) / 3.71
    assert "| 0.50 to 0.60 | 4 (few) | 55% | 50% | 1 | 7% to 93% |" in lines
    assert "| 0.90 to 0.97 | 20 | 95% | 95% | 1 | 24% to 100% |" in lines


def test_pairs_that_share_kernels_count_less(accuracy: ModuleType) -> None:
    """No kernel twice: as many as there are. One kernel beside n others: two in the limit, whatever n. All pairs of n
    kernels: fewer than the kernels."""
    p = point(accuracy, "a", 1.0)

    def found(kernels: list[tuple[int, int]]) -> float:
        n: float = accuracy.independent([accuracy.Pair(p, p, 0.9, 1.0, 1.0, 1.0, 1.0, False, k) for k in kernels])
        return n

    for n in range(1, 30):
        assert found([(2 * i, 2 * i + 1) for i in range(n)]) == pytest.approx(n)
        assert found([(0, i) for i in range(1, n + 1)]) == pytest.approx(2 * n / (n + 1))
        assert found([(0, 1)] * n) == pytest.approx(1)
        if n > 1:
            assert found([(i, j) for i in range(n) for j in range(i)]) < n


def test_the_range_of_a_share_holds_it_and_narrows_with_more_cases(accuracy: ModuleType) -> None:
    r = random.Random(3)
    for _ in range(100):
        n, share = r.uniform(1, 200), r.random()
        low, high = accuracy.share_range(share, n)
        assert 0 <= low <= share <= high <= 1 + 1e-12
        more = accuracy.share_range(share, 4 * n)
        assert more[1] - more[0] < high - low


def test_a_fitted_width_is_the_least_that_holds_90_percent(accuracy: ModuleType) -> None:
    r = random.Random(4)
    for _ in range(100):
        n = r.randint(10, 60)
        misses = [(r.gauss(0, 0.05), r.uniform(0, 0.05), r.uniform(0, 0.05)) for _ in range(n)]
        h = accuracy.fitted_width(misses)

        def held(width: float, misses: list[Any] = misses) -> int:
            return sum(accuracy._holds(width, m) for m in misses)

        assert held(h + 1e-12) >= 0.9 * n
        assert h == 0 or held(h - 1e-9) < 0.9 * n


def test_ranges_are_scored_with_the_width_of_other_families(accuracy: ModuleType) -> None:
    """Family b is twice as far off as a, beyond the width that a asks for; a is inside what b asks for."""
    rows = [
        (point(accuracy, f"{f}{i}", 100.0 * math.exp(d * i / 10), family=f), 100.0)
        for f, d in (("a", 0.05), ("b", 0.1))
        for i in range(1, 11)
    ]
    scored = [accuracy.Scored(p, x, 0.95 * x, 1.052 * x, "residual") for p, x in rows]
    lines = accuracy.covered(scored, rows)
    # b up to 0.05: five of ten. The width: the 18th of 20. That of a is 0.045, which holds four of b; that of b holds a
    assert "| `model.residual` | 2, 20 | 15 (75%) | 15 (75%) | 0.92 to 1.08 | 14 (70%) |" in lines
    assert "| **all** | 2, 20 | 15 (75%) | 15 (75%) | - | - |" in lines


def test_time_at_work_as_a_profiler_counts_it() -> None:
    """Two software loads: GpSimd 2 x 0.83 us. An activation of 512 columns on trn2: (512 + 60 + 290) / 1.2 GHz = 718
    ns with its latency. A copy by the Vector Engine: (512 + 60) / 0.96 GHz = 596 ns. DMA while bytes move: 2 x (8 x
    18 ns + 16,384 B / 23 GB/s)."""

    def kernel(x: Any) -> None:
        a, b, c = (nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf) for _ in range(3))
        nisa.dma_copy(dst=a, src=x, dge_mode=nisa.dge_mode.swdge)
        nisa.dma_copy(dst=b, src=x, dge_mode=nisa.dge_mode.swdge)
        nisa.activation(dst=c, data=a, op=nl.copy)
        nisa.tensor_copy(dst=c, src=b, engine=nisa.vector_engine)

    r = mowich.run_kernel(kernel, hollow((128, 512), "float32"), target="trn2", values=False, strict=False)
    assert not isinstance(r, list)
    active = r.profile.active_s
    assert active["gpsimd"] == pytest.approx(1.66e-6)
    assert active["scalar"] == pytest.approx(862 / 1.2e9, rel=1e-5)
    assert active["vector"] == pytest.approx(572 / 0.96e9, rel=1e-5)
    one = r.profile.cost[0].transfer[0] / 1e12
    assert active["dma"] == pytest.approx(2 * one)
    assert one == pytest.approx(18e-9 + 16_384 / 23e9, rel=1e-5)
    assert active["tensor"] == 0


def test_software_descriptors_and_the_older_interface_have_ranges_of_their_own() -> None:
    def kernel(x: Any, mode: Any) -> None:
        t = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=x, dge_mode=mode)

    for mode, name in ((1, "residual_software"), (2, "residual")):
        r = mowich.run_kernel(kernel, hollow((128, 512), "float32"), mode, target="trn2", values=False, strict=False)
        assert not isinstance(r, list)
        assert residual_of(r.schedule) == name

    @older.jit
    def moved(x: Any) -> Any:
        out = older_nl.ndarray(x.shape, dtype=x.dtype, buffer=older_nl.shared_hbm)
        older_nl.store(out, value=older_nl.load(x))
        return out

    r = mowich.run_kernel(moved, hollow((128, 512), "float32"), target="trn2", values=False)
    assert not isinstance(r, list)
    assert residual_of(r.schedule) == "residual_older"
    assert r.time_s.value is not None
    assert r.time_s.high is not None
    own = load_facts().fact("neuroncore.timing-v3.model.residual_older").high
    assert own is not None
    assert r.time_s.high > own * r.time_s.value


@pytest.mark.skipif(not POINTS.is_file(), reason="the file of measured points is not here")
def test_the_released_points_are_read(accuracy: ModuleType) -> None:
    found = accuracy.read(POINTS)
    assert len([p for p in found if not p.older]) == 48
    assert {p.chip for p in found} == {"trn2", "trn3"}


@pytest.mark.parametrize(
    ("columns", "in_place", "name"),
    [(8_875, False, "residual_crowded"), (8_874, False, "residual_older"), (8_875, True, "residual_older")],
)
def test_kernels_that_leave_sbuf_no_room_to_load_ahead_have_a_range_of_their_own(
    columns: int, in_place: bool, name: str
) -> None:
    """SBUF of trn2 gives 212,984 B of a partition; a third is 70,994 B, two tiles of 8,874 fp32 columns (70,992 B) or
    one of 17,748."""

    @older.jit
    def doubled(x: Any) -> Any:
        out = older_nl.ndarray(x.shape, dtype=x.dtype, buffer=older_nl.shared_hbm)
        a = older_nl.load(x)
        if in_place:
            a[...] = older_nl.exp(a)
            older_nl.store(out, value=a)
        else:
            older_nl.store(out, value=older_nl.exp(a))
        return out

    r = mowich.run_kernel(doubled, hollow((128, columns), "float32"), target="trn2", values=False)
    assert not isinstance(r, list)
    assert residual_of(r.schedule) == name
    t = r.time_s
    assert t.value is not None
    assert t.high is not None
    assert (t.high / t.value > 1.6) == (name == "residual_crowded")


@pytest.mark.parametrize(
    ("loop", "inside", "name"),
    [
        ("sequential_range", "", "residual_sequential"),
        ("affine_range", "", "residual_older"),
        ("sequential_range", "affine_range", "residual_older"),
    ],
)
def test_loads_of_an_innermost_sequential_loop_have_a_range_of_their_own(
    tmp_path: Path, loop: str, inside: str, name: str
) -> None:
    """What the older compiler loads ahead there is not known. A loop that holds another one is not innermost."""
    body = "for j in nl.affine_range(2):\n            t[...] = nl.exp(t)" if inside else "t[...] = nl.exp(t)"
    file = tmp_path / "kernel.py"
    file.write_text(f"""
import neuronxcc.nki as nki
import neuronxcc.nki.language as nl

@nki.jit
def kernel(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for i in nl.{loop}(8):
        t = nl.load(x[:, i * 512 + nl.arange(512)[None, :]])
        {body}
        nl.store(out[:, i * 512 + nl.arange(512)[None, :]], value=t)
    return out
""")
    with mowich.nki.installed():
        space: dict[str, Any] = {"__name__": "kernel"}
        exec(compile(file.read_text(), str(file), "exec"), space)
        r = mowich.run_kernel(space["kernel"], hollow((128, 4096), "float32"), target="trn2", values=False)
    assert not isinstance(r, list)
    assert residual_of(r.schedule) == name


def test_the_widest_of_several_risks_sets_the_range_and_all_are_told() -> None:
    @older.jit
    def many(x: Any) -> Any:
        out = older_nl.ndarray(x.shape, dtype=x.dtype, buffer=older_nl.shared_hbm)
        tiles = [older_nl.exp(older_nl.load(x[:, i * 9_000 : (i + 1) * 9_000])) for i in range(8)]
        for i in range(8):
            older_nl.store(out[:, i * 9_000 : (i + 1) * 9_000], value=tiles[i])
        return out

    r = mowich.run_kernel(many, hollow((128, 72_000), "float32"), target="trn2", values=False)
    assert not isinstance(r, list)
    assert [x.name for x in risks_of(r.schedule)] == ["overflow", "crowded"]
    assert residual_of(r.schedule) == "residual_overflow"
    told = r.profile.to_dict()["risks"]
    assert [(x["name"], x["low"], x["high"]) for x in told] == [("overflow", 0.9, 2.1), ("crowded", 0.9, 1.65)]
    assert all(x["why"] for x in told)


def test_a_run_time_offset_under_hardware_descriptors_is_a_risk() -> None:
    def kernel(x: Any, mode: Any) -> None:
        index = nl.ndarray((1, 1), dtype=nl.int32, buffer=nl.sbuf)
        nisa.memset(index, 0)
        t = nl.ndarray((128, 256), dtype=nl.bfloat16, buffer=nl.sbuf)
        source = x.ap([[4096, 128], [1, 256]], 0, scalar_offset=index, indirect_dim=0)
        nisa.dma_copy(dst=t, src=source, dge_mode=mode)

    x = hollow((128, 4096), "bfloat16")
    for mode, names in ((nisa.dge_mode.hwdge, ["offsets"]), (nisa.dge_mode.swdge, []), (nisa.dge_mode.unknown, [])):
        r = mowich.run_kernel(kernel, x, mode, target="trn2", values=False, strict=False)
        assert not isinstance(r, list)
        assert [risk.name for risk in risks_of(r.schedule)] == names


def test_trainium_1_has_a_wider_range_than_the_others_for_the_older_interface() -> None:
    facts = load_facts()
    for name in ("older", "crowded", "overflow", "sequential"):
        one, two = (facts.fact(f"neuroncore.timing-v{g}.model.residual_{name}") for g in (2, 3))
        assert None not in (one.low, one.high, two.low, two.high)
        assert one.low < two.low  # type: ignore[operator]
        assert one.high > two.high  # type: ignore[operator]
