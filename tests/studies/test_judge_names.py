"""What a candidate may say and reach, rule by rule, in this process: each line that is refused has a neighbour that is
allowed."""

from __future__ import annotations

import ast
import math
from typing import Any

import numpy as np
import pytest

from mowich.errors import UserError
from mowich.nki.install import installed
from mowich.studies.judge.names import candidate_globals, names_refused, parsed_candidate

REFUSED = {
    "import os": "it imports os",
    "import numpy, os.path": "it imports os.path",
    "from os import path": "it imports os",
    "from . import x": "it imports .",
    "from .numpy import x": "it imports .numpy",
    "from numpy import _core": "it imports _core, which is private",
    "import numpy as __future__": "__future__ is a name of Python's own",
    "from __future__ import __all__": "__all__ is a name of Python's own",
    "import math as __builtins__": "__builtins__ is a name of Python's own",
    "x.__dict__": ".__dict__ is an attribute of Python's own",
    "x.__init__()": ".__init__ is an attribute of Python's own",
    "other().__init__()": ".__init__ is an attribute of Python's own",
    "super().__new__(x)": ".__new__ is an attribute of Python's own",
    "x.super().__init__()": ".__init__ is an attribute of Python's own",
    "x.gi_frame": ".gi_frame is not a candidate's to look at",
    "self.f_back": ".f_back is not a candidate's to look at",
    "x._own": "._own is private",
    "x.self._own": "._own is private",
    "x.y = 1": ".y of what is not its own is changed",
    "del x.y": ".y of what is not its own is changed",
    "x.y += 1": ".y of what is not its own is changed",
    "__builtins__": "__builtins__ is a name of Python's own",
    "__init__": "__init__ is a name of Python's own",
    "__array_interface__ = 1": "__array_interface__ is a name of Python's own",
    "def __getattribute__(self, name): pass": "__getattribute__ is a name of Python's own",
    "async def __del__(self): pass": "__del__ is a name of Python's own",
    "class __len__: pass": "__len__ is a name of Python's own",
    "def f(__len__): pass": "__len__ is a name of Python's own",
    "f(__len__=1)": "__len__ is a name of Python's own",
    "def f():\n    global __len__": "__len__ is a name of Python's own",
    "try: pass\nexcept ValueError as __doc__: pass": "__doc__ is a name of Python's own",
    "match x:\n    case {'a': 1, **__doc__}: pass": "__doc__ is a name of Python's own",
    "match x:\n    case [*__doc__]: pass": "__doc__ is a name of Python's own",
    "match x:\n    case 1 as __doc__: pass": "__doc__ is a name of Python's own",
    "match x:\n    case C(_own=1): pass": "_own is not a candidate's to look at",
    "match x:\n    case C(gi_frame=1): pass": "gi_frame is not a candidate's to look at",
}
"""Text -> why its last line is refused."""

ALLOWED = """
from __future__ import annotations
import __future__
import math, numpy as np
from nki import language as nl
from numpy import add
class C:
    __slots__ = ("y", "_own")
    __doc__ = "of a class"
    def __init__(self, y):
        super().__init__()
        super().__post_init__()
        self.y = y
        self._own = y
        self.y += 1
        del self.y
    def __len__(self):
        return self._own
    async def __call__(cls):
        cls._own = 1
def f(_x, __y, z__):
    global held
    held = __name__, __file__, _x.y, [z__ for _ in range(3)]
    match _x:
        case C(y=1) | {"a": 1} as found:
            return found
"""


@pytest.mark.parametrize("text", REFUSED)
def test_a_line_is_refused_with_its_reason_and_place(text: str) -> None:
    (refusal,) = names_refused(ast.parse(text))
    assert refusal.what.startswith(REFUSED[text])
    assert refusal.line == len(text.splitlines())
    before = "x = 1\n" * 3
    with pytest.raises(UserError, match="not for a candidate: ") as caught:
        parsed_candidate(before + text, "mine.py")
    assert str(caught.value).endswith(refusal.what) or refusal.what in str(caught.value)
    assert caught.value.where == f"mine.py:{3 + refusal.line}"


def test_what_a_kernel_needs_is_allowed() -> None:
    assert names_refused(ast.parse(ALLOWED)) == []
    assert isinstance(parsed_candidate(ALLOWED, "mine.py"), ast.Module)


def test_lines_are_in_order_and_the_rest_is_counted() -> None:
    text = "def f():\n    return x._b\nimport os\nx._c\n"
    assert [r.line for r in names_refused(ast.parse(text))] == [2, 3, 4]
    with pytest.raises(UserError, match=r"\._b is private \(and 2 more\)"):
        parsed_candidate(text, "mine.py")
    with pytest.raises(UserError, match=r"\(and 1 more\)"):
        parsed_candidate("x._c\nx._d", "mine.py")
    with pytest.raises(UserError, match=r"\._c is private$"):
        parsed_candidate("x._c", "mine.py")


