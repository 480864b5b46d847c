"""`evidence.measured_tables`: one list of columns reads every kind of table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from mowich import evidence
from mowich.errors import UserError, UserErrors
from mowich.evidence.measured_tables import TABLES, TableKind, published, read_csv, shipped_rows, table_form, table_kind
from mowich.evidence.ownership_rows import PUBLISHED_COSTS
from mowich.evidence.readers.tables import OUR_TABLES
from mowich.facts import Facts
from mowich.models.columns import COLUMNS

KINDS: tuple[TableKind, ...] = get_args(TableKind)
READ: tuple[TableKind, ...] = tuple(kind for kind in KINDS if kind not in ("collective", "ownership"))
"""Kinds that `validate` reads."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_says_what_it_fills_and_numbers_say_their_unit(kind: TableKind) -> None:
    form = table_form(kind)
    names = {column.name for column in form.columns}
    assert all(column.fills for column in form.columns)
    ratios = {"value", "pue"}  # of the unit that the row says, and of none
    assert {c.name for c in form.columns if c.holds != "text" and not c.unit} <= ratios
    assert form.told_by | form.told_by_any <= names
    assert {name for column in form.columns for name in column.needed_with} <= names
    assert set(form.renamed.values()) <= names
    assert form.metrics or kind == "ownership"


@pytest.mark.parametrize("kind", READ)
def test_a_kind_is_told_by_its_columns(kind: TableKind) -> None:
    form = table_form(kind)
    told = [*form.required, *sorted(form.told_by), *sorted(form.told_by_any)[:1]]
    assert table_kind(told) == kind
    assert table_kind(["id", "notes"]) == "training"


@pytest.mark.parametrize("word", TABLES)
def test_columns_of_shipped_tables_are_listed(word: str, facts: Facts) -> None:
    rows = read_csv(published(TABLES[word]), facts)
    form = table_form(table_kind(rows[0]))
    assert set(form.required) <= set(rows[0])
    assert set(form.metrics) & set(rows[0])


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        *((table_kind(shipped_rows(shown)[0]), shown) for shown in TABLES.values()),
        ("passes", "published/trainium_models.csv"),
        ("collective", "published/collectives.csv"),
        ("ownership", PUBLISHED_COSTS),
    ],
)
def test_no_cell_of_a_shipped_table_is_wrong(kind: TableKind, shown: str) -> None:
    form = table_form(kind)
    for row in shipped_rows(shown):
        assert form.is_told_by(row)
        assert not form.wrong_cells(row, row.get("id", "here"))


def test_the_shape_of_a_model_is_listed() -> None:
    assert set(COLUMNS) <= set(table_form("training").blank())


WALK = (
    *("row_checks", "measured_tables", "serving_notes", "serving_ranks", "serving_rows", "serving_cases"),
    *("serving_checks", "scores", "serving_validate", "validate"),
)
"""Modules that a served row passes, each after those that it may know."""


def test_a_served_row_walks_one_way() -> None:
    folder = Path(evidence.__file__).parent
    for place, name in enumerate(WALK):
        known = re.findall(r"mowich\.evidence\.(\w+)", (folder / f"{name}.py").read_text(encoding="utf-8"))
        assert set(known) & set(WALK) <= set(WALK[:place]), name
    served = {path.stem for path in folder.glob("serving_*.py")} - {"serving_points"}  # a picture's
    assert served <= set(WALK)


def cells_of(kind: TableKind) -> dict[str, str]:
    """A row whose needed cells say something."""
    row = dict.fromkeys(table_form(kind).blank(), "")
    row |= {c.name: "1" if c.holds != "text" else "h100" for c in table_form(kind).columns if c.needed == "cell"}
    row |= {c.name: c.allowed[0] for c in table_form(kind).columns if c.allowed and c.allowed != "metrics"}
    return {**row, **({"primary_metric": "step_time_s"} if kind == "training" else {})}


def lines(tmp_path: Path, facts: Facts, row: dict[str, str]) -> list[str]:
    """What is wrong with a file of one row."""
    file = tmp_path / "t.csv"
    file.write_text(
        "\n".join(",".join(f'"{cell}"' for cell in cells) for cells in (row, row.values())), encoding="utf-8"
    )
    try:
        read_csv(file, facts)
    except UserErrors as error:
        return [one.line() for one in error.errors]
    except UserError as error:
        return [error.line()]
    return []


@pytest.mark.parametrize("kind", READ)
def test_every_number_of_every_kind_is_checked_and_named(tmp_path: Path, facts: Facts, kind: TableKind) -> None:
    form, row = table_form(kind), cells_of(kind)
    wrong = lines(tmp_path, facts, {**row, **dict.fromkeys(form.numbers, "abc")})
    places = {name: f"{tmp_path}/t.csv:2, column {name}: " for name in form.numbers}
    for name, place in places.items():
        assert any(line.startswith(f"{place}not a number, got 'abc'") for line in wrong), name
    whole = [column.name for column in form.columns if column.whole]
    wrong = lines(tmp_path, facts, {**row, **dict.fromkeys(whole, "1.5")})
    for name in whole:
        assert f"{places[name]}out of range, got '1.5'; allowed: a whole number from 1" in wrong


@pytest.mark.parametrize("kind", READ)
def test_needed_cells_of_every_kind_are_asked_for(tmp_path: Path, facts: Facts, kind: TableKind) -> None:
    needed = [column.name for column in table_form(kind).columns if column.needed == "cell"]
    wrong = lines(tmp_path, facts, {**cells_of(kind), **dict.fromkeys(needed, "")})
    assert [line for line in wrong if "must not be blank" in line] == [
        f"{tmp_path}/t.csv:2, column {name}: must not be blank" for name in needed
    ]


def test_a_building_states_its_overhead_and_others_their_watts(tmp_path: Path, facts: Facts) -> None:
    row = {**cells_of("energy"), "W_per_chip": "", "pue": ""}
    for scope, column in (("building", "pue"), ("idle", "W_per_chip")):
        (line,) = lines(tmp_path, facts, {**row, "scope": scope})
        assert line.endswith(f"column {column}: must not be blank")


def test_a_building_without_a_column_of_its_overhead_is_told(tmp_path: Path, facts: Facts) -> None:
    row = {k: v for k, v in cells_of("energy").items() if k != "pue"}
    (line,) = lines(tmp_path, facts, {**row, "scope": "building"})
    assert line.endswith("column pue: must not be blank")


def test_tables_of_forward_passes_read_as_all_others_do() -> None:
    text = 'hardware,engine,model,tp,dp,decode_requests,measured_ms\nNVIDIA H100,vllm,llama-3.1-8b,n/a,"1,024",8,9.5\n'
    (record,) = OUR_TABLES.read("steps.csv", text).records
    assert (record.kind, record.where) == ("forward", "steps.csv:2")
    assert (record.cells["chip"], record.cells["tp"], record.cells["dp"]) == ("h100", "", "1024")
    with pytest.raises(UserError, match="wrong number of cells, got 3; allowed: 7"):
        OUR_TABLES.read("steps.csv", text + "a,b,c\n")
