"""`mowich kernel judge`: candidates of a kernel, each in a closed process, right or wrong, fast or slow."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from mowich.cli.kernel import kernel_app
from mowich.cli.options import verb
from mowich.cli.output import emit, noter, progress
from mowich.errors import EXIT_CHECK_FAILED, UserError, UserErrors
from mowich.requests import judging

if TYPE_CHECKING:
    from mowich.studies.judge.candidate import KernelCandidate
    from mowich.studies.judge.judge import Judged


@verb(kernel_app, judging.JUDGE, "judge")
def kernel_judge(asked: judging.JudgeRequest) -> int:
    """Judge candidates of a kernel."""
    from mowich.show.json import finite
    from mowich.studies.judge.judge import kernels_judged

    def told(judged: Judged) -> None:
        if asked.lines:
            print(json.dumps(finite(judged.to_dict())), flush=True)

    given = _from_stdin() if asked.candidates == ("-",) else None
    with progress(asked.form.quiet):
        found = kernels_judged(asked, given, told)
    if found.missing:
        words = ", ".join(found.missing)
        noter(asked.form.quiet)(
            f"this system does not close a candidate's {words}; other guards do (mowich help judge)"
        )
    answer = finite(found.to_dict())
    if asked.lines:
        print(json.dumps(answer))
    else:
        emit(answer, asked.form)
    return 0 if found.best is not None else EXIT_CHECK_FAILED


def _from_stdin() -> list[KernelCandidate]:
    """Candidates as JSON lines: {"name": "try 7", "text": "import nki ..."}."""
    from mowich.studies.judge.candidate import KernelCandidate

    out, problems = [], []
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text, kernel = row["name"], row["text"], row.get("kernel")
            if not all(isinstance(x, str) for x in (name, text, kernel or "")):
                raise TypeError
            out.append(KernelCandidate(name=name, text=text, kernel=kernel))
        except (ValueError, KeyError, TypeError, AttributeError):
            problems.append(
                UserError(
                    "no candidate", where=f"stdin:{number}", allowed='{"name": "...", "text": "...", "kernel": "..."}'
                )
            )
    if problems:
        raise UserErrors(problems)
    if not out:
        raise UserError("no candidate", where="stdin", allowed="a JSON object a line, with name and text")
    return out
