"""Schedulers of engines: what is let in, what makes room, order of the queue, compiled steps, options by release."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn_loads import drawn_load
from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.files import parse_yaml
from mowich.plans.schedulers import option_table, release_numbers, release_ranges, scheduler_of
from mowich.serving.traffic.policies import SCHEDULER_POLICIES, Scheduler
from mowich.serving.traffic.replica import CacheTooSmallError, Replica
from mowich.serving.traffic.requests import Slot, UserRequest
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.serving.traffic.scheduling import held_blocks, order_queue, own_blocks
from mowich.serving.traffic.times import StepTimes
from mowich.studies.traffic import simulate_traffic
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()
TIMES = StepTimes(
    tokens=[0.01 + 1e-5 * m for m in range(5000)],
    sampled=[1e-4 * n for n in range(300)],
    per_context=3e-7,
    windows=(),
    prefill_step=2e-3,
    pair=1e-8,
    window_pairs=(),
    kv_B=1.0,
)


FALLING: dict[str, Any] = {"ratio": 0.7, "ratio_least": 0.1, "ratio_steps": 60}
"""A part of the answers to come that soon falls, as SGLang's does."""


class Watched(Replica):
    """A replica whose cache is looked at after each event. put_out: names of the sequences that made room, in order."""

    __slots__ = ("put_out",)
    put_out: list[str]

    def _check(self) -> None:
        assert self._used(self.D) <= self._cap

    def _leap(self, until: float) -> None:
        super()._leap(until)
        self._check()

    def _mixed(self, until: float) -> bool:
        moved = super()._mixed(until)
        self._check()
        return moved

    def _put_out(self, one: Slot) -> None:
        super()._put_out(one)
        self.put_out = [*getattr(self, "put_out", ()), one.request.id]
        missed = one.request.preemptions * (1.01 + self.s.accepted)  # what is under way when a sequence is put out
        assert one.need - one.request.prompt + one.left == pytest.approx(one.request.output - 1, abs=missed)


def served(scheduler: Scheduler, requests: list[UserRequest]) -> Watched:
    replica = Watched(0, TIMES, scheduler)
    list(ReplicaFleet(replicas=[replica]).run(requests))
    return replica


def load(seed: int, n: int = 40, rate: float = 20.0) -> list[UserRequest]:
    rng = np.random.default_rng(seed)
    return list(drawn_load(rng, seed, rate=rate, requests=n, prompt="uniform(8, 200)", output="uniform(1, 120)"))


def times_of(requests: list[UserRequest]) -> list[tuple[float, float, float]]:
    return [(r.scheduled_s, r.first_token_s, r.last_token_s) for r in requests]


def drawn_scheduler(rng: np.random.Generator, **fixed: object) -> Scheduler:
    """A scheduler as an engine has it, near the limit of a small cache."""

    def one(*of: object) -> object:
        return of[int(rng.integers(len(of)))]

    block = int(rng.choice([4, 16]))
    rules = [
        {"policy": one("fcfs", "priority"), "admission": one("chunk", "prompt"), "long_prompt": one(0, 24)},
        {"policy": one(*SCHEDULER_POLICIES), "admission": "expected", "preemption": "retract"},
        {"admission": one("answer", "chunk", "batch")},
    ][int(rng.integers(3))]
    asked: dict[str, object] = {
        "budget": one(64, 256),
        "max_sequences": one(6, 32),
        "blocks": int(rng.integers(45, 150)) * 16 // block,
        "block": block,
        "mixes": one(True, False),
        "chunks": one(True, False),
        "prefix_cache": one(True, False),
        "hash_block": 32,
        "accepted": one(1.0, 1.7),
        "ratio": one(0.7, 1.0),
        "ratio_least": 0.1,
        "ratio_steps": one(20, 600),
        "retract_ahead": one(1, 20),
        "answer_limit": one(0, 100),
        "answer_clip": one(50, 4096),
        "groups": one(1, 2),
    }
    return Scheduler(**asked | rules | fixed)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(120))
