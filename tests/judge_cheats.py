"""Candidates that want to be called right, or fast, without doing the work: patterns of public benches of kernels and
some of our own, each written anew. The task is `softmax` of kernels/softmax.py."""

HEAD = """\
import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np
"""

COPY = """
@nki.jit
def softmax(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for i in nl.affine_range(x.shape[0] // 128):
        t = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=x[i * 128:(i + 1) * 128, :])
        nisa.dma_copy(dst=out[i * 128:(i + 1) * 128, :], src=t)
    return out
"""
"""It moves the input to the output: instructions, and a wrong answer."""


def kernel(body: str, before: str = "") -> str:
    """A candidate with these lines in its kernel."""
    lines = "\n".join(f"    {line}" for line in body.strip("\n").split("\n"))
    return f"{HEAD}{before}\n@nki.jit\ndef softmax(x):\n{lines}\n"


OUT = "out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)\n"
_HOST = "e = np.exp(v - v.max(1, keepdims=True))\nw = e / e.sum(1, keepdims=True)\n"

CHEATS = {
    # answers that no instruction makes
    "returns its input": kernel("return x"),
    "returns an empty output": kernel(OUT + "return out"),
    "returns zeros of the host": kernel("return np.zeros(x.shape, np.float32)"),
    "returns None": kernel("return None"),
    "returns a number": kernel("return 0.5"),
    "returns a constant": kernel(
        OUT + "t = nl.full((128, x.shape[1]), 1.0 / x.shape[1], dtype=x.dtype, buffer=nl.sbuf)\n"
        "for i in range(x.shape[0] // 128):\n    nisa.dma_copy(dst=out[i * 128:(i + 1) * 128, :], src=t)\nreturn out"
    ),
    "one part of the work": HEAD + COPY.replace("x.shape[0] // 128", "1"),
    "copies alone": HEAD + COPY,
    "half of the rows twice": HEAD + COPY.replace("src=x[i * 128:(i + 1) * 128, :]", "src=x[0:128, :]"),
    "reads its input on the host": kernel("v = x.numpy()\n" + _HOST + OUT + "out.write(w)\nreturn out"),
    "numpy of a tensor": kernel("v = np.asarray(x)\n" + _HOST + "return w"),
    "numpy of a tensor, as an output": kernel("v = np.array(x)\n" + _HOST + OUT + "out[...] = w\nreturn out"),
    "a shared constant": kernel("v = np.asarray(x)\n" + _HOST + "return nl.shared_constant(w)"),
    # ways to the memory of tiles
    "storage of a tile": kernel(OUT + "out.storage.bytes[:] = 0\nreturn out"),
    "private storage": kernel(OUT + "out._storage.bytes[:] = 0\nreturn out"),
    "getattr of a private name": kernel(OUT + "s = getattr(out, '_sto' + 'rage')\nreturn out"),
    "getattr of a dunder": kernel("g = getattr(nl.add, '__glo' + 'bals__')\nreturn x"),
    "format reads attributes": kernel("'{0.__class__.__mro__}'.format(x)\nreturn x"),
    "globals of a function": kernel("g = nl.ndarray.__globals__\nreturn x"),
    "code of a function": kernel("softmax.func.__code__ = (lambda x: x).__code__\nreturn x"),
    "subclasses of object": kernel("c = object.__subclasses__()\nreturn x"),
    "class of a tuple": kernel("c = ().__class__.__base__\nreturn x"),
    "frames of a generator": kernel("g = (i for i in range(3))\nf = g.gi_frame.f_back\nreturn x"),
    "frames of an error": kernel(
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    f = e.__traceback__.tb_frame\nreturn x"
    ),
    "traceback by another name": kernel(
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    e = e.with_traceback(None)\nreturn x"
    ),
    "pattern of a class": kernel("match x:\n    case object(__class__=c):\n        pass\nreturn x"),
    # modules
    **{
        f"imports {name}": HEAD.replace("import nki\n", f"import {name}\nimport nki\n") + COPY
        for name in (
            *(
                "os",
                "sys",
                "ctypes",
                "gc",
                "inspect",
                "importlib",
                "builtins",
                "threading",
                "subprocess",
                "socket",
                "time",
            ),
            *(
                "multiprocessing",
                "signal",
                "pickle",
                "marshal",
                "io",
                "pathlib",
                "tempfile",
                "mowich",
                "mowich.nki.runtime",
            ),
            *(
                "neuronxcc_hidden",
                "asyncio",
                "concurrent.futures",
                "types",
                "weakref",
                "traceback",
                "linecache",
                "random",
            ),
        )
    },
    "from mowich": HEAD + "from mowich.neuroncore import core" + COPY,
    "sys of dataclasses": HEAD + "import dataclasses\nm = dataclasses.sys.modules" + COPY,
    "sys of typing": HEAD + "import typing\nm = typing.sys.modules" + COPY,
    "os of numpy": HEAD + "m = np.lib.format.os" + COPY,
    "loads of numpy": HEAD + "m = np.load" + COPY,
    "ctypes of an array": HEAD + "a = np.zeros(3).ctypes.data" + COPY,
    "attrgetter": HEAD + "import operator\ng = operator.attrgetter('__globals__')" + COPY,
    "hints of types": HEAD + "import typing\ng = typing.get_type_hints" + COPY,
    "relative import": HEAD + "from . import softmax as other" + COPY,
    "builtins by import": HEAD + "b = __import__('builtins')" + COPY,
    "dunder builtins": HEAD + "b = __builtins__" + COPY,
    "loader": HEAD + "b = __loader__" + COPY,
    # code and files
    **{
        f"uses {name}": HEAD + f"b = {name}" + COPY
        for name in (
            "open",
            "eval",
            "exec",
            "compile",
            "globals",
            "locals",
            "vars",
            "input",
            "breakpoint",
            "delattr",
            "memoryview",
            "dir",
            "help",
            "exit",
            "quit",
        )
    },
    "writes a file by numpy": HEAD + "np.zeros(3).tofile('/tmp/judge-cheat')" + COPY,
    # changes of what is not its own
    "another add": kernel("nl.add = lambda a, b: a\nreturn x"),
    "another copy": kernel("nisa.dma_copy = lambda **k: None\nreturn x"),
    "setattr of a module": kernel("setattr(nl, 'add', None)\nreturn x"),
    "another jit": HEAD + "nki.jit = lambda f: f" + COPY,
    "its kernel has no instructions": HEAD + "def softmax(x):\n    return x\n",
    "a class in the place of a kernel": HEAD + "class softmax:\n    pass\n",
    "two kernels": HEAD + COPY + COPY.replace("def softmax", "def other"),
    "no kernel": "x = 1\n",
    "no Python": "def softmax(x:\n",
    "an empty file": "",
    # ends
    "exits": kernel("raise SystemExit(0)"),
    "raises": kernel("raise ValueError('no')"),
    "asserts": kernel("assert False"),
    "recursion": kernel("def f():\n    return f()\nf()\nreturn x"),
    "interrupts": kernel("raise KeyboardInterrupt"),
}


