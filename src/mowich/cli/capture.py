"""`mowich capture`: a model from its PyTorch code."""

from __future__ import annotations

import sys

from mowich.cli.app import app
from mowich.cli.guest import offspring_ended
from mowich.cli.options import verb
from mowich.cli.output import emit, noter, progress
from mowich.errors import visible
from mowich.requests import capturing


@verb(app, capturing.CAPTURE, "capture")
def capture_(asked: capturing.CaptureRequest) -> None:
    """What was captured, as `mowich model` shows it."""
    from mowich.models.view import DEFAULT_SEQ
    from mowich.studies.capture import captured

    quiet = asked.form.quiet

    def say(text: str) -> None:
        if not quiet:
            print(visible(text), file=sys.stderr)

    with offspring_ended(), progress(quiet) as line:
        line(f"running {asked.spec} on the meta device")
        model = captured(asked, say)
    emit(model.view(seq=DEFAULT_SEQ, bytes_per_element=2.0).to_dict(), asked.form)
    noter(quiet)(
        f"wrote {asked.captured}. Next: mowich compare {asked.captured} --on trn3,h100 --train ... or --serve ..."
    )
