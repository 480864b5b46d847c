"""The gated feed-forward network of a transformer: y = (silu(x w_gate) * (x w_up)) w_down, the width between never leaving SBUF.

Activations are transposed, [features, tokens], so that every product has features on partitions and the next one needs no transpose:
weights are the stationary operand, up to 512 tokens the moving one. Weights stream through SBUF once for each 512 tokens. On two cores
each makes half of the inner features and its share of the sum over them; they then swap tiles of 128 outputs, so that each adds up half.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

CHUNK_B = 8192  # of each partition, in one load
MOST = 32  # tiles of 128 outputs that are summed together: at most, and half of PSUM


@nki.jit
def swiglu_mlp(xT, w_gate, w_up, w_down):
    """xT [H, T], w_gate, w_up [H, F], w_down [F, H] of one dtype -> yT [H, T]. H and F in multiples of 128, on two cores 256; any T."""
    H, T = xT.shape
    F = w_gate.shape[1]
    P = nl.tile_size.pmax
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    assert H % (cores * P) == F % (cores * P) == 0, f"H = {H}, F = {F}: whole tiles on each core"
    result = nl.ndarray((H, T), dtype=xT.dtype, buffer=nl.shared_hbm)
    inner = slice(me * F // cores, (me + 1) * F // cores)
    most = tokens_at_once(H, F // cores)
    for t0 in nl.affine_range(0, T, most):
        tokens = slice(t0, min(T, t0 + most))
        size = tokens.stop - t0
        x = nl.ndarray((P, H // P, size), dtype=xT.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=x, src=tiled(xT)[:, :, tokens])
        hidden = nl.ndarray((P, F // cores // P, size), dtype=xT.dtype, buffer=nl.sbuf)
        together = min(MOST, nl.tile_size.psum_num_banks * nl.tile_size.psum_fmax // 2 // size) * P
        for f in range(0, F // cores, together // 2):
            wide = min(together // 2, F // cores - f)
            columns = slice(inner.start + f, inner.start + f + wide)
            gates, ups = products([(tiled(w_gate), columns), (tiled(w_up), columns)], x)
            for i, (gate, up) in enumerate(zip(gates, ups, strict=True)):
                active = nl.ndarray(gate.shape, dtype=nl.float32, buffer=nl.sbuf)
                nisa.activation(dst=active, op=nl.silu, data=gate)
                nisa.tensor_tensor(dst=hidden[:, f // P + i, :], data1=active, data2=up, op=nl.multiply)
        down = tiled(w_down[inner, :])
        for h in range(0, H, together):
            wide = min(together, H - h)
            (sums,) = products([(down, slice(h, h + wide))], hidden)
            mine = tiled(result[h : h + wide, :])[:, me::cores, tokens]
            nisa.dma_copy(dst=mine, src=finished(sums, xT.dtype, cores, me))
    return result


def tokens_at_once(H, F):
    """Moving columns: 512, or fewer where activations of that many tokens would fill more than two thirds of SBUF."""
    each = 2 * (H + F) // nl.tile_size.pmax
    most = nl.tile_size.gemm_moving_fmax
    while most > nl.tile_size.pmax and most * each > 2 * nl.tile_size.sbuf_fmax_bytes // 3:
        most //= 2
    return most


def tiled(x):
    """[K, N] in HBM -> [128, K / 128, N]."""
    P = nl.tile_size.pmax
    return x.reshape((x.shape[0] // P, P, x.shape[1])).permute((1, 0, 2))


def products(weights, x):
    """For each (w [128, num_k, N] in HBM, columns): w[:, columns].T @ x in PSUM, as tiles [128, tokens]."""
    P, num_k, size = x.shape
    made = [
        [nl.ndarray((P, size), dtype=nl.float32, buffer=nl.psum) for _ in range((c.stop - c.start) // P)]
        for _, c in weights
    ]
    each = max(1, CHUNK_B // (2 * (weights[0][1].stop - weights[0][1].start)))
    for k0 in range(0, num_k, each):
        k1 = min(num_k, k0 + each)
        for (w, columns), sums in zip(weights, made, strict=True):
            chunk = nl.ndarray((P, k1 - k0, columns.stop - columns.start), dtype=w.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=chunk, src=w[:, k0:k1, columns])
            for k in range(k0, k1):
                for i, total in enumerate(sums):
                    nisa.nc_matmul(dst=total, stationary=chunk[:, k - k0, i * P : (i + 1) * P], moving=x[:, k, :])
    return made


def finished(sums, dtype, cores, me):
    """The outputs that this core stores, in SBUF: all tiles, or with the other core's part added, every other one."""
    P, size = sums[0].shape
    out = nl.ndarray((P, len(sums) // cores, size), dtype=dtype, buffer=nl.sbuf)
    if cores == 1:
        for i, total in enumerate(sums):
            if i % 2:
                nisa.tensor_copy(dst=out[:, i, :], src=total, engine=nisa.vector_engine)
            else:
                nisa.activation(dst=out[:, i, :], op=nl.copy, data=total)
        return out
    given, taken = (nl.ndarray(out.shape, dtype=dtype, buffer=nl.sbuf) for _ in range(2))
    for i, total in enumerate(sums[1 - me :: 2]):
        nisa.activation(dst=given[:, i, :], op=nl.copy, data=total)
    nisa.sendrecv(src=given, dst=taken, send_to_rank=1 - me, recv_from_rank=1 - me, pipe_id=0)
    for i, total in enumerate(sums[me::2]):
        nisa.tensor_tensor(dst=out[:, i, :], data1=total, data2=taken[:, i, :], op=nl.add)
    return out


def inputs(seed=0, T=100, H=512, F=768, dtype=nl.bfloat16):
    """Arguments for `swiglu_mlp`."""
    rng = np.random.default_rng(seed)
    shapes = {"xT": (H, T), "w_gate": (H, F), "w_up": (H, F), "w_down": (F, H)}
    return {n: (rng.standard_normal(s) / (1.0 if n == "xT" else s[0] ** 0.5)).astype(dtype) for n, s in shapes.items()}


def reference(xT, w_gate, w_up, w_down):
    """The same in NumPy."""
    x, gate, up, down = (a.astype(np.float32) for a in (xT, w_gate, w_up, w_down))
    g = gate.T @ x
    return (down.T @ (g / (1 + np.exp(-g)) * (up.T @ x))).astype(xT.dtype)


if __name__ == "__main__":
    given = inputs()
    got, want = (np.asarray(a, np.float32) for a in (swiglu_mlp(**given), reference(**given)))
    np.testing.assert_allclose(got, want, rtol=2e-2, atol=2e-2)
    print(f"swiglu_mlp {want.shape}: largest difference {np.abs(got - want).max():.3g}")
