"""`mowich kernel advise`: the edits of a kernel that gain most, and what no edit can gain."""

from __future__ import annotations

from mowich.cli.guest import in_limits
from mowich.cli.kernel import kernel_app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.requests import advising


@verb(kernel_app, advising.ADVISE, "advise")
def kernel_advise(asked: advising.AdviseRequest) -> int:
    """Advise on a kernel."""
    return in_limits(
        lambda: _advise(asked), timeout_s=asked.timeout_s, memory_GiB=asked.memory_GiB, quiet=asked.form.quiet
    )


def _advise(asked: advising.AdviseRequest) -> None:
    from mowich.show.json import finite
    from mowich.show.kernel_advise import patches_text
    from mowich.studies.advise.files import file_advised

    with progress(asked.form.quiet):
        found = file_advised(asked)
    answer = finite(found.to_dict())
    emit(answer, asked.form, after=lambda _: patches_text(answer))
