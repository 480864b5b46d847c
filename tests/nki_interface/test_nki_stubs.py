"""The stubs of the interface: they show what `help` shows, name for name, and a type checker reads them."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mowich.nki import collectives, isa, language, words
from mowich.nki.install import STUBS

SRC = Path(__file__).resolve().parents[2] / "src"
MODULES = {"isa/__init__": isa, "language": language, "collectives": collectives}
OLDER = {"isa.dma_copy": "dst_rmw_op", "isa.tensor_scalar": "dtype", "language.shared_constant": "dtype"}
"""Function -> an argument of older kernels that AWS's does not have."""


@pytest.mark.parametrize("name", MODULES)
def test_a_stub_has_the_names_and_the_arguments_of_its_module(name: str) -> None:
    module: ModuleType = MODULES[name]
    tree = ast.parse((STUBS / "nki" / f"{name}.pyi").read_text(encoding="utf-8")).body
    shown = {node.name: node for node in tree if isinstance(node, ast.FunctionDef)}
    imported = [alias for node in tree if isinstance(node, ast.ImportFrom) for alias in node.names]
    handed_on = {alias.name for alias in imported if alias.asname == alias.name}  # others are the stub's own
    values = {node.target.id for node in tree if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    values |= {t.id for node in tree if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)}
    assert shown.keys() | values | handed_on == set(words.public(module))
    for function, node in shown.items():
        value = getattr(module, function)
        signature = value.signature() if hasattr(value, "signature") else inspect.signature(value).parameters.values()
        arguments = node.args
        listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        assert [a.arg for a in listed] == [p.name for p in signature], function
    for older, argument in OLDER.items():
        if older.startswith(name.partition("/")[0]):
            assert argument not in [a.arg for a in shown[older.partition(".")[2]].args.args]


KERNEL = """import nki
import nki.isa as nisa
import nki.language as nl
from nki.isa.constants import dge_mode

@nki.jit
def double(x: nl.NkiTensor) -> nl.NkiTensor:
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray((128, 512), nl.bfloat16, nl.sbuf)
    with nl.no_reorder():
        for i in nl.affine_range(2):
            nisa.dma_copy(dst=tile, src=x[i], dge_mode=dge_mode.swdge)
            nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0, engine=nisa.vector_engine)
            nisa.dma_copy(dst=out[i], src=nl.add(tile, nl.max(tile, axis=1)))
    return out
"""
WRONG = {
    "operand0=2.0": ("operand=2.0", 'Unexpected keyword argument "operand" for "tensor_scalar"'),
    "nl.multiply": ("nl.multply", 'Module has no attribute "multply"'),
    "dge_mode=dge_mode.swdge": ("dst_rmw_op=nl.add", 'Unexpected keyword argument "dst_rmw_op" for "dma_copy"'),
    "nl.max(tile, axis=1)": ("nl.max(tile)", 'Missing positional argument "axis" in call to "max"'),
}


@pytest.mark.slow
def test_a_type_checker_reads_a_kernel_by_the_stubs(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(KERNEL)
    text = KERNEL
    for right, (wrong, _) in WRONG.items():
        text = text.replace(right, wrong)
    (tmp_path / "wrong.py").write_text(text)
    checked = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "right.py", "wrong.py"]
    environment = {"MYPYPATH": f"{STUBS}:{SRC}", "PATH": "/usr/bin:/bin"}
    found = subprocess.run(checked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False).stdout
    assert "right.py" not in found
    assert all(said in found for _, said in WRONG.values()), found
    assert f"Found {len(WRONG)} errors in 1 file" in found
