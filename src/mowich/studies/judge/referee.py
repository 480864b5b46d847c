"""The reference, in a process of its own, so that no candidate's process ever holds what it gives.

The reference is the user's own code, and is not closed in; where it is another one's (`READS_ALONE`), the system closes
its process, without hooks of Python, which what it says to this process would not pass.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType

import numpy as np

from mowich.arrays import Array
from mowich.errors import UserError, UserErrors
from mowich.examples import folder_of
from mowich.requests.debugging import ReferenceFile
from mowich.studies.judge.closed import close, readable_folders
from mowich.studies.judge.threads import one_thread
from mowich.studies.kernel_reference import TOLERANCES, ReferenceFit, farthest_of, tolerance_of, wanted_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Arguments that candidates are run on. words: NAME=float32[128,512] and literals; empty: what `inputs()` of the
    reference's file gives; seed: of what is drawn."""

    words: tuple[str, ...]
    seed: int


READS_ALONE: ContextVar[tuple[str, ...] | None] = ContextVar("mowich_reads_alone", default=None)
"""Files that a reference may read, where it is not the user's own: its process is closed. None: it is."""


class Referee:
    """A process that makes arguments and says how far outputs are from what the reference gives.

    Example:
        >>> with Referee(ReferenceFile(Path("ref.py")), "softmax", "trn3") as referee:  # doctest: +SKIP
        ...     given = referee.arguments(Question(words=(), seed=1))
    """

    def __init__(self, file: ReferenceFile, kernel: str, target: str) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._pipe, file, kernel, target), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Referee:
        self._asked("ready")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def arguments(self, question: Question) -> dict[str, object]:
        """The arguments of a question."""
        found = self._asked("arguments", question)
        assert isinstance(found, dict)
        return found

    def fit(self, question: Question, outputs: Sequence[Array], tolerance: float | None) -> ReferenceFit:
        """How far outputs are from the reference's. tolerance: None: by the formats of the arguments."""
        found = self._asked("fit", question, [np.array(x) for x in outputs], tolerance)
        assert isinstance(found, ReferenceFit)
        return found

    def forget(self, questions: Sequence[Question]) -> None:
        """Drop the arguments of questions that are done with."""
        self._asked("forget", questions)

    def _asked(self, *words: object) -> object:
        try:
            self._pipe.send(words)
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise UserError("the process of the reference has ended", fix="run the reference by itself") from error
        if isinstance(answer, UserError | UserErrors):
            raise answer
        return answer


def _serve(pipe: Connection, other: Connection, file: ReferenceFile, kernel: str, target: str) -> None:
    """Answer until nobody asks."""
    from mowich.studies.kernel_files import as_scripts_expect, one_line, reference_in

    other.close()
    one_thread()
    alone = READS_ALONE.get()
    if alone is not None:
        shipped = str(folder_of("kernels").resolve())
        close(reads=(*readable_folders(), shipped, *alone), memory_B=None, time_s=None, guards=_ALONE)
    with (
        suppress(EOFError, OSError, KeyboardInterrupt),
        as_scripts_expect(str(file.file), (), target, None, quiet=True, for_programs=True),
    ):
        own: _Own | None = None
        while True:
            what, *words = pipe.recv()
            try:
                if own is None:
                    reference, names = reference_in(file, kernel)
                    own = _Own(reference, names)
                with one_line(str(file.file)):
                    answer: object = getattr(own, what)(*words)
            except (UserError, UserErrors) as error:
                answer = error
            pipe.send(answer)


_ALONE = ("files", "calls")
"""Guards of a reference that is not the user's own."""


class _Own:
    """The reference, in its process."""

    def __init__(self, reference: Callable[..., object], names: Mapping[str, object]) -> None:
        self._reference, self._inputs = reference, names.get("inputs")
        self._drawn: dict[Question, dict[str, object]] = {}

    def ready(self) -> bool:
        """Whether it could be loaded."""
        return True

    def arguments(self, question: Question) -> dict[str, object]:
        """The arguments of a question, kept until it is forgotten."""
        if question not in self._drawn:
            self._drawn[question] = self._draw(question)
        return self._drawn[question]

    def forget(self, questions: Sequence[Question]) -> bool:
        """Drop the arguments of questions."""
        for question in questions:
            self._drawn.pop(question, None)
        return True

    def _draw(self, question: Question) -> dict[str, object]:
        import inspect

        from mowich.nki import Kernel
        from mowich.studies.kernel_files import described_arguments

        reference = self._reference
        sizes = self._sizes(question.words)
        if question.words and sizes is None:
            kernel = reference if isinstance(reference, Kernel) else Kernel(reference)
            return described_arguments(
                kernel, getattr(reference, "__name__", "reference"), question.words, question.seed
            )
        if not callable(self._inputs):
            raise UserError(
                "no arguments", fix='--shapes "x=float32[128,512]", or inputs(seed) in the reference\'s file'
            )
        seed = {"seed": question.seed} if "seed" in inspect.signature(self._inputs).parameters else {}
        return dict(self._inputs(**seed, **(sizes or {})))

    def _sizes(self, words: Sequence[str]) -> dict[str, int] | None:
        """Words as sizes for `inputs()`: "M=4096", where it takes M and the reference does not."""
        import inspect

        if not words or not callable(self._inputs):
            return None
        own, taken = (set(inspect.signature(f).parameters) for f in (self._inputs, _function(self._reference)))
        found = dict(word.partition("=")[::2] for word in words)
        if not set(found) <= own - taken or not all(text.isdecimal() for text in found.values()):
            return None
        return {name: int(text) for name, text in found.items()}

    def fit(self, question: Question, outputs: list[Array], tolerance: float | None) -> ReferenceFit:
        """How far outputs are from the reference's."""
        given = self.arguments(question)
        found = wanted_of(_plain(self._reference), (), given)
        if isinstance(found, str):
            raise UserError(found)
        wanted = [np.asarray(x) for x in found]
        if [x.shape for x in wanted] != [x.shape for x in outputs]:
            got, want = (", ".join(str(list(x.shape)) for x in of) for of in (outputs, wanted))
            raise UserError("it gives arrays of other shapes", given=got, allowed=want)
        bound = tolerance_of([*given.values(), *wanted]) if tolerance is None else tolerance
        return farthest_of(outputs, wanted, bound)


def _function(reference: Callable[..., object]) -> Callable[..., object]:
    from mowich.nki import Kernel

    return reference.func if isinstance(reference, Kernel) else reference


def _plain(reference: Callable[..., object]) -> Callable[..., object]:
    """A reference that is a kernel of its own, as a function of arrays."""
    from mowich.nki import Kernel
    from mowich.nki.runtime import kernel_launched

    if not isinstance(reference, Kernel):
        return reference

    def run(**given: object) -> tuple[object, ...]:
        return tuple(kernel_launched(reference, (), given, record=False, values=True, check=True).outputs)

    return run


__all__ = ["TOLERANCES", "Question", "Referee"]
