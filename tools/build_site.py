"""Lays out the documentation for the site: `make site` runs this and then MkDocs, strictly, into build/site.

Pages are those of the repository, and a link from one to a file of the source leads to a copy of that file. Notebooks
are run here and become pages with what their cells gave; a picture becomes a file of its own beside the page. Nothing
on the site is fetched from elsewhere: `check` reads what was built and says what would be.

    python tools/build_site.py            lay out build/site-src
    python tools/build_site.py --check    after MkDocs: no request leaves the site
"""

from __future__ import annotations

import ast
import html
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE, SITE = ROOT / "build" / "site-src", ROOT / "build" / "site"
RENAMED = {
    "README.md": "about.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "tools/README.md": "tools.md",
    "docs/README.md": "pages.md",
    "docs/read/home.md": "index.md",
}
STYLE = (
    ".md-grid{max-width:90rem}.md-typeset table:not([class]){font-size:.7rem}.md-typeset"
    " pre>code{font-size:.72em}\n.md-typeset table:not([class]) :is(th,td){padding:.45em"
    " .8em}@media(min-width:60em){.md-typeset table:not([class]) :is(th,td){min-width:0}}\n"
)
"""Tables and listings are wide: the page is too, and cells are as narrow as what they hold."""
API_PAGE, API_HERE = "api.md", re.compile(r"^<!-- functions of mowich.__all__.*?-->$", re.MULTILINE)
"""The page of the Python reference, and where in it the functions stand."""
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```[ ]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
REQUEST = re.compile(
    r"""<(?:script|img|iframe|source|embed)[^>]+src=["']?(?:https?:)?//|<link[^>]+href=["']?(?:https?:)?//|@import\s+url\(\s*["']?(?:https?:)?//|url\(\s*["']?https?://"""
)


def place(path: Path) -> Path:
    """Where a file of the repository stands on the site, relative to its root."""
    name = path.relative_to(ROOT).as_posix()
    if name in RENAMED:
        return Path(RENAMED[name])
    if path.is_dir():
        return Path("files") / f"{name}.md"
    inside = path.relative_to(ROOT / "docs") if path.is_relative_to(ROOT / "docs") else None
    if inside is not None:
        return inside.with_suffix(".md") if path.suffix == ".ipynb" else inside
    return Path("files") / name


def lay(path: Path, wanted: Callable[[Path], None]) -> None:
    """Write one page to the site's source, its links led to where their targets stand; `wanted` is told of every file
    that it links to."""
    at = place(path)

    def link(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        file = (path.parent / target).resolve()
        if not file.exists():
            raise SystemExit(f"{path.relative_to(ROOT)}: link to {target}, which is not there")
        wanted(file)
        return f"{match[1]}({os.path.relpath(place(file), at.parent)}{'#' + anchor if anchor else ''})"

    parts = CODE.split(path.read_text(encoding="utf-8"))
    text = "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))
    if at.name == API_PAGE:
        text = API_HERE.sub(lambda _: reference(), text)
    write(at, re.sub(r"^```(\w+) +(\S+)$", r'```\1 title="\2"', text, flags=re.MULTILINE))


def reference() -> str:
    """What the package offers, by name, as mkdocstrings reads it: functions, then classes; each with its docstring."""
    import mowich

    names = [name for name in mowich.__all__ if not name.startswith("_")]
    classes = [name for name in names if isinstance(getattr(mowich, name), type)]
    parts = (("Functions", [name for name in names if name not in classes]), ("Classes", classes))
    return "\n".join(
        f"## {title}\n\n" + "".join(f"::: mowich.{name}\n\n" for name in found) for title, found in parts if found
    )


def write(at: Path, text: str) -> None:
    file = SOURCE / at
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def notebook(path: Path) -> None:
    """A notebook as a page: its cells run in order in an empty directory."""
    names: dict[str, Any] = {"__name__": "__main__"}
    out: list[str] = []
    back, paths = Path.cwd(), list(sys.path)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
                source = "".join(cell["source"])
                if cell["cell_type"] != "code":
                    out.append(source)
                    continue
                body = ast.parse(source)
                last = ast.Expression(body.body.pop().value) if isinstance(body.body[-1], ast.Expr) else None  # type: ignore[attr-defined]
                printed = StringIO()
                with redirect_stdout(printed):
                    exec(compile(body, path.name, "exec"), names)
                    value = eval(compile(last, path.name, "eval"), names) if last is not None else None
                out += [f"```python\n{source}\n```", *shown(path, number, printed.getvalue(), value)]
        finally:
            os.chdir(back)
            sys.path[:] = paths
    source_link = f"The notebook itself: [{path.name}]({path.name})."
    shutil.copy(path, SOURCE / place(path).parent)
    write(place(path), "\n\n".join([out[0], source_link, *out[1:]]) + "\n")


def shown(path: Path, number: int, printed: str, value: Any) -> list[str]:
    """What a cell gave, as Markdown."""
    out = [f"```text\n{printed.rstrip()}\n```"] if printed else []
    if hasattr(value, "chart"):
        file = place(path).with_name(f"{path.stem}-{number}.html")
        write(file, value.html())
        title = html.escape(value.chart.title)
        out.append(
            f'<iframe src="{file.name}" title="{title}"'
            f' style="width:100%;height:{value.chart.height + 60}px;border:0"></iframe>'
        )
    elif hasattr(value, "_repr_html_"):
        out.append(f'<div style="overflow-x:auto">{value._repr_html_()}</div>'.replace("\n\n", "\n&#8203;\n"))
    elif value is not None:
        out.append(f"```text\n{value!r}\n```")
    return out


def build() -> None:
    """Lay out every page, every notebook and every file that a page links to."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    pages = [ROOT / name for name in RENAMED if not name.startswith("docs/")]
    pages += sorted((ROOT / "docs").rglob("*.md"))
    linked: set[Path] = set()
    for page in pages:
        lay(page, linked.add)
    write(Path("site.css"), STYLE)
    (SOURCE / "notebooks").mkdir(exist_ok=True)
    for book in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        notebook(book)
    for file in sorted(linked - set(pages)):
        if file.is_dir():
            members = sorted(p for p in file.iterdir() if p.is_file() and not p.name.startswith("."))
            for member in members:
                copy(member)
            lines = [f"- [{m.name}]({os.path.relpath(place(m), place(file).parent)})" for m in members]
            write(place(file), f"# {file.relative_to(ROOT)}\n\n" + "\n".join(lines) + "\n")
        elif file.suffix != ".ipynb":
            copy(file)


def copy(file: Path) -> None:
    to = SOURCE / place(file)
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, to)


def check() -> int:
    """Lines for everything on the built site that a browser would fetch from elsewhere; 1 where there are any."""
    found = []
    for file in sorted([*SITE.rglob("*.html"), *SITE.rglob("*.css")]):
        found += [
            f"{file.relative_to(SITE)}: {m[0][:120]}"
            for m in REQUEST.finditer(file.read_text(encoding="utf-8", errors="replace"))
        ]
    print("\n".join(found) or f"{len(list(SITE.rglob('*.html')))} pages, nothing is fetched from elsewhere")
    return bool(found)


if __name__ == "__main__":
    sys.exit(check() if "--check" in sys.argv else build())
