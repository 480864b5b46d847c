"""Pictures of docs/fleet-*.md: the charts of `mowich report`, drawn by a headless browser and kept as SVG. `python benchmarks/fleet_plots.py`

Needs Chromium (Debian: apt-get install chromium). The numbers are those of the scenario with its own file of speeds.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mowich.api import fleet
from mowich.report.html import render

ROOT = Path(__file__).resolve().parents[1]

PICTURES = {"startup": {0: "chips", 4: "draws"}, "lab-100mw": {0: "chips", 2: "work"}, "rainier": {0: "chips", 2: "work", 4: "draws"}}
"""Scenario -> {place of the chart in its report: name}."""

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--virtual-time-budget=4000", "--window-size=1100,3000")


def svgs(page: str) -> list[str]:
    """The charts of a report, in order, as standalone SVG."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise SystemExit("Chromium is needed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(page, encoding="utf-8")
        done = subprocess.run([browser, *FLAGS, f"--user-data-dir={folder}/profile", "--dump-dom", file.as_uri()], check=True, capture_output=True, text=True)
    found = re.findall(r"<svg.*?</svg>", done.stdout, flags=re.DOTALL)
    return [re.sub(r'style="[^"]*"', 'style="background:#fff"', svg, count=1) for svg in found]


def main() -> None:
    """Write docs/images/fleet-SCENARIO-NAME.svg."""
    folder = ROOT / "docs" / "images"
    folder.mkdir(exist_ok=True)
    for name, wanted in PICTURES.items():
        drawn = svgs(render(fleet(ROOT / "scenarios" / f"{name}.yaml", draws=100, flips=True).to_dict()))
        for place, what in wanted.items():
            (folder / f"fleet-{name}-{what}.svg").write_text(drawn[place], encoding="utf-8")
            print(f"docs/images/fleet-{name}-{what}.svg", file=sys.stderr)


if __name__ == "__main__":
    main()
