"""Why one machine beats another: factors that multiply to the ratio that `compare` gives."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise
from pathlib import Path

import pytest

import mowich
from mowich import cli
from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.facts.load import shipped_folder
from mowich.software.hybrid import PROPERTIES, REST, Hybrids, property_of
from mowich.software.stack import equip
from mowich.studies.rooms import gap as study

TRAIN = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
SERVE = {"isl": "2k", "osl": 500, "ttft": "4s", "tpot": "100ms"}
SYSTEMS = ("a100", "b200", "gb300", "h100", "h200", "ironwood", "mi300x", "tpu-v5p", "trn2", "trn3")
FEW = {"train": {"tp": "1,2", "pp": "1", "cp": "1"}, "serve": {"tp": "1,2,4", "pp": "1", "mode": "aggregated"}}
"""Choices of plans, so that a search is short."""
WORDS = ("--train", "--tokens", "1T", "--seq", "4096", "--batch", "256seqs")


def pairs(seed: int, count: int) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    return [tuple(draw.sample(SYSTEMS, 2)) for _ in range(count)]  # type: ignore[misc]


@pytest.mark.parametrize("works", ["train", pytest.param("serve", marks=pytest.mark.slow)])
def test_factors_multiply_to_what_compare_says(works: str, facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 random pairs, six for each work, the first over all orders, the others over two that are drawn."""
    asked = {"facts": facts, "chips": 8, "fixed": FEW[works], works: TRAIN if works == "train" else SERVE}
    for n, (a, b) in enumerate(pairs(7 if works == "train" else 11, 6)):
        if n == 1:
            for most in ("MOST_TRAINED", "MOST_SERVED"):
                monkeypatch.setattr(study, most, 1.0)
        found = mowich.gap(a, b, model="llama-3.2-1b", **asked)  # type: ignore[arg-type]
        rows = mowich.compare("llama-3.2-1b", [a, b], **asked).rows  # type: ignore[call-overload]
        ratio = float(rows[1].tokens_per_s_per_chip) / float(rows[0].tokens_per_s_per_chip)
        assert float(found.ratio) == pytest.approx(ratio, rel=1e-9), (a, b)
        assert found.product == pytest.approx(ratio, rel=0.01), (a, b)
        assert [r.property for r in found.rows] == [*PROPERTIES, REST]
        assert found.is_exact == (n < 1)
        for r in found.rows:
            ends = (r.factor.low or 0.0, r.orders_low, float(r.factor), r.orders_high, r.factor.high or 0.0)
            assert all(x <= y * (1 + 1e-9) for x, y in pairwise(ends)), (a, b, r)


def test_the_other_way_round_each_factor_is_one_over(facts: Facts) -> None:
    there, back = (
        mowich.gap(a, b, model="llama-3.2-1b", chips=8, train=TRAIN, facts=facts)
        for a, b in (("h100", "h200"), ("h200", "h100"))
    )
    for name in PROPERTIES:
        assert float(there.factor(name)) * float(back.factor(name)) == pytest.approx(1.0, rel=0.35), (
            name
        )  # the rest is exchanged last, so not at the same place
    assert float(there.ratio) * float(back.ratio) == pytest.approx(1.0)


TWO_TBPS, FIVE_GBPS = ("{value: 2 TB/s, grade: user}", "{value: 5 GB/s, grade: user}")
CHANGES = {
    "compute": ("chip", '"1979 TFLOP/s"', '"2800 TFLOP/s"', '"989 TFLOP/s"', '"1400 TFLOP/s"'),
    "bandwidth": ("chip", '"3.35 TB/s"', '"6 TB/s"'),
    "capacity": ("chip", '"81559 MiB"', '"240000 MiB"', '"80 GB"', '"260 GB"'),
    "scale-up": ("system", '{ref: "chips.h100_sxm.scale_up.nvlink_bandwidth_per_direction"}', TWO_TBPS),
    "scale-out": ("system", '{ref: "chips.h100_sxm.scale_out.bandwidth_per_direction"}', FIVE_GBPS),
    "software": ("vendor",),
}  # fmt: skip
"""Property -> the file of a twin of H100 that differs, and what stands there instead of what."""


