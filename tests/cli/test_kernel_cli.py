"""`mowich kernel run`: scripts and kernels as they are, results on stdout, errors of one line with the kernel's file
and line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import mowich.neuroncore.core as machine
from mowich import cli

HEAD = """import os, sys
import numpy as np
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def double(x, factor=2.0):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=factor)
    nisa.dma_copy(dst=out, src=tile)
    return out
"""
BODY = len(HEAD.splitlines()) + 1
"""Line of what follows the head."""


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


class Script:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "script.py"

    def __call__(self, body: str = "") -> str:
        self.file.write_text(HEAD + body)
        return str(self.file)


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = cli.run(["kernel", "run", *args])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_script_runs_as_main_with_its_arguments(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    body = """if __name__ == "__main__":
    assert os.environ["NKI_SIMULATOR"] == "1"
    print(sys.argv[1:], double(np.ones((2, 2), np.float32)).tolist(), nisa.get_nc_version().name)
"""
    code, out, err = run(capsys, script(body), "--target", "trn2", "--", "--size", "3")
    assert (code, err) == (0, "")
    assert out == "['--size', '3'] [[2.0, 2.0], [2.0, 2.0]] gen3\n"


def test_the_process_is_as_before(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    before = (sys.argv, list(sys.path), dict(os.environ), sys.modules["__main__"])
    run(capsys, script("raise ValueError('x')"), "--target", "trn2", "--lnc", "2")
    assert (sys.argv, sys.path, dict(os.environ), sys.modules["__main__"]) == before
    assert "nki" not in sys.modules
    from mowich.nki.runtime import launches

    assert (launches.target, launches.lnc) == (None, None)


def test_a_script_imports_its_neighbours(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    file = script("import neighbour_of_script; print(neighbour_of_script.N)")
    (script.file.parent / "neighbour_of_script.py").write_text("N = 7\n")
    assert run(capsys, file)[:2] == (0, "7\n")


def test_the_target_of_the_command_line_comes_before_the_kernels_own(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    body = """@nki.jit(platform_target="trn3")
def version(x):
    print(nisa.get_nc_version().name)
version(np.ones(1, np.float32))
"""
    assert run(capsys, script(body))[1] == "gen4\n"
    assert run(capsys, script(body), "--target", "trn2")[1] == "gen3\n"


def test_lnc_is_for_launches_without_a_grid(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    body = """@nki.jit
def programs(x):
    if nl.program_id(0) == 0:
        print(nl.num_programs(0))
programs(np.ones(1, np.float32))
programs[2](np.ones(1, np.float32))
"""
    assert run(capsys, script(body), "--lnc", "2")[1] == "2\n2\n"
    code, _, err = run(capsys, script(body.replace("programs[2]", "programs[1]")), "--lnc", "2")
    assert code == 2
    assert "NCC_EVRF066" in err


@pytest.mark.parametrize(
    ("body", "line", "said", "code"),
    [
        (
            (
                "@nki.jit\ndef bad(x):\n    nl.ndarray((256, 4), dtype=nl.float32, buffer=nl.sbuf)\nbad(np.ones(1,"
                " np.float32))\n"
            ),
            2,
            "exceeds 128 partitions",
            2,
        ),
        ("@nki.jit\ndef bad(x):\n    nisa.tensor_cpy(dst=x, src=x)\nbad(np.ones(1, np.float32))\n", 2, "tensor_cpy", 2),
        (
            (
                "@nki.jit\ndef bad(x):\n    t = nl.ndarray((1, 1), dtype=nl.float32, buffer=nl.sbuf)\n   "
                " nisa.activation(dst=t, op=nl.exp, dta=t)\nbad(np.ones(1, np.float32))\n"
            ),
            3,
            "dta",
            2,
        ),
        (
            "@nki.jit\ndef bad(x):\n    nisa.tensor_copy(dst=x, src=x)\nbad(np.ones((1, 1), np.float32))\n",
            2,
            "must be in SBUF or PSUM",
            2,
        ),
        ("x = 1\nassert x == 2, 'x is 1'\n", 1, "AssertionError: x is 1", 5),
        ("np.testing.assert_allclose(1.0, 2.0)\n", 0, "Not equal to tolerance", 5),
        ("open('/nowhere/at/all')\n", 0, "FileNotFoundError", 2),
        ("x = = 1\n", 0, "SyntaxError", 2),
    ],
)
def test_an_error_is_one_line_with_file_and_line(
    body: str, line: int, said: str, code: int, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    file = script(body)
    got, out, err = run(capsys, file)
    assert (got, out) == (code, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"error: {file}:{BODY + line}: ")
    assert said in err


def test_the_exit_code_of_the_script(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, script("sys.exit(3)"))[0] == 3
    assert run(capsys, script("sys.exit(0)"))[0] == 0
    code, _, err = run(capsys, script("sys.exit('no data')"))
    assert (code, err) == (1, "error: no data\n")


def test_a_file_that_launches_nothing_names_its_kernels(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, script())
    assert (code, out) == (0, "")
    assert "launched no kernel" in err
    assert "-k: double" in err
    assert run(capsys, script(), "--quiet") == (0, "", "")


def test_a_kernel_on_described_arrays(script: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((2, 3), 1.5, np.float32))
    saved = tmp_path / "out.npz"
    code, out, err = run(
        capsys, script(), "-k", "double", f"x={tmp_path}/x.npy", "factor=4", "--json", "--out", str(saved)
    )
    assert (code, err) == (0, "")
    made = json.loads(out)
    assert made["schema"] == "mowich/kernel-run@1"
    assert made["outputs"] == [{"output": 0, "shape": [2, 3], "dtype": "float32", "min": 6.0, "max": 6.0, "mean": 6.0}]
    assert np.load(saved)["arr_0"].tolist() == [[6.0] * 3] * 2


def test_random_arrays_follow_the_seed(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    args = (script(), "-k", "double", "x=bf16[8,4]")
    first, again, other = (run(capsys, *args, "--seed", s) for s in ("1", "1", "2"))
    assert first[0] == 0
    assert first == again != other
    assert "bfloat16[8, 4]" in first[1]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-k", "doubel", "x=float32[2,2]"], ["unknown kernel 'doubel'", "did you mean 'double'?"]),
        (["-k", "double"], ["double needs x", "x=float32[128,512]"]),
        (["-k", "double", "y=float32[2,2]", "z"], ["unknown argument of double 'y'", "NAME=VALUE, got 'z'"]),
        (["-k", "double", "x=flot32[2,2]"], ["unknown dtype 'flot32'"]),
        (["-k", "double", "x=/nowhere/x.npy"], ["cannot be read"]),
        (
            ["--target", "trn9", "--lnc", "3", "--json"],
            ["unknown target 'trn9'", "--lnc: must be at most 2, got '3'", "--json goes with -k"],
        ),
    ],
)
def test_bad_input_all_at_once(
    args: list[str], said: list[str], script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, script(), *args)
    assert (code, out) == (2, "")
    assert all(line.startswith("error: ") for line in err.splitlines())
    for words in said:
        assert words in err


def test_a_file_without_a_kernel_says_how_to_mark_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plain.py"
    file.write_text("x = 1\n", encoding="utf-8")
    code, out, err = run(capsys, str(file), "-k", "double")
    assert (code, out) == (2, "")
    assert "no kernel in it" in err
    assert "mark a function with @nki.jit" in err


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "nowhere.py")
    assert run(capsys, missing) == (2, "", f"error: {missing}: no such file\n")


def test_uninitialised_reads_warn_and_are_errors_when_strict(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    body = """@nki.jit
def empty(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf))
    return out
