"""Profiles: the JSON contract, the trace for Perfetto, Neuron Explorer's tables, the comparison of two, refusals."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich
import mowich.nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich import cli
from mowich.errors import UserError
from mowich.neuroncore import explorer, perfetto
from mowich.neuroncore.clock.records import ClockOptions
from mowich.neuroncore.instructions.rates import TENSOR
from mowich.nki import hollow

SOFTMAX = str(Path(__file__).resolve().parents[2] / "kernels" / "softmax.py")


def profile(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.run(["kernel", "profile", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def result(rows: int = 512) -> Any:
    with mowich.nki.installed():
        import runpy

        made = runpy.run_path(SOFTMAX)
    return mowich.run_kernel(made["softmax"], hollow((rows, 1024), "float32"), target="trn2", values=False)


def test_the_json_contract(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = profile(capsys, SOFTMAX, "-k", "softmax", "x=float32[256,1024]", "--target", "trn2", "--json")
    assert code == 0
    d = json.loads(out)
    assert (d["schema"], d["kernel"]) == ("mowich/kernel@1", "softmax")
    assert {
        "target",
        "time_s",
        "instructions",
        "engines",
        "mfu",
        "mbu",
        "sbuf_peak_B",
        "psum_peak_banks",
        "top",
    } <= set(d)
    assert d["target"] == "trn2"
    total = d["time_s"]["value"]
    for use in d["engines"].values():
        assert use["busy_s"] + use["wait_s"] + use["idle_s"] == pytest.approx(total)
    assert d["top"][0]["file"].endswith("softmax.py")
    assert {"file", "line", "seconds", "cause"} <= set(d["top"][0])


def test_without_throttling_the_tensor_engine_starts_at_full_rate(capsys: pytest.CaptureFixture[str]) -> None:
    words = (str(Path(SOFTMAX).with_name("matmul.py")), "-k", "matmul", "--target", "trn2", "--json")
    slow, full = (
        json.loads(profile(capsys, *words, *more)[1])["engines"]["tensor"]["busy_s"]
        for more in ((), ("--no-throttle",))
    )
    assert slow - full == pytest.approx(1.5e-6, rel=0.1)


def test_one_bandwidth_of_hbm_times_transfers_and_counts_their_use(capsys: pytest.CaptureFixture[str]) -> None:
    """MBU is of one stack, a fourth of the chip's: half the bandwidth moves the time and what 100% is."""
    words = (SOFTMAX, "-k", "softmax", "x=float32[256,1024]", "--target", "trn3", "--json")
    found = {}
    for TBps in (4.9, 0.6):
        more = ("--set", f"chips.trainium3.memory.hbm_bandwidth={TBps} TB/s")
        found[TBps] = json.loads(profile(capsys, *words, *more)[1])
        moved = found[TBps]["hbm_read_B"] + found[TBps]["hbm_write_B"]
        assert found[TBps]["mbu"] == pytest.approx(moved / (TBps * 1e12 / 4 * found[TBps]["time_s"]["value"]))
    assert found[0.6]["time_s"]["value"] > 1.1 * found[4.9]["time_s"]["value"]
    assert found[0.6]["mbu"] > 2 * found[4.9]["mbu"]


def test_text_and_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    code, out, _ = profile(
        capsys,
        SOFTMAX,
        "-k",
        "softmax",
        "x=float32[256,1024]",
        "--target",
        "trn2",
        "--path",
        "--trace",
        str(tmp_path / "t.json"),
        "--parquet",
        str(tmp_path / "a"),
    )
    assert code == 0
    assert "MBU" in out
    assert "costliest lines" in out
    assert "critical path" in out
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert cli.run(["kernel", "diff", str(tmp_path / "a"), str(tmp_path / "a")]) == 0
    assert "total_time" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["no.py", "-k", "x"], "no such file"),
        ([SOFTMAX, "-k", "soft"], "softmax"),
        ([SOFTMAX, "-k", "softmax", "--target", "trn9"], "trn9"),
        ([SOFTMAX, "-k", "softmax", "--lnc", "3"], "--lnc: must be at most 2, got '3'"),
        ([SOFTMAX, "-k", "softmax", "--window", "0"], "--window: must be at least 1, got '0'"),
        ([SOFTMAX, "-k", "softmax", "y=1"], "argument of softmax"),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str], text: str) -> None:
    code, out, err = profile(capsys, *words)
    assert code == 2
    assert not out
    assert text in err


def test_a_trace_for_perfetto() -> None:
    p = result().profile
    made = perfetto.events(p)
    slices = [e for e in made if e["ph"] == "X"]
    assert {e["ph"] for e in made} == {"M", "X", "C"}
    assert len(slices) >= len(p)
    assert max(e["ts"] + e["dur"] for e in slices) <= p.total_s * 1e6 + 1e-6
    lanes = {e["args"]["name"]: e["tid"] for e in made if e["name"] == "thread_name"}
    assert {"tensor", "vector", "DMA load", "DMA store", "critical path", "throttling"} <= set(lanes)
    path = [e for e in slices if e["tid"] == lanes["critical path"]]
    assert sum(e["dur"] for e in path) == pytest.approx(p.total_s * 1e6, rel=1e-6)
    levels = [e["args"]["bytes"] for e in made if e["ph"] == "C" and e["name"].startswith("SBUF")]
    assert max(levels) > 0
    assert levels[-1] == 0


