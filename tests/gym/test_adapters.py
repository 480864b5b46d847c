"""AccelOpt and autocomp ask Mowich in the place of a device, with a fixed list of candidates and no model."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mowich.errors import UserError
from mowich.gym.adapters import AcceloptKernel, adapters_installed
from mowich.gym.adapters.harness import KernelRefusedError, in_harness, named_arguments
from mowich.studies.judge.candidate import JudgeRun, KernelCandidate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="candidates run in copies of a process")

CHECKOUT = Path(os.environ.get("MOWICH_ACCELOPT") or "accelopt")
"""A checkout of AccelOpt."""

TASK = """
import numpy as np


def get_inputs():
    return [np.random.normal(size=(256, 512)).astype(np.float32), 2.0]


def forward(x, scale):
    return x * x * scale


def transform_to_nki_inputs(inputs):
    return [inputs[0].reshape(2, 128, 512), inputs[1]]


def transform_nki_outputs(k_res, ref):
    return [np.reshape(k_res, ref.shape)]
"""
HEAD = """
import numpy as np
import neuronxcc.nki as nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
"""
KERNEL = """

@nki.jit
def kernel(x, scale):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for i in nl.affine_range(x.shape[0]):
        tile = nl.load(x[i])
        nl.store(out[i], nl.multiply(nl.multiply(tile, tile), scale))
    return out
"""
LINE = "        nl.store(out[i], nl.multiply(nl.multiply(tile, tile), scale))\n"
CANDIDATES = {
    "right": KERNEL,
    "slower": KERNEL.replace(LINE, 3 * "        tile = nl.multiply(tile, 1.0)\n" + LINE),
    "wrong": KERNEL.replace("nl.multiply(tile, tile)", "tile"),
    "reads": KERNEL.replace("    out = ", "    open('/etc/hostname')\n    out = "),
    "none": "x = 1\n",
}
HARNESS = (
    HEAD
    + """
# SUBSTITUTE HERE


@nki.jit
def square(x, scale):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for i in nl.affine_range(x.shape[0]):
        tile = nl.load(x[i])
        nl.store(out[i], nl.multiply(nl.multiply(tile, tile), scale))
    return out


def test_nki(ref_func, test_func):
    for _ in range(2):
        x = np.random.rand(2, 128, 512).astype(np.float32)
        if not np.allclose(test_func(x, scale=2.0), ref_func(x, 2.0), atol=1e-4, rtol=1e-2):
            return False
    return True


if __name__ == "__main__":
    assert test_nki(square, solution)
"""
)


def test_accelopt_profiles_a_list_of_candidates(tmp_path: Path) -> None:
    """As AccelOpt's own scripts call it: the class, a file, a task, the fields to keep."""
    (tmp_path / "task.py").write_text(TASK)
    found = {}
    with adapters_installed():
        wrapper = importlib.import_module("accelopt.kernel_wrapper")
        for name, text in CANDIDATES.items():
            file = tmp_path / f"{name}.py"
            file.write_text(HEAD + text)
            nki_kernel = wrapper.NKIKernel(str(file), str(tmp_path / "task.py"))
            nki_kernel.rel_tol = 2e-5
            nki_kernel.profile(["hbm_read_bytes", "vector_engine_active_time_percent", "no_such_field"])
            found[name] = nki_kernel.res
    assert "accelopt.kernel_wrapper" not in sys.modules
    right, slower, wrong, reads, none = (found[name] for name in CANDIDATES)
    assert (right.compiled, right.runnable, right.correct) == (True, True, True), right
    assert 0 < right.metadata["min_ms"] <= right.metadata["latency"] < slower.metadata["latency"] < 1.0
    assert right.metadata["hbm_read_bytes"] == 256 * 512 * 4
    assert "no_such_field" not in right.metadata
    assert json.loads(json.dumps(right.metadata)) == right.metadata  # AccelOpt keeps it as JSON
    assert (wrong.compiled, wrong.correct, "latency" in wrong.metadata) == (True, False, False)
    assert "value mismatch" in wrong.metadata["correctness_error"][0]
    assert (reads.compiled, reads.correct) == (False, False)
    assert "open" in reads.metadata["compilation_error"]
    assert "no kernel in it" in none.metadata["compilation_error"]


