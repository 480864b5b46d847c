"""Kernels of a checkout of AWS's nki-library, imported as they stand, and our own of kernels/.

Nothing of nki-library is copied. Its modules with references in torch (`*_torch`) are stood in for: a kernel needs
none of them. A docstring's tail that stands twice (the snapshot of April 2026) is left out while a file is read.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import io
import runpy
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import mowich.nki
from mowich.errors import UserError
from mowich.examples import names_of
from mowich.nki import Kernel

PACKAGE = "nkilib"
KNOWN = "the snapshot of 13 April 2026 (d2ad3a5)"
KernelFunction = Callable[..., object]


def package_of(checkout: Path) -> Path:
    """The folder that holds the package `nkilib`: a checkout, or a folder in it. Raises UserError for anything else."""
    for folder in (checkout / "src" / "nkilib_src", checkout / "nkilib_src", checkout):
        if (folder / PACKAGE / "core").is_dir():
            return folder
    raise UserError(
        "no nki-library here",
        where=str(checkout),
        fix="name a checkout of github.com/aws-neuron/nki-library, which has src/nkilib_src/nkilib",
    )


def _without_repeat(source: str) -> str:
    """Source without the copy of a docstring's tail that follows its closing quotes; as it was where it parses."""
    try:
        compile(source, "x", "exec")
        return source
    except SyntaxError as error:
        lines, first = source.split("\n"), (error.lineno or 1) - 1
    while first > 0 and lines[first - 1].strip():
        first -= 1
    last = first + 1
    while last < len(lines) and lines[last].strip() != '"""':
        last += 1
    return "\n".join(lines[:first] + lines[last + 1 :])


class _Source(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        text = _without_repeat(self.get_data(path).decode())
        code: types.CodeType = compile(text, path, "exec", dont_inherit=True)
        return code


class _Reference(types.ModuleType):
    """A module of references in torch: its names exist, and do nothing."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing


def _nothing(*_: object, **__: object) -> None:
    raise UserError("a torch reference of nki-library was called, but only its kernels run here")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of one checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != PACKAGE:
            return None
        if fullname.endswith("_torch"):
            return importlib.util.spec_from_loader(fullname, self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path or [str(self.folder)])
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            spec.loader = _Source(fullname, spec.origin)
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Reference(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class Kit:
    """Kernels to build layers from: ours, and those of a checkout where one was named. checkout: its folder, None
    without one."""

    def __init__(self, checkout: Path | None) -> None:
        self.checkout = checkout
        self._folder = package_of(checkout) if checkout is not None else None
        self._modules: dict[str, types.ModuleType] = {}

    @property
    def version(self) -> str:
        """Commit of the checkout, seven digits; "" where it has none, or no checkout was named."""
        return "" if self._folder is None else _commit_of(self._folder)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """`nki` resolves to the simulated one and `nkilib` to the checkout; what they print is not shown. All is put
        back."""
        before = {name: m for name, m in sys.modules.items() if name.partition(".")[0] == PACKAGE}
        finder = _Finder(self._folder) if self._folder is not None else None
        with mowich.nki.installed(replace=True), contextlib.redirect_stdout(io.StringIO()):
            try:
                if finder is not None:
                    for name in before:
                        del sys.modules[name]
                    sys.modules.update(self._modules)
                    sys.meta_path.insert(0, finder)
                yield
            finally:
                if finder is not None:
                    sys.meta_path.remove(finder)
                    found = {n: m for n, m in sys.modules.items() if n.partition(".")[0] == PACKAGE}
                    self._modules.update(found)
                    for name in found:
                        del sys.modules[name]
                    sys.modules.update(before)

    def has_library(self) -> bool:
        """Whether a checkout was named."""
        return self._folder is not None

    def find(self, module: str) -> types.ModuleType:
        """A module of the checkout by the name of its file, wherever the checkout has it. Raises UserError where it has
        none; call it where the kit is opened."""
        assert self._folder is not None
        root = self._folder / PACKAGE
        places = sorted(root.rglob(f"{module}.py"))
        if not places:
            raise UserError(
                f"this nki-library has no {module}.py", where=str(self.checkout), allowed=f"a version that has: {KNOWN}"
            )
        name = ".".join((PACKAGE, *places[0].relative_to(root).with_suffix("").parts))
        try:
            return importlib.import_module(name)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{module}.py of this nki-library does not load: {type(error).__name__}: {error}",
                where=str(places[0]),
                allowed=f"a version that does: {KNOWN}",
            ) from error

    def theirs(self, module: str, name: str, arguments: Mapping[str, object]) -> KernelFunction:
        """A kernel of the checkout that takes these arguments. Raises UserError where its version takes others."""
        found = getattr(self.find(module), name, None)
        if not callable(found):
            raise UserError(
                f"this nki-library has no {name} in {module}.py",
                where=str(self.checkout),
                allowed=f"a version that has: {KNOWN}",
            )
        function: KernelFunction = found.func if isinstance(found, Kernel) else found
        parameters = inspect.signature(function).parameters
        unknown = [n for n in arguments if n not in parameters]
        missing = [n for n, p in parameters.items() if p.default is p.empty and n not in arguments]
        if unknown or missing:
            what = f"takes no {', '.join(unknown)}" if unknown else f"wants {', '.join(missing)}"
            raise UserError(
                f"{name} of this nki-library {what}: another version",
                where=str(self.checkout),
                allowed=f"a version with the same arguments: {KNOWN}",
            )
        return function

    def ours(self, file: str, name: str) -> KernelFunction:
        """A kernel of kernels/."""
        found = _our_names(file)[name]
        assert callable(found)
        return found.func if isinstance(found, Kernel) else found


@cache
def _our_names(file: str) -> Mapping[str, object]:
    with mowich.nki.installed(replace=True):
        return runpy.run_path(str(names_of("kernels")[file]))


def _commit_of(folder: Path) -> str:
    """The commit of a checkout, seven digits, where git wrote it; "" elsewhere."""
    for place in (folder, *folder.parents):
        head = place / ".git" / "HEAD"
        if head.is_file():
            text = head.read_text(encoding="utf-8").strip()
            if text.startswith("ref: "):
                ref = head.parent / text[5:]
                text = ref.read_text(encoding="utf-8").strip() if ref.is_file() else _packed(head.parent, text[5:])
            return text[:7]
    return ""


def _packed(git: Path, ref: str) -> str:
    packed = git / "packed-refs"
    if packed.is_file():
        for line in packed.read_text(encoding="utf-8").splitlines():
            commit, _, name = line.partition(" ")
            if name == ref:
                return commit
    return ""


__all__ = ["KNOWN", "Kit", "package_of"]
