"""What a run says of its answer: where the first infinity or NaN was made, and how far it is from a reference; and
functions that launch a kernel on a grid."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich
import mowich.nki as nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich import cli
from mowich.errors import EXIT_CHECK_FAILED, UserError
from mowich.neuroncore.core import NkiValidationError

X = np.linspace(-2, 2, 128 * 8, dtype=np.float32).reshape(128, 8)
FINITE = "an output has infinities or NaN, and no argument has: "


def stored(t: Any) -> Any:
    out = nl.ndarray(t.shape, dtype=t.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=t)
    return out


def forgotten(x: Any) -> Any:
    """A sum without reduce_cmd: nothing reaches its registers."""
    t, total = nl.load(x), nl.ndarray((128, 1), nl.float32, nl.sbuf)
    nisa.activation(dst=t, op=nl.exp, data=t, reduce_op=nl.add, reduce_res=total)
    return stored(nl.log(total))


def root(x: Any) -> Any:
    root = nl.sqrt(nl.load(x))
    return stored(nl.multiply(root, 2.0))


def overflown(x: Any) -> Any:
    large = nl.exp(nl.multiply(nl.load(x), 1000.0))
    small = nl.subtract(large, large)
    return stored(small)


def masked(x: Any) -> Any:
    """An infinity on the way of which the output has none."""
    t = nl.load(x)
    nisa.memset(dst=t[:, 0:2], value=float("-inf"))
    return stored(nl.exp(t))


def across(x: Any) -> Any:
    """Two programs: the second one makes the NaN."""
    i = nl.program_id(0)
    t = nl.load(x[64 * i : 64 * i + 64])
    made = nl.rsqrt(t) if i == 0 else nl.sqrt(nl.multiply(t, -1.0))
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out[64 * i : 64 * i + 64], src=made)
    return out


def line_of(kernel: Callable[..., Any], offset: int) -> str:
    return f"{__file__}:{kernel.__code__.co_firstlineno + offset}: "


@pytest.mark.parametrize(
    ("kernel", "offset", "said"),
    [
        (forgotten, 4, ["activation writes -inf to its dst at [0, 0]", "from data 0"]),
        (root, 1, ["activation writes NaN to its dst at [0, 0]", "from data -2"]),
        (overflown, 2, ["tensor_tensor writes NaN to its dst", "its data1 has an infinity: activation writes inf to"]),
    ],
)
def test_the_first_value_that_is_not_finite_names_its_instruction(
    kernel: Callable[..., Any], offset: int, said: list[str]
) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = nki.run_kernel(kernel, X)
    assert not isinstance(result, list)
    assert all(w.category is UserWarning for w in seen)  # none of NumPy's
    [line] = result.warnings
    assert line.startswith(line_of(kernel, offset) + FINITE)
    assert all(words in line for words in said), line
    with pytest.raises(NkiValidationError) as error:
        nki.run_kernel(kernel, X, strict=True)
    assert str(error.value) == line


def test_nothing_is_said_where_it_is_no_defect() -> None:
    """Of outputs that are finite, and of arguments that are not."""
    assert nki.run_kernel(masked, X).warnings == []  # type: ignore[union-attr]
    given = X.copy()
    given[0, 0] = np.nan
    assert nki.run_kernel(root, np.abs(given)).warnings == []  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_that_looks_for_it_leaves_the_arguments_and_its_own_prints_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def kernel(x: Any) -> Any:
        print("once")
        nl.device_print("too", 1)
        nisa.dma_copy(dst=x, src=nl.sqrt(nl.add(nl.load(x), 1.0)))
        return x

    given = X.copy()
    result = nki.run_kernel(kernel, given)
    assert capsys.readouterr().out == "once\ntoo 1\n"
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(given, np.sqrt(X + 1), rtol=1e-6)
    assert np.array_equal(result.outputs[0], given, equal_nan=True)  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_of_two_programs_the_one_that_made_it_is_named() -> None:
    result = nki.run_kernel(nki.jit(across)[2], np.abs(X) + 1)
    [line] = result.warnings  # type: ignore[union-attr]
    assert line.startswith(line_of(across, 4) + FINITE)


# a reference
# ----------------------------------------------------------------------------------------------------------------


def doubled(x: Any) -> Any:
    t = nl.load(x)
    nisa.tensor_scalar(dst=t, data=t, op0=nl.multiply, operand0=2.0)
    return stored(t)


@pytest.mark.parametrize("seed", range(8))
def test_a_difference_above_the_tolerance_fails_and_is_found(seed: int) -> None:
    """Drawn places and sizes: the farthest element is named, and its share is the tolerance from which on it passes."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((128, 8), dtype=np.float32)
    place, by = (int(rng.integers(128)), int(rng.integers(8))), float(rng.uniform(0.01, 3))

    def reference(a: Any) -> Any:
        found = 2 * a
        found[place] += by
        return found

    want = reference(x.copy()).astype(np.float64)
    share = by / (abs(want[place]) + np.sqrt(np.mean(want**2)))
    mowich.run_kernel(doubled, x, reference=reference, tolerance=share * 1.01)
    for tolerance in (None, share * 0.99):
        with pytest.raises(UserError) as error:
            mowich.run_kernel(doubled, x, reference=reference, tolerance=tolerance)
        assert error.value.code == EXIT_CHECK_FAILED
        text = str(error.value)
        assert f"at {list(place)}" in text
        assert f"the largest difference is {by:.3g}" in text
        assert f"allowed: at most {1e-4 if tolerance is None else tolerance:g}" in text
        assert "tolerance=" in text


