"""Right questions get right answers: a few of each kind here, 100,000 by `make fuzz-accepted`
(docs/project/reliability.md)."""

from __future__ import annotations

import random
from collections.abc import Callable

import accepted_cases
import pytest
from accepted_cases import DRAWN, Asker, Refused, judged

SEEDS = {"power": 4, "collective": 3, "fit_serving": 2}
"""Draws of the quick kinds; one of the others."""


@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        pytest.param(kind, seed, id=f"{kind.__name__}-{seed}", marks=pytest.mark.slow if seed >= quick else ())
        for kind, _ in DRAWN
        for quick in (SEEDS.get(kind.__name__, 1),)
        for seed in range(20)
    ],
)
def test_answers_obey_their_laws(kind: Callable[[Asker, random.Random], None], seed: int) -> None:
    ask = Asker(seed)
    kind(ask, ask.rng)
    assert ask.wrong == []
    assert ask.asked == ask.accepted > 1


SOUND = {"value": 2.0, "unit": "W", "low": 1.0, "high": 3.0}
WRONG = {
    "value and range do not fit": {"it_W": {**SOUND, "low": 2.5}},
    "is not the sum of its breakdown": {"it_W": {**SOUND, "breakdown": {"chip": 1.0}}},
    "a share of": {"fill": 1.5},
    "is below 0": {"step_s": -1.0},
    ".total_W is 2.0, its parts are 4.0": {"parts_W": {"chip": SOUND, "server": SOUND}, "total_W": SOUND},
    "goodput and what is lost are": {"goodput": {**SOUND, "value": 0.9, "low": 0.8, "high": 0.9}, "lost": {"x": 0.2}},
}


@pytest.mark.parametrize("said", WRONG)
def test_the_judge_finds_an_answer_that_is_wrong(said: str) -> None:
    found = list(judged(WRONG[said], is_printed=False))
    assert any(said in line for line in found), found
    assert list(judged({"it_W": SOUND, "fill": 0.5}, is_printed=False)) == []


def test_the_judge_reads_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Asker(0)("power", on=["h100"])
    assert list(judged(answer, is_printed=True)) == []
    monkeypatch.setattr(accepted_cases, "terminal", lambda *_: "Power \x1b]0;owned\x07")
    assert list(judged(answer, is_printed=True)) == ["the page holds '\\x1b'"]


def test_a_law_that_does_not_hold_and_a_refusal_are_told() -> None:
    ask = Asker(0)
    ask.rises([1.0, 1.0 + 1e-12, 2.0], "falls")
    assert ask.wrong == []
    ask.rises([1.0, 0.5], "falls")
    assert ask.wrong == [": falls: [1.0, 0.5]"]
    with pytest.raises(Refused):
        ask("power", on=["h10"])
    assert (ask.asked, ask.accepted) == (1, 0)
    assert "h10" in ask.refusals[0]


def test_the_range_of_a_share_ends_at_one() -> None:
    """A pass at 81% of the peak, known to a factor of 1.3, had a share of 1.04 at the high end."""
    answer = Asker(0)(
        "compare",
        model="llama-3.1-8b",
        on=["tpu-v5p"],
        chips=1,
        forward={"task": "encode", "tokens": 886, "batch": 16},
        set=["chips.tpu_v5p.memory.hbm_bandwidth=11060000000000.0 B/s"],
    )
    assert list(judged(answer, is_printed=False)) == []
    assert answer["rows"][0]["mfu"]["high"] == 1.0
