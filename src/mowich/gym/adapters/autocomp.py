"""autocomp's evaluation on Trainium (`autocomp.backend.trn.trn_eval.TrnEvalBackend`), on simulated NeuronCores.

A problem of autocomp is a harness: a file with `test_nki(reference, solution)`, in which a candidate takes the place of
the line "# SUBSTITUTE HERE". The harness runs as it stands, with a function in the place of the solution that runs the
candidate in a closed process.
"""

from __future__ import annotations

import ast
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypedDict

from mowich.errors import UserError
from mowich.gym.adapters.harness import CalledKernel, HarnessLimits, KernelRefusedError, in_harness, target_asked
from mowich.studies.judge.candidate import JudgeRun, KernelCandidate
from mowich.studies.judge.names import ALLOWED
from mowich.units import show

_MARK = "# SUBSTITUTE HERE"
_SOLUTION = "solution"


class AutocompProblem(Protocol):
    """What of autocomp's `Prob` is looked at."""

    prob_type: str
    prob_id: int
    test_file: Path | None


class AutocompResult(TypedDict):
    """What autocomp reads of a candidate. latency: milliseconds; feedback: what binds it."""

    correct: bool
    latency: float | None
    stdout: str
    stderr: str
    feedback: list[str]


class AutocompBackend:
    """An evaluator with the methods of autocomp's `TrnEvalBackend`.

    Args:
        parallel: taken and without effect.

    Units: milliseconds, as autocomp has them.

    Example:
        >>> from mowich.gym.adapters import AutocompBackend
        >>> AutocompBackend().evaluate_code(problem, [text], "trn")[0]["latency"]  # doctest: +SKIP
        0.0131
    """

    target = "trn2"
    """Where NEURON_PLATFORM_TARGET_OVERRIDE names no other."""
    limits = HarnessLimits()

    def __init__(self, parallel: bool = True) -> None:
        self.parallel = parallel

    def evaluate_code(
        self, prob: AutocompProblem, code_strs: Sequence[str], simulator: str = ""
    ) -> list[AutocompResult]:
        """For each candidate: correct, latency (ms, None where it has none), stdout, stderr."""
        file = _harness_of(prob)
        test = file.read_text(encoding="utf-8")
        return [self._evaluated(file, test, code, i) for i, code in enumerate(code_strs)]

    def get_hw_feedback(self, prob: AutocompProblem, code_strs: Sequence[str]) -> list[list[str]]:
        """What binds each candidate; nothing for one that is not right."""
        return [found["feedback"] for found in self.evaluate_code(prob, code_strs)]

    def get_backend_specific_rules(self) -> list[str]:
        """Rules for who writes candidates."""
        return [
            f"A candidate imports {', '.join(ALLOWED[:4])} and the like; it opens no file and starts no process.",
            "Its outputs are made by instructions alone.",
        ]

    def _evaluated(self, file: Path, test: str, code: str, place: int) -> AutocompResult:
        candidate = KernelCandidate(name=f"code_{place}.py", text=f"{_imports_of(test)}\n{code}", kernel=_SOLUTION)
        how = JudgeRun(target=target_asked(self.target))
        try:
            return in_harness(partial(_tested, str(file), test, how.target), candidate, how, self.limits)
        except UserError as error:
            return _failed(error.line())


def _harness_of(prob: AutocompProblem) -> Path:
    """The harness of a problem: its own file, or that of autocomp's folder."""
    if prob.test_file:
        return Path(prob.test_file)
    from autocomp.common import HARNESSES_DIR  # type: ignore[import-not-found]

    found = sorted((Path(HARNESSES_DIR) / prob.prob_type).glob(f"{prob.prob_id}_*.py"))
    if not found:
        raise FileNotFoundError(f"no harness of {prob.prob_type} {prob.prob_id} in {HARNESSES_DIR}")
    return found[0]


def _imports_of(test: str) -> str:
    """The imports of a harness that a candidate may have; candidates of autocomp bring none."""
    nodes = [n for n in ast.parse(test).body if isinstance(n, ast.Import | ast.ImportFrom)]
    named = {n: n.module or "" if isinstance(n, ast.ImportFrom) else n.names[0].name for n in nodes}
    return "\n".join(ast.unparse(n) for n, name in named.items() if name.partition(".")[0] in ALLOWED)


def _reference_of(test: str) -> str:
    """The name of the reference: what the harness gives `test_nki` beside the solution."""
    calls = [n for n in ast.walk(ast.parse(test)) if isinstance(n, ast.Call) and len(n.args) > 1]
    named = (n.args[0].id for n in calls if getattr(n.func, "id", "") == "test_nki" and isinstance(n.args[0], ast.Name))
    return next(named, "ref")


def _failed(stderr: str = "", stdout: str = "") -> AutocompResult:
    """A candidate that is not right."""
    return {"correct": False, "latency": None, "stdout": stdout, "stderr": stderr, "feedback": []}


def _tested(file: str, test: str, target: str, kernel: CalledKernel) -> AutocompResult:
    """What a harness says of a candidate, in its process."""
    from mowich.studies.kernel_files import as_scripts_expect

    names: dict[str, object] = {"__name__": "harness", "__file__": file}
    with as_scripts_expect(file, (), target, None, quiet=True, for_programs=True):
        exec(compile(test.replace(_MARK, ""), file, "exec"), names)
        names[_SOLUTION] = kernel
        run = names.get("test_nki")
        if not callable(run):
            raise UserError("no function test_nki in it", where=file)
        try:
            is_right = bool(run(names[_reference_of(test)], kernel))
        except KernelRefusedError as error:
            return _failed(str(error))
        except Exception:
            return _failed(traceback.format_exc())
    if not is_right:
        return _failed(stdout="Test failed\n")
    assert kernel.last is not None
    time_s = kernel.last["time_s"]
    if time_s["value"] is None:
        return {**_failed(str(time_s.get("reason")), "Test passed\n"), "correct": True}
    latency_ms = time_s["value"] * 1e3
    said = f"Test passed\nLatency: {latency_ms:.6f} ms ({time_s['low'] * 1e3:.6f} to {time_s['high'] * 1e3:.6f})\n"
    binds = f"the {kernel.last['binds']} engine works longest; {show(kernel.last['hbm_B'], 'B')} go to and from HBM"
    return {"correct": True, "latency": latency_ms, "stdout": said, "stderr": "", "feedback": [binds]}
