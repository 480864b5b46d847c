"""`mowich example`: the scenarios, kernels and logs that ship."""

from __future__ import annotations

import sys

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit
from mowich.requests import known


@verb(app, known.EXAMPLES, "example")
def example_(asked: known.ExampleRequest) -> None:
    """A table of all, the text of one, or copies."""
    from mowich.examples import all_shipped, copied
    from mowich.show.example import example_answer

    one, form = asked.example, asked.form
    chosen = all_shipped() if one is None else [one]
    files = [] if asked.copy is None else [path for example in chosen for path in copied(example, asked.copy)]
    if one is not None and not (files or form.as_json or form.as_csv):
        sys.stdout.write(one.path.read_text(encoding="utf-8"))
        return
    emit(example_answer(chosen, files, one is not None), form)
