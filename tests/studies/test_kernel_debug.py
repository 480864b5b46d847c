"""The debugger: what a stop says of tiles, memories and engines, names of tiles, references, and errors of one line, in
the words of the command line and of Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich import cli
from mowich.errors import EXIT_CHECK_FAILED, UserError
from mowich.nki import jit
from mowich.show.render.html import render_html
from mowich.studies.debug.difference import paired_places
from mowich.studies.debug.session import TileWriter

RNG = np.random.default_rng(5)
X = RNG.uniform(0.5, 2.0, (256, 32)).astype(np.float32)
EXACT = {"tolerance": 0}


class Scales:
    """A configuration of a kernel, with a list of tiles."""

    def __init__(self) -> None:
        self.kept: list[Any] = []


def halved(tile: Any, out: Any) -> None:
    nisa.tensor_scalar(dst=out, data=tile, op0=nl.multiply, operand0=0.5)


@jit
def rows(x: Any) -> Any:
    """Halves every row, less its largest element."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    scales = Scales()
    for i in range(2):
        tile = nl.ndarray((128, 32), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[128 * i : 128 * i + 128])
        top = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf, name="largest")
        nisa.tensor_reduce(dst=top, op=nl.maximum, data=tile, axis=1)
        scales.kept.append(top)
        less = nl.ndarray((128, 32), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(
            dst=less,
            data=tile,
            op0=nl.subtract,
            operand0=top,
        )
        half = nl.ndarray((128, 32), dtype=nl.float32, buffer=nl.sbuf)
        halved(less, half)
        nisa.dma_copy(dst=out[128 * i : 128 * i + 128], src=half)
    return out


HERE = Path(__file__).name
FIRST = rows.func.__code__.co_firstlineno
TEXT = Path(__file__).read_text().splitlines()


def line_of(words: str) -> int:
    """The line of the kernel that has these words."""
    return next(n for n, text in enumerate(TEXT[FIRST:], FIRST + 1) if words in text)


def debug(**asked: Any) -> Any:
    return mowich.debug_kernel(rows, X, **asked)


def test_a_line_in_the_middle_of_a_statement_and_a_call_stop_there() -> None:
    inside = debug(stop=f"{HERE}:{line_of('op0=nl.subtract,')}").stop
    assert inside.issued.name == "tensor_scalar"
    assert inside.issued.statement.text.startswith("nisa.tensor_scalar(dst=less")
    call = debug(stop=str(line_of("halved(less, half)"))).stop
    assert (call.issued.name, call.issued.line) == ("tensor_scalar", halved.__code__.co_firstlineno + 1)
    assert {"less", "half", "tile", "out"} <= {n for t in call.tiles for n in t.names}


def test_a_stop_says_tiles_memory_and_engines() -> None:
    found = debug(stop=f"{line_of('op0=nl.subtract,')}:2")
    stop = found.stop
    assert (stop.issued.number, stop.turn, stop.issued.engine) == (8, 2, "vector")
    read = {o.operand: o for o in stop.operands if o.role == "reads"}
    assert read["data"].tile == "tile"
    assert read["data"].summary.high == X[128:].max()
    assert [o.tile for o in stop.operands if o.role == "writes"] == ["less"]
    tiles = {t.names[0]: t for t in stop.tiles}
    assert tiles["less"].summary.written == 0
    assert tiles["out"].summary.written == 0.5
    assert tiles["tile"].writer == TileWriter(6, __file__, line_of("nisa.dma_copy(dst=tile"))
    assert tiles["x"].memory == "HBM"
    # tile, top and the top of the turn before, half of it; `less` is not written
    assert stop.sbuf_B == 32 * 4 + 4 + 4 + 32 * 4
    assert stop.psum_banks == 0
    assert sum(e.issued for e in found.engines) == 7
    assert found.time_s > 0


def test_tiles_are_named_as_the_kernel_names_them() -> None:
    stop = f"{line_of('op0=nl.subtract,')}:2"
    names = ["scales.kept[0][0:2, 0]", "largest[0]", "top", "tile[-1, ::16]", "tile[..., 0]"]
    kept, largest, top, last, column = debug(stop=stop, tiles=names).prints
    assert kept.values == X[:2].max(axis=1).tolist()
    assert largest.values == [float(X[128].max())]
    assert top.shape == (128, 1)
    assert last.values == X[255, ::16].tolist()
    assert column.shape == (128,)
    # inside a function that the kernel calls its own variables come first
    inside = debug(stop=str(line_of("halved(less, half)")), tiles=["tile", "less"]).prints
    assert inside[0].values == inside[1].values
    # at the end a variable stands for the tile that it held last
    assert debug(tiles=["scales.kept[1]"]).prints[0].summary.high == X[128:].max()


def test_what_nothing_wrote_has_no_value() -> None:
    [half] = debug(stop=str(line_of("halved(less, half)")), tiles=["half[0, 0:2]"]).prints
    assert half.values == [None, None]
    assert half.summary.written == 0
    assert half.summary.high is None


def test_a_tile_that_is_watched_up_to_a_stop() -> None:
    whole, short = debug(watch="top"), debug(watch="top", stop=f"{line_of('halved(less, half)')}:1")
    assert [(c.tile, c.line) for c in whole.changes] == [(n, line_of("nisa.tensor_reduce(")) for n in (1, 2)]
    assert short.changes == whole.changes[:1]
    assert [c.summary.high for c in debug(watch="top[0, 0]").changes] == [float(X[0].max()), float(X[128].max())]


def test_a_picture_of_a_watched_tile_is_drawn_on_the_page() -> None:
    found = debug(watch="half")
    page = render_html(json.loads(json.dumps(found.to_dict())))
    assert "How half changes" in page
    assert len(found.changes) == 2


def test_both_programs_of_a_launch_stop_and_are_compared() -> None:
    softmax = mowich.load_kernel("@softmax", "softmax")
    x = RNG.standard_normal((300, 64)).astype(np.float32)

    def reference(x: Any) -> Any:
        top = x.max(axis=1, keepdims=True)
        yield "minus_top", -top
        power = np.exp(x - top)
        yield "total", power.sum(axis=1)
        return power / power.sum(axis=1, keepdims=True)

    same = mowich.debug_kernel(softmax, x, lnc=2, first_difference=reference).comparison
    assert same.difference is None
    assert {c.name: c.tiles for c in same.compared} == {"minus_top": 3, "total": 3, "output 0": 1}
    stop = mowich.debug_kernel(softmax, x, lnc=2, stop="softmax.py:30").stop
    assert stop.issued.name == "activation_reduce"


def test_a_reference_names_tiles_in_lists_and_by_their_allocation() -> None:
    def reference(x: Any) -> Any:
        top = x.max(axis=1)
        yield "scales.kept[0]", top[:128]
        yield "largest", top
        yield {"top": top + 1}

    found = debug(first_difference=reference).comparison
    assert {c.name: (c.tiles, c.differing) for c in found.compared} == {
        "scales.kept[0]": (1, 0),
        "largest": (2, 0),
        "top": (2, 256),
    }
    assert (found.difference.line, found.difference.tile) == (line_of("nisa.tensor_reduce("), "top")


def test_outputs_alone_name_the_store_that_is_wrong() -> None:
    def reference(x: Any) -> Any:
        out = (x - x.max(axis=1, keepdims=True)) * np.float32(0.5)
        out[200, 3] += 1
        return out

    found = debug(first_difference=reference).comparison.difference
    assert (found.line, found.turn, found.index) == (line_of("nisa.dma_copy(dst=out"), 2, (200, 3))
    assert found.wanted == pytest.approx(found.got + 1)
    assert (found.differing, found.of) == (1, X.size)


def test_an_output_that_nothing_wrote_leaves_the_reference() -> None:
    @jit
    def half_written(x: Any) -> Any:
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out[0:128], src=x[0:128])
        return out

    with pytest.warns(UserWarning, match="never written"):
        found = mowich.debug_kernel(half_written, X, first_difference=lambda x: x).comparison.difference
    assert (found.got, found.index) == (None, (128, 0))
    assert "no instruction wrote" in found.note


