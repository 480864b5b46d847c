"""The C code under the sanitizers of addresses and of undefined behaviour: its own tests, with libraries that end their
process where a read is outside of memory, or a shift, an index or a division has no meaning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import compiled_code
from mowich.compiled import CompiledLibrary
from mowich.neuroncore.clock.compiled import CLOCK
from mowich.rl.compiled import RUN_LIBRARY
from mowich.serving.traffic.compiled import TRAFFIC_LIBRARY

ROOT = Path(__file__).resolve().parents[2]
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1")
TESTS = {
    CLOCK: ("tests/property/test_clock_compiled.py",),
    TRAFFIC_LIBRARY: ("tests/serving/test_compiled_traffic.py",),
    RUN_LIBRARY: ("tests/rl/test_compiled_run.py",),
}


def _runtime(name: str) -> str:
    """Where the compiler has a library; "" where it has none."""
    for words in compiled_code.build_hook().compilers():
        asked = subprocess.run([*words, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
        if Path(asked.stdout.strip()).is_absolute():
            return asked.stdout.strip()
    return ""


def _compiled(library: CompiledLibrary, folder: Path) -> dict[str, str]:
    """The environment in which Python runs with a library that is compiled with sanitizers."""
    hook, runtimes = compiled_code.build_hook(), [_runtime(f"lib{name}.so") for name in ("asan", "ubsan")]
    if not sys.platform.startswith("linux") or not all(runtimes):
        pytest.skip("no compiler here that has the sanitizers of addresses and undefined behaviour")
    flags = [flag for flag in hook.FLAGS if flag not in ("-O3", "-s")]
    assert hook.compiled(library.sources, folder / library.path.name, [*flags, *SANITIZERS]) == ""
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps what it holds to its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT / 'src'}",
        "MOWICH_SANITIZED": str(folder),
    }


@pytest.mark.slow
@pytest.mark.parametrize("library", TESTS, ids=lambda library: library.path.stem)
def test_the_tests_of_the_c_code_pass_under_sanitizers(library: CompiledLibrary, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pytest", "-n", "0", "-p", "sanitized_libraries", "-p", "no:cacheprovider"]
    environment = {**_compiled(library, tmp_path), library.variable: "compiled"}
    ran = subprocess.run(
        [*words, *TESTS[library]], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert " passed" in ran.stdout


WRONG = r"""
#include <stdint.h>
#include <stdlib.h>
__attribute__((visibility("default"))) const char *clock_sources(void) { return COMPILED_SOURCES; }
__attribute__((visibility("default"))) int64_t beyond(int64_t n) {
  int64_t *made = malloc(n * sizeof *made), found = made[n];
  free(made);
  return found;
}
"""


@pytest.mark.slow
def test_a_read_beyond_memory_ends_the_process(tmp_path: Path) -> None:
    """Sanitizers that are there in name alone would let everything pass."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "wrong.c").write_text(WRONG)
    library = CompiledLibrary(
        what="wrong code", path=tmp_path / "_wrong.so", prefix="clock", variable="X", functions={}, worth_saying=0
    )
    environment = _compiled(library, tmp_path)
    code = f"import ctypes; ctypes.CDLL({str(library.path)!r}).beyond(ctypes.c_int64(8))"
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert "heap-buffer-overflow" in ran.stderr