def test_a_number_and_none_differ_without_bound() -> None:
    for wrong in (np.nan, np.inf):
        with pytest.raises(UserError, match="of the element and the root mean square"):
            mowich.run_kernel(doubled, X, reference=lambda a, w=wrong: np.full_like(a, w), tolerance=1e9)
    mowich.run_kernel(masked, X, reference=lambda a: np.exp(np.where(np.arange(8) < 2, -np.inf, a)))


def test_the_tolerance_follows_the_narrowest_format() -> None:
    half = X.astype(np.float16)
    mowich.run_kernel(doubled, half, reference=lambda a: 2 * a.astype(np.float32) * 1.01)
    with pytest.raises(UserError):
        mowich.run_kernel(doubled, X, reference=lambda a: 2 * a * 1.01)


FILE = """
import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def copied(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=x)
    return out


@nki.jit
def other(x):
    return copied(x)


@nki.jit
def halves(x):
    i, n = nl.program_id(0), x.shape[0] // 2
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out[i * n : i * n + n], src=x[i * n : i * n + n])
    return out


def wrapper(x):
    return halves[2](x)


def reference(x):
    return x + 0.5


def reference_other(x):
    return x
"""


def test_a_difference_ends_the_command_with_five(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.py"
    file.write_text(FILE)
    ask = ["kernel", "run", str(file), "-k", "copied", "x=float32[4,4]"]
    assert cli.run([*ask, "--json"]) == EXIT_CHECK_FAILED
    out, err = capsys.readouterr()
    found = json.loads(out)["reference"]
    assert (found["is_close"], found["tolerance"], round(found["largest_difference"], 6)) == (False, 1e-4, 0.5)
    assert err.startswith(f"error: {file}: output 0 is not that of reference(): at {found['place']} it has ")
    assert "--tolerance " in err
    stated = err.rpartition("--tolerance ")[2].split()[0]
    assert cli.run([*ask, "--tolerance", stated]) == 0
    assert f"tolerance {stated}" in capsys.readouterr().err
    assert cli.run(["kernel", "run", str(file), "-k", "other", "x=float32[4,4]"]) == 0  # it has a reference of its own


# functions that launch
# ----------------------------------------------------------------------------------------------------------------


@nki.jit
def halves(x: Any) -> Any:
    i, n = nl.program_id(0), x.shape[0] // 2
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out[i * n : i * n + n], src=x[i * n : i * n + n])
    return out


@pytest.mark.parametrize("wrapper", [lambda x: halves[2](x), lambda x: (halves[2](x[0:64]),), lambda x: halves[2,](x)])
@pytest.mark.parametrize("values", [True, False])
def test_a_function_that_launches_a_grid_is_launched(wrapper: Callable[..., Any], values: bool) -> None:
    result = nki.run_kernel(wrapper, X, values=values, target="trn2")
    assert not isinstance(result, list)
    assert (len(result.cores), result.cores[0].generation) == (2, 3)
    assert result.time_s.value
    if values:
        assert np.array_equal(result.outputs[0], X[: len(result.outputs[0])])


def adds_on_the_host(x: Any) -> Any:
    return halves[2](x) + 1


def makes_its_input(x: Any) -> Any:
    return halves[2](np.asarray(X * 2))


def launches_twice(x: Any) -> Any:
    halves[2](x)
    return halves[2](x)


@nki.jit
def nests(x: Any) -> Any:
    return halves[2](x)


def works_first(x: Any) -> Any:
    nl.load(x)
    return halves[2](x)


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (adds_on_the_host, "returns what its kernel did not"),
        (makes_its_input, "gives its kernel an array that it made itself"),
        (launches_twice, "launches 2 kernels"),
        (nests, "halves[2] is called inside a kernel, which runs on 1 program; give the grid to the outer kernel"),
        (works_first, "halves[2] is called inside a kernel"),
    ],
)
def test_one_that_does_more_is_refused_with_the_fix(kernel: Callable[..., Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        nki.run_kernel(kernel, X)
    assert said in str(error.value)


def test_the_command_line_launches_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.py"
    file.write_text(FILE.replace("x + 0.5", "x"))
    assert cli.run(["kernel", "run", str(file), "-k", "wrapper", "x=float32[4,4]", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cores"], found["reference"]["is_close"]) == (2, True)
    assert cli.run(["kernel", "profile", str(file), "-k", "wrapper", "x=float32[4,4]", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cores"] == 2
