"""The table of instructions: every row is whole and has its name in `nki`, and a new instruction needs nothing but
itself."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
from typing import Any

import numpy as np
import pytest

import mowich
import mowich.nki
import mowich.nki.beta1.isa as older
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.errors import UserError
from mowich.neuroncore import ops
from mowich.neuroncore.access import tile_f32, write_tile
from mowich.neuroncore.clock.costs import costs
from mowich.neuroncore.instructions import TABLE, instruction
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.instructions.rates import QUEUES, InstructionRates, elementwise
from mowich.neuroncore.trace import Kind
from mowich.neuroncore.views import Tile
from mowich.nki import faces

ENGINES = {"tensor", "vector", "scalar", "gpsimd", "sync", "dma"}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_row_has_engines_an_effect_a_cost_and_a_public_name(name: str) -> None:
    row = TABLE[name]
    assert row.name == name
    assert row.engines
    assert set(row.engines) <= ENGINES
    assert set(row.engine_since) < set(row.engines)
    assert callable(row.cost)
    assert row.effect.__doc__
    assert hasattr(nisa, name) or name in ("collective", "loop_turn")  # of nki.collectives and nl.fori_loop


@pytest.mark.parametrize("name", sorted(n for n, row in TABLE.items() if row.face))
def test_a_face_takes_what_its_effect_takes_and_hands_it_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row, got = TABLE[name], {}
    effect = inspect.signature(row.effect).parameters
    own = [n for n, p in effect.items() if p.kind is not p.KEYWORD_ONLY]

    def seen(*args: object) -> None:
        got.update(zip(own, args, strict=True))

    monkeypatch.setattr(seen, "__signature__", inspect.signature(row.effect), raising=False)
    monkeypatch.setattr(nisa, "_done", lambda: None)
    monkeypatch.setitem(TABLE, name, dataclasses.replace(row, effect=seen))
    monkeypatch.setattr(nisa, name, getattr(nisa, name))
    face = nisa._made(name)
    face.__dict__.pop("__signature__", None)  # which leaves out what older kernels pass
    parameters = inspect.signature(face).parameters
    assert set(own) <= set(parameters)
    assert "name" in parameters
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters.values())
    needed = {n: object() for n in own if parameters[n].default is inspect.Parameter.empty}
    face(**needed)
    for n, value in needed.items():
        assert got[n] is value
    for n in set(own) - set(needed):
        meant = effect[n].default
        assert got[n] == meant or meant is inspect.Parameter.empty or ops.alu(got[n]) is ops.alu(meant), n
    for n, p in parameters.items():
        if n in nisa.VOCABULARIES:
            for member in nisa.VOCABULARIES[n].kind:
                face(**needed, **{n: member})
                assert got[n] == nisa.VOCABULARIES[n].word(member)
        elif n in own and p.default is not inspect.Parameter.empty:
            value = object()
            face(**needed, **{n: value})
            assert got[n] is value


@pytest.mark.parametrize("name", sorted(n for n in TABLE if hasattr(older, n)))
def test_the_older_interface_knows_no_argument_that_the_instruction_does_not(name: str) -> None:
    spelled = {"expr", "pred", "shape", "kwargs"}  # index expressions and shapes stand for a pattern and for dst
    taken = {n for n, p in inspect.signature(getattr(older, name)).parameters.items() if p.kind is not p.VAR_KEYWORD}
    assert taken - {"mask", "dtype"} - spelled <= set(faces.taken(getattr(nisa, name)))


def test_a_face_shows_its_signature_and_explains_a_wrong_argument() -> None:
    text = pydoc.plain(pydoc.render_doc(nisa.tensor_tensor))
    assert "tensor_tensor(dst: 'Tile', data1: 'Tile', data2: 'Tile'" in text
    assert str(TABLE["tensor_tensor"].effect.__doc__) in text
    with pytest.raises(TypeError, match=r"has no argument 'opp'.*did you mean 'op'"):
        mowich.run_kernel(misspelled, np.ones((4, 8), np.float32), target="trn2")


def misspelled(x: Any) -> None:
    nisa.tensor_tensor(x, x, x, opp=nl.add)


def _square_work(_: InstructionRates, __: Kind, n: int) -> float:
    return 3 * n


def square(dst: Tile, src: Tile) -> None:
    """dst = src * src: no chip has it."""
    if issue("square", "", (("dst", dst),), (("src", src),)):
        write_tile(dst, tile_f32(src) * tile_f32(src))


def test_an_instruction_enters_the_table_once() -> None:
    with pytest.raises(ValueError, match="memset is in the table already"):
        instruction("memset", engines=("vector",), cost=TABLE["memset"].cost)(square)


@pytest.fixture
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(TABLE)
    instruction(engines=("vector",), cost=elementwise(_square_work), since=3, dtypes={"src": ("float32",)})(square)
    made = TABLE.pop("square")
    assert before == TABLE
    assert not hasattr(nisa, "square")
    monkeypatch.setattr(nisa, "square", None, raising=False)  # made at the first look: taken away after the test
    monkeypatch.delattr(nisa, "square")
    monkeypatch.setitem(TABLE, "square", made)


def squared(x: Any) -> Any:
    out = nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.shared_hbm)
    tile = nl.load(x)
    nisa.square(tile, src=tile, name="squared")
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


def test_a_new_instruction_leaves_nothing_behind() -> None:
    assert not hasattr(nisa, "square")
