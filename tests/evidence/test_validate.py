"""`evidence.validate`: errors at the edge, the contract of the summary, and that nothing is fitted."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import pytest

from mowich.errors import EXIT_BAD_INPUT, UserError
from mowich.estimate import Notes
from mowich.evidence import row_plan
from mowich.evidence.measured_tables import published, read_csv
from mowich.evidence.plan_order import in_order, plan_pairs
from mowich.evidence.scores import RowResult, Validation, summarise
from mowich.evidence.validate import predict, run_of, validate_rows
from mowich.facts import Facts
from mowich.models.model import Model
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.plans.preference import margin
from mowich.software.stack import Platform
from mowich.training import step as step_module
from mowich.training.step import StepTime
from shared_facts import fresh_facts


@pytest.fixture(scope="module")
def shipped(facts: Facts) -> Validation:
    return validate_rows(None, facts)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]], drop: tuple[str, ...] = ()) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [c for c in rows[0] if c not in drop], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def three() -> list[dict[str, str]]:
    return rows_of(published())[5:8]


def test_a_run_is_evaluated_once_and_plans_of_a_job_together(
    tmp_path: Path, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows repeat runs, and sources sweep plans over one job. What is shared is computed once, and no answer depends on
    what else the table holds: the rows alone give the same numbers to the last bit."""
    rows = [row for row in rows_of(published()) if row["chip"] in ("H200", "TPU v4", "B300")]
    evaluated: list[int] = []
    memories: list[object] = []
    step_time, share = step_module.step_time, row_plan.memory_share

    def counted(model: Model, system: Platform, job: TrainJob, plans: Plans, notes: Notes | None = None) -> StepTime:
        evaluated.append(len(plans))
        return step_time(model, system, job, plans, notes)

    def weighed(model: Model, system: Platform, job: TrainJob, plan: Plan) -> float:
        memories.append((id(model), id(system), job, plan))
        return share(model, system, job, plan)

    monkeypatch.setattr(step_module, "step_time", counted)
    monkeypatch.setattr(row_plan, "memory_share", weighed)
    twice = [*rows, *({**row, "id": f"{row['id']}-2"} for row in rows)]
    together = validate_rows(write(tmp_path / "all.csv", twice), facts)
    answered = [row.case for row in together.rows[: len(rows)] if row.case is not None]
    assert len(answered) > 35
    jobs = {(id(case.system), id(case.model), case.job) for case in answered}
    assert len(evaluated) == len(jobs) < sum(evaluated) == len({run_of(case) for case in answered})
    assert len(memories) == len(set(memories))
    for row, again in list(zip(rows, together.rows[len(rows) :], strict=True))[::4]:
        (alone,) = validate_rows(write(tmp_path / "one.csv", [row]), facts).rows
        assert (alone.predicted, alone.low, alone.high) == (again.predicted, again.low, again.high)


def message(path: Path, facts: Facts) -> str:
    with pytest.raises(UserError) as caught:
        validate_rows(path, facts)
    assert caught.value.code == EXIT_BAD_INPUT
    return caught.value.line()


def test_missing_file_is_one_line(tmp_path: Path, facts: Facts) -> None:
    assert message(tmp_path / "none.csv", facts).endswith("none.csv: cannot be read: no such file")


@pytest.mark.parametrize("content", ["", "\n"])
def test_empty_file(tmp_path: Path, facts: Facts, content: str) -> None:
    path = tmp_path / "empty.csv"
    path.write_text(content, encoding="utf-8")
    assert "empty.csv:1: the file is empty" in message(path, facts) or "missing columns" in message(path, facts)


def test_header_only(tmp_path: Path, facts: Facts, three: list[dict[str, str]]) -> None:
    path = tmp_path / "head.csv"
    path.write_text(",".join(three[0]) + "\n", encoding="utf-8")
    assert "head.csv:1: no rows after the header" in message(path, facts)


def test_missing_columns_are_named(tmp_path: Path, facts: Facts, three: list[dict[str, str]]) -> None:
    path = write(tmp_path / "a.csv", three, drop=("TP", "primary_metric"))
    assert "a.csv:1: missing columns: TP, primary_metric" in message(path, facts)


