"""`kernel tune`: its best is the least of all, whatever is pruned and in whatever order it is asked."""

from __future__ import annotations

import itertools
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import mowich
from judge_cheats import HEAD
from mowich import cli
from mowich.errors import UserError, UserErrors
from mowich.requests.debugging import ReferenceFile
from mowich.studies.judge.candidate import JudgeRun, KernelCandidate
from mowich.studies.judge.judge import JudgeAsk, judge_kernels
from mowich.studies.tune.space import read_space, varied_values
from mowich.studies.tune.tune import KernelTune, TuneAsk, tune_kernel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="variants run in copies of a process")

KERNEL = (
    HEAD
    + """
ROWS = 128  # of a tile
SCALE = 2.0
ENGINE = nisa.vector_engine
AGAIN = 0  # copies that change nothing
SKIPS = False
UNUSED = "a"


@nki.jit
def doubled(x, wide=2):
    R, C = x.shape
    out = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.shared_hbm)
    for r in nl.affine_range(R // ROWS):
        for c in range(0, C, C // wide):
            rows, columns = slice(r * ROWS, (r + 1) * ROWS), slice(c, c + C // wide)
            tile = nl.ndarray((ROWS, C // wide), dtype=x.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile, src=x[rows, columns])
            if not SKIPS:
                nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=SCALE, engine=ENGINE)
            for _ in range(AGAIN):
                nisa.tensor_copy(dst=tile, src=tile)
            nisa.dma_copy(dst=out[rows, columns], src=tile)
    return out


def reference(x):
    return 2.0 * x


def inputs(seed=0):
    return {"x": np.random.default_rng(seed).standard_normal((256, 512)).astype(np.float32)}
"""
)
VALUES: dict[str, list[object]] = {
    "ROWS": [64, 128, 256],  # 256: more partitions than SBUF has
    "SCALE": [2.0, 3.0],
    "ENGINE": ["vector", "gpsimd"],
    "AGAIN": [0, 1, 2],
    "SKIPS": [False, True],
    "UNUSED": ["a", "b"],
    "wide": [1, 2, 3],  # 3: columns that overlap, and some beside the array
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuned") / "doubled.py"
    path.write_text(KERNEL)
    return path


def asked(file: Path, vary: dict[str, list[object]], **how: object) -> TuneAsk:
    judge = JudgeAsk(reference=ReferenceFile(file, ""), kernel=None, how=JudgeRun(target="trn3"), seeds=1, at_once=2)
    words = tuple(f"{name}={','.join(map(str, values))}" for name, values in vary.items())
    ask = TuneAsk(file="doubled.py", text=KERNEL, vary=words, targets=("trn3",), judge=judge, has_reference=True)
    return replace(ask, **how)  # type: ignore[arg-type]


def one_by_one(ask: TuneAsk) -> dict[str, float]:
    """Seconds of each variant that the judge calls right, judged alone, by its settings."""
    space, out = read_space(ask.text, ask.file, None, ask.vary), {}
    for number in range(len(space)):
        variant = space.variant(number)
        found = judge_kernels([KernelCandidate(name="one", text=variant.text)], ask.judge)
        if found.best is not None:
            assert found.best.run is not None
            assert found.best.run.side.time_s is not None
            out[repr(variant.settings)] = found.best.run.side.time_s
    return out


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 12))])
def test_its_best_is_the_least_of_all_that_are_right(file: Path, seed: int) -> None:
    rng = random.Random(seed)
    names = {"SKIPS", *rng.sample(sorted(VALUES), 2)}
    vary = {name: rng.sample(VALUES[name], min(2, len(VALUES[name]))) for name in sorted(names)}
    ask = asked(file, vary)
    alone = one_by_one(ask)
    pruned, whole = tune_kernel(ask), tune_kernel(replace(ask, prunes=False))
    for found in (pruned, whole):
        best = found.best[0].row
        if not alone:
            assert best is None
            continue
        assert best is not None
        assert best.judged.status == "ok"
        assert best.time_s == min(alone.values()) == alone[repr(best.variant.settings)]
    good = {repr(row.variant.settings): row for row in whole.rows if row.is_good}
    assert {settings: row.time_s for settings, row in good.items()} == alone
    # the front of the pruned search is that of the whole one: nothing on it is only timed
    fronts = [{repr(row.variant.settings) for row in found.rows if row.is_front} for found in (pruned, whole)]
    assert fronts[0] == fronts[1]
    for row in good.values():
        beaten = [other for other in good.values() if other is not row and _beats(other.costs(), row.costs())]
        assert row.is_front <= (not beaten)