@jit
def scaled(x: Any) -> Any:
    tile = nl.ndarray((128, 32), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x[0:128])
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=3.0)
    out = nl.ndarray((128, 32), dtype=nl.float32, buffer=nl.shared_hbm)
    nisa.activation(dst=tile, op=nl.exp, data=tile)
    nisa.dma_copy(dst=out, src=tile)
    return out


@jit
def unscaled(x: Any) -> Any:
    tile = nl.ndarray((128, 32), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x[0:128])
    out = nl.ndarray((128, 32), dtype=nl.float32, buffer=nl.shared_hbm)
    nisa.activation(dst=tile, op=nl.exp, data=tile)
    nisa.dma_copy(dst=out, src=tile)
    return out


def test_an_instruction_too_many_and_one_too_few_are_told() -> None:
    many = mowich.debug_kernel(scaled, X, first_difference=unscaled, **EXACT).comparison
    assert (many.paired, many.unpaired, many.missing) == (3, 1, 0)
    assert many.difference.statement == "nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=3.0)"
    assert many.difference.note == "the reference has no such instruction"
    few = mowich.debug_kernel(unscaled, X, first_difference=scaled, **EXACT).comparison
    assert (few.paired, few.unpaired, few.missing) == (3, 0, 1)
    assert few.difference.opcode == "activation"
    assert f"{HERE}:{scaled.func.__code__.co_firstlineno + 4} before it" in few.difference.note


