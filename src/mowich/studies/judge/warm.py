"""What the process of a candidate needs, loaded before it is copied: code, facts of the target, faces of modules. What
is loaded here is loaded once, not once a candidate."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import numpy.ma

from mowich.examples import file_or_example
from mowich.studies.judge.candidate import JudgeRun, KernelCandidate, run_candidate

_EXAMPLES = {"softmax": {"x": (128, 64)}, "matmul": {"lhsT": (128, 128), "rhs": (128, 512)}}
"""Kernels of ours that touch what most kernels need, and the shapes that they are run on."""


def warm_for(how: JudgeRun) -> None:
    """Run kernels of ours, in this process, as candidates are run in theirs."""
    for name, shapes in _EXAMPLES.items():
        text = file_or_example(f"@{name}", "kernels").read_text(encoding="utf-8")
        given = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
        run_candidate(KernelCandidate(name=f"@{name}", text=text, kernel=name), [given], replace(how, version=None))
    gc.collect()
    gc.freeze()  # a collection in a copy of this process would touch, and so copy, all of its memory
