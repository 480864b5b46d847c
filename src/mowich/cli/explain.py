"""`mowich explain`: why a number is what it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mowich.cli.app import app
from mowich.cli.inputs import Problems, read_facts, read_model, read_settings
from mowich.cli.options import Plain, Quiet
from mowich.cli.output import noter, style
from mowich.errors import UserError


@app.command(
    short_help="Formula, numbers and sources of one number.",
    epilog="Example: mowich explain r.json trn3-gen2.step_s.ep   (r.json from mowich compare ... --out r.json)",
)
def explain(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="JSON of compare or plan (--out or --json); - reads stdin.")
    ],
    metric: Annotated[
        str,
        typer.Argument(
            metavar="SYSTEM.METRIC",
            help="trn3.step_s, trn3.step_s.ep, trn3.memory_B, gb300.usd_per_mtok, 1.mfu (row number).",
        ),
    ],
    plain: Plain = False,
    quiet: Quiet = False,
) -> None:
    """Formula, numbers, facts and sources of one number of a result."""
    import json

    from mowich.studies.explain import check_result
    from mowich.studies.explain import explain as study

    where = str(result)
    try:
        data = json.loads(sys.stdin.read() if where == "-" else result.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", where=where, fix="mowich compare ... --out FILE writes one"
        ) from error
    except ValueError as error:
        raise UserError(f"not JSON: {error}", where=where) from error
    if not isinstance(data, dict) or data.get("schema") not in ("mowich/compare@1", "mowich/plan@1"):
        raise UserError("not a result that can be explained", where=where, given=data.get("schema") if isinstance(data, dict) else type(data).__name__,
                        allowed="mowich/compare@1, mowich/plan@1")  # fmt: skip
    check_result(data, where)
    problems = Problems()
    inputs = data["inputs"]
    known = read_facts([Path(d) for d in inputs.get("facts_dirs", ())], problems)
    chosen = read_settings(inputs.get("set", ()), known, problems)
    loaded = read_model(str(inputs.get("model_given", inputs.get("model"))), problems)
    problems.stop()
    assert loaded is not None
    if inputs.get("model_params", loaded.params) != loaded.params:
        raise UserError(f"'{loaded.name}' is not the model of this result", where=where, given=f"{loaded.params} parameters", allowed=f"{inputs['model_params']}",
                        fix="run explain where compare was run")  # fmt: skip
    if data.get("facts_hash") not in (None, chosen.facts.hash()):
        noter(quiet)(
            f"the facts have changed since {where} was made ({data['facts_hash']}, now {chosen.facts.hash()}): terms are of now"
        )
    found = study(data, metric, loaded, chosen.facts)
    from mowich.report.explain import explain_text

    sys.stdout.write(explain_text(found, chosen.facts, style(plain)))
