"""`POST /api/kernel/profile`: a kernel that was sent, timed by the command line in a process and a folder of its own.

Runs code that the request brings, as its sender could run it here anyway: only on loopback, and only where the server
was started with --kernels.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from mowich.shown import Result
from mowich.web import asks
from mowich.web.turns import RefusedRequestError


async def profile(ask: asks.KernelProfile, timeout_s: float) -> bytes:
    """`mowich kernel profile` of the source: its JSON, and the events of its timeline. Raises RefusedRequestError with
    what the command says."""
    with tempfile.TemporaryDirectory(prefix="mowich-kernel-") as folder:
        file, trace = Path(folder) / "kernel.py", Path(folder) / "trace.json"
        file.write_text(ask.source, encoding="utf-8")
        words = [
            sys.executable,
            "-m",
            "mowich",
            "kernel",
            "profile",
            file.name,
            *ask.arguments,
            "-k",
            ask.kernel,
            *_options(ask),
            "--json",
            "--trace",
            trace.name,
        ]
        process = await asyncio.create_subprocess_exec(
            *words,
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
        if process.returncode != 0:
            raise _refused(*complaint.decode(errors="replace").replace(folder, "").strip().splitlines()[-5:])
        result: Result = json.loads(out)
        events = json.loads(trace.read_text(encoding="utf-8")) if trace.exists() else None
    from mowich.web.reading import reply
    from mowich.web.verbs import view

    return reply(
        result,
        view=view(result),
        trace=events,
        command=" ".join(["mowich kernel profile kernel.py", *ask.arguments, "-k", ask.kernel, *_options(ask)]),
    )


def _options(ask: asks.KernelProfile) -> list[str]:
    """What the request says beside the kernel, as options of the command."""
    said = (("--target", ask.target), ("--lnc", ask.lnc), ("--nki", ask.nki))
    return [w for option, given in said if given for w in (option, str(given))]


SHIPPED_ASK = {"kernel": "matmul_gelu", "arguments": ("lhsT=bfloat16[512,256]", "rhs=bfloat16[512,2048]")}
"""What is asked of the kernel that ships."""


def example(profiled: bytes, source: str) -> bytes:
    """The answer about the kernel that ships, with its source."""
    return json.dumps({**json.loads(profiled), "source": source, **SHIPPED_ASK}, allow_nan=False).encode()


def _refused(*lines: str) -> RefusedRequestError:
    return RefusedRequestError(
        422,
        [
            {"where": "source", "what": line, "line": line.removeprefix("error: ")}
            for line in lines or ("the kernel failed",)
        ],
    )
