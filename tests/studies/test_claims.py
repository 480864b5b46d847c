"""Public claims: every entry has a verdict, and a fact that changes a verdict fails here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mowich
from mowich import cli
from mowich.facts import Facts
from mowich.facts.claim_check import check_of
from mowich.facts.entries import entries
from mowich.formula import calculated, problem_in
from mowich.show.rooms.claims import value_text
from mowich.studies import memory_claim
from mowich.studies.rooms import claims as study


@pytest.fixture(scope="module")
def found(facts: Facts) -> list[study.Claim]:
    return study.claims(facts)


def test_every_entry_has_a_verdict_and_a_reason(facts: Facts, found: list[study.Claim]) -> None:
    assert sorted(c.id for c in found) == sorted(e.id for e in entries(facts))
    assert len(found) == len({c.id for c in found})
    for c in found:
        assert c.verdict in (study.HOLDS, study.ONLY_IF, study.NOT, study.UNCHECKED)
        assert c.verdict == study.HOLDS or c.reason, c.id
        assert (c.derived is None) == (c.low is None) == (c.high is None)
        assert "{" not in c.reason


def test_the_headline_claims_by_hand(found: list[study.Claim]) -> None:
    by = {c.id.split(".", 1)[1][:24]: c for c in found if c.group == "trainium3-reinvent-2025"}
    compute = by["Trn3_UltraServer_compute"]
    assert compute.derived == pytest.approx(144 * 2517 / (64 * 1299))
    assert compute.verdict == study.HOLDS
    assert by["Energy_efficiency_vs_Trn"].verdict == study.UNCHECKED
    oss = by["GPT-OSS_throughput_per_c"]
    assert oss.low is not None
    assert oss.high is not None
    assert oss.low < 1.7 < 3.0 < oss.high
    assert oss.verdict == study.ONLY_IF


def test_a_claim_is_the_fact_of_the_chip_where_that_states_it(facts: Facts, found: list[study.Claim]) -> None:
    """One number: what the chip file says of Trainium 4's memory is what the claim says, and both move together."""
    path = "chips.trainium4.relative_to_trainium3.memory_capacity"
    known = {c.id: c for c in found}["trainium4.Memory_capacity_vs_Trainium3"]
    assert known.published == facts.fact(path).shown == "2 x"
    assert known.published_value == 2.0
    assert known.derived == pytest.approx(288 / 144)
    moved = {c.id: c for c in study.claims(facts.with_values({path: 1.5}))}["trainium4.Memory_capacity_vs_Trainium3"]
    assert moved.published_value == 1.5


def test_what_a_reason_calls_unknown_is_unknown(facts: Facts) -> None:
    named = {path for e in entries(facts) for path in check_of(facts, e.path, e.file).unknown}
    assert len(named) >= 2
    for path in named:
        assert facts.fact(path).value is None, f"{path} is known: derive the claim from it"


def test_a_claim_has_both_sides_in_one_unit(facts: Facts, found: list[study.Claim]) -> None:
    """What is claimed is a number of the facts, and both sides are in the unit of the claim."""
    for c in found:
        fact = facts.fact(next(e.published for e in entries(facts) if e.id == c.id))
        if c.verdict == study.UNCHECKED:
            continue
        assert isinstance(fact.value, float), c.id
        assert c.published_value is not None
        assert c.derived is not None
        assert c.published_value == pytest.approx(fact.value + (c.published.endswith("%"))), c.id
        for side in (c.published_value, c.derived):
            assert study.side_text(side, c.unit) in c.plain, c.id


