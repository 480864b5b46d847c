"""What stood in a file before a command writes it is there whole when the command fails, wherever it fails; and nothing
else is left in the folder."""

from __future__ import annotations

import ast
import errno
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mowich import cli, writing
from mowich.errors import EXIT_BAD_INPUT

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "mowich"
OLD = b"what was there before\n"
CALLS = ("open", "fsync", "replace", "close")
"""Of the operating system, that writing a file makes."""
ERRORS = (OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), MemoryError())
LASTING = ["open", "close", "open", "fsync", "close", "replace", "open", "fsync", "close"]
"""Those of one file, in order: the new file, its bytes on the disk, its name, the folder on the disk."""

COMPARE = ("compare", "llama-3.2-1b", "--train", "--seq", "4k", "--batch", "64seqs", "--tokens", "1B", "--on", "h100:8")
TRAFFIC = (
    "{mowich: 1, model: llama-3.1-8b, on: 'h100:1', plan: {tp: 1, weights: bf16},"
    " traffic: {rate: 1, requests: 5, prompt: 100, output: 5}}"
)
KERNEL = str(ROOT / "kernels" / "softmax.py")
VERBS: dict[str, tuple[str, ...]] = {
    "compare": (*COMPARE, "--out", "{file}"),
    "timeline": ("plan", *COMPARE[1:], "--timeline", "{file}.svg"),
    "collective": ("collective", "all-reduce", "--on", "trn3-gen2", "--bytes", "1MiB", "--out", "{file}"),
    "report": ("report", "{folder}/saved.json", "--html", "{file}"),
    "fleet": ("fleet", str(ROOT / "scenarios" / "startup.yaml"), "--lp", "--draws", "1", "--rates-out", "{file}"),
    "traffic": ("traffic", TRAFFIC, "--draws", "0", "--requests-out", "{file}"),
    "trace": ("traffic", TRAFFIC, "--draws", "0", "--trace-out", "{file}"),
    "calibrate": ("calibrate", "{folder}/rows.csv", "--out", "{file}"),
    "profile": ("kernel", "profile", KERNEL, "--trace", "{file}"),
    "page": ("kernel", "profile", KERNEL, "--html", "{file}"),
}
"""Commands that write, small; {file}: what they write, {folder}: where what they read is."""


class Faults:
    """The operating system as `mowich.writing` sees it, of which one call fails. at: which, from 0 (None: none does);
    made: the calls so far."""

    def __init__(self, at: int | None, error: BaseException) -> None:
        self.at, self.error = at, error
        self.made: list[str] = []

    def __getattr__(self, name: str) -> object:
        real: Callable[..., object] = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*given: object, **named: object) -> object:
            self.made.append(name)
            if len(self.made) - 1 == self.at:
                if name == "close":  # it is closed all the same, as Linux does it
                    real(*given, **named)
                raise self.error
            return real(*given, **named)

        return call


