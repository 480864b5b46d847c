"""Pieces of shell scripts that bundles have in common."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

SHELL = "#!/usr/bin/env bash"


def script(about: Sequence[str], *body: str) -> str:
    """A script that stops at the first command that fails, and at a variable that nobody set.

    >>> print(script(["what it does"], "true"), end="")
    #!/usr/bin/env bash
    # what it does
    set -euo pipefail
    true
    """
    lines = [SHELL, *(f"# {line}" for line in about), "set -euo pipefail", *body]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def variable(name: str, value: str, asks: str = "") -> str:
    """A variable of the environment with what it is where nobody sets it; without a value it is asked for.

    >>> print(variable("PORT", "8000"))
    : "${PORT:=8000}"
    >>> print(variable("MASTER_ADDR", "", "address of rank 0"))
    : "${MASTER_ADDR:?address of rank 0}"
    """
    return f': "${{{name}:={value}}}"' if value else f': "${{{name}:?{asks}}}"'


def broken(words: Sequence[str]) -> str:
    """A command with a line for each argument.

    >>> print(broken(["vllm serve", "--port 8000"]))
    vllm serve \\
      --port 8000
    """
    return " \\\n  ".join(words)


def option(name: str, value: object) -> str:
    """An option with its value, quoted where the shell would read more than a word."""
    return f"{name} {shlex.quote(str(value))}"


HERE = 'here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"'
"""The folder of a script."""