def test_a_reference_that_does_not_run_twice_alike_is_told() -> None:
    runs: list[int] = []

    @jit
    def ends(x: Any) -> Any:
        tile = nl.ndarray((128, 32), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[0:128])
        runs.append(1)
        if len(runs) > 1:
            raise SystemExit(3)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=3.0)
        return x

    with pytest.raises(SystemExit):
        mowich.debug_kernel(scaled, X, first_difference=ends)
    with pytest.raises(UserError, match="two kernels are compared on one core"):
        mowich.debug_kernel(scaled, X, lnc=2, first_difference=scaled)


def test_matched_instructions_rise_on_both_sides() -> None:
    one, two = ([(name,) for name in names] for names in ("abcdeff", "abxcdyeff"))
    found = sorted(paired_places(one, two).items())
    assert [b for _, b in found] == sorted(b for _, b in found)
    assert all(one[a] == two[b] for a, b in found)
    assert len(found) == len(one)


def test_a_stop_where_the_kernel_fails_says_why_and_shows_the_state() -> None:
    @jit
    def broken(x: Any) -> Any:
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        for i in range(2):
            tile = nl.ndarray((128 - 8 * i, 32), dtype=x.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile, src=x[0 : 128 - 8 * i])
            nisa.tensor_tensor(dst=tile, data1=tile, data2=tile[0:120], op=nl.add)
        return out

    line = broken.func.__code__.co_firstlineno + 6
    with pytest.raises(UserError) as refused:
        mowich.debug_kernel(broken, X, stop=str(line + 40))
    found = mowich.debug_kernel(broken, X, stop=str(line), tiles=["tile[0, 0:2]"], watch="tile")
    assert found.stop.refused == refused.value.what
    assert (found.stop.issued.line, found.stop.turn) == (line, 1)
    assert {n for t in found.stop.tiles for n in t.names} == {"x", "out", "tile"}
    assert found.prints[0].values == X[0, 0:2].tolist()
    assert [c.name for c in found.changes] == ["dma_copy"]
    assert f"where it fails: {refused.value.what}" in " ".join(str(found).split())
    # another turn, or another line: the error itself
    for place in (f"{line}:2", str(line - 5)):
        with pytest.raises(UserError) as again:
            mowich.debug_kernel(broken, X, stop=place)
        assert str(again.value) == str(refused.value)


