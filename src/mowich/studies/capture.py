"""A model from its code: starts `python -m mowich.capture` as a guest, and reads what it wrote.

The guest has PyTorch and runs the user's code with the user's rights; this process has neither. It has limits of time
and memory, what it prints goes to stderr, and each way in which it ends is one line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mowich import version
from mowich.errors import EXIT_BUG, EXIT_LIMIT_BROKEN, UserError, shorten
from mowich.requests.capturing import CaptureRequest

if TYPE_CHECKING:
    from mowich.models.model import Model

_GIB = 2**30
_ERROR = "error: "
_NO_TORCH = "PyTorch is not installed in this environment"
_SAID_MOST = 1_000_000
"""Characters of what the guest prints that are passed on."""


def captured(asked: CaptureRequest, say: Callable[[str], None]) -> Model:
    """Run the guest and read the model that it wrote. say: hears each line that the user's code prints.

    Raises:
        UserError: it was refused or ended, or what it wrote is no captured model; the exit code is the guest's.
    """
    from mowich.models import load_model

    python = asked.python or Path(sys.executable)
    out = asked.captured
    if not (python.is_file() and os.access(python, os.X_OK)):
        raise UserError("is not a program", field="python", given=str(python), fix="give the python of an environment")
    if not out.resolve().parent.is_dir():
        raise UserError("its folder is not there", field="out", given=str(out))
    before = _stamp(out)
    with tempfile.TemporaryDirectory(prefix="mowich-capture-") as folder:
        # the package alone: the packages beside it are not for the other environment
        (Path(folder) / "mowich").symlink_to(Path(version.__file__).parent, target_is_directory=True)
        command = [str(python), "-m", "mowich.capture", asked.spec, f"--out={out}", *asked.options]
        code, error = _run(command, Path(folder), asked, say)
    if code != 0:
        raise _ended(code, error, python, asked)
    if _stamp(out) == before:
        raise UserError("the process ended well and wrote no file", field="out", given=str(out), code=EXIT_BUG)
    return load_model(str(out))


def _stamp(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns
    return None


def _run(command: Sequence[str], folder: Path, asked: CaptureRequest, say: Callable[[str], None]) -> tuple[int, str]:
    """The guest's exit code, and the error that it said last."""
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",  # nothing is fetched
        "TRANSFORMERS_OFFLINE": "1",
    }
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
            start_new_session=True,  # what it starts ends with it
        )
    except OSError as error:
        raise UserError(
            f"cannot be started: {error.strerror or error}", field="python", given=str(asked.python)
        ) from error
    _bound(process.pid, asked.memory_GiB)
    errors: list[str] = []
    assert process.stdout is not None
    listener = threading.Thread(target=_listen, args=(process.stdout, say, errors), daemon=True)
    listener.start()
    try:
        code = process.wait(asked.timeout_s)
    except subprocess.TimeoutExpired as late:
        raise UserError(
            f"the model's code took longer than {asked.timeout_s:g} s",
            field="timeout",
            fix="allow more, or build fewer layers",
            code=EXIT_LIMIT_BROKEN,
        ) from late
    finally:
        _end(process)
        listener.join(5)
    return code, errors[-1] if errors else ""


def _listen(stream: IO[str], say: Callable[[str], None], errors: list[str]) -> None:
    left = _SAID_MOST
    for line in stream:
        text = line.rstrip("\r\n")
        if text.startswith(_ERROR):
            errors.append(text.removeprefix(_ERROR))
        elif left > 0:
            say(shorten(text, left))
            left -= len(text)


def _bound(pid: int, memory_GiB: float) -> None:
    """A limit of the guest's addresses, where the platform has one."""
    try:
        from resource import RLIM_INFINITY, RLIMIT_AS, prlimit  # type: ignore[attr-defined,unused-ignore]
    except ImportError:
        return
    with suppress(OSError, ValueError):
        most = int(memory_GiB * _GIB)
        hard = prlimit(pid, RLIMIT_AS)[1]
        prlimit(pid, RLIMIT_AS, (most if hard == RLIM_INFINITY else min(most, hard), hard))


def _end(process: subprocess.Popen[str]) -> None:
    """The guest's whole group ends, whatever it left running."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ended(code: int, error: str, python: Path, asked: CaptureRequest) -> UserError:
    if error.endswith(("MemoryError", "MemoryError:")) or "allocate memory" in error:
        return UserError(
            f"{error}: it needs more than {asked.memory_GiB:g} GiB",
            field="memory",
            fix="allow more, or build on the meta device",
            code=EXIT_LIMIT_BROKEN,
        )
    if error.startswith(_NO_TORCH):
        return UserError(
            f"PyTorch is not installed in the environment of {python}",
            field="python",
            fix="give the Python of your model's environment",
        )
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return UserError(
            f"the process of the model's code was ended by {name}", fix="allow more --memory, or see above"
        )
    if error:
        return UserError(error, code=code)
    return UserError(
        f"{python} ended with exit code {code} and said no reason", fix="see what it printed above", code=2
    )
