"""Constants that were fitted together count in a range as their correlations say, and each alone else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.facts.together import FITTED_TOGETHER, correlation_matrix, correlations, correlations_text, moves_together

SHIPPED = load_facts()
PATHS = (
    "devices.neuroncore-v4.attention",
    "devices.neuroncore-v4.product_16",
    "training.torchtitan-neuron.fsdp_overlap",
    "training.torchtitan-neuron.speed",
)


def overlay(folder: Path, text: str, *, of: str = "calibration own.yaml") -> Facts:
    """Facts with the constants of `PATHS` fitted as they stand, and these lines."""
    lines = []
    for path in PATHS:
        kind, file, key = path.split(".")
        fact = SHIPPED.fact(path)
        told = f"low: {fact.low!r}, high: {fact.high!r}, locator: here, grade: D, reason: fitted"
        lines.append((kind, file, f'{key}: {{value: {fact.value!r}, source: "{of}", {told}}}'))
    own = 'source: "calibration own.yaml", locator: here, grade: B'
    lines.append(("training", "common", f'fitted_together: {{text: "{text}", {own}}}'))
    out: dict[str, dict[str, list[str]]] = {}
    for kind, file, line in lines:
        out.setdefault(kind, {}).setdefault(file, []).append(line)
    words = [
        word
        for kind, files in out.items()
        for word in (
            f"{kind}:",
            *(w for name, keys in files.items() for w in (f"  {name}:", *(f"    {k}" for k in keys))),
        )
    ]
    file = folder / "own.yaml"
    file.write_text("\n".join(words) + "\n", encoding="utf-8")
    return load_facts([file])


def written(correlation: np.ndarray) -> str:
    return correlations_text(PATHS, correlation).replace("\n", "\\n")


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    """Correlations of four constants."""
    n = len(PATHS)
    seed = np.array(draw(st.lists(st.floats(-1.0, 1.0), min_size=n * n, max_size=n * n))).reshape(n, n)
    full = seed @ seed.T + 0.05 * np.eye(n)
    sd = np.sqrt(np.diag(full))
    return np.asarray(full / np.outer(sd, sd))


@given(matrices(), st.lists(st.floats(-0.5, 0.5), min_size=len(PATHS), max_size=len(PATHS)), st.floats(0.01, 0.4))
def test_squares_of_moves_are_the_variance_that_correlations_leave(
    tmp_path_factory: pytest.TempPathFactory, correlation: np.ndarray, half: list[float], other: float
) -> None:
    facts = overlay(tmp_path_factory.mktemp("own"), written(correlation))
    moves = [*((path, -m, m) for path, m in zip(PATHS, half, strict=True)), ("chips.trainium3.x", -other, other)]
    found = {path: high for path, _, high in moves_together(moves, facts)}
    assert found.pop("chips.trainium3.x") == other
    m = np.array(half)
    expected = float(m @ correlation @ m)
    assert sum(x * x for x in found.values()) == pytest.approx(expected, abs=2e-3 * float(m @ m) + 1e-12)


def test_what_ships_counts_each_move_by_itself() -> None:
    moves = [(path, -0.1, 0.2) for path in PATHS]
    assert moves_together(moves, SHIPPED) == moves


def test_a_constant_that_is_set_again_is_correlated_with_nothing(tmp_path: Path) -> None:
    text = written(np.array([[1.0, -0.9, 0, 0], [-0.9, 1.0, 0, 0], [0, 0, 1.0, -0.5], [0, 0, -0.5, 1.0]]))
    facts = overlay(tmp_path, text)
    assert len(correlations(facts)) == 2
    now = facts.number(PATHS[0])
    assert len(correlations(facts.with_values({PATHS[0]: now}))) == 1
    assert correlations(overlay(tmp_path, text, of="a book")) == {}


@pytest.mark.parametrize("line", ["a b", "a a 0.5", "a b 1.5", "a b nan", "a b c", "a b 0.5 d"])
def test_a_line_that_is_no_pair_is_refused(line: str) -> None:
    facts = SHIPPED.with_values({FITTED_TOGETHER: line})
    with pytest.raises(UserError, match="no pair of constants") as error:
        correlations(facts)
    assert error.value.where == f"{FITTED_TOGETHER}, line 1"


@given(matrices())
def test_the_matrix_of_what_was_written_is_near_and_one_of_correlations(
    tmp_path_factory: pytest.TempPathFactory, full: np.ndarray
) -> None:
    facts = overlay(tmp_path_factory.mktemp("own"), written(full))
    found = correlation_matrix((*PATHS, "training.common.other"), facts)
    assert found[:4, :4] == pytest.approx(full, abs=0.02)
    assert np.linalg.eigvalsh(found)[0] > 0.0
    assert np.diag(found) == pytest.approx(1.0)
    assert not found[4, :4].any()
