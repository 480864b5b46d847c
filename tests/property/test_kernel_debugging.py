"""The debugger on random kernels: a stop shows what a kernel cut off there computes, a watched tile goes through the
values that stops show, and of two kernels that differ in one line this line is found."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import drawn_kernels


def numbers(values: object) -> Any:
    return np.array(values, np.float32)


def of_stop(kernel: Any, given: dict[str, Any], place: str, names: list[str]) -> tuple[Any, list[Any]]:
    found = mowich.debug_kernel(kernel, stop=place, tiles=names, **given)
    return found, [numbers(p.values) for p in found.prints]


@pytest.mark.parametrize("seed", range(4))
def test_a_stop_shows_what_a_kernel_that_is_cut_off_there_computes(seed: int, tmp_path: Path) -> None:
    drawn, given = drawn_kernels.drawn_kernel(seed, in_place=True), drawn_kernels.arrays(seed)
    text, lines = drawn.text()
    kernel = drawn_kernels.loaded_kernel(tmp_path, "whole", text)
    ran = drawn.executed()
    turns: dict[int, int] = {}
    for k, i in enumerate(ran):
        turns[i] = turns.get(i, 0) + 1
        names = drawn.names(ran[:k])
        found, shown = of_stop(kernel, given, f"whole.py:{lines[i]}:{turns[i]}", names)
        assert (found.stop.issued.line, found.stop.issued.number) == (lines[i], k + 1)
        assert {n for t in found.stop.tiles for n in t.names} >= set(names)
        if not names:
            continue
        cut = drawn_kernels.loaded_kernel(tmp_path, f"cut_{k}", drawn.cut(ran[:k]))
        wanted = mowich.run_kernel(cut, **given, timed=False).outputs[0]  # type: ignore[union-attr]
        summaries = {t.names[0]: t.summary for t in found.stop.tiles}
        for name, array, want in zip(names, shown, wanted, strict=True):
            if drawn.steps[i].is_new and name == drawn.steps[i].target:  # a turn of the loop made it anew
                assert np.isnan(array).all()
                assert summaries[name].written == 0
                continue
            np.testing.assert_array_equal(array, want)
            assert (summaries[name].low, summaries[name].high) == (want.min(), want.max())
        for e in found.engines:
            assert e.done + e.running + e.waiting == e.issued
        assert sum(e.issued for e in found.engines) >= k


@pytest.mark.parametrize("seed", range(4))
def test_a_watched_tile_goes_through_the_values_that_stops_show(seed: int, tmp_path: Path) -> None:
    drawn, given = drawn_kernels.drawn_kernel(seed, in_place=True), drawn_kernels.arrays(seed)
    text, lines = drawn.text()
    kernel = drawn_kernels.loaded_kernel(tmp_path, "whole", text)
    ran = drawn.executed()
    name = drawn.steps[ran[-1]].target
    writes = [k for k, i in enumerate(ran) if drawn.steps[i].target == name]
    found = mowich.debug_kernel(kernel, watch=name, tiles=[name], **given)
    assert [(c.instruction, c.line) for c in found.changes] == [(k + 1, lines[ran[k]]) for k in writes]
    for c, k in zip(found.changes, writes, strict=True):
        cut = drawn_kernels.loaded_kernel(tmp_path, f"cut_{k}", drawn.cut(ran[: k + 1]))
        outputs = mowich.run_kernel(cut, **given, timed=False).outputs[0]  # type: ignore[union-attr]
        array = outputs[drawn.names(ran[: k + 1]).index(name)]
        assert (c.summary.low, c.summary.high) == (array.min(), array.max())
    assert found.changes[-1].summary == found.prints[0].summary


@pytest.mark.parametrize("seed", range(6))
def test_the_line_in_which_two_kernels_differ_is_found(seed: int, tmp_path: Path) -> None:
    drawn, given = drawn_kernels.drawn_kernel(seed, in_place=True), drawn_kernels.arrays(seed)
    right = drawn_kernels.loaded_kernel(tmp_path, "right", drawn.text()[0])
    assert mowich.debug_kernel(right, first_difference=right, tolerance=0, **given).comparison.difference is None
    for planted in range(len(drawn.steps)):
        text, lines = drawn.text(planted)
        wrong = drawn_kernels.loaded_kernel(tmp_path, f"wrong_{planted}", text)
        found = mowich.debug_kernel(wrong, first_difference=right, tolerance=0, **given).comparison.difference
        assert found is not None
        assert (found.line, found.turn, found.statement) == (lines[planted], 1, drawn.steps[planted].changed)
        assert found.tile == drawn.steps[planted].target


@pytest.mark.parametrize("seed", range(6))
def test_the_line_that_leaves_a_function_is_found(seed: int, tmp_path: Path) -> None:
    drawn, given = drawn_kernels.drawn_kernel(seed, in_place=False), drawn_kernels.arrays(seed)
    text, lines = drawn.text()
    right = drawn_kernels.loaded_kernel(tmp_path, "right", text)
    reference = function_of(tmp_path / "right.py", "reference")
    same = mowich.debug_kernel(right, first_difference=reference, **given).comparison
    assert same.difference is None
    assert {c.name for c in same.compared} == {*drawn.names(drawn.executed()), "output 0"}
    for planted in range(len(drawn.steps)):
        wrong = drawn_kernels.loaded_kernel(tmp_path, f"wrong_{planted}", drawn.text(planted)[0])
        found = mowich.debug_kernel(wrong, first_difference=reference, **given).comparison.difference
        assert found is not None
        assert (found.line, found.turn, found.tile) == (lines[planted], 1, drawn.steps[planted].target)
        assert found.statement == drawn.steps[planted].changed
        name, index = found.tile, tuple(found.index)
        stopped = mowich.debug_kernel(wrong, tiles=[name], **given).prints[0]
        if not drawn.steps[planted].in_loop or drawn.turns == 1:
            assert numbers(stopped.values)[index] == np.float32(found.got)


def function_of(file: Path, name: str) -> Any:
    """A function of a file with kernels."""
    with mowich.nki.installed(replace=True):
        spec = importlib.util.spec_from_file_location(f"{file.stem}_functions", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return getattr(module, name)