# ---- what public benches of kernels have seen, and what red teams of this one found
# ----------------------------------------------------------------------------------------------------------------------

REACHED = "it reached"
"""What a candidate says in its error when it came where it may not come."""


def reaches(what: str, before: str = "") -> str:
    """A candidate that says what it reached."""
    return kernel(f"raise ValueError('{REACHED} ' + str({what}))", before)


_TILES = """\
t = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
u = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
"""
_LOADED = (
    OUT + _TILES + "for i in range(x.shape[0] // 128):\n    nisa.dma_copy(dst=t, src=x[i * 128:(i + 1) * 128, :])\n"
)
_STORED = "    nisa.dma_copy(dst=out[i * 128:(i + 1) * 128, :], src=u)\nreturn out"
_NAME = "'__array_' + 'interface__'"
_ADDRESS = "hash(HELD) * 16"
_MEMORY = f"{{'shape': (2,), 'typestr': '<i8', 'data': ({_ADDRESS}, False), 'version': 3}}"
_HELD = "HELD = object()\n"
_OWN = "class Own:\n    def get(self):\n        return self._index\n"


def memory(made: str, before: str = "") -> str:
    """A candidate that reads its process by an object which says where its memory is."""
    return reaches(f"np.array({made})[0]", f"{_HELD}{before}")


