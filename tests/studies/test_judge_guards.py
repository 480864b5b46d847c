"""Every guard of the judge holds something: without it alone, a cheat is called right, or comes where it may not.

Guards are taken away by putting another function in the place of one, in this process, before candidates' processes are
copied from it. No option, file or variable does that.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from judge_cheats import CHEATS, HEAD, LEFT_BEHIND, OUT, REACHED, kernel, reaches
from mowich.errors import UserError
from mowich.requests.debugging import ReferenceFile
from mowich.studies.judge import candidate, guests, judge, names, referee
from mowich.studies.judge.candidate import JudgeRun, KernelCandidate
from mowich.studies.judge.closed import GUARDS, readable_folders
from mowich.studies.judge.guests import GuestEnd, GuestLimits, in_guests
from mowich.studies.judge.judge import JudgeAsk, Judged, judge_kernels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
ASK = JudgeAsk(
    reference=ReferenceFile(KERNELS / "softmax.py", ""),
    kernel=None,
    how=JudgeRun(target="trn3"),
    shapes=("x=float32[128,512]",),
    seeds=2,
)
Take = Callable[[pytest.MonkeyPatch], None]


def judged(text: str, ask: JudgeAsk = ASK) -> Judged:
    return judge_kernels([KernelCandidate(name="cheat", text=text)], ask).rows[0]


def passes(row: Judged) -> bool:
    """Whether a cheat is called right, or says that it came where it wanted."""
    return row.status == "ok" or REACHED in row.reason


# ---- guards of the text, and of what stands behind names
# ----------------------------------------------------------------------------------------------------------------------


def put(module: ModuleType, name: str, other: object) -> Take:
    """Another thing in the place of a name of a module."""
    return lambda patch: patch.setattr(module, name, other)


@dataclass(frozen=True)
class Guard:
    """take: takes it away; cheats: candidates that pass then; ask: what they are judged by; hole: what lets them come
    as far as this guard."""

    take: Take
    cheats: dict[str, str]
    ask: JudgeAsk = ASK
    hole: Take = lambda _: None


def gives_the_argument(patch: pytest.MonkeyPatch) -> None:
    """A candidate can ask for the values of its argument, as freed memory may hold them."""
    held: list[object] = []
    launched, made = candidate._launched, names.candidate_globals

    def holding(function: Callable[..., object], given: Mapping[str, object], how: JudgeRun) -> object:
        held[:] = [given["x"]]
        return launched(function, given, how)

    patch.setattr(candidate, "_launched", holding)
    patch.setattr(names, "candidate_globals", lambda name: {**made(name), "left_behind": lambda: held[0]})


SEEN = LEFT_BEHIND[: LEFT_BEHIND.index("kept = []")] + LEFT_BEHIND[LEFT_BEHIND.index("def softmax_of") :]
"""The cheat with what was left behind, without its way to find it."""


def cheats(*named: str) -> dict[str, str]:
    return {name: CHEATS[name] for name in named}


ONE_COLUMN = kernel(
    OUT + "t = nl.full((128, 1), 1.0, dtype=x.dtype, buffer=nl.sbuf)\nnisa.dma_copy(dst=out, src=t)\nreturn out"
)
"""Softmax of one column is 1: an answer that needs no argument."""
KNOWN = """
def known():
    v = np.random.default_rng(7).standard_normal((128, 512), dtype=np.float32)
    e = np.exp(v - v.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
"""
PREPARED = kernel(
    OUT
    + """\
t = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
u = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
nisa.dma_copy(dst=t, src=x)
nisa.tensor_scalar(dst=t, data=t, op0=nl.multiply, operand0=0.0)
nisa.dma_copy(dst=u, src=nl.shared_constant(known()))
nisa.tensor_tensor(dst=u, data1=u, data2=t, op=nl.add)
nisa.dma_copy(dst=out, src=u)
return out""",
    KNOWN,
)
"""The answer for arguments that it knows beforehand."""
FIRST, THEN = "    R, C = x.shape\n", "    R, C = (lambda shape: shape)(x.shape)\n"
UNCOMPILED = HEAD + (KERNELS / "softmax.py").read_text().replace(FIRST, THEN, 1)
"""Right by the simulator, and nothing that the compiler of NKI 0.3 takes."""


def same_seeds(asked: KernelCandidate, ask: JudgeAsk) -> list[referee.Question]:
    return [referee.Question(words=tuple(words.split()), seed=7) for words in ask.shapes]


TEXT = {
    "modules that may be imported": Guard(
        put(names, "ALLOWED", (*names.ALLOWED, "os")),
        {"os": HEAD + "import os\n" + reaches("os.getpid()")[len(HEAD) :]},
    ),
    "names of modules that are hidden": Guard(
        put(names, "_HIDDEN", {}),
        {"load": reaches("np.load"), **cheats("attributes by a format", "runs a kernel on the host")},
    ),
    "faces of modules": Guard(
        put(names, "public_face", lambda m: m), {"sys": reaches("typing.sys", "import typing\n")}
    ),
    "classes that stand in": Guard(
        put(names, "shown_value", lambda module, key, value: value), cheats("objects at an address")
    ),
    "builtins": Guard(put(names, "_BUILTINS", names._BUILTINS | {"open"}), {"open": reaches("open")}),
    "type of one argument": Guard(put(names, "type_of", type), cheats("memory by a type that is made")),
    "attributes that are looked at": Guard(
        put(names, "_looks", lambda node: ""), {"globals": reaches("nl.ndarray.__globals__")}
    ),
    "names of frames, code and memory": Guard(
        put(names, "_FRAMES", frozenset[str]()),
        cheats("launches itself", "object of an error", "generator of a context", "state of a generator of numbers"),
    ),
    "attributes that are changed": Guard(
        put(names, "_changes", lambda node: ""), {"add": reaches("nl.add", "nl.add = None\n")}
    ),
    "names that are bound": Guard(
        put(names, "_may_be_said", lambda node, name: True), cheats("memory by a property", "memory by any attribute")
    ),
    "patterns, and attributes by name": Guard(
        put(names, "_is_closed", lambda name: False), {"globals": reaches("getattr(nl.ndarray, '__glo' + 'bals__')")}
    ),
    "setattr": Guard(put(names, "_setattr", setattr), {"add": reaches("setattr(nl, 'add', None)")}),
    # guards of a run
    "constants of the host": Guard(
        put(candidate, "_check_constants", lambda *_: None), {"left behind": SEEN}, hole=gives_the_argument
    ),
    "an answer rests on arguments": Guard(
        put(candidate, "_check_rests_on_arguments", lambda result: None),
        {"ones": ONE_COLUMN},
        replace(ASK, shapes=("x=float32[128,1]",)),
    ),
    "rules of the compiler": Guard(
        put(candidate, "_compiles", lambda *_: None),
        {"a lambda": UNCOMPILED},
        replace(ASK, how=JudgeRun(target="trn3", version=(0, 3))),
    ),
    "arguments that follow from the text": Guard(put(judge, "_questions", same_seeds), {"known": PREPARED}),
}
QUICK = ("builtins", "constants of the host", "an answer rests on arguments")


@pytest.fixture(autouse=True)
def _as_before() -> object:
    """Faces of modules are kept: those that were made without a guard go."""
    names._faces().clear()
    yield
    names._faces().clear()


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in TEXT])
def test_without_a_guard_a_cheat_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = TEXT[name]
    guard.hole(monkeypatch)
    for text in guard.cheats.values():
        assert not passes(judged(text, guard.ask))
    names._faces().clear()
    guard.take(monkeypatch)
    assert [cheat for cheat, text in guard.cheats.items() if not passes(judged(text, guard.ask))] == []


# ---- guards of the process
# ----------------------------------------------------------------------------------------------------------------------

LIBC = ctypes.CDLL(None)
"""Machine code that hooks of Python do not see."""


def reads_by_machine_code() -> bytes:
    return b"yes" if LIBC.open(b"/etc/hostname", 0) >= 0 else b"no"


def connects_by_machine_code() -> bytes:
    return b"yes" if LIBC.socket(1, 1, 0) >= 0 else b"no"


def looks_through_memory() -> bytes:
    return b"yes" if gc.get_objects() else b"no"


def fills() -> bytes:
    return b"yes" if len(bytearray(1 << 30)) else b"no"


def computes() -> bytes:
    end = time.process_time() + 3.0
    while time.process_time() < end:
        pass
    return b"yes"


PROCESS = {
    "memory": fills,
    "time": computes,
    "files": reads_by_machine_code,
    "calls": connects_by_machine_code,
    "hooks": looks_through_memory,
}


def ended(work: Callable[[], bytes], guards: tuple[str, ...], time_s: float = 60.0) -> GuestEnd:
    limits = GuestLimits(time_s=time_s, memory_B=2**28, reads=readable_folders(), guards=guards)
    return next(iter(in_guests([work], limits)))


def _has(guard: str) -> bool:
    code = "from mowich.studies.judge.closed import close, readable_folders as r; import sys;"
    code += f"sys.exit(bool(close(reads=r(), memory_B=1 << 28, time_s=20, guards=({guard!r},)).missing))"
    return os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


@pytest.mark.parametrize(
    "name", [n if n not in ("time", "memory") else pytest.param(n, marks=pytest.mark.slow) for n in GUARDS]
)
def test_without_a_guard_of_its_process_a_work_does_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not _has(name):
        pytest.skip(f"this system has no {name}")
    if name == "time":  # the limit of the processor, beside a clock that is patient
        real = guests.close
        monkeypatch.setattr(guests, "close", lambda **how: real(**{**how, "time_s": 1.0}))
    assert ended(PROCESS[name], GUARDS).value != b"yes"
    assert ended(PROCESS[name], tuple(g for g in GUARDS if g != name)).value == b"yes"


def sleeps() -> bytes:
    time.sleep(2.0)
    return b"yes"


def test_the_clock_ends_what_waits() -> None:
    assert "longer than 0.5 s" in ended(sleeps, GUARDS, time_s=0.5).why
    assert ended(sleeps, GUARDS).value == b"yes"


def test_ways_to_other_processes_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process has open is not open in a guest; a child that a guest could make ends with it."""
    read, write = os.pipe()

    def writes() -> bytes:
        os.write(write, b"out")
        return b"yes"

    assert "OSError" in ended(writes, GUARDS).why
    with monkeypatch.context() as patch:
        patch.setattr(guests.os, "closerange", lambda low, high: None)
        assert ended(writes, GUARDS).value == b"yes"
    os.close(read)
    os.close(write)

    def leaves_a_child() -> bytes:
        child = os.fork()
        if child == 0:
            os.closerange(0, 1024)
            time.sleep(60.0)
            os._exit(0)
        return str(child).encode()

    def is_there(pid: int) -> bool:
        state = Path(f"/proc/{pid}/stat")
        return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"

    assert ended(leaves_a_child, GUARDS).value is None
    child = int(ended(leaves_a_child, ()).value or b"0")
    time.sleep(0.2)
    assert child
    assert not is_there(child)
    with monkeypatch.context() as patch:
        patch.setattr(guests.os, "killpg", lambda pid, number: None)
        child = int(ended(leaves_a_child, ()).value or b"0")
        assert is_there(child)
    os.kill(child, 9)


def test_the_reference_is_not_in_a_guest_and_answers_are_not_executed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def finds_the_reference() -> bytes:
        return b"yes" if "softmax_reference" in sys.modules else b"no"

    question = referee.Question(words=("x=float32[128,8]",), seed=1)
    with referee.Referee(ASK.reference, "softmax", "trn3") as asked:
        asked.arguments(question)
        assert ended(finds_the_reference, GUARDS).value == b"no"
    from mowich.studies.kernel_files import as_scripts_expect, reference_in

    with as_scripts_expect("softmax.py", (), "trn3", None, quiet=True):
        reference_in(ASK.reference, "softmax")  # what a referee does, in this process
        assert ended(finds_the_reference, GUARDS).value == b"yes"
    sys.modules.pop("softmax_reference")

    made = tmp_path / "made"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (made,)

    answer = pickle.dumps(Payload())
    with pytest.raises(UserError, match="an answer that no run gives"):
        candidate.runs_of(answer)
    assert not made.exists()
    pickle.loads(answer)
    assert made.exists()


def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def talks() -> bytes:
        return bytes(np.zeros(1 << 21, np.uint8))

    assert ended(talks, GUARDS).value is not None
    monkeypatch.setattr(guests, "MOST_B", 1 << 20)
    assert "answers with more than" in ended(talks, GUARDS).why
