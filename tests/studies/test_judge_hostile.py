"""Candidates that hang, fork, fill memory or reach for files: each ends with a line, nothing is left running, and no
file is touched outside of their folder."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from judge_cheats import HEAD, OUT, kernel
from mowich.requests.debugging import ReferenceFile
from mowich.studies.judge.candidate import JudgeRun, KernelCandidate
from mowich.studies.judge.closed import GUARDS, readable_folders
from mowich.studies.judge.guests import GuestLimits, in_guests
from mowich.studies.judge.judge import JudgeAsk, judge_kernels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
TEXTS = {
    "hangs as it is read": HEAD + "while True:\n    pass\n",
    "hangs in its kernel": kernel("while True:\n    pass\nreturn x"),
    "hangs in one product": kernel("np.ones((20000, 20000)) @ np.ones((20000, 20000))\nreturn x"),
    "hangs in a power": kernel("n = 10 ** 10 ** 8\nreturn x"),
    "hangs where it is told to stop": kernel(
        "while True:\n    try:\n        sum(range(10**7))\n    except BaseException:\n        pass"
    ),
    "fills memory with lists": kernel("held = []\nwhile True:\n    held.append([0] * 10**7)\nreturn x"),
    "fills memory with one array": kernel("v = np.ones(1 << 34)\nreturn x"),
    "fills memory with text": kernel("s = 'a'\nwhile True:\n    s += s\nreturn x"),
    "fills HBM": kernel(
        "s = (1 << 20, 1 << 12)\nreturn [nl.ndarray(s, dtype=nl.float32, buffer=nl.shared_hbm) for _ in range(99)]"
    ),
    "issues without end": kernel(OUT + "while True:\n    nisa.dma_copy(dst=out, src=x)\nreturn out"),
    "calls itself": kernel("def f(n):\n    return f(n + 1)\nreturn f(0)"),
    "is nested": HEAD + "x = " + "(" * 5000 + ")" * 5000,
    "is long": HEAD + "x = [" + "1," * 300_000 + "]",
    "has a number without end": HEAD + "x = " + "9" * 5000,
    "ends itself": kernel("raise SystemExit(3)"),
}  # fmt: skip
"""What a text can do."""


def _machine(code: str, folder: str) -> bytes:
    """What machine code, or Python without the guards of names, can try."""
    exec(code, {"os": os, "np": np, "folder": folder, "ctypes": __import__("ctypes"), "signal": __import__("signal")})
    return b"done"


WORKS = {
    "forks": "while True:\n    os.fork()",
    "forks by machine code": "c = ctypes.CDLL(None)\nwhile True:\n    c.fork()",
    "starts a program": "os.system('sleep 100 &')",
    "leaves its group": "os.setsid()\nwhile True: pass",
    "ignores signals": "[signal.signal(n, signal.SIG_IGN) for n in (2, 14, 15)]\nwhile True: pass",
    "writes a file": "open(folder + '/made', 'w')",
    "makes a folder": "os.mkdir(folder + '/made')",
    "removes a file": "os.remove(folder + '/there')",
    "writes in the folder of temporary files": "import tempfile; tempfile.mkstemp()",
    "writes a link": "os.symlink('/etc', folder + '/made')",
    "ends by a fault": "ctypes.string_at(0)",
    "kills its parent": "os.kill(os.getppid(), 9)",
    "kills all": "os.kill(-1, 9)",
    "stops": "os.kill(os.getpid(), 19)",
    "maps memory": "import mmap\nheld = [mmap.mmap(-1, 1 << 28) for _ in range(1 << 10)]",
    "opens without end": "held = [os.pipe() for _ in range(1 << 20)]",
}


def children() -> set[int]:
    """Processes whose parent is this one, zombies too."""
    own = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(words[1]) == os.getpid():
                own.add(int(entry.name))
    return own


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Files of a folder with what changes when they are written."""
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in sorted(folder.rglob("*"))}


def run_all(texts: Mapping[str, str], works: Mapping[str, str], tmp_path: Path, time_s: float, copies: int = 1) -> int:
    """Run hostile candidates; how many there were."""
    (tmp_path / "there").write_text("kept")
    before, held = children(), tree(tmp_path)
    ask = JudgeAsk(
        reference=ReferenceFile(KERNELS / "softmax.py", ""),
        kernel=None,
        how=JudgeRun(target="trn3"),
        shapes=("x=float32[128,64]",),
        seeds=1,
        at_once=4,
        time_s=time_s,
        memory_B=2**29,
    )
    named = {f"{name}, {n}": text + f"\n# {n}\n" for name, text in texts.items() for n in range(copies)}
    found = judge_kernels([KernelCandidate(name=name, text=text) for name, text in named.items()], ask)
    assert {row.candidate.name for row in found.rows} == {*named}
    for row in found.rows:
        assert row.status == "refused", row.candidate.name
        assert row.reason, row.candidate.name
        assert "\n" not in row.reason
        assert "bug in mowich" not in row.reason
    limits = GuestLimits(time_s=time_s, memory_B=2**29, reads=readable_folders(), guards=GUARDS)
    tried: list[Callable[[], bytes]] = [partial(_machine, code, str(tmp_path)) for code in works.values()] * copies
    ends = [*in_guests(tried, limits, at_once=4)]
    assert len(ends) == len(tried)
    for end in ends:
        assert end.value is None, [*works][end.place % len(works)]
        assert end.why
    assert children() == before
    assert tree(tmp_path) == held
    return len(named) + len(tried)


@pytest.fixture(autouse=True)
def _temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_handful(tmp_path: Path) -> None:
    some = ("hangs where it is told to stop", "fills memory with one array", "fills HBM", "is nested", "ends itself")
    run_all(
        {name: TEXTS[name] for name in some},
        {name: WORKS[name] for name in ("forks by machine code", "writes a file", "kills its parent", "stops")},
        tmp_path,
        1.0,
    )


@pytest.mark.slow
def test_a_hundred(tmp_path: Path) -> None:
    assert run_all(TEXTS, WORKS, tmp_path, 4.0, copies=4) >= 100