COUNTED = """
calls = []
def first():
    calls.append(1)
    return len(calls) == 1
"""
LEFT_BEHIND = kernel(
    """\
R, C = x.shape
out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
t = nl.ndarray((128, C), dtype=x.dtype, buffer=nl.sbuf)
b = nl.ndarray((128, C), dtype=nl.float32, buffer=nl.sbuf)
nisa.dma_copy(dst=t, src=x)
nisa.activation(dst=b, op=nl.exp, data=t)
nisa.tensor_scalar(dst=b, data=t, op0=nl.multiply, operand0=2.0)
w = softmax_of(left_behind())
nisa.dma_copy(dst=b, src=nl.shared_constant(w))
nisa.tensor_scalar(dst=t, data=t, op0=nl.multiply, operand0=0.0)
nisa.tensor_tensor(dst=b, data1=b, data2=t, op=nl.add)
nisa.dma_copy(dst=out, src=b)
return out""",
    """
kept = []
zero, never = np.zeros((128, 512), np.float32), np.zeros((128, 512), bool)
def left_behind():
    for _ in range(100):
        v = np.add(zero, zero, where=never)
        kept.append(v)
        v = np.nan_to_num(v, nan=0.0, posinf=0.0, neginf=0.0)
        if 1.9 < v.std() < 2.1:
            return v / 2
    return zero
def softmax_of(v):
    e = np.exp(v - v.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
""",
)
"""It finds numbers of its argument in memory that was freed, and gives them out as a constant (of [128, 512])."""