def test_per_chip_and_per_unit_are_the_same_claim(found: list[study.Claim]) -> None:
    """4.4x of 144 chips against 64 is 1.96x a chip, where the facts give 1.94x; both readings have one verdict."""
    compute = next(c for c in found if "UltraServer_compute" in c.id)
    assert compute.unit_chips == (144, 64)
    assert compute.per_chip is not None
    assert compute.per_chip.derived == pytest.approx(2517 / 1299)
    assert compute.per_chip.published == pytest.approx(4.4 * 64 / 144)
    assert "chip against chip the claim is 1.96 x and the facts give 1.94 x" in compute.plain
    both = [c for c in found if c.per_chip is not None and c.per_unit is not None]
    assert len(both) > 8
    for c in both:
        assert c.per_chip is not None
        assert c.per_unit is not None
        scale = c.unit_chips[0] / (c.unit_chips[1] if len(c.unit_chips) > 1 else 1)
        for side in ("published", "derived", "low", "high"):
            assert getattr(c.per_unit, side) == pytest.approx(scale * getattr(c.per_chip, side)), c.id
        own = c.per_unit if c.per_unit.published == c.published_value else c.per_chip
        assert (own.published, own.derived) == (c.published_value, c.derived)


def test_arithmetic_of_a_rows_own_columns_is_no_claim(facts: Facts, found: list[study.Claim]) -> None:
    """A measured row with its step time gives its tokens per second by division: it is data, and no claim."""
    named = {c.id for c in found}
    rows = facts.children("claims.measured-ironwood-training.claims")
    assert rows
    assert not any(c.group == "measured-ironwood-training" for c in found)
    assert "trainium3-reinvent-2025.Chips_per_UltraServer" not in named
    for c in found:
        paths = {text.split(" = ")[0] for text in c.inputs.values()}
        own = facts.fact(next(e.published for e in entries(facts) if e.id == c.id)).path
        assert own not in paths or c.verdict == study.UNCHECKED, f"{c.id} is derived from itself"


def test_claims_come_by_weight(found: list[study.Claim]) -> None:
    places = [study.weight(c) for c in found]
    assert places == sorted(places)
    checked = [c for c in found if c.verdict != study.UNCHECKED]
    assert found[: len(checked)] == checked
    assert "Trainium 3" in checked[0].text
    assert all(c.missing for c in found if c.verdict == study.UNCHECKED)
    assert not any(c.missing for c in checked)


@pytest.mark.parametrize(
    ("words", "some", "none"),
    [
        ("4x", "UltraServer_compute", "Memory_per_UltraServer"),
        ("4 x", "UltraServer_compute", "Peak_vs_v5p"),
        ("4.4x", "UltraServer_compute", "Energy_efficiency_vs_Trn2"),
        ("4x performance", "UltraServer_compute", "Energy_efficiency_vs_Trn2"),
        ("ENERGY trainium", "Energy_efficiency_vs_Trn2", "Perf_per_watt"),
        ("cannot be checked price", "Cost_reduction", "UltraServer_compute"),
        ("trainium4.FP4_vs", "trainium4.FP4_vs_Trainium3", "trainium4.FP8"),
    ],
)
def test_search(found: list[study.Claim], words: str, some: str, none: str) -> None:
    named = " ".join(c.id for c in found if study.matches(c, words))
    assert some in named
    assert none not in named


def test_claims_and_compare_give_one_ratio(facts: Facts) -> None:
    """What a chip is worth against a Trainium 3 in serving: through the claims, and through the comparison that the
    page names."""
    rows = memory_claim.memory_table(facts)
    for name in ("gpt-oss-120b", "kimi-k2"):
        claimed = {r.system: r for r in rows if r.model == name}
        words = memory_claim.MEMORY_COMMAND.replace("MODEL", name).split()
        given = dict(zip(words[4::2], words[5::2], strict=True))
        compared = mowich.compare(
            name,
            given["--on"].split(","),
            serve={k: given[f"--{k}"] for k in ("isl", "osl", "ttft", "tpot")},
            chips=int(given["--chips"]),
            facts=facts,
        )
        planned = {r.system: r for r in compared.rows}
        mine = planned[memory_claim.MEMORY_SYSTEMS[0]]
        for system, row in planned.items():
            ratio = float(row.tokens_per_s_per_chip) / float(mine.tokens_per_s_per_chip)
            assert claimed[system].price_ratio.value == pytest.approx(ratio, rel=1e-9)
            assert claimed[system].planned_tokens_per_s.value == pytest.approx(float(row.tokens_per_s_per_chip))


