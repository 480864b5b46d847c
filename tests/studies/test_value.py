"""What more of a property is worth: each point is what `--set` gives, and the worth is arithmetic on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mowich
from mowich import cli
from mowich.facts import Facts
from mowich.software.stack import equip
from mowich.studies.rooms.value import VALUED, amount_of, paths_of_property

TRAIN = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
SERVE = {"isl": "4k", "osl": 500, "ttft": "6s", "tpot": "100ms"}
FEW = {"pp": "1,2"}
TRAINS = ("--train", "--tokens", "1T", "--seq", "4096", "--batch", "256seqs")


QUICK_VALUES = ("memory", "compute", "bandwidth")
"""Those that every run of the tests asks; `make test-slow` asks all."""


@pytest.mark.share(3)
@pytest.mark.parametrize(
    "of",
    [pytest.param(of, marks=() if of in QUICK_VALUES else pytest.mark.slow) for of in VALUED if of != "software"],
)
def test_every_point_is_what_set_gives(of: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On the command line, for both works and two models; the fact of today's amount is left as it is."""
    serve = ("--serve", "--isl", "4k", "--osl", "500", "--ttft", "6s", "--tpot", "100ms")
    few = ("--chips", "16", "--set", "plan.pp=1,2", "--quiet", "--json")
    asked = ("value", "trn3", "--of", of, "--model", "llama-3.1-8b,llama-3.1-70b", "--points", "2")
    assert cli.run([*asked, *TRAINS, *serve, *few]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = result["rows"]
    assert [(r["model"], r["task"]) for r in rows[::3]] == [
        (m, t) for m in ("llama-3.1-8b", "llama-3.1-70b") for t in ("train", "serve")
    ]
    for r in (rows[0], rows[2], rows[4], rows[9]):
        settings = [w for path, x in r["set"].items() for w in ("--set", f"{path}={x!r} {result['unit']}")]
        job = TRAINS if r["task"] == "train" else serve
        assert cli.run(["compare", r["model"], "--on", "trn3", *job, *few, *settings]) == 0
        [plain] = json.loads(capsys.readouterr().out)["rows"]
        assert bool(r["set"]) != r["is_today"]
        assert r["tokens_per_s_per_chip"] == plain["tokens_per_s_per_chip"]
        if r["task"] == "train":
            assert r["days"] == plain["days"]


def test_more_is_never_worse_and_today_is_among_the_amounts(facts: Facts) -> None:
    found = mowich.value(
        "h100:16", of="bandwidth", models="llama-3.1-8b", train=TRAIN, points=5, fixed=FEW, facts=facts
    )
    assert [r.is_today for r in found.rows].count(True) == 1
    assert [r.amount for r in found.rows] == pytest.approx([3.35e12 * x for x in (0.5, 0.875, 1.0, 1.25, 1.625, 2.0)])
    gains = [r.gain or 0.0 for r in found.rows]
    assert gains == sorted(gains)
    assert gains[0] < 1.0 < gains[-1]


def test_worth_is_the_tokens_that_a_unit_adds_at_the_price_of_a_chip(facts: Facts) -> None:
    life = 4.0 * 365.25 * 86400
    known = facts.with_values(
        {"prices.user.h100": 3.0 / 3600, "prices.ownership.asked.life": life, "prices.memory.hbm3.2026Q4": 15e-9}
    )
    found = mowich.value(
        *("h100:16",), of="memory", models=["llama-3.1-70b"], train=TRAIN, low="64 GiB", high="256 GiB", facts=known
    )
    today = next(r for r in found.rows if r.is_today)
    more = found.rows[-1]
    units = more.amount - today.amount
    gain = float(more.tokens_per_s_per_chip) / float(today.tokens_per_s_per_chip)
    assert gain > 1.05
    assert more.gain == pytest.approx(gain)
    assert more.more == pytest.approx(float(today.tokens_per_s_per_chip) * (gain - 1) / units)
    assert more.days_less == pytest.approx((float(today.days) - float(more.days)) / units)
    assert float(more.worth) == pytest.approx(3.0 / 3600 * life * (gain - 1) / units)
    # at the price from which it pays, what a byte is worth is what it costs
    dear = known.with_values({"prices.user.h100": float(more.pays_from) / 3600})
    again = mowich.value(
        "h100:16", of="memory", models="llama-3.1-70b", train=TRAIN, low="64 GiB", high="256 GiB", facts=dear
    )
    assert float(again.rows[-1].worth) == pytest.approx(15e-9)
    assert (today.more, today.worth.value, today.pays_from.value) == (None, None, None)


def test_releases_are_the_stacks_and_engines_that_there_are(facts: Facts) -> None:
    asked = {"models": "llama-3.1-8b", "fixed": FEW, "facts": facts}
    found = mowich.value("trn3:16", of="software", train=TRAIN, **asked)  # type: ignore[arg-type]
    stack = mowich.compare("llama-3.1-8b", ["trn3:16"], train=TRAIN, stack="megatron", fixed=FEW, facts=facts).rows[0]
    [row] = [r for r in found.rows if r.software == "megatron"]
    assert row.tokens_per_s_per_chip == stack.tokens_per_s_per_chip
    assert [r.software for r in found.rows if r.is_today] == ["torchtitan-neuron"]
    speeds = [float(r.tokens_per_s_per_chip) for r in found.rows]
    assert speeds == sorted(speeds)
    served = mowich.value("trn3:16", of="software", serve=SERVE, **asked)  # type: ignore[arg-type]
    engine = {**SERVE, "engine": "vllm"}
    plain = mowich.compare("llama-3.1-8b", ["trn3:16"], serve=engine, fixed=FEW, facts=facts).rows[0]
    [row] = [r for r in served.rows if r.software == "vllm"]
    assert row.tokens_per_s_per_chip == plain.tokens_per_s_per_chip


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-30b-a3b"])
def test_the_software_of_today_is_what_a_comparison_takes(name: str, facts: Facts) -> None:
    """Also where it goes by the class of the model: on Trainium mixtures without a recipe are ports."""
    fixed = {"tp": 4, "mode": "aggregated", "weights": "bf16"}
    row = mowich.compare(name, ["trn3:16"], serve=SERVE, fixed=fixed, facts=facts).rows[0]
    served = mowich.value("trn3:16", of="software", models=name, serve=SERVE, fixed=fixed, facts=facts)
    assert [r.software for r in served.rows if r.is_today] == [row.engine]


def test_links_are_scaled_together_and_summed(facts: Facts) -> None:
    platform = equip(facts, "trn3")
    known = paths_of_property(facts, platform, "scale-up")
    assert len(known) == 3
    links = [x for x in platform.levels if x.name in ("server", "rack", "ultraserver")]
    assert amount_of(known, "scale-up") == pytest.approx(sum(x.bandwidth_Bps for x in links) * 4)
    assert amount_of(paths_of_property(facts, platform, "compute"), "compute") == max(platform.peak_flops.values()) * 4


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--of", "memory", "--from", "-5 GiB"), "--from: must be above 0, got '-5 GiB'"),
        (("--of", "memory", "--from", "96"), '--from: 96 has no unit; write "96 GiB"'),
        (("--of", "memory", "--to", "5 TB/s"), "--to"),
        (("--of", "memory", "--from", "200 GiB", "--to", "100 GiB"), "--from: the range ends before it begins"),
        (("--of", "memories"), "--of: unknown property 'memories'"),
        (("--of", "software", "--from", "1 GiB"), "--from: software is varied by its releases, and has no amount"),
        (("--of", "memory", "--points", "1"), "--points: must be at least 2"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["value", "trn3:16", "--model", "llama-3.1-8b", *TRAINS, *args]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_machine_without_the_property_and_a_model_that_fits_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["value", "rtx-4090:8", "--of", "scale-up", "--model", "llama-3.2-1b", *TRAINS]) == 2
    assert " has no scale-up links, got 'scale-up'" in capsys.readouterr().err
    assert cli.run(["value", "h100:8", "--model", "kimi-k2", *TRAINS, "--of", "memory", "--points", "2"]) == 3
    err = capsys.readouterr().err
    assert "--of: nothing fits at any amount: does not fit" in err
    assert len(err.splitlines()) == 1
    assert cli.run(["value", "h100:8", "--model", "llama-3.1-8b", "--of", "memory"]) == 2
    assert "give --train, --serve or both" in capsys.readouterr().err


def test_the_page_says_whether_memory_pays(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    saved, page = tmp_path / "value.json", tmp_path / "value.html"
    args = ["value", "h100:16", "--of", "memory", "--model", "llama-3.1-70b", *TRAINS, "--points", "3"]
    assert cli.run([*args, "--plain", "--out", str(saved), "--set", "prices.h100=$3/chip/h"]) == 0
    out = capsys.readouterr().out
    assert "a GiB more pays where a chip-hour costs over $" in out
    assert "(today)" in out
    assert cli.run(["report", str(saved), "--html", str(page), "-q"]) == 0
    text = page.read_text()
    assert "Tokens against memory" in text
    assert "mowich value h100:16 --of memory --model llama-3.1-70b --train" in text