def test_all_bad_cells_are_reported_at_once(tmp_path: Path, facts: Facts, three: list[dict[str, str]]) -> None:
    three[0]["n_chips"] = "many"
    three[1]["primary_metric"] = "tokens_per_s_per_chp"
    three[2]["TP"] = "-1"
    lines = message(write(tmp_path / "b.csv", three), facts).splitlines()
    assert len(lines) == 3
    assert "b.csv:2, column n_chips: not a number, got 'many'" in lines[0]
    assert "did you mean 'tokens_per_s_per_chip'" in lines[1]
    assert "b.csv:4, column TP: out of range" in lines[2]


def test_repeated_id(tmp_path: Path, facts: Facts, three: list[dict[str, str]]) -> None:
    three[1]["id"] = three[0]["id"]
    assert "is repeated (first on line 2)" in message(write(tmp_path / "c.csv", three), facts)


def test_serving_table_is_told_apart(tmp_path: Path, facts: Facts) -> None:
    path = tmp_path / "serving.csv"
    path.write_text("id,chip,tpot_ms\na,H100,3\n", encoding="utf-8")
    assert "serving measurements" in message(path, facts)


def test_unknown_chip_alone_is_an_error_and_among_others_a_refusal(
    tmp_path: Path, facts: Facts, three: list[dict[str, str]]
) -> None:
    three[0]["chip"] = "H1000"
    mixed = validate_rows(write(tmp_path / "mixed.csv", three), facts)
    assert mixed.rows[0].status == "unsupported"
    assert "H1000" in (mixed.rows[0].reason or "")
    for row in three:
        row["chip"] = "H1000"
    assert "only.csv:2, column chip: unknown" in message(write(tmp_path / "only.csv", three), facts)


def test_cells_that_people_write(tmp_path: Path, facts: Facts, three: list[dict[str, str]]) -> None:
    plain = validate_rows(write(tmp_path / "plain.csv", three), facts)
    for row in three:
        row.update({key: "n/a" for key in ("grad_accum", "ETP") if not row[key]})
        row["vocab"] = f"{int(row['vocab']):,}" if row["vocab"] else "-"
    assert validate_rows(write(tmp_path / "written.csv", three), facts).rows == plain.rows


def test_a_chip_without_fitted_constants_is_answered_with_a_wider_interval(
    tmp_path: Path, facts: Facts, three: list[dict[str, str]]
) -> None:
    def width(chip: str, domain: str) -> float:
        rows = [row | {"chip": chip, "precision": "bf16", "chips_per_scaleup_domain": domain} for row in three]
        row = validate_rows(write(tmp_path / "chip.csv", rows), facts).rows[0]
        assert row.low
        assert row.high
        assert row.grade == ("C" if chip == "H100" else "D")
        return row.high / row.low

    fitted = width("H100", "8")
    assert width("MI300X", "8") > fitted
    assert width("VR200", "72") > fitted


def test_contract(shipped: Validation) -> None:
    data = json.loads(json.dumps(shipped.to_dict()))
    assert data["schema"] == "mowich/validate@1"
    assert {
        "id",
        "status",
        "reason",
        "inferred",
        "metric",
        "measured",
        "predicted",
        "low",
        "high",
        "ratio",
        "abs_error",
    } <= set(data["rows"][0])
    summary = data["summary"]
    apart = {"fits_memory", "does_not_fit_memory", "memory"}
    assert set(summary) == {"all", "fully_specified", "by_chip", "by_source", "by_metric"} | apart
    assert set(summary["all"]) == {
        "n",
        "unsupported",
        "median_abs_error",
        "mean_abs_error",
        "p90_abs_error",
        "bias",
        "interval_coverage",
    }
    assert summary["all"]["n"] + summary["all"]["unsupported"] == len(data["rows"])
    assert (
        sum(s["n"] for s in summary["by_chip"].values())
        == summary["all"]["n"]
        == sum(s["n"] for s in summary["by_source"].values())
    )
    assert len({row["id"] for row in data["rows"]}) == len(data["rows"])


def test_every_refusal_has_a_reason_and_every_answer_figures(shipped: Validation) -> None:
    for row in shipped.rows:
        if row.status == "unsupported":
            assert row.reason
            assert row.predicted is None
        else:
            assert row.reason is None
            assert row.ratio is not None
            assert row.low is not None
            assert row.high is not None
            assert row.predicted is not None
            assert row.ratio > 0
            assert row.low < row.predicted < row.high
            assert math.isclose(row.abs_error or -1, max(row.ratio, 1 / row.ratio) - 1)