def test_claims_are_written_as_a_reader_would(found: list[study.Claim]) -> None:
    """Units stand behind their numbers, not in a note of the file; both columns have one unit; no name is cut off."""
    by = {c.id: c for c in found}
    for c in found:
        assert "(in " not in c.published, c.id
        assert "bool" not in c.published, c.id
        assert "e+" not in value_text(c.derived, c.unit), c.id
    assert by["trainium3-reinvent-2025.Memory_bandwidth_vs_Trn2_UltraServer"].published == "4 x (almost)"
    assert by["trainium3-reinvent-2025.Trn3_UltraServer_compute_vs_Trn2_UltraServer"].published == "4.4 x (up to)"
    assert by["trainium3-reinvent-2025.Cluster_size_with_UltraClusters_3_0"].published == "1,000,000"
    assert by["measured-trainium2-vs-h200-third-party.p5en_vllm"].published.startswith(
        "2,359 output token/s per box (8 x H200"
    )
    assert "NVLink Fusion" in by["trainium4.NVLink_Fusion_support"].published
    pod = by["ironwood.Pod_compute"]
    assert (pod.published, value_text(pod.derived, pod.unit)) == ("42.5 EFLOP/s", "42.52 EFLOP/s")


def test_a_fact_that_moves_changes_the_verdict(facts: Facts) -> None:
    """With a Trainium 3 of half the MXFP8 rate the 4.4x does not follow any more."""
    half = facts.with_values({"chips.trainium3.peak_dense.mxfp8": 1.25e15})
    found = next(c for c in study.claims(half) if "UltraServer_compute" in c.id)
    assert found.verdict == study.NOT


def test_memory_matters_through_the_share_of_weights_only(facts: Facts) -> None:
    assert memory_claim.bound_of({"weights": 1e12, "kv": 1e9, "bandwidth": 5e12, "memory_B": 100e9, "unit_chips": 1e9})[
        "tokens_per_s"
    ] == pytest.approx(5e12 / 1e9)
    kimi = memory_claim.memory_bounds(facts, "kimi-k2")
    assert tuple(kimi) == memory_claim.MEMORY_SYSTEMS
    assert kimi["trn3-gen2"]["chips_min"] > kimi["ironwood"]["chips_min"] > kimi["gb300"]["chips_min"]
    assert kimi["trn3-gen2"]["left_at_8"] < kimi["gb300"]["left_at_8"]


