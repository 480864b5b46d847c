"""What measured rows of serving say of a forecast: by how much to shift it, how wide its range is, and from how far
away they speak.

ln(measured / predicted by the constants) of every measured row is kept (`facts/serving/anchors.csv`) as a value of one
random process. Two points of it correlate as

    c = prod(m of each class that differs) x exp(-sum(|log2 difference| / l of each length))

so a forecast is shifted by the rows most like it (local simple kriging), by nothing where none is like it, and its
range narrows towards the noise of a row as rows come nearer. Numbers: `facts/serving/anchor_kernel.csv`. Stacks of
Trainium 2 and later have ranges of their own and no rows yet (`ranges_neuron.csv`, `tools/fit_neuron.py`).
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats, distinct
from mowich.files import kept_beside
from mowich.machines.system import System
from mowich.models.model import Model
from mowich.plans.plan import ServePlan

METRICS = ("tpot", "ttft")
CLASS_WORDS = ("engine", "version", "arch", "model", "family", "chip", "weights", "plan", "guesses")
"""Classes of a row: where two differ in one, they correlate less by its factor."""
AMOUNTS = ("ranks", "users", "prompt", "output")
"""Amounts of a row. Correlation falls with the doublings between two of all but the last: rows left out are no better
with it, and a first token waits for no answer. The first belongs to the plan; a search and a simulation go along users
and prompts."""
_RELATED, _ALONG = slice(0, 3), slice(1, 3)

NEARBY: Literal["measured nearby"] = "measured nearby"
Distance = Literal[
    "measured nearby", "measured for this family", "measured for this vendor", "never measured on this vendor"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """What a forecast or a measured row is of. version: the framework's release as tables name it, "" where a question
    names none; plan: "tp", "ep" or "dp" (attention data parallel); guesses: whether steps verify guessed tokens; users:
    per rank group; prompt, output: mean tokens."""

    engine: str
    arch: str
    model: str
    family: str
    chip: str
    weights: str
    plan: str
    users: float
    prompt: float
    output: float
    ranks: float
    vendor: str = ""
    version: str = ""
    guesses: bool = False

    def word(self, name: str) -> str:
        """A class of `CLASS_WORDS` as text."""
        return ("yes" if self.guesses else "") if name == "guesses" else str(getattr(self, name))

    def log(self, name: str) -> float:
        """log2 of one of `AMOUNTS`."""
        return math.log2(max(float(getattr(self, name)), 1.0))


SAME_MODEL: Mapping[str, str] = {"deepseek-r1": "deepseek-v3"}
"""Release of a model under another name -> that model."""


def class_of_plan(plan: ServePlan) -> tuple[str, str, float]:
    """(format of weights, kind, ranks) of a plan: all that it says of a class."""
    return plan.weights, "dp" if plan.dp > 1 else "ep" if plan.ep > 1 else "tp", float(plan.tp * plan.dp)


def class_of_worker(
    model: Model,
    arch: str,
    system: System,
    engine: str,
    plan: ServePlan,
    *,
    users: float,
    prompt: float,
    output: float,
    version: str = "",
    guesses: bool = False,
) -> Class:
    """What a worker of one plan at a load is to measured rows. arch: as `serving.engines.architecture` says it; users:
    per rank group; prompt, output: mean tokens; version, guesses: as in `Class`."""
    weights, kind, ranks = class_of_plan(plan)
    return Class(
        engine=engine,
        arch=arch,
        model=SAME_MODEL.get(model.name, model.name),
        family=system.family,
        chip=system.chip,
        vendor=system.vendor,
        weights=weights,
        plan=kind,
        users=users,
        prompt=prompt,
        output=output,
        ranks=ranks,
        version=version,
        guesses=guesses,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A measured row. residue: ln (measured / predicted by the constants) by metric, nan where it states none; noise:
    its standard deviation in ln by metric, None for that of a usual row."""

    id: str
    source: str
    one: Class
    residue: Mapping[str, float]
    noise: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """The process of one metric. deviation, noise: ln; apart: -ln of the factor of each of `CLASS_WORDS`; reach: 1/l of
    each of `AMOUNTS` but the last; width: half-width of a 90% range over the deviation; unmeasured: least half-width in
    ln on a vendor without rows; nearby: least correlation of a row that is called so; rows: most rows of a forecast;
    robust: errors over the noise from which a row counts for less."""

    deviation: float
    noise: float
    apart: Floats
    reach: Floats
    width: float
    unmeasured: float
    nearby: float
    rows: int
    robust: float

    def half_width(self, variance: Floats | float) -> Floats:
        """Half-width in ln of the 90% range, of the variance of the process beside the noise of a row."""
        return np.asarray(self.width * np.sqrt(np.maximum(variance, 0.0) + self.noise**2))


