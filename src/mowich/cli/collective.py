"""`mowich collective`: time of one collective against its size, what binds, and with failed links."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, noter, style
from mowich.requests import machines


@verb(app, machines.COLLECTIVE)
def collective(asked: machines.Collective) -> None:
    """A row for each size."""
    from mowich.studies.collectives import collective as study

    form = asked.form
    found = study(
        asked.facts,
        asked.kind,
        asked.on,
        sizes=asked.sizes,
        group=asked.group,
        network=asked.network,
        oversubscription=asked.oversubscription,
        fail=asked.fail,
        beside=asked.beside,
    )
    note = noter(form.quiet)
    for warning in found.warnings:
        note(warning)

    def text() -> str:
        from mowich.show.machines import collective_text

        return collective_text(found, style(form.plain))

    emit(
        found.to_dict(),
        text,
        as_json=form.as_json,
        as_csv=form.as_csv,
        rows="rows",
        out=form.out,
        inputs=asked.given,
    )
