"""Acceptance of drafts by position, and published lengths."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.acceptance import kept_by_conditionals, kept_by_marginals, kept_of, published_tables
from mowich.studies.traffic import traffic
from mowich.studies.traffic_pools import accepted_tokens
from mowich.studies.traffic_scenario import TrafficScenario, read_traffic

FACTS = load_facts()
SCENARIO = """mowich: 1
model: llama-3.1-8b
on: h100:1
engine: vllm
plan: {tp: 1, weights: bf16}
traffic: {rate: 2, requests: 30, prompt: 500, output: 100}
speculation: {accepted_by_position: [0.8, 0.6, 0.4]}
"""


def read(tmp_path: Path, new: str) -> TrafficScenario:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO.replace("{accepted_by_position: [0.8, 0.6, 0.4]}", new))
    return read_traffic(path, FACTS)


def test_shares_of_both_kinds_say_the_same_where_they_are_of_one_draft() -> None:
    """Drafts drawn position by position: their mean length is that of their marginal and of their conditional shares;
    one probability for all is the formula of a draft model; more is kept of a longer draft, and never more than it."""
    rng = np.random.default_rng(3)
    for _ in range(40):
        shares = rng.uniform(0.05, 0.99, int(rng.integers(1, 9))).tolist()
        marginals = list(itertools.accumulate(shares, lambda a, b: a * b))
        assert kept_by_conditionals(shares) == pytest.approx(kept_by_marginals(marginals), rel=1e-12)
        assert kept_of(marginals, "marginal") == kept_by_marginals(marginals)
        lengths = [kept_by_conditionals(shares[:k]) for k in range(len(shares) + 1)]
        assert lengths == sorted(lengths)
        assert all(1.0 <= x <= 1.0 + k for k, x in enumerate(lengths))
        drawn = rng.random((20_000, len(shares))) < shares
        mean = 1.0 + np.cumprod(drawn, axis=1).sum(axis=1).mean()
        assert kept_by_conditionals(shares) == pytest.approx(mean, abs=0.08)
        a = shares[0]
        assert kept_by_conditionals([a] * 5) == pytest.approx(accepted_tokens(a, 5), rel=1e-12)


def test_positions_decide_what_is_kept_and_what_is_verified(tmp_path: Path) -> None:
    seen = {}
    for words in (
        "{accepted_by_position: [0.8, 0.6, 0.4]}",
        "{accepted_by_position: [0.8, 0.6, 0.4], positions: conditional}",
        "{accepted_by_position: [0.8, 0.6, 0.4, 0.0]}",
        "{accepted: 2.8}",
        "{draft: llama-3.2-1b, accepted_by_position: [0.8, 0.6, 0.4]}",
    ):
        scheduler = read(tmp_path, words).serve.scheduler
        seen[words] = (scheduler.verified, round(scheduler.accepted, 6))
    assert list(seen.values()) == [(4.0, 2.8), (4.0, 2.472), (5.0, 2.8), (3.0, 2.8), (4.0, 2.8)]
    times = []
    for words in ("[0.8, 0.6, 0.4]", "[0.8, 0.6, 0.4, 0.0]"):
        read(tmp_path, f"{{accepted_by_position: {words}}}")
        result = traffic(TrafficRequest(facts=FACTS, scenario=tmp_path / "s.yaml", draws=0))
        times.append(result.tpot_s["mean"])
        assert result.inputs["speculation"]["accepted"] == pytest.approx(2.8)  # type: ignore[index]
    assert times[0] < times[1]  # type: ignore[operator]  # a position that is never accepted only costs


def test_published_lengths_are_read_from_facts(tmp_path: Path) -> None:
    tables = published_tables(FACTS)
    assert len(tables) > 10
    for name, lengths in tables.items():
        for tokens, path in lengths.items():
            assert 1.0 < FACTS.number(path) <= 1.0 + tokens, name
    scenario = read(tmp_path, "{published: minimax-m3-eagle3, tokens: 3}")
    assert scenario.serve.scheduler.verified == 4.0
    assert math.isclose(scenario.serve.scheduler.accepted, 2.83, abs_tol=1e-6)
    path = "serving.acceptance.minimax-m3-eagle3.tokens_3"
    scenario = read_traffic(tmp_path / "s.yaml", FACTS.with_values({path: 3.1}))
    assert math.isclose(scenario.serve.scheduler.accepted, 3.1, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("{accepted_by_position: 0.8}", "s.yaml:7 speculation.accepted_by_position: not a list of shares"),
        ("{accepted_by_position: []}", "not a list of shares"),
        ("{accepted_by_position: [0.8, 1.2]}", "allowed: numbers from 0 to 1"),
        ("{accepted_by_position: [0.8, high]}", "allowed: numbers from 0 to 1"),
        ("{accepted_by_position: [0.6, 0.8]}", "marginal shares do not rise"),
        ("{accepted_by_position: [0.8], positions: margin}", "did you mean 'marginal'?"),
        ("{accepted_by_position: [0.8], accepted: 1.8}", "speculation.accepted_by_position: accepted already says"),
        ("{accepted: 1.8, positions: marginal}", "speculation.positions: goes with accepted_by_position"),
        ("{accepted_by_positions: [0.8]}", "did you mean 'accepted_by_position'?"),
        ("{published: kimi-k3, tokens: 3}", "did you mean 'kimi-k3-dspark'?"),
        ("{published: kimi-k3-dspark}", "speculation.tokens is missing"),
        ("{published: kimi-k3-dspark, tokens: 4}", "was not measured with so many tokens"),
        ("{draft: llama-3.2-1b, tokens: 2, accepted_by_position: [0.8]}", "is not the number of positions"),
    ],
)
def test_bad_positions_say_where(tmp_path: Path, new: str, said: str) -> None:
    with pytest.raises((UserError, UserErrors)) as caught:
        read(tmp_path, new)
    assert said in caught.value.line()
