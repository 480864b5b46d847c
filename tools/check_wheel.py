"""Whether a wheel holds the package with the files of kernels/ and scenarios/, all of it and nothing else.

    python tools/check_wheel.py dist/mowich-*.whl

A file that .gitignore matches is left out of a wheel without a word, and facts are files: so each file under src/mowich
is looked for, and each file of the wheel must be one of them, the wheel's own record, or a library that was
compiled for it, which a wheel without a C compiler lacks. Its name tells what those libraries need: on Linux the
version of glibc (manylinux), or an index refuses the wheel and a system takes one that it cannot run.
"""

from __future__ import annotations

import sys
import tomllib
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from hatch_build import platform_tag

ROOT = Path(__file__).resolve().parents[1]
COMPILED = {"mowich/neuroncore/clock/_clock.so", "mowich/serving/traffic/_traffic.so", "mowich/rl/_run.so"}


def problems(wheel: Path) -> list[str]:
    """One line for each thing that is wrong with a wheel of this checkout."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, beside = data["project"], data["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    record = f"{project['name']}-{project['version']}.dist-info/"
    source = ROOT / "src"
    wanted = {
        p.relative_to(source).as_posix(): p
        for p in (source / "mowich").rglob("*")
        if p.is_file()
        and "__pycache__" not in p.parts
        and p.relative_to(source).as_posix().removesuffix(".new") not in COMPILED
    }
    wanted |= {
        f"{place}/{p.relative_to(ROOT / folder).as_posix()}": p
        for folder, place in beside.items()
        for p in (ROOT / folder).rglob("*.*")
        if "__pycache__" not in p.parts
    }
    tag = wheel.stem.rpartition("-")[2]
    with zipfile.ZipFile(wheel) as file:
        libraries = [file.read(name) for name in COMPILED & set(file.namelist())]
        held = set(file.namelist()) - COMPILED
        out = [f"not in the wheel: {name}" for name in sorted(set(wanted) - held)]
        out += [f"not in src: {name}" for name in sorted(held - set(wanted)) if not name.startswith(record)]
        out += [
            f"other bytes than in src: {n}"
            for n in sorted(held & set(wanted))
            if file.read(n) != wanted[n].read_bytes()
        ]
    system, _, machine = tag.partition("_")
    needed = platform_tag(libraries, f"linux_{machine.split('_', 2)[-1]}" if system == "manylinux" else tag)
    if libraries and tag != needed:
        out.append(f"its name says {tag}, its libraries {needed}")
    out += [f"not in the wheel: {n}" for n in (f"{record}licenses/LICENSE", f"{record}METADATA") if n not in held]
    return out


def main() -> int:
    """Lines of what is wrong; 1 where there are any."""
    found = [f"{name}: {line}" for name in sys.argv[1:] for line in problems(Path(name))]
    if len(sys.argv) < 2:
        found = ["name a wheel: python tools/check_wheel.py dist/mowich-0.1.0-py3-none-any.whl"]
    print("\n".join(found) or "every file of src/mowich is in the wheel, and nothing else")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
