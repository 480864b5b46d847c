"""Builds of an engine for the chips of one vendor."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_notes import first_note, rounds_of
from mowich.evidence.serving_rows import ServingCase
from mowich.facts import Facts, load_facts
from mowich.machines.system import machines, resolve
from mowich.software.engine import build_for, engine_for, engine_names

FACTS = load_facts()
BUILDS = {name: FACTS.text(f"serving.{name}.build_of") for name in FACTS.ids("serving") if "-rocm" in name}
VENDORS = sorted({resolve(FACTS, name).vendor for name in machines(FACTS)})


def test_there_are_builds() -> None:
    assert BUILDS == {"vllm-rocm": "vllm", "sglang-rocm": "sglang"}


@given(st.sampled_from(engine_names(FACTS)), st.sampled_from(VENDORS))
def test_a_name_means_the_build_of_the_vendor(engine: str, vendor: str) -> None:
    """The build, where the vendor has one, by either name; else the engine that it is one of. Asked again it stays."""
    found = build_for(FACTS, engine, vendor)
    base = BUILDS.get(engine, engine)
    assert found == (f"{base}-rocm" if vendor == "AMD" and base in BUILDS.values() else base)
    assert build_for(FACTS, found, vendor) == found


def test_machines_run_what_their_vendor_builds(facts: Facts) -> None:
    for name in machines(facts):
        system = resolve(facts, name)
        for engine in (None, "vllm", "sglang", "vllm-rocm"):
            is_rocm = engine_for(facts, system, engine).endswith("-rocm")
            assert is_rocm == (system.vendor == "AMD"), (name, engine)


@pytest.mark.parametrize("build", sorted(BUILDS))
def test_what_is_not_its_own_follows_the_engine(build: str, facts: Facts) -> None:
    base = BUILDS[build]
    moved = facts.with_values({f"serving.{base}.kernel": 9e-6})
    assert moved.number(f"serving.{build}.kernel") == pytest.approx(9e-6)
    fields = {path.rsplit(".", 1)[1] for path in facts.paths(f"serving.{base}")}
    own = {path.rsplit(".", 1)[1] for path in facts.paths(f"serving.{build}")}
    assert {f for f in fields - own if not f.startswith("reduce_norms")} == set()


ROW = {
    "id": "x", "source": "InferenceX", "framework": "sglang 0.5.12", "model": "deepseek-r1", "precision": "fp8",
    "chip": "mi300x", "n_chips": "8", "tp": "8", "pp": "1", "dp": "1", "ep": "1", "mode": "aggregated",
    "isl": "1024", "osl": "1024", "concurrency": "16", "tpot_ms": "21", "ttft_ms": "160", "date": "2026-05-18",
}  # fmt: skip


def read(**cells: str) -> ServingCase:
    columns = csv.DictReader([",".join((row := ROW | cells).keys()), ",".join(row.values())])
    (case,) = read_serving_cases(list(columns), FACTS)
    assert isinstance(case, ServingCase), case
    return case


@pytest.mark.parametrize(("chip", "engine"), [("mi300x", "sglang-rocm"), ("mi355x", "sglang-rocm"), ("h200", "sglang")])
def test_a_row_has_the_build_of_its_chip(chip: str, engine: str) -> None:
    assert read(chip=chip).engine == engine


@given(st.floats(1.0, 4096.0), st.sampled_from(["median", "p50", "P50", "mean", "p99", ""]))
def test_a_median_has_nothing_of_the_first_requests(users: float, stat: str) -> None:
    """Where the users of a benchmark ask more than twice, fewer than half of their requests wait behind those that all
    of them ask at once."""
    for source in ("InferenceX", "gap-analysis", "somebody"):
        campaign = first_note([{"campaign": "c", "source": source, "rounds": 10.0}], {"source": source})
        without = rounds_of(campaign, users)
        is_without = stat.lower() in ("median", "p50") and without > 2.0
        assert rounds_of(campaign, users, stat) == (float("inf") if is_without else without)
