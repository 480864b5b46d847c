"""The table of instructions: every row is whole and has its name in `nki`, and a new instruction needs nothing but itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mowich
import mowich.nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.errors import UserError
from mowich.neuroncore.clock.costs import costs
from mowich.neuroncore.instructions import TABLE, instruction
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.instructions.rates import QUEUES, Rates, elementwise
from mowich.neuroncore.trace import Kind
from mowich.neuroncore.views import Tile

ENGINES = {"tensor", "vector", "scalar", "gpsimd", "sync", "dma"}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_row_has_engines_an_effect_a_cost_and_a_public_name(name: str) -> None:
    row = TABLE[name]
    assert row.name == name
    assert row.engines
    assert set(row.engines) <= ENGINES
    assert set(row.engine_since) < set(row.engines)
    assert row.effect.__doc__
    assert hasattr(nisa, name) or name == "collective"


def _square_work(_: Rates, __: Kind, n: int) -> float:
    return 3 * n


def square(dst: Tile, src: Tile) -> None:
    """dst = src * src: no chip has it."""
    if issue("square", "", (("dst", dst),), (("src", src),)):
        dst.write(src.f32() * src.f32())


def test_an_instruction_enters_the_table_once() -> None:
    with pytest.raises(ValueError, match="memset is in the table already"):
        instruction("memset", engines=("vector",), cost=TABLE["memset"].cost)(square)


@pytest.fixture
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(TABLE)
    instruction(engines=("vector",), cost=elementwise(_square_work), since=3, dtypes={"src": ("float32",)})(square)
    made = TABLE.pop("square")
    assert before == TABLE
    monkeypatch.setitem(TABLE, "square", made)


def squared(x: Any) -> Any:
    out = nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.shared_hbm)
    tile = nl.load(x)
    square(tile, tile)
    nisa.dma_copy(dst=out, src=tile)
    return out


@pytest.mark.usefixtures("squares")
def test_a_new_instruction_is_its_cost_and_its_effect_in_one_file() -> None:
    x = np.arange(64 * 512, dtype=np.float32).reshape(64, 512)
    r: Any = mowich.run_kernel(squared, x, target="trn2")
    assert np.array_equal(r.outputs[0], x * x)
    schedule = r.profile.schedule
    program = schedule.programs[0]
    i = next(i for i in range(len(schedule.begin)) if schedule.cost_of(i).opcode == "square")
    c = costs(3)
    took = 3 * 512 / c.number("vector_engine.clock") + c.number("vector_engine.overhead") / c.number(
        "vector_engine.clock"
    )
    assert (schedule.end[i] - schedule.begin[i]) * 1e-12 == pytest.approx(took, rel=1e-6)
    assert QUEUES[program.costs[program.cost[i]].queue] == "vector"


@pytest.mark.usefixtures("squares")
@pytest.mark.parametrize(
    ("target", "dtype", "said"),
    [("trn1", np.float32, "square needs NeuronCore-v3"), ("trn2", np.float16, "square: src has a format that")],
)
def test_the_row_of_a_new_instruction_is_checked(target: str, dtype: type, said: str) -> None:
    with pytest.raises(mowich.nki.NkiValidationError, match=said):
        mowich.run_kernel(squared, np.ones((64, 512), dtype), target=target)


def test_a_cost_is_asked_for_an_engine_of_the_row_only() -> None:
    with pytest.raises(UserError, match="no cost for memset on the tensor engine"):
        costs(3).of(Kind("memset", "tensor", (), (), ()))