def _beats(a: tuple[float, int, int], b: tuple[float, int, int]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


@pytest.mark.slow
def test_what_runs_beside_it_and_the_order_of_words_change_nothing(file: Path) -> None:
    vary = {"ROWS": VALUES["ROWS"], "AGAIN": [2, 0], "UNUSED": VALUES["UNUSED"]}
    first = tune_kernel(asked(file, vary, has_reference=False))
    turned = {name: list(reversed(values)) for name, values in reversed(vary.items())}
    ask = asked(file, turned, has_reference=False)
    assert tune_kernel(replace(ask, judge=replace(ask.judge, at_once=1))).to_dict() == first.to_dict()
    assert first.no_effect == ("UNUSED",)
    assert first.best[0].row is not None
    assert first.best[0].row.variant.settings == {"AGAIN": 0, "ROWS": 128, "UNUSED": "a"}
    assert first.best[0].speedup == 1.0  # it is the file as it is
    refused = [row for row in first.rows if row.judged.status == "refused"]
    assert {row.variant.settings["ROWS"] for row in refused} == {256}
    assert len(refused) == 4
    assert all("doubled.py:" in row.judged.reason for row in refused)


def test_a_limit_is_told_and_the_neighbours_of_the_fastest_follow(file: Path) -> None:
    vary: dict[str, list[object]] = {"AGAIN": [*range(40)], "ROWS": [32, 64, 128], "wide": [1, 2]}
    found = tune_kernel(asked(file, vary, has_reference=False, limit=24))
    told = found.to_dict()
    assert (told["space"], told["tried"], told["not_tried"]) == (240, 24, 216)
    assert len(found.rows) == 24
    assert found.best[0].row is not None
    assert found.best[0].row.variant.settings["AGAIN"] == 0  # one of forty, which no sample of twelve has to hold


def test_one_setting_for_several_targets(file: Path) -> None:
    vary = {"ENGINE": VALUES["ENGINE"], "wide": [1, 2], "AGAIN": [0, 1]}
    found = tune_kernel(asked(file, vary, has_reference=False, targets=("trn2", "trn3")))
    both = found.one_for_all
    assert both is not None
    times = {(row.on, repr(row.variant.settings)): row.time_s or 0.0 for row in found.rows}
    least = {best.on: best.row.time_s or 0.0 for best in found.best if best.row is not None}
    worst = {
        settings: max(times[on, settings] / least[on] - 1.0 for on in least)
        for settings in {settings for _, settings in times}
    }
    assert max(both.loss.values()) == pytest.approx(min(worst.values()))
    assert worst[repr(both.settings)] == max(both.loss.values())


def test_values_are_written_in_the_place_of_others_on_the_same_lines() -> None:
    """Each variant differs from the file in what was varied alone, and every one is another text."""
    vary = [f"{name}={','.join(map(str, values))}" for name, values in VALUES.items()]
    space = read_space(KERNEL, "doubled.py", None, vary)
    assert len(space) == 3 * 2 * 2 * 3 * 2 * 2 * 3
    texts = {space.variant(n).text for n in range(len(space))}
    assert len(texts) == len(space)
    assert KERNEL in texts
    for number in random.Random(0).sample(range(len(space)), 20):
        variant = space.variant(number)
        at = {name: where.line for name, where in varied_values(KERNEL, "doubled.py").items()}
        lines = [
            n for n, (a, b) in enumerate(zip(KERNEL.split("\n"), variant.text.split("\n"), strict=True), 1) if a != b
        ]
        assert {*lines} <= {at[name] for name in VALUES}
        for other in space.neighbours(number):
            changed = [k for k, v in space.variant(other).settings.items() if v != variant.settings[k]]
            assert len(changed) == 1
        names: dict[str, object] = {}
        head = variant.text.partition("@nki.jit")[0].replace("import nki", "#").replace("nisa.", "")
        exec(head, {"vector_engine": "vector", "gpsimd_engine": "gpsimd"}, names)
        assert {k: names[k] for k in variant.settings if k != "wide"} == {
            k: v for k, v in variant.settings.items() if k != "wide"
        }


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ("ROWSS=64", "unknown constant 'ROWSS'.*did you mean 'ROWS'"),
        ("ROWS=64.5", "doubled.py:6: not a value for ROWS, got '64.5'; allowed: a whole number"),
        ("ROWS=many", "a whole number"),
        ("SCALE=nan", "not a value for SCALE"),
        ("SKIPS=2", "allowed: True or False"),
        ("ENGINE=2", "a name that stands where nisa.vector_engine does"),
        ("ROWS", "allowed: NAME=VALUE,VALUE..."),
        ("ROWS=1,,2", "an empty value"),
        ("out=1", "unknown constant 'out'"),
    ],
)
def test_what_cannot_be_varied_is_a_line(file: Path, vary: str, said: str) -> None:
    with pytest.raises(UserErrors, match=said):
        read_space(KERNEL, "doubled.py", None, [vary])


