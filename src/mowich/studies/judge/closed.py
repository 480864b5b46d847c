"""A process that closes itself: no file but those it may read, no network, no other process, bounded memory and time.

The kernel of the system does it where it can: Landlock for files, a filter of system calls for the rest, limits of
resources. Hooks of Python stand before both, and alone where the system has neither (docs/project/threat-model.md says
which platform has what). `close` is for a process that does nothing else afterwards: what is closed stays closed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

GUARDS = ("memory", "time", "files", "calls", "hooks")
"""What `close` sets up, in this order: limits of memory and of processor time; Landlock; the filter of system calls;
hooks of Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """missing: guards that this platform does not have."""

    missing: tuple[str, ...]


def close(
    *,
    reads: Sequence[str],
    memory_B: int | None,
    time_s: float | None,
    guards: Iterable[str] = GUARDS,
) -> Closed:
    """Close this process. reads: folders below which files may be read; memory_B: bytes of address space beside those
    that it has; time_s: processor seconds."""
    setters: dict[str, Callable[[], bool]] = {
        "memory": lambda: _bounded_memory(memory_B),
        "time": lambda: _bounded_time(time_s),
        "files": lambda: _landlock(reads),
        "calls": _filtered_calls,
        "hooks": lambda: _hooked(reads),
    }
    wanted = set(guards)
    return Closed(missing=tuple(name for name in GUARDS if name in wanted and not setters[name]()))


def readable_folders() -> tuple[str, ...]:
    """Folders that Python and the simulator read from as they run: the libraries, this package and its facts."""
    import sysconfig

    own = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    own |= {str(Path(__file__).resolve().parents[2])}
    own |= {folder for folder in sys.path if folder and "site-packages" in folder}
    system = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom")
    return tuple(sorted({os.path.realpath(x) for x in (*own, *system) if os.path.exists(x)}))


# ---- limits
# ----------------------------------------------------------------------------------------------------------------------


def address_space_B() -> int | None:
    """Bytes of address space that this process holds; None where the system does not say, or has no limit of it."""
    try:
        import resource

        assert resource.RLIMIT_AS is not None
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError, AttributeError):
        return None


def _bounded_memory(most_B: int | None) -> bool:
    """Bound the address space; nothing is written to a file, and no core is dumped."""
    try:
        import resource
    except ImportError:
        return False
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if most_B is None:
        return True
    held = address_space_B()
    if held is None:
        return False
    resource.setrlimit(resource.RLIMIT_AS, (held + most_B, held + most_B))
    return True


