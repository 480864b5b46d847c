"""Kernels of NKI 0.7: a loop on the device, tiles of a grid, the largest elements."""

import nki
import nki.isa as nisa
import nki.language as nl

ROW = [[512, 128], [1, 512]]


@nki.jit
def add_rows(x):
    out = nl.ndarray((128, 512), dtype=x.dtype, buffer=nl.shared_hbm)
    acc = nl.zeros((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    last = nl.full((1, 1), x.shape[0] - 1, dtype=nl.int32, buffer=nl.sbuf)

    def body(i):
        row = nl.ndarray((128, 512), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=row, src=x.ap(pattern=ROW, scalar_offset=i, indirect_dim=0))
        nisa.tensor_tensor(dst=acc, data1=acc, data2=row, op=nl.add)

    nl.fori_loop(0, nisa.scalar_load(last) + 1, body)
    nisa.dma_copy(dst=out, src=acc)
    return out


@nki.jit
def scale(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    src, dst = nl.tiles(x, tile_shape=(128, 256)), nl.tiles(out, tile_shape=(128, 256))
    buf = nl.alloc_tiles(tile_shape=(128, 256), element_shape=x.shape, buffer=nl.sbuf, dtype=x.dtype)
    for i in range(src.shape[0]):
        for j in range(src.shape[1]):
            nisa.dma_copy(dst=buf[i, j].data, src=src[i, j].data)
            nisa.tensor_scalar(dst=buf[i, j].data, data=buf[i, j].data, op0=nl.multiply, operand0=2.0)
            nisa.dma_copy(dst=dst[i, j].data, src=buf[i, j].data)
    return out


@nki.jit
def largest(x):
    values = nl.zeros((128, 16), dtype=nl.bfloat16, buffer=nl.sbuf)
    places = nl.zeros((128, 16), dtype=nl.uint32, buffer=nl.sbuf)
    nisa.topk(values, places, nl.load(x), 1000, sorted=True)
    outs = [nl.ndarray(t.shape, dtype=t.dtype, buffer=nl.shared_hbm) for t in (values, places)]
    for out, tile in zip(outs, (values, places), strict=True):
        nisa.dma_copy(dst=out, src=tile)
    return tuple(outs)
