"""Kernels and layers made of them, on simulated NeuronCores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mowich.api.keywords import keywords_asked
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.models import Model
from mowich.requests import kernels
from mowich.studies import answers

if TYPE_CHECKING:
    from mowich.nki import Result
    from mowich.studies.kernel_check import KernelsChecked
    from mowich.studies.layer.study import LayerStudy
    from mowich.studies.system_run import SystemRun


def run_kernel(
    kernel: Callable[..., object],
    *arrays: object,
    target: str | None = None,
    lnc: int = 1,
    values: bool = True,
    ranks: int = 1,
    timed: bool = True,
    system: str | None = None,
    inputs: Sequence[object] | None = None,
    facts: Facts | None = None,
    **kwargs: Any,
) -> Result | list[Result] | SystemRun:
    """Run an NKI kernel on a simulated NeuronCore; `.outputs` are what it returned, `.warnings` what it should not do,
    `.time_s` how long it takes (an Estimate in seconds, made when asked for).

    target: trn1, trn2 or trn3 (default: the kernel's own, else trn3); lnc: cores of the logical core, 1 or 2;
    values=False times a kernel and checks its instructions without arithmetic; timed=False: no clock; ranks=N runs the
    same arguments on N ranks and gives a list. For other arguments on each rank there is `mowich.nki.simulate_ranks`.

    system="trn3-gen2", ranks=144: the kernel on 144 chips of that machine, one core of each; gives a `SystemRun` with
    the results of all ranks and the time of every collective on the fabric, by level. inputs: arguments of each rank,
    instead of the same `arrays` on all.
    """
    given = {"target": target, "lnc": lnc, "values": values, "ranks": ranks, "timed": timed, "system": system}
    with keywords_asked(kernels.LAUNCH, facts, kernel=kernel, inputs=inputs, **given) as asked:
        return answers.launched(asked, arrays, kwargs)


def check_kernel(
    kernel: str | Path | Callable[..., object],
    *arrays: object,
    target: str | None = None,
    lnc: int | None = None,
    nki: str | None = None,
    **kwargs: object,
) -> KernelsChecked:
    """What the NKI compiler would refuse, without a compiler: `.findings` with file, line, what and remedy.

    kernel: a file, whose kernels are checked by their text; or a function under `nki.jit`, which runs on `arrays` and
    `kwargs` too where there are any. target: trn1, trn2 or trn3; lnc: cores of the logical core; nki: version, "0.2" to
    "0.7" (default: what every compiler that parses refuses).
    """
    from mowich.requests.kernels import read_version
    from mowich.studies import kernel_check

    version = None if nki is None else read_version(nki)
    if isinstance(kernel, str | Path):
        if arrays or kwargs:
            raise UserError("arguments go with a kernel, not with a file", fix="check_kernel(module.kernel, array)")
        return kernel_check.check_kernels(Path(kernel), version=version)
    return kernel_check.study_of(kernel, arrays, kwargs, target=target, lnc=lnc, version=version)


def run_layer(
    model: Model | str | Path,
    on: str,
    *,
    tp: int | None = None,
    lnc: int = 2,
    batch: int = 1,
    context: int = 2048,
    prefill: bool = False,
    library: str | Path | None = None,
    facts: Facts | None = None,
) -> LayerStudy:
    """Decoder layers and a whole decode or prefill step of a model, made of kernels on simulated NeuronCores: `.step_s`
    (an Estimate in seconds), `.kinds` with the time of each part and engine, `.after` with head and sampling.

    tp: ranks that share each layer (None: all cores of the chips); lnc: cores of a rank; context: tokens in the cache,
    or with prefill in the prompt; library: a checkout of aws-neuron/nki-library (None: our kernels).
    """
    given = {"tp": tp, "lnc": lnc, "batch": batch, "context": context, "prefill": prefill, "library": library}
    with keywords_asked(kernels.LAYER, facts, model=model, on=on, **given) as asked:
        return answers.layer_timed(asked)
