"""`mowich model`: what a model is, by layer."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit
from mowich.requests import known


@verb(app, known.MODEL_VIEW, "model")
def model_(asked: known.ModelRequest) -> None:
    """A row for each kind of layer."""
    from mowich.models.view import DEFAULT_SEQ

    form = asked.form
    view = asked.model.view(seq=asked.seq or DEFAULT_SEQ, bytes_per_element=asked.kv_bytes)

    emit(view.to_dict(), form, inputs=asked.again())