def _bounded_time(most_s: float | None) -> bool:
    """Bound the processor time: the process is ended when it is used up."""
    if most_s is None:
        return True
    try:
        import resource
    except ImportError:
        return False
    mine = resource.getrusage(resource.RUSAGE_SELF)
    used = mine.ru_utime + mine.ru_stime
    most = int(used + most_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    return True


# ---- system calls
# ----------------------------------------------------------------------------------------------------------------------

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000
_EPERM, _ENOSYS = 1, 38
_THREAD = 0x00010000
_WRITES = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000
"""Flags of `open` that make or change a file: O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND."""
_LOAD, _EQUAL, _ANY, _RETURN = 0x20, 0x15, 0x45, 0x06

_X86 = (
    # other processes
    *(57, 58, 59, 322, 62, 200, 234, 129, 297, 101, 310, 311, 434, 438, 424),
    # network, and queues and memory that processes share
    *(41, 42, 43, 44, 46, 49, 50, 53, 288, 307, 29, 30, 31, 64, 68, 69, 240, 241, 242),
    # files: names, modes, owners, links, sizes, file systems
    *(76, 77, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 132, 133, 161, 235),
    *(258, 259, 260, 261, 263, 264, 265, 266, 268, 280, 285, 316, 452, 188, 189, 190),
    *(155, 165, 166, 272, 308, 428, 429, 430, 431, 432, 433, 442),
    # the kernel: programs, modules, tracing, rings of requests that pass by this filter
    *(321, 298, 250, 248, 249, 175, 176, 313, 246, 320, 425, 426, 427, 323, 437),
)
"""Numbers of system calls of x86-64 that are refused."""
_ARM = (
    *(221, 281, 129, 130, 131, 138, 240, 117, 270, 271, 424, 434, 438),
    *(198, 199, 200, 201, 202, 203, 206, 211, 242, 269, 186, 187, 189, 190, 193, 194, 196),
    *(33, 34, 35, 36, 37, 38, 45, 46, 47, 49, 51, 52, 53, 54, 55, 88, 276, 452, 5, 6, 7),
    *(39, 40, 41, 97, 268, 428, 429, 430, 431, 432, 433, 442),
    *(280, 241, 219, 217, 218, 105, 106, 273, 104, 294, 425, 426, 427, 282, 437),
)
"""Numbers of the system calls of 64-bit ARM that are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Calls:
    """audit: the number of the architecture; those calls whose arguments decide: opens: number -> place of its flags;
    clone: allowed for threads alone; clone3: not there, so that the C library takes the older one."""

    audit: int
    refused: tuple[int, ...]
    opens: dict[int, int]
    clone: int
    clone3: int = 435


_OF_MACHINE = {
    "x86_64": _Calls(audit=0xC000003E, refused=_X86, opens={2: 1, 257: 2}, clone=56),
    "aarch64": _Calls(audit=0xC00000B7, refused=_ARM, opens={56: 2}, clone=220),
}


def _program(calls: _Calls) -> list[tuple[int, int, int, int]]:
    """The filter: (code, places to jump where it holds, where not, operand) of each step."""

    def argument(place: int) -> tuple[int, int, int, int]:
        return _LOAD, 0, 0, 16 + 8 * place

    refuse, allow = (_RETURN, 0, 0, _ERRNO | _EPERM), (_RETURN, 0, 0, _ALLOW)
    steps = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, calls.audit),
        refuse,  # a call of another architecture
        (_LOAD, 0, 0, 0),
    ]
    for number in calls.refused:
        steps += [(_EQUAL, 0, 1, number), refuse]
    steps += [(_EQUAL, 0, 1, calls.clone3), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    steps += [(_EQUAL, 0, 4, calls.clone), argument(0), (_ANY, 1, 0, _THREAD), refuse, allow]
    for number, place in calls.opens.items():
        steps += [(_EQUAL, 0, 4, number), argument(place), (_ANY, 0, 1, _WRITES), refuse, allow]
    return [*steps, allow]


def _filtered_calls() -> bool:
    """Refuse system calls that change files, reach the network or start processes."""
    calls = _OF_MACHINE.get(platform.machine()) if sys.platform == "linux" else None
    if calls is None:
        return False
    program = b"".join(struct.pack("HBBI", *step) for step in _program(calls))
    buffer = ctypes.create_string_buffer(program, len(program))
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer)))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return False
    return not library.prctl(_SET_SECCOMP, _FILTER, ctypes.c_void_p(ctypes.addressof(whole)), 0, 0)


# ---- files
# ----------------------------------------------------------------------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT = 444, 445, 446
_VERSION, _BENEATH = 1, 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Version of Landlock -> how many rights on files it knows; later ones as the last."""
_CONNECT, _SCOPES = 0b11, 0b11


def _landlock(reads: Sequence[str]) -> bool:
    """Let files below some folders be read, and nothing else of files be done; no port bound or connected."""
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    version = library.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        return False
    files = (1 << _RIGHTS.get(version, max(_RIGHTS.values()))) - 1
    handled = [files, _CONNECT if version >= 4 else 0, _SCOPES if version >= 6 else 0]
    attributes = struct.pack("QQQ", *handled)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = library.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return False
    try:
        for folder in reads:
            rights = _READ_FILE | _READ_FOLDER if os.path.isdir(folder) else _READ_FILE
            try:
                at = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                library.syscall(_ADD_RULE, rules, _BENEATH, struct.pack("=Qi", rights, at), 0)
            finally:
                os.close(at)
        if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            return False
        return not library.syscall(_RESTRICT, rules, 0)
    finally:
        os.close(rules)


# ---- hooks
# ----------------------------------------------------------------------------------------------------------------------

_REFUSED = ("socket.", "subprocess.", "winreg.", "_winapi.", "ftplib.", "http.", "urllib.", "smtplib.")
_REFUSED_EVENTS = frozenset(
    (
        *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.kill"),
        *("os.killpg", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
        *("os.chmod", "os.chown", "os.utime", "os.chdir", "os.chflags", "os.setxattr"),
        *("shutil.rmtree", "shutil.move", "shutil.copyfile", "tempfile.mkstemp"),
        *("tempfile.mkdtemp", "pty.spawn", "mmap.__new__", "fcntl.fcntl", "fcntl.ioctl", "signal.pthread_kill"),
        *("gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys.settrace", "sys.setprofile"),
        *("sys._current_frames", "sys._current_exceptions", "sys.unraisablehook", "sys.excepthook"),
        *("cpython.run_command", "cpython.run_file", "cpython.run_stdin", "code.__new__", "builtins.breakpoint"),
        *("ctypes.dlopen", "ctypes.string_at", "ctypes.wstring_at", "ctypes.PyObj_FromPtr"),  # the clock is a library
        *("pickle.find_class", "sqlite3.connect", "webbrowser.open"),
    )
)
"""Events of Python that a closed process has no need of."""


def _hooked(reads: Sequence[str]) -> bool:
    """Refuse in Python what the system would, with a line that says what was tried."""
    below = tuple(folder if os.path.isfile(folder) else folder + os.sep for folder in reads)

    def is_read(path: str | bytes) -> bool:
        name = os.path.realpath(os.fsdecode(path))
        return name.startswith(below) or name in reads

    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            if isinstance(mode, str) and set(mode) & set("wax+"):
                raise PermissionError(f"a candidate writes no file: {path}")
            if isinstance(flags, int) and flags & writing:
                raise PermissionError(f"a candidate writes no file: {path}")
            if isinstance(path, str | bytes) and not is_read(path):
                raise PermissionError(f"a candidate reads no file: {os.fsdecode(path)}")
        elif event in ("os.listdir", "os.scandir"):  # Python lists a package's folder to import from it
            if not isinstance(args[0], str | bytes) or not is_read(args[0]):
                raise PermissionError(f"a candidate lists no folder: {args[0]}")
        elif event in _REFUSED_EVENTS or event.startswith(_REFUSED):
            raise PermissionError(f"a candidate may not do this: {event}")

    sys.addaudithook(hook)
    return True
