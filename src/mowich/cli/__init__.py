"""The command line: reads words, calls one study, prints one report.

Everything a user types is checked here, all problems at once, before anything is computed. Results go to stdout, the
rest to stderr. Nothing heavy is imported until a verb runs, so that `mowich --help` is instant. `main` is the only
place that turns exceptions into exit codes. One module per topic; importing it registers its verbs, in the order of
`--help`.
"""

# isort: off
from mowich.cli.app import app, main, run
from mowich.cli import (  # noqa: F401  the order of --help
    plan,
    serving,
    brief,
    gaps,
    sweep,
    fleet,
    model,
    explain,
    report,
    validate,
    calibrate,
    facts,
    kernel,
)
from mowich.cli import kernel_check, kernel_profile, kernel_judge, kernel_advise, kernel_tune, kernel_tasks  # noqa: F401  verbs of `kernel`
from mowich.cli import kernel_layer, kernel_tables, machines, example, web, mcp  # noqa: F401

__all__ = ["app", "main", "run"]
