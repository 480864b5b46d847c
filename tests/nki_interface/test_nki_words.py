"""Wrong names and wrong arguments in a kernel: one line with the kernel's file and line, what is allowed and the
nearest name."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

import mowich.nki as nki
import mowich.nki.beta1.isa as older_isa
import mowich.nki.beta1.language as older_nl
import mowich.nki.collectives as ncc
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich import cli
from mowich.errors import UserError
from mowich.nki import NkiValidationError
from mowich.nki.words import SHOWN, public

MODULES = [nki, nisa, nl, ncc, older_isa, older_nl]


def loaded(x):
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    return tile


def passed_on(x):
    words = {"dst": x, "sorce": x}
    nisa.dma_copy(**words)


def over_lines(x):
    nisa.activation(
        dst=loaded(x),
        op=nl.exp,
        data=loaded(x),
        alpha=2.0,
    )


def added(x):
    total = nl.zeros((128, 128), nl.float32, nl.psum)
    total += nisa.nc_matmul(total, loaded(x), loaded(x))


# kernel -> the type that Python raises, and the words of the line
CASES = {
    "name of an instruction": (
        lambda x: nisa.tensor_activation(x),
        AttributeError,
        ["nki.isa has no 'tensor_activation'", "nearest activation", "did you mean 'activation'"],
    ),
    "name of another module": (lambda x: nisa.exp(x), AttributeError, ["nki.isa has no 'exp'", "nki.language has it"]),
    "name of a format": (
        lambda x: nl.ndarray((4, 4), nl.bfloat, nl.sbuf),
        AttributeError,
        ["nki.language has no 'bfloat'", "did you mean 'bfloat16'"],
    ),
    "name of a collective": (
        lambda x: ncc.allreduce(x),
        AttributeError,
        ["nki.collectives has no 'allreduce'", "did you mean 'all_reduce'"],
    ),
    "name in nki": (lambda x: nki.langage, AttributeError, ["nki has no 'langage'", "did you mean 'language'"]),
    "name that went": (lambda x: nki.benchmark, AttributeError, ["has no nki.benchmark", "mowich kernel profile"]),
    "name in the older interface": (
        lambda x: older_isa.tensor_tenser(x),
        AttributeError,
        ["neuronxcc.nki.isa has no 'tensor_tenser'", "did you mean 'tensor_tensor'"],
    ),
    "attribute of a tile": (lambda x: x.shap, AttributeError, ["a Tile has no 'shap'", "did you mean 'shape'"]),
    "unknown keyword": (
        over_lines,
        TypeError,
        [
            "nki.isa.activation has no argument 'alpha'",
            "got 'alpha='",
            "allowed: dst (needed), op (needed), data (needed), bias, scale",
        ],
    ),
    "misspelt keyword": (
        lambda x: nisa.dma_copy(dts=x, src=x),
        TypeError,
        ["nki.isa.dma_copy has no argument 'dts'", "allowed: dst (needed), src (needed)", "did you mean 'dst'"],
    ),
    "keyword from a dict": (passed_on, TypeError, ["nki.isa.dma_copy has no argument 'sorce'", "did you mean 'src'"]),
    "keyword of an operator": (
        lambda x: nl.exp(loaded(x), scale=2.0),
        TypeError,
        ["nki.language.exp has no argument 'scale'", "allowed: x (needed), dtype"],
    ),
    "keyword of a reduction": (
        lambda x: nl.sum(loaded(x), axis=1, keepdim=True),
        TypeError,
        ["nki.language.sum has no argument 'keepdim'", "did you mean 'keepdims'"],
    ),
    "keyword of a tensor": (
        lambda x: nl.ndarray((4, 4), nl.float32, bufer=nl.sbuf),
        TypeError,
        ["nki.language.ndarray has no argument 'bufer'", "did you mean 'buffer'"],
    ),
    "keyword of a collective": (
        lambda x: ncc.all_reduce(srcs=x, dst=x, replica_group=[[0]], op=nl.add),
        TypeError,
        ["nki.collectives.all_reduce has no argument 'dst'", "did you mean 'dsts'"],
    ),
    "missing argument": (
        lambda x: nisa.tensor_tensor(dst=x, data1=x, data2=x),
        TypeError,
        ["nki.isa.tensor_tensor needs op", "got 'dst, data1, data2'", "allowed: dst (needed)"],
    ),
    "form of the older interface": (
        lambda x: nisa.nc_matmul(x, x),
        TypeError,
        ["nki.isa.nc_matmul needs moving", "writes to a tile that you give as dst", "neuronxcc.nki"],
    ),
    "too many by position": (
        lambda x: nisa.tensor_copy(x, x, None, None, None, 3),
        TypeError,
        ["nki.isa.tensor_copy takes at most 4 arguments by position", "got 6", "by name"],
    ),
    "missing in the older interface": (
        lambda x: older_isa.nc_matmul(x),
        TypeError,
        ["neuronxcc.nki.isa.nc_matmul needs moving", "got 'stationary'"],
    ),
    "arithmetic": (
        lambda x: loaded(x) + 1.0,
        TypeError,
        ["tiles have no operator +", "a tile and float", "nl.add(a, b)"],
    ),
    "comparison": (lambda x: loaded(x) > 0, TypeError, ["tiles have no operator >", "nl.greater(a, b)"]),
    "negation": (lambda x: -loaded(x), TypeError, ["tiles have no operator unary -", "nl.negative(a)"]),
    "sum of an instruction": (added, TypeError, ["a tile and an instruction", "accumulate=True"]),
    "word of an operator": (
        lambda x: nisa.tensor_scalar(loaded(x), loaded(x), op0="multipl", operand0=2),
        UserError,
        ["unknown operator 'multipl'", "did you mean 'multiply'"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_says_what_is_wrong_where_and_what_is_allowed(name: str) -> None:
    kernel, python_raises, words = CASES[name]
    with pytest.raises(python_raises) as caught:
        nki.run_kernel(kernel, np.ones((128, 128), np.float32), target="trn2")
    error = caught.value
    line = str(error)
    assert isinstance(error, UserError if python_raises is UserError else NkiValidationError)
    assert re.match(r".*test_nki_words\.py:\d+: .*$", line), line
    assert "\n" not in line
    for word in words:
        assert word in line, line


def test_the_line_is_that_of_the_call() -> None:
    with pytest.raises(NkiValidationError) as caught:
        nki.run_kernel(over_lines, np.ones((128, 128), np.float32), target="trn2")
    first = over_lines.__code__.co_firstlineno + 1
    assert f"test_nki_words.py:{first}: " in str(caught.value)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: SHOWN[m.__name__])
def test_python_still_finds_out_whether_a_name_is_there(module) -> None:
    assert not hasattr(module, "no_such_name")
    assert getattr(module, "no_such_name", 7) == 7
    assert not hasattr(module, "_private")
    assert not hasattr(module, "__wrapped__")
    with pytest.raises(ImportError, match="no_such_name"):
        exec(f"from {module.__name__} import no_such_name")


@pytest.mark.parametrize("module", MODULES, ids=lambda m: SHOWN[m.__name__])
def test_names_that_are_suggested_can_be_used(module) -> None:
    """Neither the modules and types that a module imports for itself, nor anything that is not there."""
    names = public(module)
    assert names
    assert not {"np", "Any", "Callable", "fail", "machine", "dma", "annotations", "Sequence"} & set(names)
    for name in names:
        assert getattr(module, name) is not None or name == "none"


def test_errors_of_the_kernel_itself_stay_as_they_are() -> None:
    def activation(x, scale):
        return x

    def own(x):
        activation(x, alpha=1)

    with pytest.raises(TypeError, match="unexpected keyword argument 'alpha'") as caught:
        nki.run_kernel(own, np.ones((4, 4), np.float32))
    assert not isinstance(caught.value, NkiValidationError)
    with pytest.raises(TypeError, match="'int' and 'str'"):
        nki.run_kernel(lambda x: 1 + "a", np.ones((4, 4), np.float32))
    with pytest.raises(AttributeError, match="'dict' object has no attribute 'x'"):
        nki.run_kernel(lambda x: {}.x, np.ones((4, 4), np.float32))


def test_ranks_and_programs_say_it_too() -> None:
    def kernel(x):
        nisa.dma_copy(dts=x, src=x)

    with pytest.raises(NkiValidationError, match="did you mean 'dst'"):
        nki.simulate_ranks(kernel, [{"x": np.ones((4, 4), np.float32)}] * 2)
    with pytest.raises(NkiValidationError, match="did you mean 'dst'"):
        nki.jit(kernel)[2](np.ones((4, 4), np.float32))


def test_an_import_of_a_wrong_name(tmp_path, capsys) -> None:
    file = tmp_path / "script.py"
    file.write_text("import nki.language as nl\nfrom nki.isa import tensor_activation\n")
    assert cli.run(["kernel", "run", str(file)]) == 2
    err = capsys.readouterr().err
    assert "script.py:2: nki.isa has no 'tensor_activation'" in err
    assert "did you mean 'activation'" in err
    file.write_text("from json import no_such\n")
    assert cli.run(["kernel", "run", str(file)]) == 2
    assert "ImportError: cannot import name 'no_such'" in capsys.readouterr().err


def test_nki_is_an_attribute_that_costs_nothing_until_it_is_used() -> None:
    code = (
        "import sys, mowich; early = 'mowich.nki' in sys.modules or 'numpy' in sys.modules; "
        "print(early, mowich.nki.isa.__name__, 'nki' in dir(mowich))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.stdout.split() == ["False", "mowich.nki.isa", "True"], out.stderr
