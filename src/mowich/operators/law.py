"""The law of time: what one operator takes, in closed form, for floats or for columns.

One function each for a product, an attention core, a scan, a pass over memory, experts, an exchange and a launch, and
for what two of them take side by side. Training and serving have constants of their own, which their steps hand in;
where the two have another form, both stand here under names of their own. A docstring's paragraph "T = ..." is the
formula, with the names of the parameters as symbols: a test evaluates it, and `explain` prints it. Times are seconds,
rates FLOP/s and bytes/s. Collectives of a fabric have their law in `machines.collectives`.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from mowich.arrays import Floats
from mowich.models.model import Moe
from mowich.operators.rates import BF16, DeviceRates

Number = Floats | float

# two at the same time
# ----------------------------------------------------------------------------------------------------------------------


def soft_max(a: Floats, b: Floats, power: float) -> Floats:
    """The larger of two overlapped times, rounded where they are close.

    T = (a**power + b**power) ** (1 / power)

    >>> float(soft_max(np.array([1.0]), np.array([0.0]), 4.0)[0])
    1.0
    """
    peak = np.maximum(np.maximum(a, b), 1e-30)
    return np.asarray(peak * ((a / peak) ** power + (b / peak) ** power) ** (1.0 / power))


def both(a: Floats, b: Floats) -> Floats:
    """`soft_max` with the exponent of serving, which is the pre-study's.

    T = (a**3 + b**3) ** (1 / 3)
    """
    return np.asarray(np.cbrt(a * a * a + b * b * b))


def waited(compute: Floats, host: Floats, power: float) -> Floats:
    """soft_max(compute, host) - compute, in seconds: what the device waits for its host. Without the rounding of that
    difference.

    >>> f"{waited(np.array([2.0]), np.array([1e-4]), 4.0)[0]:.4g}"
    '3.125e-18'
    """
    ratio = host / np.maximum(compute, 1e-30)
    return np.asarray(np.where(compute > 0, compute * np.expm1(np.log1p(ratio**power) / power), host))


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


def beside_with_rest(
    T: Floats, share: Floats | float, window: Floats | float, contention: Floats | float
) -> tuple[Floats, Floats]:
    """(what `beside` leaves exposed, the part of it that could be issued early and finds no compute: max(share T -
    window, 0))."""
    return beside(T, share, window, contention), np.asarray(np.maximum(share * T - window, 0.0))


# products
# ----------------------------------------------------------------------------------------------------------------------


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
    Q: Number,
    p: float,
) -> Floats:
    """Seconds of `groups` products out[m, n] = in[m, k] x weight[k, n] in one call.

    T = soft_max(2 * groups * m * n * k * (1 + m_half / m) * (1 + n_half / n) * (1 + n_half / k) * Q / P,
    groups * (w * (m * k + k * n) + 2 * m * n) / B, p)

    Units: P FLOP/s, B B/s, w B.

    P: FLOP/s of large products; B: bytes/s of memory; w: bytes of an operand's element; m_half, n_half: rows and
    columns at which half of P is reached: the start and end of every tile; Q: work over that of a full last wave and of
    aligned rows (`unevenness`); p: exponent of the rounding. Breaks for products that do not fill one tile.
    """
    flop = 2.0 * groups * m * n * k * (1.0 + m_half / m) * (1.0 + n_half / n) * (1.0 + n_half / k)
    bytes_ = groups * (w * (m * k + k * n) + 2.0 * m * n)
    return soft_max(np.asarray(flop * Q / P), np.asarray(bytes_ / B), p)


def unevenness(m: Floats, n: Floats, k: Floats, groups: Number, r: DeviceRates) -> Number:
    """Q of `product`: 1 + w_q (mean of `waves` over the three products of a training step - 1), for compute units that
    idle in the last wave, times 1 + misaligned where a row of a matrix is no multiple of `ALIGNED` elements. 1 where
    one systolic array has no waves."""
    if r.units <= 1:
        return 1.0
    one, two, three = np.broadcast_arrays(m, n, k)
    sides = np.array([[one, one, two], [two, three, three]])  # of the outputs of the three products
    idle = waves(sides[0], sides[1], groups, r.units, r.tile).sum(axis=0) / 3.0
    whole = (n % ALIGNED == 0) & (k % ALIGNED == 0)
    return np.asarray((1.0 + r.wave_share * (idle - 1.0)) * np.where(whole, 1.0, 1.0 + r.misaligned))


def gemm_s(
    m: Floats,
    n: Floats,
    k: Floats,
    r: DeviceRates,
    *,
    groups: Number = 1.0,
    P: Number | None = None,
    width_B: Number | None = None,
) -> Floats:
    """Forward time of a `product` by the rates of a recipe (P, width_B: of another precision), or by the kernel tables
    that come with them."""
    recipe = r.precision if P is None else BF16
    P = r.P if P is None else P
    w = r.width_B if width_B is None else width_B
    Q = unevenness(m, n, k, groups, r)
    fitted = product(m, n, k, groups, P, r.B, w, r.m_half, r.n_half, Q, r.power)
    return fitted if r.kernels is None else r.kernels.products(m, n, k, groups, recipe, fitted)


ALIGNED = 64
"""Elements of 16 bits in a line of 128 bytes: a matrix whose rows are no multiple of it is read in parts."""


def waves(m: Floats, n: Floats, groups: Floats | float, units: float, tile: float) -> Floats:
    """Work of the busiest of `units` equal compute units over the mean one, for `groups` outputs [m, n] cut into tiles
    of 2 tile x tile, or of tile x tile at 0.92 of the rate, whichever is better. 1 where units is 1: one systolic array
    has no waves.

    >>> float(waves(np.array([2048.0]), np.array([5376.0]), 1.0, 108.0, 128.0)[0].round(3))
    1.223
    """
    one = units * tile * tile
    best: Floats = np.full_like(m, np.inf)
    for rows, columns, cost in ((2.0, 1.0, 2.0), (1.0, 2.0, 2.0), (1.0, 1.0, 1.0 / 0.92)):
        count = groups * np.ceil(m / (rows * tile)) * np.ceil(n / (columns * tile))
        best = np.minimum(best, np.ceil(count / units) * cost)
    return np.asarray(np.maximum(1.0, best * one / (groups * m * n)))


def roof(W: Floats, bytes_: Floats, m: Floats, P: Floats, B: Floats, m_half: Number) -> Floats:
    """Seconds of m tokens through W weights in an engine step.

    T = both(2 * (m + m_half) * W / P, bytes_ / B)

    Units: P FLOP/s, B B/s, bytes_ B, m tokens, m_half tokens.

    m_half tokens stand for the part of a matrix tile that few tokens leave empty. Nothing to do takes no time.

    >>> columns = [np.array([x]) for x in (1e9, 1e9, 1.0, 1e15, 1e12)]
    >>> float(roof(*columns, 0.0)[0].round(6))
    0.001
    """
    tc = np.where(m > 0, 2.0 * (m + m_half) * W / P, 0.0)
    tm = np.where(m > 0, bytes_ / B, 0.0)
    return both(tc, tm)


# attention and scans
# ----------------------------------------------------------------------------------------------------------------------


def fused_attention(F: Floats, s: float, s_half: Number, e_a: Number, P16: Number) -> Floats:
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


def scan(F: Floats, elements: Floats, e_a: Number, P16: Number, b_r: Number, B: Number, p: float) -> Floats:
    """Seconds of a chunked scan: its products against the bytes that its kernels move.

    T = soft_max(F / (e_a * P16), b_r * elements / B, p)

    Units: F FLOP, P16 FLOP/s, b_r B, B B/s.
    """
    return soft_max(np.asarray(F / (e_a * P16)), np.asarray(b_r * elements / B), p)


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


def busiest_load(tokens: Floats, moe: Moe, ep: Floats, skew: float, capacity: float = 0.0) -> Floats:
    """Rows that the busiest of `ep` devices gets, over the mean, when `tokens` tokens each choose top_k of the experts.

    Experts' popularities are independent with a coefficient of variation `skew`, and each token draws top_k distinct
    ones; a device holds experts / ep of them. Its load then has the relative variance s^2 = (1 - 1/ep) (ep (E-k) /
    ((E-1) tokens k) + skew^2 ep/E), and the largest of ep such loads, nearly normal, is 1 + z s, z the expected largest
    of ep standard normals (Blom 1958). A capacity above 0 pads every expert to capacity times the mean and drops the
    rest.

    >>> moe = Moe(ffn=2048, num_experts=256, top_k=8)
    >>> busiest_load(np.array([65536.0, 65536.0]), moe, np.array([64.0, 64.0]), 0.05).round(3)
    array([1.063, 1.063])
    """
    if capacity > 0:
        return np.full_like(ep, capacity, dtype=np.float64)
    E, k = float(moe.num_experts), float(moe.top_k)
    chance = (E - k) / max(E - 1.0, 1.0) / (np.maximum(tokens, 1.0) * k)
    variance = (1.0 - 1.0 / ep) * ep * (chance + skew**2 / E)
    degrees, at = np.unique(ep, return_inverse=True)
    z = np.array([NormalDist().inv_cdf((n - 0.375) / (n + 0.25)) if n > 1 else 0.0 for n in degrees])[at]
    return np.asarray(np.minimum(1.0 + z * np.sqrt(variance), ep))


def active_experts(experts: Floats, top_k: Floats, tokens: Floats) -> Floats:
    """Experts that at least one of `tokens` tokens visits when each picks top_k evenly: E (1 - (1 - k/E)^tokens).

    >>> float(active_experts(np.array([256.0]), np.array([8.0]), np.array([1.0]))[0].round(6))
    8.0
    """
    share = np.where(experts > 0, top_k / np.maximum(experts, 1.0), 0.0)
    return np.asarray(experts * -np.expm1(tokens * np.log1p(-np.minimum(share, 1.0 - 1e-9))))


def visited_experts(
    rows: Floats,
    active: Floats,
    params: Floats,
    width_B: Floats,
    ranks: Floats,
    P: Floats,
    B: Floats,
    half: Number,
    narrow: Number,
) -> Floats:
    """Seconds of the experts of one layer in an engine step; `half` tokens an expert are half of the rate, and reading
    experts of few columns takes `narrow` longer.

    T = both(2 * rows * params / ranks / (P * (rows / active) / (rows / active + half)),
    active * params * width_B / ranks / B * (1 + narrow))

    Units: width_B B, P FLOP/s, B B/s.
    """
    per = np.maximum(rows / active, 1e-9)
    compute = 2.0 * rows * params / ranks / (P * per / (per + half))
    return both(compute, active * params * width_B / ranks / B * (1.0 + narrow))


# exchanges as an engine sees them: one flat link
# ----------------------------------------------------------------------------------------------------------------------


def ring(bytes_: Floats, ranks: Floats, latency: Floats, B: Floats) -> Floats:
    """Seconds of an all-reduce of bytes_ on a flat ring.

    T = latency + 2 * (ranks - 1) / ranks * bytes_ / B

    Units: bytes_ B, latency s, B B/s.
    """
    return np.asarray(latency + 2.0 * (ranks - 1.0) / ranks * bytes_ / B)


def fan_out(bytes_: Floats, fan: Floats, latency: Floats, B: Floats) -> Floats:
    """Seconds of a dispatch of bytes_ to `fan` experts each, or of their combination.

    T = latency + 0.75 * bytes_ * fan / B

    Units: bytes_ B, latency s, B B/s.
    """
    return np.asarray(latency + 0.75 * bytes_ * fan / B)


def hop(bytes_: Floats, latency: Floats, B: Floats) -> Floats:
    """Seconds of one transfer.

    T = latency + bytes_ / B

    Units: bytes_ B, latency s, B B/s.
    """
    return np.asarray(latency + bytes_ / B)