def test_tables_have_neuron_explorers_names_and_join(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    one, two = result(512), result(1024)
    for name, r in (("a", one), ("b", two)):
        explorer.write_parquet(r.profile, tmp_path / name)
    row = duckdb.sql(
        f"select total_time, dma_active_time_percent, hbm_read_bytes from '{tmp_path}/a/Summary.parquet'"
    ).fetchall()[0]
    assert row[0] == pytest.approx(float(one.time_s))
    assert row[2] == 512 * 1024 * 4
    spans = duckdb.sql(
        "select engine, opcode, start_ts, end_ts, duration_ns, nki_source_location from"
        f" '{tmp_path}/a/Instruction.parquet'"
    ).fetchall()
    assert len(spans) == len(one.profile)
    assert all(e[3] - e[2] == e[4] for e in spans)
    packets = duckdb.sql(
        f"select sum(transfer_bytes), count(distinct engine_idx) from '{tmp_path}/a/DmaPacket.parquet'"
    ).fetchall()[0]
    assert packets == (2 * 512 * 1024 * 4, 16)
    found = explorer.compare_profiles(tmp_path / "a", tmp_path / "b")
    by_name = {r["what"]: r for r in found["summary"]}
    assert by_name["hbm_read_bytes"]["ratio"] == 2
    assert any(r["what"].startswith("softmax.py:") for r in found["lines"])
    assert {r["what"] for r in found["opcodes"]} >= {"vector TENSOR_REDUCE"}


def test_the_time_that_throttling_costs_is_in_the_lane_and_the_tables(tmp_path: Path) -> None:
    """Of matmuls between random pauses: what the throttled engine takes longer is half of the throttled time, and the
    lane, `Throttle` and `ThrottleSummary` say the same time."""
    rng = np.random.default_rng(3)
    shapes = [(int(rng.integers(1, 40)), int(rng.integers(1, 12)) * 128) for _ in range(6)]

    def kernel(x: Any) -> Any:
        out = nl.ndarray((128, 2048), dtype=nl.bfloat16, buffer=nl.shared_hbm)
        tile, rest = (nl.ndarray((128, 2048), dtype=nl.bfloat16, buffer=nl.sbuf) for _ in range(2))
        nisa.dma_copy(dst=tile, src=x)
        for matmuls, columns in shapes:
            total = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
            for _ in range(matmuls):
                nisa.nc_matmul(dst=total, stationary=tile[:, 0:128], moving=tile[:, 0:512])
            nisa.tensor_copy(dst=rest[:, 0:512], src=total)
            nisa.activation(dst=tile[:, 0:columns], op=nl.exp, data=rest[:, 0:columns])  # the next matmuls wait for it
        nisa.dma_copy(dst=out, src=tile)
        return out

    for target, throttle in (("trn1", True), ("trn2", True), ("trn3", True), ("trn3", False)):
        options = ClockOptions(throttle=throttle)
        x = hollow((128, 2048), "bfloat16")
        run: Any = mowich.nki.run_kernel(kernel, x, target=target, values=False, options=options)
        p = run.profile
        spans = p.throttled()
        late = [p.schedule.end[i] - p.schedule.data[i] - k.occupancy for i, k in enumerate(p.cost) if k.queue == TENSOR]
        assert bool(spans) == any(late) == (target != "trn1" and throttle)
        assert all(0 <= a < b <= p.schedule.total for a, b in spans)
        assert all(b < c for (_, b), (c, _) in pairwise(spans))
        # gaps of a warming engine count into its throttled time
        assert sum(late) <= sum(b - a for a, b in spans) / 2 + len(late)
        assert all(b - a <= p.costs.ps("tensor_engine.throttle_window") for a, b in spans)
        made = perfetto.events(p)
        lane = next(e["tid"] for e in made if e["name"] == "thread_name" and e["args"]["name"] == "throttling")
        slices = [e for e in made if e["ph"] == "X" and e["tid"] == lane]
        assert [(e["ts"], e["dur"]) for e in slices] == [(a / 1e6, (b - a) / 1e6) for a, b in spans]
        tables = explorer.tables(p)
        rows = tables["Throttle"]
        assert rows.get("duration", []) == [round(b / 1e3) - round(a / 1e3) for a, b in spans]
        assert {(k, n) for k, n in zip(rows.get("k", []), rows.get("n", []), strict=True)} <= {(1, 2)}
        summary = tables["ThrottleSummary"]
        assert summary["throttle_type"] == ["all", "activity_0"]
        assert summary["throttle_active_time_ns"] == [sum(rows.get("duration", []))] * 2
        assert summary["max_achievable_util_with_throttling_percent"] == [0.5 if spans else 1.0] * 2
    if pytest.importorskip("duckdb"):
        files = {file.stem for file in explorer.write_parquet(p, tmp_path / "tables")}
        assert "ThrottleSummary" in files


def test_a_missing_table_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    with pytest.raises(UserError, match="Summary"):
        explorer.compare_profiles(tmp_path, tmp_path)


def test_control_flow_on_data_is_refused_without_values() -> None:
    def loops(x: Any) -> Any:
        n = nl.load(x)
        for _ in nl.dynamic_range(nisa.register_alloc(n)):
            pass
        return x

    def branches(x: Any) -> Any:
        t = nl.load(x)
        if float(t) > 0:
            nisa.tensor_scalar(dst=t, data=t, op0=nl.multiply, operand0=2.0)
        return x

    for kernel in (loops, branches):
        with pytest.raises(UserError, match="control flow that reads data"):
            mowich.run_kernel(kernel, hollow((1, 1), "int32"), values=False)
    with pytest.raises(UserError, match="no values"):
        mowich.run_kernel(loops, hollow((1, 1), "int32"))


def test_a_run_without_the_clock_has_no_time() -> None:
    def kernel(x: Any) -> Any:
        nisa.dma_copy(dst=x, src=x)
        return x

    r = mowich.run_kernel(kernel, np.zeros((1, 1), np.float32), timed=False)
    assert not isinstance(r, list)
    with pytest.raises(UserError, match="no times"):
        _ = r.time_s


def test_cores_that_share_hbm_slow_each_other() -> None:
    from mowich.neuroncore.clock.records import ClockOptions

    def stream(x: Any) -> Any:
        for i in range(16):
            t = nl.ndarray((128, 8192), dtype=nl.float32, buffer=nl.sbuf)
            nisa.dma_copy(dst=t, src=x[128 * i : 128 * (i + 1), :])
        return x

    alone, all_ = (
        float(
            mowich.run_kernel(
                stream,
                hollow((2048, 8192), "float32"),
                target="trn2",
                values=False,
                options=ClockOptions(active_cores=n),
            ).time_s
        )  # type: ignore[union-attr]
        for n in (1, 8)
    )
    assert all_ > alone
    assert all_ / alone == pytest.approx(368 / (2900 / 8), rel=0.05)


def test_last_latency_is_that_of_the_last_launch() -> None:
    @mowich.nki.jit
    def kernel(x: Any) -> Any:
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=nl.load(x))
        return out

    kernel(np.zeros((128, 64), np.float32))
    short = mowich.nki.last_latency_us()
    kernel(np.zeros((128, 16384), np.float32))
    assert short is not None
    assert 0 < short < (mowich.nki.last_latency_us() or 0)


