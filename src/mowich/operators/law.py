"""The law of time: what one operator takes, in closed form, for floats or for columns.

One function each for a product, an attention core, a scan, a pass over memory, and for what two of them take side by
side. Training and serving call the same functions with the same constants of the device (`machines.device`); what
software makes of them is in factors that its steps hand in. A docstring's paragraph "T = ..." is the
formula, with the names of the parameters as symbols: a test evaluates it, and `explain` prints it. Times are seconds,
rates FLOP/s and bytes/s. Collectives of a fabric have their law in `machines.collectives`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Columns, Floats
from mowich.estimate import Notes, told
from mowich.models.model import Moe
from mowich.operators.rates import BF16, DeviceRates

Number = Floats | float

# two at the same time
# ----------------------------------------------------------------------------------------------------------------------


def both(a: Floats, b: Floats) -> Floats:
    """The larger of two overlapped times, rounded where they are close; measured products ask for the exponent 3.

    T = (a**3 + b**3) ** (1 / 3)
    """
    return np.asarray(np.cbrt(a * a * a + b * b * b))


def waited(compute: Floats, host: Floats) -> Floats:
    """What the device waits for its host: the larger of the two, less compute, rounded where they are close.

    T = (compute**6 + host**6) ** (1 / 6) - compute

    Rounded less than `both`, since launches queue: the host may run ahead of the device over many operators. Exponents
    3, 5, 6, 8 and 16 give vTrain's steps, left out by group, a 90th percentile of 23, 21, 21, 21 and 22%.

    Units: compute s, host s.

    >>> f"{waited(np.array([2.0]), np.array([2e-2]))[0]:.4g}"
    '3.333e-13'
    """
    ratio = np.minimum(host / np.maximum(compute, 1e-30), 1e9)
    squared = ratio * ratio
    return np.asarray(np.where(compute > 0, compute * np.expm1(np.log1p(squared * squared * squared) / 6.0), host))


def beside(T: Floats, share: Floats | float, window: Floats | float, contention: Floats | float) -> Floats:
    """Exposed time of a transfer that takes T alone and runs beside compute.

    T = T - min(share * T, window) * (1 - contention)

    Units: T s, window s.

    share: the part that the software can issue early enough (buckets, chunks of a fused product); window: the compute
    that may hide it;
    contention: the part of a hidden transfer that its copy kernels take from that compute: the multiprocessors of a
    GPU's collective channels; 0 on Trainium (collective cores of their own) and TPU (ICI).

    >>> float(beside(np.array([10.0]), 0.8, 6.0, 0.1)[0])
    4.6
    """
    return np.asarray(T - np.minimum(share * T, window) * (1.0 - contention))


def late(T: Floats, share: Floats | float, window: Floats | float) -> Floats:
    """The part of what `beside` leaves exposed that could be issued early and finds no compute."""
    return np.asarray(np.maximum(share * T - window, 0.0))


# products
# ----------------------------------------------------------------------------------------------------------------------


def products_of_rows(
    m: Number,
    A: Number,
    W: Number,
    K: Number,
    N: Number,
    M: Number,
    P: Number,
    B: Number,
    w: Number,
    m_half: Number,
    narrow: Number,
) -> Floats:
    """Seconds of products out[m, n] = in[m, k] x weight[k, n] over the same m rows, one behind the other.

    T = both(2 * (m + m * m_half / (m + m_half)) * A / P, (w * (m * K + W + narrow * M) + 2 * m * N) / B)

    Units: P FLOP/s, B B/s, w B.

    A: sum of (n + n_half) (k + n_half) over the products (`Sides.area`), W of n k, K of k, N of n, M of the longer
    side; P: FLOP/s of large products; B: bytes/s at which operands are read; w: bytes of an operand's element; m_half,
    n_half: rows and columns at which half of P is reached: the start and end of every tile, of which few rows have
    smaller ones; narrow: columns at which reading a narrow matrix takes twice as long. Nothing to do takes no time.
    """
    compute = 2.0 * (m + m * m_half / np.maximum(m + m_half, 1e-30)) * A / P
    memory = (w * (m * K + W + narrow * M) + 2.0 * m * N) / B
    return both(np.asarray(compute), np.asarray(np.where(m > 0, memory, 0.0)))


def product(
    m: Floats,
    n: Floats,
    k: Floats,
    groups: Number,
    P: Number,
    B: Number,
    w: Number,
    m_half: Number,
    n_half: Number,
    narrow: Number,
    Q: Number,
) -> Floats:
    """Seconds of `groups` products out[m, n] = in[m, k] x weight[k, n] in one call: `products_of_rows` of one.

    T = both(2 * groups * (m + m * m_half / (m + m_half)) * (n + n_half) * (k + n_half) * Q / P,
    groups * (w * (m * k + k * n + narrow * max(n, k)) + 2 * m * n) / B)

    Units: P FLOP/s, B B/s, w B.

    Q: work over that of rows which are read in whole lines (`unevenness`); the rest as in `products_of_rows`. Breaks
    for products that do not fill one tile.
    """
    area = groups * (n + n_half) * (k + n_half) * Q
    return products_of_rows(
        m, area, groups * k * n, groups * k, groups * n, groups * np.maximum(n, k), P, B, w, m_half, narrow
    )


ALIGNED = 64
"""Elements of 16 bits in a line of 128 bytes: a matrix whose rows are no multiple of it is read in parts."""


def is_aligned(n: Number, k: Number) -> NDArray[np.bool_]:
    """Whether the rows of both operands are whole lines."""
    return np.asarray((np.asarray(n) % ALIGNED == 0) & (np.asarray(k) % ALIGNED == 0))


def unevenness(n: Number, k: Number, misaligned: Number) -> Floats:
    """Q of `product`: 1 + misaligned where a row of a matrix is no multiple of `ALIGNED` elements, else 1."""
    return np.asarray(np.where(is_aligned(n, k), 1.0, 1.0 + misaligned))


@dataclass(frozen=True, slots=True)
class Sides(Columns):
    """Sums over products that run over the same rows, [2, n]: of those whose rows are whole lines, and of the others.
    count: of the products; inner, outer, longer: sums of k, of n and of the longer side; weights: of n k."""

    count: Floats
    inner: Floats
    outer: Floats
    longer: Floats
    weights: Floats

    @classmethod
    def of(cls, n: Floats, k: Floats, count: Number = 1.0) -> Sides:
        """Of `count` equal products, columns [n]."""
        whole = is_aligned(n, k)
        at = np.stack([whole, ~whole]) * np.asarray(count)
        return cls(count=at, inner=at * k, outer=at * n, longer=at * np.maximum(n, k), weights=at * (n * k))

    def __add__(self, other: Sides) -> Sides:
        return Sides(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Sides)))

    def times(self, count: Number) -> Sides:
        """The sums of these products repeated `count` times."""
        return Sides(*(count * getattr(self, f.name) for f in fields(Sides)))

    def area(self, n_half: Number, misaligned: Number) -> Floats:
        """A of `products_of_rows`: sum of (n + n_half) (k + n_half) Q [n]."""
        each = self.weights + n_half * (self.inner + self.outer) + n_half * n_half * self.count
        return np.asarray(each[0] + (1.0 + misaligned) * each[1])

    def total(self, name: Literal["inner", "outer", "longer", "weights"]) -> Floats:
        """A sum over all products [n]."""
        both_kinds: Floats = getattr(self, name)
        return np.asarray(both_kinds[0] + both_kinds[1])


def gemm_s(
    m: Floats,
    n: Floats,
    k: Floats,
    r: DeviceRates,
    *,
    groups: Number = 1.0,
    is_wide: bool = False,
    notes: Notes | None = None,
    name: str = "",
) -> Floats:
    """Forward time of a `product` by the rates of a recipe (is_wide: of 16 bits), or by the kernel tables that come
    with them; `notes` records it under `name`."""
    rate = r.wide if is_wide else r.recipe
    return told(
        notes,
        name,
        product,
        note="forward, one layer",
        tabled=r.tabled("products", m, n, k, groups, BF16 if is_wide else r.precision),
    )(
        groups=groups,
        m=m,
        n=n,
        k=k,
        P=rate.P,
        B=rate.B,
        w=rate.w,
        m_half=rate.m_half,
        n_half=r.n_half,
        narrow=r.narrow_columns,
        Q=unevenness(n, k, r.misaligned),
    )


# attention and scans
# ----------------------------------------------------------------------------------------------------------------------


def fused_attention(F: Floats, s: Number, s_half: Number, e_a: Number, P16: Number) -> Floats:
    """Seconds of a fused attention core of F FLOP over sequences of s tokens.

    T = F * (1 + s_half / s) / (e_a * P16)

    Units: F FLOP, s tokens, s_half tokens, P16 FLOP/s.
    """
    return np.asarray(F * (1.0 + s_half / s) / (e_a * P16))


def unfused_attention(F: Floats, scores: Floats, e_g: Number, P16: Number, b_u: Number, B: Number) -> Floats:
    """Seconds of attention as products of F FLOP that write and read every score.

    T = F / (P16 * e_g) + b_u * scores / B

    Units: F FLOP, P16 FLOP/s, b_u B, B B/s.
    """
    return np.asarray(F / (P16 * e_g) + b_u * scores / B)


def scan(F: Floats, elements: Floats, e_a: Number, P16: Number, b_r: Number, B: Number) -> Floats:
    """Seconds of a chunked scan: its products against the bytes that its kernels move.

    T = both(F / (e_a * P16), b_r * elements / B)

    Units: F FLOP, P16 FLOP/s, b_r B, B B/s.
    """
    return both(np.asarray(F / (e_a * P16)), np.asarray(b_r * elements / B))


def cached_attention(bytes_: Floats, F: Floats, B: Floats, P: Floats) -> Floats:
    """Seconds of decoding tokens against their caches.

    T = sqrt((bytes_ / B)**2 + (F / P)**2)

    Units: bytes_ B, F FLOP, B B/s, P FLOP/s.
    """
    return np.asarray(np.hypot(bytes_ / B, F / P))


# memory
# ----------------------------------------------------------------------------------------------------------------------


def passes(bytes_: Floats, times: Number, B: Number) -> Floats:
    """Seconds of work that is bound by memory.

    T = bytes_ * times / B

    Units: bytes_ B, B B/s.
    """
    return np.asarray(bytes_ * times / B)


# experts
# ----------------------------------------------------------------------------------------------------------------------


def largest_of(count: Floats) -> Floats:
    """The expected largest of so many standard normals (Blom 1958): by how many standard deviations the busiest of
    several ranks lies above their mean. Columns [n].

    >>> largest_of(np.array([1.0, 8.0, 64.0])).round(2)
    array([0.  , 1.43, 2.34])
    """
    from statistics import NormalDist  # not above: it takes 5 ms, and many steps have no expert

    each, at = np.unique(np.asarray(count, dtype=np.float64), return_inverse=True)
    z = np.array([NormalDist().inv_cdf((n - 0.375) / (n + 0.25)) if n > 1 else 0.0 for n in each])
    return np.asarray(z[at].reshape(np.shape(count)))


def busiest_load(tokens: Floats, moe: Moe, ep: Floats, skew: float, capacity: float = 0.0) -> Floats:
    """Rows that the busiest of `ep` devices gets, over the mean, when `tokens` tokens each choose top_k of the experts.

    Experts' popularities are independent with a coefficient of variation `skew`, and each token draws top_k distinct
    ones; a device holds experts / ep of them. Its load then has the relative variance s^2 = (1 - 1/ep) (ep (E-k) /
    ((E-1) tokens k) + skew^2 ep/E), and the largest of ep such loads, nearly normal, is 1 + z s (z: `largest_of`).
    A capacity above 0 pads every expert to capacity times the mean and drops the rest.

    >>> moe = Moe(ffn=2048, num_experts=256, top_k=8)
    >>> busiest_load(np.array([65536.0, 65536.0]), moe, np.array([64.0, 64.0]), 0.05).round(3)
    array([1.063, 1.063])
    """
    if capacity > 0:
        return np.full_like(ep, capacity, dtype=np.float64)
    E, k = float(moe.num_experts), float(moe.top_k)
    chance = (E - k) / max(E - 1.0, 1.0) / (np.maximum(tokens, 1.0) * k)
    variance = (1.0 - 1.0 / ep) * ep * (chance + skew**2 / E)
    return np.asarray(np.minimum(1.0 + largest_of(ep) * np.sqrt(variance), ep))


def busiest_rank(visited: Floats, experts: Floats, ep: Floats, uneven: Floats) -> Floats:
    """Visited experts of the rank that has most of them, over the mean of the ranks.

    Where not all experts are visited, those of a rank vary as independent draws do: by the root of
    (1 - visited / experts) / (visited / ep) of the mean, and the most of ep ranks lie `largest_of` of that above it; no
    rank visits more than its own experts. uneven: spread over that of independent draws.
    """
    missed = np.maximum(1.0 - visited / np.maximum(experts, 1.0), 0.0)
    most = 1.0 + uneven * largest_of(ep) * np.sqrt(missed / np.maximum(visited / ep, 1.0))
    return np.asarray(np.minimum(most, np.maximum(experts / np.maximum(visited, 1e-9), 1.0)))


def active_experts(experts: Floats, top_k: Floats, tokens: Floats) -> Floats:
    """Experts that at least one of `tokens` tokens visits when each picks top_k evenly: E (1 - (1 - k/E)^tokens).

    >>> float(active_experts(np.array([256.0]), np.array([8.0]), np.array([1.0]))[0].round(6))
    8.0
    """
    share = np.where(experts > 0, top_k / np.maximum(experts, 1.0), 0.0)
    return np.asarray(experts * -np.expm1(tokens * np.log1p(-np.minimum(share, 1.0 - 1e-9))))
