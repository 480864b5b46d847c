"""`mowich report`: a saved result as one HTML file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.errors import UserError
from mowich.requests import results
from mowich.requests.result_check import whole_result
from mowich.studies.sweep_files import SWEEP_REPORT
from mowich.writing import write_file


@verb(app, results.REPORT)
def report(asked: results.ReportRequest) -> None:
    """Write the file."""
    from mowich.show.render.html import render_html

    result, where = asked.result, str(asked.result)
    data = _read(result)
    try:
        with whole_result(where):
            page = render_html(data, facts=results.facts_of_result(data))
    except UserError as error:
        error.where = error.where or where
        raise
    beside = result / SWEEP_REPORT if result.is_dir() else result.with_suffix(".html")
    target = asked.html or (Path("report.html") if where == "-" else beside)
    write_file(target, page, field=f"html {target}")
    if not asked.form.quiet:
        print(f"wrote {target}", file=sys.stderr)
    if asked.show:
        import webbrowser

        webbrowser.open(target.resolve().as_uri())


def _read(result: Path) -> Mapping[str, object]:
    """A result, or a sweep in a folder."""
    if result.is_dir():
        from mowich.studies.sweep_read import stored_sweep

        return stored_sweep(result)
    return results.read_result(result)
