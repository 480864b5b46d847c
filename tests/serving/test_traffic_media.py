"""Images and sound in traffic: zero of them is text, more pixels are never sooner, parts add up, memory is counted."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.models.encoder import encoder_of
from mowich.plans.plan import ServePlan
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.encoding import EMBEDDING_B
from mowich.serving.traffic.compiled import FleetSetup, ReplicaGroup, why_not_compiled
from mowich.serving.traffic.encoders import EncoderPool, EncoderTimes, EncoderWorker, Media
from mowich.serving.traffic.policies import Scheduler
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.serving.traffic.times import StepTimes
from mowich.studies.serving import encoder_work
from mowich.studies.traffic import traffic
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()
MODEL, ON = "qwen3.5-2b", "h100:4"
IMAGES = {"size": "1024x1024"}


def scenario(load: dict[str, Any] | None = None, **more: Any) -> str:
    """A scenario of one small model."""
    drawn = {"rate": 4, "requests": 40, "arrivals": "fixed", "prompt": 300, "output": 20, **(load or {})}
    drawn = {k: v for k, v in drawn.items() if v is not None}
    base = {"mowich": 1, "model": MODEL, "on": ON, "engine": "vllm", "replicas": 1, "traffic": drawn, **more}
    return json.dumps({k: v for k, v in base.items() if v is not None})


def played(load: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return traffic(TrafficRequest(facts=FACTS, scenario=scenario(load, **more), draws=0)).to_dict()


def answer(result: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in result.items() if k not in ("inputs", "digest")}


@pytest.mark.parametrize("none", [{"size": "640x480", "per_request": 0}, {"size": "640x480", "share": 0}])
def test_no_images_are_text_to_the_byte(none: dict[str, Any]) -> None:
    text, zero = played(), played({"images": none})
    assert json.dumps(answer(zero)) == json.dumps(answer(text))
    assert "media" not in zero


@settings(max_examples=6, deadline=None)
@given(
    side=st.integers(300, 1500),
    more=st.integers(0, 500),
    count=st.integers(1, 3),
    apart=st.booleans(),
)
def test_more_pixels_are_never_a_sooner_first_token(side: int, more: int, count: int, apart: bool) -> None:
    where = {"disaggregated": {"encode": 1}} if apart else {}
    small, large = (
        played({"images": {"size": f"{x}x{x}", "per_request": count}, "requests": 3, "rate": 1}, **where)
        for x in (side, side + more)
    )
    assert large["ttft_s"]["p50"] >= small["ttft_s"]["p50"] * (1 - 1e-12)
    assert large["media"]["tokens"] >= small["media"]["tokens"]


@pytest.mark.parametrize(
    "where", [{}, {"disaggregated": {"encode": 2}}, {"disaggregated": {"encode": 1, "prefill": 1, "decode": 1}}]
)
def test_parts_of_the_first_token_sum_and_are_those_of_the_laws(where: dict[str, Any]) -> None:
    """Far apart, a request finds everything idle: its encoder takes what the law says, its embeddings travel at the
    rate of the link, and nothing waits for an encoder."""
    result = played({"images": {**IMAGES, "per_request": 2}, "requests": 5, "rate": 0.1}, **where)
    parts, stated = result["media"]["ttft_parts_s"], result["inputs"]["encoder"]
    assert sum(parts.values()) == pytest.approx(result["ttft_s"]["mean"], rel=1e-9)
    model, system = load_model(MODEL), resolve(FACTS, ON)
    encoder = encoder_of(model, "image")
    item = encoder.image(1024, 1024, FACTS)
    on_each = 2.0 / where.get("disaggregated", {}).get("encode", 1)  # images of a request are dealt out
    law = float(encoder_work(encoder, system, "vllm", [ServePlan()], None, FACTS).seconds([(item, on_each)])[0])
    assert parts["encoder"] == pytest.approx(law, rel=1e-9)
    assert parts["encoder_queue"] == 0.0
    sent = 2 * item.tokens * encoder.out * EMBEDDING_B
    travel = sent / stated["bandwidth_Bps"] if where else 0.0
    assert parts["embedding_transfer"] == pytest.approx(travel)
    text = played({"prompt": 300 + 2 * item.prompt, "requests": 5, "rate": 0.1})
    if "decode" not in where.get("disaggregated", {}):
        assert result["ttft_s"]["mean"] == pytest.approx(text["ttft_s"]["mean"] + law + travel, rel=0.02)


def test_weights_and_embeddings_of_an_encoder_take_the_room_of_caches() -> None:
    text, here, apart = (
        read_traffic(scenario(load, **where), FACTS)
        for load, where in (({}, {}), ({"images": IMAGES}, {}), ({"images": IMAGES}, {"disaggregated": {"encode": 1}}))
    )
    encoder, budget = encoder_of(load_model(MODEL), "image"), text.serve.scheduler.budget
    cache_B, weights_B = budget * encoder.out * EMBEDDING_B, encoder.params * EMBEDDING_B
    each = (text.serve.scheduler.blocks - here.serve.scheduler.blocks) / (cache_B + weights_B)
    assert each > 0
    assert (text.serve.scheduler.blocks - apart.serve.scheduler.blocks) == pytest.approx(each * cache_B, abs=2)
    assert apart.chips == here.chips + 1


def test_an_image_that_an_encoder_still_holds_is_not_encoded_again() -> None:
    once = played({"images": {**IMAGES, "distinct": 1}})
    assert once["media"]["reused_frac"] == pytest.approx(39 / 40)
    fresh = played({"images": IMAGES})
    assert fresh["media"]["reused_frac"] == 0.0
    assert once["ttft_s"]["mean"] < fresh["ttft_s"]["mean"]
    few = played({"images": {**IMAGES, "distinct": 30}}, encoder={"max_tokens": 2048})
    many = played({"images": {**IMAGES, "distinct": 30}}, encoder={"max_tokens": 40 * 1024})
    assert few["media"]["reused_frac"] <= many["media"]["reused_frac"]
    assert 0.0 < many["media"]["reused_frac"] < 1.0


def _flat(step_s: float) -> StepTimes:
    return StepTimes(
        tokens=[step_s] * 9000,
        sampled=[0.0] * 5000,
        per_context=0.0,
        windows=(),
        prefill_step=0.0,
        pair=0.0,
        window_pairs=(),
        kv_B=1.0,
    )


def _image(id: str, at: float, tokens: int = 100, output: int = 2) -> UserRequest:
    one = UserRequest(id, at, 50, output)
    one.media = Media(((0, int(id)),), tokens)
    return one


def test_an_encoder_on_the_same_worker_stalls_every_answer_and_one_apart_none() -> None:
    """A request decodes when an image comes: it waits for the encoder where that is on its worker."""
    times = EncoderTimes([100], lambda counts: 0.5 * counts[0], 1000)

    def last_token_s(apart: bool) -> float:
        text = UserRequest("9", 0.0, 50, 100)
        pool = EncoderPool([EncoderWorker(times)], lambda tokens: 0.0) if apart else None
        replica = Replica(0, _flat(0.01), Scheduler(), encoder=None if apart else EncoderWorker(times))
        fleet = ReplicaFleet(replicas=[replica], encoders=pool)
        list(fleet.run([text, _image("1", 0.105)]))
        return text.last_token_s

    assert last_token_s(apart=False) == pytest.approx(last_token_s(apart=True) + 0.5)


def test_embeddings_of_prompts_under_way_stay_within_the_encoders_cache() -> None:
    """Two images fit: the third request of a burst begins when one of the first has been read."""
    times = EncoderTimes([100], lambda counts: 0.5 * counts[0], 200)
    replica = Replica(0, _flat(0.01), Scheduler(), encoder=EncoderWorker(times))
    requests = [_image(str(i), 0.0, output=1) for i in range(3)]
    list(ReplicaFleet(replicas=[replica]).run(requests))
    first, second, third = (r.scheduled_s for r in requests)
    assert first == second == 0.0
    assert third >= 1.0


def test_requests_leave_an_encoder_apart_in_the_order_in_which_they_are_ready() -> None:
    """A text passes an image that is still being encoded, and each worker encodes one request at a time."""
    times = EncoderTimes([100], lambda counts: 0.5 * counts[0], 1000)
    pool = EncoderPool([EncoderWorker(times)], lambda tokens: 0.1)
    images, text = [_image("1", 0.0), _image("2", 0.1)], UserRequest("3", 0.2, 50, 2)
    fleet = ReplicaFleet(replicas=[Replica(0, _flat(0.01), Scheduler())], encoders=pool)
    served = [r.id for r in fleet.run([*images, text])]
    assert served == ["3", "1", "2"]
    assert [r.scheduled_s for r in images] == pytest.approx([0.6, 1.1])
    waits = [r.media.wait_s for r in images if r.media is not None]
    assert waits == pytest.approx([0.0, 0.4])


def test_images_of_a_request_are_dealt_out_over_encoders_apart() -> None:
    """Five images on two encoders, one of which is busy for the time of two: three begin at once, two wait for it."""
    times = EncoderTimes([100], lambda counts: 1.0 * counts[0], 10_000)
    pool = EncoderPool([EncoderWorker(times), EncoderWorker(times)], lambda tokens: 0.5)
    before = Media(tuple((0, i) for i in range(2)), 200)
    assert pool.encode(0.0, before) == 1.5  # one each
    pool.workers[0].free_s = 2.0
    media = Media(tuple((0, 10 + i) for i in range(5)), 500)
    assert pool.encode(0.0, media) == pytest.approx(4.0 + 0.5)
    assert [w.free_s for w in pool.workers] == [4.0, 4.0]
    assert (media.wait_s, media.encode_s, media.travel_s) == (1.0, 3.0, 0.5)


def test_users_who_wait_ask_with_images_too() -> None:
    load = {"rate": None, "arrivals": None, "users": 3, "requests": 12, "images": {**IMAGES, "per_request": 2}}
    for where in ({}, {"disaggregated": {"encode": 1}}):
        result = played(load, **where)
        assert result["completed"] == 12
        assert result["media"]["items"] == 24
        parts = result["media"]["ttft_parts_s"]
        assert sum(parts.values()) == pytest.approx(result["ttft_s"]["mean"], rel=1e-9)


def test_images_of_a_trace_are_a_column(tmp_path: Path) -> None:
    trace = tmp_path / "lmm.csv"
    trace.write_text("TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n0,2,100,5\n1,0,100,5\n2,1,100,5\n")
    load = {"rate": None, "arrivals": None, "prompt": None, "output": None, "requests": 3, "trace": str(trace)}
    beside, inside = (played({**load, "images": {**IMAGES, "in_prompt": x}}) for x in (False, True))
    assert (beside["media"]["requests"], beside["media"]["items"]) == (2, 3)
    assert beside["prompt_mean"] == pytest.approx(100 + 3 * 1024 / 3)
    assert inside["prompt_mean"] == 100
    with pytest.raises(UserError, match=r"a request of the trace has images.*size: 1024x1024"):
        played(load)
    trace.write_text("TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n0,-2,100,5\n")
    with pytest.raises(UserError, match=r"lmm.csv:2, column NumImages: not a number of images"):
        played({**load, "images": IMAGES})


def test_ranks_that_share_images_take_the_time_of_one() -> None:
    encoder, system = encoder_of(load_model("qwen3.5-27b"), "image"), resolve(FACTS, "h100:8")
    item = encoder.image(1024, 1024, FACTS)
    plans = [ServePlan(tp=tp) for tp in (1, 2, 4, 8)]
    data = encoder_work(encoder, system, "vllm", plans, "data", FACTS)
    eight = data.parts([(item, 8.0)])
    alone = float(data.seconds([(item, 1.0)])[0])
    assert float(data.seconds([(item, 8.0)])[3] - eight["gather"][3]) == pytest.approx(alone)
    cut = encoder_work(encoder, system, "vllm", plans, "weights", FACTS)
    assert (cut.weights_B * [1, 2, 4, 8]).tolist() == pytest.approx([EMBEDDING_B * encoder.params] * 4)
    assert (data.weights_B == EMBEDDING_B * encoder.params).all()
    seconds = [cut.seconds([(item, float(n))]) for n in range(1, 6)]
    assert all((b > a).all() for a, b in itertools.pairwise(seconds))


AGENTS = {"one": {"prompt": 100, "turns": 2, "output": 20}}
SESSIONS = {"agents": AGENTS, "sessions": 4, **dict.fromkeys(("requests", "arrivals", "prompt", "output"))}
SCALED = {"least": 1, "most": 2, "inside": 2, "every": "1 s", "start": "1 s", "hold": "2 s"}
BY_LIMITS = {k: v for k, v in SCALED.items() if k != "inside"} | {"by": "sla"}
SCALES = {"replicas": None, "slo": {"ttft": "1 s"}}


def test_encoders_apart_are_paid_for_beside_replicas_that_come_and_go() -> None:
    load = {"images": IMAGES, "rate": 40, "requests": 200, "output": 200}
    found = played(load, replicas=None, autoscale=SCALED, disaggregated={"encode": 2})
    assert found["scale_ups"] > 0
    pool = found["scaling"]["pools"]["replica"]
    chips = pool["chips_each"] * pool["replicas_mean"] + 2
    assert found["chips_mean"] == pytest.approx(chips)
    assert found["scaling"]["chip_hours"] == pytest.approx(chips * found["makespan_s"] / 3600)


def test_a_tier_that_replicas_share_changes_nothing_at_encoders_apart() -> None:
    load = {"images": IMAGES, "rate": 200, "shared_prefix": 256, "requests": 60}
    more: dict[str, Any] = {"replicas": 2, "disaggregated": {"encode": 1}}
    alone, shared = (
        played(load, scheduler={"prefix_cache": True, **tiers}, **more)
        for tiers in ({}, {"cache_tiers": {"remote": {"capacity": "10 GB"}}})
    )
    for name in ("encoder", "encoder_queue", "embedding_transfer"):
        one, other = (found["media"]["ttft_parts_s"][name] for found in (alone, shared))
        assert other == pytest.approx(one, rel=1e-12)  # they are summed in the order of the answers
        assert one > 0


@pytest.mark.parametrize(
    ("load", "more", "said"),
    [
        ({"images": {}}, {}, "traffic.images.size is missing"),
        ({"images": {"size": "big"}}, {}, "not a size of an image"),
        ({"images": {"size": "0x10"}}, {}, "width x height in pixels"),
        ({"images": {"size": "1x1", "sizes": 2}}, {}, "did you mean 'size'"),
        ({"images": {"size": "64x64", "share": 2}}, {}, "traffic.images.share"),
        ({"images": {"size": "64x64", "distinct": 0}}, {}, "traffic.images.distinct"),
        ({"images": {"size": "64x64", "per_request": "many"}}, {}, "traffic.images.per_request"),
        ({"audio": {"length": "10 s"}}, {}, "reads no sound"),
        ({"audio": {"length": "2 d"}}, {}, "traffic.audio.length"),
        ({"images": IMAGES, "turns": 2, "arrivals": None}, {}, "is not for conversations of several turns"),
        ({"images": IMAGES, **SESSIONS}, {}, "traffic.images: is not for sessions"),
        ({"images": IMAGES}, {**SCALES, "autoscale": BY_LIMITS}, "does not know encoders"),
        ({"images": IMAGES}, {**SCALES, "autoscale": {**SCALED, "regret": True}}, "leave regret out"),
        ({"images": IMAGES}, {"encoder": {"parallel": "both"}}, "encoder.parallel"),
        ({"images": IMAGES}, {"encoder": {"paralel": "data"}}, "did you mean 'parallel'"),
        ({"images": IMAGES}, {"encoder": {"max_tokens": 0}}, "encoder.max_tokens"),
        ({}, {"encoder": {"parallel": "data"}}, "encoder.parallel: needs images or sound"),
        ({}, {"disaggregated": {"encode": 1}}, "disaggregated.encode: needs images or sound"),
        ({"images": IMAGES}, {"disaggregated": {"encode": 0}}, "disaggregated.encode"),
        ({"images": IMAGES}, {"disaggregated": {"encode": 9}}, "more devices than the system has"),
        ({"images": IMAGES}, {"disaggregated": {"encode": 1, "encode_plan": {"dp": 2}}}, "does not cut an encoder"),
        ({"images": IMAGES}, {"disaggregated": {"prefill": 1, "decode": 1, "encode_plan": {"tp": 1}}}, "needs workers"),
        ({"images": IMAGES}, {"model": "llama-3.2-1b"}, "reads no images"),
    ],
)
def test_a_wrong_key_is_one_line_with_its_place(load: dict[str, Any], more: dict[str, Any], said: str) -> None:
    with pytest.raises((UserError, UserErrors)) as caught:
        played(load, **more)
    lines = str(caught.value).splitlines()
    assert any(said in line for line in lines), lines
    assert len(lines) == 1


def test_a_model_with_ears_and_eyes_encodes_both(tmp_path: Path) -> None:
    """Qwen3-Omni: an image and five seconds of sound; each kind by its own encoder, the weights of both in memory."""
    known = json.loads((Path(__file__).resolve().parents[1] / "fixtures" / "encoders.json").read_text())["models"]
    config = tmp_path / "config.json"
    config.write_text(json.dumps(known["Qwen3-Omni-30B-A3B"]["config"]))
    media = {"images": {"size": "640x480"}, "audio": {"length": "5 s"}}
    both = played({**media, "requests": 4, "rate": 0.2}, model=str(config))
    stated = {m["kind"]: m for m in both["inputs"]["encoder"]["media"]}
    assert set(stated) == {"image", "audio"}
    assert stated["audio"]["tokens"] == 65  # five chunks of a hundred frames, 13 each
    alone = sum(m["one_s"] for m in stated.values())
    assert both["media"]["ttft_parts_s"]["encoder"] == pytest.approx(alone)
    params = sum(known["Qwen3-Omni-30B-A3B"]["params"].values())
    assert both["inputs"]["encoder"]["weights_B"] == EMBEDDING_B * params
    assert both["prompt_mean"] == 300 + stated["image"]["prompt_tokens"] + 65


def test_what_the_compiled_code_does_not_play_is_named() -> None:
    """Images are played by the Python code; a model that could read some is compiled where its load is text."""
    for load, said in (({}, ""), ({"images": IMAGES}, "images and sound")):
        found = read_traffic(scenario(load), FACTS)
        media = None if found.encoding is None else found.encoding.of_fleet(0, lambda request: None)
        serve = ReplicaGroup(count=1, times=found.serve.times, scheduler=found.serve.scheduler, seen=found.serve.seen)
        assert why_not_compiled(FleetSetup(serve=serve, media=media)) == said