def test_the_older_front_end_benchmarks_kernels() -> None:
    import mowich.nki.beta1 as old
    import mowich.nki.beta1.language as onl

    def double(x: Any) -> Any:
        out = onl.ndarray(x.shape, dtype=x.dtype, buffer=onl.shared_hbm)
        onl.store(out, onl.load(x) * 2.0)
        return out

    bench = old.benchmark(warmup=5, iters=10)(double)
    assert (bench(np.ones((128, 64), np.float32)) == 2).all()
    assert 2 < bench.benchmark_result.nc_latency.get_latency_percentile(50) < 30


def test_json_is_all_that_stands_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "talks.py"
    file.write_text(
        "import numpy as np\nimport nki\nimport nki.isa as nisa\nimport nki.language as nl\n"
        "@nki.jit\ndef same(x):\n    print('traced')\n"
        "    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)\n"
        "    nisa.dma_copy(dst=out, src=x)\n    return out\n"
        "print(same(np.ones((4, 4), np.float32)).sum())\n",
        encoding="utf-8",
    )
    assert cli.run(["kernel", "profile", str(file), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["schema"].startswith("mowich/kernel")
    assert told.err.split() == ["traced", "16.0"]


def test_a_kernel_that_a_thread_of_a_script_launches_has_the_target_and_is_profiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thread begins with an empty context: what the command line says of launches belongs to the process."""
    file = tmp_path / "threads.py"
    file.write_text(
        "import threading\nimport numpy as np\nimport nki\nimport nki.isa as nisa\nimport nki.language as nl\n"
        "@nki.jit\ndef double(x):\n"
        "    print(nisa.get_nc_version().name)\n"
        "    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)\n"
        "    nisa.dma_copy(dst=out, src=x)\n    return out\n"
        "t = threading.Thread(target=double, args=(np.ones((4, 4), np.float32),))\nt.start()\nt.join()\n",
        encoding="utf-8",
    )
    code, out, err = profile(capsys, str(file), "--target", "trn2")
    assert (code, err) == (0, "")
    assert out.startswith("gen3\n")
    assert "double" in out
