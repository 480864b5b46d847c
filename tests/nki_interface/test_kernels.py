"""Every kernel in kernels/ against its NumPy reference, as a script and called, on Trainium 1, 2 and 3."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
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


BF16 = ml_dtypes.bfloat16
FP8 = ml_dtypes.float8_e4m3
EVERY = ("trn1", "trn2", "trn3")
CASES: list[tuple[str, str, dict[str, Any], float, tuple[str, ...]]] = [
    ("matmul", "matmul", {"K": 128, "M": 128, "N": 512}, 1e-2, EVERY),
    ("matmul", "matmul", {"K": 64, "M": 1, "N": 130}, 1e-2, EVERY),
    ("matmul", "matmul", {"K": 384, "M": 640, "N": 700, "dtype": np.float32}, 1e-4, EVERY),
    ("matmul", "matmul", {"K": 512, "M": 130, "N": 1030, "dtype": FP8}, 5e-2, ("trn2", "trn3")),
    ("matmul", "grouped_matmul", {"K": 256, "M": 40, "N": 600, "E": 3}, 1e-2, EVERY),
    ("matmul_mx", "matmul_mx", {"K": 1024, "M": 150, "N": 700}, 1e-1, ("trn3",)),
    ("matmul_mx", "matmul_mx", {"K": 128, "M": 8, "N": 64}, 1e-1, ("trn3",)),
    ("matmul_mx", "grouped_matmul_mx", {"K": 512, "M": 8, "N": 64, "E": 3}, 1e-1, ("trn3",)),
    ("swiglu_mlp", "swiglu_mlp", {"T": 100, "H": 512, "F": 768}, 2e-2, EVERY),
    ("swiglu_mlp", "swiglu_mlp", {"T": 600, "H": 256, "F": 1280, "dtype": np.float32}, 1e-4, EVERY),
    ("attention_prefill", "attention_prefill", {"H": 2, "G": 1, "d": 64, "Q": 256, "S": 1408}, 2e-2, EVERY),
    ("attention_prefill", "attention_prefill", {"H": 4, "G": 2, "Q": 640, "S": 640, "dtype": np.float32}, 1e-4, EVERY),
    ("attention_decode", "attention_decode", {"N": 5, "R": 8, "d": 32, "S": 2304}, 2e-2, EVERY),
    ("attention_decode", "attention_decode", {"N": 3, "R": 40, "d": 128, "S": 256}, 2e-2, EVERY),
    ("rmsnorm", "rmsnorm", {"T": 1, "H": 100}, 1e-5, EVERY),
    ("rmsnorm", "rmsnorm", {"T": 7, "H": 1024}, 1e-5, EVERY),
    ("rmsnorm", "rmsnorm", {"T": 300, "H": 1024, "dtype": BF16}, 4e-2, EVERY),
    ("softmax", "softmax", {"R": 5, "C": 3}, 1e-5, EVERY),
    ("softmax", "softmax", {"R": 300, "C": 2048}, 1e-5, EVERY),
    ("softmax_slow", "softmax", {"R": 70, "C": 300}, 1e-5, EVERY),
    ("route", "route", {"T": 20, "E": 128, "k": 8}, 1e-5, EVERY),
    ("route", "route", {"T": 150, "E": 32, "k": 4}, 1e-5, EVERY),
    ("route", "largest", {"T": 300, "E": 1000, "k": 0}, 1e-6, EVERY),
    ("rotate", "rotate", {"R": 150, "d": 64}, 1e-5, EVERY),
    ("rotate", "rotate", {"R": 10, "d": 128, "norm": True, "dtype": BF16}, 4e-2, EVERY),
    ("add", "add", {"R": 1024, "C": 1100, "dtype": BF16}, 1e-6, EVERY),
    ("add", "add", {"R": 5, "C": 3}, 1e-6, EVERY),
    ("quantise", "quantise_fp8", {"R": 200, "C": 300}, 1e-2, EVERY),
    ("quantise", "quantise_mx", {"R": 256, "C": 600, "mx": True}, 0.0, ("trn3",)),
    ("adamw", "adamw", {"N": 128 * 3000}, 1e-2, EVERY),
]


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("file", "kernel", "sizes", "tolerance", "targets"), CASES, ids=lambda x: x if isinstance(x, str) else ""
)
def test_values(file: str, kernel: str, sizes: dict[str, Any], tolerance: float, targets: tuple[str, ...]) -> None:
    """On one core and on the two of a logical core, each generation that has the instructions."""
    made = names(f"{file}.py")
    given = made["inputs"](seed=1, **sizes)
    want = made["reference"](**given)
    for target, lnc in [(t, lnc) for t in targets for lnc in (1, 2) if (t, lnc) != ("trn1", 2)]:
        result = mowich.run_kernel(made[kernel], target=target, lnc=lnc, **given)
        assert not isinstance(result, list)
        assert result.warnings == []
        assert result.cores[0].generation == {"trn1": 2, "trn2": 3, "trn3": 4}[target]
        for got, wanted in zip(result.outputs, want if isinstance(want, tuple) else (want,), strict=True):
            close(*(words_as_bytes(a) for a in (got, wanted)), tolerance)


def words_as_bytes(a: Any) -> Any:
    """Packed elements as their bytes, for comparison to the bit."""
    return a.view(np.uint8) if a.dtype.names else a


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