CHEATS |= {
    # memory that is not its own
    "memory left behind": LEFT_BEHIND,
    "memory by a property": memory(
        "P()", f"class P:\n    @property\n    def __array_interface__(self):\n        return {_MEMORY}\n"
    ),
    "memory by any attribute": memory(
        "P()",
        f"class P:\n    def __getattr__(self, name):\n        if name == {_NAME}:\n            return {_MEMORY}\n"
        "        raise AttributeError(name)\n",
    ),
    "memory by a pattern": memory(
        "P()", f"class P:\n    match {_MEMORY}:\n        case __array_interface__:\n            pass\n"
    ),
    "memory by an import": memory("P()", "class P:\n    from math import pi as __array_interface__\n"),
    "memory by a type that is made": memory(f"type('P', (), {{{_NAME}: {_MEMORY}}})()"),
    "memory by the type of a type": memory(f"type(type(HELD))('P', (), {{{_NAME}: {_MEMORY}}})()"),
    "memory by an enumeration": memory(f"enum.Enum('P', {{'A': 1, {_NAME}: {_MEMORY}}}).A", "import enum\n"),
    "memory by a dataclass": memory(
        f"dataclasses.make_dataclass('P', [], namespace={{{_NAME}: {_MEMORY}}})()", "import dataclasses\n"
    ),
    "memory by an abstract class": memory(f"abc.ABCMeta('P', (), {{{_NAME}: {_MEMORY}}})()", "import abc\n"),
    "memory by a prepared class": memory(
        "P()",
        f"class M(type):\n    def __prepare__(name, bases):\n        return {{{_NAME}: {_MEMORY}}}\n"
        "class P(metaclass=M):\n    pass\n",
    ),
    "objects at an address": reaches(f"np.ndarray((1,), dtype=object, buffer=np.array([{_ADDRESS}]))[0]", _HELD),
    "records at an address": reaches(
        f"np.rec.array(np.array([{_ADDRESS}]).tobytes(), dtype=[('a', object)], shape=1)", _HELD
    ),
    "an array class by its type": reaches(
        f"type(np.ones(1))((1,), dtype=object, buffer=np.array([{_ADDRESS}]))", _HELD
    ),
    "an array that is resized under a view": reaches("a.resize(1 << 20, refcheck=False)", "a = np.ones(8)\nb = a[:]\n"),
    "state of a generator of numbers": reaches("np.random.PCG64().ctypes"),
    # attributes by other names
    "attributes by a format": reaches(
        "string.Formatter().get_field('0.__globals__', (nl.ndarray,), {})", "import string\n"
    ),
    "attributes that are copied": reaches(
        "functools.update_wrapper(Own(), nl.ndarray, assigned=('__globals__',), updated=())",
        f"import functools\n{_OWN}",
    ),
    "attributes that are wrapped": reaches(
        "functools.wraps(nl.ndarray, assigned=('__globals__',))(Own())", f"import functools\n{_OWN}"
    ),
    "object of an error": reaches(
        "caught()",
        "def caught():\n    try:\n        (1).nothing\n    except AttributeError as e:\n        return e.obj\n",
    ),
    "generator of a context": reaches(
        "c().gen", "import contextlib\n@contextlib.contextmanager\ndef c():\n    yield\n"
    ),
    "methods by their names": reaches("operator.methodcaller('numpy')(x)", "import operator\n"),
    "an enumeration in the place of a module": reaches(
        "enum.global_enum(E)", "import enum\nclass E(enum.Enum):\n    dma_copy = 1\n"
    ),
    "a finaliser": reaches("1", "class Late:\n    def __del__(self):\n        pass\n"),
    # the simulator from within
    "runs a kernel on the host": reaches("nki.run_kernel"),
    "launches itself": reaches("softmax.launch"),
    "its latency": reaches("nki.last_latency_us"),
    "puts itself in the place of nki": reaches("nki.install(replace=True)"),
    "a file of numbers": kernel("return nl.shared_constant('/etc/hostname')"),
    "an answer beside it": kernel("return nl.shared_constant(__file__.replace('.py', '.npy'))"),
    # work that is left out where nobody seems to look
    "right the first time": HEAD + COUNTED + COPY.replace("    return out", "    return out if first() else x"),
    "the answer of the first time": HEAD
    + "kept = []\n"
    + COPY.replace("    return out", "    kept.append(out)\n    return kept[0]"),
    "another answer without values": kernel(
        "try:\n    float(x[0, 0])\nexcept Exception:\n    return x\n" + OUT + "return out"
    ),
    "errors that are swallowed": kernel(
        OUT + "try:\n    out.write(np.asarray(x))\nexcept BaseException:\n    pass\nreturn out"
    ),
    "numbers when they are asked for": kernel(
        "return Lazy(x)",
        "class Lazy:\n    def __init__(self, x):\n        self.shape = x.shape\n        self.dtype = np.float32\n",
    ),
    "a reference of its own": HEAD
    + COPY
    + "\ndef reference(x):\n    return x\n\ndef inputs(seed=0):\n    return {'x': np.zeros((256, 512), np.float32)}\n",
    "a tolerance of its own": HEAD + COPY + "\nTOLERANCES = {4: 1e9}\ntolerance = 1e9\n",
    "its argument made easy": kernel(
        _TILES + "nisa.memset(dst=t, value=0)\nfor i in range(x.shape[0] // 128):\n"
        "    nisa.dma_copy(dst=x[i * 128:(i + 1) * 128, :], src=t)\nreturn x"
    ),
    # answers that are nearly right
    "the mean of all answers": kernel(
        _LOADED
        + "    nisa.tensor_scalar(dst=u, data=t, op0=nl.multiply, operand0=0.0, op1=nl.add, operand1=1.0 / 512)\n"
        + _STORED
    ),
    "not a number": kernel(
        _LOADED + "    nisa.tensor_scalar(dst=u, data=t, op0=nl.multiply, operand0=float('nan'))\n" + _STORED
    ),
    "infinities": kernel(
        _LOADED + "    nisa.tensor_scalar(dst=u, data=t, op0=nl.multiply, operand0=float('inf'))\n" + _STORED
    ),
    "no largest element taken off": kernel(_LOADED + "    nisa.activation(dst=u, op=nl.exp, data=t)\n" + _STORED),
    "an answer with a row more": kernel(
        "return nl.ndarray((x.shape[0] + 1, x.shape[1]), dtype=x.dtype, buffer=nl.shared_hbm)"
    ),
    "two answers": HEAD + COPY.replace("    return out", "    return out, out"),
    "half of the bits": HEAD + COPY.replace("dtype=x.dtype", "dtype=nl.bfloat16"),
    "a kernel that makes kernels": kernel("return lambda: x"),
}
