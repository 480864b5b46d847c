"""Kernels tried on shapes that are drawn: what goes wrong for every shape that a kernel takes.

No shape was given, so a finding must hold for all that the kernel's own assertions let through. Runs on drawn arguments
go as far as they can: where one stops, its dimensions and formats are changed, one or two at a time, to values that the
error, the assertion or the text names. A line is told of where every run that came to it stopped there: with the same
words whatever the arguments were, or after the whole of that search. What a run on something unknown meets is not told
of, but it shows which lines pass.
"""

from __future__ import annotations

import contextvars
import functools
import itertools
import linecache
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mowich.neuroncore.access import storage_of
from mowich.neuroncore.core import NkiValidationError, is_ours
from mowich.neuroncore.dtypes import PUBLIC
from mowich.neuroncore.views import Tile
from mowich.nki import beta1, runtime
from mowich.nki.check.drawn import (
    COMPUTED_ELEMENTS,
    DRAWN_FORMATS,
    DRAWN_SIZES,
    LARGEST_SIZE,
    Drawing,
    Given,
    TensorSpec,
    argument,
    sizes_of,
)
from mowich.nki.check.program import Code
from mowich.nki.check.rule import Finding
from mowich.nki.check.running import NO_INSTRUCTION, OF_BYTES, of_error, of_exception
from mowich.nki.check.sandbox import CheckedLine, GaveUp, RefusedArguments, Sandbox, TooLong
from mowich.nki.sizes import default_generation
from mowich.nki.words import UnknownName

FIRST_RUNS = 16
"""Runs on drawn arguments before anything is searched for."""
MOST_ACCEPTED, MOST_RUNS = 700, 1600
"""Runs of one kernel: that its own assertions let through, and all."""
FEW_RUNS = 200
"""All runs of a kernel with more dimensions than `PLACES`, of which little can be told."""
MOST_WORK = 1 << 26
"""Of all runs of one kernel, in elements that instructions touch."""
ENOUGH = 4
"""Runs on different arguments that must stop at a line before it is told of."""
EXPANDED = 2
"""Stopped runs whose arguments are all changed before a line is told of."""
PLACES = 4
"""Dimensions of all arguments, at most, that a search changes: of more, it would leave too much out."""
MOST_STEPS = 24
"""Times that a search goes on from the run that came furthest."""
_FORMATS = {d.name for d in PUBLIC}

FileLine = tuple[str, int]


@dataclass(frozen=True, slots=True)
class KernelTrial:
    """One run. given: its arguments; passed: the statements that ended; finding: what stopped it, None where nothing
    did or nothing is known of it; refused: the assertion that stopped it; far: how far it came; work: elements that it
    touched; is_finished: the kernel returned; is_cut: it was too long; has_values: it computed, so that it knows what
    was written."""

    given: Given
    passed: frozenset[CheckedLine]
    finding: Finding | None
    refused: CheckedLine | None
    far: int
    work: int
    is_finished: bool
    is_cut: bool
    has_values: bool

    @property
    def line(self) -> FileLine | None:
        """Where it was stopped."""
        return None if self.finding is None else (self.finding.file, self.finding.line)

    @property
    def is_clean(self) -> bool:
        """Whether nothing stopped it."""
        return self.is_finished and self.finding is None

    def is_past(self, stopped: KernelTrial) -> bool:
        """Whether it passes the line that stopped another one: after the return, only one without a finding does."""
        line = stopped.line
        assert line is not None
        assert stopped.finding is not None
        if self.is_cut or (stopped.finding.rule in OF_BYTES and not self.has_values):
            return False
        if self.line == line:
            return self.is_finished and not stopped.is_finished
        if stopped.is_finished:
            return self.is_finished
        return any(f == line[0] and a <= line[1] <= b for f, a, b in self.passed)


