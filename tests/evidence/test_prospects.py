"""Rows that would tell most, before they are measured."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mowich.evidence.prospects import Prospect, half_width_of, row_prospect, worth_most
from mowich.serving.anchors import Anchor, Class, anchors_for

ASKED = Class(
    engine="vllm",
    arch="dense",
    model="llama-3.1-70b",
    family="hopper",
    chip="h200_sxm",
    vendor="nvidia",
    weights="fp8",
    plan="tp",
    users=32.0,
    prompt=4096.0,
    output=512.0,
    ranks=4.0,
)
OTHERS = [
    replace(ASKED, users=256.0, version="0.19"),
    replace(ASKED, users=64.0, version="0.19"),
    replace(ASKED, model="qwen3-32b", users=32.0, version="0.19"),
    replace(ASKED, engine="trtllm", users=8.0, version="1.0"),
]


def rows(residues):
    return [
        Anchor(id=f"own{i}", source="own", one=one, residue={"tpot": r, "ttft": -r})
        for i, (one, r) in enumerate(zip(OTHERS, residues, strict=True))
    ]


@pytest.mark.parametrize("metric", ["tpot", "ttft"])
@pytest.mark.parametrize(("chip", "vendor"), [("h200_sxm", "nvidia"), ("none_such", "nobody")])
def test_a_prospect_says_what_rows_will_say_once_they_are_measured(metric, chip, vendor):
    own = [
        replace(row, one=replace(row.one, chip=chip, vendor=vendor, family=chip))
        for row in rows([0.3, -0.2, 0.1, 0.05])
    ]
    asked, known = replace(ASKED, chip=chip, vendor=vendor, family=chip), anchors_for()
    found = row_prospect(known, metric, asked, own)
    made = [2, 0, 3]
    shift, half = known.with_rows([own[i] for i in made]).apply(metric, [asked])
    results = np.array([own[i].residue[metric] for i in made])
    assert found.expected(made, results) == pytest.approx(shift[0], abs=1e-9)
    assert math.sqrt(found.given(made)) == pytest.approx(half[0], rel=1e-9)
    assert math.sqrt(found.given([])) == pytest.approx(known.apply(metric, [asked])[1][0], rel=1e-9)


def test_the_nearest_row_is_chosen_first_and_what_it_tells_is_not_bought_twice():
    parts = [row_prospect(anchors_for(), "tpot", ASKED, rows([0.0] * 4))]
    chosen = worth_most(parts, 4, 4)
    assert chosen[0].place == 1
    left = [one.left for one in chosen]
    assert left == sorted(left, reverse=True)
    assert left[0] < half_width_of(parts)
    assert all(one.alone >= one.left - 1e-12 for one in chosen)


def test_what_tells_nothing_is_not_chosen():
    deaf = Prospect(mean=np.zeros(2), covariance=np.eye(2), noise=np.ones(1), before=1.0)
    assert worth_most([deaf], 1, 3) == []
    assert worth_most([], 0, 3) == []


def test_a_part_that_cannot_be_measured_stays():
    cov = np.array([[1.0, 1.0], [1.0, 1.0]])
    exact = Prospect(mean=np.zeros(2), covariance=cov, noise=np.zeros(1), before=1.0)
    deaf = Prospect(mean=np.zeros(2), covariance=np.eye(2), noise=np.ones(1), before=4.0)
    (one,) = worth_most([exact, deaf], 1, 3)
    assert one.left == pytest.approx(2.0)