def test_no_request_is_lost_and_no_block_is_over(seed: int) -> None:
    scheduler, requests = drawn_scheduler(np.random.default_rng(seed)), load(seed)
    replica = served(scheduler, requests)
    assert all(r.arrival_s <= r.scheduled_s <= r.first_token_s <= r.last_token_s for r in requests)
    assert replica.served == len(requests)
    assert replica.load == replica.blocks_private == replica.cache.used_blocks == 0


def test_a_reserved_answer_is_never_put_out() -> None:
    for seed in range(60):
        admission = ("answer", "batch")[seed % 2]
        scheduler, requests = drawn_scheduler(np.random.default_rng(seed), admission=admission), load(seed)
        served(scheduler, requests)
        assert not any(r.preemptions for r in requests)


@pytest.mark.parametrize("seed", range(12))
def test_with_enough_cache_all_rules_give_one_answer(seed: int) -> None:
    scheduler = drawn_scheduler(np.random.default_rng(seed), blocks=10**9)
    answers = []
    for admission in ("chunk", "prompt", "expected", "answer"):
        for preemption in ("recompute", "retract"):
            requests = load(seed)
            served(replace(scheduler, admission=admission, preemption=preemption), requests)
            answers.append(times_of(requests))
    assert all(one == answers[0] for one in answers)


def test_rules_of_admission_order_what_is_inside() -> None:
    """A stricter rule lets in no more, and puts out less."""
    put_out: dict[str, int] = dict.fromkeys(("chunk", "expected", "answer"), 0)
    for seed in range(12):
        for admission in put_out:
            requests = load(seed, rate=60.0)
            served(Scheduler(budget=256, blocks=60, block=16, admission=admission, **FALLING), requests)
            put_out[admission] += sum(r.preemptions for r in requests)
    assert put_out["chunk"] > put_out["expected"] > put_out["answer"] == 0


def test_a_stated_limit_holds_back_as_a_longer_answer_would() -> None:
    for admission in ("expected", "answer"):
        scheduler = Scheduler(budget=256, blocks=80, block=16, admission=admission, **FALLING)
        waits = []
        for limit in (0, 300):
            requests = load(3, rate=60.0)
            served(replace(scheduler, answer_limit=limit), requests)
            waits.append(np.mean([r.scheduled_s - r.arrival_s for r in requests]))
        assert waits[1] > 1.2 * waits[0]
    limited, plain = load(3, rate=60.0), load(3, rate=60.0)
    served(Scheduler(budget=256, blocks=80, answer_limit=300), limited)
    served(Scheduler(budget=256, blocks=80), plain)
    assert times_of(limited) == times_of(plain)  # what does not reserve does not hear of it


def test_retraction_takes_the_shortest_answer_and_preemption_the_last() -> None:
    def put_out(preemption: str) -> str:
        requests = [
            UserRequest("old", 0.0, 16, 200),
            UserRequest("long", 0.5, 100, 60),
            UserRequest("new", 0.5, 40, 200),
        ]
        return served(Scheduler(budget=256, blocks=17, block=16, preemption=preemption), requests).put_out[0]

    assert put_out("recompute") == "new"
    assert put_out("retract") == "long"


def test_a_batch_begins_when_the_last_is_over() -> None:
    requests = load(5, n=20, rate=200.0)
    served(Scheduler(budget=5000, max_sequences=5, admission="batch"), requests)
    begins = sorted({r.scheduled_s for r in requests})
    for begin in begins:
        assert all(r.last_token_s <= begin + 1e-9 for r in requests if r.scheduled_s < begin)


def test_orders_of_the_queue() -> None:
    asked = {"a": (1, 2, 3), "b": (1,), "c": (7, 8), "d": (1, 2), "e": (7,), "f": (1, 2)}

    def order(policy: str) -> str:
        replica = Replica(0, TIMES, Scheduler(policy=policy, prefix_cache=True, hash_block=32))
        for hashes in ((1, 2, 3),):
            replica.cache.take(hashes, 0.0)
        for i, (name, hashes) in enumerate(asked.items()):
            request = UserRequest(name, 0.0, 200, 10 + i, hashes=hashes)
            replica.waiting.append(Slot(request, i + 1))  # type: ignore[arg-type]
        order_queue(replica)
        return "".join(one.request.id for one in replica.waiting)  # type: ignore[union-attr]

    assert order("fcfs") == "abcdef"
    assert order("lpm") == "adfbce"  # e waits for the start that c brings
    assert order("dfs-weight") == "adfbce"