class ShapeSearch:
    """The runs of one kernel."""

    def __init__(self, code: Code, reached: Sequence[Code], generation: int) -> None:
        self.code, self.generation = code, generation
        self.drawing = Drawing(code, sizes_of(reached))
        self.runs: list[KernelTrial] = []
        self.seen: set[str] = set()
        self.expanded: set[int] = set()
        self.count = self.work = 0
        self.most_runs = MOST_RUNS

    @property
    def is_over(self) -> bool:
        """Whether the kernel has had all the runs that it gets."""
        return self.count >= MOST_ACCEPTED or len(self.runs) >= self.most_runs or self.work > MOST_WORK

    def run(self, given: Given) -> KernelTrial | None:
        """A run on these arguments; None where it was made before, or there are no more."""
        key = repr(given)
        if key in self.seen or self.is_over:
            return None
        self.seen.add(key)
        made = run_once(self.code, given, self.generation, len(self.runs))
        self.runs.append(made)
        self.count += made.refused is None
        self.work += made.work
        return made

    def draw(self, count: int) -> None:
        """Runs on drawn arguments."""
        for _ in range(count):
            self.run(self.drawing.draw())

    def passes(self, stopped: KernelTrial) -> bool:
        """Whether a run passes the line that stopped this one."""
        return any(o.is_past(stopped) for o in self.runs)

    def climb(self) -> None:
        """Go on from the run that came furthest, until one ends without a finding or none comes further."""
        stuck: Counter[object] = Counter()
        if any(len(_places(o.given)) > PLACES for o in self.runs):
            self.most_runs = FEW_RUNS
        for _ in range(MOST_STEPS):
            open_ones = [o for o in self.runs if (o.finding or o.refused) and id(o) not in self.expanded]
            if not open_ones or self.is_over or any(o.is_clean for o in self.runs):
                return
            best = max(open_ones, key=lambda o: o.far)
            place = best.line or best.refused
            if stuck[place] == EXPANDED or (best.finding is not None and self.is_constant(best)):
                return
            self.expand(best, goes_on=True)
            stuck[place] += id(best) in self.expanded

    def expand(self, stopped: KernelTrial, goes_on: bool = False) -> None:
        """Runs on changed arguments of one that was stopped. goes_on: until one comes further."""
        for given in _changed(stopped, self.drawing):
            made = self.run(given)
            if self.is_over:
                return
            if made is not None and goes_on and made.far > stopped.far and not made.is_cut:
                return
            if not goes_on and made is not None and made.is_past(stopped):
                return
        self.expanded.add(id(stopped))

    def suspects(self) -> Iterator[KernelTrial]:
        """A run for each line that stopped some and that none passes."""
        judged: set[tuple[FileLine, bool]] = set()
        while True:
            for o in self.runs:
                if o.line is not None and (o.line, o.is_finished) not in judged:
                    judged.add((o.line, o.is_finished))
                    if not self.passes(o):
                        yield o
                        break
            else:
                return

    def verdict(self, suspect: KernelTrial) -> Finding | None:
        """What is told of a line: None where it passes, or where the search did not come to its end."""
        if self.is_constant(suspect):
            return suspect.finding
        if len(_places(suspect.given)) > PLACES:
            self.draw(FIRST_RUNS)
            return suspect.finding if self.is_constant(suspect) and not self.passes(suspect) else None
        while (todo := self._to_expand(suspect)) is not None:
            self.expand(todo)
            if self.is_over or self.passes(suspect):
                return None
            if self.is_constant(suspect):
                return suspect.finding
        self.draw(FIRST_RUNS)
        if self.is_constant(suspect) and not self.passes(suspect):
            return suspect.finding
        # a format that no run tried may pass
        stopped = [o for o in self._stopped(suspect) if o.finding is not None and not _OF_FORMAT.search(o.finding.what)]
        if self.is_over or self.passes(suspect) or len(stopped) < ENOUGH:
            return None
        texts = Counter(o.finding.what for o in stopped if o.finding is not None)
        usual, count = texts.most_common(1)[0]
        told = next(o for o in stopped if o.finding is not None and o.finding.what == usual)
        found = told.finding
        assert found is not None
        if count > len(stopped) // 2:
            return found
        shapes = ", ".join(f"{n}={s}" for n, s in told.given.items() if isinstance(s, TensorSpec))
        return replace(found, what=f"{found.what} (no shape passes; here {shapes})")

    def _to_expand(self, suspect: KernelTrial) -> KernelTrial | None:
        """A run that stopped at a line, of each kind of error there one, and `EXPANDED` in all."""
        stopped = self._stopped(suspect)
        done = [o for o in stopped if id(o) in self.expanded]
        kinds = {_kind(o.finding) for o in done}
        todo = [o for o in stopped if id(o) not in self.expanded]
        fresh = [o for o in todo if _kind(o.finding) not in kinds] or (todo if len(done) < EXPANDED else [])
        return max(fresh, key=lambda o: o.far, default=None)

    def is_constant(self, suspect: KernelTrial) -> bool:
        """Whether all runs that stopped at a line, enough of them, stopped for the same, whatever the arguments
        were."""
        stopped = self._stopped(suspect)
        if len({_essence(o.finding) for o in stopped if o.finding is not None}) > 1:
            return False
        if suspect.finding is not None and _OF_FORMAT.search(suspect.finding.what):
            differ = len({tuple(s.dtype for s in _specs(o.given)) for o in stopped})
        else:
            differ = len({tuple(s.shape for s in _specs(o.given)) for o in stopped})
        return differ >= ENOUGH or not _specs(suspect.given)

    def _stopped(self, suspect: KernelTrial) -> list[KernelTrial]:
        return [o for o in self.runs if o.line == suspect.line and o.is_finished == suspect.is_finished]


