"""AccelOpt's profile of a kernel (`accelopt.kernel_wrapper.NKIKernel`), on simulated NeuronCores.

A task of AccelOpt is a file with `get_inputs`, `forward`, `transform_to_nki_inputs` and `transform_nki_outputs`; a
candidate is a file with `kernel` or `optimized_kernel`. A candidate is right where each output is within a share of the
norm of the reference's, on five draws. Its latency is predicted, with descriptors made before the launch, as AccelOpt
compiles.
"""

from __future__ import annotations

import re
import runpy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field

from mowich.arrays import Array
from mowich.errors import UserError
from mowich.gym.adapters.harness import CalledKernel, HarnessLimits, KernelRefusedError, in_harness, target_asked
from mowich.studies.judge.candidate import JudgeRun, KernelCandidate

_SEEDS = (0, 21, 42, 63, 84)
_KERNELS = ("kernel", "optimized_kernel")


class AcceloptProperties(BaseModel):
    """What AccelOpt knows of a run: compiled, runnable, correct; metadata: latency in milliseconds, and why not."""

    compiled: bool = False
    correct: bool = False
    runnable: bool = False
    metadata: dict[str, object] = Field(default_factory=dict)


class AcceloptKernel:
    """A candidate and its task, as AccelOpt's `NKIKernel`.

    Args:
        program_path: a file with `kernel` or `optimized_kernel`.
        base_numpy_path: the task's file.

    Units: milliseconds in `res.metadata`, as AccelOpt has them.

    Example:
        >>> from mowich.gym.adapters import AcceloptKernel
        >>> AcceloptKernel("kernel.py", "task.py").profile(["hbm_read_bytes"]).correct  # doctest: +SKIP
        True
    """

    target = "trn1"
    """Where NEURON_PLATFORM_TARGET_OVERRIDE names no other: AccelOpt's own machines."""
    limits = HarnessLimits()

    def __init__(self, program_path: str, base_numpy_path: str) -> None:
        self.program_path, self.base_numpy_path = program_path, base_numpy_path
        self.res = AcceloptProperties()
        self.rel_tol, self.perf_tol = 2e-5, 0.01

    def profile(self, save_fields: Sequence[str] = ()) -> AcceloptProperties:
        """Values on five draws, then the latency. save_fields: of Neuron's profile, by its names, for `res.metadata`;
        those that a simulation does not have are left out, as fields are that a profile does not have."""
        text = Path(self.program_path).read_text(encoding="utf-8")
        name = next((n for n in _KERNELS if re.search(rf"^def {n}\b", text, re.MULTILINE)), None)
        self.res = AcceloptProperties()
        try:
            if name is None:
                raise UserError("no kernel in it", where=self.program_path, allowed=" or ".join(_KERNELS))
            self.res = in_harness(
                partial(_profiled, self.base_numpy_path, text, self.rel_tol, tuple(save_fields)),
                KernelCandidate(name=Path(self.program_path).name, text=text, kernel=name),
                JudgeRun(target=target_asked(self.target), lnc=1, disable_dge=True, summary=True),
                self.limits,
            )
        except UserError as error:
            self.res.metadata |= {"compilation_error": error.line(), "compilation_traceback": error.line()}
        return self.res


def _profiled(
    task_path: str, text: str, rel_tol: float, save_fields: Sequence[str], kernel: CalledKernel
) -> AcceloptProperties:
    """What AccelOpt does with a kernel, in the process of its task."""
    task, res = runpy.run_path(task_path, run_name="module"), AcceloptProperties()
    if "transform_to_nki_inputs" not in task:
        raise UserError("no transform_to_nki_inputs in it", where=task_path)
    for seed in _SEEDS:
        np.random.seed(seed)
        given = task["get_inputs"]()
        try:
            raw = kernel(*task["transform_to_nki_inputs"](given))
        except KernelRefusedError as error:
            res.metadata |= {"compilation_error": str(error), "compilation_traceback": str(error)}
            return res
        res.compiled = res.runnable = True
        wanted = task["forward"](*given)
        problems = _differences(task["transform_nki_outputs"](raw, wanted), wanted, rel_tol)
        if "float16" in re.sub(r"#.*", "", text):  # AccelOpt compares float32 alone
            problems = ["Float16 is used in the program."]
        res.correct = not problems
        if problems:
            res.metadata["correctness_error"] = problems
            return res
    assert kernel.last is not None
    time_s: Mapping[str, float] = kernel.last["time_s"]
    if time_s["value"] is None:
        res.metadata["benchmarking_error"] = str(time_s.get("reason"))
        return res
    mean_ms = time_s["value"] * 1e3
    res.metadata |= {"latency": mean_ms, "min_ms": mean_ms, "max_ms": mean_ms, "rel_diffs": 0.0}
    res.metadata |= {"latency_low_ms": time_s["low"] * 1e3, "latency_high_ms": time_s["high"] * 1e3}
    res.metadata |= {key: kernel.last["summary"][key] for key in save_fields if key in kernel.last["summary"]}
    return res


def _differences(got: Sequence[Array], wanted: Array | tuple[Array, ...], rel_tol: float) -> list[str]:
    """Where outputs are not within a share of the reference's norm."""
    references = wanted if isinstance(wanted, tuple) else (wanted,)
    if len(got) != len(references):
        return [f"Num outputs mismatch: nki={len(got)} vs ref={len(references)}"]
    out = []
    for i, (mine, theirs) in enumerate(zip(got, references, strict=True)):
        a, b = (np.asarray(x, np.float64) for x in (mine, theirs))
        if a.shape != b.shape:
            out.append(f"Output {i} shape mismatch, expected {b.shape}, got {a.shape}")
            continue
        share = np.linalg.norm(a - b) / np.linalg.norm(b)
        if not share < rel_tol:
            out.append(f"Output {i} value mismatch, l2norm rel diff {share:.6g}, max diff {np.abs(a - b).max():.6g}")
    return out