def twin(folder: Path, name: str) -> Facts:
    """Facts with a machine that is an H100 but for one property."""
    shipped, (kind, *changes) = shipped_folder(), CHANGES[name]
    chip = (shipped / "chips" / "h100_sxm.yaml").read_text().replace('id: "h100_sxm"', 'id: "twin"')
    system = (shipped / "systems" / "h100.yaml").read_text().replace('id: "h100"', 'id: "twin"')
    if kind != "vendor":
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            text = chip if kind == "chip" else system
            assert old in text
            chip, system = (text.replace(old, new), system) if kind == "chip" else (chip, text.replace(old, new))
    else:
        chip = chip.replace('vendor: "NVIDIA"', 'vendor: "Twin"')
    if kind != "system":
        system = system.replace('chip: "h100_sxm"', 'chip: "twin"')
        (folder / "chips").mkdir(exist_ok=True)
        (folder / "chips" / "twin.yaml").write_text(chip)
    (folder / "systems").mkdir(exist_ok=True)
    (folder / "systems" / "twin.yaml").write_text(system)
    (folder / "vendors").mkdir(exist_ok=True)
    (folder / "vendors" / "twin.yaml").write_text(
        "id: twin\nname: Twin\ntraining_stack: {text: pytorch-fsdp, grade: user}\n"
        "serving_engine: {text: sglang, grade: user}\n"
    )
    return load_facts([folder])


@pytest.mark.share(3)
@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("works", ["train", "serve"])
def test_machines_that_differ_in_one_property_have_that_factor_alone(name: str, works: str, tmp_path: Path) -> None:
    known = twin(tmp_path, name)
    job = {"train": {"tokens": "1T", "seq": 4096, "batch": "128seqs"}, "serve": SERVE}[works]
    model = "llama-3.1-70b" if name == "capacity" or works == "serve" else "llama-3.1-8b"
    found = mowich.gap("h100:32", "twin:32", model=model, facts=known, **{works: job})  # type: ignore[arg-type]
    others = [r for r in found.rows if r.property != name]
    assert [r.property for r in others if float(r.factor) != pytest.approx(1.0, abs=1e-9)] == []
    assert float(found.factor(name)) == pytest.approx(float(found.ratio), rel=1e-9)
    if not (works == "serve" and name in ("scale-out", "scale-up")):  # one server serves without its network
        assert abs(math.log(float(found.ratio))) > 1e-4


def test_where_not_all_orders_are_tried_that_is_said_and_the_product_holds(
    facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"model": "llama-3.2-1b", "chips": 8, "train": TRAIN, "fixed": FEW["train"], "facts": facts}
    whole = mowich.gap("trn2", "h200", **asked)  # type: ignore[arg-type]
    monkeypatch.setattr(study, "MOST_TRAINED", 20.0 * whole.work)
    some, again = (mowich.gap("trn2", "h200", seed=3, **asked) for _ in range(2))  # type: ignore[arg-type]
    assert whole.is_exact
    assert (whole.orders, whole.machines) == (720, 65)
    assert not some.is_exact
    assert some.orders < whole.orders
    assert some.machines < whole.machines
    assert some.product == pytest.approx(float(some.ratio), rel=0.01)
    assert some.to_dict() == again.to_dict()


