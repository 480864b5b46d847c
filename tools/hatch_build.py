"""Compiles the kernel clock (src/mowich/neuroncore/clock/c), the simulation of traffic (src/mowich/serving/traffic/c) and
the play of reinforcement learning (src/mowich/rl/c) when Mowich is built or installed, where a C compiler is.

Without a compiler, or where it fails, the wheel holds Python alone and the Python code of them runs; a line on stderr
says so. The libraries are no extension modules of Python: they are loaded with ctypes, and one serves every version of
Python on its platform. MOWICH_CLOCK=python asks for a wheel of Python alone, for every platform.

    python tools/hatch_build.py     compiles beside the sources again, for an editable install that is there
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARIES = {
    "mowich/neuroncore/clock/_clock.so": "kernel clock",
    "mowich/serving/traffic/_traffic.so": "simulation of traffic",
    "mowich/rl/_run.so": "play of reinforcement learning",
}
"""Libraries, each beside the folder `c` of its sources, with what it does."""
FLAGS = (
    *("-std=c99", "-O3", "-fwrapv", "-ffp-contract=off", "-fPIC", "-shared", "-fvisibility=hidden", "-s"),
    "-Werror=implicit-function-declaration",  # else a function that is not there is missed only when the code is loaded
)
"""Products and sums of floats are rounded apart, as Python does."""
GLIBC = {b"libc.so.6", b"libm.so.6"}
"""Parts of glibc that our code calls: what lies on every manylinux."""
OLDEST_GLIBC = 17
"""2.17: no installer that Python 3.11 has knows an older one on each machine."""
COMPILERS = ("cc", "gcc", "clang")
VARIABLE = "MOWICH_CLOCK"
UNWANTED = f"{VARIABLE}=python"
SOURCE = Path(__file__).resolve().parents[1] / "src"


def compilers() -> list[list[str]]:
    """Commands of the C compilers that are here: what CC names, or those of usual names."""
    named = os.environ.get("CC")
    wanted = [named.split()] if named else [[name] for name in COMPILERS]
    return [words for words in wanted if words and shutil.which(words[0])]


def digest(sources: Path) -> str:
    """As mowich.compiled has it, which cannot be imported yet."""
    made = hashlib.sha256()
    for path in sorted(sources.iterdir()):
        if path.suffix in (".c", ".h"):
            made.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return made.hexdigest()


def compiled(sources: Path, target: Path, flags: Iterable[str] = FLAGS) -> str:
    """Compile the sources into a library. Returns what is wrong, "" where nothing is."""
    found = compilers()
    if not found:
        return "no C compiler"
    problem = ""
    files = sorted(str(path) for path in sources.glob("*.c"))
    for compiler in found:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / target.name
            command = [*compiler, *flags, f'-DCOMPILED_SOURCES="{digest(sources)}"', *files, "-lm", "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0 and made.exists():
                # in one step: a process that runs may have loaded the one that is there
                beside = target.with_name(target.name + ".new")
                shutil.copyfile(made, beside)
                beside.replace(target)
                return ""
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it made no library"]
            problem = f"{' '.join(compiler)}: {next((line for line in lines if 'error' in line), lines[0])}"
    return problem


def compiled_beside(library: str, *, is_wanted: bool) -> str:
    """Compile a library beside its sources, or remove it where it cannot be. Returns what is wrong."""
    beside = SOURCE / library
    problem = compiled(beside.parent / "c", beside) if is_wanted else UNWANTED
    if problem:
        beside.unlink(missing_ok=True)
        complain(library, problem)
    return problem


def platform_tag(libraries: Iterable[bytes], platform: str) -> str:
    """The platform of a wheel with these libraries. On Linux with glibc: manylinux (PEP 600) with the newest version of
    glibc that one of them asks for, where none needs a library beside glibc; else what the system is called, which an
    index does not take.

    >>> platform_tag([b"\\0libm.so.6\\0libc.so.6\\0GLIBC_2.2.5\\0GLIBC_2.29\\0"], "linux-x86_64")
    'manylinux_2_29_x86_64'
    """
    named = platform.replace("-", "_").replace(".", "_")
    versions, needed = set[int](), set[bytes]()
    for data in libraries:  # names stand in the table of strings, each between zeros
        versions |= {int(minor) for minor in re.findall(rb"(?<=\0)GLIBC_2\.(\d+)(?:\.\d+)*(?=\0)", data)}
        needed |= set(re.findall(rb"(?<=\0)lib[\w+-]+\.so[.\d]*(?=\0)", data))
    if not versions or needed - GLIBC or not named.startswith("linux_"):
        return named
    return f"manylinux_2_{max(*versions, OLDEST_GLIBC)}_{named.removeprefix('linux_')}"


def complain(library: str, problem: str) -> None:
    print(f"mowich: the {LIBRARIES[library]} runs in Python, slower: {problem}", file=sys.stderr)


class CompiledHook(BuildHookInterface[Any]):
    """Called by hatchling for each wheel, editable ones too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put the libraries into the wheel; an editable install finds them beside the sources."""
        source = Path(self.root) / "src"
        is_wanted = f"{VARIABLE}={os.environ.get(VARIABLE)}" != UNWANTED
        self.folder = tempfile.mkdtemp()
        for library in LIBRARIES:
            if version == "editable":
                problem = compiled_beside(library, is_wanted=is_wanted)
            else:
                target = Path(self.folder) / Path(library).name
                problem = compiled((source / library).parent / "c", target) if is_wanted else UNWANTED
                if problem:
                    complain(library, problem)
                else:
                    build_data["force_include"][str(target)] = library
        made = [path.read_bytes() for path in Path(self.folder).iterdir()]
        if made:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform_tag(made, sysconfig.get_platform())}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The libraries are in the wheel."""
        shutil.rmtree(self.folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(len([one for one in LIBRARIES if compiled_beside(one, is_wanted=True)]))
