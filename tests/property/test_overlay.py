"""A user's own chip in a --facts directory: it runs, it answers like the chip that it copies, and its numbers are what
it says."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.facts.load import shipped_folder
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.plan import TrainJob
from mowich.requests.jobs import CompareRequest
from mowich.shown import Rows
from mowich.studies.compare import Row, compare

MODEL = load_model("llama-3.1-8b")
JOB = TrainJob(tokens=1e12, seq=4096, batch_seqs=128)


def lay(root: Path, *, hbm_TBps: float | None = None, price: float | None = None) -> Path:
    """A directory with a copy of the H100 and its server under new names, some numbers changed."""
    for kind, old, new in (("chips", "h100_sxm", "mine"), ("systems", "h100", "mybox")):
        (root / kind).mkdir(parents=True)
        text = (shipped_folder() / kind / f"{old}.yaml").read_text(encoding="utf-8").replace("h100_sxm", "mine")
        (root / kind / f"{new}.yaml").write_text(text.replace('id: "h100"', 'id: "mybox"'), encoding="utf-8")
    if hbm_TBps is not None:
        (root / "over" / "chips").mkdir(parents=True)
        (root / "over" / "chips" / "mine.yaml").write_text(
            f'memory:\n  hbm_bandwidth: {{value: "{hbm_TBps} TB/s", grade: user}}\n', encoding="utf-8"
        )
    if price is not None:
        (root / "prices").mkdir()
        (root / "prices" / "user.yaml").write_text(
            f'mybox: {{value: "{price} USD/chip/h", grade: user}}\n', encoding="utf-8"
        )
    return root


def rows(facts: Facts) -> Rows[Row]:
    return compare(CompareRequest(facts=facts, model=MODEL, systems=("mybox", "h100"), train=JOB, chips=16)).rows


def test_a_copy_of_a_chip_answers_like_the_chip(tmp_path: Path) -> None:
    facts = load_facts((lay(tmp_path / "f"),))
    mine, h100 = rows(facts)
    assert mine.system_id == "mybox"
    assert mine.step_s.value == h100.step_s.value
    assert mine.plan == h100.plan
    assert mine.usd_per_mtok.value is None


@settings(max_examples=12, deadline=None)
@given(st.floats(1.0, 20.0), st.floats(0.1, 50.0))
def test_the_overlays_numbers_are_the_ones_used(hbm: float, price: float) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        lay(root, hbm_TBps=hbm, price=price)
        shutil.move(root / "over", root.with_name(root.name + "-over"))
        facts = load_facts((root, root.with_name(root.name + "-over")))
        assert resolve(facts, "mybox").hbm_Bps == pytest.approx(hbm * 1e12)
        mine, h100 = rows(facts)
        assert mine.step_s.value is not None
        assert h100.step_s.value is not None
        slower = resolve(facts, "h100").hbm_Bps > hbm * 1e12
        assert (
            mine.step_s.value >= h100.step_s.value * (1 - 1e-9)
            if slower
            else mine.step_s.value <= h100.step_s.value * (1 + 1e-9)
        )
        by_hand = 16 * price / 3600 * mine.step_s.value / (mine.global_batch_seqs * 4096 * mine.goodput.value) * 1e6  # type: ignore[operator]
        assert mine.usd_per_mtok.value == pytest.approx(by_hand)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(root.with_name(root.name + "-over"), ignore_errors=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("memory:\n  hbm_capacity: {value: 144}\n", "144 has no unit"),
        ('memory:\n  hbm_capacty: {value: "144 GiB"}\n', "did you mean 'chips.trainium3.memory.hbm_capacity'?"),
        ('memory:\n  hbm_capacity: {value: "144 GiB", sorce: mine}\n', "unknown key 'sorce'"),
        ('memory:\n  hbm_usable: {value: "-5 GiB"}\n', "must be above 0"),
        ('memory:\n  hbm_bandwidth: {value: "0 TB/s"}\n', "must be above 0"),
        ('memory:\n  hbm_bandwidth: {value: "nan TB/s"}\n', "not a quantity"),
        ("memory:\n  - [x\n", "not YAML"),
        ("- a\n", "a fact file is a mapping"),
    ],
)
def test_a_wrong_overlay_is_refused_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "trainium3.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_facts((tmp_path,))
    assert said in error.value.line()
    assert f"{tmp_path / 'chips' / 'trainium3.yaml'}:" in error.value.line()


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "trainium3.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        load_facts((tmp_path,))
