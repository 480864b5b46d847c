"""Every kernel in kernels/ against its NumPy reference, as a script and called, on Trainium 2 and 3."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich
import mowich.nki
from mowich.nki import Kernel, simulate_ranks

FOLDER = Path(__file__).resolve().parents[2] / "kernels"
FILES = sorted(FOLDER.glob("*.py"))


def names(file: str) -> Mapping[str, Any]:
    with mowich.nki.installed():
        return runpy.run_path(str(FOLDER / file))


def close(got: Any, want: Any, tolerance: float) -> None:
    np.testing.assert_allclose(
        np.asarray(got, np.float32), np.asarray(want, np.float32), rtol=tolerance, atol=tolerance
    )


def test_there_are_kernels() -> None:
    assert len(FILES) >= 5


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_runs_as_a_script_and_says_what_it_is(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [str(file)])
    with mowich.nki.installed():
        made = runpy.run_path(str(file), run_name="__main__")
    assert capsys.readouterr().out.strip()
    assert callable(made["reference"])
    assert callable(made["inputs"])
    assert any(isinstance(v, Kernel) for v in made.values())
    assert made["__doc__"]


@pytest.mark.parametrize("target", ["trn2", "trn3"])
@pytest.mark.parametrize(
    ("file", "kernel", "sizes", "tolerance"),
    [
        ("matmul.py", "matmul", {"K": 128, "M": 128, "N": 512}, 1e-2),
        ("matmul.py", "matmul", {"K": 384, "M": 256, "N": 512, "dtype": np.float32}, 1e-4),
        ("rmsnorm.py", "rmsnorm", {"T": 1, "H": 100}, 1e-5),
        ("rmsnorm.py", "rmsnorm", {"T": 129, "H": 1024}, 1e-5),
        ("softmax.py", "softmax", {"R": 5, "C": 3}, 1e-5),
        ("softmax.py", "softmax", {"R": 256, "C": 2048}, 1e-5),
    ],
)
def test_value_on_one_core(file: str, kernel: str, sizes: dict[str, Any], tolerance: float, target: str) -> None:
    made = names(file)
    given = made["inputs"](seed=1, **sizes)
    result = mowich.run_kernel(made[kernel], target=target, **given)
    assert not isinstance(result, list)
    close(result.outputs[0], made["reference"](**given), tolerance)
    assert result.warnings == []
    assert result.cores[0].generation == {"trn2": 3, "trn3": 4}[target]


@pytest.mark.parametrize("target", ["trn2", "trn3"])
def test_value_on_two_cores(target: str) -> None:
    made = names("column_sums_lnc2.py")
    given = made["inputs"](seed=2, R=512, C=64)
    result = mowich.run_kernel(made["column_sums"], target=target, lnc=2, **given)
    assert not isinstance(result, list)
    close(result.outputs[0], made["reference"](**given), 1e-4)
    assert len(result.cores) == 2


@pytest.mark.parametrize("ranks", [2, 8])
def test_value_on_ranks(ranks: int) -> None:
    made = names("all_reduce_ranks.py")
    given = made["inputs"](seed=3, ranks=ranks, K=16, M=8, N=32)
    for got in simulate_ranks(made["row_parallel_linear"], given):
        close(got, made["reference"](given), 1e-4)


def test_run_kernel_gives_a_result_for_each_rank() -> None:
    made = names("all_reduce_ranks.py")
    one = made["inputs"](ranks=1, K=16, M=8, N=32)[0] | {"num_ranks": 3}
    results = mowich.run_kernel(made["row_parallel_linear"], ranks=3, **one)
    assert isinstance(results, list)
    assert len(results) == 3
    for result in results:
        close(result.outputs[0], 3 * made["reference"]([one]), 1e-4)


def test_without_values_the_same_instructions_are_checked() -> None:
    made = names("softmax.py")
    given = made["inputs"](R=128, C=64)
    timed, full = (mowich.run_kernel(made["softmax"], values=v, **given) for v in (False, True))
    assert not isinstance(timed, list)
    assert not isinstance(full, list)
    assert timed.instructions == full.instructions
    traces = [r.cores[0].trace for r in (timed, full)]
    assert traces[0] is not None
    assert traces[1] is not None
    assert [r.name for r in traces[0].records] == [r.name for r in traces[1].records]


def test_a_kernel_of_two_cores_says_so_on_one() -> None:
    made = names("column_sums_lnc2.py")
    with pytest.raises(AssertionError, match="launch on two cores"):
        made["column_sums"](**made["inputs"]())
