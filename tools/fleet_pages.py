"""What the pages docs/fleet-*.md rest on: the speeds beside each scenario, and the charts of `mowich report` drawn by a
headless browser and kept as SVG.

`python tools/fleet_pages.py` predicts the speeds anew (seconds) and writes scenarios/SCENARIO.rates.json, then draws
the charts whose numbers have moved; `--speeds` stops before the charts. The text of the pages is output of their
commands: `tools/documents.py` renews it.

The charts need Chromium (Debian: apt-get install chromium). Each file ends in a digest of the numbers that it was drawn
from, so that a test can tell without a browser whether it is current (`drawn_from`).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mowich import facts
from mowich.facts import Facts
from mowich.fleets.problem import TaskRates, read_rates, write_rates
from mowich.fleets.read import read_problem
from mowich.requests.scenarios import FleetRequest
from mowich.show.render.html import render_html
from mowich.show.verbs import page_of
from mowich.studies.fleet import fleet, predicted_rates

ROOT = Path(__file__).resolve().parents[1]

PICTURES = {
    "startup": {0: "chips", 4: "draws"},
    "lab-100mw": {0: "chips", 2: "work"},
    "rainier": {0: "chips", 2: "work", 4: "draws"},
    "trainium-tenants": {},
}
"""Scenario -> {place of the chart in its report: name}; none where its page has no pictures."""

DRAWS = 100
"""As the pages ask for."""

CLOSE = 1e-6
"""Speeds this close, relative, are the same: sums of floats come out otherwise on another machine."""

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


def scenario(name: str) -> Path:
    """The file of a scenario that has a page."""
    return ROOT / "scenarios" / f"{name}.yaml"


def speeds_file(name: str) -> Path:
    """Where its speeds are kept."""
    return ROOT / "scenarios" / f"{name}.rates.json"


def predicted(name: str, known: Facts) -> TaskRates:
    """The speeds of a scenario as `mowich plan` gives them now."""
    return predicted_rates(read_problem(scenario(name), known), known)


def moved(kept: TaskRates, now: TaskRates) -> list[str]:
    """Speeds that are not what they were, in words: "assistant on trn3: 180.3, now 174.8"."""
    out = []
    for key in sorted({*kept, *now}):
        was, is_now = (r[key].tokens_per_s_per_chip if key in r else None for r in (kept, now))
        pairs = [(getattr(was, end, None), getattr(is_now, end, None)) for end in ("value", "low", "high")]
        if any(a != b and (a is None or b is None or not math.isclose(a, b, rel_tol=CLOSE)) for a, b in pairs):
            said = ["?" if x is None or x.value is None else f"{x.value:.4g}" for x in (was, is_now)]
            out.append(f"{key[0]} on {key[1]}: {said[0]}, now {said[1]}")
    return out


def renew_speeds(name: str, known: Facts) -> list[str]:
    """Write the speeds of a scenario with the facts that they come from -> what moved. Numbers that only rounding moves
    stay."""
    file, now = speeds_file(name), predicted(name, known)
    kept, _ = read_rates(file)
    changed = moved(kept, now)
    write_rates(file, now if changed else kept, facts_hash=known.hash())
    return changed


def _plain(node: Any) -> Any:
    """Numbers as six digits, so that the last bits of a float do not count."""
    if isinstance(node, Mapping):
        return {str(k): _plain(v) for k, v in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(v) for v in node]
    return f"{round(node, 6) + 0.0:.6g}" if isinstance(node, float) else node


def drawn_from(result: Mapping[str, Any]) -> list[str]:
    """A digest of the numbers of each chart of a report of a fleet, in order."""
    charts = page_of(result).charts
    return [
        hashlib.sha256(json.dumps(_plain(chart.option), sort_keys=True).encode()).hexdigest()[:12] for chart in charts
    ]


def pictures(name: str) -> dict[int, Path]:
    """Place of a chart in the report -> its file."""
    return {place: ROOT / "docs" / "images" / f"fleet-{name}-{what}.svg" for place, what in PICTURES[name].items()}


def answer(name: str, known: Facts) -> dict[str, object]:
    """The result that the charts show."""
    draws = DRAWS if "draws" in PICTURES[name].values() else 0
    return fleet(FleetRequest(facts=known, scenario=scenario(name), draws=draws)).to_dict()


def is_current(picture: Path, digest: str) -> bool:
    """Whether a picture was drawn from these numbers."""
    return picture.is_file() and picture.read_text(encoding="utf-8").rstrip().endswith(f"<!-- {digest} -->")


def main() -> None:
    """Renew scenarios/SCENARIO.rates.json and docs/images/fleet-SCENARIO-NAME.svg."""
    known = facts.load_facts()
    for name in PICTURES:
        for line in renew_speeds(name, known):
            print(f"{name}: {line}", file=sys.stderr)
        if "--speeds" in sys.argv:
            continue
        result = answer(name, known)
        digests = drawn_from(result)
        stale = {place: file for place, file in pictures(name).items() if not is_current(file, digests[place])}
        drawn = svgs(render_html(result)) if stale else []
        for place, file in stale.items():
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"{drawn[place]}<!-- {digests[place]} -->\n", encoding="utf-8")
            print(file.relative_to(ROOT), file=sys.stderr)


if __name__ == "__main__":
    main()
