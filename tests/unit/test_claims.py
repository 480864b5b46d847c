"""Public claims: every entry has a verdict, and a fact that changes a verdict fails here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mowich import cli
from mowich.facts import Facts
from mowich.studies import claims as study

GOLDEN = Path(__file__).parents[1] / "golden" / "claims.json"


def test_verdicts_stay(facts: Facts) -> None:
    """Kept with `python benchmarks/claims_page.py` where a change is meant."""
    now = {c.id: c.verdict for c in study.claims(facts)}
    kept = json.loads(GOLDEN.read_text(encoding="utf-8"))
    changed = [f"{k}: {kept.get(k)} -> {now.get(k)}" for k in sorted({*kept, *now}) if kept.get(k) != now.get(k)]
    assert not changed


def test_every_entry_has_a_verdict_and_a_reason(facts: Facts) -> None:
    found = study.claims(facts)
    entries = 0
    for name in facts.ids("claims"):
        keys = facts.children(f"claims.{name}")
        entries += (
            len(facts.children(f"claims.{name}.claims"))
            if "claims" in keys
            else len([k for k in keys if k != "context"])
        )
    assert len(found) == len({c.id for c in found}) == entries
    for c in found:
        assert c.verdict in (study.HOLDS, study.ONLY_IF, study.NOT, study.UNCHECKED)
        assert c.verdict == study.HOLDS or c.reason, c.id
        assert (c.derived is None) == (c.low is None) == (c.high is None)
        assert "{" not in c.reason


def test_the_headline_claims_by_hand(facts: Facts) -> None:
    by = {c.id.removeprefix("trainium3-reinvent-2025.")[:24]: c for c in study.claims(facts)}
    compute = by["Trn3_UltraServer_compute"]
    assert compute.derived == pytest.approx(144 * 2517 / (64 * 1299))
    assert compute.verdict == study.HOLDS
    assert by["Energy_efficiency_vs_Trn"].verdict == study.UNCHECKED
    oss = by["GPT-OSS_throughput_per_c"]
    assert oss.low is not None
    assert oss.high is not None
    assert oss.low < 1.7 < 3.0 < oss.high
    assert oss.verdict == study.ONLY_IF


def test_a_fact_that_moves_changes_the_verdict(facts: Facts) -> None:
    """With a Trainium 3 of half the MXFP8 rate the 4.4x does not follow any more."""
    half = facts.with_values({"chips.trainium3.peak_dense.mxfp8": 1.25e15})
    found = next(c for c in study.claims(half) if "UltraServer_compute" in c.id)
    assert found.verdict == study.NOT


def test_memory_matters_through_the_share_of_weights_only(facts: Facts) -> None:
    assert study.decode_bound(5e12, 1e9, 1e12, 100e9, 1e9) == pytest.approx(5e12 / 1e9)
    rows = study.memory_table(facts)
    assert len(rows) == len(study.MEMORY_MODELS) * len(study.MEMORY_CONTEXTS) * len(study.MEMORY_SYSTEMS)
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
