"""A question that was read -> its answer, one call a verb: the command line, Python and the server all ask here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mowich.studies.heard import heard

if TYPE_CHECKING:
    from mowich.requests import (
        jobs,
    )
    from mowich.studies.fit import Fit
    from mowich.studies.serving_fit import ServeFit


@heard(again=True)
def fitted(asked: jobs.FitRequest) -> Fit | ServeFit:
    """Whether a training job, or a served model with the cache of one request, fits on a system."""
    if asked.train is not None:
        from mowich.studies.fit import fit

        return fit(asked)
    from mowich.studies.serving_fit import fit_serving

    return fit_serving(asked)
