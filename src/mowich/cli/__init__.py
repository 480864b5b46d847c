"""The command line: reads words, calls one study, prints one report.

Everything a user types is checked here, all problems at once, before anything is computed. Results go to stdout, the
rest to stderr. Nothing heavy is imported until a verb runs, so that `mowich --help` is instant. `main` is the only
place that turns exceptions into exit codes. One module per topic; importing it registers its verbs, and `verbs` says
which module a command line needs.
"""

from mowich.cli.app import main, run

__all__ = ["main", "run"]
