"""HTML reports: one offline file for each kind of result, with the numbers of the result in it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import mowich
from mowich import cli
from mowich.errors import UserError
from mowich.report.html import PAGES, render

TRAIN = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}


class Reader(HTMLParser):
    """Collects what a page refers to, its text and its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text: list[str] = []
        self.options = ""
        self._in = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = "options" if ("id", "options") in attrs else tag
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "action", "data")]

    def handle_data(self, data: str) -> None:
        if self._in == "options":
            self.options += data
        elif self._in not in ("script", "style"):
            self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


@pytest.fixture(scope="module")
def compared() -> dict[str, object]:
    return mowich.compare("llama-3.1-8b", ["trn3:64", "h100:64"], train=TRAIN).to_dict()


def test_a_comparison_is_one_offline_file(compared: dict[str, object]) -> None:
    page = read(render(compared))
    assert page.links == []  # nothing is fetched
    text = " ".join(page.text)
    assert "Fastest: " in text
    assert "trn3:64" in text
    options = json.loads(page.options)
    assert len(options) >= 3
    assert all(option["aria"]["enabled"] for option in options)


def test_numbers_of_the_page_are_those_of_the_result(compared: dict[str, object]) -> None:
    page = read(render(compared))
    bars = json.loads(page.options)[0]
    total = sum(series["data"][0] for series in bars["series"])
    assert total == pytest.approx(compared["rows"][0]["step_s"]["value"])  # type: ignore[index]


def test_words_of_a_result_cannot_become_code(compared: dict[str, object]) -> None:
    hostile = json.loads(json.dumps(compared))
    hostile["inputs"]["model"] = hostile["warnings"] = ["</script><script>alert(1)</script>"]
    hostile["rows"][0]["system"] = "</script><img src=x onerror=alert(1)>"
    page = render(hostile)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("</script>") == 3


def test_other_results(tmp_path: Path) -> None:
    plans = mowich.plan("llama-3.1-8b", "trn3:64", train=TRAIN, top=3).to_dict()
    assert "Fastest: plan 1" in " ".join(read(render(plans)).text)
    assert "median error" in render(mowich.validate().to_dict())
    with pytest.raises(UserError, match="no report for this kind of result"):
        render({"schema": "mowich/facts@1"})
    assert all(re.fullmatch(r"mowich/[a-z]+@1", schema) for schema in PAGES)


ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            ("kernel", "profile", str(ROOT / "kernels" / "matmul.py"), "-k", "matmul", "--target", "trn2"),
            "engine works most",
        ),
        (("traffic", str(ROOT / "scenarios" / "chat-llama-70b.yaml")), "of requests meet the limits"),
    ],
)
def test_pages_of_kernels_and_traffic(args: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*args, "--json", "--quiet"]) == 0
    page = read(render(json.loads(capsys.readouterr().out)))
    assert says in " ".join(page.text)
    assert len(json.loads(page.options)) >= 2


def test_the_verb(tmp_path: Path, compared: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "r.json"
    saved.write_text(json.dumps(compared))
    assert cli.run(["report", str(saved)]) == 0
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    saved.write_text('{"schema": "mowich/compare@1"}')
    assert cli.run(["report", str(saved)]) == 2
    assert "not a whole result" in capsys.readouterr().err
    assert cli.run(["report", str(tmp_path / "none.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_serving_results_have_their_own_page() -> None:
    serve = {"isl": "2k", "osl": "500", "ttft": "2s", "tpot": "50ms"}
    made = mowich.plan("llama-3.1-8b", "h100:8", serve=serve, top=2).to_dict()
    page = read(render(made))
    text = " ".join(page.text)
    assert "Cheapest: plan 1" in text
    assert "Front, fastest user to cheapest token" in text
    options = json.loads(page.options)
    front = next(o for o in options if o["xAxis"].get("name") == "tokens/s per user")
    assert len(front["series"][0]["data"]) == len(made["front"])  # type: ignore[arg-type]
    both = mowich.compare("llama-3.1-8b", ["h100:8", "trn2:4", "h100:1"], serve={**serve, "tpot": "8ms"}).to_dict()
    text = " ".join(read(render(json.loads(json.dumps(both)))).text)
    assert "TPOT limit" in text
    assert "trn2:4" in text
    nothing = mowich.plan("llama-3.1-405b", "h100:1", serve=serve).to_dict()
    assert "Nothing fits." in " ".join(read(render(nothing)).text)
