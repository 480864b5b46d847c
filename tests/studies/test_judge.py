"""`kernel judge`: what is right is called right, no cheat is, whatever a candidate does ends with a line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mowich
from judge_cheats import CHEATS, HEAD
from mowich.errors import UserError, UserErrors
from mowich.requests.debugging import ReferenceFile
from mowich.studies.judge.candidate import JudgeRun, KernelCandidate, runs_of
from mowich.studies.judge.closed import GUARDS, readable_folders
from mowich.studies.judge.guests import GuestEnd, GuestLimits, in_guests
from mowich.studies.judge.judge import JudgeAsk, judge_kernels

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
SOFTMAX = (KERNELS / "softmax.py").read_text(encoding="utf-8")
SCALED = "        nisa.tensor_scalar(dst=power, data=power, op0=nl.multiply, operand0=inverse)\n"
TWICE = "        nisa.tensor_copy(dst=tile, src=power)\n        nisa.tensor_copy(dst=power, src=tile)\n"
ASK = JudgeAsk(
    reference=ReferenceFile(KERNELS / "softmax.py", ""),
    kernel=None,
    how=JudgeRun(target="trn3"),
    shapes=("x=float32[256,512]",),
    seeds=1,
    at_once=2,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="candidates run in copies of a process")


def candidates(texts: dict[str, str]) -> list[KernelCandidate]:
    return [KernelCandidate(name=name, text=text) for name, text in texts.items()]


def test_the_fast_and_the_slow_the_wrong_and_the_refused() -> None:
    texts = {
        "slow": SOFTMAX.replace(SCALED, SCALED + TWICE),
        "fast": SOFTMAX,
        "same": f"{SOFTMAX}\n# the same instructions\n",
        "wrong": SOFTMAX.replace(SCALED, ""),
        "unwritten": SOFTMAX.replace("        nisa.dma_copy(dst=result[start : start + size, :], src=power)\n", ""),
    }
    found = judge_kernels(candidates(texts), ASK)
    rows = {row.candidate.name: row for row in found.rows}
    assert [rows[name].status for name in texts] == ["ok", "ok", "ok", "wrong", "refused"]
    assert [row.candidate.name for row in found.rows[2:]] == ["slow", "wrong", "unwritten"]
    assert rows["slow"].order == "slower"
    assert (rows["slow"].p_best or 1.0) < 0.05
    assert {rows["fast"].order, rows["same"].order} == {"", "tie"}
    ties = {row.candidate.name: set(row.tied_with) for row in found.rows}
    assert ties == {"fast": {"same"}, "same": {"fast"}, "slow": set(), "wrong": set(), "unwritten": set()}
    assert found.measure_next == ()  # ties and sure orders need no device
    assert found.best is not None
    assert found.best.run is not None
    x = np.zeros((256, 512), np.float32)
    alone = mowich.run_kernel(mowich.load_kernel(KERNELS / "softmax.py"), x, target="trn3", values=False)
    assert isinstance(alone, mowich.nki.Result)
    assert found.best.run.figures["time_s"]["value"] == alone.time_s.value  # the time that a profile says


def test_no_cheat_is_called_right(tmp_path: Path) -> None:
    found = judge_kernels(candidates(CHEATS), ASK)
    assert {row.candidate.name for row in found.rows if row.status in ("ok", "timed")} == set()
    assert all(row.reason for row in found.rows)
    assert [row.reason for row in found.rows if "bug in mowich" in row.reason] == []
    assert not Path("/tmp/judge-cheat").exists()


def test_who_ties_is_said_by_both_and_is_a_tie() -> None:
    """Of drawn times: each that is named ties by itself, both name each other, and the names are few."""
    from mowich.neuroncore.order import KernelSide, order_between
    from mowich.studies.judge.judge import _ties

    draw, tied = np.random.default_rng(3), 0
    for _ in range(20):
        sides = [
            KernelSide(
                time_s=float(t),
                reason="",
                grade="C",
                kind="3",
                path={"dma": (float(draw.uniform(0.2, 0.4)), 0.9, 1.1)},
                pair=0.02,
                width=(0.9, 1.1),
                risks=(),
            )
            for t in np.sort(draw.uniform(1.0, 1.5, 12))
        ]
        ties = _ties(sides)
        for at, others in enumerate(ties):
            assert all(order_between(sides[at], sides[other]).verdict == "tie" for other in others)
            assert all(at in ties[other] for other in others)
        assert sum(map(len, ties)) <= 2 * (len(sides) - 1)
        tied += sum(map(len, ties))
        alone = [at for at, others in enumerate(ties) if not others]
        assert not any(order_between(sides[a], sides[b]).verdict == "tie" for a in alone for b in alone if a < b)
    assert tied > 20


def test_a_reference_draws_the_arguments_of_a_candidate_once(tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    (tmp_path / "ref.py").write_text(
        "import numpy as np\n"
        "def inputs(seed):\n"
        f"    open({str(drawn)!r}, 'a').write(f'{{seed}}\\n')\n"
        "    return {'x': np.random.default_rng(seed).random((128, 64), np.float32)}\n"
        "def reference(x):\n"
        "    e = np.exp(x - x.max(1, keepdims=True))\n"
        "    return e / e.sum(1, keepdims=True)\n"
    )
    ask = replace(ASK, reference=ReferenceFile(tmp_path / "ref.py", ""), shapes=(), seeds=2)
    found = judge_kernels(candidates({"a": SOFTMAX, "b": SOFTMAX + "\n", "none": HEAD}), ask)
    assert [row.status for row in found.rows] == ["ok", "ok", "refused"]
    seeds = drawn.read_text().splitlines()
    assert len(seeds) == len(set(seeds)) == 6


def test_guards_that_a_system_has_not_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mowich import cli
    from mowich.studies.judge import closed

    words = ["kernel", "judge", "@softmax", "--reference", "@softmax", "--shapes", "x=float32[128,64]", "--seeds", "1"]
    monkeypatch.setattr(closed, "_landlock", lambda reads: False)
    assert cli.run([*words, "--json"]) == 0
    assert "files" in json.loads(capsys.readouterr().out)["missing"]
    assert cli.run(words) == 0
    assert "This system does not close a candidate's files" in " ".join(capsys.readouterr().out.split())


def test_arguments_follow_from_the_text_of_a_candidate() -> None:
    """An answer that is kept for known arguments is of no use: another text has others."""
    from mowich.studies.judge.judge import _questions

    one, other = (KernelCandidate(name="a", text=text) for text in (SOFTMAX, SOFTMAX + "\n"))
    assert _questions(one, ASK) == _questions(replace(one, name="b"), ASK)
    assert _questions(one, ASK) != _questions(other, ASK)
    assert _questions(one, ASK) != _questions(one, replace(ASK, seed=1))


def hang() -> bytes:
    while True:
        time.sleep(1.0)


def fork() -> bytes:
    import os

    while True:
        os.fork()


def fill() -> bytes:
    held = []
    while True:
        held.append(np.ones(1 << 24))


def die() -> bytes:
    import os

    os.abort()


def speak() -> bytes:
    return b"fine"


def leave() -> bytes:
    import os

    os._exit(3)


ENDS: dict[Callable[[], bytes], str] = {
    hang: "it takes longer than 3 s",
    fork: "os.fork",
    fill: "memory",
    die: "its process was ended by SIG",
    leave: "exit code 3",
    speak: "",
}


def test_whatever_a_guest_does_it_ends_with_a_line() -> None:
    limits = GuestLimits(time_s=3.0, memory_B=2**28, reads=readable_folders())
    works = [*ENDS, fork, fill, die]
    found: list[GuestEnd] = sorted(in_guests(works, limits, at_once=4), key=lambda end: end.place)
    assert [end.place for end in found] == [*range(len(works))]
    for end, work in zip(found, works, strict=True):
        assert ENDS[work] in end.why
        assert (end.value == b"fine") == (work is speak)


def test_guests_end_when_nobody_looks_any_more() -> None:
    import os

    ends = in_guests([speak, hang], GuestLimits(time_s=60.0, memory_B=2**30, reads=()), at_once=2)
    assert next(ends).value == b"fine"
    ends.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


TRIED = {
    "read": "open('/etc/hostname').read()",
    "write": "open('{tmp}/made', 'w')",
    "remove": "os.remove('{tmp}/there')",
    "rename": "os.rename('{tmp}/there', '{tmp}/other')",
    "folder": "os.mkdir('{tmp}/new')",
    "mode": "os.chmod('{tmp}/there', 0)",
    "process": "os.fork()",
    "program": "os.execv('/bin/true', ['true'])",
    "socket": "socket.socket()",
    "kill": "os.kill(os.getppid(), 0)",
    "memory": "bytearray(1 << 30)",
}
CLOSING = """\
import json, os, socket, sys
from mowich.studies.judge.closed import close, readable_folders
missing = close(reads=readable_folders(), memory_B=1 << 28, time_s=20, guards={guards!r}).missing
out = {{}}
for name, text in json.loads(sys.argv[1]).items():
    try:
        eval(text)
        out[name] = True
    except (OSError, MemoryError):
        out[name] = False
