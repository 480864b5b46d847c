"""Measured forward passes of whole models: what a row is read as, what is refused, and how passes are scored."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.cli import run
from mowich.errors import UserError, UserErrors
from mowich.evidence.forward_rows import PassCase, read_passes
from mowich.evidence.measured_tables import named_rows, read_csv, table_form
from mowich.evidence.scores import PASS_METRIC, summarise
from mowich.facts import Facts
from mowich.show.page import Run
from mowich.show.validate import validate_page
from mowich.studies.explain.validate import validated
from mowich.studies.forward_evidence import ask_of_pass, score_passes
from mowich.studies.validate import validate

Row = Mapping[str, str]

IMAGE: Row = {
    "what": "DiT forward, one denoising step",
    "model": "FLUX.1-dev",
    "shape": "1024x1024",
    "chip": "trn3",
    "value": "250",
    "unit": "ms",
    "source": "own run; TP4 = one chip",
}


def read(facts: Facts, **cells: str) -> PassCase | str:
    return read_passes(named_rows([{**IMAGE, **cells}]), facts)[0]


def case(facts: Facts, **cells: str) -> PassCase:
    found = read(facts, **cells)
    assert isinstance(found, PassCase), found
    return found


@given(
    height=st.integers(1, 4096),
    width=st.integers(1, 4096),
    frames=st.one_of(st.none(), st.integers(1, 300)),
    cross=st.sampled_from("x×"),
    unit=st.sampled_from(["us", "ms", "s"]),
    value=st.floats(1e-3, 1e6),
)
def test_a_row_is_read_as_it_is_written(
    facts: Facts, height: int, width: int, frames: int | None, cross: str, unit: str, value: float
) -> None:
    shape = cross.join(str(n) for n in (height, width, frames) if n is not None)
    found = case(facts, shape=shape, unit=unit, value=repr(value))
    assert (found.height, found.width, found.frames, found.tokens) == (height, width, frames or 0, 0)
    assert found.measured_s == pytest.approx(value * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[unit])
    assert (found.plan.tp, found.plan.lnc) == (4, 2)
    assert not any(word.startswith("shape") for word in found.inferred)


def test_tokens_may_be_stated_instead_of_a_size(facts: Facts) -> None:
    found = case(facts, shape="4096 tokens")
    assert (found.tokens, found.height) == (4096, 0)
    assert ask_of_pass(found, facts).job.tokens == ask_of_pass(case(facts), facts).job.tokens


@pytest.mark.parametrize(
    ("model", "size"),
    [("FLUX.1-dev", (1024, 1024, 0)), ("Qwen-Image", (1024, 1024, 0)), ("Wan 2.1 14B", (480, 832, 9))],
)
def test_a_size_that_is_not_stated_is_said_to_be_inferred(facts: Facts, model: str, size: tuple[int, ...]) -> None:
    found = case(facts, model=model, shape="")
    assert (found.height, found.width, found.frames) == size
    assert "not stated" in next(word for word in found.inferred if word.startswith("shape="))


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"model": "", "what": "GEMM 16384^3 bf16"}, "no pass of a model"),
        ({"what": "all-reduce of 1 GB"}, "no pass of a model"),
        ({"model": "no-such-model-9b"}, "unknown model"),
        ({"chip": "h900"}, "unknown system"),
        ({"shape": "16384^3"}, "shape: '16384^3'; allowed: HEIGHTxWIDTH"),
        ({"shape": "", "model": "llama-3.1-8b"}, "shape: not stated"),
        ({"unit": "images/s"}, "unit: 'images/s'; allowed: us, ms, s"),
        ({"value": "0"}, "no time"),
        ({"precision": "int3"}, "precision: 'int3'; allowed: bf16, fp8"),
        ({"tp": "8"}, "up to 4, the devices of 1 trn3"),
        ({"branches": "1.5"}, "branches: '1.5'"),
    ],
)
def test_what_is_no_pass_is_refused_with_its_reason(facts: Facts, cells: dict[str, str], reason: str) -> None:
    found = read(facts, **cells)
    assert isinstance(found, str)
    assert reason in found


def test_a_size_that_the_model_cannot_make_is_refused(facts: Facts) -> None:
    (found,) = score_passes(named_rows([{**IMAGE, "shape": "1000x1024"}]), facts)
    assert found.status == "unsupported"
    assert "nearest: 992 or 1008" in str(found.reason)


def test_a_figure_of_another_model_is_refused_as_a_copy(facts: Facts) -> None:
    rows = [{**IMAGE, "model": name, "shape": ""} for name in ("Wan 2.1 14B", "Wan 2.2 A14B", "Wan 2.1 14B")]
    found = read_passes(named_rows(rows), facts)
    assert [isinstance(one, PassCase) for one in found] == [True, False, True]
    assert "is that of Wan 2.1 14B on this chip" in str(found[1])


@settings(max_examples=10)
@given(factor=st.floats(0.01, 100.0))
def test_an_error_follows_what_was_measured_alone(facts: Facts, factor: float) -> None:
    one, other = score_passes(named_rows([IMAGE, {**IMAGE, "value": repr(250 * factor)}]), facts)
    assert one.predicted == other.predicted
    assert one.ratio is not None
    assert other.ratio is not None
    assert other.ratio == pytest.approx(one.ratio / factor)
    assert other.abs_error == pytest.approx(max(other.ratio, 1 / other.ratio) - 1)
    assert other.is_covered is (one.low <= 250 * factor <= one.high)


def test_more_of_a_step_is_predicted_to_take_longer(facts: Facts) -> None:
    rows = [{**IMAGE, **more} for more in ({}, {"branches": "2"}, {"batch": "2"}, {"shape": "2048x1024"})]
    one, *more = [row.predicted for row in score_passes(named_rows(rows), facts)]
    assert one is not None
    assert all(found > 1.2 * one for found in more if found is not None)
    assert None not in more


def table(path: Path, rows: list[Row]) -> Path:
    file = path / "passes.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_a_table_is_scored_by_chip_and_by_model(
    tmp_path: Path, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**IMAGE, "chip": chip, "value": "200"} for chip in ("trn2", "trn3", "h100-pcie")]
    file = table(tmp_path, [*rows, {**IMAGE, "model": "", "what": "GEMM"}])
    assert run(["validate", str(file), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {row["metric"] for row in result["rows"]} == {PASS_METRIC}
    assert [row["status"] for row in result["rows"]] == ["ok", "ok", "ok", "unsupported"]
    assert set(result["summary"]["by_chip"]) == {"trn2", "trn3", "h100-pcie"}
    assert {name: part["n"] for name, part in result["summary"]["by_model"].items()} == {"FLUX.1-dev": 3, "none": 0}
    page = validate_page(result, Run())
    assert "By model" in [part.title for part in page.parts if hasattr(part, "title")]
    row, cells = result["rows"][0], named_rows(rows)[0]
    source = validated(("rows", 0), row, cells, facts)
    assert source.numbers(facts, ("predicted",))[("predicted",)] == row["predicted"]


@pytest.mark.parametrize(
    ("cells", "words"),
    [({"value": "many"}, "not a number"), ({"unit": ""}, "must not be blank"), ({"n_chips": "-1"}, "n_chips")],
)
def test_a_cell_that_cannot_be_read_is_named(tmp_path: Path, facts: Facts, cells: dict[str, str], words: str) -> None:
    file = table(tmp_path, [{**IMAGE, "n_chips": "1", **cells}])
    with pytest.raises((UserError, UserErrors)) as error:
        read_csv(file, facts)
    assert words in str(error.value)
    assert "passes.csv:2" in str(error.value)


def test_rows_without_ids_get_one_each(tmp_path: Path, facts: Facts) -> None:
    rows = read_csv(table(tmp_path, [IMAGE, IMAGE]), facts)
    assert [row["id"] for row in rows] == ["FLUX.1-dev 1024x1024 trn3", "FLUX.1-dev 1024x1024 trn3 #2"]
    assert set(table_form("passes").required) <= set(rows[0])


def test_the_measured_steps_are_met(shared: Path, facts: Facts) -> None:
    """Nothing is fitted to these rows. Trainium within 12%, GPUs within 25% in the median."""
    found = validate(shared / "truth" / "trainium_other.csv", facts)
    for chips, most in ((("trn2",), 0.12), (("trn3",), 0.12), (("h100-pcie", "b300"), 0.25)):
        of_chips = summarise([row for row in found.rows if row.chip in chips])
        assert of_chips.median_abs_error is not None
        assert of_chips.median_abs_error < most, chips
    scored = [row for row in found.rows if row.status == "ok"]
    assert len(scored) == 22
    assert summarise(scored).interval_coverage > 0.8
