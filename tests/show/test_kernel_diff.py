"""Two versions of a kernel: lines matched by what they say and do, whatever stands where."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from mowich import cli
from mowich.neuroncore.changes import ChangedLine, Version, changes_between, matched
from mowich.neuroncore.source import statement

ROOT = Path(__file__).resolve().parents[2]

BEFORE = """
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def scaled(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for i in nl.affine_range(x.shape[0] // 128):
        t = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=x[128 * i : 128 * i + 128])
        nisa.activation(dst=t, op=nl.exp, data=t)
        nisa.tensor_scalar(dst=t, data=t, op0=nl.multiply, operand0=2.0)
        nisa.dma_copy(dst=out[128 * i : 128 * i + 128], src=t)
    return out
"""
AFTER = """
# Three more lines
# above all,
# and one line over several.
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def scaled(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for i in nl.affine_range(x.shape[0] // 128):
        t = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(
            dst=t,
            src=x[128*i : 128*i + 128],
        )
        nisa.activation(dst=t, op=nl.exp, data=t, scale=1.0)
        nisa.memset(nl.ndarray((128, 8), nl.float32, nl.sbuf), 0)
        nisa.dma_copy(dst=out[128 * i : 128 * i + 128], src=t)
    return out
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    for name, text in (("before", BEFORE), ("after", AFTER)):
        (tmp_path / f"{name}.py").write_text(text)
    return str(tmp_path / "before.py"), str(tmp_path / "after.py")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.run(["kernel", "diff", *words])
    out, err = capsys.readouterr()
    return code, out, err


ARGUMENTS = ("x=float32[1024,512]", "-k", "scaled", "--target", "trn2")


def found(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, list[dict[str, object]]]:
    code, out, err = run(capsys, *words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_lines_of_two_files_are_matched_by_content(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    made = found(capsys, *files, *ARGUMENTS)
    rows = {(r["a_line"], r["b_line"]): r for r in made["lines"]}
    hows = {k: r["how"] for k, r in rows.items()}
    assert hows == {
        ("before.py:11", "after.py:14"): "same",
        ("before.py:12", "after.py:18"): "edited",
        ("before.py:13", ""): "removed",
        ("", "after.py:19"): "added",
        ("before.py:14", "after.py:20"): "same",
        ("compiler", "compiler"): "same",
    }
    total = {r["what"]: r for r in made["summary"]}["total_time"]
    for side in "ab":
        assert sum(r[f"{side}_path"] or 0 for r in made["lines"]) == pytest.approx(total[side] * 1e9, rel=1e-6)
        assert sum(r[side] or 0 for r in made["causes"]) == pytest.approx(total[side] * 1e9, rel=1e-6)
    gone = rows["before.py:13", ""]
    assert (gone["a_count"], gone["b_count"], gone["b"], gone["ratio"]) == (8, 0, None, None)
    engines = {r["what"]: r for r in made["engines"]}
    assert engines["vector busy"]["a"] > engines["vector busy"]["b"] > 0
    changes = [abs((r["b_path"] or 0) - (r["a_path"] or 0)) for r in made["lines"]]
    assert changes == sorted(changes, reverse=True)


def test_the_text_shows_where_lines_went(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *files, *ARGUMENTS)
    assert code == 0
    assert "before.py:12 -> after.py:18" in out
    assert "removed  before.py:13" in out
    assert "added    after.py:19" in out
    assert "critical path by cause" in out
    assert "vector busy" in out


def test_folders_of_tables_give_the_same_lines(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("duckdb")
    for name, file in zip("ab", files, strict=True):
        assert cli.run(["kernel", "profile", file, *ARGUMENTS, "--parquet", str(tmp_path / name)]) == 0
    capsys.readouterr()
    direct = found(capsys, *files, *ARGUMENTS)
    for file in files:
        Path(file).write_text("")  # the tables hold the statements
    tables = found(capsys, str(tmp_path / "a"), str(tmp_path / "b"))
    keys = ("how", "what", "text", "a_line", "b_line", "a_count", "b_count")
    assert [[r[k] for k in keys] for r in tables["lines"]] == [[r[k] for k in keys] for r in direct["lines"]]
    for one, two in zip(tables["lines"], direct["lines"], strict=True):
        assert one["a_path"] == (None if two["a_path"] is None else pytest.approx(two["a_path"], abs=1e-3))
    assert [r["what"] for r in tables["causes"]] == [r["what"] for r in direct["causes"]]


def test_two_kernels_of_one_file(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = tmp_path / "both.py"
    both.write_text(BEFORE + AFTER.replace("scaled", "faster"))
    made = found(capsys, str(both), str(both), "x=float32[256,512]", "-k", "scaled,faster", "--target", "trn2")
    assert Counter(r["how"] for r in made["lines"])["same"] >= 3


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["no.py", "neither.py", "-k", "x"], "no such file"),
        (["{a}", "{b}"], "two files need the name of their kernel"),
        (["{a}", "{b}", "-k", "scaled", "--target", "trn9"], "trn9"),
        (["{a}", "{b}", "-k", "scald"], "did you mean 'scaled'"),
        (["{a}", "folder"], "a file beside a folder of tables"),
        (["folder", "other", "-k", "x"], "goes with two FILE.py"),
    ],
)
def test_bad_input_is_one_line(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    code, out, err = run(capsys, *(w.format(a=files[0], b=files[1]) for w in words))
    assert code == 2
    assert not out
    assert text in err


# properties ---------------------------------------------------------------------------------------------------------

OPCODES = ["DMA_COPY", "ACTIVATION", "TENSOR_TENSOR", "MATMUL"]


def version(r: random.Random, file: str = "k.py") -> list[ChangedLine]:
    """Lines of which some say the same."""
    lines = []
    for i in range(r.randint(0, 12)):
        opcode = r.choice(OPCODES)
        text = f"nisa.{opcode.lower()}(dst=t{r.randint(0, 3)}, src=u{r.randint(0, 2)})"
        busy = float(r.randint(0, 1000))
        lines.append(
            ChangedLine(
                file,
                i + 1,
                text,
                busy,
                Counter({("vector", opcode): r.randint(1, 5)}),
                {"vector_engine.clock": busy / 2},
            )
        )
    return lines


def test_every_line_is_matched_once() -> None:
    for seed in range(300):
        r = random.Random(seed)
        a, b = version(r), version(r)
        rows = matched(a, b)
        assert sorted(i for _, i, _ in rows if i >= 0) == list(range(len(a)))
        assert sorted(j for _, _, j in rows if j >= 0) == list(range(len(b)))
        assert [j for _, _, j in rows if j >= 0] == list(range(len(b)))
        for how, i, j in rows:
            assert (how == "removed") == (j < 0)
            assert (how == "added") == (i < 0)
            if how in ("same", "moved"):
                assert a[i].text == b[j].text
            if how == "edited":
                assert a[i].text != b[j].text
        in_order = [(i, j) for how, i, j in rows if how in ("same", "edited")]
        assert in_order == sorted(in_order)


def test_the_sums_of_both_versions_are_kept() -> None:
    for seed in range(300):
        r = random.Random(seed)
        a, b = Version(lines=version(r)), Version(lines=version(r))
        rows = changes_between(a, b)["lines"]
        for side, of in (("a", a), ("b", b)):
            assert sum(x[side] or 0 for x in rows) == sum(x.busy for x in of.lines)
            assert sum(x[f"{side}_count"] for x in rows) == sum(sum(x.opcodes.values()) for x in of.lines)


def test_a_version_beside_itself_has_no_change() -> None:
    for seed in range(100):
        a = version(random.Random(seed))
        shifted = [ChangedLine("other.py", x.line + 40, x.text, x.busy, x.opcodes, x.path) for x in a]
        assert [(how, i, j) for how, i, j in matched(a, shifted)] == [("same", i, i) for i in range(len(a))]
        for x in changes_between(Version(lines=a), Version(lines=shifted))["lines"]:
            assert (x["a"], x["a_path"]) == (x["b"], x["b_path"])


def test_statements_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "s.py"
    file.write_text(
        "def f(a):\n    x = [\n        a,\n        1,\n    ]\n    for i in (\n        x\n    ):\n        g(i); h(i)\n"
    )
    assert [statement(str(file), n).text for n in (2, 3, 5)] == ["x = [a, 1]"] * 3
    assert statement(str(file), 4).line == 2
    assert statement(str(file), 7).text == "for i in x:"
    assert statement(str(file), 9).text in ("g(i)", "h(i)")
    file.write_text("y = 2\n")
    assert statement(str(file), 1).text in ("y = 2", "def f(a):")
    assert statement(str(tmp_path / "none.py"), 3).text == ""
    (tmp_path / "bad.py").write_text("x = (\n  y  y\n")
    assert statement(str(tmp_path / "bad.py"), 2).text == "y y"
