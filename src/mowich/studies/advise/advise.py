"""The edits of a kernel that gain most: each is the recorded trace, timed again with one change, or the kernel run
again with a changed text. What is mechanical is applied to a copy of the file, run, and compared with the kernel as it
is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from mowich.errors import UserError
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.costs import costs as shipped_costs
from mowich.neuroncore.clock.records import ClockOptions, Schedule
from mowich.neuroncore.clock.schedule import as_compiled, schedule
from mowich.neuroncore.dtypes import as_dtype
from mowich.neuroncore.instructions.dma import ring_of
from mowich.neuroncore.instructions.table import TABLE
from mowich.neuroncore.order import KernelOrder, KernelSide, order_between, order_side
from mowich.neuroncore.profile import Profile
from mowich.neuroncore.trace import Kind, Trace
from mowich.nki.result import Result
from mowich.shown import Keyed, Shown
from mowich.studies.advise.bounds import EDIT_KINDS, EditBound, bounds_of, kernel_work
from mowich.studies.advise.text import KernelText, TextEdit
from mowich.studies.advise.traces import (
    MERGED_COUNTS,
    SHARED_COUNTS,
    EditCosts,
    KernelLine,
    PairKey,
    fused,
    in_bf16,
    is_dynamic,
    loaded_once,
    merged_dmas,
    on_engine,
    pairs_of,
    places_of,
    remapped,
    shared_loads,
    with_flag,
    without_copy,
    without_zeros,
)
from mowich.studies.kernel_reference import TOLERANCES, ReferenceFit, farthest_of
from mowich.sums import float_sum

LEAST_GAIN = 0.001
"""Share of the time that an edit saves at least, to be offered."""
_LINES, _RUNS, _RUN_INSTRUCTIONS, _TRIED = 12, (12, 32), 200_000, 4
"""Costliest lines that edits of an instruction are looked for at; least and most runs with a changed text, and
instructions of all; edits that are run beyond those that are shown."""
_PRODUCTS = {
    1: "operands in bf16: one pass, not four",
    3: "operands as sums of two bf16, three products: nearly the digits of float32",
}
"""Products in bf16 in place of one in float32, and what they are."""
_BF16 = 0.02
"""Tolerance from which on tiles of bf16 are offered: `kernel_reference.TOLERANCES`."""
_PAIRS = 32
"""Pairs of lines that are looked at as one instruction, the costliest first."""
_OFFSETS_SINCE = 4
"""First generation on which a released kernel has DMAs by hwdge with offsets that are known at run time only."""
_SAME_WORK = 1e-3
"""Share by which the work of two texts of a kernel may differ."""
_ALIKE = 0.1
"""Share of its gain by which an edit at more lines has to be better than one at fewer of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun(Keyed):
    """An edited kernel that was run. fit: how far its outputs are from those of the kernel as it is, None: it did not
    run, and why says why; time_s: what the run takes on the clock; gain: of the time of the kernel as it is, a share
    that may be below 0."""

    KEYS = "verdict time_s gain difference=fit why:none"

    fit: ReferenceFit | None
    time_s: float | None = None
    gain: float | None = None
    why: str = ""

    @property
    def verdict(self) -> str:
        """ "right", "wrong" or "refused"."""
        return "refused" if self.fit is None else "right" if self.fit.is_close and not self.fit.why_not else "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEdit(Keyed):
    """An edit. kind: of `EDIT_KINDS`; sites: (file, line) that it concerns; what: to do there; time_s: predicted, None:
    it cannot be offered, and why_not says why; saved: share of the time of the kernel as it is; order: of the kernel as
    it is (A) and the edited one (B); text: of the file, edited, None: it is not mechanical; diff: the same as a patch;
    rerun: what the edited file gave, None: it was not run."""

    KEYS = (
        "kind lines what time_s gain=saved ratio=order.ratio p_faster=order.p_a_slower risks=order.risks:list "
        "why_not:none is_mechanical=text:is diff:none run=rerun"
    )

    kind: str
    sites: tuple[KernelLine, ...]
    what: str
    time_s: float | None = None
    saved: float | None = None
    why_not: str = ""
    order: KernelOrder | None = None
    text: str | None = field(default=None, repr=False)
    diff: str = ""
    rerun: Rerun | None = None

    def gain(self, base_s: float) -> float:
        """Share of a time that it saves."""
        return 0.0 if self.time_s is None else 1.0 - self.time_s / base_s

    @property
    def lines(self) -> list[dict[str, object]]:
        """Its lines, each with its file."""
        return [{"file": file, "line": line} for file, line in self.sites]

    @property
    def is_wrong(self) -> bool:
        """Whether it was run and is not right."""
        return self.rerun is not None and self.rerun.verdict != "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelAdvice(Shown):
    """What would make a kernel faster. edits: those offered, the largest gain first; others: those looked at and not
    offered: a smaller gain of the same kind and lines, none, wrong when run, or not possible; bounds: what no edit of a
    kind can beat, and of all together ("all").

    Units: seconds.

    Example:
        >>> import mowich
        >>> found = mowich.advise("@softmax", ["x=float32[256,1000]"])  # doctest: +SKIP
        >>> found.edits[0].what  # doctest: +SKIP
    """

    SCHEMA = "mowich/kernel-advise@1"
    KEYS = "file kernel target time_s=base.time_s:graded edits bounds=told_bounds looked_at others=told_others"

    file: str
    kernel: str
    target: str
    base: Profile
    edits: tuple[KernelEdit, ...]
    others: tuple[KernelEdit, ...]
    bounds: Mapping[str, EditBound]
    shows_all: bool = False

    @property
    def base_s(self) -> float:
        """Seconds of the kernel as it is."""
        return self.base.total_s

    @property
    def told_bounds(self) -> list[dict[str, object]]:
        """The bounds as the JSON states them."""
        base = self.base_s
        return [{"kind": b.kind, "time_s": b.time_s, "gain": b.gain(base), "by": b.by} for b in self.bounds.values()]

    @property
    def looked_at(self) -> int:
        """How many edits were looked at."""
        return len(self.edits) + len(self.others)

    @property
    def told_others(self) -> tuple[KernelEdit, ...] | None:
        """The others, where they are asked for."""
        return self.others if self.shows_all else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviseAsk:
    """A kernel to advise on. file: what answers call it; path: the file that its lines come from; text: of the file;
    run: runs a text of the file, with or without values, and raises UserError where that does not run; top: edits to
    offer; runs: whether those that are mechanical are run; tolerance: None: by the formats."""

    file: str
    path: str
    text: str
    kernel: str
    target: str | None
    run: Callable[[str, bool], Result]
    top: int = 3
    runs: bool = True
    tolerance: float | None = None
    shows_all: bool = False


