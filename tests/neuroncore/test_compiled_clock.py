"""The wheel: the package and the compiled code. How that code is built and found, and what happens without it. Its
results: tests/property/test_clock_compiled.py, tests/serving/test_compiled_traffic.py."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import compiled_code
from mowich.compiled import source_digest
from mowich.errors import UserError
from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.costs import costs
from mowich.neuroncore.clock.schedule import schedule
from mowich.neuroncore.trace import Trace
from mowich.progress import IS_QUIET
from mowich.rl.compiled import RUN_LIBRARY
from mowich.serving.traffic.compiled import TRAFFIC_LIBRARY

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = (compiled.CLOCK, TRAFFIC_LIBRARY, RUN_LIBRARY)
MEMBERS = {one: one.path.relative_to(ROOT / "src").as_posix() for one in LIBRARIES}
needs_compiler = pytest.mark.skipif(not compiled_code.build_hook().compilers(), reason="no C compiler")


def check_wheel() -> ModuleType:
    """tools/check_wheel.py."""
    spec = importlib.util.spec_from_file_location("mowich_check_wheel", ROOT / "tools" / "check_wheel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(folder: Path, **environment: str) -> tuple[Path, list[str]]:
    """(The wheel, what the build of it said on stderr)."""
    kept = {k: v for k, v in os.environ.items() if k not in ("CC", "MOWICH_CLOCK")}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel, [line for line in done.stderr.splitlines() if line.startswith("mowich:")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The wheel of this checkout."""
    return build(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, list[str]], tmp_path: Path) -> None:
    wheel, _ = built
    check = check_wheel()
    assert check.problems(wheel) == []
    worse = tmp_path / "worse.whl"
    left_out, changed = "mowich/facts/sources.yaml", "mowich/units.py"
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(worse, "w") as new:
        for name in old.namelist():
            if name != left_out:
                new.writestr(name, b"" if name == changed else old.read(name))
        new.writestr("tests/conftest.py", "")
    assert check.problems(worse) == [
        f"not in the wheel: {left_out}",
        "not in src: tests/conftest.py",
        f"other bytes than in src: {changed}",
    ]


