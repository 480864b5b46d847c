"""plan --serve with images: a part of the first token, room of caches, and agreement with traffic."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import mowich
from mowich.cli.app import run
from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.models.encoder import encoder_of
from mowich.plans.plan import ServePlan
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.encoding import ServedImages
from mowich.studies.serving import deploy
from mowich.studies.traffic import traffic

FACTS = load_facts()
MODEL, ON, SYSTEM = "qwen3.5-2b", "h100:1", "h100:1"
FIXED = {"tp": "1", "mode": "aggregated", "kv": "bf16", "weights": "bf16"}


def planned(**more: Any) -> Any:
    serve = {"isl": "1k", "osl": "100", **more}
    return mowich.plan(MODEL, ON, serve=serve, fixed=FIXED, top=1)


def test_the_encoder_is_a_part_of_the_first_token_and_of_others_answers() -> None:
    text, seen = planned(), planned(images=2, image_size="1024x1024")
    parts = seen.rows[0].ttft_s.breakdown
    assert "encoder" not in text.rows[0].ttft_s.breakdown
    assert sum(parts.values()) == pytest.approx(seen.rows[0].ttft_s.value)
    model, system = load_model(MODEL), resolve(FACTS, SYSTEM)
    images = ServedImages(count=2, width=1024, height=1024, tokens=2048)
    d = deploy(model, system, "vllm", [ServePlan()], FACTS, images=images)
    assert d.encode_s is not None
    assert parts["encoder"] == pytest.approx(float(d.encode_s[0]))
    longer = mowich.plan(MODEL, ON, serve={"isl": 1000 + 2048, "osl": "100"}, fixed=FIXED, top=1)
    assert seen.rows[0].tokens_per_s_per_chip.value < longer.rows[0].tokens_per_s_per_chip.value
    assert seen.inputs["isl"] == 1000
    assert seen.inputs["images"]["tokens"] == 2048


def test_more_pixels_and_more_images_never_give_more_tokens() -> None:
    sizes = ["512x512", "768x768", "1024x1024", "1536x1536"]
    rates = [planned(images=2, image_size=size).rows[0].tokens_per_s_per_chip.value for size in sizes]
    assert rates == sorted(rates, reverse=True)
    counts = [planned(images=n, image_size="768x768").rows[0].tokens_per_s_per_chip.value for n in (1, 2, 4)]
    assert counts == sorted(counts, reverse=True)


def test_weights_and_embeddings_leave_less_room_for_caches() -> None:
    model, system = load_model(MODEL), resolve(FACTS, SYSTEM)
    images = ServedImages(count=1, width=512, height=512, tokens=256)
    text, seen = (deploy(model, system, "vllm", [ServePlan()], FACTS, images=x) for x in (None, images))
    encoder = encoder_of(model, "image")
    budget = float(text.around.budget[0])
    taken = 2.0 * (encoder.params + encoder.out * budget)
    assert float(seen.around.reserve_B[0] - text.around.reserve_B[0]) == pytest.approx(taken)
    assert seen.blocks(0, 2048.0) < text.blocks(0, 2048.0)


def test_plan_and_traffic_agree_on_a_lone_request_with_images() -> None:
    """One user: the steady state and the simulation have one rule of the first token."""
    row = next(r for r in planned(images=2, image_size="1024x1024").front if r.batch == 1.0)
    scenario = {
        "mowich": 1,
        "model": MODEL,
        "on": ON,
        "plan": {"tp": 1, "weights": "bf16", "kv": "bf16"},
        "traffic": {
            "users": 1,
            "requests": 6,
            "prompt": 1000,
            "output": 100,
            "images": {"size": "1024x1024", "per_request": 2},
        },
    }
    played = traffic(TrafficRequest(facts=FACTS, scenario=json.dumps(scenario), draws=0))
    assert played.ttft_s["mean"] == pytest.approx(row.ttft_s.value, rel=0.05)
    assert played.tpot_s["mean"] == pytest.approx(row.tpot_s.value, rel=0.05)


def test_random_arrivals_of_a_plan_are_those_of_its_traffic() -> None:
    found = planned(images=2, image_size="640x480").to_dict()["plans"][0]["random_arrivals"]
    text = shlex.split(found["command"])[-1]
    assert json.loads(text)["traffic"]["images"] == {"size": "640x480", "per_request": 2}
    played = traffic(TrafficRequest(facts=FACTS, scenario=text, draws=0))
    assert played.ttft_s["mean"] == pytest.approx(found["ttft_s"]["value"])
    assert played.tpot_s["p99"] == pytest.approx(found["p99_tpot_s"]["value"])
    cached = planned(images=2, image_size="640x480", cached=0.5).to_dict()["plans"][0]
    assert cached.get("random_arrivals") is None


def test_the_share_of_a_file_is_of_text_alone(tmp_path: Path) -> None:
    trace = tmp_path / "requests.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 64, "output_length": 8, "hash_ids": [1]}\n')
    words = ["plan", MODEL, "--on", ON, "--serve", "--isl", "1k", "--osl", "100", "--cached", str(trace)]
    assert run([*words, "--images", "2", "--image-size", "640x480"]) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"images": 2}, "image_size: is required"),
        ({"image_size": "1024x1024"}, "images: is required"),
        ({"images": 0, "image_size": "8x8"}, "must be at least 1"),
        ({"images": 2, "image_size": "large"}, "not a size of an image"),
        ({"images": 2, "image_size": "8x8", "rate": "3rps", "p99_ttft": "1s"}, "is not for a load"),
    ],
)
def test_a_wrong_option_is_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises((UserError, UserErrors)) as caught:
        planned(**given)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
