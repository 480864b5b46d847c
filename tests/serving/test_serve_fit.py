"""`fit --serve`: weights, caches and the engine's share against capacity; the fewest chips; formats; JSON; errors."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

import mowich
from mowich import cli
from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.models import load_model
from mowich.models.model import Model
from mowich.requests.jobs import FitRequest
from mowich.studies.serving_fit import ServeFit, fit_serving

FACTS = load_facts()
LLAMA = load_model("llama-3.1-70b")


def fitted(model: Model, on: str, *, tokens: float, fixed: Mapping[str, tuple[str, ...]] | None = None) -> ServeFit:
    return fit_serving(FitRequest(facts=FACTS, model=model, systems=(on,), kv=tokens, fixed=fixed or {}))


def test_bytes_by_hand() -> None:
    """Llama 3.1 70B, 16 bit, 80 layers, 8 kv heads of 128: 2 x 2 x 80 x 8 x 128 B of cache a token, over the ranks of
    tp."""
    found = fitted(LLAMA, "h100:8", tokens=32_000)
    assert found.fits
    assert found.held is not None
    plan, memory = found.held.plan, found.held.memory_B
    each = 2 * 2 * 80 * 8 * 128 * 32_000 / min(plan.tp, 8) / plan.pp / plan.cp
    per_worker = found.held.requests / found.held.workers / plan.dp
    assert memory["kv"] == pytest.approx(per_worker * each)
    assert memory["weights"] == pytest.approx(2 * LLAMA.params / plan.tp / plan.pp, rel=0.05)
    free = found.capacity_B - sum(memory.values())
    assert 0 <= free < each


def test_smallest_holds_a_request_and_half_of_it_does_not() -> None:
    found = fitted(LLAMA, "trn3", tokens=100_000)
    for weights, least in found.smallest.items():
        assert least is not None
        assert least.requests >= 1
        half = (
            fitted(LLAMA, f"trn3:{least.chips // 2}", tokens=100_000, fixed={"weights": (weights,)})
            if least.chips > 1
            else None
        )
        assert half is None or half.fits is not True
    chips = [least.chips for least in found.smallest.values() if least]
    assert chips == sorted(chips, reverse=True), "narrower weights never need more chips"


def test_longer_requests_never_add_room() -> None:
    room = []
    for tokens in (1_000, 4_000, 16_000, 64_000, 128_000):
        held = fitted(LLAMA, "ironwood:8", tokens=tokens).held
        assert held is not None
        room.append(held.requests)
    assert room == sorted(room, reverse=True)


def test_range_of_the_memory_may_decide() -> None:
    """Usable memory of a Trainium4 is a range: between its ends the answer is neither yes nor no."""
    answers = {
        fitted(load_model("llama-3.1-405b"), f"trn4:{n}", tokens=t).fits
        for n in (2, 3, 4, 6, 8)
        for t in (1e3, 1e5, 1e6)
    }
    assert answers >= {True, False}


def test_command_answers_in_words_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "llama-3.1-405b", "--serve", "--kv", "128k", "--on", "trn3:8"]
    assert cli.run(words) == 0
    text = capsys.readouterr().out
    assert "room for" in text
    assert "mxfp8" in text
    assert cli.run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "mowich/fit@1"
    assert found["fits"] is True
    assert found["requests"] >= 1
    assert found["smallest_chips"] == found["smallest_by_weights"]["bf16"]["chips"]
    assert cli.run(["fit", "deepseek-v3", "--serve", "--kv", "32k", "--on", "trn2:2"]) == 3
    assert "lacks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--serve"], "--kv: is required with --serve"),
        (["--serve", "--kv", "8k", "--seq", "4k"], "--seq: is an option of training"),
        (["--kv", "8k", "--train", "--seq", "4k", "--batch", "8seqs"], "--kv: is an option of serving"),
        (["--serve", "--kv", "8k", "--engine", "vlm"], "vllm"),
        (["--serve", "--kv", "8k", "--set", "plan.mode=any"], "leave it out"),
    ],
)
def test_errors(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["fit", "llama-3.1-8b", "--on", "trn2", *words]) == 2
    assert said in capsys.readouterr().err


def test_python() -> None:
    assert mowich.fit("llama-3.1-8b", "trn2:1", kv="8k") is True
    with pytest.raises(UserError, match="either train or kv"):
        mowich.fit("llama-3.1-8b", "trn2:1")


def test_weights_are_served_in_the_format_of_the_checkpoint() -> None:
    """Kimi K3 is published in MXFP4, which MI355X multiplies; it has no NVFP4. An FP8 checkpoint is MXFP8 on
    Trainium3."""
    found = fitted(load_model("kimi-k3"), "mi355x:8", tokens=32_000)
    assert list(found.smallest) == ["mxfp4"]
    assert next(iter(fitted(load_model("deepseek-v3.2"), "trn3", tokens=32_000).smallest)) == "mxfp8"
    assert next(iter(fitted(LLAMA, "trn3", tokens=32_000).smallest)) == "bf16"