def test_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["claims", "trainium3-reinvent", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "mowich/claims@1"
    assert sum(found["verdicts"].values()) == len(found["claims"]) == 21
    assert [c["verdict"] for c in found["claims"]].index("cannot be checked") > 0
    assert cli.run(["claims", "trainium3", "--plain"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "True only under a condition: claimed 3 x" in said
    assert said.index("What cannot be checked, and the measurement that would settle it") > said.index("True: claimed")
    assert cli.run(["claims", "nothing-like-it"]) == 2
    assert "no claim" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("claim", "new", "old", "gain"),
    [
        ("Energy_efficiency_vs_previous", ("trainium3", "mxfp8"), ("trainium2", "fp8"), 1.4),
        ("Perf_per_watt", ("tpu_v7_ironwood", "fp8"), ("tpu_v6e", "fp8"), 2.0),
    ],
)
def test_a_gain_per_watt_says_the_power_that_it_needs(
    facts: Facts, found: list[study.Claim], claim: str, new: tuple[str, str], old: tuple[str, str], gain: float
) -> None:
    """The ratio of the peaks over the gain, whatever powers are assumed, and the assumed ones beside it."""
    reason = next(c.reason for c in found if claim in c.id)
    peaks = [facts.number(f"chips.{chip}.peak_dense.{dtype}") for chip, dtype in (new, old)]
    powers = [facts.number(f"chips.{chip}.power.all_in") for chip, _ in (new, old)]
    assert f"draws {peaks[0] / peaks[1] / gain:.2f} times the power" in reason
    assert f"our estimates are {powers[0] / powers[1]:.2f} times" in reason


def test_the_headline_counts_claims_in_the_right_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["claims", "trainium3"]) == 0
    assert "0 do not follow" in " ".join(capsys.readouterr().out.split())


CLAIMED = """id: acme
about: [chips.trainium3]
claims:
  Rate_against_a_GB300:
    title: "Peak 8-bit rate of a chip, Trainium 3 over GB300"
    topic: compute
    published: {value: "0.5 x", grade: user}
    check:
      says: "MXFP8 of Trn3 / dense FP8 of GB300"
      formula: "a / b"
      inputs: {a: "chips.trainium3.peak_dense.mxfp8", b: "chips.gb300.peak_dense.fp8"}
"""


def _asked(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    (tmp_path / "claims").mkdir(exist_ok=True)
    (tmp_path / "claims" / "acme.yaml").write_text(text)
    status = cli.run(["claims", "acme", "--facts", str(tmp_path), "--json"])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_claim_is_added_in_yaml_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], facts: Facts) -> None:
    status, out, err = _asked(tmp_path, CLAIMED, capsys)
    assert (status, err) == (0, "")
    [claim] = json.loads(out)["claims"]
    rates = [facts.number(f"chips.{x}") for x in ("trainium3.peak_dense.mxfp8", "gb300.peak_dense.fp8")]
    assert claim["derived"] == pytest.approx(rates[0] / rates[1])
    assert (claim["verdict"], claim["formula"]) == (study.HOLDS, "MXFP8 of Trn3 / dense FP8 of GB300")


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('"a / b"', '"a / c"', 10, "check.formula: nothing is called 'c'"),
        ('"a / b"', '"a /"', 10, "check.formula: not arithmetic: a /"),
        ('"a / b"', '"open(a)"', 10, "check.formula: not arithmetic: open(a)"),
        ('"a / b"', "3", 10, "check.formula: formula is a text"),
        ("formula:", "formulas:", 10, "unknown key 'formulas'"),
        ("says:", "missing:", 9, ""),
        ('"MXFP8 of', '"{w} of', 9, "check.says: nothing is called {w}"),
        ('"MXFP8 of', '"{ of', 9, "check.says: cannot be filled in"),
        ("chips.gb300.peak_dense.fp8", "chips.gb300.peak_dense.fp9", 11, "did you mean"),
        ('{a: "chips', '{"a b": "chips', 11, "'a b' is no symbol"),
        ('"a / b"', '"a / b"\n      per: "box"', 11, "per is 'box'"),
        ('"a / b"', '"a / b"\n      gain: "yes"', 11, "gain is true or false"),
    ],
)
def test_a_wrong_check_is_one_line_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, line: int, words: str
) -> None:
    assert old in CLAIMED
    status, _, err = _asked(tmp_path, CLAIMED.replace(old, new), capsys)
    if not words:  # words of what is missing: nothing is judged
        assert status == 0
        return
    assert status == 2
    [said] = err.splitlines()
    assert f"acme.yaml:{line} " in said
    assert words in said


def test_a_formula_cannot_hang() -> None:
    assert problem_in("9 ** 9 ** 9 ** 9", []) == ""
    with pytest.raises(OverflowError):
        calculated("9 ** 9 ** 9 ** 9", {}.__getitem__)
    assert "the most" in problem_in("1 + " * 500 + "1", [])


def test_a_formula_without_a_value_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = _asked(tmp_path, CLAIMED.replace('"a / b"', '"a / (b - b)"'), capsys)
    assert status == 2
    assert "the formula a / (b - b) of a claim has no value (float division by zero), got 'a = " in err
