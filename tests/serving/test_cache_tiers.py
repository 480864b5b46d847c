"""The prefix cache by blocks and its tiers: what it holds, what loads cost, what capacity and links do."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.traffic.cache import PrefixCache
from mowich.serving.traffic.outages import Failure
from mowich.serving.traffic.policies import Scheduler
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.serving.traffic.tiers import LOADS, OVERLAPS, WRITES, CacheTier, Tiering, stores_of
from mowich.serving.traffic.times import StepTimes
from mowich.studies.traffic import traffic
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()
SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
BLOCK = 32
"""Tokens that a name stands for here; a token has one byte."""


def flat(step_s: float = 0.01, prompt_token_s: float = 1e-4) -> StepTimes:
    return StepTimes(
        tokens=[step_s + prompt_token_s * max(0, m - 1) for m in range(4000)],
        sampled=[0.0] * 400,
        per_context=1e-7,
        windows=(),
        prefill_step=0.0,
        pair=0.0,
        window_pairs=(),
        kv_B=1.0,
    )


def tier(name: str, names: int, Bps: float = 1e6, **more: object) -> CacheTier:
    return CacheTier(name=name, capacity_B=names * BLOCK, read_Bps=Bps, write_Bps=Bps, **more)  # type: ignore[arg-type]


def sessions(seed: int, requests: int, gap_s: float) -> list[UserRequest]:
    """Requests of a few sessions that grow by turns, all with the same beginning."""
    rng = np.random.default_rng(seed)
    turns: dict[int, int] = {}
    out = []
    for i in range(requests):
        talk = int(rng.integers(0, 6))
        turns[talk] = turns.get(talk, 0) + int(rng.integers(1, 4))
        if turns[talk] > 12:
            turns[talk] = 1
        names = (0, 1, *(1000 * (talk + 1) + k for k in range(turns[talk])))
        one = UserRequest(
            str(i), gap_s * i, BLOCK * len(names) + int(rng.integers(1, BLOCK)), int(rng.integers(1, 40)), names
        )
        out.append(one)
    return out


def serve(
    requests: list[UserRequest], tiering: Tiering | None = None, *, blocks: int = 60, replicas: int = 1, **more: object
) -> ReplicaFleet:
    scheduler = Scheduler(budget=256, max_sequences=16, blocks=blocks, block=16, prefix_cache=True, hash_block=BLOCK)
    stores = None if tiering is None else stores_of(tiering, BLOCK * 1.0, replicas)
    pool = [
        Replica(i, flat(), scheduler, tiering=tiering, stores=None if stores is None else stores[i])
        for i in range(replicas)
    ]
    fleet = ReplicaFleet(replicas=pool, **more)  # type: ignore[arg-type]
    list(fleet.run(requests))
    return fleet


def hits(requests: list[UserRequest]) -> int:
    return sum(r.cached for r in requests)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), answers=st.booleans(), blocks=st.integers(36, 90))
def test_what_is_cached_begins_at_the_beginning(seed: int, answers: bool, blocks: int) -> None:
    """A block stands for all tokens before it, so none is kept whose beginning was evicted: also of answers."""
    requests = sessions(seed, 40, 0.3)
    for r in requests:
        if answers:
            r.later = tuple(-1000 * (int(r.id) + 1) - k for k in range(r.output // BLOCK))
    chains = [(*r.hashes, *r.later) for r in requests]
    fleet = serve(requests, blocks=blocks)
    held = fleet.replicas[0].cache.idle
    for chain in chains:
        there = [name in held for name in chain]
        assert there == sorted(there, reverse=True)


def test_blocks_of_a_request_are_not_evicted_for_it() -> None:
    """A full cache whose oldest blocks are the beginning of the next prompt: they stay, others go."""
    cache_of = [tuple(range(10)), tuple(range(100, 110)), tuple(range(200, 208))]
    requests = [UserRequest(str(i), 10.0 * i, BLOCK * len(h), 1, h) for i, h in enumerate(cache_of)]
    again = UserRequest("again", 100.0, BLOCK * 16, 1, (*range(10), *range(300, 306)))
    last = UserRequest("last", 110.0, BLOCK * 20, 1, (*range(10), *range(300, 310)))
    serve([*requests, again, last], blocks=58)
    assert again.cached == 10 * BLOCK
    assert last.cached == 16 * BLOCK  # else blocks that the memory had lost would have been counted as found


def test_a_block_is_found_once_it_is_computed() -> None:
    """Two requests of one long prompt: the second finds what the steps of the first have reached, not all of it."""
    names = tuple(range(60))
    first, second = (UserRequest(str(i), 0.05 * i, 60 * BLOCK, 2, names) for i in range(2))
    serve([first, second], blocks=400)
    assert 0 < second.cached < 59 * BLOCK
    assert second.cached % BLOCK == 0


POLICIES = st.sampled_from(WRITES)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10_000), small=st.integers(1, 30), more=st.integers(1, 30), write=POLICIES, below=st.booleans()
)
def test_more_capacity_never_gives_fewer_hits(seed: int, small: int, more: int, write: str, below: bool) -> None:
    """LRU has the inclusion property: of one order of requests a larger tier finds all that a smaller one does. What
    is written at the second use depends on what another tier found, so it stands alone here."""
    below = below and write != "second_use"

    def found(host: int, ssd: int, blocks: int) -> int:
        tiers = (tier("host", host, math.inf, write=write), *([tier("ssd", ssd, math.inf, write="through")] * below))
        requests = sessions(seed, 50, 20.0)
        serve(requests, Tiering(tiers=tiers), blocks=blocks)
        return hits(requests)

    assert found(small, 20, 40) <= found(small + more, 20, 40)
    assert found(20, small, 40) <= found(20, small + more, 40)
    alone = [sessions(seed, 50, 20.0) for _ in range(2)]
    for requests, blocks in zip(alone, (36 + 2 * small, 36 + 2 * (small + more)), strict=True):
        serve(requests, blocks=blocks)
    assert hits(alone[0]) <= hits(alone[1])


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), overlap=st.sampled_from(OVERLAPS), load=st.sampled_from(LOADS))
def test_a_faster_link_gives_no_later_first_token(seed: int, overlap: str, load: str) -> None:
    def mean_s(Bps: float) -> float:
        tiering = Tiering(tiers=(tier("host", 200, Bps, write="through"),), overlap=overlap, load=load)
        requests = sessions(seed, 60, 0.25)
        serve(requests, tiering, blocks=60)
        return sum(r.first_token_s - r.arrival_s for r in requests) / len(requests)

    times = [mean_s(Bps) for Bps in (1e3, 1e4, 1e6)]
    assert times[2] <= 1.08 * times[1]  # other steps, other batches: queues of 60 requests differ by as much
    assert times[1] <= 1.08 * times[0]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    blocks=st.integers(40, 120),
    write=POLICIES,
    overlap=st.sampled_from(OVERLAPS),
    load=st.sampled_from(LOADS),
    prefetch=st.booleans(),
    shared=st.sampled_from([(False, False), (True, False), (True, True)]),
    fails=st.booleans(),
    route=st.sampled_from(["round-robin", "least-loaded", "prefix", "kv"]),
    Bps=st.sampled_from([2e3, 1e5, math.inf]),
)
def test_requests_and_tokens_are_conserved(
    seed: int,
    blocks: int,
    write: str,
    overlap: str,
    load: str,
    prefetch: bool,
    shared: tuple[bool, bool],
    fails: bool,
    route: str,
    Bps: float,
) -> None:
    is_shared, has_one_link = shared
    tiering = Tiering(
        tiers=(
            tier("host", 8, Bps, write=write, latency_s=1e-3),
            tier("remote", 40, Bps / 2, is_shared=is_shared, has_one_link=has_one_link, stays=True),
        ),
        load=load,
        overlap=overlap,
        prefetch=prefetch,
    )
    requests = sessions(seed, 60, 0.08)
    failures = (Failure(at_s=1.0, replica=1, down_s=0.5),) if fails else ()
    fleet = serve(requests, tiering, blocks=blocks, replicas=2, route=route, failures=failures)
    for r in requests:
        assert r.arrival_s <= r.scheduled_s <= r.first_token_s <= r.last_token_s
        assert 0 <= r.tier_1 + r.tier_2 <= r.cached < r.prompt
    for replica in fleet.replicas:
        assert replica.load == replica.blocks_private == replica.cache.used_blocks == replica.queued_tokens == 0
        assert not replica.held
        assert not replica.loading
        for store in replica.cache.tiers:
            assert len(store.names) <= store.limit
    if not (fails or any(r.preemptions for r in requests)):
        computed = sum(replica.prompt_tokens for replica in fleet.replicas)
        assert computed + hits(requests) == sum(r.prompt for r in requests)


def test_loads_run_beside_the_batch_or_within_the_step() -> None:
    """While a prompt's blocks come from a slow tier, the other sequence goes on; by layers, its steps wait too."""

    def served(overlap: str) -> tuple[UserRequest, UserRequest]:
        names = tuple(range(8))
        first = UserRequest("first", 0.0, 8 * BLOCK + 1, 1, names)
        filler = UserRequest("filler", 5.0, 26 * BLOCK, 1, tuple(range(100, 126)))
        decoding = UserRequest("decoding", 10.0, 8, 100)
        back = UserRequest("back", 10.1, 8 * BLOCK + 1, 1, names)
        tiering = Tiering(tiers=(tier("ssd", 100, 8 * BLOCK / 0.5),), overlap=overlap)
        serve([first, filler, decoding, back], tiering, blocks=54)
        assert back.tier_1 == back.cached == 8 * BLOCK
        return decoding, back

    beside, within = served("batch"), served("layers")
    alone = 100 * 0.0101
    assert beside[0].last_token_s - 10.0 == pytest.approx(alone, rel=0.1)
    assert within[0].last_token_s - beside[0].last_token_s == pytest.approx(0.5, abs=0.05)
    for _, back in (beside, within):
        assert back.first_token_s - back.arrival_s == pytest.approx(0.52, abs=0.03)


