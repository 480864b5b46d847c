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