def tried(code: Code, reached: Sequence[Code], generation: int | None = None) -> list[Finding]:
    """What is wrong with a kernel for every shape that it takes. reached: it and the functions that it reaches;
    generation: of the NeuronCore, None: of the default target."""
    search = ShapeSearch(code, reached, generation or default_generation())
    search.draw(FIRST_RUNS)
    search.climb()
    return [found for o in search.suspects() if (found := search.verdict(o)) is not None]


def _places(given: Given) -> list[tuple[str, int]]:
    """The dimensions of the arguments."""
    return [(n, i) for n, s in given.items() if isinstance(s, TensorSpec) for i in range(len(s.shape))]


def _specs(given: Given) -> list[TensorSpec]:
    return [s for s in given.values() if isinstance(s, TensorSpec)]


_OF_KIND = re.compile(
    r"must be in|does not run on|has no argument|has no |needs NeuronCore|must be a tile|no operator"
    r"|partition dimension: |100% of|cannot reach|its buffer is|buffer=|takes at most|[A-Z]\w+Error: "
)
"""Errors that hang on no size and no format: on a memory, an engine, a name."""
_OF_FORMAT = re.compile(r"format that|does not take|goes with")
"""Errors of formats alone."""
_TOO_SMALL = re.compile(r"at least one element in each dimension|is empty: |needs two cores")
"""Errors of sizes or launches that are too small, not of the kernel."""
_OF_PLACES = ("uninitialised", "never written", NO_INSTRUCTION, "out-of-bounds")
"""Words of errors that hang on no format."""


def _essence(finding: Finding) -> str:
    """What an error says, without the sizes and formats that it names where it does not hang on them."""
    words = re.findall(r"\w+", finding.what)
    if _OF_FORMAT.search(finding.what):
        return " ".join(w for w in words if not w.isdecimal())
    if _OF_KIND.search(finding.what):
        return " ".join(w for w in words if w not in _FORMATS and not w.isdecimal())
    if any(w in finding.what for w in _OF_PLACES):
        return " ".join(w for w in words if w not in _FORMATS)
    return finding.what


def _kind(finding: Finding | None) -> str:
    """An error without its sizes and formats, but with the dimension that it speaks of."""
    said = "" if finding is None else finding.what
    dimension = re.search(r"dimension \d+", said)
    words = " ".join(w for w in re.findall(r"[A-Za-z_]\w*", said) if w not in _FORMATS)
    return f"{words} {dimension[0] if dimension else ''}"


