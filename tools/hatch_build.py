"""Compiles the kernel clock (src/mowich/neuroncore/clock/c) when Mowich is built or installed, where a C compiler is.

Without a compiler, or where it fails, the wheel holds Python alone and the clock's Python code runs; one line on
stderr says so. The library is no extension module of Python: it is loaded with ctypes, and one serves every version of
Python on its platform. MOWICH_CLOCK=python asks for a wheel of Python alone, for every platform.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACE = Path("mowich/neuroncore/clock")
LIBRARY = "_clock.so"
FLAGS = ("-std=c99", "-O3", "-fwrapv", "-fPIC", "-shared", "-fvisibility=hidden", "-s")
COMPILERS = ("cc", "gcc", "clang")


def compilers() -> list[list[str]]:
    """Commands of the C compilers that are here: what CC names, or those of usual names."""
    named = os.environ.get("CC")
    wanted = [named.split()] if named else [[name] for name in COMPILERS]
    return [words for words in wanted if words and shutil.which(words[0])]


def digest(sources: Path) -> str:
    """As mowich.neuroncore.clock.compiled has it, which cannot be imported yet."""
    made = hashlib.sha256()
    for path in sorted(sources.iterdir()):
        if path.suffix in (".c", ".h"):
            made.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return made.hexdigest()


def compiled(sources: Path, target: Path) -> str:
    """Compile the sources into a library. Returns what is wrong, "" where nothing is."""
    found = compilers()
    if not found:
        return "no C compiler"
    problem = ""
    files = sorted(str(path) for path in sources.glob("*.c"))
    for compiler in found:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / LIBRARY
            command = [*compiler, *FLAGS, f'-DCLOCK_SOURCES="{digest(sources)}"', *files, "-o", str(made)]
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


class ClockHook(BuildHookInterface[Any]):
    """Called by hatchling for each wheel, editable ones too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put the library into the wheel; an editable install finds it beside the sources."""
        root = Path(self.root)
        sources = root / "src" / PLACE / "c"
        beside = root / "src" / PLACE / LIBRARY
        is_editable = version == "editable"
        self.folder = tempfile.mkdtemp()
        target = beside if is_editable else Path(self.folder) / LIBRARY
        is_wanted = os.environ.get("MOWICH_CLOCK") != "python"
        problem = compiled(sources, target) if is_wanted else "MOWICH_CLOCK=python"
        if problem:
            if is_editable:
                beside.unlink(missing_ok=True)
            print(f"mowich: the kernel clock runs in Python, slower: {problem}", file=sys.stderr)
            return
        if not is_editable:
            build_data["force_include"][str(target)] = (PLACE / LIBRARY).as_posix()
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The library is in the wheel."""
        shutil.rmtree(self.folder, ignore_errors=True)
