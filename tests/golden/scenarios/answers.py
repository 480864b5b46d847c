"""Kernels of whose answers a run has something to say."""

import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def copied(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=x)
    return out


@nki.jit
def forgotten(x):
    """A sum without reduce_cmd: nothing reaches its registers."""
    t, total = nl.load(x), nl.ndarray((128, 1), nl.float32, nl.sbuf)
    nisa.activation(dst=t, op=nl.exp, data=t, reduce_op=nl.add, reduce_res=total)
    out = nl.ndarray((128, 1), dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=nl.log(total))
    return out


@nki.jit
def halves(x):
    i, n = nl.program_id(0), x.shape[0] // 2
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out[i * n : i * n + n], src=x[i * n : i * n + n])
    return out


def wrapper(x):
    """Launches a grid."""
    return halves[2](x)


@nki.jit
def on_the_host(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    out.write(x.numpy() + 1)
    return out


@nki.jit
def never_written(x):
    nl.load(x)
    return nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)


@nki.jit
def nothing(x):
    pass


def reference(x):
    return x + 0.5


def reference_wrapper(x):
    return x