def _changed(stopped: KernelTrial, drawing: Drawing) -> Iterator[Given]:
    """Arguments like those of a stopped run: other formats; one dimension, all of one size, or two."""
    given = stopped.given
    if stopped.finding is not None:
        said = f"{stopped.finding.what} {stopped.finding.fix}".partition("allocated at")[0]
    else:
        assert stopped.refused is not None
        file, first, last = stopped.refused
        said = " ".join(linecache.getline(file, n) for n in range(first, int(last + 1) + 1))
    shapes = {n: s.shape for n, s in given.items() if isinstance(s, TensorSpec)}
    numbers = {int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\d|\d", said)}
    if "out-of-bounds" in said:  # the last index that was asked for
        numbers |= {n + 1 for n in numbers}
    here = {n for shape in shapes.values() for n in shape}
    usual = {n for n in numbers | here if 1 <= n <= DRAWN_SIZES[-1] or n in drawing.named}
    near = sorted(n for n in usual if n <= LARGEST_SIZE)[:6]
    beyond = [2 * n for n in drawing.named[-1:]]  # of each size that the text compares with
    sizes = list(dict.fromkeys((*near, *drawing.named[:4], 1, 128, 512, *beyond)))
    places = _places(given)
    if stopped.finding is not None and not any(w in said for w in _OF_PLACES):
        for dtype in dict.fromkeys((*(w for w in re.findall(r"\w+", said) if w in _FORMATS), *DRAWN_FORMATS)):
            yield _with(given, {}, dict.fromkeys(shapes, dtype))
            for name in shapes:
                yield _with(given, {}, {name: dtype})
    for size in sizes:
        for place in places:
            yield _with(given, {place: size}, {})
        for value in here:
            alike = [(n, i) for n, i in places if shapes[n][i] == value]
            yield _with(given, dict.fromkeys(alike, size), {})
    for name, spec in given.items():
        if isinstance(spec, TensorSpec) and not drawing.evidence[name].ranks:
            shape = spec.shape
            for other in (shape[:2], shape[:-1], (*shape, shape[-1])):
                if other:
                    yield {**given, name: replace(spec, shape=other)}
    if len(places) > PLACES:
        return
    few = sorted(sizes, key=lambda n: n in here)[:6]
    for a, b in itertools.combinations(places, 2):
        for x in few:
            for y in few:
                yield _with(given, {a: x, b: y}, {})


def _with(given: Given, sizes: dict[tuple[str, int], int], dtypes: dict[str, str]) -> Given:
    out = dict(given)
    for name, spec in given.items():
        if isinstance(spec, TensorSpec):
            shape = tuple(sizes.get((name, i), n) for i, n in enumerate(spec.shape))
            out[name] = TensorSpec(shape, dtypes.get(name, spec.dtype))
    return out


def run_once(code: Code, given: Given, generation: int, seed: int) -> KernelTrial:
    """One run of a kernel; without values where it would compute too much."""
    size = sum(math.prod(s.shape) for s in _specs(given))
    made = None
    if size <= COMPUTED_ELEMENTS:
        made = contextvars.copy_context().run(_run, code, given, generation, seed, True)
    if made is None or (made.is_cut and made.work > Sandbox.ELEMENTS):
        made = contextvars.copy_context().run(_run, code, given, generation, seed, False)
    return made


def _run(code: Code, given: Given, generation: int, seed: int, values: bool) -> KernelTrial:
    box = Sandbox(seed, values)
    last = runtime.last_run
    finding: Finding | None = None
    taken: list[object] = []
    is_cut = False
    try:
        function = box.function(code.module, code.name)

        @functools.wraps(function)
        def launched(*args: object, **kwargs: object) -> object:
            taken.extend((*args, *kwargs.values()))
            value = function(*args, **kwargs)
            box.finished = True
            return value

        kernel = beta1.jit(launched) if code.older else runtime.Kernel(launched)
        arguments = {name: argument(spec, box) for name, spec in given.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kernel.launch(
                (), arguments, generation=generation, strict=True, record=not values, values=values, repeat_loops=False
            )
    except (TooLong, RecursionError, MemoryError):
        is_cut = True
    except (GaveUp, RefusedArguments):
        pass
    except NkiValidationError as error:
        if not (box.reads_data or _is_of_unknown(error, taken)):
            finding = of_error(error, code.module.file, code.node.lineno)
            # a loop that did not run would have written it; a size that was rounded down to 0 was too small
            # another core would have written it
            is_of_others = finding.rule in OF_BYTES and (box.has_empty_loop or box.asks_launch)
            is_of_calls = "no instruction ran" in finding.what and box.unknowns  # a call that was not made would have
            if is_of_others or is_of_calls or _TOO_SMALL.search(finding.what):
                finding, box.finished = None, False
    except Exception as error:
        if not (box.unknowns or box.reads_data):
            finding = of_exception(error, code.module.file, code.node.lineno)
    finally:
        runtime.last_run = last
    if finding is not None and is_ours(finding.file):
        finding = replace(finding, file=code.module.file, line=code.node.lineno)
    return KernelTrial(
        given=given,
        passed=frozenset(box.passed),
        finding=finding,
        refused=box.refused,
        far=box.ticks + len(box.passed),
        work=box.work,
        is_finished=box.finished,
        is_cut=is_cut,
        has_values=values,
    )


def _is_of_unknown(error: NkiValidationError, taken: Sequence[object]) -> bool:
    """Whether an error comes of what was guessed about an argument, not of the kernel. taken: the arguments."""
    return (
        "Unknown" in error.line()
        or "control flow that reads" in error.what
        or (isinstance(error, UnknownName) and "Tile" in error.what and not _is_made(error, taken))
    )


def _is_made(error: UnknownName, taken: Sequence[object]) -> bool:
    """Whether it is a way to a tile's values on the host, and the tile is of an allocation of the kernel, and of no
    argument: an argument that is drawn as a tensor may be something else."""
    if "through instructions only" not in error.what:
        return False
    owner = getattr(error.__cause__, "obj", None)
    given = [storage_of(x) for x in taken if isinstance(x, Tile)]
    return isinstance(owner, Tile) and not any(storage_of(owner) is s for s in given)
