"""No rule of `kernel check` finds anything in public kernels that compile. MOWICH_PUBLIC_KERNELS names checkouts, with
colons between; without it only what the tool leaves out is tested."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKOUTS = [Path(d) for d in os.environ.get("MOWICH_PUBLIC_KERNELS", "").split(os.pathsep) if d]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_public", ROOT / "tools" / "check_public.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(not CHECKOUTS, reason="MOWICH_PUBLIC_KERNELS names no checkout")
def test_nothing_is_found_in_kernels_that_compile(tool: ModuleType) -> None:
    found, counted = tool.check(CHECKOUTS)
    print(f"{counted.kernels} kernels in {counted.files} files")
    assert [f.text() for f in found] == []
    assert counted.kernels >= 200


def test_the_tool_counts_kernels_and_leaves_tests_out(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "import nki, nki.isa as nisa\n@nki.jit\ndef k(x):\n    nisa.dma_copy(dst=x, src=x)\n    return x\n"
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "b.py").write_text(text.replace("return x", "del x"), encoding="utf-8")
    assert tool.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == ("1 kernels of nki and 0 of neuronxcc.nki in 1 files checked, 0 findings\n")
    (tmp_path / "c.py").write_text(text.replace("return x", "del x"), encoding="utf-8")
    assert tool.main([str(tmp_path)]) == 5
    assert "c.py:5: a del statement" in capsys.readouterr().out