@needs_compiler
def test_a_wheel_holds_the_compiled_code_and_stays_small(built: tuple[Path, list[str]], tmp_path: Path) -> None:
    wheel, said = built
    assert said == []
    assert wheel.name.startswith("mowich-")
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    renamed = tmp_path / "mowich-0.1.0-py3-none-manylinux_2_5_x86_64.whl"
    shutil.copy(wheel, renamed)
    told = [line for line in check_wheel().problems(renamed) if line.startswith("its name says manylinux_2_5_x86_64")]
    assert len(told) == (sys.platform == "linux")
    for one, member in MEMBERS.items():
        with zipfile.ZipFile(wheel) as file:
            folder = f"/{one.path.parent.name}/"
            assert sum(i.compress_size for i in file.infolist() if folder in i.filename) < 200_000
            library = tmp_path / one.path.name
            library.write_bytes(file.read(member))
        program = f"""
import ctypes
sources = ctypes.CDLL({str(library)!r}).{one.prefix}_sources
sources.restype = ctypes.c_char_p
print(sources().decode())
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == source_digest(one.sources)


def test_a_wheel_is_named_by_the_glibc_that_its_libraries_need() -> None:
    tag = compiled_code.build_hook().platform_tag
    old, new = b"\0libc.so.6\0GLIBC_2.2.5\0", b"\0libm.so.6\0GLIBC_2.2.5\0GLIBC_2.29\0"
    assert tag([old], "linux-x86_64") == "manylinux_2_17_x86_64"
    assert tag([old, new], "linux-aarch64") == "manylinux_2_29_aarch64"
    assert tag([new, b"\0libgomp.so.1\0"], "linux-x86_64") == "linux_x86_64"
    assert tag([b"\0libc.so\0"], "linux-x86_64") == "linux_x86_64"  # musl
    assert tag([old], "macosx-11.0-arm64") == "macosx_11_0_arm64"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [("PATH", "", "no C compiler"), ("CC", "false", "false: it made no library")],
)
def test_what_keeps_it_from_being_compiled_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv(variable, value)
    assert compiled_code.build_hook().compiled(compiled.CLOCK.sources, tmp_path / "_clock.so") == says
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "says"), [({"PATH": ""}, "no C compiler"), ({"MOWICH_CLOCK": "python"}, "MOWICH_CLOCK=python")]
)
def test_without_it_the_wheel_is_python_alone_and_a_line_for_each_says_so(
    tmp_path: Path, environment: dict[str, str], says: str
) -> None:
    wheel, said = build(tmp_path, **environment)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert said == [f"mowich: the {one.what} runs in Python, slower: {says}" for one in LIBRARIES]
    with zipfile.ZipFile(wheel) as file:
        assert not set(MEMBERS.values()) & set(file.namelist())


@pytest.mark.slow
@needs_compiler
def test_an_editable_install_compiles_beside_the_sources(tmp_path: Path) -> None:
    """What `make` does. In a copy: the checkout may be in use."""
    (tmp_path / "tools").mkdir()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]:  # folders beside the package
        (tmp_path / name).mkdir(parents=True)
    for name in ("pyproject.toml", "tools/hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    for one in LIBRARIES:
        shutil.copytree(one.sources, (tmp_path / "src" / MEMBERS[one]).parent / "c")
    (tmp_path / "src" / "mowich" / "__init__.py").touch()
    program = "from hatchling.build import build_editable; build_editable('dist')"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / "src" / member).exists() for member in MEMBERS.values())


def no_library(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """As in a process that finds this library, or none."""
    monkeypatch.delenv("MOWICH_CLOCK", raising=False)
    monkeypatch.setattr(compiled.CLOCK, "path", place)
    monkeypatch.setattr(compiled.CLOCK, "_said", set())


def test_python_says_once_and_on_stderr_that_it_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_library(monkeypatch, tmp_path / "none.so")
    for _ in range(1000):
        assert compiled.library(100) is None
    quiet = IS_QUIET.set(True)
    assert compiled.library(compiled.WORTH_SAYING) is None
    IS_QUIET.reset(quiet)
    assert capsys.readouterr() == ("", "")
    for _ in range(3):
        assert compiled.library(compiled.WORTH_SAYING) is None
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "note: the kernel clock runs in Python, slowly: Mowich was installed without a C compiler, or not installed\n"
    )
    assert schedule([Trace()], costs(3)).total == 0


@needs_compiler
def test_a_library_of_other_sources_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "_clock.so"
    hook = compiled_code.build_hook()
    monkeypatch.setattr(hook, "digest", lambda _: "of yesterday")
    monkeypatch.setattr(hook, "FLAGS", tuple("-O0" if flag == "-O3" else flag for flag in hook.FLAGS))
    assert hook.compiled(compiled.CLOCK.sources, target) == ""
    no_library(monkeypatch, target)
    assert compiled.library() is None
    assert compiled.loaded()[1] == "_clock.so was compiled from other sources: install again"


def test_a_broken_library_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "_clock.so"
    broken.write_bytes(b"no library")
    no_library(monkeypatch, broken)
    assert compiled.library() is None
    monkeypatch.setenv("MOWICH_CLOCK", "compiled")
    with pytest.raises(UserError, match=r"there is no compiled kernel clock: _clock\.so: "):
        compiled.library()


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOWICH_CLOCK", "python")
    assert compiled.library() is None
    monkeypatch.setenv("MOWICH_CLOCK", "rust")
    with pytest.raises(UserError, match="MOWICH_CLOCK=rust"):
        compiled.library()
    if compiled_code.available(compiled.CLOCK):
        monkeypatch.setenv("MOWICH_CLOCK", "compiled")
        assert compiled.library() is not None
