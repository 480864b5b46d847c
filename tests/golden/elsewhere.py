"""The corpus as other machines answer it: under each other dispatch level of NumPy that this CPU has (X86_V2, X86_V3,
X86_V4 where it is newer than that), and by the newest Python that is installed.

    python tests/golden/elsewhere.py            a fortieth of the questions each, chosen by hash   (.ci/run)
    python tests/golden/elsewhere.py --all      all of them, the slow ones too                      (make test-slow)
    python tests/golden/elsewhere.py --newest   the path of the newest Python                       (make)

NumPy chooses its kernels of exp, log and power by what the CPU has, and their last bits differ.
NPY_DISABLE_CPU_FEATURES takes features away. Python's sum() of floats has other last bits from 3.12 on.
"""

from __future__ import annotations

import argparse
import glob
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARE = 40
"""One question in so many is asked of a machine, others of another."""
FOLDERS = ("~/.pyenv/versions/*/bin", "/usr/local/bin", "/opt/python*/bin", "/opt/hostedtoolcache/Python/*/*/bin")
"""Where Pythons are installed, beside PATH."""


def levels() -> dict[str, str]:
    """Level -> features to take away for it; the level that this CPU has of itself is left out."""
    from numpy._core import _multiarray_umath as numpy_core

    has = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__[name]]
    names = [*numpy_core.__cpu_baseline__[-1:], *has]
    return {name: " ".join(has[i:]) for i, name in enumerate(names[:-1])}


def newest_python() -> str:
    """The path of the newest Python, of those that pyproject.toml names, that is newer than this one; "" without."""
    known = re.findall(r"Python :: 3\.(\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = [*os.environ.get("PATH", "").split(os.pathsep), *(os.path.expanduser(place) for place in FOLDERS)]
    for minor in sorted(map(int, known), reverse=True):
        if minor <= sys.version_info.minor:
            break
        for found in (path for folder in folders for path in sorted(glob.glob(f"{folder}/python3.{minor}"))):
            # pyenv has the name of a Python that it does not run; Debian has one without ensurepip
            if not subprocess.run([found, "-c", "import ensurepip"], capture_output=True, check=False).returncode:
                return found
    return ""


def asked(name: str, python: Path, without: str, words: list[str]) -> tuple[int, str]:
    """(exit code, what is said) of the corpus, asked by `python` without some features of the CPU."""
    begun = time.monotonic()
    ours = {"NPY_DISABLE_CPU_FEATURES": without, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [python, ROOT / "tests/golden/corpus.py", "diff", *words],
        cwd=ROOT,
        env={**os.environ, **ours},
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).strip()
    return done.returncode, f"{name}: {said} ({time.monotonic() - begun:.0f} s)"


def main() -> int:
    parser = argparse.ArgumentParser(description="The corpus as other machines answer it.")
    parser.add_argument("--all", action="store_true", help=f"all questions, not one in {SHARE}")
    parser.add_argument("--newest", action="store_true", help="print the path of the newest Python, and end")
    parser.add_argument("--jobs", type=int, default=2, help="machines at a time (default 2)")
    given = parser.parse_args()
    if given.newest:
        print(newest_python())
        return 0
    places = [(name, Path(sys.executable), without) for name, without in levels().items()]
    newest = ROOT / ".venv-newest/bin/python"  # make makes it
    if newest.exists():
        places.append(("the newest Python", newest, ""))
    else:
        print(f"no Python newer than 3.{sys.version_info.minor} is installed: the corpus is not asked by one")
    shares = [[] if given.all else ["--share", str(SHARE), "--part", str(part)] for part in range(len(places))]
    failed = 0
    with ThreadPoolExecutor(given.jobs) as pool:
        for code, said in pool.map(lambda place, share: asked(*place, share), places, shares):
            print(said, flush=True)
            failed = failed or code
    return failed


if __name__ == "__main__":
    sys.exit(main())
