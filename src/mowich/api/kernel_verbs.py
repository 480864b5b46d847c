"""Kernels and layers made of them, on simulated NeuronCores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mowich.api.keyword_verb import keyword_verb
from mowich.api.keywords import keywords_asked
from mowich.errors import UserError, unknown
from mowich.facts import Facts
from mowich.requests import advising, judging, kernels, launches, tuning
from mowich.requests.fields import read_kernels_file
from mowich.studies.launches import kernel_debugged, launched

if TYPE_CHECKING:
    from mowich.nki import Kernel, Result
    from mowich.studies.advise.advise import KernelAdvice
    from mowich.studies.debug.answer import KernelDebug
    from mowich.studies.judge.judge import KernelJudge
    from mowich.studies.kernel_check import KernelsChecked
    from mowich.studies.layer.study import LayerStudy
    from mowich.studies.system_run import SystemRun
    from mowich.studies.tune.tune import KernelTune


def load_kernel(file: str | Path, name: str | None = None) -> Kernel:
    """A kernel of a file, ready for `run_kernel`; `nki` and `neuronxcc.nki` in it resolve to the simulator.

    Args:
        file: a Python file, or "@matmul": one that ships (`mowich example` lists them).
        name: of the kernel; None where the file has one.

    Returns: the kernel; called with arrays it runs on the simulator. Units: none.

    Example:
        >>> import mowich
        >>> mowich.load_kernel("@add").__name__
        'add'
    """
    import importlib.util

    import mowich.nki
    from mowich.examples import file_or_example

    path = file_or_example(str(file), "kernels")
    spec = importlib.util.spec_from_file_location(f"mowich_kernels_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError("no Python file", where=str(path), fix='a file with kernels, or "@matmul"')
    module = importlib.util.module_from_spec(spec)
    with mowich.nki.installed(replace=True):
        spec.loader.exec_module(module)
    found = {n: v for n, v in vars(module).items() if isinstance(v, mowich.nki.Kernel) and not n.startswith("_")}
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name is None:
        raise UserError(
            "the file has several kernels" if found else "the file has no kernel",
            where=str(path),
            allowed=[*found] or None,
        )
    if name not in found:
        raise unknown("kernel", name, found, where=str(path))
    return found[name]


def run_kernel(
    kernel: Callable[..., object],
    *arrays: object,
    target: str | None = None,
    lnc: int = 1,
    nki: str | None = None,
    values: bool = True,
    ranks: int = 1,
    timed: bool = True,
    system: str | None = None,
    inputs: Sequence[object] | None = None,
    strict: bool = False,
    reference: Callable[..., object] | None = None,
    tolerance: float | None = None,
    facts: Facts | None = None,
    **kwargs: Any,
) -> Result | list[Result] | SystemRun:
    """Run an NKI kernel on a simulated NeuronCore.

    Args:
        kernel: a function under `nki.jit`, or what `mowich.load_kernel` gave.
        arrays: its arguments, NumPy arrays of the shapes that it takes.
        target: "trn1", "trn2" or "trn3" (None: the kernel's own, else trn3).
        lnc: cores of the logical core, 1 or 2.
        nki: version of NKI, "0.2" to "0.7" (None: 0.7 where the kernel uses a name that came with it).
        values: False times a kernel and checks its instructions without arithmetic.
        ranks: N runs the same arguments on N ranks and gives a list.
        timed: False: no clock.
        system: "trn3-gen2": the kernel on `ranks` chips of that machine, one core of each; gives a `SystemRun` with the
            time of every collective on the fabric, by level.
        inputs: arguments of each rank, instead of the same `arrays` on all.
        strict: True: infinities and NaN in an output from finite arguments are an error, else a warning.
        reference: a function of the same arguments that gives what the kernel should; a larger difference than the
            tolerance is an error that says where.
        tolerance: most that an element may differ, as a share of itself and the root mean square of its output (None:
            0.0001, 0.02 with formats of 16 bits, 0.125 of 8).
        facts: other facts than the shipped ones.
        kwargs: named arguments of the kernel.

    Returns: `.outputs` (arrays as the kernel shaped them), `.warnings`, `.time_s` (an `Estimate`), `.profile`. Units:
    seconds, bytes. For other arguments on each rank there is `mowich.nki.simulate_ranks`.

    Example:
        >>> import mowich, numpy as np
        >>> x = np.ones((128, 512), np.float32)
        >>> result = mowich.run_kernel(mowich.load_kernel("@add", "add"), x, x, target="trn3")
        >>> result.outputs[0].shape, float(result.outputs[0][0, 0])
        ((128, 512), 2.0)
    """
    given: dict[str, object] = {
        "target": target,
        "lnc": lnc,
        "nki": nki,
        "values": values,
        "ranks": ranks,
        "timed": timed,
        "system": system,
    }
    given |= {"strict": strict, "reference": reference, "tolerance": tolerance}
    with keywords_asked(launches.LAUNCH, facts, kernel=kernel, inputs=inputs, **given) as asked:
        return launched(asked, arrays, kwargs)


def debug_kernel(
    kernel: Callable[..., object],
    *arrays: object,
    stop: str | None = None,
    tiles: Sequence[str] = (),
    watch: str | None = None,
    first_difference: Callable[..., object] | None = None,
    target: str | None = None,
    lnc: int = 1,
    strict: bool = False,
    tolerance: float | None = None,
    **kwargs: object,
) -> KernelDebug:
    """Look into an NKI kernel while it runs.

    Args:
        kernel: a function under `nki.jit`, or what `mowich.load_kernel` gave.
        arrays: its arguments, NumPy arrays of the shapes that it takes.
        stop: "softmax.py:42" stops before the first instruction that comes from the line, "softmax.py:42:3" before the
            third; the file may be left out. None: it runs to its end.
        tiles: whose values to show there, as the kernel names them: "x", "x[0:4, 0:8]", "self.cache[2]".
        watch: a tile whose values are shown after each instruction that writes to it.
        first_difference: another kernel, or a function of the same arguments: what it returns is compared with the
            outputs, and each (name, array) that it yields with the tiles of that name.
        target: "trn1", "trn2" or "trn3" (None: the kernel's own, else trn3).
        lnc: cores of the logical core, 1 or 2.
        strict: True: infinities and NaN in an output from finite arguments are an error, else a warning.
        tolerance: most that an element may differ, as a share of itself and the root mean square of its tile (None:
            0.0001, 0.02 with formats of 16 bits, 0.125 of 8).
        kwargs: named arguments of the kernel.

    Returns: a `KernelDebug`: `.stop` with tiles, memories and engines, `.prints`, `.changes`, `.comparison`. Units:
    seconds, bytes.

    Example:
        >>> import mowich, numpy as np
        >>> x = np.ones((128, 512), np.float32)
        >>> found = mowich.debug_kernel(mowich.load_kernel("@add"), x, x, tiles=["result[0, 0:2]"])
        >>> found.prints[0].values
        [2.0, 2.0]
    """
    given: dict[str, object] = {
        "stop": stop,
        "tiles": tiles,
        "watch": watch,
        "first_difference": first_difference,
        "target": target,
        "lnc": lnc,
        "strict": strict,
        "tolerance": tolerance,
    }
    with keywords_asked(launches.DEBUG, None, kernel=kernel, **given) as asked:
        return kernel_debugged(asked, arrays, kwargs)


def check_kernel(
    kernel: str | Path | Callable[..., object],
    *arrays: object,
    target: str | None = None,
    lnc: int | None = None,
    nki: str | None = None,
    **kwargs: object,
) -> KernelsChecked:
    """What the NKI compiler would refuse, without a compiler.

    Args:
        kernel: a file, whose kernels are checked by their text and tried on drawn shapes; or a function under
            `nki.jit`, which runs on `arrays` where there are any.
        arrays: its arguments, NumPy arrays.
        target: "trn1", "trn2" or "trn3".
        lnc: cores of the logical core, 1 or 2.
        nki: version, "0.2" to "0.7" (None: what every compiler from 0.6 on refuses; what 0.6 alone does is `.parsing`).
        kwargs: named arguments of the kernel.

    Returns: `.findings` with file, line, what and remedy. Units: none.

    Example:
        >>> import mowich
        >>> "add" in mowich.check_kernel("@add").kernels
        True
    """
    from mowich.requests.kernels import read_version
    from mowich.studies import kernel_check

    version = None if nki is None else read_version(nki)
    if isinstance(kernel, str | Path):
        if arrays or kwargs:
            raise UserError("arguments go with a kernel, not with a file", fix="check_kernel(module.kernel, array)")
        return kernel_check.check_kernels(read_kernels_file(kernel), version=version)
    return kernel_check.study_of(kernel, arrays, kwargs, target=target, lnc=lnc, version=version)


@keyword_verb(kernels.LAYER, "model", "on")
def run_layer(asked: kernels.LayerRequest) -> LayerStudy:
    """Decoder layers and a whole step of a model, made of kernels on simulated NeuronCores.

    Args:
        model: a name, a file, or what `mowich.load` gave.
        on: one system of Trainium, "trn2:1".
        tp: ranks that share each layer (None: all cores of the chips).
        lnc: cores of a rank, 1 or 2.
        batch: sequences.
        context: tokens in the cache, or with `prefill` in the prompt.
        prefill: the prompt, instead of one token.
        library: a checkout of aws-neuron/nki-library (None: our kernels).
        facts: other facts than the shipped ones.

    Returns: a `LayerStudy`: `.step_s` (an `Estimate`), `.kinds` with the time of each part and engine, `.after` with
    head and sampling. Units: seconds.

    Example:
        >>> import mowich
        >>> mowich.run_layer("llama-3.2-1b", "trn3:1", context=512).step_s.unit  # doctest: +SKIP
        's'
    """
    from mowich.studies.layer.study import time_layers

    return time_layers(asked)


@keyword_verb(advising.ADVISE, "file", "arguments", has_facts=False)
def advise(asked: advising.AdviseRequest) -> KernelAdvice:
    """The edits of a kernel that gain most, each with its predicted time and the probability that it is faster.

    Args:
        file: a file with kernels, or "@softmax": one that ships.
        arguments: of the kernel, "x=float32[256,1000]" or "scale=2.0" (empty: what `inputs()` of the file gives).
        kernel: its name (None: the only one of the file).
        target: "trn1", "trn2" or "trn3" (None: the kernel's own, else trn3).
        lnc: cores of the logical core, 1 or 2.
        nki: version of NKI, "0.2" to "0.7" (None: by the names that the kernel uses).
        top: edits to offer.
        shows_all: whether `to_dict` has the edits that are not offered as well.
        runs: whether edits that are mechanical are applied to a copy of the file and run.
        tolerance: most that an output of an edited kernel may differ from the kernel as it is (None: 0.0001, 0.02 with
            formats of 16 bits, 0.125 of 8; from 0.02 on tiles in bf16 are offered).
        seed: of random arrays.

    Returns: `.edits`, the largest gain first, each with lines, time, order, diff and what the run gave; `.others`;
    `.bounds`, what no edit of a kind can beat. Units: seconds.

    Example:
        >>> import mowich
        >>> found = mowich.advise("@softmax", ["x=float32[256,512]"], target="trn2")
        >>> found.bounds["all"].gain(found.base_s) > found.edits[0].gain(found.base_s) > 0
        True
    """
    from mowich.studies.advise.files import file_advised

    return file_advised(asked)


@keyword_verb(judging.JUDGE, "candidates", "reference", has_facts=False)
def judge(asked: judging.JudgeRequest) -> KernelJudge:
    """Candidates of a kernel beside one another: which are right, which is fastest, what to measure next.

    Each runs in a closed process of its own: it reads and writes no file, reaches no network and starts no process
    (docs/read/judge.md says what holds on which platform).

    Args:
        candidates: files with a kernel each, folders of them, patterns such as "tries/*.py".
        reference: a file with `reference()`, of the kernel's arguments; "ref.py:name" names another function.
        on: "trn1", "trn2" or "trn3".
        kernel: its name (None: the only one of a file).
        shapes: sets of arguments, "x=float32[256,1000] scale=2.0"; the last one is timed (empty: what `inputs()` of the
            reference's file gives).
        seeds: draws of each set of arguments, 1 to 8.
        tolerance: most that an element may differ, as a share of itself and the root mean square of its output (None:
            0.0001, 0.02 with formats of 16 bits, 0.125 of 8).
        measured: times that a device gave, by candidate, of the last set of arguments: {"tries/a.py": "12.3us"}, or
            seconds as numbers. Each stands for what is predicted, and moves what it shares with the others.
        measure_budget: candidates that may be measured on a device, with those that were (None: a fifth of those that
            are right, at least 2).
        time_alone: compute no values: times without a word on whether they are right.
        lnc: cores of the logical core, 1 or 2.
        nki: version of NKI, "0.2" to "0.7" (None: by the names that a candidate uses).
        processes: candidates that run at a time.
        timeout_s: most seconds that a candidate may take.
        memory_GiB: most memory that it may take.
        cache: a folder where what each candidate gave is kept, by its content.
        seed: of what is drawn, beside the candidate's text.

    Returns: `.rows`, the right ones first and by time, each with status, time, order to the fastest; `.best`;
    `.measure_next`. Units: seconds, bytes.

    Example:
        >>> import mowich
        >>> found = mowich.judge(["@softmax"], "@softmax", shapes=["x=float32[128,256]"], seeds=1)
        >>> found.best.status
        'ok'
    """
    from mowich.studies.judge.judge import kernels_judged

    return kernels_judged(asked)


@keyword_verb(tuning.TUNE, "file", "vary", has_facts=False)
def tune(asked: tuning.TuneRequest) -> KernelTune:
    """A kernel with other constants: the fastest, how sure that is, what it costs in SBUF and HBM, what was refused.

    Each variant runs in a closed process of its own, as candidates of `judge` do.

    Args:
        file: with the kernel, or "@matmul": one that ships.
        vary: constants of the file, or arguments of the kernel that have a default, and the values that each takes:
            {"TILE": [128, 256]}, or ["TILE=128,256", "AHEAD=1..8:x2"].
        on: "trn3", or several with commas or as a list.
        kernel: its name (None: the only one of the file).
        shapes: sets of arguments, "x=float32[256,1000] scale=2.0"; the last one is timed (empty: what `inputs()` of the
            reference's file, or of the file, gives).
        reference: a file with `reference()`, of the kernel's arguments (None: values are not computed).
        seeds: draws of each set of arguments, 1 to 8.
        tolerance: most that an element may differ, as a share of itself and the root mean square of its output.
        limit: most variants to try; of more, half are spread over all, then the neighbours of the fastest follow.
        all_values: compute the values of all variants, not only of those that could be the answer.
        lnc: cores of the logical core, 1 or 2.
        nki: version of NKI, "0.2" to "0.7" (None: by the names that the file uses).
        processes: variants that run at a time.
        timeout_s: most seconds that a variant may take.
        memory_GiB: most memory that it may take.
        seed: of what is drawn.

    Returns: `.best`, one for each target; `.rows`, of each target the good ones by time; `.one_for_all`, the setting
    that loses least over all targets. Units: seconds, bytes.

    Example:
        >>> import mowich
        >>> found = mowich.tune("@add", {"RUN": [1024, 4096]}, shapes=["x=float32[128,8192] y=float32[128,8192]"])
        >>> found.best[0].row.variant.settings
        {'RUN': 1024}
    """
    from mowich.studies.tune.tune import kernel_tuned

    return kernel_tuned(asked)