def test_longest_answer_first_and_a_drawn_order() -> None:
    def order(policy: str) -> list[str]:
        requests = [UserRequest("first", 0.0, 10, 500), *(UserRequest(str(i), 0.1, 10, 10 + i) for i in range(8))]
        served(Scheduler(max_sequences=1, policy=policy), requests)
        return [r.id for r in sorted(requests[1:], key=lambda r: r.scheduled_s)]

    assert order("lof") == [str(i) for i in reversed(range(8))]
    assert sorted(order("random")) == order("fcfs") != order("random")


COMPILED = Scheduler(
    max_sequences=8,
    compiled=8,
    prompt_buckets=(128, 256),
    token_buckets=(128, 256, 512),
    slot=512,
    budget=256,
    blocks=8 * 32,
    chunks=False,
    mixes=False,
    packs=False,
)


def test_a_compiled_step_takes_the_time_of_its_bucket_alone() -> None:
    """However many sequences decode, of whatever lengths: only the bucket of the longest counts."""
    buckets = {
        round(TIMES.tokens[8] + TIMES.sampled[8] + TIMES.per_context * 8 * bucket, 12): bucket
        for bucket in COMPILED.token_buckets
    }
    prompt_s = {
        round(TIMES.tokens[bucket] + TIMES.sampled[1] + TIMES.prompt_s(0, bucket) + TIMES.prefill_step, 12)
        for bucket in COMPILED.prompt_buckets
    }
    seen: set[float] = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        requests = [
            UserRequest(str(i), 0.3 * i, int(rng.integers(8, 257)), int(rng.integers(2, 250)))
            for i in range(int(rng.integers(1, 12)))
        ]
        replica = Watched(0, TIMES, COMPILED, trace=True)
        list(ReplicaFleet(replicas=[replica]).run(requests))
        for _, seconds, _, prompt, steps in replica.spans or ():
            each = round(seconds / steps, 12)
            assert each in (prompt_s if prompt else buckets)
            seen |= set() if prompt else {each}
        assert not any(r.preemptions for r in requests)
    assert seen == set(buckets)


def test_a_compiled_graph_refuses_what_it_was_not_compiled_for() -> None:
    for prompt, output, said in (
        (300, 5, "context-encoding bucket has 256"),
        (200, 400, "token-generation bucket has 512"),
    ):
        with pytest.raises(CacheTooSmallError, match=said):
            served(COMPILED, [UserRequest("a", 0.0, prompt, output)])


def test_held_blocks_are_what_answers_come_to() -> None:
    """With answers reserved, what is held does not change while they are written."""
    replica = Replica(0, TIMES, Scheduler(blocks=400, admission="answer"))
    for request in load(2, n=6, rate=1e6):
        replica.submit(request, request.arrival_s)
    replica.advance(0.05)
    held = held_blocks(replica)
    assert not replica.waiting
    assert held >= replica._used(replica.D + 1)
    whole = sum(own_blocks(replica, Slot(one.request, 0), 0) for one in replica.slots.values())
    assert held <= whole <= held + len(replica.slots)


# options, by engine and release
# ----------------------------------------------------------------------------------------------------------------
def scenario(**changes: object) -> str:
    asked: dict[str, object] = {
        "mowich": 1,
        "model": "llama-3.1-8b",
        "on": "h100:1",
        "engine": "vllm",
        "traffic": {"rate": 2, "requests": 40, "prompt": 500, "output": 100},
    }
    return json.dumps(asked | changes)


def read(**changes: object) -> Scheduler:
    return read_traffic(scenario(**changes), FACTS).serve.scheduler


