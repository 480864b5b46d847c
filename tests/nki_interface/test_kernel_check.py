"""`mowich kernel check`: what the compiler would refuse, by the text of a file. Mistakes of the fixtures are marked on
their lines, and what is found is exactly what is marked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mowich import cli
from mowich.errors import UserError
from mowich.nki.check import NKI_RULES, check_file, check_text

ROOT = Path(__file__).resolve().parents[2]
MISTAKES = ROOT / "tests" / "fixtures" / "mistakes"
NAMED = {"integer-enumeration", "jit-option"}
"""Rules of versions that a user names."""

PARSES = (0, 6)
"""The newest version that parses a kernel."""

HEAD = "import nki, numpy as np\nimport nki.isa as nisa\nimport nki.language as nl\n"


def marked(file: Path) -> set[tuple[int, str]]:
    """(line, rule) of each mistake that a file marks."""
    return {
        (number, rule)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        for rule in re.findall(r"# finds ([\w-]+)", line)
    }


def found(text: str, version: tuple[int, int] | None = None, file: str = "kernel.py") -> set[tuple[int, str]]:
    return {(f.line, f.rule) for f in check_text(text, file, version=version).findings}


@pytest.mark.parametrize("name", ["python.txt", "words.txt"])
def test_what_is_found_is_what_is_marked(name: str) -> None:
    assert {(f.line, f.rule) for f in check_file(MISTAKES / name, version=PARSES).findings} == marked(MISTAKES / name)


def test_each_rule_over_text_has_a_mistake_that_breaks_it() -> None:
    text = {id for id, rule in NKI_RULES.items() if rule.stage in ("syntax", "words") or id in _LAUNCHES}
    broken = {rule for name in ("python.txt", "words.txt") for _, rule in marked(MISTAKES / name)}
    assert text - broken == NAMED | {"dynamic-range"}


_LAUNCHES = {"partitions", "returned-tile", "collective-on-argument"}


def test_a_rule_holds_for_its_versions_of_nki() -> None:
    text = HEAD + (
        "@nki.jit(platform_target='trn2')\n"
        "def k(x):\n"
        "    f = lambda a: a\n"
        "    nisa.dma_copy(dst=x, src=x, dge_mode=2)\n"
        "    for i in nl.dynamic_range(4):\n"
        "        nisa.dma_copy(dst=x, src=x)\n"
    )
    looked = check_text(text, "kernel.py")
    assert looked.findings == ()
    assert {(f.line, f.rule) for f in looked.parsing} == {(6, "lambda")}
    assert found(text, (0, 2)) == {(6, "lambda")}
    assert found(text, (0, 4)) == {(4, "jit-option"), (6, "lambda"), (7, "integer-enumeration")}
    assert found(text, (0, 7)) == {(4, "jit-option"), (7, "integer-enumeration"), (8, "dynamic-range")}


def test_what_a_kernel_reaches_in_a_file_beside_is_read(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("from .more import twice\n", encoding="utf-8")
    (tmp_path / "pack" / "more.py").write_text(
        "def twice(x):\n    return [a for a in x]\n\n\ndef unused():\n    raise ValueError\n", encoding="utf-8"
    )
    file = tmp_path / "kernel.py"
    file.write_text(HEAD + "import pack\n@nki.jit\ndef k(x):\n    return pack.twice(x)\n", encoding="utf-8")
    [one] = check_file(file, version=PARSES).findings
    assert (Path(one.file).name, one.line, one.rule) == ("more.py", 2, "comprehension")


def test_functions_of_the_host_are_not_read() -> None:
    text = HEAD + (
        "def inputs():\n    return {n: np.ones(4) for n in 'xy'}\n\n"
        "@nki.jit\ndef k(x):\n    nisa.dma_copy(dst=x, src=x)\n    return x\n\n"
        "if __name__ == '__main__':\n    print([k(a) for a in inputs().values()])\n"
    )
    assert found(text) == set()


def test_the_older_interface_is_traced_as_python() -> None:
    text = (
        "from neuronxcc import nki\nimport neuronxcc.nki.language as nl\n@nki.jit\ndef k(x):\n"
        "    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)\n"
        "    [nl.store(out, value=t) for t in [nl.load(x)]]\n    return out\n"
    )
    assert found(text, PARSES) == set()
    assert [c.older for c in check_text(text, "k.py").entries] == [True]
    assert found(text.replace("nl.store(out, value=t)", "nl.copy(t)")) == {(5, "unwritten-output")}


OUT = "    M, N = x.shape\n    out = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.shared_hbm)\n"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (OUT + "    t = nl.load(x)\n    return out\n", 7),
        (OUT + "    return out\n", 7),
        ("    M, N = x.shape\n    return x\n", 5),
        (OUT + "    foo.bar(x)\n    return out\n", 7),
        (OUT + "    foo.bar(out)\n    return out\n", None),  # it may have been written there
        ("    M, N = x.shape\n    foo.bar(x)\n    return x\n", None),
        (OUT + "    for i in range(M // 128):\n        nisa.dma_copy(dst=out, src=x)\n    return out\n", None),
        (OUT + "    if nl.program_id(0) == 1:\n        nisa.dma_copy(dst=out, src=x)\n    return out\n", None),
        (OUT + "    return out\n\n\n@nki.jit\ndef calls(x):\n    nisa.dma_copy(dst=k(x), src=x)\n    return x\n", None),
    ],
)
def test_an_output_that_no_instruction_made_is_unwritten(body: str, line: int | None) -> None:
    text = f"import nki, foo\nimport nki.isa as nisa\nimport nki.language as nl\n@nki.jit\ndef k(x):\n{body}"
    assert found(text) == (set() if line is None else {(line, "unwritten-output")})


@pytest.mark.parametrize("least", [7, 128, 512, 1000, 1024, 4000])
def test_an_output_that_larger_arguments_write_is_no_finding(least: int) -> None:
    text = (
        f"{HEAD}@nki.jit\ndef k(x):\n{OUT}    if N > {least}:\n        nisa.dma_copy(dst=out, src=x)\n    return out\n"
    )
    assert found(text) == set()


def test_one_kernel_of_a_file_is_checked_alone() -> None:
    text = HEAD + "@nki.jit\ndef a(x):\n    return (lambda: x)()\n@nki.jit\ndef b(x):\n    return x\n"
    assert len(check_text(text, "k.py", version=PARSES).findings) == 1
    assert check_text(text, "k.py", kernel="b", version=PARSES).findings == ()
    with pytest.raises(UserError, match=r"unknown kernel 'c'.*allowed: a, b"):
        check_text(text, "k.py", kernel="c")


def test_the_command_prints_a_line_each_and_ends_with_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "k.py"
    file.write_text(HEAD + "@nki.jit\ndef k(x):\n    del x\n", encoding="utf-8")
    assert cli.run(["kernel", "check", str(file), "--nki", "0.6"]) == 5
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{file}:6: a del statement; instead: let the name go")
    assert line.endswith("[del]")
    assert cli.run(["kernel", "check", str(file), "--nki", "0.6", "--json"]) == 5
    made = json.loads(capsys.readouterr().out)
    assert made["schema"] == "mowich/kernel-check@1"
    assert [(f["line"], f["rule"]) for f in made["findings"]] == [(6, "del")]


def test_the_command_prints_one_line_when_nothing_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "k.py"
    file.write_text(HEAD + "@nki.jit\ndef k(x):\n    nisa.dma_copy(dst=x, src=x)\n    return x\n", encoding="utf-8")
    assert cli.run(["kernel", "check", str(file)]) == 0
    assert (
        capsys.readouterr().out
        == f"{file}: nothing found (1 kernel, 1 function read); its values: mowich kernel run {file}\n"
    )


def test_what_only_a_parsing_compiler_refuses_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "k.py"
    file.write_text(HEAD + "@nki.jit\ndef k(x):\n    f = lambda a: a\n    return f(x)\n", encoding="utf-8")
    assert cli.run(["kernel", "check", str(file)]) == 0
    said, note = capsys.readouterr().out.splitlines()
    assert "nothing found (1 kernel" in said
    assert note == "note: NKI 0.6 and before, which parse a kernel, refuse 1 place of it (lambda): --nki 0.6 lists them"
    assert cli.run(["kernel", "check", str(file), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [f["rule"] for f in made["parsing_front_end"]] == ["lambda"]


@pytest.mark.share(3)
@pytest.mark.parametrize("file", sorted((ROOT / "kernels").glob("*.py")), ids=lambda f: f.stem)
def test_our_own_kernels_are_read_and_nothing_is_found(file: Path) -> None:
    looked = check_file(file)
    assert looked.kernels
    assert [f.text() for f in looked.findings] == []


def test_kernels_under_decorators_and_in_texts_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = (
        "def {}(x):\n    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)\n"
        "    nisa.dma_copy(dst=out, src={})\n    return out\n"
    )
    wrapped = (
        "import functools\ndef mine(f):\n    @functools.wraps(f)\n    def call(**a):\n"
        "        return nki.jit(f)(**a)\n    return call\n"
    )
    inside = HEAD + "@nki.jit\n" + kernel.format("inner", "x * 2")
    text = (
        HEAD
        + "import functools\non_trn2 = functools.partial(nki.jit, platform_target='trn2')\n"
        + wrapped
        + "@on_trn2\n"
        + kernel.format("first", "x * 2")
        + "@mine\n"
        + kernel.format("second", "x * 2")
        + "@mine\n"
        + kernel.format("third", "x")
        + f'TEXT = """\n{inside}"""\n'
    )
    file = tmp_path / "k.py"
    file.write_text(text, encoding="utf-8")
    wrong = [n for n, line in enumerate(text.splitlines(), 1) if "x * 2" in line]
    looked = check_file(file)
    assert {c.name for c in looked.kernels} == {"first", "second", "third", "inner"}
    assert [f.line for f in looked.findings] == wrong
    assert cli.run(["kernel", "check", str(file), "-k", "inner", "x=float32[128,4]"]) == 5
    assert f"{file}:{wrong[2]}: tiles have no operator *" in capsys.readouterr().out
    assert cli.run(["kernel", "check", str(file), "-k", "third", "x=float32[128,4]"]) == 0


@pytest.mark.parametrize(
    ("text", "args", "said"),
    [
        ("def k(:\n", [], "k.py:1: SyntaxError"),
        ("x = 1\n", [], "no kernel found: no function is under nki.jit"),
        ("x = 1\n", ["--nki", "new"], "--nki: not a version of NKI, got 'new'; for example 0.4"),
        ("x = 1\n", ["--nki", "0.1"], "allowed: 0.2 to 0.7"),
        ("x = 1\n", ["--nki", "0.9"], "whose rules are not known here, got '0.9'; allowed: 0.2 to 0.7"),
        ("x = 1\n", ["x=float32[2,2]"], "arguments go with -k"),
    ],
)
def test_bad_input_is_one_line(
    text: str, args: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "k.py"
    file.write_text(text, encoding="utf-8")
    assert cli.run(["kernel", "check", str(file), *args]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("way", ["write(a)", "numpy()", "array", "storage"])
def test_values_on_the_host_are_found_without_shapes(tmp_path: Path, way: str) -> None:
    """Of a tile that the kernel allocates; an argument may be something else than a tensor."""
    text = """import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def kernel(a):
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=a)
    OF.WAY
    return out
"""
    for of, lines in (("out", [10]), ("a", [])):
        file = tmp_path / f"{of}.py"
        file.write_text(text.replace("OF.WAY", f"{of}.{way}"))
        assert [f.line for f in check_file(file).findings] == lines
