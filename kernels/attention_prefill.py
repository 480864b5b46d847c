"""Causal attention of a prompt, without ever writing the scores to HBM (flash attention), with grouped heads and a cached prefix.

Four tiles of 128 queries share each block of 1024 keys and values that is loaded. For a tile and a block: scores into two PSUM banks,
their largest element by the Vector Engine, the exponential and its sum by the Scalar Engine, a transpose of the probabilities on the
Tensor Engine so that tokens lie on partitions, and the product with the values. A running maximum and sum bring the blocks to one
scale. The scores of the next three tiles are issued before the product of this one, so that the Tensor Engine has work while the others have
theirs. The diagonal is masked by one more matmul, an identity times a tile of large negative numbers, which the sum in PSUM takes for
free; blocks beyond it are left out. On two cores each takes every other tile of queries.
"""

import math

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

BLOCK = 1024  # keys in one step: two PSUM banks of scores
TILES = 4  # of queries that share a block
AHEAD = 3  # tiles that are scored before the product of the first
MASKED = -1e9


@nki.jit
def attention_prefill(q, k, v):
    """q [H, d, Q], k [G, d, S], v [G, S, d] -> [H, Q, d]. Query i sees keys 0 .. S - Q + i. H in multiples of G, d <= 128, Q, S of 128."""
    H, d, Q = q.shape
    G, _, S = k.shape
    P = nl.tile_size.pmax
    assert H % G == 0, f"{H} query heads on {G} key-value heads"
    assert Q % P == S % P == 0, f"{Q} queries, {S} keys: pad to multiples of {P}"
    assert Q <= S, f"{Q} queries see {S} keys: fewer than themselves"
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    result = nl.ndarray((H, Q, d), dtype=q.dtype, buffer=nl.shared_hbm)
    identity, mask = constants(q.dtype)
    for h in nl.affine_range(H):
        mine = list(range(me * P, Q, cores * P))
        for first in range(0, len(mine), TILES):
            under_way = []
            tiles = [Tile(q[h], start, d, S - Q + start + P) for start in mine[first : first + TILES]]
            for s0 in range(0, tiles[-1].limit, BLOCK):
                s1 = min(s0 + BLOCK, tiles[-1].limit)
                keys = nl.ndarray((d, s1 - s0), dtype=k.dtype, buffer=nl.sbuf)
                nisa.dma_copy(dst=keys, src=k[h * G // H, :, s0:s1])
                values = nl.ndarray((P, (s1 - s0) // P, d), dtype=v.dtype, buffer=nl.sbuf)
                nisa.dma_copy(
                    dst=values, src=v[h * G // H, s0:s1, :].reshape(((s1 - s0) // P, P, d)).permute((1, 0, 2))
                )
                for tile in tiles:
                    if s0 < tile.limit:
                        while len(under_way) >= AHEAD or tile in under_way:
                            under_way.pop(0).collect()
                        tile.score(keys[:, : min(s1, tile.limit) - s0], values, s0, identity, mask)
                        under_way.append(tile)
            while under_way:
                under_way.pop(0).collect()
            for tile in tiles:
                nisa.dma_copy(dst=result[h, tile.start : tile.start + P, :], src=tile.finish())
    return result


def constants(dtype):
    """Identity [128, 128], and 0 where a query sees a key, large and negative where not: key > query."""
    P = nl.tile_size.pmax
    ones = nl.ndarray((P, P), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=ones, value=1.0)
    zeros = nl.ndarray((P, P), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=zeros, value=0.0)
    made = []
    for source, otherwise, compare in ((ones, 0.0, nl.equal), (zeros, MASKED, nl.greater_equal)):
        wide = nl.ndarray((P, P), dtype=nl.float32, buffer=nl.sbuf)
        nisa.affine_select(dst=wide, pattern=[[-1, P]], channel_multiplier=1, on_true_tile=source, on_false_value=otherwise, cmp_op=compare)  # fmt: skip
        narrow = nl.ndarray((P, P), dtype=dtype, buffer=nl.sbuf)
        nisa.tensor_copy(dst=narrow, src=wide)
        made.append(narrow)
    return made


class Tile:
    """128 queries on their way through the keys. limit: keys that the last of them sees; output, total: running sums, both relative to
    exp(-bias), with bias the negated running maximum of the scaled scores."""

    def __init__(self, q, start, d, limit):
        P = nl.tile_size.pmax
        self.start, self.limit, self.scale = start, limit, 1.0 / math.sqrt(d)
        self.queries = nl.ndarray((d, P), dtype=q.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=self.queries, src=q[:, start : start + P])
        self.output = nl.ndarray((P, d), dtype=nl.float32, buffer=nl.sbuf)
        self.total = self.bias = None

    def score(self, keys, values, s0, identity, mask):
        """Probabilities of the keys from s0 on, and what they change: bias, the factor of the sums so far, the sum of the new."""
        P, BANK, width = nl.tile_size.pmax, nl.tile_size.psum_fmax, keys.shape[1]
        scores = nl.ndarray((P, width), dtype=nl.float32, buffer=nl.psum)
        for c in range(0, width, BANK):
            part = slice(c, min(c + BANK, width))
            nisa.nc_matmul(dst=scores[:, part], stationary=self.queries, moving=keys[:, part])
        if s0 + width == self.limit:
            nisa.nc_matmul(dst=scores[:, width - P :], stationary=identity, moving=mask, accumulate=True)
        bias, self.sum = column(), column()
        nisa.tensor_reduce(dst=bias, op=nl.maximum, data=scores, axis=1, negate=True)
        more = {} if self.bias is None else {"op1": nl.minimum, "operand1": self.bias}
        nisa.tensor_scalar(dst=bias, data=bias, op0=nl.multiply, operand0=self.scale, engine=nisa.gpsimd_engine, **more)
        self.power = nl.ndarray((P, width), dtype=self.queries.dtype, buffer=nl.sbuf)
        nisa.activation_reduce(
            dst=self.power, op=nl.exp, data=scores, scale=self.scale, bias=bias, reduce_op=nl.add, reduce_res=self.sum
        )
        self.change = None
        if self.bias is not None:
            self.change = column()
            nisa.activation(dst=self.change, op=nl.exp, data=self.bias, scale=-1.0, bias=bias)
        self.bias, self.values, self.turn = bias, values, (s0 // BLOCK + self.start // P) % 2

    def collect(self):
        """Multiply the probabilities with the values, and add to the sums so far."""
        P, width = self.power.shape
        turned = nl.ndarray((P, width // P, P), dtype=self.power.dtype, buffer=nl.psum)
        for t in range(width // P):
            nisa.nc_transpose(dst=turned[:, t, :], data=self.power[:, t * P : (t + 1) * P], engine=nisa.tensor_engine)
        tokens = nl.ndarray((P, width // P, P), dtype=self.power.dtype, buffer=nl.sbuf)
        if self.turn and nisa.get_nc_version() == nisa.nc_version.gen2:  # whose Scalar Engine copies by activation only
            nisa.activation(dst=tokens, op=nl.copy, data=turned)
        else:
            nisa.tensor_copy(dst=tokens, src=turned, engine=nisa.scalar_engine if self.turn else nisa.vector_engine)
        product = nl.ndarray(self.output.shape, dtype=nl.float32, buffer=nl.psum)
        for t in range(width // P):
            nisa.nc_matmul(dst=product, stationary=tokens[:, t, :], moving=self.values[:, t, :])
        if self.change is None:
            self.total = self.sum
            nisa.tensor_copy(dst=self.output, src=product)
        else:
            nisa.tensor_scalar(dst=self.total, data=self.total, op0=nl.multiply, operand0=self.change, op1=nl.add, operand1=self.sum,
                               engine=nisa.gpsimd_engine)  # fmt: skip
            nisa.scalar_tensor_tensor(
                dst=self.output, data=self.output, op0=nl.multiply, operand0=self.change, op1=nl.add, operand1=product
            )

    def finish(self):
        """The attention of the tile's queries [128, d]."""
        inverse = column()
        nisa.reciprocal(dst=inverse, data=self.total)
        out = nl.ndarray(self.output.shape, dtype=self.queries.dtype, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=out, data=self.output, op0=nl.multiply, operand0=inverse)
        return out


def column():
    """A number for each of 128 queries."""
    return nl.ndarray((nl.tile_size.pmax, 1), dtype=nl.float32, buffer=nl.sbuf)


def inputs(seed=0, H=2, G=1, d=64, Q=256, S=1408, dtype=nl.bfloat16):
    """Arguments for `attention_prefill`."""
    rng = np.random.default_rng(seed)
    shapes = {"q": (H, d, Q), "k": (G, d, S), "v": (G, S, d)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def reference(q, k, v):
    """The same in NumPy."""
    q, k, v = (a.astype(np.float32) for a in (q, k, v))
    H, d, Q = q.shape
    G, _, S = k.shape
    k, v = (np.repeat(a, H // G, axis=0) for a in (k, v))
    scores = q.transpose(0, 2, 1) @ k / math.sqrt(d)
    scores[:, np.arange(S) > S - Q + np.arange(Q)[:, None]] = -np.inf
    power = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return power / power.sum(axis=-1, keepdims=True) @ v


if __name__ == "__main__":
    given = inputs()
    got, want = (np.asarray(a, np.float32) for a in (attention_prefill(**given), reference(**given)))
    np.testing.assert_allclose(got, want, rtol=2e-2, atol=2e-2)
    print(f"attention_prefill {want.shape}: largest difference {np.abs(got - want).max():.3g}")
