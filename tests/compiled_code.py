"""Compiled libraries for tests: those that were installed, or compiled for them; none without a C compiler."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

from mowich.compiled import CompiledLibrary

ROOT = Path(__file__).resolve().parents[1]


def build_hook() -> ModuleType:
    """tools/hatch_build.py of this checkout."""
    spec = importlib.util.spec_from_file_location("mowich_hatch_build", ROOT / "tools" / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def available(library: CompiledLibrary) -> bool:
    """Whether there is a compiled library; compiled into a temporary folder where it was not installed."""
    if library.loaded()[0] is not None:
        return True
    hook = build_hook()
    if not hook.compilers():
        return False
    target = Path(tempfile.mkdtemp()) / library.path.name
    problem = hook.compiled(library.sources, target)
    assert not problem, problem
    library.path = target
    found, reason = library.loaded()
    assert found is not None, reason  # where there is a compiler, the code that it makes is what is tested
    return True


def fields_in_c(library: CompiledLibrary, place: str) -> list[tuple[str, str]]:
    """The fields of a struct of the C code, each of 64 bits or a struct itself: (name, its type; "*" of an address).
    place: "file.c:Name"."""
    file, name = place.split(":")
    text = re.sub(r"/\*.*?\*/", "", (library.sources / file).read_text(), flags=re.DOTALL)
    body = re.search(r"typedef struct \{([^}]*)\} " + name + ";", text)
    assert body, place
    out = []
    for declared in body[1].split(";")[:-1]:
        kind, names = re.fullmatch(r"\s*((?:const )?\w+)\s(.*)", declared, flags=re.DOTALL).groups()  # type: ignore[union-attr]
        for field in names.split(","):
            is_address = "*" in field
            assert is_address or not kind.startswith("int") or kind == "int64_t", (place, declared)
            out.append((re.sub(r"\bconst\b", "", field).strip(" *\n"), "*" if is_address else kind))
    return out


def functions_in_c(library: CompiledLibrary) -> dict[str, tuple[int, str]]:
    """The functions of a library: how many arguments they take, and what they return."""
    text = "".join(path.read_text() for path in sorted(library.sources.glob("*.c")))
    return {
        name: (arguments.count(",") + 1, result.replace(" ", ""))
        for result, name, arguments in re.findall(rf"EXPORT (\w+ \*?){library.prefix}_(\w+)\(([^)]*)\)", text)
    }
