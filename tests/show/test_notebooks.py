"""The notebooks of the documentation: every code cell runs, in order, in one namespace, as a reader's kernel would run
them."""

from __future__ import annotations

import ast
import html
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def run(notebook: Path) -> list[tuple[str, Any]]:
    """(source, value of its last line) of each code cell; a cell that fails raises with its number."""
    names: dict[str, Any] = {"__name__": "__main__"}
    out: list[tuple[str, Any]] = []
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        body = ast.parse(source)
        last = ast.Expression(body.body.pop().value) if isinstance(body.body[-1], ast.Expr) else None  # type: ignore[attr-defined]
        place = f"{notebook.name}, cell {number}"
        exec(compile(body, place, "exec"), names)
        out.append((source, eval(compile(last, place, "eval"), names) if last is not None else None))
    return out


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] if p.stem == "sweep" else []) for p in NOTEBOOKS],
    ids=lambda p: p.stem,
)
def test_every_cell_runs_and_shows_itself_without_the_network(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    ran = run(path)
    assert len(ran) > 3
    assert any(hasattr(value, "chart") for _, value in ran), "no picture"
    library = (ROOT / "src/mowich/show/static/echarts.min.js").read_text(encoding="utf-8")
    for _, value in ran:
        shown = html.unescape(getattr(value, "_repr_html_", lambda: "")()).replace(library, "")
        assert not re.search(r'(?:src|href)="|https?://', re.sub(r"<pre>.*</pre>", "", shown, flags=re.DOTALL))
    for name in [n for n, m in sys.modules.items() if str(tmp_path) in str(getattr(m, "__file__", ""))]:
        del sys.modules[name]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_kept_without_output(path: Path) -> None:
    """What it shows is made when the site is built."""
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["nbformat"] == 4
    assert data["cells"][0]["cell_type"] == "markdown"
    assert "".join(data["cells"][0]["source"]).startswith("# ")
    for cell in data["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 3
