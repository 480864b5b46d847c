"""The compiled simulation of traffic against the Python code, bit for bit: drawn fleets and loads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import compiled_code
import drawn_traffic
from mowich.errors import UserError
from mowich.serving.arrivals import draw_columns, lengths
from mowich.serving.traffic import compiled
from mowich.serving.traffic.compiled import TRAFFIC_LIBRARY, AnswerColumns, FleetSetup, ReplicaGroup, TrafficStruct
from mowich.serving.traffic.play import play_fleet
from mowich.serving.traffic.policies import Scheduler
from mowich.serving.traffic.replica import CacheTooSmallError

needs_compiled = pytest.mark.skipif(not compiled_code.available(TRAFFIC_LIBRARY), reason="no C compiler")
QUICK = 60


def played(seed: int, code: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[object], np.ndarray]:
    """(all that a drawn fleet shows, played by one of the codes; of all answered requests: how many, tokens from the
    cache, preemptions, failures)."""
    monkeypatch.setenv(TRAFFIC_LIBRARY.variable, code)
    d = drawn_traffic.Draw(seed)
    setup, load, cutoff = drawn_traffic.drawn_setup(d), drawn_traffic.drawn_requests(d), drawn_traffic.drawn_cutoff(d)
    shown: list[object] = []
    count = np.zeros(4, np.int64)

    def tell(answers: AnswerColumns, id_of: Callable[[int], str]) -> None:
        shown.extend((id_of(row[0]), *row[1:]) for row in answers.tolist())
        count[:] += [len(answers), *(answers[name].sum() for name in ("cached", "preemptions", "failures"))]

    cutoff = copy(cutoff)
    try:
        fleet = play_fleet(setup, load(), tell, cutoff)
    except CacheTooSmallError as error:
        return [*shown, str(error)], count
    everyone = [*fleet.replicas, *fleet.decoders]
    shown += [(r.busy_s, r.steps, r.events) for r in everyone]
    shown += [fleet.taken, fleet.first_s, cutoff and (cutoff.late, cutoff.slow)]
    if fleet.scaled is not None:
        shown += [fleet.scaled.orders, fleet.scaled.paid_until(100.0), fleet.scaled.looks]
    return shown, count


def assert_equal(seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both codes show the same, to the last bit (no value is compared with a margin)."""
    counts = np.zeros(4, np.int64)
    for seed in seeds:
        (python, n), (found, _) = (played(seed, code, monkeypatch) for code in ("python", "compiled"))
        assert found == python, seed
        counts += n
    assert (counts > np.array([20, 100, 5, 1]) * len(seeds)).all(), counts


@needs_compiled
def test_drawn_fleets_show_the_same_as_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_equal(range(QUICK), monkeypatch)


@needs_compiled
@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_500_drawn_fleets_show_the_same_as_in_python(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_equal(range(QUICK + 50 * block, QUICK + 50 * (block + 1)), monkeypatch)


@needs_compiled
def test_figures_are_counted_in_the_same_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).lognormal(0.0, 5.0, 5000)
    bins = []
    for code in ("python", "compiled"):
        monkeypatch.setenv(TRAFFIC_LIBRARY.variable, code)
        bins.append(compiled.counted_in_bins(np.zeros(0, np.int64), values, 1e-7, 0.0025))
    assert np.array_equal(*bins)
    assert bins[0].sum() == len(values)


@pytest.mark.parametrize("struct", TrafficStruct.__subclasses__(), ids=lambda struct: struct.__name__)
def test_structs_are_those_of_the_c_code(struct: type[TrafficStruct]) -> None:
    kinds = {ctypes.c_double: ("double",), ctypes.c_int64: ("int64_t", "*")}
    found = compiled_code.fields_in_c(TRAFFIC_LIBRARY, struct.__name__)
    assert [name for name, _ in struct._fields_] == [name for name, _ in found]
    for (name, kind), (_, in_c) in zip(struct._fields_, found, strict=True):
        assert in_c in kinds.get(kind, (kind.__name__.split(":")[-1],)), name


@pytest.mark.parametrize(("rows", "name"), [(compiled.ANSWER, "Answer"), (compiled.TOLD, "Told")])
def test_rows_are_those_of_the_c_code(rows: np.dtype[np.void], name: str) -> None:
    kinds = {"double": np.float64, "int64_t": np.int64}
    found = compiled_code.fields_in_c(TRAFFIC_LIBRARY, f"traffic.h:{name}")
    assert [(n, rows[n].type) for n in rows.names or ()] == [(n, kinds[kind]) for n, kind in found]


@needs_compiled
def test_functions_take_as_many_arguments_as_in_c() -> None:
    results = {"int": ctypes.c_int, "int64_t": ctypes.c_int64, "void": None, "Fleet*": ctypes.c_void_p}
    library = TRAFFIC_LIBRARY.loaded()[0]
    for name, (arguments, result) in compiled_code.functions_in_c(TRAFFIC_LIBRARY).items():
        if name != "sources":
            function = getattr(library, f"traffic_{name}")
            assert (len(function.argtypes), function.restype) == (arguments, results[result]), name


def test_blocks_keep_their_names_whatever_these_are() -> None:
    names = compiled.BlockNames()
    assert names.of([3, 1, -2]).tolist() == [3, 1, -2]
    odd = names.of([2**70, "a", 3.0, 2.5, True, "a", 2**70]).tolist()
    assert odd[1:5] == [odd[5], 3, odd[3], 1]
    assert odd[0] == odd[6]
    assert len({odd[0], odd[1], odd[3]}) == 3
    assert min(odd[0], odd[1], odd[3]) >= compiled.OWN_NAMES


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOWICH_TRAFFIC", "python")
    assert TRAFFIC_LIBRARY.library() is None
    monkeypatch.setenv("MOWICH_TRAFFIC", "rust")
    with pytest.raises(UserError, match="MOWICH_TRAFFIC=rust"):
        TRAFFIC_LIBRARY.library()


def test_python_says_once_that_a_long_traffic_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MOWICH_TRAFFIC", raising=False)
    monkeypatch.setattr(TRAFFIC_LIBRARY, "path", tmp_path / "none.so")
    monkeypatch.setattr(TRAFFIC_LIBRARY, "_said", set())
    monkeypatch.setattr(TRAFFIC_LIBRARY, "worth_saying", 50)
    d = drawn_traffic.Draw(0)
    scheduler = Scheduler(max_sequences=3)
    workers = ReplicaGroup(count=1, times=drawn_traffic.drawn_times(d, scheduler), scheduler=scheduler, seen=None)
    for requests, note in ((49, ""), (50, NOTE), (50, "")):
        load = draw_columns(rate=10.0, requests=requests, prompt=lengths(1, ""), output=lengths(1, ""))
        play_fleet(FleetSetup(serve=workers), load, lambda answers, id_of: None)
        assert capsys.readouterr() == ("", note)


NOTE = (
    "note: the simulation of traffic runs in Python, slowly: Mowich was installed without a C compiler, or not"
    " installed\n"
)


def test_what_is_not_compiled_is_played_by_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeline holds every step."""
    monkeypatch.setenv("MOWICH_TRAFFIC", "compiled" if compiled_code.available(TRAFFIC_LIBRARY) else "")
    setup = drawn_traffic.drawn_setup(drawn_traffic.Draw(0))
    assert compiled.why_not_compiled(setup) == ""
    assert compiled.why_not_compiled(replace(setup, is_traced=True)) == "a timeline of every step"
    assert compiled.compiled_library(replace(setup, is_traced=True)) is None
