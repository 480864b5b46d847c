"""Answers and pictures of docs/fleet-*.md: what `mowich fleet` prints, and the charts of `mowich report` drawn by a headless browser and kept as SVG.

`python benchmarks/fleet_pages.py` renews them; `--speeds` predicts the speeds again first.

Needs Chromium (Debian: apt-get install chromium). The numbers are those of the scenario with its own file of speeds.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mowich import facts
from mowich.fleets.problem import write_rates
from mowich.report.fleet import fleet_text
from mowich.report.html import render
from mowich.report.table import Style
from mowich.studies.fleet import fleet

ROOT = Path(__file__).resolve().parents[1]

PICTURES = {
    "startup": {0: "chips", 4: "draws"},
    "lab-100mw": {0: "chips", 2: "work"},
    "rainier": {0: "chips", 2: "work", 4: "draws"},
}
"""Scenario -> {place of the chart in its report: name}."""

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--virtual-time-budget=4000",
    "--window-size=1100,3000",
)


def svgs(page: str) -> list[str]:
    """The charts of a report, in order, as standalone SVG."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise SystemExit("Chromium is needed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(page, encoding="utf-8")
        done = subprocess.run(
            [browser, *FLAGS, f"--user-data-dir={folder}/profile", "--dump-dom", file.as_uri()],
            check=True,
            capture_output=True,
            text=True,
        )
    found = re.findall(r"<svg.*?</svg>", done.stdout, flags=re.DOTALL)
    return [re.sub(r'style="[^"]*"', 'style="background:#fff"', svg, count=1) for svg in found]


def shown(text: str) -> str:
    """The part of a report that a page shows: all but the speeds, which stand in the file."""
    return text[: text.index("  Speeds that")].rstrip()


def main() -> None:
    """Renew docs/fleet-SCENARIO.md, docs/images/fleet-SCENARIO-NAME.svg and, with --speeds, scenarios/SCENARIO.rates.json."""
    folder = ROOT / "docs" / "images"
    folder.mkdir(exist_ok=True)
    known = facts.load()
    for name, wanted in PICTURES.items():
        speeds = ROOT / "scenarios" / f"{name}.rates.json"
        if "--speeds" in sys.argv:
            speeds.write_text('{"schema": "mowich/rates@1", "facts_hash": "", "rates": []}', encoding="utf-8")
        result = fleet(ROOT / "scenarios" / f"{name}.yaml", known, draws=100, with_flips=True)
        write_rates(speeds, result.rates, facts_hash=known.hash())
        page = ROOT / "docs" / f"fleet-{name}.md"
        text = re.sub(rf"<!-- fleet {name} -->\n(```text\n.*?```\n)?", lambda _, n=name, r=result: f"<!-- fleet {n} -->\n```text\n{shown(fleet_text(r, Style()))}\n```\n",  # type: ignore[misc]
                      page.read_text(encoding="utf-8"), flags=re.DOTALL)  # fmt: skip
        page.write_text(text, encoding="utf-8")
        drawn = svgs(render(result.to_dict()))
        for place, what in wanted.items():
            (folder / f"fleet-{name}-{what}.svg").write_text(drawn[place], encoding="utf-8")
        print(f"docs/fleet-{name}.md", file=sys.stderr)


if __name__ == "__main__":
    main()
