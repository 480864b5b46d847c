"""The first hour of five people who work from the wheel, in an empty folder: commands, the page, notebooks.

For each Python that is installed (3.11 to 3.14) the wheel goes into a fresh environment, with pip and what it needs.
Each person has at most two commands until the first useful answer, and two minutes of processor time for them. The
five hours of `first_hours.py` end with a decision that is worked out a second time.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import first_hours
import pytest
from first_hours import Hour, Said

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "docs" / "notebooks"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
MOST_S, TRIES = 120.0, 2
"""Processor seconds until the first useful answer, and commands."""

pytestmark = pytest.mark.slow


def _python(version: str) -> str | None:
    """A command that starts this Python; None where there is none."""
    found = shutil.which(f"python{version}")
    if found is None:
        return None
    works = subprocess.run([found, "-c", "import venv, ensurepip"], capture_output=True, check=False)
    return found if works.returncode == 0 else None


@dataclass(frozen=True)
class Desk:
    """An empty folder, and the environment beside it."""

    folder: Path
    bin: Path

    def said(self, *words: str) -> Said:
        """What a command ends with and prints."""
        made = subprocess.run(
            [str(self.bin / words[0]), *words[1:]],
            cwd=self.folder,
            env=_environment(self.bin),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=900,
            check=False,
        )
        return Said(made.returncode, made.stdout, made.stderr)

    def run(self, *words: str, code: int = 0) -> str:
        """What a command prints; it ends with this code."""
        said = self.said(*words)
        assert said.code == code, f"{' '.join(words)}\n{said.out[-2000:]}{said.err[-2000:]}"
        return said.out

    def read_frame(self, folder: str) -> list[dict[str, object]]:
        """Rows of a folder of Parquet, as pandas of this environment reads it."""
        code = f"import pandas; print(pandas.read_parquet({folder!r}).to_json(orient='records', double_precision=15))"
        found: list[dict[str, object]] = json.loads(self.run("python", "-c", code))
        return found

    def first_answer(self, useful: str, *tries: str) -> str:
        """What the last of the tries prints; it holds what is useful to the person."""
        assert len(tries) <= TRIES
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = ""
        for words in tries:
            said = self.run("mowich", *words.split())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MOST_S
        assert re.search(useful, said), f"{tries[-1]}\n{said}"
        return said


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of the checkout: no PYTHONPATH; one thread."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MOWICH_COLOUR", "VIRTUAL_ENV")}
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    return kept | threads | {"PATH": f"{folder}{os.pathsep}{kept.get('PATH', '')}"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    made = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return next(folder.glob("mowich-*.whl"))


@pytest.fixture(scope="module", params=VERSIONS)
def desk(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    python = _python(request.param)
    if python is None:
        pytest.skip(f"no Python {request.param} here")
    root = tmp_path_factory.mktemp(f"python{request.param.replace('.', '')}-")
    subprocess.run([python, "-m", "venv", str(root / "venv")], check=True)
    folder = root / "empty"
    folder.mkdir()
    found = Desk(folder, root / "venv" / ("Scripts" if os.name == "nt" else "bin"))
    found.run(
        "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[web,tables]", "pandas"
    )
    assert found.run("python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip() == request.param
    return found


def test_the_package_comes_from_the_wheel_with_its_kernels_and_scenarios(desk: Desk) -> None:
    where = desk.run("python", "-c", "import mowich; print(mowich.__file__)")
    assert "site-packages" in where
    listed = desk.run("mowich", "example")
    assert "mowich kernel run @softmax" in listed
    assert "rainier" in listed


def test_a_capacity_planner_learns_which_chip_and_how_many(desk: Desk) -> None:
    pasted = next(line.strip() for line in desk.run("mowich").splitlines() if line.strip().startswith("mowich compare"))
    said = desk.first_answer(r"^Cheapest: \S+, \$", pasted.removeprefix("mowich ") + " --out r.json")
    assert re.search(r"system .*\$/Mtok .*grade", said)
    load = "--serve --isl 2k --osl 200 --rate 5 --p99-ttft 2s --on h100,trn3"
    desk.first_answer(r"smallest", f"plan llama-3.1-8b {load}")
    assert "https://" in desk.run("mowich", "explain", "r.json", "trn3.step_s")
    desk.run("mowich", "report", "r.json", "--html", "r.html")
    assert "<table" in (desk.folder / "r.html").read_text(encoding="utf-8")
    assert "2028" in desk.run("mowich", "fleet", "startup", "--draws", "0")


def test_an_infrastructure_engineer_fits_a_model_and_carries_a_command_away(desk: Desk) -> None:
    config = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
    config |= {"num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256}
    config |= {"max_position_embeddings": 131072, "tie_word_embeddings": False}
    (desk.folder / "config.json").write_text(json.dumps(config))
    desk.first_answer(r"^Fits on \d", "fit config.json --serve --kv 32k --on trn3")
    plan = "plan config.json --serve --isl 2k --osl 200 --on h100:8 --set plan.mode=aggregated --emit vllm"
    assert "--max-model-len 2200" in desk.run("mowich", *plan.split())
    assert "trn3" in desk.run("mowich", "facts", "list", "systems")


def test_a_kernel_engineer_runs_and_times_a_kernel(desk: Desk) -> None:
    desk.first_answer(r"largest difference|max", "kernel run @matmul")
    desk.run("mowich", "example", "@softmax", "--copy", ".")
    said = desk.run("mowich", "kernel", "profile", "softmax.py", "-k", "softmax", "x=float32[256,512]")
    assert re.search(r"on trn3: .* us .*grade [ABCD]", said)


def test_a_researcher_sweeps_and_has_a_dataframe(desk: Desk) -> None:
    desk.first_answer(r"\d+ points, \d+ with a plan", "sweep sweep --jobs 1")
    code = (
        "import mowich; job = {'tokens': '1T', 'seq': 4096, 'batch': '256seqs'};"
        " table = mowich.compare('llama-3.1-8b', ['trn3', 'h100'], train=job, chips=64); print(table);"
        " frame = table.to_df(); print(type(frame).__module__, frame.shape[0]); table.to_parquet('t.parquet');"
        " print(table.plot('pareto').chart.title)"
    )
    said = desk.run("python", "-c", code)
    assert said.startswith("Cheapest: ") or "Fastest: " in said
    assert re.search(r"^pandas\S* 2$", said, re.MULTILINE)
    assert "Cost against time" in said
    assert (desk.folder / "t.parquet").stat().st_size > 100


def test_a_journalist_finds_a_verdict_and_a_number(desk: Desk) -> None:
    desk.first_answer(r"(?i)\bholds?\b", "claims 4.4x")
    assert "chips" in desk.run("mowich", "goodput", "--on", "trn3:1000000", "--days", "2", "--samples", "10")


HOURS = {
    "planner": lambda hour, desk: first_hours.planner(hour),
    "engineer": lambda hour, desk: first_hours.engineer(hour),
    "kernel engineer": lambda hour, desk: first_hours.kernel_engineer(hour),
    "researcher": lambda hour, desk: first_hours.researcher(hour, desk.read_frame),
    "journalist": lambda hour, desk: first_hours.journalist(hour),
}
"""Who -> the hour, with questions that judge its answers."""


@pytest.mark.parametrize("who", HOURS)
def test_an_hour_ends_with_the_right_decision(desk: Desk, who: str, tmp_path: Path) -> None:
    """Each command that the person types takes at most `MOST_S` of processor time; so do all of them together."""
    own = Desk(tmp_path, desk.bin)
    used: list[float] = []

    def ask(words: Sequence[str]) -> Said:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = own.said("mowich", *words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if "--json" not in words:  # those judge the answer
            used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return said

    HOURS[who](Hour(ask, tmp_path), own)
    assert math.fsum(used) < MOST_S, used


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
def test_a_notebook_runs_from_an_empty_folder(desk: Desk, name: str, tmp_path: Path) -> None:
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert "from kernels" not in source
    (tmp_path / "cells.py").write_text(source, encoding="utf-8")
    Desk(tmp_path, desk.bin).run("python", "cells.py")


@pytest.fixture
def page(desk: Desk) -> Iterator[str]:
    """The address of the page that the wheel serves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(desk.bin / "mowich"), "web", "--port", str(port), "--quiet"]
    server = subprocess.Popen(words, cwd=desk.folder, env=_environment(desk.bin))
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30).close()
                break
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def test_the_page_answers_with_all_that_it_names(page: str) -> None:
    with urllib.request.urlopen(page, timeout=60) as answer:
        text = answer.read().decode("utf-8")
        assert answer.status == 200
    named = re.findall(r'(?:src|href)="(/?[\w./-]+\.(?:js|css|svg|png|json))"', text)
    assert named
    for name in dict.fromkeys(named):
        with urllib.request.urlopen(f"{page}/{name.lstrip('/')}", timeout=60) as answer:
            assert answer.status == 200, name
