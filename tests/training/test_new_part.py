"""A part of a layer is three edits: its law, what a layer has of it, its row. A newcomer's task, played in a copy of
the package with what docs/project/architecture.md tells: steps, notes, `explain` and pages have the part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from newcomers import copy_of_package, run_copy

LAW = '''

def rotary_s(t: Floats, width: Floats, B: Floats | float) -> Floats:
    """Seconds of the rotary embedding.

    T = 4 * t * width / B

    Units: B bytes/s.
    """
    return np.asarray(4.0 * t * width / B)
'''
OF_A_LAYER = '''def rotated_s(of: LayerWork) -> Floats:
    """Seconds of the rotary embedding of a layer."""
    a = of.layer.attention
    return told(of.notes, "rotary", rotary_s, note="forward, one layer")(
        t=of.share.tokens, width=float(a.q_width + a.kv_width) / of.p.tp, B=of.rates.B
    )


def accumulated_s('''
ROW = '''    StepPart(
        "rotary",
        "rotary embedding",
        "memory",
        binds="hbm bandwidth",
        binds_pass="passes over memory",
        law=Computed(forward=rotated_s, times=("rotations", lambda _: backward_times("stream"))),
    ),
    StepPart("head"'''

EDITS = {
    "operators/law.py": [("", LAW)],
    "training/layer.py": [("def accumulated_s(", OF_A_LAYER), ("    passes,\n", "    passes,\n    rotary_s,\n")],
    "training/parts.py": [
        ('    StepPart("head"', ROW),
        ("    quantised_s,\n", "    quantised_s,\n    rotated_s,\n"),
    ],
}
"""File -> (what stands there, what stands there then); "" is the end."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the part."""
    assert len(EDITS) == 3
    package = copy_of_package(tmp_path_factory.mktemp("newcomer"), EDITS)
    for name, edits in EDITS.items():
        file = package / name
        text = file.read_text(encoding="utf-8")
        for old, new in edits:
            assert old in text, (name, old)
            text = text.replace(old, new, 1) if old else text + new
        file.write_text(text, encoding="utf-8")
    return package


pytestmark = pytest.mark.slow  # a copy of the package compiles itself

JOB = ("llama-3.1-8b", "--train", "--tokens", "1T", "--seq", "4096", "--batch", "256seqs", "--chips", "64")
COMPARED = ("-m", "mowich", "compare", *JOB, "--on", "trn3,h100")


def test_steps_have_the_part_and_say_why(tree: Path) -> None:
    run_copy(tree, *COMPARED, "--json", "--out", "a.json")
    rows = json.loads((tree.parent / "a.json").read_text(encoding="utf-8"))["rows"]
    assert all(0.0 < row["step_s"]["breakdown"]["rotary"] < 0.1 * row["step_s"]["value"] for row in rows)
    found = json.loads(run_copy(tree, "-m", "mowich", "explain", "a.json", "trn3.step_s.rotary", "--json"))
    assert any(term["name"].startswith("rotary x") and "width" in term["formula"] for term in found["terms"])
    assert any("hbm_bandwidth" in json.dumps(one) for one in (*found["facts"], *found["terms"]))


def test_the_page_names_the_part(tree: Path) -> None:
    run_copy(tree, *COMPARED, "--json", "--out", "b.json")
    run_copy(tree, "-m", "mowich", "report", "b.json", "--html", "b.html")
    assert "rotary embedding" in (tree.parent / "b.html").read_text(encoding="utf-8")