def advise_kernel(ask: AdviseAsk) -> KernelAdvice:
    """The edits of a kernel that gain most. Raises UserError for a kernel that does not run."""
    advisor = _Advisor(ask)
    found = _best_of_each([*advisor.edits()], advisor.base.total_s)
    offered = sorted((e for e in found if advisor.is_gain(e)), key=_rank)
    edits: list[KernelEdit] = []
    others = [e for e in found if not advisor.is_gain(e)]
    taken: set[tuple[str, object]] = set()
    tried = 0
    for edit in offered:
        places = {(edit.kind, word) for word in (*edit.sites, edit.what)}
        if len(edits) >= ask.top or places & taken:
            others.append(edit)
            continue
        if ask.runs and edit.text is not None:
            if tried >= ask.top + _TRIED:
                others.append(edit)
                continue
            tried += 1
            edit = replace(edit, rerun=advisor.rerun(edit))
        if edit.is_wrong:
            others.append(edit)
        else:
            taken |= places
            edits.append(edit)
    return KernelAdvice(
        file=ask.file,
        kernel=ask.kernel,
        target=ask.target or f"trn{advisor.generation - 1}",
        base=advisor.base,
        edits=tuple(edits),
        others=tuple(sorted(others, key=_rank)),
        bounds=advisor.bounds,
        shows_all=ask.shows_all,
    )


