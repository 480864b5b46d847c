"""What was set and changed nothing is told on every edge, in the same words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mowich
from mowich.cli import run
from mowich.show.verbs import page_of
from mowich.studies.heard import MOST_ASKED_AGAIN

TRN3 = "chips.trainium3"
ASK = ["plan", "llama-3.1-8b", "--train", "--tokens", "1T", "--seq", "4096", "--batch", "256seqs", "--on", "trn3:64"]
TRAIN: mowich.Train = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
SHADOWED = "systems.trn3-gen2.hbm_bandwidth"
READ = f"{TRN3}.memory.hbm_bandwidth"
LINE = f"{SHADOWED} changed nothing here: this answer does not read it; did you mean {READ}?"


def told(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[dict[str, object], str]:
    assert run([*ASK, "--top", "1", "--json", *args]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_a_value_that_nothing_reads_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--set", f"{SHADOWED}=1000 TB/s"]
    found, err = told(capsys, *given)
    assert (found["unread"], found["unmoved"]) == ([SHADOWED], [])
    assert found["read_instead"] == {SHADOWED: [READ]}
    assert err == f"note: {LINE}\n"
    assert told(capsys, *given, "--quiet")[1] == ""
    assert run([*ASK, *given]) == 0
    out, err = capsys.readouterr()
    assert LINE in " ".join(out.split())
    assert "changed nothing" not in err
    assert run([*ASK, *given, "--csv"]) == 0
    assert capsys.readouterr().err == f"note: {LINE}\n"
    assert page_of(found).warnings == [LINE]  # of a report, a notebook and the web


def test_a_plain_answer_says_nothing_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    found, err = told(capsys)
    assert not {"unread", "read_instead", "unmoved"} & set(found)
    assert err == ""
    assert "unread" not in told(capsys, "--set", "plan.tp=4")[0]


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("given", "because"),
    [
        (f"{READ}=4.9 TB/s", "it is 4.9 TB/s without it, too"),
        (f"{TRN3}.scale_out.bandwidth_per_direction=50 GB/s", "no exchange crosses the level scale_out here"),
        (f"{TRN3}.peak_dense.fp8=2 PFLOP/s", "no plan here multiplies in fp8"),
        ("systems.trn3-gen2.max_chips=2000000", "no row here rests on it"),
        ("training.torchtitan-neuron.expert_launch=1ms", "no row here rests on it"),
        ("networks.collectives.scale_out.neuron_efa.step=1 us", "no exchange crosses the level scale_out here"),
    ],
)
def test_what_hides_a_value_that_is_read(given: str, because: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, err = told(capsys, "--set", given)
    path = given.partition("=")[0]
    assert (found["unread"], found["unmoved"]) == ([], [{"path": path, "because": because}])
    assert err == f"note: {path} moves nothing here: {because}\n"


def test_a_value_that_moves_a_row_is_told_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    """By its own path, by a reference to it, and by the cores that another grouping gives."""
    for given in (f"{READ}=9.8 TB/s", "systems.trn3-gen2.levels.server.bandwidth=40 GB/s", "power.trn3=900 W"):
        found, err = told(capsys, "--set", given, "--set", "plan.lnc=1", "--set", "plan.tp=8")
        assert (found["unread"], found["unmoved"], err) == ([], [], "")


def test_with_many_values_nobody_asks_again(capsys: pytest.CaptureFixture[str]) -> None:
    paths = [f"{TRN3}.peak_dense.{name}" for name in ("bf16", "fp8", "mxfp8", "mxfp4")]
    paths += [f"{TRN3}.scale_out.bandwidth_per_direction"]
    given = [word for path in paths for word in ("--set", f"{path}={'1 TB/s' if 'band' in path else '1 PFLOP/s'}")]
    assert len(paths) == MOST_ASKED_AGAIN + 1
    found, _ = told(capsys, *given)
    assert (found["unread"], found["unmoved"]) == ([], None)


def test_of_a_folder_only_what_differs_from_what_ships(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "trainium3.yaml").write_text(
        "memory:\n  hbm_capacity: {value: 147456 MiB, grade: user}\n"
        "  hbm_pin_speed: {value: 12 Gbit/s, grade: user}\n  hbm_bandwidth: {value: 6 TB/s, grade: user}\n"
        'peak_per_core:\n  bf16: {value: "90 TFLOP/s", grade: user}\n  fp32: {value: "90 TFLOP/s", grade: user}\n'
        '  sparse: {value: "90 TFLOP/s", grade: user}\n'
    )
    found, err = told(capsys, "--facts", str(tmp_path))
    names = [
        f"{TRN3}.{x}" for x in ("memory.hbm_pin_speed", *(f"peak_per_core.{n}" for n in ("bf16", "fp32", "sparse")))
    ]
    assert (found["unread"], found["unmoved"]) == (names, [])
    assert err.startswith(f"note: 4 given facts changed nothing here: this answer does not read them: {names[0]}, ")
    assert len(err.splitlines()) == 1


def test_the_same_facts_asked_again_are_heard_again() -> None:
    """What an answer takes from an earlier one of the same facts counts as read, and a ledger is of one answer."""
    facts = mowich.load_facts().with_values({READ: 9.8e12, f"{TRN3}.power.all_in": 2e3})
    first = mowich.plan("llama-3.1-8b", "trn3:64", train=TRAIN, top=1, facts=facts)
    again = mowich.plan("llama-3.1-8b", "trn3:64", train=TRAIN, top=1, facts=facts)
    assert first.heard()["unread"] == again.heard()["unread"] == []
    timed = mowich.collective("all-reduce", "h100:8", sizes=["1GiB"], facts=facts)
    assert timed.heard()["unread"] == [READ, f"{TRN3}.power.all_in"]
    assert timed.to_dict()["unread"] == timed.heard()["unread"]
    assert f"{READ} changed nothing here" in str(timed)


SWEEP = f"""{{mowich: 1, models: llama-3.1-8b, on: [trn3], chips: [64], seq: 4096, batch: 256seqs, tokens: 1T,
  plan: {{tp: 4}}, vary: {{{READ}: "4 TB/s,6 TB/s", {TRN3}.scale_up.bandwidth_per_direction: "1 TB/s,2 TB/s",
  {TRN3}.scale_out.bandwidth_per_direction: "25 GB/s,50 GB/s"}}}}"""


def test_an_axis_that_moves_no_row_is_told(tmp_path: Path) -> None:
    found = mowich.sweep(SWEEP)
    assert found.heard()["unread"] == [f"{TRN3}.scale_up.bandwidth_per_direction"]
    assert found.heard()["unmoved"] == [
        {
            "path": f"{TRN3}.scale_out.bandwidth_per_direction",
            "because": "no exchange crosses the level scale_out here",
        }
    ]
    pytest.importorskip("duckdb")
    stored = mowich.sweep(SWEEP, out=tmp_path / "parts")
    assert {**stored.heard(), "unmoved": found.heard()["unmoved"]} == found.heard()