print(json.dumps([out, missing]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("without", ["", *GUARDS])
def test_each_guard_of_a_closed_process_closes_something(without: str, tmp_path: Path) -> None:
    """All together let nothing through; one is missed only where no other stands behind it."""
    (tmp_path / "there").touch()
    tried = {name: text.format(tmp=tmp_path) for name, text in TRIED.items()}
    code = CLOSING.format(guards=tuple(g for g in GUARDS if g != without))
    done = subprocess.run([sys.executable, "-c", code, json.dumps(tried)], capture_output=True, text=True, check=True)
    found, missing = json.loads(done.stdout)
    if missing:
        pytest.skip(f"this system has no {', '.join(missing)}")
    assert {name for name, passed in found.items() if passed} == ({"memory"} if without == "memory" else set())
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def test_what_a_process_answers_is_not_believed_to_have_a_form() -> None:
    for value in (
        b"",
        b"x",
        b"mowich judge 1\n",
        b"mowich judge 1\n{",
        b"mowich judge 1\n" + b"\xff" * 40,
        b'{"why": 1}',
    ):
        with pytest.raises(UserError, match="what no run gives"):
            runs_of(value)


def test_the_command_line_and_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mowich import cli

    (tmp_path / "a.py").write_text(SOFTMAX)
    (tmp_path / "b.py").write_text(HEAD)
    words = [
        "kernel",
        "judge",
        str(tmp_path),
        "--reference",
        "@softmax",
        "--shapes",
        "x=float32[128,64]",
        "--seeds",
        "1",
    ]
    words += ["--cache", str(tmp_path / "kept")]
    assert cli.run([*words, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["schema"] == "mowich/judge@1"
    assert first["count"] == {"ok": 1, "timed": 0, "wrong": 0, "refused": 1}
    assert cli.run([*words, "--lines", "--quiet"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("status") for line in lines] == ["ok", "refused", None]
    assert lines[-1]["rows"] == first["rows"]  # what was kept is what was found
    found = mowich.judge([tmp_path], "@softmax", shapes=["x=float32[128,64]"], seeds=1, cache=tmp_path / "kept")
    assert found.to_dict()["rows"] == first["rows"]
    assert cli.run([*words[:2], str(tmp_path / "b.py"), *words[3:]]) == 5  # none is right
    with pytest.raises(UserErrors, match="no candidate"):
        mowich.judge([tmp_path / "*.txt", tmp_path / "none.py"], "@softmax")
    with pytest.raises(UserError, match="no reference in it"):
        mowich.judge([tmp_path], tmp_path / "b.py", shapes=["x=float32[128,64]"])
