"""The page of a kernel's profile: it draws what the clock says, fetches nothing, and no text of a kernel is markup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich import cli
from mowich.neuroncore.profile import Profile, union
from mowich.nki import hollow
from mowich.show import lanes

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def several(x: Any) -> Any:
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for i in nl.affine_range(x.shape[0] // 128):
        t = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        u = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=x[128 * i : 128 * i + 128])
        nisa.activation(dst=u, op=nl.exp, data=t)
        nisa.tensor_tensor(dst=u, data1=u, data2=t, op=nl.add)
        nisa.dma_copy(dst=out[128 * i : 128 * i + 128], src=u)
    return out


def paired(x: Any) -> Any:
    other = 1 - nl.program_id(0)
    a, b = (nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf) for _ in range(2))
    nisa.dma_copy(dst=a, src=x)
    nisa.sendrecv(src=a, dst=b, send_to_rank=other, recv_from_rank=other, pipe_id=0)
    nisa.tensor_tensor(dst=a, data1=a, data2=b, op=nl.add)
    return x


def on_rings(x: Any) -> Any:
    for _ in range(6):
        a, b, c = (nl.ndarray((128, 512), nl.float32, nl.sbuf) for _ in range(3))
        nisa.dma_copy(dst=a, src=x[0:128], dge_mode=nisa.dge_mode.swdge)
        nisa.dma_copy(dst=b, src=x[128:256], dge_mode=nisa.dge_mode.none)
        nisa.dma_copy(dst=c, src=x[256:384], engine=nisa.engine.scalar)
        nisa.tensor_tensor(a, a, b, nl.add)
        nisa.tensor_tensor(a, a, c, nl.add, engine=nisa.engine.gpsimd)
        nisa.dma_copy(dst=x[0:128], src=a)
    return x


def profile_of(kernel: Any = several, shape: tuple[int, int] = (1024, 512), **how: Any) -> Profile:
    r = mowich.run_kernel(kernel, hollow(shape, "float32"), target="trn2", values=False, strict=False, **how)
    assert not isinstance(r, list)
    return r.profile


def of_page(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.mark.parametrize(("kernel", "shape", "lnc"), [(several, (1024, 512), 1), (paired, (128, 64), 2)])
def test_what_is_drawn_is_what_the_clock_says(kernel: Any, shape: tuple[int, int], lnc: int) -> None:
    p = profile_of(kernel, shape, lnc=lnc)
    s, d = p.schedule, of_page(lanes.render_lanes(p, "trn2"))
    n = len(p)
    assert (d["begin"], d["end"], d["id"]) == (list(s.begin), list(s.end), list(range(n)))
    assert d["window"] == ""
    assert (d["from"], d["to"]) == (0, s.total)
    assert [d["kinds"][k]["opcode"] for k in d["kind"]] == [k.opcode for k in p.cost]
    for i in range(n):
        lane = d["lanes"][d["lane"][i]]
        assert lane["core"] == s.core[i]
        assert (lane["kind"] == "ring") == bool(p.cost[i].transfer)
        at = i - s.offset[s.core[i]]
        program = s.programs[s.core[i]]
        mine = [
            4 * ((e >> 2) + s.offset[s.core[i]]) + (e & 3)
            for e in program.edges[program.first[at] : program.first[at + 1]]
        ]
        assert d["edges"][d["edgeFirst"][i] : d["edgeFirst"][i + 1]] == mine
        place = d["place"][i]
        file, line = p.site(i)
        assert (place < 0) == (not file)
        if file:
            assert d["sources"][d["places"][place][0]]["file"] == file
            assert d["places"][place][1] <= line
    assert sum(b - a for _, a, b, _ in d["path"]) == s.total
    for core in range(lnc):
        assert sum(x["kind"] == "dma" and x["core"] == core for x in d["lanes"]) == 16


@pytest.mark.parametrize(("kernel", "dmas"), [(several, 16), (on_rings, 24)])
def test_dmas_on_their_engines_are_those_of_the_clock(kernel: Any, dmas: int) -> None:
    p = profile_of(kernel)
    s, d = p.schedule, of_page(lanes.render_lanes(p, "trn2"))
    assert len(d["dma"]) == dmas
    busy: list[list[tuple[int, int]]] = [[] for _ in range(16)]
    for i, begins, times in d["dma"]:
        assert times == list(p.cost[i].transfer)
        ends = [b + t for b, t in zip(begins, times, strict=True) if b >= 0]
        assert max(ends) <= s.end[i]
        assert min(b for b in begins if b >= 0) == s.data[i]
        if not s.data_cause[i] or s.data_cause[i] == 7:  # not held up by HBM
            assert max(ends) == s.end[i]
        for e, b in enumerate(begins):
            if b >= 0:
                busy[e].append((b, b + times[e]))
    for spans in busy:
        assert union(spans) == sum(b - a for a, b in spans)  # one after the other


def test_times_of_lines_sum() -> None:
    p = profile_of()
    (source,) = of_page(lanes.render_lanes(p))["sources"]
    assert source["name"] == "test_lanes.py"
    assert sum(t[2] for t in source["time"]) <= p.schedule.total
    assert sum(t[2] for t in source["time"]) == pytest.approx(p.schedule.total, rel=0.2)
    text = dict(source["lines"])
    assert all(re.search(r"nisa\.", text[n]) for n, *_ in source["time"])


def test_a_long_kernel_has_a_named_window() -> None:
    p = profile_of(shape=(128 * 40, 64))
    page = lanes.render_lanes(p, "trn2", most=50)
    d = of_page(page)
    assert len(d["begin"]) == 50
    assert f"the 50 of {len(p)} instructions that begin from 0 s to" in d["window"]
    assert d["window"] in page.replace("&gt;", ">")
    half = p.total_s / 2
    later = of_page(lanes.render_lanes(p, "trn2", from_s=half, most=50))
    assert min(later["begin"]) >= half * 1e12 - 1
    assert len(later["begin"]) <= 50
    assert -1 in later["edges"]
    assert -2 in later["by"]
    for e in later["edges"]:
        assert e == -1 or 0 <= e >> 2 < len(later["begin"])
    none = of_page(lanes.render_lanes(p, "trn2", from_s=1.0))
    assert none["begin"] == []
    assert "no instruction begins at 1.00 s or later" in none["window"]


def test_20000_instructions_are_drawn_whole_and_more_are_not() -> None:
    few, many = profile_of(shape=(128 * 4900, 8)), profile_of(shape=(128 * 5100, 8))
    assert len(few) <= lanes.MOST < len(many)
    whole, cut = lanes.render_lanes(few), lanes.render_lanes(many)
    assert of_page(whole)["window"] == ""
    assert len(of_page(cut)["begin"]) == lanes.MOST
    assert len(whole) < 6e6


class Reader(HTMLParser):
    """Elements of a page, and what they would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "data", "srcset", "action")]