def test_a_slow_tier_is_left_alone_where_computing_is_faster() -> None:
    def mean_s(load: str, Bps: float) -> float:
        requests = sessions(5, 60, 0.5)
        serve(requests, Tiering(tiers=(tier("ssd", 300, Bps, write="through"),), load=load), blocks=40)
        return sum(r.first_token_s - r.arrival_s for r in requests)

    assert mean_s("faster", 300.0) < 0.5 * mean_s("always", 300.0)
    assert mean_s("faster", 1e6) == pytest.approx(mean_s("always", 1e6), rel=1e-3)


def test_a_shared_tier_serves_all_replicas_and_outlives_them() -> None:
    def cached(is_shared: bool, failures: tuple[Failure, ...] = ()) -> int:
        remote = tier("remote", 1000, write="through", is_shared=is_shared, stays=True)
        requests = sessions(3, 40, 1.0)
        serve(requests, Tiering(tiers=(remote,)), replicas=2, failures=failures)
        return hits(requests)

    assert cached(True) > 1.2 * cached(False)
    assert cached(True, (Failure(at_s=20.5, replica=0, down_s=0.1),)) == cached(True)


def test_prefetch_hides_the_slow_tier_behind_the_queue() -> None:
    def waits_s(prefetch: bool) -> float:
        host, ssd = tier("host", 60, 1e6, write="eviction"), tier("ssd", 400, 5e3, write="through")
        requests = sessions(4, 80, 0.12)
        serve(requests, Tiering(tiers=(host, ssd), prefetch=prefetch), blocks=48)
        return sum(r.loads_s for r in requests)

    assert waits_s(True) < waits_s(False)


