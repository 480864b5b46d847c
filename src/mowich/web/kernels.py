"""Kernels, each timed by the command line in a process and a folder of its own.

`POST /api/kernel/profile` runs code that the request brings, as its sender could run it here anyway: only on loopback,
and only where the server was started with --kernels. `GET /api/kernel/NAME` runs an example that ships, and no code of
a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mowich.errors import unknown
from mowich.examples import names_of, shipped
from mowich.shown import Result
from mowich.web import asks
from mowich.web.turns import RefusedRequestError, refusal_of


async def profile(ask: asks.KernelProfile, timeout_s: float) -> bytes:
    """`mowich kernel profile` of the source: its JSON, and the events of its timeline. Raises RefusedRequestError with
    what the command says."""
    words = [*ask.arguments, "-k", ask.kernel, *_options(ask)]
    with tempfile.TemporaryDirectory(prefix="mowich-kernel-") as folder:
        (Path(folder) / "kernel.py").write_text(ask.source, encoding="utf-8")
        return await _profile_in(folder, ["kernel.py", *words], timeout_s)


async def profile_example(name: str, timeout_s: float) -> bytes:
    """`mowich kernel profile @NAME` of an example that ships, with its source and what it is. Raises
    RefusedRequestError for a name that no example has."""
    names = names_of("kernels")
    if name not in names:
        raise refusal_of(404, str(unknown("kernel", name, names)))
    with tempfile.TemporaryDirectory(prefix="mowich-kernel-") as folder:
        profiled = await _profile_in(folder, [f"@{name}"], timeout_s)
    one = shipped("kernels", name)
    source = one.path.read_text(encoding="utf-8")
    more = {"source": source, "file": one.path.name, "what": one.what}
    return json.dumps({**json.loads(profiled), **more}, allow_nan=False).encode()


async def _profile_in(folder: str, words: Sequence[str], timeout_s: float) -> bytes:
    """`mowich kernel profile WORDS` in a folder."""
    trace = Path(folder) / "trace.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mowich", "kernel", "profile", *words, "--json", "--trace", trace.name),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # what the kernel starts ends with it
    )
    try:
        out, complaint = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        raise _refused(f"the kernel took longer than {timeout_s:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    said = complaint.decode(errors="replace").replace(folder, "").strip().splitlines()
    if process.returncode != 0:
        raise _refused(*said[-5:])
    result: Result = json.loads(out)
    events = json.loads(trace.read_text(encoding="utf-8")) if trace.exists() else None
    from mowich.web.reading import reply
    from mowich.web.verbs import view

    return reply(
        result,
        view=view(result),
        trace=events,
        said=said[-5:],
        command=" ".join(["mowich kernel profile", *words]),
    )


def _options(ask: asks.KernelProfile) -> list[str]:
    """What the request says beside the kernel, as options of the command."""
    said = (("--target", ask.target), ("--lnc", ask.lnc), ("--nki", ask.nki))
    return [w for option, given in said if given for w in (option, str(given))]


def _refused(*lines: str) -> RefusedRequestError:
    return RefusedRequestError(
        422,
        [
            {"where": "source", "what": line, "line": line.removeprefix("error: ")}
            for line in lines or ("the kernel failed",)
        ],
    )