def test_arguments_are_changed_once_and_a_kernel_prints_once(capsys: pytest.CaptureFixture[str]) -> None:
    @jit
    def doubled(x: Any) -> Any:
        print("runs")
        tile = nl.ndarray((128, 32), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
        nisa.dma_copy(dst=x, src=tile)
        return x

    x = X[:128].copy()
    found = mowich.debug_kernel(doubled, x, first_difference=lambda x: 2 * x).comparison
    assert found.difference is None
    np.testing.assert_array_equal(x, 2 * X[:128])
    assert mowich.debug_kernel(doubled, x, first_difference=doubled).comparison.difference is None
    np.testing.assert_array_equal(x, 4 * X[:128])
    assert capsys.readouterr().out == "runs\n" * 2
    # a run that is stopped changes nothing of the caller's
    mowich.debug_kernel(doubled, x, stop=str(doubled.func.__code__.co_firstlineno + 6))
    np.testing.assert_array_equal(x, 4 * X[:128])
    assert sys.stdout is not None


def test_the_older_interface_is_looked_into_too() -> None:
    with mowich.nki.installed(replace=True):
        import neuronxcc.nki as older
        import neuronxcc.nki.language as onl

        @older.jit
        def product(a: Any, b: Any) -> Any:
            out = onl.ndarray((256, 64), dtype=onl.float32, buffer=onl.shared_hbm)
            turned = onl.ndarray((2, onl.par_dim(128), 128), dtype=onl.float32, buffer=onl.sbuf)
            for i in range(2):
                turned[i] = onl.load_transpose2d(a[i * 128 : (i + 1) * 128, 0:128])
            right = onl.load(b)
            for i in range(2):
                total = onl.zeros((128, 64), dtype=onl.float32, buffer=onl.psum)
                total += onl.matmul(turned[i], right, transpose_x=True)
                onl.store(out[i * 128 : (i + 1) * 128, :], onl.copy(total, dtype=onl.float32))
            return out

        a, b = (RNG.standard_normal(s).astype(np.float32) for s in ((256, 128), (128, 64)))
        found = mowich.debug_kernel(product, a, b, tiles=["turned[1, 0:2, 0:3]", "turned[1][0, 0]"], watch="total")

        def reference(a: Any, b: Any) -> Any:
            yield "total", a @ b
            return a @ b

        same = mowich.debug_kernel(product, a, b, first_difference=reference).comparison
    assert found.prints[0].values == a[128:131, 0:2].T.tolist()
    assert found.prints[1].values == a[128, 0]
    assert [c.name for c in found.changes] == ["memset", "nc_matmul"] * 2
    assert same.difference is None
    assert {c.name: c.tiles for c in same.compared} == {"total": 2, "output 0": 1}


# ---- errors, and the command line
# ----------------------------------------------------------------------------------------------------------------------

KERNEL = """import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def double(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    twice = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=twice, data=tile, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=out, src=twice)
    return out


def reference(x):
    yield "twice", FACTOR * x
    return FACTOR * x
"""
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"stop": "12:0"}, "not a line of a kernel, got '12:0'"),
    ({"stop": "double.py"}, "not a line of a kernel, got 'double.py'"),
    ({"stop": "double.py:12:2"}, "the line issues 1 instruction"),
    (
        {"stop": "14"},
        "no instruction comes from this line, got 'the kernel:14'; lines near it with instructions: 10, 12",
    ),
    ({"stop": "other.py:12"}, "no instruction comes from this file, got 'other.py'; allowed: double.py"),
    ({"print": ["twise"]}, "unknown tile 'twise' at the end; allowed: out, tile, twice, x; did you mean 'twice'?"),
    ({"print": ["twice"], "stop": "10"}, "unknown tile 'twice' at the stop"),
    ({"print": ["twice[9]"]}, "an index that the tile does not have, got 'twice[9]'; allowed: a tile of shape [4, 4]"),
    ({"print": ["twice + 1"]}, "not the name of a tile, got 'twice + 1'"),
    ({"print": ["twice[i]"]}, "not the name of a tile, got 'twice[i]'"),
    ({"print": ["twice[3:1]"]}, "no element is chosen, got 'twice[3:1]'"),
    ({"watch": "other"}, "unknown tile 'other'; allowed: out, tile, twice, x"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "double.py").write_text(KERNEL.replace("FACTOR", "2"))
    (tmp_path / "triple.py").write_text(KERNEL.replace("FACTOR", "3").replace("operand0=2.0", "operand0=3.0"))
    return tmp_path / "double.py"


def typed(asked: dict[str, Any]) -> list[str]:
    """What is asked as options."""
    words = []
    for name, value in asked.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", str(one)]
    return words