def test_written_once_while_it_stays() -> None:
    """A block that came back from a tier and is evicted again is not written again."""
    names = tuple(range(6))
    requests = [
        UserRequest(str(i), 5.0 * i, 6 * BLOCK + 1, 1, names if i % 2 == 0 else tuple(range(100 * i, 100 * i + 6)))
        for i in range(9)
    ]
    fleet = serve(requests, Tiering(tiers=(tier("host", 400),)), blocks=20)
    store = fleet.replicas[0].cache.tiers[0]
    assert sum(r.cached > 0 for r in requests) == 4
    assert store.written_B == len(store.names) * BLOCK


def test_finding_stops_at_what_is_nowhere() -> None:
    stores = stores_of(Tiering(tiers=(tier("host", 9, math.inf), tier("ssd", 9, math.inf))), float(BLOCK), 1)[0]
    cache = PrefixCache(2, stores)
    cache.keep((1, 3), 0.0)
    stores[0].put(2, 0.0)
    stores[1].put(4, 0.0)
    assert cache.found((1, 2, 3, 4, 5, 6), 0.0) == (1, [1, 0, 2])


# scenarios
# ----------------------------------------------------------------------------------------------------------------------

SCENARIO = (
    '{mowich: 1, model: llama-3.1-8b, on: "h100:2", plan: {tp: 1, weights: bf16}, scheduler: {prefix_cache: true,'
    " kv_blocks: 2000TIERS}, traffic: {users: 24, requests: 150, prompt: 900, output: 30, turns: 4, think:"
    " exponential(2 s)}}"
)


def of(tiers: str) -> str:
    return SCENARIO.replace("TIERS", f", cache_tiers: {tiers}" if tiers else "")


def test_a_tier_of_no_capacity_is_no_tier() -> None:
    none, zero = (
        traffic(TrafficRequest(facts=FACTS, scenario=of(text), draws=0)).to_dict()
        for text in ("", "{host: {capacity: 0 B}, ssd: {capacity: 0 B}}")
    )
    for result in (none, zero):
        result["inputs"] = {k: v for k, v in result["inputs"].items() if k != "scenario"}  # type: ignore[attr-defined]
    assert none == zero


