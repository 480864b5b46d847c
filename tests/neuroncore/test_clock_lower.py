"""What the compiler does before the clock runs: which engine takes a copy that names none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import mowich
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.facts import Facts
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.schedule import schedule
from mowich.neuroncore.instructions.rates import SCALAR, VECTOR
from mowich.nki import hollow

X = hollow((128, 512), "float32")


def tile(space: Any = nl.sbuf, columns: int = 512) -> Any:
    return nl.ndarray((128, columns), dtype=nl.float32, buffer=space)


def copies(kernel: Any, target: str) -> Counter[int]:
    """Queues of the copies."""
    r = mowich.run_kernel(kernel, X, target=target, values=False, strict=False)
    assert not isinstance(r, list)
    return Counter(k.queue for k in r.profile.cost if k.opcode == "tensor_copy")


def vector_binds(x: Any) -> None:
    """Four sums and sixteen copies of 512 columns: the Vector Engine has all the work."""
    a, b = tile(), tile()
    for _ in range(4):
        nisa.tensor_tensor(dst=a, data1=a, data2=b, op=nl.add)
    for _ in range(16):
        nisa.tensor_copy(dst=tile(), src=b)


def tensor_binds(x: Any) -> None:
    """Sixteen products of 512 fp32 columns (1.7 us each) and their copies (0.6 us each)."""
    a = tile()
    for _ in range(16):
        p = tile(nl.psum)
        nisa.nc_matmul(dst=p, stationary=a[:, 0:128], moving=a)
        nisa.tensor_copy(dst=tile(), src=p)


@pytest.mark.parametrize(("target", "by_scalar"), [("trn1", 13), ("trn2", 11)])
def test_a_free_copy_goes_to_the_scalar_engine_where_the_vector_engine_has_most_work(
    target: str, by_scalar: int
) -> None:
    """Shared so that both end together. trn2: 4 sums and 5 copies of 572 cycles at 0.96 GHz are 5.4 us, 11 copies at
    1.2 GHz 5.2 us. trn1: 4 sums of 1,084 cycles and 3 copies of 572 at 1.12 GHz 5.4 us, 13 copies at 1.4 GHz 5.3 us."""
    assert copies(vector_binds, target) == {VECTOR: 16 - by_scalar, SCALAR: by_scalar}


def test_many_dmas_do_not_keep_copies_on_the_vector_engine() -> None:
    """GpSimd writes 40 descriptors for 53 us, longer than the Vector Engine works; profiles show shared copies all the
    same."""

    def kernel(x: Any) -> None:
        vector_binds(x)
        for _ in range(40):
            nisa.dma_copy(dst=tile(columns=16), src=x[:, 0:16], dge_mode=nisa.dge_mode.swdge)

    assert copies(kernel, "trn2") == copies(vector_binds, "trn2")


def copies_of(columns: int) -> Callable[[Any], None]:
    """A kernel of sixteen copies of some columns, beside one sum."""

    def kernel(x: Any) -> None:
        a, b = tile(), tile(columns=columns)
        nisa.tensor_tensor(dst=a, data1=a, data2=a, op=nl.add)
        for _ in range(16):
            nisa.tensor_copy(dst=tile(columns=columns), src=b)

    return kernel


@pytest.mark.parametrize("target", ["trn1", "trn2"])
@pytest.mark.parametrize("columns", [1, 128, 512])
def test_copies_of_any_length_are_shared(columns: int, target: str) -> None:
    assert 0 < copies(copies_of(columns), target)[VECTOR] < 16


@pytest.mark.parametrize(("columns", "is_shared"), [(255, False), (256, True)])
def test_copies_are_shared_from_a_length_on(columns: int, is_shared: bool, facts: Facts) -> None:
    """`model.shares_from`: shorter ones stay on the Vector Engine."""
    traced = mowich.run_kernel(copies_of(columns), X, target="trn2", values=False, strict=False)
    assert not isinstance(traced, list)
    found = Costs(3, facts.with_values({"neuroncore.timing-v3.model.shares_from": 256.0}))
    [core] = traced.cores
    assert core.trace is not None
    made = schedule([core.trace], found)
    queues = {c.queue for i in range(len(made.begin)) if (c := made.cost_of(i)).opcode == "tensor_copy"}
    assert (SCALAR in queues) == is_shared


def test_copies_stay_where_the_tensor_engine_binds_and_on_trn3() -> None:
    assert copies(tensor_binds, "trn2") == {VECTOR: 16}
    assert copies(vector_binds, "trn3") == {VECTOR: 16}


@pytest.mark.parametrize(
    ("order", "trn1", "trn2"),
    [
        ("channels outside", 2, 2),  # the product of a channel does not change in the inner loop
        ("channels inside", 2, 8),  # it comes again after the other channel's
        ("another statement", 2, 2),
    ],
)
def test_a_product_is_moved_out_of_the_loop_that_does_not_change_it(order: str, trn1: int, trn2: int) -> None:
    """The product of two loaded tiles of a channel, asked for in each of four steps. How many the chip computes."""

    def kernel(x: Any) -> None:
        loaded = [(tile(), tile()) for _ in range(2)]
        for a, b in loaded:
            nisa.dma_copy(dst=a, src=x)
            nisa.dma_copy(dst=b, src=x)

        def use(channel: int) -> None:
            made, (a, b) = tile(), loaded[channel]
            nisa.tensor_tensor(dst=made, data1=a, data2=b, op=nl.multiply)
            nisa.activation(dst=tile(), data=made, op=nl.copy)

        if order == "channels outside":
            for channel in range(2):
                for _ in range(4):
                    use(channel)
        elif order == "channels inside":
            for _ in range(4):
                for channel in range(2):
                    use(channel)
        else:
            for channel in range(2):
                use(channel)
                made, (a, b) = tile(), loaded[channel]
                nisa.tensor_tensor(dst=made, data1=a, data2=b, op=nl.multiply)
                nisa.activation(dst=tile(), data=made, op=nl.copy)

    for target, count in (("trn1", trn1), ("trn2", trn2)):
        r = mowich.run_kernel(kernel, X, target=target, values=False, strict=False)
        assert not isinstance(r, list)
        assert sum(k.opcode == "tensor_tensor" for k in r.profile.cost) == count
