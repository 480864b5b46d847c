"""Run, profile and diff of a kernel are answers with a page, which all four renderers draw."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from mowich import cli
from mowich.facts import Facts
from mowich.show.render.csv import csv_of
from mowich.show.render.html import render_html
from mowich.show.render.notebook import html, text
from mowich.show.render.terminal import Style, terminal
from mowich.show.verbs import PAGES, page_of
from mowich.shown import Shown
from mowich.studies.fact_labels import kernel_label

SOFTMAX = str(Path(__file__).resolve().parents[2] / "kernels" / "softmax.py")
OF = ("-k", "softmax", "x=float32[256,1000]", "--target", "trn2")
ASKED = {
    "mowich/kernel-run@1": ("kernel", "run", SOFTMAX, *OF),
    "mowich/kernel@1": ("kernel", "profile", SOFTMAX, *OF),
    "mowich/kernel-diff@1": ("kernel", "diff", SOFTMAX, SOFTMAX, *OF),
}


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.run(list(words)) == 0
    return capsys.readouterr().out


class Kept(Shown):
    """A result that is its JSON."""

    def __init__(self, data: dict[str, object]) -> None:
        self.data = data

    def to_dict(self) -> dict[str, object]:
        return self.data


@pytest.mark.parametrize("schema", ASKED)
def test_the_answer_has_one_page_that_every_renderer_draws(
    schema: str, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the verb prints is the page of its JSON; HTML, notebook and CSV draw the same page."""
    assert schema in PAGES
    data = json.loads(said(capsys, *ASKED[schema], "--json"))
    assert data["schema"] == schema
    page = page_of(data)
    printed = said(capsys, *ASKED[schema], "--plain")
    assert printed == terminal(page, Style(fold=False, unicode=False))
    assert said(capsys, *ASKED[schema], "--csv") == csv_of(page)
    rows = list(csv.DictReader(io.StringIO(csv_of(page))))
    assert len(rows) == len(page.records) > 0
    document, frame = render_html(data, facts=facts), html(Kept(data))
    for table in page.tables:
        assert table.title in document
    assert page.tables[0].title in frame
    assert page.headline in document.replace("&#x27;", "'")
    assert text(Kept(data)) + "\n" == terminal(page, Style(fold=False))


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("schema", ASKED)
def test_no_width_loses_a_word(schema: str, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Causes, remedies and statements that have no room in the table stand below it."""
    data = json.loads(said(capsys, *ASKED[schema], "--json"))
    out = " ".join(terminal(page_of(data), Style(width=width)).split())
    together = "".join(out.split())
    wanted = [row[key] for row in data.get("top", ()) for key in ("cause", "remedy")]
    wanted += [row["text"] for row in data.get("lines", ())]
    wanted += [f"{row['dtype']}{row['shape']}" for row in data.get("outputs", ())]
    assert wanted
    for words in wanted:
        assert "".join(words.split()) in together, (words, out)


def test_a_profile_says_all_that_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(said(capsys, *ASKED["mowich/kernel@1"], "--json"))
    out = said(capsys, *ASKED["mowich/kernel@1"], "--path")
    assert f"MFU {data['mfu']:.1%}, MBU {data['mbu']:.1%}" in out
    assert f"SBUF {data['sbuf_peak_B']:,} B of a partition, PSUM {data['psum_peak_banks']} banks" in out
    assert "rests on estimated constants (grade D)" in out
    for fact in data["time_s"]["breakdown"]:
        assert kernel_label(fact) in out
        assert fact not in out  # words, no keys
    for name, engine in data["engines"].items():
        assert (f"\n  {name} " in out) == bool(engine["instructions"])
    assert "critical path" not in said(capsys, *ASKED["mowich/kernel@1"])


def test_spills_are_told_with_their_policy() -> None:
    from mowich.show.kernel import _spills

    assert _spills({"spill_B": 0}) == []
    assert _spills({"spill_B": 2048, "spill_policy": "farthest"}) == [
        "spills: 2,048 bytes stored and reloaded, as live tiles exceed SBUF (farthest)"
    ]


def test_what_is_kept_can_be_explained_and_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    kept = tmp_path / "k.json"
    said(capsys, *ASKED["mowich/kernel@1"], "--out", str(kept))
    assert "latency of the kernel" in said(capsys, "explain", str(kept), "time_s")
    said(capsys, "report", str(kept), "--html", str(tmp_path / "k.html"), "-q")
    assert "Lines that cost most" in (tmp_path / "k.html").read_text(encoding="utf-8")


def test_values_that_are_no_numbers_are_shown_and_are_null_in_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import numpy as np

    np.save(tmp_path / "x.npy", np.full((128, 64), np.nan, np.float32))
    words = ("kernel", "run", SOFTMAX, "-k", "softmax", f"x={tmp_path}/x.npy", "--target", "trn2", "-q")
    assert json.loads(said(capsys, *words, "--json"))["outputs"][0]["max"] is None
    assert " nan " in said(capsys, *words)