def test_autocomp_evaluates_a_list_of_candidates(tmp_path: Path) -> None:
    """As autocomp's search calls it: a problem, texts without imports, and a dict for each."""
    (tmp_path / "0_square_test.py").write_text(HARNESS)
    with adapters_installed():
        backend = importlib.import_module("autocomp.backend.trn.trn_eval").TrnEvalBackend()
        texts = [text.replace("def kernel", "def solution") for text in CANDIDATES.values()]
        problem = SimpleNamespace(prob_type="square", prob_id=0, test_file=tmp_path / "0_square_test.py")
        right, slower, wrong, reads, none = backend.evaluate_code(problem, texts, "trn")
    assert [r["correct"] for r in (right, slower, wrong, reads, none)] == [True, True, False, False, False]
    assert 0 < right["latency"] < slower["latency"] < 1.0
    assert right["stdout"].startswith("Test passed\nLatency: ")
    assert "works longest" in right["feedback"][0]
    assert (wrong["stdout"], wrong["latency"]) == ("Test failed\n", None)
    assert "open" in reads["stderr"]
    assert "no function solution" in none["stderr"]


def test_a_harness_that_fails_and_a_kernel_that_is_refused_are_lines() -> None:
    candidate, how = KernelCandidate(name="c.py", text=HEAD + KERNEL, kernel="kernel"), JudgeRun(target="trn2")
    with pytest.raises(UserError, match="ZeroDivisionError: division by zero"):
        in_harness(lambda kernel: 1 / 0, candidate, how, AcceloptKernel.limits)
    with pytest.raises(UserError, match="process of the harness has ended"):
        in_harness(lambda kernel: os._exit(0), candidate, how, AcceloptKernel.limits)

    def too_many(kernel: object) -> str:
        try:
            kernel(*[np.zeros(2)] * 3)  # type: ignore[operator]
        except KernelRefusedError as error:
            return str(error)
        return ""

    assert "takes fewer arguments" in in_harness(too_many, candidate, how, AcceloptKernel.limits)
    assert named_arguments(candidate, [1, 2]) == {"x": 1, "scale": 2}


def test_a_script_of_theirs_runs_unmodified(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "right.py").write_text(HEAD + KERNEL)
    (tmp_path / "script.py").write_text(
        "import sys\nfrom accelopt.kernel_wrapper import NKIKernel\n"
        "print(NKIKernel(sys.argv[1], sys.argv[2]).profile([]).correct)\n"
    )
    (tmp_path / "accelopt").mkdir()
    (tmp_path / "accelopt" / "__init__.py").touch()
    words = [sys.executable, "-m", "mowich.gym.adapters", "script.py", "right.py", "task.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not (CHECKOUT / "NKIBench").is_dir(), reason="MOWICH_ACCELOPT names no checkout of AccelOpt")
@pytest.mark.parametrize("name", ["silu_M4096_N7168", "rmsnorm_matmul_M4096_N2048_K1024"])
def test_accelopt_profiles_its_own_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its package, task and kernel as they are."""
    monkeypatch.syspath_prepend(str(CHECKOUT))
    bench = CHECKOUT / "NKIBench"
    [task] = bench.glob(f"reference/{name}_numpy_*.py")
    with adapters_installed():
        from accelopt.kernel_wrapper import NKIKernel  # type: ignore[import-not-found]

        res = NKIKernel(str(bench / "kernels" / f"{name}_0.py"), str(task)).profile(["hbm_read_bytes"])
    assert res.correct, res
    assert res.metadata["latency"] > 0


@pytest.mark.parametrize("words", [("-c", "import mowich.gym.adapters"), ("-m", "mowich.gym.adapters", "script.py")])
def test_without_pydantic_one_line_names_the_extra(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['pydantic'] = None\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "mowich.gym.adapters needs the extra [web] (pydantic is not installed): pip install 'mowich[web]'" in last
