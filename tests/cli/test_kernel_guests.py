"""Kernels that do what no kernel should: one line and the exit code of the contract, whatever they do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mowich import cli

SOURCE = """import os, signal, subprocess, sys
import numpy as np
import nki, nki.isa as nisa, nki.language as nl

class Mute(Exception):
    def __str__(self): raise ValueError("no")

class Shy:
    def __repr__(self): raise ValueError("no")

def copy(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.dma_copy(dst=out, src=tile)
    return out

def kept(shape): return nl.ndarray(shape, dtype=nl.float32, buffer=nl.shared_hbm)

def through(*bounds):
    for _ in nl.affine_range(*bounds): pass

def raises(error): raise error

def hoard():
    held = []
    while True: held.append(np.ones(1 << 20))

def again(x):
    kept((2, 2))
    again(x)

@nki.jit
def generator(x): yield copy(x)

@nki.jit
async def coroutine(x): return copy(x)

@nki.jit
def kernel(x):
    print("printed by the kernel")
    return {}
"""

Told = tuple[int, str, str]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Told:
    code = cli.run(["kernel", *words])
    out, err = capsys.readouterr()
    return code, out, err


def written(folder: Path, expression: str = "copy(x)") -> str:
    file = folder / "guest.py"
    file.write_text(SOURCE.replace("{}", expression))
    return str(file)


REFUSED = {
    "sys.exit(0)": "SystemExit: 0",
    "sys.exit(3)": "SystemExit: 3",
    "sys.exit([1])": "SystemExit: [1]",
    "raises(Mute())": "Mute: ",
    "raises(BaseException('base'))": "BaseException: base",
    "raises(GeneratorExit('end'))": "GeneratorExit: end",
    "again(x)": "RecursionError",
    "kept((128, 4.5))": "a dimension of a tensor is a whole number, got [128, 4.5]",
    "kept((True, 4))": "a dimension of a tensor is a whole number, got [True, 4]",
    "kept('12')": "a dimension of a tensor is a whole number",
    "kept(None)": "a dimension of a tensor is a whole number",
    "kept((Shy(), 2))": "a dimension of a tensor is a whole number",
    "kept((10**7, 10**7))": "exceeds the HBM of the chip",
    "through(2.5)": "a bound, a step or an index is a whole number, got 2.5",
    "through('a')": "a bound, a step or an index is a whole number, got 'a'",
    "through(0, 3, 0)": "the step of a range is not 0",
    "3": "the kernel returns something that is not a tensor, got 3",
    "(copy(x), {1})": "the kernel returns something that is not a tensor, got {1}",
    "Shy()": "the kernel returns something that is not a tensor, got <Shy>",
    "np.array([Shy()])": "the kernel returns something that is not a tensor",
}


@pytest.mark.parametrize("verb", ["run", "profile"])
@pytest.mark.parametrize("expression", REFUSED)
def test_what_a_kernel_may_not_do_is_one_line(
    expression: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, expression)
    code, out, err = run(capsys, verb, file, "-k", "kernel", "x=float32[8,4]", "--json")
    *printed, line = err.splitlines()
    assert (code, out) == (2, "")
    assert set(printed) <= {"printed by the kernel"}
    assert line.startswith(f"error: {file}:")
    assert REFUSED[expression] in line


@pytest.mark.parametrize("kernel", ["generator", "coroutine"])
@pytest.mark.parametrize("lnc", ["1", "2"])
def test_a_kernel_is_a_plain_function(
    kernel: str, lnc: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "run", written(tmp_path), "-k", kernel, "x=float32[8,4]", "--lnc", lnc)
    assert (code, out) == (2, "")
    assert "a kernel is a plain function" in err
    assert err.count("\n") == 1


def test_results_within_results_are_outputs_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, '{"a": {"b": copy(x)}, "c": [None, (copy(x[0:2]),)]}')
    code, out, _ = run(capsys, "run", file, "-k", "kernel", "x=float32[8,4]", "--json")
    assert code == 0
    assert [row["shape"] for row in json.loads(out)["outputs"]] == [[8, 4], [2, 4]]


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_what_a_kernel_prints_is_not_in_the_answer(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "run", written(tmp_path), "-k", "kernel", "x=float32[8,4]", form)
    assert (code, err) == (0, "printed by the kernel\n")
    assert "printed" not in out
    assert out


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("x=float32[10000000,10000000]", "x: a tensor of 3.725e+05 GiB exceeds the HBM of the chip"),
        ("x=float32[0,4]", "x: an array has at least one element in each dimension"),
        ("x=float32[,]", "x: not a shape"),
        ("x=float32[" + "1," * 70 + "1]", "x: maximum supported dimension"),
        ("x=" + "[" * 9000, "x: "),
    ],
)
@pytest.mark.parametrize("verb", ["run", "profile"])
def test_an_argument_that_is_no_array_is_refused_before_it_is_made(
    verb: str, argument: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, verb, written(tmp_path), "-k", "kernel", argument)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {said}")
    assert err.count("\n") == 1


HEADER = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"\x80\x04N.",
        (HEADER % b"1000000,1000000").ljust(127) + b"\n",
        b"\x93NUMPY\x09\x00",
    ],
)
def test_a_file_that_is_no_array_is_one_line(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    array = tmp_path / "x.npy"
    array.write_bytes(data)
    code, out, err = run(capsys, "run", written(tmp_path), "-k", "kernel", f"x={array}")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {array}: x: cannot be read: ")
    assert err.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for memory")
def test_an_array_beyond_the_memory_of_this_machine_is_not_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mowich.studies.kernel_files.physical_B", lambda: 1e6)
    code, _, err = run(capsys, "run", written(tmp_path), "-k", "kernel", "x=float32[1000,1000]")
    assert code == 2
    assert "this machine has no memory for an array of 0.003725 GiB" in err


@pytest.mark.parametrize(
    ("verb", "option", "to"),
    [
        ("run", "--out", "."),
        ("run", "--out", "absent/a.npz"),
        ("profile", "--trace", "absent/a.json"),
        ("profile", "--trace", "."),
        ("profile", "--html", "absent/a.html"),
        ("profile", "--out", "absent/a.json"),
        ("profile", "--parquet", "absent/folder"),
        ("profile", "--parquet", "guest.py"),
    ],
)
def test_a_file_that_cannot_be_made_is_told_before_the_kernel_runs(
    verb: str, option: str, to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path)
    code, out, err = run(capsys, verb, file, "-k", "kernel", "x=float32[8,4]", option, str(tmp_path / to))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {option}: ")
    assert err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["guest.py"]


@pytest.mark.parametrize(("ending", "code", "said"), [("0", 0, ""), ("7", 7, ""), ("[1]", 1, "[1]"), ("300", 44, "")])
def test_a_script_ends_with_its_own_code(
    ending: str, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "script.py"
    file.write_text(f"import sys; sys.exit({ending})")
    found, _, err = run(capsys, "run", str(file), "-q")
    assert (found, err) == (code, f"error: {said}\n" if said else "")


fork = pytest.mark.skipif(sys.platform != "linux", reason="limits of time and memory are Linux's")


@pytest.mark.slow
@fork
@pytest.mark.parametrize("verb", ["run", "profile"])
def test_a_kernel_without_end_is_ended_with_what_it_started(
    verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    alive = tmp_path / "alive"
    started = f"subprocess.run([sys.executable, '-c', \"import time; time.sleep(4); open('{alive}', 'w')\"])"
    began = time.monotonic()
    code, out, err = run(capfd, verb, written(tmp_path, started), "-k", "kernel", "x=float32[8,4]", "--timeout", "1")
    assert time.monotonic() - began < 3.5
    assert (code, out.replace("printed by the kernel\n", "")) == (4, "")
    assert err == "error: --timeout: the kernel took longer than 1 s; allow more\n"
    time.sleep(max(0.0, 5 - (time.monotonic() - began)))
    assert not alive.exists()


@fork
@pytest.mark.parametrize("limits", [(), ("--timeout", "20")])
def test_what_a_kernel_leaves_running_ends_with_it(
    limits: Sequence[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A child, and a grandchild in a session of its own whose parent ended."""
    made = tmp_path / "pids"
    leaves = f"subprocess.run(['sh', '-c', 'for s in \"\" setsid; do $s sleep 60 & echo $! >> {made}; done'])"
    file = written(tmp_path, f"({leaves}, copy(x))[1]")
    mine = subprocess.Popen(["sleep", "60"])
    assert run(capfd, "run", file, "-k", "kernel", "x=float32[8,4]", *limits)[0] == 0
    left = [int(word) for word in made.read_text().split()]
    assert len(left) == 2
    assert [pid for pid in left if Path(f"/proc/{pid}").exists()] == []
    assert mine.poll() is None  # what ran before it goes on
    mine.kill()
    mine.wait()


@pytest.mark.slow
@fork
def test_a_kernel_ends_itself_where_nobody_is_left_to_end_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    file = written(tmp_path, f"(open({str(pid)!r}, 'w').write(str(os.getpid())), through(10**12))")
    words = [sys.executable, "-m", "mowich", "kernel", "run", file, "-k", "kernel", "x=float32[8,4]", "--timeout", "3"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (pid.exists() and pid.read_text()):
            time.sleep(0.05)
        process.kill()
    guest = int(pid.read_text())
    for _ in range(100):
        if not Path(f"/proc/{guest}").exists() or ") Z " in Path(f"/proc/{guest}/stat").read_text():
            return
        time.sleep(0.1)
    os.kill(guest, signal.SIGKILL)
    raise AssertionError("the kernel runs on")


@fork
@pytest.mark.parametrize("verb", ["run", "profile"])
def test_a_kernel_that_takes_all_memory_is_refused_it(
    verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "hoard()")
    code, out, err = run(capfd, verb, file, "-k", "kernel", "x=float32[8,4]", "--memory", "0.25", "--json")
    assert (code, out) == (4, "")
    assert err.splitlines()[-1].startswith(f"error: {file}:")
    assert "the kernel needs more memory than it may take; allowed: --memory 0.25 (GiB)" in err


@fork
def test_within_its_limits_a_kernel_answers_as_ever(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("run", written(tmp_path), "-k", "kernel", "x=float32[8,4]", "--json")
    assert run(capfd, *words, "--timeout", "60", "--memory", "4") == run(capfd, *words)
    to = tmp_path / "kept.npz"
    assert run(capfd, *words, "--timeout", "60", "--out", str(to))[0] == 0
    assert np.load(to)["arr_0"].shape == (8, 4)


@fork
@pytest.mark.parametrize(
    ("expression", "code", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 2, "the process of the kernel was ended by SIGKILL"),
        ("3", 2, "the kernel returns something that is not a tensor"),
    ],
)
def test_an_end_in_the_other_process_is_told_here(
    expression: str, code: int, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, expression)
    found, out, err = run(capfd, "run", file, "-k", "kernel", "x=float32[8,4]", "--timeout", "60", "--json")
    assert (found, out) == (code, "")
    assert said in err.splitlines()[-1]


def test_a_platform_without_limits_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    words = ("run", written(tmp_path), "-k", "kernel", "x=float32[8,4]", "--json", "--timeout", "60")
    code, out, err = run(capsys, *words)
    assert code == 0
    assert json.loads(out)
    assert err.splitlines()[0] == "note: this platform has no limits for a process: --timeout and --memory are not kept"


ENDS = {
    "closes stdout": ("sys.stdout.close()", 0, ""),
    "has no stdout": ("sys.stdout = sys.stderr = None", 0, ""),
    "closes both": ("sys.stderr.close(); sys.stdout.close()", 0, ""),
    "ends the process": ("os._exit(0)", 2, "SystemExit"),
    "exits": ("sys.exit(0)", 2, "SystemExit"),
}


@pytest.mark.parametrize("way", sorted(ENDS))
def test_a_kernel_that_ends_its_process_or_its_streams_still_has_an_answer_or_a_line(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    does, code, line = ENDS[way]
    file = tmp_path / "guest.py"
    file.write_text(_GUEST.format(does=does), encoding="utf-8")
    assert cli.run(["kernel", "run", str(file), "-k", "copied", "a=float32[128,64]", "--json"]) == code
    said = capsys.readouterr()
    assert line in said.err
    assert ('"schema"' in said.out) == (code == 0)


_GUEST = """
import os, sys
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def copied(a):
    {does}
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=a)
    nisa.dma_copy(dst=out, src=tile)
    return out
"""