def test_of_a_cost_price_is_a_factor_and_more_is_better(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    known = facts.with_values({"prices.user.trn3-gen2": 2.0 / 3600, "prices.user.gb300": 6.0 / 3600})
    asked = {"model": "llama-3.1-8b", "chips": 64, "train": TRAIN, "fixed": FEW["train"], "facts": known}
    monkeypatch.setattr(study, "MOST_TRAINED", 1.0)
    cost, total = (mowich.gap("trn3", "gb300", metric=m, **asked) for m in ("usd_per_mtok", "usd_total"))  # type: ignore[arg-type]
    rows = mowich.compare(systems=["trn3", "gb300"], **asked).rows  # type: ignore[call-overload]
    ratio = float(rows[0].usd_per_mtok) / float(rows[1].usd_per_mtok)
    assert float(cost.ratio) == pytest.approx(ratio, rel=1e-6)
    assert cost.product == pytest.approx(ratio, rel=0.01)
    assert float(cost.factor("price")) == pytest.approx(1 / 3)
    assert float(total.ratio) == pytest.approx(ratio, rel=1e-6)
    assert float(total.systems[0].usd_per_mtok) == pytest.approx(float(rows[0].usd_per_mtok) * 1e6)
    # at the price of parity a token costs the same
    even = known.with_values({"prices.user.trn3-gen2": 6.0 / 3600 * float(cost.price_parity)})
    same = mowich.compare(systems=["trn3", "gb300"], **(asked | {"facts": even})).rows  # type: ignore[call-overload]
    assert float(same[0].usd_per_mtok) == pytest.approx(float(same[1].usd_per_mtok), rel=1e-6)


def test_all_properties_of_the_other_machine_are_the_other_machine(facts: Facts) -> None:
    a, b = equip(facts, "trn3", chips=64), equip(facts, "ironwood", chips=64)
    hybrids = Hybrids(a, b)
    assert hybrids.with_taken(frozenset()) == a
    assert hybrids.with_taken(frozenset((*PROPERTIES, REST))) == b
    between = hybrids.with_taken(frozenset({"scale-up", "capacity"}))
    assert between.devices_per_chip == a.devices_per_chip
    assert between.hbm_usable_B * 4 == pytest.approx(b.hbm_usable_B * 2)
    [inside, pod, network] = between.levels
    assert inside == a.levels[0]
    assert pod.bandwidth_Bps * 4 == pytest.approx(b.levels[1].bandwidth_Bps * 2)
    assert pod.devices == 9216 * 4
    assert network == a.levels[-1]
    assert {property_of(field) for field in a.paths} == {*PROPERTIES, REST}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("trn3", "trn3", "--chips", "8"), "A: 'trn3' is named twice"),
        (("trn3", "trn3-gen2", "--chips", "8"), "'trn3' and 'trn3-gen2' are the same 8 chips of trn3-gen2"),
        (("trn3", "gb30"), "B: unknown system 'gb30'"),
        (("h100", "trn3", "--chips", "8", "--metric", "usd"), "--metric: unknown metric 'usd'"),
        (
            ("h100", "gh200", "--chips", "8", "--metric", "usd_per_mtok"),
            "--metric: gh200 has no price: no price in the facts",
        ),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["gap", *args, "--model", "llama-3.1-8b", *WORDS]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_model_that_fits_nowhere_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["gap", "h100", "trn3", "--model", "deepseek-v3", "--chips", "8", *WORDS]) == 3
    err = capsys.readouterr().err
    assert "h100 has no plan to compare: does not fit" in err
    assert len(err.splitlines()) == 1
    with pytest.raises(UserError, match="serving has no end"):
        mowich.gap("h100", "trn3", model="llama-3.1-8b", serve=SERVE, metric="usd_total")


def test_the_page_says_why_and_draws_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    saved = tmp_path / "gap.json"
    args = ["gap", "trn3", "gb300", "--model", "llama-3.1-8b", *WORDS, "--chips", "64", "--set", "plan.tp=1"]
    assert cli.run([*args, "--plain", "--out", str(saved)]) == 0
    out = capsys.readouterr().out
    assert "times as many tokens per second and chip as trn3: " in out
    assert "memory capacity" in out
    assert "==============================" in out
    result = json.loads(saved.read_text())
    assert result["schema"] == "mowich/gap@1"
    page = tmp_path / "gap.html"
    assert cli.run(["report", str(saved), "--html", str(page), "-q"]) == 0
    text = page.read_text()
    assert "From trn3 to gb300" in text
    assert "mowich gap trn3 gb300 --model llama-3.1-8b" in text


@pytest.mark.slow
def test_a_cost_over_unlike_prices_says_their_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["gap", "trn3", "gb300", "--model", "llama-3.1-8b", *WORDS, "--chips", "64", "--metric", "usd_per_mtok"]
    assert cli.run([*words, "--plain"]) == 0
    assert "unlike kinds" not in capsys.readouterr().out
    assert cli.run([*words, "--set", "prices.trn3=$1.40/chip/h", "--plain"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The prices are of unlike kinds: trn3 your own, gb300 cost of ownership." in said
