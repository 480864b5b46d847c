"""`kernel judge`: what is right is called right, no cheat is, whatever a candidate does ends with a line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich
from judge_cheats import CHEATS, HEAD, REACHED
from mowich.errors import UserError, UserErrors
from mowich.neuroncore.order import KernelSide, order_between, unshared
from mowich.requests.debugging import ReferenceFile
from mowich.studies.judge.candidate import JudgeRun, KernelCandidate, runs_of
from mowich.studies.judge.closed import GUARDS, readable_folders
from mowich.studies.judge.guests import GuestEnd, GuestLimits, in_guests
from mowich.studies.judge.judge import JudgeAsk, _ties, judge_kernels
from mowich.studies.judge.measured import KnownTimes, _sd, expected_gain

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


def test_the_fast_and_the_slow_the_wrong_and_the_refused(tmp_path: Path) -> None:
    texts = {
        "slow": SOFTMAX.replace(SCALED, SCALED + TWICE),
        "fast": SOFTMAX,
        "same": f"{SOFTMAX}\n# the same instructions\n",
        "wrong": SOFTMAX.replace(SCALED, ""),
        "unwritten": SOFTMAX.replace("        nisa.dma_copy(dst=result[start : start + size, :], src=power)\n", ""),
    }
    ask = replace(ASK, cache=tmp_path)
    found = judge_kernels(candidates(texts), ask)
    rows = {row.candidate.name: row for row in found.rows}
    assert [rows[name].status for name in texts] == ["ok", "ok", "ok", "wrong", "refused"]
    assert [row.candidate.name for row in found.rows[2:]] == ["slow", "wrong", "unwritten"]
    assert rows["slow"].order == "slower"
    assert (rows["slow"].p_best or 1.0) < 0.05
    assert {rows["fast"].order, rows["same"].order} == {"", "tie"}
    ties = {row.candidate.name: set(row.tied_with) for row in found.rows}
    assert ties == {"fast": {"same"}, "same": {"fast"}, "slow": set(), "wrong": set(), "unwritten": set()}
    assert found.best is not None
    assert found.best.run is not None
    x = np.zeros((256, 512), np.float32)
    alone = mowich.run_kernel(mowich.load_kernel(KERNELS / "softmax.py"), x, target="trn3", values=False)
    assert isinstance(alone, mowich.nki.Result)
    alone_s = alone.time_s.value
    assert alone_s is not None
    assert found.best.run.figures["time_s"]["value"] == alone_s  # the time that a profile says
    assert found.measure_next == ("fast", "same")  # which compile as they please; what is surely slower needs no device
    clock_s = {row.candidate.name: row.to_dict()["clock_s"] for row in found.rows}
    measured = {name: 1.3 * float(str(clock_s[name])) for name in ("fast", "slow")}
    second = judge_kernels(candidates(texts), replace(ask, measured_s=measured))
    rows = {row.candidate.name: row for row in second.rows}
    assert [row.candidate.name for row in second.rows[:3]] == ["same", "fast", "slow"]
    assert rows["fast"].known is not None
    assert rows["same"].known is not None
    assert rows["fast"].known.value == rows["fast"].known.high == measured["fast"]
    assert (
        alone_s < (rows["same"].known.value or 0.0) < measured["fast"]
    )  # it shares most of what the clock does not know
    assert second.measure_next == ()  # two were measured, as many as a fifth is at least


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_no_cheat_is_called_right(every: int) -> None:
    """Cheats of one kind stand side by side, so that each kind is among every third."""
    found = judge_kernels(candidates(dict(list(CHEATS.items())[::every])), replace(ASK, seeds=2))
    assert len(found.rows) >= 140 // every
    assert {row.candidate.name for row in found.rows if row.status in ("ok", "timed")} == set()
    assert all(row.reason for row in found.rows)
    assert [row.reason for row in found.rows if "bug in mowich" in row.reason or REACHED in row.reason] == []
    assert not Path("/tmp/judge-cheat").exists()


def drawn_sides(draw: np.random.Generator, count: int) -> list[KernelSide]:
    """Kernels of one interface, alike to drawn degrees."""
    sides = []
    for t in np.sort(draw.uniform(1.0, 1.5, count)):
        shares = draw.dirichlet(np.ones(3))
        path = {name: (float(x), 0.85, 1.2) for name, x in zip(("dma", "vector", "scalar"), shares, strict=True)}
        more: dict[str, Any] = {"kind": "3", "path": path, "pair": 0.05, "width": (0.9, 1.1), "risks": ()}
        sides.append(KernelSide(time_s=float(t), reason="", grade="C", **more))
    return sides


def test_who_ties_is_said_by_both_and_is_a_tie() -> None:
    """Of drawn times: each that is named ties by itself, both name each other, and the names are few."""
    draw, tied = np.random.default_rng(3), 0
    for _ in range(20):
        sides = [replace(side, pair=0.02, width=(0.99, 1.01)) for side in drawn_sides(draw, 12)]
        known = KnownTimes(sides, {})
        ties = _ties(known)
        for at, others in enumerate(ties):
            assert all(known.order(at, other).verdict == "tie" for other in others)
            assert all(at in ties[other] for other in others)
        assert sum(map(len, ties)) <= 2 * (len(sides) - 1)
        assert all((0 in ties[at]) == (known.order(0, at).verdict == "tie") for at in range(1, 12))
        tied += sum(map(len, ties))
    assert tied > 20


def test_what_is_measured_is_exact_and_moves_what_is_alike() -> None:
    """Of drawn kernels and drawn measured times: without any, an order is that of two kernels; with some, no range gets
    wider, those measured stay as they are, the order of the questions does not matter, and a time as predicted moves
    none; a kernel moves the more the more it shares."""
    draw = np.random.default_rng(5)
    for _ in range(30):
        sides = drawn_sides(draw, 7)
        before = KnownTimes(sides, {})
        assert all(before.order(a, b) == order_between(sides[a], sides[b]) for a in range(7) for b in range(7))
        places = draw.choice(7, 3, replace=False).tolist()
        measured = {at: before.time_s(at) * float(draw.uniform(0.8, 1.3)) for at in places}
        after = KnownTimes(sides, measured)
        assert [after.time_s(at) for at in measured] == [*measured.values()]
        for at in range(7):
            was, now = before.estimate(at), after.estimate(at)
            assert _sd(now) <= _sd(was) * (1 + 1e-9)
            for other in range(7):
                assert _sd(after.order(at, other).ratio) <= _sd(before.order(at, other).ratio) * (1 + 1e-9)
        turned = KnownTimes(sides[::-1], {6 - at: time for at, time in measured.items()})
        assert [turned.time_s(6 - at) for at in range(7)] == pytest.approx([after.time_s(at) for at in range(7)])
        same = KnownTimes(sides, {at: before.time_s(at) for at in measured})
        assert [same.time_s(at) for at in range(7)] == pytest.approx([before.time_s(at) for at in range(7)])
        one = KnownTimes(sides, {places[0]: before.time_s(places[0]) * 1.2})
        moved = {at: one.time_s(at) / before.time_s(at) for at in range(7) if at != places[0]}
        apart = {
            at: unshared(*({k: x for k, (x, _, _) in sides[i].path.items()} for i in (at, places[0]))) for at in moved
        }
        assert all(1.0 <= factor < 1.2 for factor in moved.values())
        assert moved[min(apart, key=lambda at: apart[at])] >= moved[max(apart, key=lambda at: apart[at])]


def test_what_is_said_of_measured_times_holds_where_the_world_is_as_said() -> None:
    """Errors drawn as the ranges say: 90% of the times that were not measured lie in their ranges, before and after a
    device spoke; and the fastest is found with less loss than by as many measured at random."""
    draw, inside, count, lost, lost_at_random = np.random.default_rng(11), 0, 0, [], []
    for _ in range(60):
        sides = drawn_sides(draw, 10)
        every = KnownTimes(sides, dict.fromkeys(range(10), 1.0))
        rows = np.array([every._shared(at) for at in range(10)])
        times = np.array([s.time_s or 0.0 for s in sides]) * np.exp(draw.multivariate_normal(np.zeros(10), rows))
        measured: dict[int, float] = {}
        while len(measured) < 3:
            ahead = KnownTimes(sides, measured).measure_next(1)
            if not ahead:
                break
            measured[ahead[0]] = float(times[ahead[0]])
        known = KnownTimes(sides, measured)
        for at in set(range(10)) - set(measured):
            e = known.estimate(at)
            inside += (e.low or 0.0) <= times[at] <= (e.high or 0.0)
            count += 1
        lost.append(times[known.by_time[0]] / times.min() - 1)
        lost_at_random.append(times[draw.choice(10, 3, replace=False)].min() / times.min() - 1)
    assert 0.85 < inside / count < 0.95
    assert np.mean(lost) < 0.5 * np.mean(lost_at_random)


def test_the_gain_that_is_expected_is_the_mean_of_what_is_saved() -> None:
    draw = np.random.default_rng(2)
    for ratio, sd in ((1.0, 0.06), (1.1, 0.1), (0.9, 0.05), (1.4, 0.1)):
        saved = np.maximum(0.0, 1 - ratio * np.exp(sd * draw.standard_normal(200_000)))
        assert expected_gain(ratio, sd) == pytest.approx(float(saved.mean()), abs=4e-4)


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
    assert "note: this system does not close a candidate's files" in capsys.readouterr().err


OLDER = """
import neuronxcc.nki as nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
from neuronxcc.nki.language import par_dim