def test_defaults_by_engine_and_release() -> None:
    assert read().admission == "prompt"
    assert (read(release="0.11").admission, read(release="0.11.2").chunks) == ("chunk", True)
    old = read(release="0.7")
    assert (old.admission, old.chunks, old.mixes) == ("prompt", False, False)
    now, before, first = (read(engine="sglang", **r) for r in ({}, {"release": "0.4.6"}, {"release": "0.4.2"}))
    assert (now.admission, now.preemption, now.policy, now.retract_ahead) == ("expected", "retract", "fcfs", 1)
    assert (before.policy, before.retract_ahead) == ("fcfs", 20)
    assert (first.policy, first.prefix_cache) == ("lpm", True)
    assert read(engine="trtllm").admission == "answer"
    assert read(on="trn2:1", engine="vllm-neuron", release="0.5").chunks is False


def test_a_pool_that_decodes_with_another_engine_has_its_rules() -> None:
    apart = {"prefill": 1, "decode": 1, "decode_engine": "sglang"}
    asked = scenario(on="h100:2", disaggregated=apart, scheduler={"policy": "priority"})
    pools = [pool.scheduler for pool in read_traffic(asked, FACTS).pools]
    assert [(s.admission, s.preemption, s.policy) for s in pools] == [
        ("prompt", "recompute", "priority"),
        ("expected", "retract", "priority"),
    ]


def test_options_in_the_words_of_each_engine() -> None:
    sglang = read(
        engine="sglang",
        scheduler={"schedule_policy": "lpm", "schedule_conservativeness": 0.5, "chunked_prefill_size": 2048},
    )
    assert (sglang.policy, sglang.budget) == ("lpm", 2048)
    assert (sglang.ratio, sglang.ratio_least) == pytest.approx((0.35, 0.049))
    parallel = {"on": "h100:2", "plan": {"dp": 2}, "engine": "sglang"}
    assert read(**parallel).ratio == pytest.approx(0.21)
    assert read(**parallel, scheduler={"schedule_conservativeness": 10}).ratio == 1.0
    assert read(engine="sglang", scheduler={"disable_radix_cache": False}).prefix_cache
    assert not read(engine="sglang", scheduler={"disable_radix_cache": True, "schedule_policy": "lpm"}).prefix_cache
    for word, rule in (("MAX_UTILIZATION", "chunk"), ("STATIC_BATCH", "batch"), ("GUARANTEED_NO_EVICT", "answer")):
        assert read(engine="trtllm", scheduler={"capacity_scheduler_policy": word}).admission == rule
    assert read(scheduler={"long_prefill_token_threshold": 512}).long_prompt == 512
    assert read(scheduler={"scheduler_reserve_full_isl": False}).admission == "chunk"
    neuron = read(
        on="trn2:1",
        engine="vllm-neuron",
        release="0.5",
        plan={"tp": 4},
        scheduler={"context_encoding_buckets": [1024, 2048], "max_num_seqs": 4, "max_model_len": 4096},
    )
    assert (neuron.compiled, neuron.prompt_buckets, neuron.token_buckets[-1], neuron.slot) == (
        4,
        (1024, 2048),
        4096,
        4096,
    )
    limit = {"rate": 2, "requests": 40, "prompt": 500, "output": 100, "max_tokens": "2k"}
    assert read(engine="trtllm", traffic=limit).answer_limit == 2000


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"release": "0.99"}, ("not a release of vLLM", "0.5 to 0.33")),
        ({"release": 0.11}, ("is text, not a number", '"0.11"')),
        ({"engine": "jax-tpu", "on": "trillium:1", "release": "1.0"}, ("releases of jax-tpu are not told apart",)),
        ({"scheduler": {"schedule_conservativeness": 0.7}}, ("an option of SGLang, not of vLLM", "leave it out")),
        ({"scheduler": {"max_batch_size": 8}}, ("an option of TensorRT-LLM, not of vLLM", "calls it max_num_seqs")),
        ({"scheduler": {"policy": "lpm"}}, ("is an order of SGLang, not of vLLM", "fcfs")),
        ({"engine": "sglang", "scheduler": {"scheduler_recv_interval": 4}}, ("is plan.interval",)),
        ({"engine": "sglang", "scheduler": {"max_running_requests": 4, "max_num_seqs": 8}}, ("is max_num_seqs too",)),
        ({"engine": "trtllm", "scheduler": {"capacity_scheduler_policy": "NO_EVICT"}}, ("GUARANTEED_NO_EVICT",)),
        ({"scheduler": {"async_scheduling": True}}, ("is not taken", "measured rows")),
        ({"release": "0.7", "scheduler": {"long_prefill_token_threshold": 64}}, ("since 0.8 only",)),
        ({"scheduler": {"schedul_policy": "lpm"}}, ("unknown key",)),
        (
            {"on": "trn2:1", "engine": "neuron", "scheduler": {"context_encoding_buckets": [512]}},
            ("compiled for a length: max_model_len is missing",),
        ),
        (
            {"on": "trn2:1", "engine": "neuron", "scheduler": {"token_generation_buckets": [512, 128]}},
            ("is not a list of buckets",),
        ),
        ({"traffic": {"rate": 1, "requests": 4, "prompt": 9, "output": 9, "max_tokens": 0}}, ("traffic.max_tokens",)),
    ],
)
def test_what_is_not_an_option_is_told_with_whose_it_is(changes: dict[str, object], says: tuple[str, ...]) -> None:
    with pytest.raises((UserError, UserErrors)) as error:
        read(**changes)
    for words in says:
        assert words in error.value.line()


