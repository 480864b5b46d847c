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


def served_rows(n: int) -> list[dict[str, str]]:
    """Rows of two models, two releases and two chips, at loads and prompts of all sizes."""
    words = {"source": "made here", "precision": "fp8", "mode": "online agg", "tp": "8", "n_chips": "8", "osl": "1024"}
    return [
        {
            **words,
            "id": f"r{i}",
            "date": f"2026-0{1 + i % 4}-11",
            "chip": ("h200", "b200")[i // 2 % 2],
            "framework": ("vllm 0.12.0", "vllm 0.19.0")[i % 2],
            "model": ("Llama-3.1-70B", "Qwen3-32B")[i // 4 % 2],
            "isl": str(1024 * 2 ** (i % 3)),
            "concurrency": str(2 ** (i % 8)),
            "ttft_ms": "100",
            "tpot_ms": "10",
        }
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def drawn() -> tuple[fit_serving.Problem, fit_serving.Floats]:
    """A problem whose measured times are those of drawn constants, times what each release and chip differ by."""
    cases = [c for c in read_serving_cases(served_rows(64), load_facts()) if isinstance(c, ServingCase)]
    assert len(cases) == 64
    problem, rng = fit_serving.Problem(cases), np.random.default_rng(3)
    theta = problem.mu.copy()
    theta[problem.free] += fit_serving.SHRINK * problem.sd[problem.free] * rng.normal(size=len(problem.free))
    differs = {name: 0.2 * rng.normal() for name in sorted({c.version + c.chip for c in cases})}
    for m, base in problem.predict(theta).items():
        if m in fit_serving.METRICS:
            problem.measured[m] = base + np.array([differs[c.version + c.chip] for c in cases])
    problem.measured["tpot"][5] = np.nan
    return problem, fit_serving.constants(problem, np.ones(64, dtype=bool), rounds=2)[0]


def test_what_is_left_out_is_forecast_without_itself(drawn: tuple[fit_serving.Problem, fit_serving.Floats]) -> None:
    """Other measured times of the rows left out move no forecast of them, but for the constants' one step from a fit
    of all rows: here from the same one. A row that states no time has no error."""
    problem, theta = drawn
    slopes, names = problem.slopes(theta), [c.version for c in problem.cases]
    left = fit_serving.left_out(problem, theta, slopes, names)
    other = [name == names[0] for name in names]
    was = problem.measured["tpot"].copy()
    problem.measured["tpot"] = np.where(other, was + np.linspace(-1.0, 1.0, 64), was)
    again = fit_serving.left_out(problem, theta, slopes, names)
    problem.measured["tpot"] = was
    for m, moved in (("tpot", np.linspace(-1.0, 1.0, 64)), ("ttft", np.zeros(64))):
        assert again[m].alone[other] == pytest.approx((left[m].alone - moved)[other], nan_ok=True)
        assert again[m].error[other] == pytest.approx((left[m].error - moved)[other], abs=0.02, nan_ok=True)
    assert np.isnan(left["tpot"].error[5])
    assert np.isnan(left["tpot"].inside()[5])


def test_a_few_rows_of_its_own_bring_a_group_nearer(drawn: tuple[fit_serving.Problem, fit_serving.Floats]) -> None:
    """All but three of each group are asked, and what these three say of the group is found in the others."""
    problem, theta = drawn
    slopes = problem.slopes(theta)
    group = [c.version + c.chip for c in problem.cases]
    fold = fit_serving.folds_of(group, 2)
    assert {len({f for f, g in zip(fold, group, strict=True) if g == one}) for one in group} == {1}
    out = fit_serving.left_out(problem, theta, slopes, fold)["ttft"]
    own = fit_serving.left_out(problem, theta, slopes, fold, group)["ttft"]
    asked = ~np.isnan(own.error)
    assert 64 - asked.sum() == fit_serving.ALONE * len(set(group))
    assert np.abs(own.error[asked]).mean() < 0.7 * np.abs(out.error[asked]).mean()
    assert (own.half[asked] <= out.half[asked] + 1e-9).all()


def test_priors_of_shown_steps_share_their_error() -> None:
    """Evidence that one is off moves the others; those of other constants it leaves alone."""
    problem = fit_serving.Problem(
        [c for c in read_serving_cases(served_rows(4), load_facts()) if isinstance(c, ServingCase)]
    )
    names = [problem.table.columns.names[j] for j in problem.free]
    covariance = np.linalg.inv(problem.pull())
    shown = np.array([".visible_" in name and "yearly" not in name for name in names])
    assert shown.any()
    assert not shown.all()
    off = covariance - np.diag(np.diag(covariance))
    assert off[np.ix_(~shown, ~shown)] == pytest.approx(0.0, abs=1e-9)
    assert np.diag(covariance)[~shown] == pytest.approx((fit_serving.SHRINK * problem.sd[problem.free][~shown]) ** 2)
    assert (np.diag(covariance)[shown] > fit_serving.SHARED**2).all()


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
    problem = fit_serving.Problem([case])
    assert np.isnan(problem.measured["tpot"]).all()
    asked_s = case.users * case.plan.dp * problem.table.load.output[0] / (4000.0 * case.chips)
    assert problem.requests()[0] == pytest.approx(np.log(asked_s))
    before, after = (fit_serving.rate_miss(problem, problem.predict(at))[0] for at in (problem.mu, _fitted(problem)))
    assert before != 0.0
    assert abs(after) < abs(before)
    assert problem.misses(problem.predict(problem.mu))["tpot"][0] == pytest.approx(-before)


def _fitted(problem: fit_serving.Problem) -> fit_serving.Floats:
    return fit_serving.constants(problem, np.ones(1, dtype=bool))[0]