def ran(capsys: pytest.CaptureFixture[str], file: Path, *more: str) -> tuple[int, str, str]:
    code = cli.run(["kernel", "run", str(file), "-k", "double", "x=float32[4,4]", *more])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(("asked", "said"), REFUSED, ids=lambda x: str(x)[:40])
def test_the_command_line_and_python_refuse_alike_in_one_line(
    asked: dict[str, Any], said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ran(capsys, file, *typed(asked))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    [spelled] = [name for name in asked if err.startswith(f"error: --{name}: ")]
    called = {"tiles" if name == "print" else name: value for name, value in asked.items()}
    kernel = mowich.load_kernel(file, "double")
    with pytest.raises(UserError) as refused:
        mowich.debug_kernel(kernel, np.ones((4, 4), np.float32), **called)
    word = "tiles" if spelled == "print" else spelled
    assert str(refused.value) == err.removeprefix("error: ").strip().replace(f"--{spelled}", word, 1)


def test_options_that_do_not_go_together_are_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beside = ["--first-difference", str(file), "--stop", "10", "--print", "x"]
    code, _, err = ran(capsys, file, *beside)
    assert code == 2
    assert err.count("goes without --first-difference") == 2
    assert "goes with a run to the end" in ran(capsys, file, "--stop", "10", "--out", str(file.parent / "a.npz"))[2]
    assert "no such line, got 99; allowed: double.py has 19 lines" in ran(capsys, file, "--stop", "99")[2]
    assert "no such file" in ran(capsys, file, "--first-difference", "none.py")[2]
    assert cli.run(["kernel", "run", str(file), "--stop", "10", "--watch", "x"]) == 2
    assert capsys.readouterr().err.count("goes with -k") == 2
    with pytest.raises(UserError, match="nothing to look at"):
        mowich.debug_kernel(mowich.load_kernel(file, "double"), np.ones((4, 4), np.float32))


def test_json_and_csv_of_a_stop(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ran(capsys, file, "--stop", "double.py:12", "--print", "tile[0]", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["schema"], found["stop"]["line"], found["stop"]["opcode"]) == (
        "mowich/kernel-debug@1",
        12,
        "tensor_scalar",
    )
    assert found["prints"][0]["shape"] == [4]
    assert found["first_difference"] is None
    assert render_html(found)
    code, out, _ = ran(capsys, file, "--stop", "12", "--csv")
    assert code == 0
    assert out.splitlines()[0].startswith("tile,dtype,memory")
    assert len(out.splitlines()) == 5


def test_a_difference_has_the_exit_code_of_a_check(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ran(capsys, file, "--first-difference", str(file))
    assert (code, err) == (0, "")
    assert "no instruction leaves the reference" in out
    # a kernel of the same name comes first, a function by its name
    for beside, kind in (("triple.py", "kernel"), ("triple.py:reference", "function")):
        code, out, err = ran(capsys, file, "--first-difference", str(file.parent / beside), "--json")
        found = json.loads(out)["first_difference"]
        assert (code, found["reference"], found["difference"]["line"]) == (EXIT_CHECK_FAILED, kind, 12)
        assert err.count("\n") == 1
        assert f"{file}:12: tensor_scalar leaves the reference: twice[0, 0] is" in err


def test_a_reference_that_does_not_fit_is_told(file: Path) -> None:
    kernel, x = mowich.load_kernel(file, "double"), np.ones((4, 4), np.float32)
    wrong: list[tuple[Any, str]] = [
        (lambda x: x[:2], "the reference returns other shapes than the kernel, got [[2, 4]]; allowed: [[4, 4]]"),
        (lambda x: None, "the reference gives nothing"),
        (lambda y: y, "the reference takes other arguments than the kernel"),
        (lambda x: {"twise": x}, "unknown tile 'twise' that the reference yields"),
        (lambda x: {"twice": x[:3]}, "'twice' of the reference has other shapes than the tiles of the kernel"),
        (lambda x: (item for item in [3]), "the reference yields something that is not a tile, got 3"),
    ]
    for reference, said in wrong:
        with pytest.raises(UserError) as refused:
            mowich.debug_kernel(kernel, x=x, first_difference=reference)
        assert said in str(refused.value)