"""
    args = (script(body), "-k", "empty", "x=float32[2,2]")
    code, _, err = run(capsys, *args)
    assert code == 0
    assert err.startswith(f"warning: {script.file}:{BODY + 3}: reads uninitialised bytes")
    assert json.loads(run(capsys, *args, "--json", "--quiet")[1])["outputs"][0]["mean"] is None
    code, _, err = run(capsys, *args, "--strict")
    assert code == 2
    assert err.startswith(f"error: {script.file}:{BODY + 3}: reads uninitialised bytes")


def test_an_output_that_nothing_wrote_is_named_where_it_is_made(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    body = """@nki.jit
def empty(x):
    return nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
"""
    args = (script(body), "-k", "empty", "x=float32[2,2]")
    said = f"{script.file}:{BODY + 2}: the kernel returns tile [2, 2] float32 in HBM"
    for strict in ([], ["--strict"]):
        code, _, err = run(capsys, *args, *strict)
        assert code == 2
        assert err.startswith(f"error: {said}")
        assert "which no instruction wrote" in err
    assert machine.running() is None  # the next kernel is launched, not taken for a call from this one
    assert "x: not an array, got 'float32[2'" in run(capsys, args[0], "-k", "empty", "x=float32[2")[2]


def test_a_failure_inside_the_simulator_is_our_bug(
    script: Script, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mowich.neuroncore.instructions import TABLE

    monkeypatch.delitem(TABLE, "tensor_scalar")
    code, _, err = run(capsys, script(), "-k", "double", "x=float32[2,2]")
    assert code == 70
    assert "this is a bug in mowich: KeyError" in err


def test_a_kernel_is_compared_with_the_reference_of_its_own_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    given = "def inputs(seed=0):\n    return {'x': np.full((4, 4), 1.0 + seed, np.float32)}\n"
    file.write_text(f"{HEAD}\n{given}\ndef reference(x):\n    return 3 * x\n", encoding="utf-8")
    assert cli.run(["kernel", "run", str(file), "-k", "double", "--seed", "1"]) == 5
    said = capsys.readouterr()
    assert "it has 4, the reference 6" in said.err
    assert f"add --first-difference {file} to name the instruction" in said.err
    assert cli.run(["kernel", "run", str(file), "-k", "double", "--first-difference", str(file)]) == 5
    last = file.read_text(encoding="utf-8").splitlines().index("    nisa.dma_copy(dst=out, src=tile)") + 1
    assert f"mine.py:{last}: dma_copy leaves the reference" in capsys.readouterr().err
