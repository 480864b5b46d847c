"""Public claims: every entry has a verdict, and a fact that changes a verdict fails here."""

from __future__ import annotations

import json

import pytest

from mowich import cli
from mowich.facts import Facts
from mowich.facts.entries import entries
from mowich.show.claims import value_text
from mowich.studies import claim_checks, memory_claim
from mowich.studies import claims as study


@pytest.fixture(scope="module")
def found(facts: Facts) -> list[study.Claim]:
    return study.claims(facts)


def test_every_entry_has_a_verdict_and_a_reason(facts: Facts, found: list[study.Claim]) -> None:
    assert [c.id for c in found] == [e.id for e in entries(facts)]
    assert len(found) == len({c.id for c in found})
    for c in found:
        assert c.verdict in (study.HOLDS, study.ONLY_IF, study.NOT, study.UNCHECKED)
        assert c.verdict == study.HOLDS or c.reason, c.id
        assert (c.derived is None) == (c.low is None) == (c.high is None)
        assert "{" not in c.reason


def test_the_headline_claims_by_hand(found: list[study.Claim]) -> None:
    by = {c.id.removeprefix("trainium3-reinvent-2025.")[:24]: c for c in found}
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
    named = {path for check in claim_checks.checks().values() for path in check.unknown}
    assert len(named) >= 4
    for path in named:
        assert facts.fact(path).value is None, f"{path} is known: derive the claim from it"


def test_a_number_in_the_code_of_a_claim_stands_in_its_text(facts: Facts) -> None:
    """A claim is read from its fact; where its text holds several numbers the formula picks one, and may not invent
    it."""
    by = {e.id: facts.fact(e.published) for e in entries(facts)}
    for start, check in claim_checks.checks().items():
        if check.published is not None:
            texts = [fact.shown for found, fact in by.items() if found.startswith(start)]
            assert texts
            assert all(f"{check.published:g}" in text for text in texts), start


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
    assert memory_claim.decode_bound(5e12, 1e9, 1e12, 100e9, 1e9) == pytest.approx(5e12 / 1e9)
    rows = memory_claim.memory_table(facts)
    assert len(rows) == len(memory_claim.MEMORY_MODELS) * len(memory_claim.MEMORY_CONTEXTS) * len(
        memory_claim.MEMORY_SYSTEMS
    )
    kimi = {r.system: r for r in rows if r.model == "kimi-k2" and r.context == 8192}
    assert kimi["trn3-gen2"].chips_min > kimi["ironwood"].chips_min > kimi["gb300"].chips_min
    assert kimi["trn3-gen2"].left_at_8 < kimi["gb300"].left_at_8


def test_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["claims", "trainium3-reinvent", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "mowich/claims@1"
    assert sum(found["verdicts"].values()) == len(found["claims"]) == 21
    assert cli.run(["claims", "trainium3", "--plain"]) == 0
    assert "HOLDS ONLY IF" in capsys.readouterr().out
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
