"""`mowich model`: what a model is, by layer."""

from __future__ import annotations

from typing import Annotated

import typer

from mowich.cli.app import app
from mowich.cli.options import Csv, Json, ModelName, Out, Plain, Quiet, Seq
from mowich.cli.output import emit, one_form, style
from mowich.requests import Problems, read_count, read_model


@app.command(
    name="model",
    short_help="Parameters, FLOP and bytes per token, by layer.",
    epilog="Example: mowich model deepseek-v3   or   mowich model ./config.json --seq 8192 --json",
)
def model_(
    model: ModelName,
    seq: Seq = None,
    kv_bytes: Annotated[
        float, typer.Option("--kv-bytes", min=0.25, max=8, metavar="B", help="Bytes per element of the KV cache.")
    ] = 2.0,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Parameters (total, active), FLOP and bytes per token, by kind of layer."""
    from mowich.models.view import DEFAULT_SEQ, model_view

    problems = Problems()
    one_form(as_json, as_csv, problems)
    length = read_count(seq, "--seq", problems, maximum=1e9)
    loaded = read_model(model, problems)
    problems.stop()
    assert loaded is not None
    view = model_view(loaded, seq=int(length or DEFAULT_SEQ), bytes_per_element=kv_bytes)

    def text() -> str:
        from mowich.show.text import model_text

        return model_text(view, style(plain))

    emit(view.to_dict(), text, as_json=as_json, as_csv=as_csv, rows="layers", out=out)
