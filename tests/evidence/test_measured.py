"""Operator tables -> constants: medians recovered from made tables, traps, the overlay in use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mowich.errors import UserError
from mowich.evidence import measured
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.plan import ServePlan
from mowich.studies.serving import deploy
from shared_facts import fresh_facts

FACTS = fresh_facts()


def made(name: str, peak: float, hbm: float) -> dict[str, np.ndarray]:
    """A table of kernels that reach 80% of the bandwidth and 60% of the peak, decode attention 70%, prefill attention
    50%."""
    if name == "gemm_perf":
        m, n, k = (
            x.ravel() for x in np.meshgrid([1, 8, 32, 2048, 4096, 8192], [4096, 8192, 512], [4096, 8192], indexing="ij")
        )
        seconds = np.maximum(n * k * 2.0 / (0.8 * hbm), 2.0 * m * n * k / (0.6 * peak))
        return {"m": m, "n": n, "k": k, "gemm_dtype": np.array(["bfloat16"] * len(m)), "latency": seconds * 1e3}
    b = np.array([32, 64, 128, 256, 512, 1024.0])
    base = {
        "batch_size": b,
        "num_heads": b * 0 + 32,
        "num_key_value_heads": b * 0 + 8,
        "head_dim": b * 0 + 128,
        "step": b * 0,
        "attn_dtype": np.array(["bfloat16"] * 6),
        "kv_cache_dtype": np.array(["bfloat16"] * 6),
        "isl": b * 0 + 8192,
    }
    if name == "generation_attention_perf":
        return {**base, "latency": 4.0 * b * 8192 * 8 * 128 / (0.7 * hbm) * 1e3}
    return {**base, "latency": 2.0 * b * 8192.0**2 * 32 * 128 / (0.5 * peak) * 1e3}


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data" / "h200_sxm").mkdir(parents=True)
    system = resolve(FACTS, "h200:1")
    monkeypatch.setenv(measured.ROOT, str(tmp_path))
    monkeypatch.setattr(
        measured,
        "table",
        lambda folder, name, framework: (
            made(name, system.peak_flops["bf16"], system.hbm_Bps),
            f"{framework} 1.0, {name}",
        ),
    )
    return tmp_path


def test_kernels_timed_above_the_published_rates_give_no_share_above_one(
    tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of a burst clock, or of data that never left a cache."""
    system = resolve(FACTS, "h200:1")

    def faster(folder: Path, name: str, framework: str) -> tuple[dict[str, np.ndarray], str]:
        return made(name, 3 * system.peak_flops["bf16"], 3 * system.hbm_Bps), f"{framework} 1.0, {name}"

    monkeypatch.setattr(measured, "table", faster)
    for r in measured.rates_reached(system, "vllm"):
        assert (r.value, r.high) == (1.0, 1.0)


@pytest.mark.parametrize("name", ["h100", "h200", "b200", "gb200", "l40s"])
def test_measured_tables_give_no_share_above_the_published_rates(name: str) -> None:
    """The tables of the package itself, where it is installed: single kernels pass the published rates, no constant
    does."""
    pytest.importorskip("aiconfigurator_core")
    pytest.importorskip("pyarrow")
    found = measured.rates_reached(resolve(FACTS, f"{name}:1"), "vllm")
    assert found
    for r in found:
        assert 0 < r.low <= r.value <= r.high <= 1.0, r.field


def test_medians_are_recovered(tables: Path) -> None:
    got = {r.field: r.value for r in measured.rates_reached(resolve(FACTS, "h200:1"), "vllm")}
    assert got["weights_16"] == pytest.approx(0.8)
    assert got["product_16"] == pytest.approx(0.6)
    assert got["decode_attention"] == pytest.approx(0.7)
    assert got["attention"] == pytest.approx(0.5)
    assert "weights_8" not in got


def test_overlay_is_used_and_said(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    measured.write_overlay(resolve(FACTS, "h200:1"), "vllm", FACTS, out)
    with_tables = load_facts((out,))
    model, plan = load_model("llama-3.1-8b"), ServePlan()
    d = deploy(model, resolve(with_tables, "h200:1"), "vllm", [plan], with_tables)
    assert d.coverage == {"operator tables": 1.0}
    assert float(np.ravel(d.costs.weights_16)[0]) == pytest.approx(0.8)
    assert deploy(model, resolve(FACTS, "h200:1"), "vllm", [plan], FACTS).coverage == {"fitted": 1.0}


def test_missing_tables_say_what_to_do(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no operator tables of trainium3"):
        measured.rates_reached(resolve(FACTS, "trn3:1"), "vllm")
    with pytest.raises(UserError, match="no operator tables"):
        measured.rates_reached(resolve(FACTS, "h200:1"), "neuron")
    monkeypatch.setenv(measured.ROOT, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no such directory"):
        measured.root()
    monkeypatch.delenv(measured.ROOT)
    monkeypatch.setattr(measured, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'mowich\[measured\]'"):
        measured.root()