HOSTILE = """
import nki, nki.isa as nisa, nki.language as nl

@nki.jit
def evil(x):
    t = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=t, src=x); "</script><img src=x onerror=alert(1)>{{style}}<!--"
    nisa.activation(dst=t, op=nl.exp, data=t)  # "><script>alert(2)</script> &amp;
    return x
"""


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[str, Path]:
    file = tmp_path / "<b onclick=1>&'.py"
    file.write_text(HOSTILE)
    out = tmp_path / "page.html"
    assert (
        cli.run(
            ["kernel", "profile", str(file), "-k", "evil", "x=float32[128,64]", "--target", "trn2", "--html", str(out)]
        )
        == 0
    )
    return out.read_text(encoding="utf-8"), out


def test_no_text_of_a_kernel_becomes_markup_and_nothing_is_fetched(hostile: tuple[str, Path]) -> None:
    page, _ = hostile
    reader = Reader()
    reader.feed(page)
    assert reader.loads == []
    assert not {"img", "b onclick", "iframe", "link"} & set(reader.tags)
    assert reader.tags.count("script") == 2
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in page
    assert "</script><img" not in page
    text = "\n".join(t for _, t in of_page(page)["sources"][0]["lines"])
    assert text + "\n" == HOSTILE  # and it is all there


def test_the_script_takes_texts_as_texts() -> None:
    script = lanes.static("lanes.js")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|fetch\(|XMLHttp|import\(", script
    )


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "softmax.html"
    words = [
        "kernel",
        "profile",
        str(ROOT / "kernels" / "softmax.py"),
        "-k",
        "softmax",
        "x=float32[512,512]",
        "--target",
        "trn2",
    ]
    assert cli.run([*words, "--html", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    assert "<h1>softmax on trn2" in page
    assert "bytes through the DMA engines" in page
    assert cli.run([*words, "--html", str(out), "--html-from", "5us"]) == 0
    assert "A window: the" in out.read_text(encoding="utf-8")
    assert out.read_text(encoding="utf-8") != page
    capsys.readouterr()
    for more, said in (
        (["--html-from", "5us"], "--html-from goes with --html"),
        (["--html", str(out), "--html-from", "5"], "has no unit"),
        (["--html", str(tmp_path / "none" / "x.html")], "no such folder"),
    ):
        assert cli.run([*words, *more]) == 2
        assert said in capsys.readouterr().err


def test_same_profile_same_bytes() -> None:
    assert lanes.render_lanes(profile_of(), "trn2") == lanes.render_lanes(profile_of(), "trn2")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_draws_it_and_says_why_an_instruction_waited(hostile: tuple[str, Path], tmp_path: Path) -> None:
    p = profile_of()
    file = tmp_path / "several.html"
    file.write_text(lanes.render_lanes(p, "trn2"), encoding="utf-8")
    add = next(i for i, k in enumerate(p.cost) if k.opcode == "tensor_tensor")
    shown = _in_browser(file, f"#i{add}")
    assert 'data-drawn="' in shown
    assert f"#{add} tensor_tensor (test_lanes.py:" in shown
    assert "needs the result of" in shown
    assert "the semaphore between engines" in shown
    assert "<script>alert" not in _in_browser(hostile[1], "")
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in _in_browser(hostile[1], "")


def _in_browser(file: Path, place: str) -> str:
    assert CHROMIUM is not None
    words = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=2000",
        "--dump-dom",
        f"{file.as_uri()}{place}",
    ]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout


def test_numbers_of_numpy_do_not_reach_the_page() -> None:
    assert not any(isinstance(v, np.generic) for v in lanes.page_data(profile_of())["begin"])  # type: ignore[attr-defined]
