"""What a cache of any size finds, in closed form: against LRU itself, against traffic, and in plans."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich
from mowich import cli
from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.requests.fields import Edge
from mowich.requests.jobs import PLAN
from mowich.requests.scenarios import TrafficRequest
from mowich.requests.schema import QuestionSource
from mowich.serving.hit_curve import hit_curve
from mowich.serving.traffic.requests import UserRequest
from mowich.studies.hit_curves import read_hit_curve
from mowich.studies.traffic import traffic

FACTS = load_facts()


def drawn(seed: int, requests: int, block: int) -> list[UserRequest]:
    """Prompts that branch: each goes on from where another one stood."""
    rng = np.random.default_rng(seed)
    chains: list[tuple[int, ...]] = [()]
    fresh, out = 0, []
    for i in range(requests):
        base = chains[int(rng.integers(max(0, len(chains) - 12), len(chains)))]
        start, more = base[: int(rng.integers(0, len(base) + 1))], int(rng.integers(1, 6))
        chain = (*start, *range(fresh, fresh + more))
        fresh += more
        own = int(rng.integers(1, len(chain) + 1))
        one = UserRequest(str(i), float(i), own * block + int(rng.integers(0, block)), 5, chain[:own])
        one.later = chain[own:]
        chains.append(chain)
        out.append(one)
    return out


def lru(requests: list[UserRequest], block: int, most: int) -> int:
    """Tokens that an LRU cache of `most` blocks finds: the plain way."""
    held: OrderedDict[int, None] = OrderedDict()
    found = 0
    for r in requests:
        names = r.hashes[: r.prompt // block]
        here = next((k for k, name in enumerate(names) if name not in held), len(names))
        found += min(here * block, r.prompt - 1)
        for name in reversed((*names, *r.later)):
            held[name] = None
            held.move_to_end(name)
        while len(held) > most:
            held.popitem(last=False)
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.integers(1, 150))
def test_the_curve_is_lru(seed: int, most: int) -> None:
    requests = drawn(seed, 60, 16)
    curve = hit_curve(requests, 16)
    prompts = sum(r.prompt for r in requests)
    assert float(curve.at(16.0 * most)) == pytest.approx(lru(requests, 16, most) / prompts, abs=1e-12)
    assert np.all(np.diff(curve.shares) >= 0)


def test_the_curve_is_what_traffic_finds(tmp_path: Path) -> None:
    """Drawn sessions played out, with the memory of a replica that answers under way leave."""
    text = (
        '{mowich: 1, model: llama-3.1-8b, on: "h200:1", scheduler: {prefix_cache: true, kv_blocks: BLOCKS}, traffic:'
        ' {users: 40, requests: 500, prompt: 600, output: 200, turns: "uniform(2, 8)", think: exponential(20 s),'
        " shared_prefix: 512}}"
    )
    path = tmp_path / "load.yaml"
    path.write_text(text.replace("BLOCKS", "1000"))
    curve = read_hit_curve(str(path))
    for blocks in (3000, 6000, 12000, 40000):
        played = traffic(TrafficRequest(facts=FACTS, scenario=text.replace("BLOCKS", str(blocks)), draws=0))
        left = 16 * blocks - played.in_flight * 100
        assert played.cached_frac == pytest.approx(float(curve.at(left)), abs=0.05)


@pytest.fixture
def log(tmp_path: Path) -> str:
    """A trace whose sessions need some hundred gigabytes of cache."""
    path = tmp_path / "sessions.jsonl"
    rng = np.random.default_rng(0)
    turns = [0] * 800
    with path.open("w") as file:
        for i in range(5000):
            talk = int(rng.integers(0, 800))
            turns[talk] = turns[talk] % 30 + 1
            names = [10_000 * talk + k for k in range(turns[talk])]
            row = {"timestamp": i, "input_length": 512 * len(names), "output_length": 200, "hash_ids": names}
            file.write(json.dumps(row) + "\n")
    return str(path)


def test_plans_have_the_share_that_their_memory_keeps(log: str) -> None:
    def best(system: str, cached: object) -> mowich.ServeRow:
        serve = {"isl": "8k", "osl": 200, "ttft": "10s", "cached": cached}
        return mowich.plan("llama-3.1-70b", system, serve=serve, fixed={"mode": "aggregated"}, top=1).rows[0]

    small, large, more = best("h100:4", log), best("h200:4", log), best("h200:8", log)
    shares = [row.cached_frac for row in (small, large, more)]
    assert all(share is not None for share in shares)
    assert 0.05 < shares[0] < 0.8 * shares[1] < shares[1] < shares[2] < 0.9  # type: ignore[operator]
    stated = best("h200:4", shares[1])
    assert stated.tokens_per_s_per_chip.value >= large.tokens_per_s_per_chip.value * (1 - 1e-9)  # type: ignore[operator]
    none = best("h200:4", 0.0)
    assert none.tokens_per_s_per_chip.value < large.tokens_per_s_per_chip.value  # type: ignore[operator]
    assert none.cached_frac is None


def test_memory_is_worth_more_where_it_keeps_prompts(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    def gain(cached: str) -> float:
        words = (
            f"value h200:4 --of memory --model llama-3.1-70b --serve --isl 8k --osl 200 --ttft 10s --cached {cached}"
        )
        words += " --from 80GB --to 141GB --points 2 --set plan.mode=aggregated --json"
        assert cli.run(words.split()) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        assert all(("cached_frac" in row) == (cached == log) for row in rows)
        return 1.0 / float(rows[0]["gain"])

    assert gain(log) > 1.4 * gain("0%")


@pytest.mark.parametrize("cached", ["nowhere.jsonl", "60", "about half"])
def test_what_is_no_share_and_no_file_is_said(cached: str) -> None:
    with pytest.raises((UserError, UserErrors)) as caught:
        mowich.plan("llama-3.1-8b", "h100:8", serve={"isl": "2k", "osl": 100, "cached": cached})
    assert "cached" in caught.value.line()


def test_a_file_is_not_for_the_server(log: str) -> None:
    body = {"model": "llama-3.1-8b", "on": "h100:8", "serve": {"isl": "2k", "osl": 100, "cached": log}}
    with pytest.raises((UserError, UserErrors), match=r"serve\.cached: not a share"):
        PLAN.read(body, QuestionSource(edge=Edge.KEY, facts=FACTS))
