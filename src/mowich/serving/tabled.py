"""What operator tables say of an engine step: its products and its attention at the times of kernels.

The kernels are hand-tuned (`operators.kernels`), on devices of as many cores as the machine's, all at work. An engine
reaches a share of their speed: what it reaches of the published rates, over what kernels reach at their largest shapes
(`KernelReach`); launches are in the time of its layers. What no table holds (few columns, latent attention, windows
shorter than a prompt, formats of four bits) the closed form gives. So are experts and the products of models that have
some: published rows that were left out of the fit are no nearer with tables for them
(docs/records/accuracy-trainium.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats, distinct
from mowich.estimate import Notes, told
from mowich.machines.system import PRECISIONS
from mowich.operators.kernels import Kernels, kernels_of, reach_of, timed_at
from mowich.operators.law import both
from mowich.operators.tables.lookup import Bools, Lines
from mowich.plans.shapes import Shapes
from mowich.software.engine import EngineCosts

TILE = 128.0
"""Tokens of a cache or of a prompt that kernels take at once: fewer take as long."""
_BF16 = np.full(1, float(PRECISIONS.index("bf16")))


@dataclass(frozen=True, slots=True)
class Tabled:
    """A part of a step as far as tables hold it. kernels: seconds of its kernels; rest: share of the part's weights,
    cache or FLOP that the closed form is left with, 0 to 1 [n]; law, given: what the engine takes for the kernels, from
    their seconds and further numbers; said: where those are from."""

    kernels: Floats
    rest: Floats
    law: Callable[..., Floats] | None = None
    given: Mapping[str, Floats] = field(default_factory=dict)
    said: str = ""

    def seconds(self, notes: Notes | None = None, name: str = "") -> Floats:
        """Seconds of the kernels as the engine runs them [n]."""
        if self.law is None:
            return self.kernels
        note = f"{1.0 - float(self.rest[0]):.0%} of the work, {self.said}" if notes is not None else ""
        return told(notes, name, self.law, note=note)(kernels=self.kernels, **self.given)

    def with_rest(self, rest: Floats, notes: Notes | None, name: str) -> Floats:
        """Seconds of the whole part [n], of which the closed form gives `rest`: the term `name`, where tables hold
        any."""
        if notes is None or self.kernels[0] <= 0:
            return by_kernels_s(self.seconds(), rest)
        of_kernels = Notes(notes.moved)
        seconds = self.seconds(of_kernels, f"{name}.kernels")
        whole = told(notes, name, by_kernels_s)(kernels=seconds, rest=rest)
        notes.take(of_kernels)
        return whole


@dataclass(frozen=True, slots=True)
class TabledStep:
    """The parts of a step."""

    linear: Tabled
    head: Tabled
    caches: Tabled
    prompts: Tabled

    def seconds_of(self) -> dict[str, Floats]:
        """Seconds by part of the step."""
        return {
            "linear": self.linear.seconds(),
            "head": self.head.seconds(),
            "attention": self.caches.seconds(),
            "prefill_attention": self.prompts.seconds(),
        }


_NO_PART = Tabled(np.zeros(1), np.ones(1))
_NO_TABLES = TabledStep(_NO_PART, _NO_PART, _NO_PART, _NO_PART)


@dataclass(frozen=True, slots=True, eq=False)
class _ByPlan:
    """Times of kernels of `kinds` kinds of every plan along one of their sizes. groups: those of one table, and the
    place of each plan among the `num` of a kind [plans], -1 for plans of other tables or of none."""

    kinds: int
    groups: tuple[tuple[Lines, int, NDArray[np.intp]], ...]

    @classmethod
    def of(cls, tables: Floats, formats: Floats, read: Callable[..., Lines | None], n: int, *sizes: Floats) -> _ByPlan:
        """sizes: of each kind and plan [kinds, plans]."""
        whole = np.broadcast_arrays(*(np.maximum(x, 1.0) for x in sizes))
        groups = []
        for code, number, at in _tabled_cases(tables, formats, n):
            found = read(kernels_of(code), PRECISIONS[number], *(x[:, at].ravel() for x in whole))
            if found is not None:
                place = np.full(n, -1)
                place[at] = np.arange(len(at))
                groups.append((found, len(at), place))
        return cls(len(whole[0]), tuple(groups))

    def at(self, x: Floats, rows: NDArray[np.intp]) -> Floats:
        """Seconds [kinds, n] at sizes x, [n] or [kinds, n], of the plans `rows`; nan where no table reaches."""
        out = np.full((self.kinds, len(rows)), np.nan)
        for found, num, place in self.groups:
            mine = place[rows]
            at = np.flatnonzero(mine >= 0)
            column = np.arange(self.kinds)[:, None] * num + mine[at]
            out[:, at] = found.at(np.maximum(x[..., at], 1.0), column)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class PlanKernels:
    """Kernels of the steps of plans, read from tables once for all columns that are copies of them: products along
    their rows, caches along their sequences. s, tables: of the plans; rows: the plan of each column [n]."""

    s: Shapes
    tables: Floats
    linear: _ByPlan
    head: _ByPlan
    rows: NDArray[np.intp]
    _caches: dict[tuple[float, float], _ByPlan] = field(default_factory=dict)

    @classmethod
    def of(cls, s: Shapes, c: EngineCosts) -> PlanKernels | None:
        """Of plans, a column each; None where none has tables."""
        tables, n = np.asarray((c.kernel_tables > 0.5) * c.tables), len(s)
        if not np.any(tables > 0):
            return None
        plain = tables * (np.sum(s.moe_layers, axis=0) == 0)
        linear = _ByPlan.of(plain, c.linear_format, _product_lines, n, s.product_n, s.product_k)
        head = _ByPlan.of(plain, _BF16, _product_lines, n, (s.W_head / s.d)[None], s.d[None])
        return cls(s, tables, linear, head, np.arange(n))

    def take(self, rows: NDArray[np.intp]) -> PlanKernels:
        """The columns at `rows`; of what is read for some, all know."""
        return replace(self, rows=self.rows[rows])

    def caches_s(self, sequences: Floats, verify: Floats, context: Floats) -> Floats | None:
        """Seconds of reading the caches of `sequences` [kinds, n]; None where columns differ in what a sequence asks:
        `verify` tokens on `context` tokens of cache [n]."""
        key = (float(verify[0]), float(context[0]))
        if not ((verify == key[0]).all() and (context == key[1]).all()):
            return None
        if key not in self._caches:
            s, seen = self.s, np.maximum(np.minimum(key[1], self.s.window), TILE)
            group = key[0] * s.att_heads / np.maximum(s.att_cached, 1.0)
            self._caches[key] = _ByPlan.of(self.tables, _BF16, _cache_lines, len(s), group, seen, s.att_dim)
        return self._caches[key].at(sequences, self.rows)


def _product_lines(kernels: Kernels, dtype: str, n: Floats, k: Floats) -> Lines | None:
    return kernels.product_lines(n, k, dtype)


def _cache_lines(kernels: Kernels, _: str, group: Floats, seen: Floats, dim: Floats) -> Lines | None:
    return kernels.cache_lines(group, seen, dim)


def by_kernels_s(kernels: Floats, rest: Floats) -> Floats:
    """Seconds of a part of a step of which tables hold some.

    T = kernels + rest

    kernels: by the tables; rest: by the closed form.

    Units: kernels s, rest s.
    """
    return np.asarray(kernels + rest)


def products_s(
    kernels: Floats, compute: Floats, memory: Floats, c: Floats, w: Floats, faster: Floats, wider: Floats
) -> Floats:
    """Seconds that an engine takes for products that kernels take `kernels` for.

    T = kernels * both(compute / (c * faster), memory / (w * wider)) / both(compute, memory)

    compute, memory: of the same work at the rates at which kernels were timed, which say what binds it; c, w: share of
    a kernel's speed that the engine reaches where they do; faster, wider: matrix rate and memory rate of the machine
    over those rates, 1 unless somebody asks what another chip would do.

    Units: kernels s, compute s, memory s.
    """
    now = both(compute / (c * faster), memory / (w * wider))
    return np.asarray(kernels * now / np.maximum(both(compute, memory), 1e-30))


def attended_s(kernels: Floats, share: Floats, faster: Floats) -> Floats:
    """Seconds that an engine takes for attention that kernels take `kernels` for.

    T = kernels / (share * faster)

    faster: what binds it, memory for caches and the matrix rate for prompts, over the rate at which kernels were timed.

    Units: kernels s.
    """
    return np.asarray(kernels / (share * faster))


def tabled_step(
    s: Shapes,
    c: EngineCosts,
    *,
    m: Floats,
    m_head: Floats,
    n: Floats,
    verify: Floats,
    context: Floats,
    prompt: Floats,
    prompts: Floats,
    prompt_context: Floats,
    kernels: PlanKernels | None = None,
) -> TabledStep:
    """The parts of a step of m tokens, m_head of them sampled: n sequences verify `verify` tokens each on `context`
    tokens of cache, and `prompts` prompts have `prompt` tokens together on a rank, which attend to `prompt_context` on
    average. kernels: of these columns, where they were read before. Nothing, and nothing is read, where no case has
    tables."""
    tables = np.asarray((c.kernel_tables > 0.5) * c.tables)
    if not np.any(tables > 0):
        return _NO_TABLES
    plain = tables * (np.sum(s.moe_layers, axis=0) == 0)
    linear_s, head_s = (kernels.linear, kernels.head) if kernels else (None, None)
    of_linear = _dense(plain, c.linear_format, m, s.product_count, s.product_n, s.product_k, kernels, linear_s)
    of_head = _dense(plain, _BF16, m_head, np.ones((1, 1)), (s.W_head / s.d)[None], s.d[None], kernels, head_s)
    reach = {name: np.ones(tables.shape) for name in ("compute", "memory", "prompt", "cache")}
    for code in distinct(tables[tables > 0]):
        for name in reach:
            reach[name] = np.where(tables == code, getattr(reach_of(int(code)), name), reach[name])

    then_linear, then_Bps = _timed_at(tables, c.linear_format, c.peak_linear, c.hbm_Bps)
    then_16, _ = _timed_at(tables, _BF16, c.peak_16, c.hbm_Bps)
    wider, faster_16 = c.hbm_Bps / then_Bps, c.peak_16 / then_16
    by = kernels_of(int(np.max(c.tables)))
    said = f"by operator tables of {by.chip}, LNC {by.lnc}"

    def reached(share: Floats) -> Floats:
        return np.minimum(share, 1.0)

    def product(
        of: Tabled, W: Floats, bytes_: Floats, m: Floats, then: Floats, now: Floats, share: Floats, w: Floats
    ) -> Tabled:
        given = {
            "compute": 2.0 * m * W * (1.0 - of.rest) / then,
            "memory": bytes_ * (1.0 - of.rest) / then_Bps,
            "c": reached(share / reach["compute"]),
            "w": reached(w / reach["memory"]),
            "faster": now / then,
            "wider": wider,
        }
        return replace(of, law=products_s, given=given, said=said)

    def attended(of: Tabled, share: Floats, faster: Floats) -> Tabled:
        return replace(of, law=attended_s, given={"share": reached(share), "faster": faster}, said=said)

    rate, rate_16 = c.rate("linear") / c.peak_linear, c.rate("16") / c.peak_16
    W, W_head = s.W_linear, s.W_head
    return TabledStep(
        linear=product(of_linear, W, W * s.b_linear, m, then_linear, c.peak_linear, rate, c.weights_linear),
        head=product(of_head, W_head, 2.0 * W_head, m_head, then_16, c.peak_16, rate_16, c.weights_16),
        caches=attended(_caches(tables, s, n, verify, context, kernels), c.a_decode / reach["cache"], wider),
        prompts=attended(
            _prompts(tables, s, prompt, prompts, prompt_context),
            c.attention * c.attention_kernels / reach["prompt"],
            faster_16,
        ),
    )


def _timed_at(tables: Floats, formats: Floats, peak: Floats, Bps: Floats) -> tuple[Floats, Floats]:
    """(FLOP/s, bytes/s) at which the kernels of each case were timed; the case's own where it has no tables."""
    codes, words, peaks, rates = (np.array(x, np.float64) for x in np.broadcast_arrays(tables, formats, peak, Bps))
    for code in distinct(codes[codes > 0]):
        for number in distinct(words[words >= 0]):
            at = (codes == code) & (words == number)
            if np.any(at):
                peak_then, Bps_then = timed_at(int(code), PRECISIONS[int(number)])
                peaks, rates = np.where(at & (peak_then > 0), peak_then, peaks), np.where(at, Bps_then, rates)
    return peaks, rates