def test_ratio_means_time_for_every_metric(shipped: Validation) -> None:
    for row in shipped.rows:
        if row.ratio is None or not row.measured or not row.predicted:
            continue
        as_time = row.predicted / row.measured if row.metric.endswith("step_time_s") else row.measured / row.predicted
        assert math.isclose(as_time, row.ratio, rel_tol=1e-9)


def test_the_accuracy_that_is_promised(shipped: Validation) -> None:
    summary = shipped.summary()["all"]
    assert summary.n / (summary.n + summary.unsupported) >= 0.9
    assert summary.median_abs_error <= 0.17


def test_breakdown_sums_to_the_step(shipped: Validation) -> None:
    for row in shipped.rows[::40]:
        if row.case is None or row.parts is None or row.ratio is None:
            continue
        step = row.ratio * row.case.measured_step_s
        batch = row.case.plan.micro_batch * row.case.plan.dp
        assert sum(row.parts.values()) > 0
        if row.case.job.batch_seqs % batch == 0 and row.case.plan.vpp == 1:
            assert math.isclose(sum(row.parts.values()), step, rel_tol=1e-6)


def test_nothing_is_fitted_to_the_file(tmp_path: Path, facts: Facts, shipped: Validation) -> None:
    """Doubling every measurement leaves every prediction where it was."""
    rows = rows_of(published())[:60]
    for row in rows:
        for column in ("step_time_s", "tokens_per_s_per_chip"):
            if row[column]:
                row[column] = repr(2 * float(row[column]))
    doubled = validate_rows(write(tmp_path / "d.csv", rows), facts)
    for before, after in zip(shipped.rows[:60], doubled.rows, strict=True):
        if before.metric in ("step_time_s", "tokens_per_s_per_chip"):
            assert (
                after.predicted == pytest.approx(before.predicted, rel=1e-9)
                if before.predicted
                else after.predicted is None
            )


def test_summary_of_known_rows(shipped: Validation) -> None:
    base = next(r for r in shipped.rows if r.status == "ok")

    def row(ratio: float) -> RowResult:
        return dataclasses.replace(
            base,
            ratio=ratio,
            measured=1.0,
            predicted=ratio,
            low=ratio / 1.5,
            high=ratio * 1.5,
        )

    s = summarise([row(2.0), row(0.5), row(1.0)])
    assert s.n == 3
    assert s.bias == pytest.approx(0.0)
    assert s.median_abs_error == pytest.approx(1.0)
    assert s.mean_abs_error == pytest.approx(2 / 3)
    assert s.interval_coverage == pytest.approx(1 / 3)
    nothing = summarise([])
    assert nothing.n == 0
    assert nothing.median_abs_error is None


def test_intervals_widen_with_what_is_not_stated(facts: Facts, shipped: Validation) -> None:
    stated = next(r.case for r in shipped.rows if r.case and r.fully_specified and r.kind == "dense pytorch-fsdp")
    open_ = dataclasses.replace(stated, inferred=("recompute=none (not stated)", "micro_batch=1 (guess)"))
    wide, narrow = predict(open_, facts), predict(stated, facts)
    assert wide.predicted == narrow.predicted
    assert wide.high > narrow.high
    assert wide.low < narrow.low


def test_same_input_same_answer(facts: Facts, shipped: Validation) -> None:
    assert validate_rows(None, facts).rows is shipped.rows  # predicted once for the same facts
    assert validate_rows(None, fresh_facts()).to_dict() == shipped.to_dict()


def test_extra_columns_and_order_do_not_matter(tmp_path: Path, facts: Facts, shipped: Validation) -> None:
    rows = [{"comment": "x", **dict(reversed(row.items()))} for row in rows_of(published())[:20]]
    again = validate_rows(write(tmp_path / "e.csv", rows), facts)
    assert [r.predicted for r in again.rows] == [r.predicted for r in shipped.rows[:20]]
    assert len(read_csv(published(), facts)) == len(shipped.rows)


def test_measured_plans_within_the_margin_follow_no_order(facts: Facts, shipped: Validation) -> None:
    found = plan_pairs(shipped.rows)
    near, share = in_order(found, 0.0, margin(facts))
    far, of_far = in_order(found, 0.2, 9.0)
    assert near > 40
    assert far > 200
    assert 0.4 < share < 0.62
    assert of_far > 0.9