def test_a_file_that_reaches_out_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    """The file is the candidate: what makes its own arguments is closed in too."""
    made = tmp_path / "made"
    for body in (f"np.zeros(3).tofile('{made}')", f"open('{made}', 'w')", "import os"):
        file = tmp_path / "k.py"
        file.write_text(KERNEL.replace("    return {", f"    {body}\n    return {{"))
        found = mowich.tune(file, {"ROWS": [64, 128]})
        assert {row.judged.status for row in found.rows} == {"refused"}
        assert [best.row for best in found.best] == [None]
    assert not made.exists()


def test_the_command_line_and_python(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["kernel", "tune", str(file), "--vary", "ROWS=64,128", "--vary", "SKIPS=true,false", "--on", "trn2,trn3"]
    assert cli.run([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "mowich/kernel-tune@1"
    assert answer["count"] == {"ok": 0, "timed": 8, "wrong": 0, "refused": 0}
    found = mowich.tune(file, {"SKIPS": [True, False], "ROWS": [64, 128]}, on=["trn2", "trn3"])
    assert isinstance(found, KernelTune)
    assert found.to_dict()["rows"] == answer["rows"]
    assert cli.run([*words, "--reference", str(file), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "wrong" in said
    assert "ROWS=128 SKIPS=False" in " ".join(said.split())
    assert cli.run(["kernel", "tune", str(file), "--vary", "SKIPS=true", "--reference", str(file)]) == 5
    assert cli.run([*words[:3], "--vary", "ROWZ=1"]) == 2
    assert cli.run([*words, "--all-values"]) == 2
    assert "goes with --reference" in capsys.readouterr().err
    assert cli.run([*words[:-1], "trn9"]) == 2
    with pytest.raises(UserError, match="vary"):
        mowich.tune(file, {})
    duckdb = pytest.importorskip("duckdb")
    out = tmp_path / "rows.parquet"
    assert cli.run([*words, "--out", str(out), "--quiet"]) == 0
    capsys.readouterr()
    kept = duckdb.sql(f"select \"on\", settings_ROWS, settings_SKIPS, time_s from '{out}'").fetchall()
    settings = list(itertools.product(("trn2", "trn3"), (64, 128), (False, True)))
    assert sorted(row[:3] for row in kept) == settings


def test_a_file_without_constants_says_that_it_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["kernel", "tune", "@softmax", "--vary", "P=1"]) == 2
    assert capsys.readouterr().err == "error: @softmax: unknown constant 'P'; allowed: none\n"