@cache
def anchor_kernels() -> Mapping[str, Kernel]:
    """The processes that ship, by metric."""
    named = {row["name"]: row for row in _read("anchor_kernel.csv")}
    out = {}
    for m in METRICS:
        of = {name: float(row[m]) for name, row in named.items()}
        out[m] = Kernel(
            deviation=of["deviation"],
            noise=of["noise"],
            apart=-np.log([of[name] for name in CLASS_WORDS]),
            reach=1.0 / np.array([of[name] for name in AMOUNTS[_RELATED]]),
            width=of["width"],
            unmeasured=math.log(of["unmeasured"]),
            nearby=of["nearby"],
            rows=int(of["rows"]),
            robust=of["robust"],
        )
    return out


def _read(name: str) -> list[dict[str, str]]:
    text = (resources.files("mowich.facts") / "serving" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


@dataclass(frozen=True, slots=True)
class ShiftAlong:
    """ln factor of one class at any load and length of prompts: exactly that of its neighbourhood, which between two
    rows' users and prompts is a sum of four products of exponentials. users, prompts: log2 of where rows are; reach:
    1/l of both; parts: for each interval of users and of prompts, what multiplies e^(-u - p), e^(u - p), e^(p - u) and
    e^(u + p); constant: what is added."""

    users: tuple[float, ...] = ()
    prompts: tuple[float, ...] = ()
    reach: tuple[float, float] = (0.0, 0.0)
    parts: tuple[tuple[tuple[float, float, float, float], ...], ...] = ()
    constant: float = 0.0

    def factor(self, users: float, log2_prompt: float) -> float:
        """What a time is multiplied by. users: per rank group, 1 or more; log2_prompt: mean of log2(prompt tokens)."""
        if not self.parts:
            return math.exp(self.constant)
        load = math.log2(users)
        a, b, c, d = self.parts[bisect_right(self.users, load)][bisect_right(self.prompts, log2_prompt)]
        u, p = math.exp(load * self.reach[0]), math.exp(log2_prompt * self.reach[1])
        return math.exp(self.constant + (a + b * u * u + p * p * (c + d * u * u)) / (u * p))


NO_SHIFT = ShiftAlong()


@dataclass(frozen=True, slots=True)
class Loads:
    """ln factors of several plans along load, for one length of prompts and answers. knots: log2 of the rows' users;
    falling, rising [plans, intervals]: what multiplies e^(-u) and e^u, u = log2(users) x reach."""

    knots: Floats
    reach: float
    falling: Floats
    rising: Floats

    def at(self, plans: NDArray[np.intp], users: Floats) -> Floats:
        """ln factor of each of `plans` at its users per rank group."""
        load = np.log2(np.maximum(users, 1.0))
        cell = np.searchsorted(self.knots, load, side="right")
        u = np.exp(load * self.reach)
        return np.asarray(self.falling[plans, cell] / u + self.rising[plans, cell] * u)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearRow:
    """A measured row beside a forecast. version: the release, or the engine where the row names none; users: per rank
    group; correlation: 0 (says nothing of it) to 1 (measured there)."""

    id: str
    source: str
    version: str
    model: str
    chip: str
    users: float
    prompt: float
    output: float
    ranks: float
    correlation: float

    def words(self) -> str:
        """The row in one line, with its correlation.

        >>> row = {"id": "m7", "source": "a paper", "version": "vllm 0.19.0", "model": "qwen3-32b", "chip": "b200_sxm"}
        >>> print(NearRow(**row, users=64.0, prompt=1024.0, output=512.0, ranks=2.0, correlation=0.312).words())
        m7 (0.31): qwen3-32b on 2 ranks of b200_sxm, vllm 0.19.0, 64 users, 1024/512 tokens
        """
        ranks = f"{self.ranks:g} rank{'s' if self.ranks != 1 else ''}"
        return (
            f"{self.id} ({self.correlation:.2f}): {self.model} on {ranks} of {self.chip}, {self.version},"
            f" {self.users:g} users, {self.prompt:.4g}/{self.output:.4g} tokens"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbourhood:
    """The rows most correlated with a class, at any load and lengths. at: where they stand in `anchors`; like: their
    correlation with the class, lengths but ranks left aside; logs: log2 of users and prompt [rows, 2];
    covariance: of the rows with their noise; dual: what a row's covariance with a forecast is multiplied by; shifts:
    whether a forecast is moved by them; least: half-width in ln that no range goes below."""

    kernel: Kernel
    anchors: Anchors
    metric: str
    at: NDArray[np.intp]
    like: Floats
    logs: Floats
    covariance: Floats
    dual: Floats
    shifts: bool = True
    least: float = 0.0

    def correlation(self, users: Floats | float, log2_prompt: Floats | float) -> Floats:
        """Of forecasts with every row [forecasts, rows]."""
        load = np.log2(np.maximum(users, 1.0))
        at = np.stack(np.broadcast_arrays(np.atleast_1d(load), log2_prompt), axis=-1)
        return np.asarray(self.like * np.exp(-np.abs(at[:, None, :] - self.logs) @ self.kernel.reach[_ALONG]))

    def shift(self, users: Floats | float, log2_prompt: Floats | float) -> Floats:
        """ln factor on the forecasts by the constants [forecasts]."""
        like = self.correlation(users, log2_prompt)
        return np.asarray(self.kernel.deviation**2 * (like @ self.dual)) if self.shifts else np.zeros(len(like))

    def half_width(self, users: Floats | float, log2_prompt: Floats | float) -> Floats:
        """Half-width in ln of the 90% range of the forecasts [forecasts]: of the process alone where it shifts
        nothing."""
        like = self.correlation(users, log2_prompt)
        variance = np.full(len(like), self.kernel.deviation**2)
        if self.shifts and len(self.at):
            k = variance[:, None] * like
            variance = variance - np.einsum("ij,ji->i", k, np.linalg.solve(self.covariance, k.T))
        return np.asarray(np.maximum(self.kernel.half_width(variance), self.least))

    @property
    def load_reach(self) -> float:
        """1/l of users."""
        return float(self.kernel.reach[1])

    def still(self) -> Neighbourhood:
        """This neighbourhood where rows do not carry over: no shift, and the width of the process alone."""
        return replace(self, shifts=False)

    def along(self) -> ShiftAlong:
        """The shift, open along load and prompts, for a simulation."""
        if not self.shifts or not len(self.at):
            return NO_SHIFT
        reach = self.kernel.reach[_ALONG]
        weight = self._weight()
        users, u = _sides(self.logs[:, 0], reach[0])
        prompts, p = _sides(self.logs[:, 1], reach[1])
        parts = np.stack([(u[i] * weight) @ p[j].T for j in (0, 1) for i in (0, 1)], axis=-1)
        return ShiftAlong(
            tuple(users.tolist()),
            tuple(prompts.tolist()),
            (float(reach[0]), float(reach[1])),
            tuple(tuple(map(tuple, row)) for row in parts.tolist()),
        )

    def along_load(self, log2_prompt: float, knots: Floats) -> tuple[Floats, Floats]:
        """A plan of `Loads`: (falling, rising) between these knots."""
        if not self.shifts or not len(self.at):
            return np.zeros(len(knots) + 1), np.zeros(len(knots) + 1)
        reach = self.kernel.reach[_ALONG]
        weight = self._weight() * np.exp(-np.abs(log2_prompt - self.logs[:, 1]) * reach[1])
        _, (falling, rising) = _sides(self.logs[:, 0], reach[0], knots)
        return falling @ weight, rising @ weight

    def _weight(self) -> Floats:
        return np.asarray(self.kernel.deviation**2 * self.like * self.dual)

    def nearest(self, one: Class, count: int = 3) -> tuple[NearRow, ...]:
        """The rows most correlated with a forecast, the nearest first."""
        like = self.correlation(one.users, one.log("prompt"))[0]
        order = np.argsort(-np.round(like, 9), kind="stable")[:count]
        return tuple(self.anchors.row(int(self.at[i]), float(like[i])) for i in order)


def _sides(logs: Floats, reach: float, knots: Floats | None = None) -> tuple[Floats, tuple[Floats, Floats]]:
    """(knots, for each interval between them and each row: e^(its place) where it lies below the interval, e^(-its
    place) where it lies above)."""
    knots = distinct(logs) if knots is None else knots
    below = logs <= np.append(-math.inf, knots)[:, None]
    place = logs * reach
    return knots, (np.where(below, np.exp(place), 0.0), np.where(below, 0.0, np.exp(-place)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Anchors:
    """Measured rows as columns. words: by class; logs: log2 of `AMOUNTS` [rows, 4]; residue, noise: by metric; own: how
    many of the last ones are a user's own: they are always among the neighbours."""

    kernel: Mapping[str, Kernel]
    ids: Sequence[str]
    sources: Sequence[str]
    vendors: Sequence[str]
    words: Mapping[str, Sequence[str]]
    logs: Floats
    residue: Mapping[str, Floats]
    noise: Mapping[str, Floats]
    own: int = 0
    number: Mapping[str, Mapping[str, int]] = field(init=False)
    codes: NDArray[np.intp] = field(init=False)
    stated: Mapping[str, NDArray[np.intp]] = field(init=False)
    knots: Floats = field(init=False)

    def __post_init__(self) -> None:
        number = {name: {word: i for i, word in enumerate(dict.fromkeys(self.words[name]))} for name in CLASS_WORDS}
        codes = [np.array([*map(number[name].__getitem__, self.words[name])], dtype=np.intp) for name in CLASS_WORDS]
        object.__setattr__(self, "number", number)
        object.__setattr__(self, "codes", np.stack(codes, axis=1))
        object.__setattr__(self, "knots", distinct(self.logs[:, 1]))
        object.__setattr__(self, "stated", {m: np.nonzero(~np.isnan(self.residue[m]))[0] for m in METRICS})

    def with_rows(self, rows: Sequence[Anchor]) -> Anchors:
        """These anchors, and a user's own rows after them."""
        more = anchors_of(rows, self.kernel)
        return replace(
            self,
            ids=(*self.ids, *more.ids),
            sources=(*self.sources, *more.sources),
            vendors=(*self.vendors, *more.vendors),
            words={name: (*self.words[name], *more.words[name]) for name in CLASS_WORDS},
            logs=np.concatenate([self.logs, more.logs]),
            residue={m: np.concatenate([self.residue[m], more.residue[m]]) for m in METRICS},
            noise={m: np.concatenate([self.noise[m], more.noise[m]]) for m in METRICS},
            own=self.own + len(rows),
        )

    def kernel_of(self, metric: str, one: Class) -> Kernel:
        """The process of a metric, for a class."""
        return self.kernel[metric]

    def knows(self, family: str) -> bool:
        """Whether any row is of a family of chips."""
        return family in self.number["family"]

    def knows_vendor(self, one: Class) -> bool:
        """Whether any row is of the vendor of its chip."""
        return one.vendor in self.vendors or self.knows(one.family)

    def take(self, rows: NDArray[np.intp]) -> Anchors:
        """The rows at `rows` alone."""
        return replace(
            self,
            ids=[self.ids[i] for i in rows],
            sources=[self.sources[i] for i in rows],
            vendors=[self.vendors[i] for i in rows],
            words={name: [self.words[name][i] for i in rows] for name in CLASS_WORDS},
            logs=self.logs[rows],
            residue={m: self.residue[m][rows] for m in METRICS},
            noise={m: self.noise[m][rows] for m in METRICS},
            own=int((rows >= len(self.ids) - self.own).sum()),
        )

    def apply(
        self, metric: str, cases: Sequence[Class], still: NDArray[np.bool_] | None = None
    ) -> tuple[Floats, Floats]:
        """(ln of the factor on the prediction, half-width in ln of the 90% range) of each case. still: those that rows
        shift nothing of (`Neighbourhood.still`)."""
        groups: dict[tuple[Neighbourhood, bool], list[int]] = {}
        for i, one in enumerate(cases):
            groups.setdefault((self.near(metric, one), still is not None and bool(still[i])), []).append(i)
        shift, half = np.zeros(len(cases)), np.zeros(len(cases))
        for (near, is_still), at in groups.items():
            found = near.still() if is_still else near
            users, prompt = (np.array([cases[i].log(name) for i in at]) for name in AMOUNTS[_ALONG])
            shift[at], half[at] = (of(2.0**users, prompt) for of in (found.shift, found.half_width))
        return shift, half

    def near(self, metric: str, one: Class) -> Neighbourhood:
        """The rows most correlated with a class; its users, prompt and output do not matter."""
        return _near(self, metric, replace(one, users=1.0, prompt=1.0, output=1.0))

    def distance(self, one: Class) -> Distance:
        """How far away the rows are that speak for a forecast. "Nearby": a row of the same family of chips correlates
        with its time per token by `Kernel.nearby` or more, releases left aside: a plan is of one that nobody measured
        yet. Else whether any row is of its family of chips, or of its vendor."""
        if self.knows(one.family):
            found = self.near("tpot", one)
            like = found.correlation(one.users, one.log("prompt"))[0]
            version = CLASS_WORDS.index("version")
            is_other = self.codes[found.at, version] != self.number["version"].get(one.version, -1)
            like = like * np.where(is_other, np.exp(found.kernel.apart[version]), 1.0)
            here = self.codes[found.at, CLASS_WORDS.index("family")] == self.number["family"].get(one.family, -1)
            is_near = bool((like[here] >= found.kernel.nearby).any())
            return "measured nearby" if is_near else "measured for this family"
        return "measured for this vendor" if self.knows_vendor(one) else "never measured on this vendor"

    def row(self, i: int, correlation: float) -> NearRow:
        """Row i, as a neighbour."""
        ranks, users, prompt, output = (round(float(x), 6) for x in 2.0 ** self.logs[i])
        names = ("version", "model", "chip")
        version, model, chip = (self.words[name][i] for name in names)
        return NearRow(
            id=self.ids[i],
            source=self.sources[i],
            version=version or self.words["engine"][i],
            model=model,
            chip=chip,
            users=users,
            prompt=prompt,
            output=output,
            ranks=ranks,
            correlation=correlation,
        )


@lru_cache(maxsize=512)
def _near(anchors: Anchors, metric: str, one: Class) -> Neighbourhood:
    kernel, stated = anchors.kernel_of(metric, one), anchors.stated[metric]
    code = np.array([anchors.number[name].get(one.word(name), -1) for name in CLASS_WORDS])
    differs = anchors.codes[stated] != code
    if not one.version:  # a question that names no release is of the one that the user measured
        differs[stated >= len(anchors.ids) - anchors.own, CLASS_WORDS.index("version")] = False
    far = differs @ kernel.apart
    far += np.abs(anchors.logs[stated, 0] - one.log("ranks")) * kernel.reach[0]
    order = np.argsort(np.round(far, 9), kind="stable")  # rows as near as each other: in the order of the table
    shipped = stated[order] < len(anchors.ids) - anchors.own
    chosen = np.concatenate([order[~shipped][: kernel.rows], order[shipped][: kernel.rows]])
    at = stated[chosen]
    covariance = covariance_of(kernel, anchors.codes[at], anchors.logs[at])
    covariance[np.diag_indices(len(at))] += anchors.noise[metric][at] ** 2
    is_vendor = anchors.knows_vendor(one)
    return Neighbourhood(
        kernel=kernel,
        anchors=anchors,
        metric=metric,
        at=at,
        like=np.exp(-far[chosen]),
        logs=anchors.logs[at, _ALONG],
        covariance=covariance,
        dual=np.linalg.solve(covariance, anchors.residue[metric][at]),
        shifts=is_vendor,
        least=0.0 if is_vendor else kernel.unmeasured,
    )


def covariance_of(kernel: Kernel, codes: NDArray[np.intp], logs: Floats) -> Floats:
    """Of rows with each other, without their noise [rows, rows]."""
    far = np.zeros((len(codes), len(codes)))
    for code, apart in zip(codes.T, kernel.apart, strict=True):
        far += apart * (code[:, None] != code)
    for log, reach in zip(logs[:, _RELATED].T, kernel.reach, strict=True):
        far += reach * np.abs(log[:, None] - log)
    return np.asarray(kernel.deviation**2 * np.exp(-far))


def robust_noise(kernel: Kernel, covariance: Floats, residue: Floats) -> Floats:
    """Standard deviation of each row's noise: more than that of a usual row where its neighbours contradict it.

    The process is fitted once; with z = what is left over the noise, s = noise sqrt(hypot(1, z / robust)).
    """
    noisy = covariance + np.diag(np.full(len(residue), kernel.noise**2))
    z = residue - covariance @ np.linalg.solve(noisy, residue)
    return np.asarray(kernel.noise * np.sqrt(np.hypot(1.0, z / (kernel.robust * kernel.noise))))


def anchors_of(rows: Sequence[Anchor], kernel: Mapping[str, Kernel] | None = None) -> Anchors:
    """Rows as columns, with the noise that they state, or that of a usual row."""
    kernel = kernel or anchor_kernels()
    return Anchors(
        kernel=kernel,
        ids=tuple(r.id for r in rows),
        sources=tuple(r.source for r in rows),
        vendors=tuple(r.one.vendor for r in rows),
        words={name: tuple(r.one.word(name) for r in rows) for name in CLASS_WORDS},
        logs=np.array([[r.one.log(name) for name in AMOUNTS] for r in rows]).reshape(len(rows), len(AMOUNTS)),
        residue={m: np.array([r.residue.get(m, math.nan) for r in rows]) for m in METRICS},
        noise={m: np.array([(r.noise or {}).get(m, kernel[m].noise) for r in rows]) for m in METRICS},
    )


def with_robust_noise(anchors: Anchors) -> Anchors:
    """These anchors, where the noise of every row is what its neighbours show."""
    noise = {}
    for m, kernel in anchors.kernel.items():
        at = anchors.stated[m]
        own = anchors.noise[m].copy()
        own[at] = robust_noise(
            kernel, covariance_of(kernel, anchors.codes[at], anchors.logs[at]), anchors.residue[m][at]
        )
        noise[m] = own
    return replace(anchors, noise=noise)


ANCHOR_COLUMNS = (
    "id",
    "source",
    "vendor",
    *CLASS_WORDS,
    *AMOUNTS,
    *(f"{m}{kind}" for m in METRICS for kind in ("", "_noise")),
)
"""Of `anchors.csv`: ln (measured / predicted) of a metric and its noise; source: a number of the lines above."""


def anchor_cells(row: Anchor, source: str) -> list[str]:
    """The cells of a row in `ANCHOR_COLUMNS`, without those of its metrics."""
    words = (row.one.word(name) for name in CLASS_WORDS)
    return [row.id, source, row.one.vendor, *words, *(f"{getattr(row.one, name):g}" for name in AMOUNTS)]


def anchor_lines(rows: Sequence[Anchor]) -> list[str]:
    """Lines of `anchors.csv` from measured rows and what the constants miss them by; each row's noise anew."""
    found = with_robust_noise(anchors_of(rows))
    sources = {source: i for i, source in enumerate(dict.fromkeys(r.source for r in rows))}
    out = [
        "# Measured rows of serving, ln (measured / predicted by the constants);"
        " written by tools/fit_serving.py. Do not edit.",
        *(f"# source {i}: {source}" for source, i in sources.items()),
        ",".join(ANCHOR_COLUMNS),
    ]
    for i, r in enumerate(rows):
        cells = anchor_cells(r, str(sources[r.source]))
        for m in METRICS:
            value = float(found.residue[m][i])
            cells += ["", ""] if math.isnan(value) else [f"{value:.4f}", f"{found.noise[m][i]:.4f}"]
        out.append(",".join(f'"{cell}"' if "," in cell else cell for cell in cells))
    return out


class _Columns(TypedDict):
    """Fields of `Anchors` that are kept in a file beside the rows."""

    ids: Sequence[str]
    sources: Sequence[str]
    vendors: Sequence[str]
    words: Mapping[str, Sequence[str]]
    logs: Floats
    residue: Mapping[str, Floats]
    noise: Mapping[str, Floats]


def _columns(lines: Iterable[str]) -> _Columns:
    """The columns of `Anchors` from the lines of their CSV."""
    sources, table = {}, []
    for line in lines:
        if line.startswith("# source "):
            number, source = line.removeprefix("# source ").split(": ", 1)
            sources[number] = source
        elif not line.startswith("#"):
            table.append(line)
    header, *rows = csv.reader(table)
    of = dict(zip(header, zip(*rows, strict=True), strict=True))

    def numbers(name: str) -> Floats:
        return np.array([float(cell) if cell else math.nan for cell in of[name]])

    return {
        "ids": of["id"],
        "sources": [*map(sources.__getitem__, of["source"])],
        "vendors": of["vendor"],
        "words": {name: of[name] for name in CLASS_WORDS},
        "logs": np.log2(np.maximum(np.stack([numbers(name) for name in AMOUNTS], axis=1), 1.0)),
        "residue": {m: numbers(m) for m in METRICS},
        "noise": {m: numbers(f"{m}_noise") for m in METRICS},
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StackAnchors(Anchors):
    """Rows of Trainium's stacks: a user's own, beside widths of each stack. widths: half-width in ln by (metric, stack,
    architecture), of those without rows under architecture "*"; families: of chips, by stack."""

    widths: Mapping[tuple[str, str, str], float]
    families: Mapping[str, frozenset[str]]

    def kernel_of(self, metric: str, one: Class) -> Kernel:
        """The process with the deviation that gives a stack's width where no own row narrows it."""
        kernel, here = self.kernel[metric], one.family in self.families.get(one.engine, ())
        wide = self.widths.get((metric, one.engine, one.arch)) if here else None
        half = self.widths[metric, "", "*"] if wide is None else wide
        return replace(kernel, deviation=math.sqrt(max((half / kernel.width) ** 2 - kernel.noise**2, 0.0)))

    def knows(self, family: str) -> bool:
        """Whether any stack was measured on a family of chips."""
        return any(family in families for families in self.families.values())

    def knows_vendor(self, one: Class) -> bool:
        """Of all chips that these stacks run on."""
        return True

    def distance(self, one: Class) -> Distance:
        """ "Nearby": the stack's rows are of this architecture and of this family of chips."""
        if (("tpot", one.engine, one.arch) in self.widths) and one.family in self.families[one.engine]:
            return "measured nearby"
        return Anchors.distance(self, one)


def _stack_anchors() -> StackAnchors:
    """Those of `ranges_neuron.csv`: half-widths by stack and architecture, and the families of chips of each stack."""
    widths: dict[tuple[str, str, str], float] = {}
    families: dict[str, set[str]] = {}
    for row in _read("ranges_neuron.csv"):
        engine, _, name = row["class"].rpartition("|")
        if row["level"] == "arch":
            widths[row["metric"], engine, name] = float(row["sd"])
        elif row["level"] == "family" and engine:
            families.setdefault(engine, set()).add(name)
    none = anchors_of(())
    return StackAnchors(
        **{f.name: getattr(none, f.name) for f in fields(none) if f.init},
        widths=widths,
        families={k: frozenset(v) for k, v in families.items()},
    )


@cache
def _shipped(name: str) -> Anchors:
    if name == "neuron":
        return _stack_anchors()
    path = Path(str(resources.files("mowich.facts"))) / "serving" / "anchors.csv"
    columns = kept_beside(path, lambda text: _columns(text.decode("utf-8").splitlines()))
    return Anchors(kernel=anchor_kernels(), **columns)


def anchors_for(engine: str = "") -> Anchors:
    """The measured rows that ship for an engine. Stacks of Trainium have their own: their constants were fitted to
    other rows, and what those of GPUs differ by is not theirs."""
    return _shipped("neuron" if is_stack(engine) else "")


def is_stack(engine: str) -> bool:
    """Whether an engine is a stack of Trainium, whose rows are kept apart.

    >>> is_stack("vllm-neuron"), is_stack("vllm")
    (True, False)
    """
    stacks = _shipped("neuron")
    return isinstance(stacks, StackAnchors) and engine in stacks.families