def _dense(
    tables: Floats,
    formats: Floats,
    m: Floats,
    count: Floats,
    n: Floats,
    k: Floats,
    kernels: PlanKernels | None,
    by_plan: _ByPlan | None,
) -> Tabled:
    """Products [m, n] x [n, k], `count` of each [p, cases]. by_plan: the same of the plans of `kernels`."""

    def of(kernels: Kernels, dtype: str, *sizes: Floats) -> Floats:
        m, n, k = (np.maximum(x, 1.0) for x in sizes)
        return kernels.product_s(m, n, k, dtype)

    t = by_plan.at(m, kernels.rows) if kernels and by_plan else _by_table(tables * (m > 0), formats, of, m, n, k)
    known = np.isfinite(t) & (count > 0) & (m > 0)
    return _part(np.where(known, count * t, 0.0).sum(axis=0), count * n * k, known)


def _caches(
    tables: Floats,
    s: Shapes,
    n: Floats,
    verify: Floats,
    context: Floats,
    kernels: PlanKernels | None,
) -> Tabled:
    """Decoding tokens on their caches [layer kinds, cases]."""
    sequences, group = n * s.att_cached / s.cp, verify * s.att_heads / np.maximum(s.att_cached, 1.0)
    seen = np.minimum(context, s.window)

    def of(kernels: Kernels, _: str, *sizes: Floats) -> Floats:
        sequences, group, seen, dim = (np.maximum(x, 1.0) for x in sizes)
        return kernels.cache_s(sequences, group, np.maximum(seen, TILE), dim)

    t = kernels.caches_s(sequences, verify, context) if kernels and np.any(n > 0) else None
    if t is None:
        t = _by_table(tables * (n > 0), _BF16, of, sequences, group, seen, s.att_dim)
    t = np.minimum(sequences, 1.0) * t
    known = np.isfinite(t) & (s.att_dim > 0) & (s.att_layers > 0) & (s.b_kv == 2.0) & (n > 0)
    return _part(np.where(known, s.att_layers * t, 0.0).sum(axis=0), s.att_layers * s.kv * seen, known)


