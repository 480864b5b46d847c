"""The worked numbers of the theory pages, computed again: a page that shows another number than its formula gives
fails."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from mowich.facts import Facts
from mowich.machines import collectives
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.models.model import Moe
from mowich.operators.law import busiest_load, gemm_s
from mowich.operators.rates import rates
from mowich.software.stack import equip
from mowich.training.faults import useful_of
from mowich.training.stage import head_share, others_s, stage_s

DOCS = Path(__file__).resolve().parents[2] / "docs"
ONE = np.ones(1)


def numbers(page: str, pattern: str) -> list[float]:
    """The numbers that a page prints at a place; `#` in the pattern stands for a number, blanks for any white space."""
    [path] = DOCS.rglob(page)
    text = path.read_text(encoding="utf-8")
    wanted = r"\s+".join(re.escape(word).replace(r"\#", r"(\d+(?:,\d{3})*(?:\.\d*)?)") for word in pattern.split())
    found = re.search(wanted, text)
    assert found, f"{page} has no {pattern!r}"
    return [float(x.rstrip(".").replace(",", "")) for x in found.groups()]


def test_a_matrix_product(facts: Facts) -> None:
    system = equip(facts, "h100")
    r, m = rates(system, np.zeros(1)), np.array([8192.0])
    rate = r.recipe
    rows = 1 + rate.m_half[0] / (m[0] + rate.m_half[0])
    saturation = rows * (1 + r.n_half / m[0]) ** 2
    printed = numbers("theory-training.md", "= # TFLOP; saturation #; / (# x 989 TFLOP/s) = # ms")
    share = float(rate.P[0]) / system.peak_flops["bf16"]
    expected = [2 * 8192**3 / 1e12, saturation, share, gemm_s(m, m, m, r)[0] * 1e3]
    assert printed == pytest.approx(expected, rel=2e-3)


def test_a_stage_and_its_part_of_the_head() -> None:
    layers, stages, through, head, limit = numbers(
        "theory-training.md",
        "*Worked:* # layers over # stages, # ms through them and # ms through the head, limit #:",
    )
    printed = numbers("theory-training.md", "cut #, room # ms, share #, the fullest stage # ms, the others # ms.")
    cut = ONE * math.ceil(layers / stages) / layers
    room = (cut * stages - 1) * through / 2
    share = head_share(ONE / stages, ONE * limit, room, ONE * head, ONE)
    fullest = stage_s(ONE * through, cut, ONE * head, share)
    others = others_s(ONE * (through + head), fullest, ONE * stages)
    assert printed == pytest.approx([float(x[0]) for x in (cut, room, share, fullest, others)], rel=2e-3)


def test_the_busiest_of_the_experts_ranks() -> None:
    """E, k, ep, M and the skew are those of the page."""
    experts, k, ep, skew = numbers("theory-training.md", "E = #, k = #, ep = #, M = 262,144, skew #:")
    tokens = 262_144.0
    load_ = busiest_load(
        np.array([tokens]), Moe(ffn=2048, num_experts=int(experts), top_k=int(k)), np.array([ep]), skew
    )[0]
    variance = (1 - 1 / ep) * ep * ((experts - k) / (experts - 1) / (tokens * k) + skew**2 / experts)
    s, z, printed = numbers("theory-training.md", "s = #, z = #, #.")
    assert s == pytest.approx(math.sqrt(variance), rel=5e-3)
    assert 1 + z * s == pytest.approx(load_, rel=5e-3)
    assert printed == pytest.approx(load_, abs=5e-3)


def test_copies_of_a_token_over_the_network(facts: Facts) -> None:
    """Formula and page, and the bytes that the model sends over the network, by their time beside that of a link."""
    h, limit, domains = numbers("theory-training.md", "h = #, M = #, N = # domains")
    copies, row, total = numbers("theory-training.md", "domains: # copies x # B = # kB;")
    top_k, domains_, unlimited = numbers(
        "theory-training.md", "Without the limit, top_k = # copies over # domains are #"
    )
    assert domains == domains_
    assert copies == pytest.approx(min(domains, limit) * (domains - 1) / domains)
    assert unlimited == pytest.approx(top_k * (domains - 1) / domains)
    assert row == 2 * h
    assert total == pytest.approx(copies * row / 1e3, rel=5e-3)
    speed, time = numbers("theory-training.md", "at # GB/s # us per token and transfer")
    assert time == pytest.approx(total * 1e3 / (speed * 1e9) * 1e6, rel=2e-2)

    system = resolve(facts, "h100", chips=1024)
    devices, rows = np.array([domains * system.domain_devices]), np.array([1e6])
    limited, plain = (
        collectives.all_to_all_s(system, rows * top_k * row, devices, ONE, reach=reach, rows=rows, row_B=row)
        for reach in (limit, None)
    )
    assert limited.outside_s[0] / plain.outside_s[0] == pytest.approx(copies / unlimited, rel=1e-2)


def test_a_collective(facts: Facts) -> None:
    system, n, size = equip(facts, "h100"), np.array([8.0]), np.array([2.0**30])
    way = next(a for a in collectives.algorithms(system, n, ONE, "all-reduce") if a.name == "nvls")
    latency, moved = float(way.latency_s[0]), float(way.per_B[0] * size[0])
    f = system.fabric
    printed = numbers(
        "collectives.md",
        "L = # us and b S = # ms. The pipeline is the lesser of # sqrt(L b S) = # us and # L = # us. So T = # ms",
    )
    found = collectives.choose(system, "all-reduce", size, n, ONE)
    assert found.algorithm == ["nvls"]
    expected = [
        latency * 1e6,
        moved * 1e3,
        f.pipeline,
        f.pipeline * math.sqrt(latency * moved) * 1e6,
        f.pipeline_limit,
        f.pipeline_limit * latency * 1e6,
    ]
    assert printed == pytest.approx([*expected, float(found.time_s[0]) * 1e3], rel=5e-3)


def test_a_step_of_serving(facts: Facts) -> None:
    """Bytes and the sum of parts; the parts' efficiencies are facts that have their own tests."""
    model = load_model("llama-3.1-70b")
    hbm = facts.number("chips.h200_sxm.memory.hbm_bandwidth")
    weights, bandwidth, share, time = numbers("theory-serving.md", "tm = #e9 / (#e12 x #) = # ms")
    assert bandwidth * 1e12 == pytest.approx(hbm, rel=1e-2)
    assert weights * 1e9 == pytest.approx(model.params / 8, rel=4e-2)  # the embedding is read row by row
    assert time == pytest.approx(weights * 1e9 / (bandwidth * 1e12 * share) * 1e3, rel=5e-3)
    layers, per_token, context, n, cache = numbers(
        "theory-serving.md", "The cache in 16 bit is # layers x # B x # x # = # GB per rank"
    )
    assert layers == model.num_layers
    assert cache == pytest.approx(layers * per_token * context * n / 1e9, rel=5e-3)
    parts = [
        *numbers("theory-serving.md", "which gives # ms for linear."),
        *numbers("theory-serving.md", "GB per rank, / (#e12 x #) = # ms")[2:],
        *numbers("theory-serving.md", "# times, that is # ms.")[1:],
    ]
    launched, launch, layers, each, fixed = numbers(
        "theory-serving.md", "Layers take # kernels x # us + # x # us = # ms."
    )
    assert fixed == pytest.approx((launched * launch + layers * each) / 1e3, rel=2e-2)
    host, activations, head, total = numbers(
        "theory-serving.md", "Host takes # ms, activations # ms, head # ms. The sum is # ms"
    )
    assert total == pytest.approx(sum(parts) + fixed + host + activations + head, abs=0.06)


