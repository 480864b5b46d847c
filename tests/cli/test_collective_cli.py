"""`mowich collective`: the JSON contract, refusals in one line, and the fabric that `facts show` tells."""

from __future__ import annotations

import json

import pytest

from mowich import cli


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.run(words)
    out, err = capsys.readouterr()
    return code, out, err


def test_json_follows_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        capsys, "collective", "all-reduce", "--on", "trn3-gen2", "--bytes", "1MiB,1GiB", "--group", "144", "--json"
    )
    found = json.loads(out)
    assert code == 0
    assert "factor of two" in err
    assert found["schema"] == "mowich/collective@1"
    small, large = found["rows"]
    assert (small["bytes"], small["ranks"]) == (2**20, 144)
    assert small["time_s"]["low"] < small["time_s"]["value"] < small["time_s"]["high"]
    assert large["time_s"]["grade"] == "D"
    assert large["busbw_Bps"] == pytest.approx(2 * 143 / 144 * 2**30 / large["time_s"]["value"])
    assert large["algorithm"] == "mesh"
    assert large["binds"] == "server"


def test_weights_have_a_row_for_each_method_whose_parts_sum(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("collective", "weights", "--on", "h100:16", "--model", "qwen3-30b-a3b", "--to", "trn3:32", "--json")
    code, out, err = run(capsys, *words)
    found = json.loads(out)
    assert code == 0
    assert "no link between the two vendors is stated" in err
    assert [row["algorithm"] for row in found["rows"]] == ["host", "delta", "disk", "relay"]
    for row in found["rows"]:
        time = row["time_s"]
        assert sum(time["breakdown"].values()) == pytest.approx(time["value"])
        assert time["low"] < time["value"] < time["high"]
        assert 0.0 < max(row["trainer_s"], row["workers_s"]) <= time["value"]
        assert row["bytes"] == 61_064_245_248
    colocated = json.loads(run(capsys, *words[:6], "--json")[1])
    assert [row["algorithm"] for row in colocated["rows"]] == ["ipc-buckets", "ipc-tensors"]


def test_a_failed_link_slows_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("collective", "all-reduce", "--on", "trn3-gen2", "--bytes", "1GiB", "--json", "-q")
    whole = json.loads(run(capsys, *words)[1])["rows"][0]
    code, out, _ = run(capsys, *words, "--fail", "link:3")
    hurt = json.loads(out)
    assert code == 0
    assert hurt["slowdown"] == pytest.approx(1.26, abs=0.01)
    assert hurt["rows"][0]["time_s"]["value"] > 1.2 * whole["time_s"]["value"]
    assert "chip 0" in hurt["rows"][0]["binds"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("all-reduc", "--on", "trn3"), "did you mean 'all-reduce'"),
        (("all-reduce", "--on", "trn3", "--bytes", "12"), "unit"),
        (("all-reduce", "--on", "trn3:64", "--group", "65"), "larger than the system"),
        (("all-reduce", "--on", "trn3", "--group", "1"), "at least two"),
        (("all-reduce", "--on", "trn3", "--network", "ethernt"), "did you mean 'ethernet'"),
        (("all-reduce", "--on", "trn3", "--fail", "link:100000"), "no such link"),
        (("all-reduce", "--on", "trn3", "--beside", "all-to-all:0-999"), "not a range"),
        (("all-reduce", "--on", "trn3", "--group", "32", "--fail", "chip:40"), "not in the group"),
        (("all-reduce", "--on", "trn3", "--oversubscription", "0.5"), "at least 1"),
        (("all-reduce", "--on", "trn3", "--to", "h100"), "--to: is of weights alone"),
        (("weights", "--on", "trn3"), "--model: is required for weights"),
        (("weights", "--on", "trn3", "--model", "llama-3.1-8b", "--bytes", "1GiB"), "--bytes: is of a collective"),
        (("weights", "--on", "h100", "--to", "trn3", "--model", "llama-3.1-8b", "--method", "reshard"), "two vendors"),
        (("weights", "--on", "h100", "--to", "trn3", "--model", "llama-3.1-8b", "--method", "rely"), "'relay'"),
        (("weights", "--on", "h100", "--model", "llama-3.1-8b", "--weights", "fp9"), "did you mean 'fp8'"),
        (("weights", "--on", "h100", "--to", "h100:1", "--model", "deepseek-v3"), "no whole number of workers"),
        (
            ("weights", "--on", "h100", "--to", "h100", "--model", "llama-3.1-8b", "--method", "ipc-buckets"),
            "colocated",
        ),
        (("weights", "--on", "h100", "--to", "h200", "--model", "llama-3.1-8b", "--link", "100"), "unit"),
    ],
)
def test_bad_input_is_one_clear_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], what: str) -> None:
    code, out, err = run(capsys, "collective", *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert what in err


def test_a_stated_network_and_oversubscription_slow_the_scale_out(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("collective", "all-reduce", "--on", "h100:64", "--bytes", "1GiB", "--json")
    times = [
        json.loads(run(capsys, *words, *more)[1])["rows"][0]["time_s"]["value"]
        for more in ((), ("--network", "efa"), ("--oversubscription", "2"))
    ]
    assert times[0] < times[1] < times[2]


def test_facts_show_tells_a_machine_level_by_level(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "facts", "show", "trn3-gen2", "--plain")
    assert code == 0
    head = out.splitlines()[:6]
    assert [line.split()[0] for line in head[1:5]] == ["level", "server", "rack", "ultraserver"]
    assert "9.22 TB/s" in head[4]


@pytest.mark.parametrize(
    "words",
    [
        ("collective", "all-reduce", "--on", "trn3", "--bytes", "1MiB", "--oversubscription", "nan"),
        ("goodput", "--on", "trn3:1000", "--days", "nan"),
        ("goodput", "--on", "trn3:1000", "--days", "inf"),
        ("power", "--on", "trn3", "--tokens-per-s", "nan"),
    ],
)
def test_what_is_no_finite_number_is_refused(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "bug" not in err