def test_every_family_has_ranges_that_rise_and_reach_its_newest_release() -> None:
    for family, entry in option_table()["families"].items():
        begins = [begin for _, begin in release_ranges(FACTS, family)]
        assert begins == sorted(set(begins))
        for engine in entry["engines"]:
            newest = scheduler_of(FACTS, engine)
            assert newest is not None
            assert newest.path == release_ranges(FACTS, family)[-1][0]
    assert release_numbers("TensorRT-LLM 1.4.0rc1 of 21 October 2026") == (1, 4, 0)


def test_a_family_answers_alike_below_the_limit_of_its_cache() -> None:
    """Two rules of one engine differ only where the cache is the limit."""

    def answer(**changes: object) -> object:
        return simulate_traffic(read_traffic(scenario(front_end=False, **changes), FACTS), FACTS).to_dict()["e2e_s"]

    for engine, one, other in (
        ("trtllm", {"capacity_scheduler_policy": "MAX_UTILIZATION"}, {}),
        ("sglang", {"schedule_conservativeness": 0.1}, {}),
        ("vllm", {"scheduler_reserve_full_isl": False}, {}),
    ):
        assert answer(engine=engine, scheduler=one) == answer(engine=engine, scheduler=other)


def test_a_scheduler_decides_a_purchase() -> None:
    """Fewest chips, and the cheapest system, for one load: another with each policy of TensorRT-LLM."""
    path = Path(__file__).resolve().parents[2] / "scenarios" / "scheduler-decides.yaml"
    asked, _ = parse_yaml(path.read_text(encoding="utf-8"), str(path))

    def usd_per_h(system: str, replicas: int, policy: str) -> float | None:
        """Price of so many replicas; None where they do not keep the limits."""
        changes = {"on": f"{system}:{2 * replicas}", "scheduler": {"capacity_scheduler_policy": policy}}
        result = simulate_traffic(read_traffic(json.dumps(asked | changes), FACTS), FACTS)
        assert result.preemptions == 0
        return result.usd_per_h if (result.goodput_frac or 0) >= 0.99 else None

    packed, reserved = "MAX_UTILIZATION", "GUARANTEED_NO_EVICT"
    h100, h200 = usd_per_h("h100", 4, packed), usd_per_h("h200", 4, packed)
    assert h100 is not None
    assert h200 is not None
    assert h100 < h200
    assert usd_per_h("h200", 3, packed) is usd_per_h("h100", 3, packed) is None
    assert usd_per_h("h100", 5, reserved) is None
    more, same = usd_per_h("h100", 6, reserved), usd_per_h("h200", 4, reserved)
    assert more is not None
    assert same is not None
    assert same < more