@pytest.mark.parametrize(("text", "line"), [("x = 1\ny = (", 2), ("a\0b", 1)])
def test_text_that_is_no_python_has_its_line(text: str, line: int) -> None:
    with pytest.raises(UserError, match="Error: ") as caught:
        parsed_candidate(text, "mine.py")
    assert caught.value.where == f"mine.py:{line}"


def run(text: str) -> dict[str, Any]:
    """The globals of a candidate after its text ran, in this process."""
    found = candidate_globals("mine.py")
    exec(compile(text, "mine.py", "exec"), found)
    return found


MODULES = (
    "from __future__ import annotations\n"
    "import typing, math, numpy as np, numpy.linalg, functools, operator, collections.abc\n"
    "from numpy import float32\nfrom collections import *\nimport nki.language as nl, nki\n"
)


def test_modules_show_their_public_names_alone() -> None:
    with installed():
        found = run(MODULES)
    np_ = found["np"]
    assert found["math"].pi == math.pi
    assert np_.linalg.norm([3.0, 4.0]) == 5.0
    assert found["float32"] is np.float32
    assert found["Counter"]("aa")["a"] == 2
    assert found["collections"].abc.Sequence
    assert np_.empty is np.zeros
    assert np_.empty_like is np.zeros_like
    for module, name in (
        (np_, "load"),
        (np_, "lib"),
        (np_, "_core"),
        (np_, "sys"),
        (found["typing"], "sys"),
        (found["typing"], "functools"),
        (found["functools"], "update_wrapper"),
        (found["operator"], "attrgetter"),
        (found["nki"], "simulate"),
        (found["nl"], "_own"),
    ):
        assert not hasattr(module, name)
    assert found["nl"] is found["nki"].language
    assert found["annotations"].compiler_flag
    assert np_.linalg is not np.linalg
    assert not hasattr(np_.linalg, "_umath_linalg")


def test_the_name_of_an_attribute_is_text() -> None:
    with pytest.raises(TypeError, match="attribute name must be string"):
        run("getattr(1, 2)")


@pytest.mark.parametrize("text", ["__import__('os')", "__import__('numpy', level=1)", "__import__('os.path')"])
def test_no_other_module_is_imported(text: str) -> None:
    with pytest.raises(ImportError, match="a candidate may not import"):
        run(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import math\ngetattr(math, '__dict__')", "__dict__ is not its own to look at"),
        ("import math\nhasattr(math, 'gi_frame')", "gi_frame is not its own to look at"),
        ("import math\nsetattr(math, 'pi', 3)", "pi of what is not its own is changed"),
        ("class C: pass\nsetattr(C(), '_x', 3)", "_x is not its own to look at"),
        ("type('C', (), {})", "makes a class; a class statement does"),
        ("type(1, metaclass=2)", "makes a class; a class statement does"),
        ("type()", "makes a class; a class statement does"),
        ("import numpy\nnumpy.ndarray((3,))", r"ndarray\(...\) makes an object of memory"),
        ("import enum\nenum.Enum('C', 'a b')", "an enumeration made by a call"),
        ("import enum\nenum.Enum('C', names='a b')", "an enumeration made by a call"),
        ("import functools\nfunctools.wraps(3)", "functools.wraps of what is no function"),
    ],
)
def test_a_call_is_refused_at_its_line(text: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        run(text)
    assert caught.value.where == f"mine.py:{len(text.splitlines())}"


def test_stand_ins_compare_as_what_they_stand_for() -> None:
    found = run(
        "import numpy as np, enum, functools\n"
        "a = np.zeros(3)\n"
        "class C: pass\n"
        "c = C()\nsetattr(c, 'x', 3)\n"
        "class E(enum.IntEnum):\n    one = 1\n"
        "def f(): 'said'\n"
        "@functools.wraps(f)\ndef g(): pass\n"
        "seen = [isinstance(a, np.ndarray), isinstance(c, np.ndarray), type(a) is np.ndarray, type(c) is C,\n"
        "    type(C) is type, isinstance(C, type), isinstance(3, type), issubclass(C, object), c.x == 3,\n"
        "    getattr(c, 'y', 7) == 7, hasattr(c, 'x'), hasattr(c, 'y'), E(1) is E.one, g.__doc__ == 'said',\n"
        "    issubclass(np.ndarray, np.ndarray), issubclass(C, np.ndarray), type(type) is type]\n"
    )
    no = {1, 6, 11, 15}
    assert found["seen"] == [place not in no for place in range(len(found["seen"]))]


def test_builtins_are_few() -> None:
    own = candidate_globals("mine.py")["__builtins__"]
    assert isinstance(own, dict)
    assert {"len", "range", "ValueError", "StopIteration", "print"} <= set(own)
    assert not {"open", "exec", "eval", "compile", "globals", "vars", "breakpoint", "input", "memoryview"} & set(own)
    assert candidate_globals("mine.py")["__file__"] == "mine.py"