@nki.jit
def softmax(x):
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(x.shape[0] // 128):
        tile = nl.load(x[start * 128 : start * 128 + 128, :])
        power = nl.exp(nl.subtract(tile, nl.max(tile, axis=1, keepdims=True)))
        nl.store(result[start * 128 : start * 128 + 128, :], nl.divide(power, nl.sum(power, axis=1, keepdims=True)))
    return result
"""


def test_a_kernel_of_the_older_interface_is_judged() -> None:
    [row] = judge_kernels(candidates({"older": OLDER}), ASK).rows
    assert (row.status, row.reason) == ("ok", "")


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
        with pytest.raises(UserError, match="an answer that no run gives"):
            runs_of(value)


def test_an_answer_of_any_length_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever byte its length begins with."""
    from mowich.studies.judge import candidate as judged

    run = {"shapes": [[2]], "formats": ["float32"], "arrays": [np.ones(2)], "figures": {}}
    side = {
        "time_s": 1.0,
        "reason": "",
        "grade": "C",
        "kind": "",
        "path": {},
        "pair": 0.1,
        "width": [1, 1],
        "risks": [],
    }
    for size in range(256):
        found = [{**run, "side": side, "warnings": ["x" * size]}]
        monkeypatch.setattr(judged, "_runs", lambda *_, found=found: found)
        [back], why = runs_of(judged.run_candidate(KernelCandidate(name="a", text=""), [], ASK.how))
        assert (back.warnings, back.outputs[0].tolist(), why) == (("x" * size,), [1.0, 1.0], "")


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
    slow = f"{tmp_path / 'a.py'}=50us"
    assert cli.run([*words, "--measured", slow, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert (row["measured_s"], row["time_s"]["value"], row["clock_s"]) == pytest.approx(
        (5e-5, 5e-5, first["rows"][0]["clock_s"])
    )
    assert cli.run([*words, "--measured", slow]) == 0
    assert "us measured" in " ".join(capsys.readouterr().out.split())
    for bad, said in (("x=1us", "unknown candidate 'x'"), ("a.py", "not a measured time"), ("a.py=1", "has no unit")):
        assert cli.run([*words, "--measured", bad]) == 2
        assert said in capsys.readouterr().err
    assert cli.run([*words[:2], str(tmp_path / "b.py"), *words[3:]]) == 5  # none is right
    with pytest.raises(UserErrors, match="no candidate"):
        mowich.judge([tmp_path / "*.txt", tmp_path / "none.py"], "@softmax")
    with pytest.raises(UserError, match="no reference in it"):
        mowich.judge([tmp_path], tmp_path / "b.py", shapes=["x=float32[128,64]"])


def test_what_numpy_loads_late_is_loaded_before_a_process_is_closed() -> None:
    """A closed process finds no module that was not looked for before: unique elements are asked for of some traces."""
    code = "import sys; from mowich.studies.judge import warm; assert 'numpy.ma' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