@contextmanager
def most_bytes(count: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """From a new file on, files may have so many bytes, as on a disk that is full after them. Python keeps no compiled
    modules meanwhile: of one that it cannot write whole it keeps the first bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    real = writing._new_beside

    def small(target: Path) -> Path:
        new = real(target)
        resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
        return new

    with monkeypatch.context() as patched:
        patched.setattr(writing, "_new_beside", small)
        patched.setattr(sys, "dont_write_bytecode", True)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("at", range(len(LASTING)))
@pytest.mark.parametrize("error", ERRORS)
def test_a_call_that_fails_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, is_there: bool, error: BaseException
) -> None:
    file, new = tmp_path / "result.json", b"x" * 10_000
    if is_there:
        file.write_bytes(OLD)
    faults = Faults(at, error)
    monkeypatch.setattr(writing, "os", faults)
    with pytest.raises(type(error)):
        writing.replace_file(file, new)
    assert faults.made[: at + 1] == LASTING[: at + 1]
    named = LASTING.index("replace") < at
    assert [one.name for one in tmp_path.iterdir()] == ["result.json"] * (is_there or named)
    if named:
        assert file.read_bytes() == new
    elif is_there:
        assert file.read_bytes() == OLD


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 9_999])
def test_a_disk_that_is_full_after_some_bytes_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    file = tmp_path / "result.json"
    file.write_bytes(OLD)
    with most_bytes(count, monkeypatch), pytest.raises(OSError, match="large"):
        writing.replace_file(file, b"x" * 10_000)
    assert [one.name for one in tmp_path.iterdir()] == ["result.json"]
    assert file.read_bytes() == OLD


def test_links_rights_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    file, link = tmp_path / "real" / "result.json", tmp_path / "link.json"
    file.write_bytes(OLD)
    file.chmod(0o640)
    link.symlink_to(file)
    writing.replace_file(link, "new")
    assert link.is_symlink()
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o640)
    umask = os.umask(0o027)
    try:
        writing.replace_file(tmp_path / "fresh.json", "new")
    finally:
        os.umask(umask)
    assert (tmp_path / "fresh.json").stat().st_mode & 0o777 == 0o640
    writing.replace_file(Path("/dev/null"), "nothing is kept")
    assert not Path("/dev/null").is_file()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writing.replace_file(pipe, "through it")
    assert (os.read(reader, 100), pipe.is_fifo()) == (b"through it", True)
    os.close(reader)


def command(verb: str, folder: Path) -> tuple[list[str], Path]:
    """(The words of a command, the file that it writes)."""
    words = [
        word.replace("{file}", str(folder / "out" / "made")).replace("{folder}", str(folder)) for word in VERBS[verb]
    ]
    return [*words, "-q"], Path(next(w for w in words if w.startswith(str(folder / "out"))))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read."""
    folder = tmp_path_factory.mktemp("inputs")
    assert cli.run([*VERBS["collective"][:-1], str(folder / "saved.json"), "-q"]) == 0
    (folder / "rows.csv").write_text(
        "id,chip,n_chips,framework,model,precision,mode,tp,isl,osl,concurrency,ttft_ms,tpot_ms\n"
        + "".join(
            f"r{n},h200,1,vLLM,llama-3.1-8b,bf16,aggregated,1,1000,500,{n},{40 + n},{6 + n / 10}\n" for n in (1, 4, 16)
        )
    )
    (folder / "out").mkdir()
    return folder


def check(verb: str, inputs: Path, capsys: pytest.CaptureFixture[str], fail: Callable[[list[str]], int]) -> None:
    words, file = command(verb, inputs)
    file.write_bytes(OLD)
    code = fail(words)
    said = capsys.readouterr().err
    assert file.read_bytes() == OLD or code == 0, verb
    assert [one.name for one in file.parent.iterdir()] == [file.name]
    file.unlink()
    if code:
        assert (code, len(said.splitlines())) == (EXIT_BAD_INPUT, 1), said
        assert "cannot be written" in said


@pytest.mark.share(2)
@pytest.mark.parametrize("verb", VERBS)
def test_a_command_on_a_full_disk_leaves_the_old_file(
    verb: str, inputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = []

    def full(words: list[str]) -> int:
        with most_bytes(40, monkeypatch):
            failed.append(cli.run(words))
        return failed[0]

    check(verb, inputs, capsys, full)
    assert failed == [EXIT_BAD_INPUT]


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_command_whose_nth_call_fails_leaves_the_old_file(
    verb: str, inputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(LASTING.index("replace") + 1):
        with monkeypatch.context() as patched:
            faults = Faults(at, OSError(errno.EIO, "Input/output error"))
            patched.setattr(writing, "os", faults)
            check(verb, inputs, capsys, cli.run)
            assert len(faults.made) > at, f"{verb} makes no call {at}"


OPENS = {"write_text", "write_bytes"}
OF_OUR_OWN = {
    "facts/own.py": "a temporary folder",
    "facts/overlay.py": "a temporary folder",
    "web/kernels.py": "a temporary folder",
    "cli/tool_calls.py": "a temporary folder",
    "cli/tool_results.py": "a temporary folder",
    "show/render/frame.py": "a temporary folder",
    "cli/app.py": "/dev/null",
    "nki/arguments.py": "memory, or a temporary file",
    "studies/traffic.py": "the new file, line by line",
    "studies/sweep_files.py": "lines are added, and one that was cut short is none",
    "writing.py": "the new file",
    "capture/__main__.py": "the new file, in an environment that may have PyTorch alone",
}
"""Files of the source that open a file for writing, and what they write."""


def test_nothing_else_opens_a_file_for_writing() -> None:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith("nki/beta1"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _writes(node):
                found.setdefault(name, node.lineno)
    assert found.keys() == OF_OUR_OWN.keys(), {k: v for k, v in found.items() if k not in OF_OUR_OWN}


def _writes(call: ast.Call) -> bool:
    """Whether a call opens a file for writing, by its name and the mode that it is given."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    modes = [x.value for x in (*call.args[:2], *(k.value for k in call.keywords)) if isinstance(x, ast.Constant)]
    is_mode = any(isinstance(m, str) and 0 < len(m) < 4 and set(m) & {*"wax"} and {*m} <= {*"wax+bt"} for m in modes)
    return name in OPENS or (name in ("open", "fdopen") and is_mode)
