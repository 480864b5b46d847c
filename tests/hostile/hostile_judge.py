"""One hostile case, run in this process and judged: the exit code of the contract, one clear line for each mistake,
bounded processor time and memory, and no number outside its bounds in an answer."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mowich import cli
from mowich.errors import EXIT_INTERRUPTED, UserError
from pace import allowed_s

CPU_S = 10.0
"""Most processor time of a case, on the machine that limits are set on (pace.py)."""
STOP_S = 5 * CPU_S
"""Processor time after which a case is stopped."""
MEMORY_B = 1e9
"""Most memory that a case may add to the process."""
ANSWERED, REFUSED = frozenset({0, 3, 4, 5}), frozenset({2})
LINE = 6000
"""Most characters of a line of an error: a list of what is allowed is long."""

NOT_NEGATIVE = re.compile(
    r".*(_s|_B|_GiB|_W|_usd|_seqs|days|chips|params|params_active|usd_per_\w+|tokens_\w+|joule\w*|instructions)"
)
"""Keys of numbers that are never below 0."""
SHARES = re.compile(r"(mfu|hfu|goodput|availability|fill|utilisation)")
"""Keys of numbers from 0 to 1."""
SIGNED = re.compile(r"(gap|delta|change|moved?|difference|gain|loss|saves?)\w*")
"""Keys below which numbers may have either sign."""


@dataclass(frozen=True, slots=True)
class Case:
    """A command line with the files that it reads, or a call of the Python interface. codes: what may come of it; said:
    what the error has to say."""

    name: str
    words: Sequence[str] = ()
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    codes: frozenset[int] = ANSWERED | REFUSED
    said: str = ""
    call: Callable[[], object] | None = None


class _TooLong(BaseException):
    """The case took more processor time than it may."""


def _stop(*_: object) -> None:
    raise _TooLong


@contextlib.contextmanager
def _files(case: Case) -> Iterator[None]:
    """A folder of its own with the files of the case, as the current one."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="mowich-hostile-") as folder:
        for name, data in case.files.items():
            file = Path(folder) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def _ran(case: Case) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        if case.call is None:
            return cli.run(case.words), out.getvalue(), err.getvalue()
        try:
            answer = case.call()
        except UserError as error:
            return error.code, "", "".join(f"error: {line}\n" for line in error.line().splitlines())
        data = answer.to_dict() if hasattr(answer, "to_dict") else answer
        return 0, json.dumps(data, default=str), err.getvalue()


def problems(case: Case) -> list[str]:
    """What is wrong with how a case ends; nothing where all is well."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    began = time.process_time()
    previous = signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, STOP_S)
    try:
        with _files(case):
            code, out, err = _ran(case)
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
    except _TooLong:
        return [f"more than {STOP_S:g} s of processor time"]
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        return [f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
    found = []
    took, grew = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - held
    if took > allowed_s(CPU_S, took):
        found.append(f"{took:.1f} s of processor time")
    if grew > MEMORY_B:
        found.append(f"{grew / 1e9:.2f} GB of memory")
    if code not in case.codes:
        found.append(f"exit code {code}, not {sorted(case.codes)}: {err.strip()[-300:]}")
    found += _lines(code, err)
    if case.said and case.said not in err:
        found.append(f"does not say {case.said!r}: {err.strip()[-300:]}")
    if code in ANSWERED and out.strip() and (case.call is not None or "--json" in case.words):
        found += _numbers(out)
    return found


def _lines(code: int, err: str) -> Iterator[str]:
    """What is wrong with the lines on stderr."""
    lines = err.splitlines()
    if code in REFUSED and not any(line.startswith("error: ") for line in lines):
        yield f"refused without a line: {err[:200]!r}"
    for line in lines:
        if not line.startswith(("error: ", "note: ", "warning: ")):
            yield f"not a line of ours: {line[:200]!r}"
        elif len(line) > LINE:
            yield f"a line of {len(line)} characters: {line[:100]!r}"
        elif "this is a bug" in line:
            yield line


def _no_constant(text: str) -> float:
    raise ValueError(text)


def _numbers(out: str) -> Iterator[str]:
    """Numbers of an answer that are outside their bounds."""
    try:
        answer = json.loads(out, parse_constant=_no_constant)
    except ValueError as error:
        yield f"not JSON: {error}: {out[:100]!r}"
        return
    yield from out_of_bounds(answer)


def out_of_bounds(value: object, key: str = "", path: str = "") -> Iterator[str]:
    """Numbers of an answer that are not finite, or not what their key says; ranges whose ends are not in order."""
    if isinstance(value, dict):
        value_of = [value.get(k) for k in ("low", "value", "high")]
        if all(isinstance(v, int | float) for v in value_of):
            low, middle, high = (float(v) for v in value_of)  # type: ignore[arg-type]
            slack = 1e-9 * max(abs(low), abs(high))
            if not low - slack <= middle <= high + slack:
                yield f"{path}: {middle} is not from {low} to {high}"
        for name, inner in value.items():
            own = key if name in ("low", "value", "high") else name
            if not SIGNED.fullmatch(name):
                yield from out_of_bounds(inner, own, f"{path}.{name}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from out_of_bounds(inner, key, f"{path}[{place}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            yield f"{path}: {value}"
        elif SHARES.fullmatch(key) and not 0 <= value <= 1:
            yield f"{path}: a share of {value}"
        elif NOT_NEGATIVE.fullmatch(key) and value < 0:
            yield f"{path}: {value} is below 0"


def told(case: Case, found: Sequence[str]) -> str:
    """A case that went wrong, with what makes it again."""
    files = "".join(f"\n  {name}: {data[:1500]!r}" for name, data in case.files.items())
    return f"{case.name}: {' '.join(case.words)}{files}\n  " + "\n  ".join(found)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
