"""Values reach a kernel, and leave it, through instructions only: what a kernel tries on the host is an error at its
line, or gets no value."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich
import mowich.nki as nki
import mowich.nki.beta1 as older
import mowich.nki.beta1.language as onl
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich import cli
from mowich.neuroncore.core import NkiValidationError

X = np.arange(8, dtype=np.float32).reshape(2, 4) + 3
SHAPE = X.shape


def assigned(t: Any, name: str, value: object) -> None:
    setattr(t, name, value)


def through_slots(t: Any) -> Any:
    hidden = [name for name in type(t).__slots__ if name.startswith("_") or name == "storage"]
    return next(getattr(t, name) for name in hidden)


def parsed(text: str) -> Any:
    return np.array([float(word) for word in text.replace("[", " ").replace("]", " ").split()])


def printed(t: Any) -> Any:
    out = io.StringIO()
    with redirect_stdout(out):
        nl.device_print("", t)
    return parsed(out.getvalue())


WAYS: dict[str, Callable[[Any], Any]] = {
    "numpy": lambda t: t.numpy(),
    "array": lambda t: t.array(),
    "read": lambda t: t.read(),
    "write": lambda t: t.write(X),
    "float32": lambda t: t.f32(),
    "storage": lambda t: t.storage.bytes,
    "its storage by its name": lambda t: t._storage,
    "its array by its name": lambda t: t._array,
    "the attributes": lambda t: vars(t)["storage"],
    "the slots": through_slots,
    "object's own lookup": lambda t: object.__getattribute__(t, "storage"),
    "the class above": lambda t: super(type(t), t).storage,  # type: ignore[misc]
    "the class": lambda t: type(t).storage.__get__(t),
    "asarray": lambda t: np.asarray(t),
    "a sum of NumPy": lambda t: np.add(t, 1),
    "float": lambda t: float(t[0:1, 0:1]),
    "int": lambda t: int(t[0:1, 0:1]),
    "a comparison": lambda t: bool(nl.equal(nl.load(t), nl.load(t))),
    "repr": lambda t: parsed(repr(t).partition("\n")[2].rstrip(">")).reshape(SHAPE),
    "str": lambda t: parsed(str(t).partition("\n")[2].rstrip(">")).reshape(SHAPE),
    "a printed tile": lambda t: printed(t).reshape(SHAPE),
    "the buffer protocol": lambda t: memoryview(t),
    "bytes": lambda t: bytes(t.view(nl.uint8)),
    "pickle": lambda t: pickle.dumps(t),
    "a deep copy": lambda t: copy.deepcopy(t).numpy(),
    "a tile of one's own": lambda t: type(t)(t, t.dtype, t.shape, t.strides),
    "another shape": lambda t: assigned(t, "shape", (1, 1)),
    "another access": lambda t: assigned(t, "access", None),
    "another method": lambda t: assigned(t, "numpy", lambda: X),
    "an array that fills HBM": lambda t: nl.full(SHAPE, X, nl.float32, nl.shared_hbm),
    "an array in memset": lambda t: nisa.memset(nl.ndarray(SHAPE, nl.float32, nl.sbuf), X),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_kernel_gets_no_values_on_the_host(way: str) -> None:
    """Neither of an argument nor of a tile: it raises, or what comes is not what lies there."""
    got: list[Any] = []

    def kernel(x: Any) -> Any:
        tile = nl.load(x)
        for t in (x, tile):
            try:
                got.append(np.asarray(WAYS[way](t), np.float32))
            except Exception as error:
                got.append(error)
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=tile)
        return out

    assert np.array_equal(nki.run_kernel(kernel, X.copy()).outputs[0], X)
    assert len(got) == 2
    assert all(isinstance(g, Exception) for g in got), got


@pytest.mark.parametrize("way", ["numpy", "read", "write", "storage", "asarray"])
def test_the_older_interface_gives_none_either(way: str) -> None:
    @older.jit
    def kernel(x: Any) -> Any:
        t = onl.load(x)
        for tensor in (x, t):
            with pytest.raises((AttributeError, NkiValidationError)):
                WAYS[way](tensor)
        out = onl.ndarray(x.shape, dtype=x.dtype, buffer=onl.shared_hbm)
        onl.store(out, t)
        return out

    assert np.array_equal(nki.run_kernel(kernel, X.copy()).outputs[0], X)


HEAD = (
    "import numpy as np\nimport nki\nimport nki.isa as nisa\nimport nki.language as nl\n\n"
    "HOST = np.ones((2, 4), np.float32)\n\n\n"
)
OUT = "    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)\n"
CHEATS = {
    "written on the host": (OUT + "    out.write(a.numpy() + 1)\n    return out\n", 3),
    "read on the host": (OUT + "    np.asarray(a)\n    return out\n", 3),
    "nothing at all": (OUT + "    return out\n", 2),
    "filled": ("    return nl.full(a.shape, 4.0, a.dtype, nl.shared_hbm)\n", 2),
    "a constant": ("    return nl.shared_constant(HOST)\n", None),
    "the argument": ("    return a\n", 0),
}


@pytest.mark.parametrize("name", CHEATS)
@pytest.mark.parametrize("verb", ["run", "profile --values"])
def test_an_output_that_no_instruction_made_is_an_error_at_its_line(
    name: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body, line = CHEATS[name]
    file = tmp_path / "cheat.py"
    file.write_text(f"{HEAD}@nki.jit\ndef k(a):\n{body}")
    assert cli.run(["kernel", *verb.split(), str(file), "-k", "k", "a=float32[2,4]"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    at = "" if line is None else f"{file}:{HEAD.count(chr(10)) + 1 + line}: "
    assert err.startswith(f"error: {at}"), err


def test_what_the_host_does_to_an_argument_does_not_reach_the_device() -> None:
    """An array that a kernel reaches as a name of its file, too."""
    given, answer = X.copy(), X * 7

    def kernel(x: Any) -> Any:
        given[...] = answer
        constant = answer.copy()
        held = nl.shared_constant(constant)
        constant[...] = 0
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=x)
        return out, nl.load(held) and out

    assert np.array_equal(nki.run_kernel(kernel, given).outputs[0], X)


def test_only_what_instructions_wrote_comes_back_to_an_argument() -> None:
    def kernel(x: Any, y: Any) -> Any:
        first[...] = 9
        nisa.dma_copy(dst=y[0:1, :], src=x[1:2, :])
        return y

    first, second = X.copy(), np.zeros(SHAPE, np.float32)
    nki.run_kernel(kernel, first, second)
    assert (first == 9).all()  # no instruction wrote to it: the caller's array is as the caller left it
    assert np.array_equal(second, np.vstack([X[1], np.zeros(4)]))


def test_a_run_without_instructions_has_no_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "nothing.py"
    file.write_text(f"{HEAD}@nki.jit\ndef k(a):\n    pass\n")
    time = mowich.run_kernel(mowich.load_kernel(file), X).time_s  # type: ignore[union-attr]
    assert (time.value, time.reason, time.grade) == (None, "no instruction ran", "")
    words = [str(file), "-k", "k", "a=float32[2,4]"]
    assert cli.run(["kernel", "profile", *words]) == 0
    assert "no time and no grade, because no instruction ran" in capsys.readouterr().out
    assert cli.run(["kernel", "profile", *words, "--json"]) == 0
    found = mowich.show.json.json.loads(capsys.readouterr().out)["time_s"]
    assert (found["value"], found["grade"], found["reason"]) == (None, None, "no instruction ran")
    assert cli.run(["kernel", "diff", str(file), str(file), "-k", "k", "a=float32[2,4]", "--json"]) == 0
    assert '"what": "total_time",\n   "a": null' in capsys.readouterr().out
