"""The fit of all constants: one solver with ends, and stages that run until none moves."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mowich.evidence.fitting.solve import bounded_step
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_rows import ServingCase
from mowich.facts import load_facts
from mowich.serving.anchors import Class

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import fit  # noqa: E402
import fit_serving  # noqa: E402


def test_a_bounded_step_is_the_best_one_of_its_face() -> None:
    """Within the ends; where nothing is held no gradient is left; what is held stands at an end that the gradient, or
    the way there, pushes it to."""
    rng = np.random.default_rng(5)
    for _ in range(200):
        n = int(rng.integers(1, 8))
        A = rng.normal(size=(n + 3, n))
        H, g = A.T @ A + np.eye(n), rng.normal(size=n) * 3.0
        theta = rng.uniform(-0.2, 0.2, n)
        low, high = theta - rng.uniform(0.0, 1.0, n), theta + rng.uniform(0.0, 1.0, n)
        step = bounded_step(H, g, theta, low, high)
        to = theta + step
        assert np.all(to >= low - 1e-9)
        assert np.all(to <= high + 1e-9)
        inside = (to > low + 1e-9) & (to < high - 1e-9)
        assert (H @ step + g)[inside] == pytest.approx(0.0, abs=1e-8)
        wide = np.full(n, 1e9)
        assert bounded_step(H, g, theta, -wide, wide) == pytest.approx(np.linalg.solve(H, -g))


def test_only_constants_at_an_end_are_held_where_the_caller_cuts() -> None:
    H, g = np.diag([1.0, 1.0]), np.array([-5.0, -5.0])
    theta, low, high = np.array([1.0, 0.0]), np.zeros(2), np.ones(2)
    assert bounded_step(H, g, theta, low, high, stops_at_ends=False).tolist() == [0.0, 5.0]
    assert bounded_step(H, g, theta, low, high).tolist() == [0.0, 1.0]


def test_the_tools_have_no_active_set_of_their_own() -> None:
    for name in ("fit_training.py", "fit_serving.py", "fit_neuron.py"):
        text = (TOOLS / name).read_text(encoding="utf-8")
        assert "active set" not in text
        assert ("bounded_step(" in text) == (name != "fit_neuron.py")  # Neuron's factors have no ends


def test_stages_read_what_stages_before_them_write() -> None:
    names = [stage.name for stage in fit.STAGES]
    assert names == ["collectives", "kernels", "training", "serving", "neuron"]
    assert all((TOOLS / stage.command[0]).is_file() for stage in (*fit.STAGES, fit.LAST))


def test_stages_run_until_no_constant_moves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A constant that halves its way to 2 each time that training runs: 1, 1.5, 1.75 ... The fit ends with the round
    in which it moves by less than `STILL`, and says when there is none."""
    state = {"training.common.moe_passes": 1.0}
    ran: list[str] = []

    def run(stage: fit.Stage, file: str) -> float:
        ran.append(stage.name)
        if stage.name == "training":
            state["training.common.moe_passes"] = 0.5 * (state["training.common.moe_passes"] + 2.0)
        return 1.0

    monkeypatch.setattr(fit, "run", run)
    monkeypatch.setattr(fit, "written", lambda: dict(state))
    monkeypatch.setattr(fit, "TIMES", tmp_path / "times.json")
    fit.fit("rows.csv", 20)
    told = capsys.readouterr().out
    rounds = ran.count("training")
    assert f"a fixed point after {rounds} rounds" in told
    assert 5 < rounds < 12
    assert ran.count("collectives") == ran.count("kernels") == ran.count("left out") == 1
    assert "training.common.moe_passes: +50.00%" in told
    state["training.common.moe_passes"] = 1.0
    fit.fit("rows.csv", 2)
    assert "no fixed point in 2 rounds" in capsys.readouterr().out


def test_moves_are_shares() -> None:
    assert fit.moved({"a": 2.0, "b": 1.0, "c": 0.0}, {"a": 3.0, "b": 1.0, "c": 1.0, "d": 4.0}) == {
        "a": 0.5,
        "c": float("inf"),
    }


def test_constants_are_read_as_the_files_are_now() -> None:
    """By another process, which keeps nothing of what this one has read."""
    assert fit.written() == fit.constants(load_facts())


def test_intervals_hold_nine_of_ten_rows_in_every_class() -> None:
    """Errors of one engine, and of many users, are drawn wider, those of a chip narrower; a class of few rows has no
    width of its own."""
    rng = np.random.default_rng(3)
    words = {"model": "m", "family": "f", "plan": "tp", "prompt": 1024.0, "output": 1.0, "ranks": 8.0, "arch": "dense"}
    classes, z = [], []
    for i in range(900):
        engine, chip = "sglang" if i % 3 == 0 else "rare" if i % 60 == 1 else "vllm", ("a", "b")[i % 2]
        users = (2.0, 32.0, 300.0)[i % 5 % 3]
        wide = (3.0 if engine == "sglang" else 1.0) * (2.0 if users > 128 else 1.0) * (0.5 if chip == "b" else 1.0)
        classes.append(Class(engine=engine, chip=chip, weights="fp8", users=users, **words))  # type: ignore[arg-type]
        z.append(abs(rng.normal()) * wide)
    z[0] = np.nan
    width = fit_serving.width_by_class(np.array(z), classes)
    inside = np.array(z) <= width.of(classes)
    of_classes = [(c.engine == "sglang", c.users > 128, c.chip == "b") for c in classes]
    for which in range(3):
        rows = [i for i, of in enumerate(of_classes) if of[which] and not np.isnan(z[i])]
        assert len(rows) >= fit_serving.LEAST_ROWS
        assert 0.85 <= inside[rows].mean() <= 0.95
    assert ("engine", "rare") not in width.factors
    even = fit_serving.width_by_class(np.abs(rng.normal(size=900)), classes)
    assert even.factors == {}


def test_a_row_that_states_a_rate_alone_says_how_long_a_request_takes() -> None:
    row = {
        "id": "r",
        "source": "made here",
        "date": "2026-06-26",
        "chip": "tpu-v7x (Ironwood)",
        "n_chips": "1",
        "framework": "vLLM TPU",
        "model": "Qwen3-32B",
        "precision": "bf16",
        "mode": "online agg",
        "tp": "2",
        "isl": "1024",
        "osl": "1024",
        "concurrency": "64",
        "output_tok_s_per_chip": "4000",
    }
    (case,) = read_serving_cases([row], load_facts())
    assert isinstance(case, ServingCase), case
    problem = fit_serving.Problem([case], fit_serving.spreads())
    assert np.isnan(problem.measured["tpot"]).all()
    asked_s = case.users * case.plan.dp * problem.table.output[0] / (4000.0 * case.chips)
    assert problem.requests()[0] == pytest.approx(np.log(asked_s))
    before, after = (fit_serving.rate_miss(problem, problem.predict(at))[0] for at in (problem.mu, _fitted(problem)))
    assert before != 0.0
    assert abs(after) < abs(before)
    assert problem.misses(problem.predict(problem.mu))["tpot"][0] == pytest.approx(-before)


def _fitted(problem: fit_serving.Problem) -> fit_serving.Floats:
    return fit_serving.constants(problem, np.ones(1, dtype=bool))[0]