def _prompts(tables: Floats, s: Shapes, tokens: Floats, prompts: Floats, mean: Floats) -> Tabled:
    count = np.maximum(prompts, 1.0)
    each = np.maximum(tokens / count, TILE)
    before = np.maximum(mean - each / 2.0, 0.0)

    def of(kernels: Kernels, _: str, *sizes: Floats) -> Floats:
        heads, each, before, dim = sizes
        return kernels.prompt_s(np.maximum(heads, 1.0), each, before, np.maximum(dim, 1.0))

    t = _by_table(tables * (tokens > 0), _BF16, of, count * s.att_heads, each, before, s.att_dim)
    is_whole = s.window >= mean + each / 2.0
    known = np.isfinite(t) & (s.att_dim > 0) & (s.att_layers > 0) & is_whole & (tokens > 0)
    weight = s.att_layers * s.f_pre * np.minimum(mean, s.window)
    return _part(np.where(known, s.att_layers * t, 0.0).sum(axis=0), weight, known)


def _part(kernels: Floats, work: Floats, known: Bools) -> Tabled:
    """work [k, cases]: how much of each there is, in one unit."""
    whole = work.sum(axis=0)
    held = np.where(known, work, 0.0).sum(axis=0)
    rest = np.where(held > 0, 1.0 - held / np.maximum(whole, 1e-300), 1.0)
    return Tabled(kernels, np.where(held >= whole, np.where(held > 0, 0.0, 1.0), rest))


def _by_table(tables: Floats, formats: Floats, of: Callable[..., Floats], *sizes: Floats) -> Floats:
    """`of` for the tables and the format of each case, with the sizes of those [k, cases]; nan where it has none."""
    whole = np.broadcast_arrays(*sizes, tables)[: len(sizes)]
    out = np.full(whole[0].shape, np.nan)
    for code, number, at in _tabled_cases(tables, formats, whole[0].shape[-1]):
        out[..., at] = of(kernels_of(code), PRECISIONS[number], *(x[..., at] for x in whole))
    return out


def _tabled_cases(tables: Floats, formats: Floats, n: int) -> Iterator[tuple[int, int, NDArray[np.intp]]]:
    """(code of tables, number of the format, cases that have both) of n cases."""
    codes, words = (np.broadcast_to(x, n) for x in (tables, formats))
    for code in distinct(codes[codes > 0]):
        for number in distinct(words[words >= 0]):
            at = np.flatnonzero((codes == code) & (words == number))
            if len(at):
                yield int(code), int(number), at
