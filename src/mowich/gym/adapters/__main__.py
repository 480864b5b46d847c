"""`python -m mowich.gym.adapters SCRIPT [ARGS]`: a script of AccelOpt or autocomp that asks Mowich for times."""

import runpy
import sys
from pathlib import Path

from mowich.errors import EXIT_BAD_INPUT
from mowich.gym.adapters import adapters_installed


def _main() -> None:
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        print("error: SCRIPT is missing; python -m mowich.gym.adapters SCRIPT [ARGS]", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    with adapters_installed():
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _main()