def test_host_blocks_are_the_host_tier() -> None:
    def served(more: str, tiers: str) -> dict[str, object]:
        text = of(tiers).replace("kv_blocks: 2000", f"kv_blocks: 2000{more}")
        result = traffic(TrafficRequest(facts=FACTS, scenario=text, draws=0)).to_dict()
        return {k: v for k, v in result.items() if k != "inputs"}

    bytes_ = 4000 * 16 * 2 * 8 * 128 * 2 * 32
    old = served(", host_blocks: 4000, host_bandwidth: 20 GB/s", "")
    new = served("", f"{{host: {{capacity: {bytes_} B, bandwidth: 20 GB/s, latency: 0 s}}}}")
    assert old == new
    assert old["cached_of"]["host"] > 0.01  # type: ignore[index]


def test_what_a_tier_does_not_say_is_of_the_host() -> None:
    scenario = read_traffic(of("{host: {}, ssd: {}, remote: {capacity: 10 TB}}"), FACTS)
    assert scenario.serve.tiering is not None
    host, ssd, remote = scenario.serve.tiering.tiers
    assert host.capacity_B == FACTS.number("chips.h100_sxm.host.memory")
    assert host.read_Bps == FACTS.number("chips.h100_sxm.host.bandwidth")
    assert (ssd.capacity_B, ssd.stays, remote.is_shared) == (3.84e12, True, True)
    assert scenario.inputs["cache_tiers"]["tiers"]["ssd"]["read_Bps"] == ssd.read_Bps  # type: ignore[index]
    two = read_traffic(of("{host: {}}").replace("tp: 1", "tp: 2"), FACTS).serve.tiering
    assert two is not None
    assert two.tiers[0] == replace(
        host, capacity_B=2 * host.capacity_B, read_Bps=2 * host.read_Bps, write_Bps=2 * host.write_Bps
    )


@pytest.mark.parametrize(
    ("tiers", "complaint"),
    [
        ("{hots: {}}", "did you mean 'host'"),
        ("{host: {capacity: 5}}", "scheduler.cache_tiers.host.capacity"),
        ("{host: {capcity: 5 GB}}", "did you mean 'capacity'"),
        ("{host: {write_policy: never}}", "eviction, second_use, through"),
        ("{host: {}, load: sometimes}", "always, faster"),
        ("{host: {}, overlap: all}", "batch, layers"),
        ("{ssd: {}, prefetch: true}", "brings blocks of ssd or remote to host memory"),
        ("{remote: {}}", "no fact says how large a remote store is"),
        ("{ssd: {shared_link: true}}", "goes with a tier that replicas share"),
        ("{host: {bandwidth: 0 GB/s}}", "must be at least 1"),
    ],
)
def test_bad_tiers_say_where(tiers: str, complaint: str) -> None:
    with pytest.raises((UserError, UserErrors)) as caught:
        read_traffic(of(tiers), FACTS)
    assert complaint in caught.value.line()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("prefix_cache: true", "prefix_cache: false", "needs a prefix cache"),
        ("kv_blocks: 2000", "host_blocks: 5, host_bandwidth: 1 GB/s", "is the host tier too"),
        ("kv_blocks: 2000", "hash_block: 40", "is not a multiple of block_size"),
        ('"h100:2"', '"trn2:2"', "no fact says the capacity of the ssd tier"),
    ],
)
def test_bad_caches_say_where(old: str, new: str, complaint: str) -> None:
    with pytest.raises((UserError, UserErrors)) as caught:
        read_traffic(of("{ssd: {}}").replace(old, new), FACTS)
    assert complaint in caught.value.line()


def mean_first_token_s(tmp_path: Path, name: str, tiers: str | None) -> float:
    """Of a scenario of the documents, with other tiers than its own."""
    text = (SCENARIOS / f"{name}.yaml").read_text(encoding="utf-8")
    own = next(line for line in text.splitlines() if line.lstrip().startswith("cache_tiers:"))
    path = tmp_path / f"{name}.yaml"
    path.write_text(text if tiers is None else text.replace(own, f"  cache_tiers: {tiers}" if tiers else ""))
    found = traffic(TrafficRequest(facts=FACTS, scenario=path, draws=0)).ttft_s["mean"]
    assert found is not None
    return found


def test_a_cache_on_ssd_that_pays(tmp_path: Path) -> None:
    assert mean_first_token_s(tmp_path, "cache-ssd-pays", None) < 0.3 * mean_first_token_s(
        tmp_path, "cache-ssd-pays", ""
    )


@pytest.mark.slow
def test_a_cache_on_ssd_that_does_not_pay(tmp_path: Path) -> None:
    name = "cache-ssd-does-not-pay"
    without = mean_first_token_s(tmp_path, name, "")
    assert mean_first_token_s(tmp_path, name, None) > 1.2 * without
    careful = "{ssd: {capacity: 4 TB, read: 1 GB/s, write: 0.5 GB/s, latency: 1 ms}, load: faster}"
    assert mean_first_token_s(tmp_path, name, careful) == pytest.approx(without, rel=0.02)