def test_goodput() -> None:
    m, r, c, tau, useful = numbers(
        "goodput.md", "M = # s, R = # s, C = # s: tau = sqrt(2 C M) = # s, and the first factor is #"
    )
    assert tau == pytest.approx(math.sqrt(2 * c * m), rel=5e-3)
    assert useful == pytest.approx(float(useful_of(m, r, c, tau)), abs=5e-4)


def test_a_fleet() -> None:
    demand, speed, price, other, dear = numbers(
        "theory-fleet.md", "the demand is # tokens per second. One chip does # for $# a period, another does # for $#."
    )
    cost, unit, against = numbers("theory-fleet.md", "of the first, $#, because $# a token is less than $#")
    assert cost == demand / speed * price < demand / other * dear
    assert (unit, against) == (price / speed, dear / other)
    assert numbers("theory-fleet.md", "costs less than $#") == [price / speed * other]


def test_a_matmul_on_the_clock(facts: Facts) -> None:
    columns, cycles, clock, time = numbers("kernel-timing.md", "# columns in bf16 on trn2: # cycles at # GHz, # ns")
    root = "neuroncore.timing-v3.tensor_engine"
    assert clock * 1e9 == facts.number(f"{root}.clock")
    assert cycles == columns + facts.number(f"{root}.overhead")
    assert time == pytest.approx(cycles / clock, rel=3e-3)


def test_measured_over_hand_tuned_is_that_of_the_record_of_tables() -> None:
    written = numbers("operator-tables.md", "Trainium1, # runs: x#, 90% of them x# to x#.")
    of_trn2 = numbers("operator-tables.md", "its one published run has x#.")
    said = "take # times the hand-tuned time on Trainium1 (90% of runs # to # times), and # times in the one run"
    assert numbers("theory-training.md", said) == written[1:] + of_trn2
    told = numbers("tables.md", "is x# on Trainium1 (# runs, 90% of them x# to x#) and x# in the one published run")
    assert told == [written[1], written[0], *written[2:], *of_trn2]


def test_formulas_and_tables_miss_by_what_their_record_says() -> None:
    row = "every constant of Trainium | # | # / # | # / # | # / # |"
    formulas, tabled = (numbers("operator-tables.md", f"| {by}, {row}")[-2:] for by in ("formulas", "tables"))
    said = "they miss by # / #% (median / 90th percentile over # rows), tables with every constant fitted by # / #%."
    first, first_90, _, second, second_90 = numbers("tables.md", said)
    assert [first, first_90, second, second_90] == formulas + tabled