def _rank(edit: KernelEdit) -> tuple[object, ...]:
    """By the ratio of the times; by the middle of its range where a kernel has a named risk: that an edit removes or
    brings one counts."""
    ratio = None if edit.order is None else edit.order.ratio
    if ratio is None or ratio.value is None or ratio.low is None or ratio.high is None:
        after = float("inf")
    else:
        after = math.sqrt(ratio.low * ratio.high) if edit.order is not None and edit.order.risks else ratio.value
    return after, len(edit.sites), [*EDIT_KINDS].index(edit.kind), edit.sites, edit.what


def _best_of_each(edits: Sequence[KernelEdit], base_s: float) -> list[KernelEdit]:
    """Edits without those that gain hardly more than one of the same kind at fewer of their lines."""
    out = []
    for edit in edits:
        if edit.time_s is not None:
            better = [
                e
                for e in edits
                if e.time_s is not None
                and e.kind == edit.kind
                and set(e.sites) < set(edit.sites)
                and e.gain(base_s) >= (1 - _ALIKE) * edit.gain(base_s)
            ]
            if better:
                continue
        out.append(edit)
    return out


class _Advisor:
    """A kernel that is looked at. result: of its run; traces: as recorded; made: as the compiler makes them."""

    def __init__(self, ask: AdviseAsk) -> None:
        self.ask = ask
        self.text = KernelText(ask.text, ask.kernel)
        self.result = _run_of(ask)
        self.traces = [c.trace for c in self.result.cores if c.trace is not None]
        self.options = _options(self.result)
        self.generation = self.result.cores[0].generation
        facts = self.result.facts
        self.costs = shipped_costs(self.generation) if facts is None else Costs(self.generation, facts)
        self.base = self._profile(schedule(self.traces, self.costs, self.options))
        if not len(self.base):
            raise UserError("no instruction ran: nothing to advise on", where=ask.file)
        self.bounds = bounds_of(self.base.schedule)

    # times
    # -------------------------------------------------------------------------------------------------------------
    def _profile(self, s: Schedule) -> Profile:
        return Profile(s, self.ask.kernel)

    @cached_property
    def side(self) -> KernelSide:
        """What orders rest on, of the kernel as it is."""
        return order_side(self.base)

    @cached_property
    def compiled(self) -> list[Trace]:
        """Traces as the compiler makes them."""
        return [*as_compiled(self.traces, self.costs, self.options)]

    @cached_property
    def lines(self) -> list[KernelLine]:
        """The costliest lines of the kernel."""
        return [(x.file, x.line) for x in self.base.lines if x.file][:_LINES]

    def is_gain(self, edit: KernelEdit) -> bool:
        """Whether an edit saves enough to be offered."""
        return edit.time_s is not None and edit.gain(self.base.total_s) >= LEAST_GAIN

    def timed(self, edit: KernelEdit, profile: Profile) -> KernelEdit:
        """An edit with its time and its order; not to be offered where its tiles do not fit."""
        if profile.spill_B > self.base.spill_B:
            more = (profile.spill_B - self.base.spill_B) / 2**20
            return replace(edit, why_not=f"its tiles do not fit SBUF: {more:,.3g} MiB would be stored and loaded again")
        diff = "" if edit.text is None else self.text.diff(edit.text, Path(self.ask.path).name)
        edit = replace(edit, time_s=profile.total_s, order=order_between(self.side, order_side(profile)), diff=diff)
        return replace(edit, saved=edit.gain(self.base.total_s))

    def retimed(
        self,
        edit: KernelEdit,
        change: Callable[[Trace], Trace | None],
        costs: Costs | None = None,
        *,
        made: bool = False,
    ) -> KernelEdit | None:
        """An edit by its change of a trace, recorded or (made) as the compiler has it; None where it changes none."""
        traces = self.compiled if made else self.traces
        changed = [change(t) for t in traces]
        if not any(changed):
            return None
        options = replace(self.options, optimise=False, dge=None) if made else self.options
        new = [t if c is None else c for t, c in zip(traces, changed, strict=True)]
        try:
            s = schedule(new, costs or self.costs, options)
        except UserError:
            return None
        s.options = self.options
        return self.timed(edit, self._profile(s))

    def rerun(self, edit: KernelEdit) -> Rerun:
        """The edited file, run with values beside the kernel as it is."""
        assert edit.text is not None
        try:
            result = self.ask.run(edit.text, True)
        except UserError as error:
            return Rerun(fit=None, why=error.what)
        made, wanted = ([np.asarray(x) for x in r.outputs] for r in (result, self.values))
        if [x.shape for x in made] != [x.shape for x in wanted]:
            return Rerun(fit=None, why="its outputs have other shapes")
        result.timed, result.options, result.facts = True, self.result.options, self.result.facts
        time_s = result.profile.total_s
        gain = 1.0 - time_s / self.base.total_s
        return Rerun(fit=farthest_of(made, wanted, self.tolerance), time_s=time_s, gain=gain)

    @cached_property
    def tolerance(self) -> float:
        """Most that an output may differ, by the narrowest format that the kernel reads from HBM or writes there."""
        if self.ask.tolerance is not None:
            return self.ask.tolerance
        formats = {a.dtype for trace in self.traces for a in trace.storages.forms if a.space == "H" and a.dtype}
        kinds = [as_dtype(name) for name in sorted(formats)]
        sizes = [(d.part or d).itemsize for d in kinds if d.is_float or d.part is not None]
        return TOLERANCES[min((size for size in sizes if size in TOLERANCES), default=max(TOLERANCES))]

    @cached_property
    def values(self) -> Result:
        """The kernel as it is, with values."""
        return self.ask.run(self.ask.text, True)

    # edits
    # -------------------------------------------------------------------------------------------------------------
    def edits(self) -> Iterator[KernelEdit]:
        """All edits that are looked at, with times."""
        for found in (
            self._engines(),
            self._dma_modes(),
            self._dma_sizes(),
            self._reuse(),
            self._fusion(),
            self._products(),
            self._texts(),
        ):
            yield from (edit for edit in found if edit is not None)

    def _keyword(self, places: Sequence[tuple[KernelLine, str]], keyword: str, value: str) -> str | None:
        """The text with a keyword of the calls of instructions set; None where one is not in the file."""
        if any(site[0] != self.ask.path for site, _ in places):
            return None
        return self.text.with_keywords([(site[1], name, keyword, value) for site, name in places])

    @cached_property
    def places(self) -> dict[tuple[KernelLine, str], Kind]:
        """(Line, instruction) -> its first kind there, of all cores."""
        return {place: trace.kinds[kinds[0]] for trace in self.traces for place, kinds in places_of(trace).items()}

    def _engines(self) -> Iterator[KernelEdit | None]:
        for (site, name), kind in self.places.items():
            engines = TABLE[name].engines
            if site not in self.lines or kind.engine == "dma" or len(engines) < 2:
                continue
            for engine in engines:
                if engine == kind.engine and not kind.flag("free"):
                    continue
                edit = KernelEdit(
                    kind="engine", sites=(site,), what=f"{name} on the {engine} engine, not on {kind.engine}"
                )
                edit = replace(edit, what=f"give {name} to the {engine} engine") if engine == kind.engine else edit
                if on_engine(kind, engine, self.generation) is None:
                    yield replace(edit, why_not=_no_engine(kind, engine, self.generation))
                    continue
                value = f"{{isa}}.{engine}_engine"
                edit = replace(edit, text=self._keyword([(site, name)], "engine", value))
                change = partial(on_engine, engine=engine, generation=self.generation)
                yield self.retimed(edit, partial(remapped, places=[(site, name)], change=change))

    def _dma_modes(self) -> Iterator[KernelEdit | None]:
        if self.options.dge is False or self.generation < 3:
            return  # all descriptors are made before the launch
        dmas = {p: k for p, k in self.places.items() if k.engine == "dma" and p[1] in ("dma_copy", "dma_transpose")}
        for mode, queue in (("hwdge", ""), ("hwdge", "scalar"), ("swdge", ""), ("none", "")):
            able, refused = [], []
            for place, kind in dmas.items():
                why = _no_mode(kind, mode, self.generation)
                if why:
                    refused.append(
                        KernelEdit(kind="dma mode", sites=(place[0],), what=_mode_words(mode, queue), why_not=why)
                    )
                elif ring_of(self.costs, self._moded(mode, queue)(kind)) != ring_of(self.costs, kind):
                    able.append(place)
            yield from refused if mode == "hwdge" and not queue else ()
            stores = [p for p in able if dmas[p].writes[0].space == "H"]
            loads = [p for p in able if p not in stores]
            slow = [p for p in able if ring_of(self.costs, dmas[p]) == "software"]
            groups = {tuple(g) for g in (able, stores, loads, slow) if g}
            groups |= {(p,) for p in able if p[0] in self.lines}
            for group in sorted(groups):
                sites = tuple(sorted({site for site, _ in group}))
                edit = KernelEdit(kind="dma mode", sites=sites, what=_mode_words(mode, queue))
                text = self._keyword(group, "dge_mode", f"{{isa}}.dge_mode.{mode}") if not queue else None
                if queue:
                    text = self._keyword(group, "engine", "{isa}.engine.scalar")
                edit = replace(edit, text=text)
                yield self.retimed(edit, partial(remapped, places=group, change=self._moded(mode, queue)))

    def _moded(self, mode: str, queue: str) -> Callable[[Kind], Kind]:
        """What gives a DMA a mode and a queue: a queue alone where it has one of the hardware's generators."""

        def change(kind: Kind) -> Kind:
            return with_flag(kind, "queue", queue) if queue else with_flag(kind, "dge", mode)

        return change

    def _dma_sizes(self) -> Iterator[KernelEdit | None]:
        for site in self._sites_of("dma_copy"):
            for count in MERGED_COUNTS:
                costs = EditCosts(self.costs)
                edit = KernelEdit(
                    kind="dma size", sites=(site,), what=f"{count} of these DMAs as one, of {count} tiles"
                )
                change = partial(merged_dmas, site=site, count=count, costs=costs)
                yield self.retimed(edit, change, costs, made=True)

    def _reuse(self) -> Iterator[KernelEdit | None]:
        for site in self._sites_of("dma_copy"):
            edit = KernelEdit(
                kind="reuse", sites=(site,), what="keep what was loaded in SBUF: the line loads the same bytes again"
            )
            yield self.retimed(edit, partial(loaded_once, site=site), made=True)
            for share in SHARED_COUNTS:
                costs = EditCosts(self.costs)
                what = f"{share} turns of the loop around share each load: they take a tile while it is there"
                edit = KernelEdit(kind="reuse", sites=(site,), what=what)
                yield self.retimed(edit, partial(shared_loads, site=site, share=share, costs=costs), costs, made=True)

    def _sites_of(self, name: str) -> list[KernelLine]:
        """Lines of an instruction among the costliest."""
        known = {site for trace in self.compiled for site, n in places_of(trace) if n == name}
        return [site for site in self.lines if site in known]

    def _fusion(self) -> Iterator[KernelEdit | None]:
        pairs = [pairs_of(trace) for trace in self.compiled]
        spent = {(x.file, x.line): x.seconds for x in self.base.lines}

        def cost(group: tuple[PairKey, ...]) -> tuple[object, ...]:
            return -float_sum(spent.get(site, 0.0) for key in group for site in {*key}), group

        alone = [(key,) for key in {k for found in pairs for k in found} if not self._has_second_operator(key[0])]
        alike: dict[tuple[str, ...], list[PairKey]] = {}
        for (key,) in sorted(alone):
            if all(file == self.ask.path for file, _ in key):
                alike.setdefault(tuple(self.text.around(line) for _, line in key), []).append(key)
        groups = [*alone, *(tuple(keys) for keys in alike.values() if len(keys) > 1)]
        for group in sorted(groups, key=cost)[:_PAIRS]:
            yield self._fused(group, pairs)
        for site in self.lines:
            copy = KernelEdit(kind="fusion", sites=(site,), what="leave the copy out: its readers take its source")
            if not self._is_scaled(site):
                yield self.retimed(copy, partial(without_copy, site=site), made=True)
        memsets = {s for trace in self.compiled for s, name in places_of(trace) if name == "memset"}
        for site in sorted(memsets):
            zeros = KernelEdit(
                kind="fusion", sites=(site,), what="leave the memset out: these bytes hold the number already"
            )
            yield self.retimed(zeros, partial(without_zeros, site=site), made=True)

    def _fused(
        self, group: Sequence[PairKey], pairs: Sequence[Mapping[PairKey, list[tuple[int, int]]]]
    ) -> KernelEdit | None:
        """Pairs of lines as one instruction each. pairs: instructions of each trace."""
        mine = {
            id(trace): [pair for key in group for pair in found.get(key, ())]
            for trace, found in zip(self.compiled, pairs, strict=True)
        }
        named: list[str] = []

        def change(trace: Trace) -> Trace | None:
            made = fused(trace, sorted(mine[id(trace)]), self.costs) if mine[id(trace)] else None
            named.extend([made[1]] if made else [])
            return made[0] if made else None

        sites = tuple(sorted({site for key in group for site in key}))
        edit = self.retimed(KernelEdit(kind="fusion", sites=sites, what=""), change, made=True)
        if edit is None:
            return None
        said = [f"{a[1]} and {b[1]}" if a != b else str(a[1]) for a, b in group]
        is_one = len(said) == 1 and " " not in said[0]
        return replace(edit, what=f"line{'s' * (not is_one)} {'; '.join(said)} as one {named[0]}")

    def _has_second_operator(self, site: KernelLine) -> bool:
        """Whether the text of a tensor_scalar has a second operator: there is no room for another."""
        if site[0] != self.ask.path:
            return False
        return self.text.keyword_of(site[1], "tensor_scalar", "op1") is not None

    def _is_scaled(self, site: KernelLine) -> bool:
        """Whether the text of a copy by the Scalar Engine scales or shifts as well."""
        if site[0] != self.ask.path:
            return False
        return any(self.text.keyword_of(site[1], "activation", word) is not None for word in ("scale", "bias"))

    def _products(self) -> Iterator[KernelEdit | None]:
        sites = sorted({site for trace in self.compiled for site, name in places_of(trace) if name == "nc_matmul"})
        for group in [sites, *([s] for s in sites)] if len(sites) > 1 else [sites] if sites else []:
            places = [(site, "nc_matmul") for site in group]
            for products, what in _PRODUCTS.items():
                if products == 1 and self.tolerance < _BF16:
                    if any(in_bf16(k, EditCosts(self.costs)) for p, k in self.places.items() if p in places):
                        yield KernelEdit(kind="format", sites=tuple(group), what=what, why_not=self.too_coarse)
                    continue
                costs = EditCosts(self.costs)
                change = partial(in_bf16, costs=costs, products=products)
                edit = KernelEdit(kind="format", sites=tuple(group), what=what)
                yield self.retimed(edit, partial(remapped, places=places, change=change), costs, made=True)

    @property
    def too_coarse(self) -> str:
        """Why bf16 is not offered."""
        return f"bf16 has three digits, and an output may differ by {self.tolerance:g}: --tolerance {_BF16:g} allows it"

    # runs of a changed text
    # ----------------------------------------------------------------------------------------------------
    def _texts(self) -> Iterator[KernelEdit | None]:
        count = max(1, sum(len(t) for t in self.traces))
        left = min(max(_RUN_INSTRUCTIONS // count, _RUNS[0]), _RUNS[1])
        for kind, found in self._text_edits():
            if left <= 0:
                return
            left -= 1
            yield self._rerun_hollow(kind, found)

    def _text_edits(self) -> Iterator[tuple[str, TextEdit]]:
        """(Kind, edit) of those that are timed by a run."""
        for found in self.text.in_loops():
            yield "buffers", found
        for found in self.text.exchanged():
            yield "loop order", found
        for found in self.text.with_constants():
            yield "tile size", found
        lines = self._wide_tiles() if self.tolerance >= _BF16 else []
        for group in ([lines] if len(lines) > 1 else []) + [[line] for line in lines]:
            text = self.text.with_format(group, "bfloat16")
            if text is not None and text != self.ask.text:
                what = f"tiles of line{'s' * (len(group) > 1)} {', '.join(map(str, group))} in bfloat16"
                yield "format", TextEdit(line=group[0], text=text, what=what)

    def _wide_tiles(self) -> list[int]:
        """Lines of the file that allocate tiles in float32 in SBUF, the largest first."""
        size: dict[int, int] = {}
        for trace in self.traces:
            for a in trace.storages.forms:
                if a.space == "S" and a.dtype == "float32" and a.file == self.ask.path:
                    size[a.line] = max(size.get(a.line, 0), a.row_B)
        return sorted(size, key=lambda line: (-size[line], line))[:_LINES]

    def _rerun_hollow(self, kind: str, found: TextEdit) -> KernelEdit:
        edit = KernelEdit(kind=kind, sites=((self.ask.path, found.line),), what=found.what, text=found.text)
        try:
            result = self.ask.run(found.text, False)
        except UserError as error:
            return replace(edit, why_not=f"it does not run: {error.what}")
        result.timed, result.options, result.facts = True, self.result.options, self.result.facts
        profile = result.profile
        if not _is_same_work(kernel_work(profile), self.work):
            return replace(edit, why_not="it would do other work: other bytes of HBM, or other products")
        return self.timed(edit, profile)

    @cached_property
    def work(self) -> tuple[float, ...]:
        """What the kernel does, whatever its tiles are."""
        return kernel_work(self.base)


def _is_same_work(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(abs(x - y) <= _SAME_WORK * max(x, y) for x, y in zip(a, b, strict=True))


def _run_of(ask: AdviseAsk) -> Result:
    """The kernel as it is, without values where its control flow reads no data."""
    try:
        result = ask.run(ask.text, False)
    except UserError:
        result = ask.run(ask.text, True)
    result.timed = True
    return result


def _options(result: Result) -> ClockOptions:
    """How the clock schedules a run."""
    return result.schedule.options


def _no_engine(kind: Kind, engine: str, generation: int) -> str:
    """Why an engine does not run an instruction."""
    since = TABLE[kind.name].engine_since.get(engine, 0)
    if since > generation:
        return f"{kind.name} runs on the {engine} engine from NeuronCore-v{since} on"
    if kind.name == "nc_transpose":
        return "where its result lies, and its size, follow from the engine"
    return "the GpSimd engine cannot reach PSUM"


def _no_mode(kind: Kind, mode: str, generation: int) -> str:
    """Why a DMA cannot have a mode; "" where it can."""
    if is_dynamic(kind, "vector") and mode != "swdge":
        return "its rows are known at run time only: GpSimd writes the descriptors"
    if mode == "hwdge" and kind.flag("cast"):
        return "hwdge takes the same format on both sides"
    if mode == "hwdge" and is_dynamic(kind, "scalar") and generation < _OFFSETS_SINCE:
        return "AWS excludes hwdge at an offset known at run time only, and no kernel of this chip shows that it works"
    if mode == "none" and (is_dynamic(kind) or kind.flag("cast")):
        return "its descriptors cannot be made before the launch"
    return ""


def _mode_words(mode: str, queue: str) -> str:
    return "issue on the queue of the Scalar Engine (engine=scalar)" if queue else f"dge_mode={mode}"
