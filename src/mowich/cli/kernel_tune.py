"""`mowich kernel tune`: a kernel with other constants, each variant timed in a closed process."""

from __future__ import annotations

from dataclasses import replace

from mowich.cli.kernel import kernel_app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.errors import EXIT_CHECK_FAILED
from mowich.requests import tuning


@verb(kernel_app, tuning.TUNE, "tune")
def kernel_tune(asked: tuning.TuneRequest) -> int:
    """Tune a kernel."""
    from mowich.show.json import finite
    from mowich.studies.tune.tune import kernel_tuned

    with progress(asked.form.quiet):
        found = kernel_tuned(asked)
    form, out = asked.form, asked.form.out
    if out is not None and out.suffix == ".parquet":
        found.to_parquet(out)
        form = replace(form, out=None)
    emit(finite(found.to_dict()), form)
    return 0 if all(best.row is not None for best in found.best) else EXIT_CHECK_FAILED
