"""Runs of a kernel of a file, as it is and with a changed text."""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from mowich.nki.result import Result
from mowich.studies.kernel_files import check_outputs, one_line, prepared_kernel


def file_runs(file: Path, kernel: str, words: Sequence[str], seed: int) -> Callable[[str, bool], Result]:
    """What runs a text of a file with a kernel, with or without values: the text of the file itself where it lies,
    another one as a copy. words: its arguments, "x=float32[128,512]"; empty: what `inputs()` of the file gives. What a
    copy prints and warns of is not shown. The process is as scripts expect it (`as_scripts_expect`)."""
    original = file.read_text(encoding="utf-8")

    def run(text: str, values: bool) -> Result:
        if text == original:
            return launched(str(file), values)
        with (
            tempfile.TemporaryDirectory() as folder,
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            copy = Path(folder) / file.name
            copy.write_text(text, encoding="utf-8")
            return launched(str(copy), values)

    def launched(path: str, values: bool) -> Result:
        from mowich.nki.runtime import kernel_launched

        asked, run, given, _ = prepared_kernel(path, kernel, words, seed, values=values, may_take_inputs=True)
        with one_line(path):
            result = kernel_launched(
                asked, (), given, strict=values, finite=False, record=True, values=values, check=values
            )
        check_outputs(result, run)
        return result

    return run
