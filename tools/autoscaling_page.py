"""Writes docs/records/autoscaling.md between its marks, and docs/images/autoscaling.svg: a day under four rules, with the regret of
each. Run by `make docs`; it plays the day some 20 times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pages import write

import mowich
from mowich.units import sig

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "records" / "autoscaling.md"
PICTURE = ROOT / "docs" / "images" / "autoscaling.svg"
SCENARIO = ROOT / "scenarios" / "day-burst.yaml"
MARKS = ("<!-- day -->", "<!-- end -->")
HOURS = (14.5, 16.5)
"""Of the day, that the picture shows."""

WIDE, HIGH, LEFT, TOP = 760, 250, 46, 24
COLOURS = {"wanted": "#d08020", "serving": "#2060a0", "paid": "#777777", "requests inside": "#bbd0e6"}


def table(scaling: Mapping[str, Any]) -> str:
    """The rules, and what the first is compared with."""
    lines = [
        "| rule | within the SLO | chip-hours | $ | TTFT p99 | ordered | regret |",
        "|--|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| `{r['by']}` | {r['goodput_frac']:.1%} | {r['chip_hours']:.1f} | {r['usd']:.0f} | {r['ttft_p99_s']:.2f} s |"
        f" {r['scale_ups']} | {r['regret_frac']:.1%} |"
        for r in scaling["rules"]
    ]
    regret, names = scaling["regret"], {"constant": "best constant number", "hindsight": "best in hindsight"}
    for key, name in (names | {"known_rate": "`sla`, rate known"}).items():
        one = regret[key]
        number = f" ({one['replicas'][0]})" if "replicas" in one else ""
        lines.append(
            f"| {name}{number} | {one['goodput_frac']:.1%} | {one['chip_hours']:.1f} | {one['usd']:.0f} | | | |"
        )
    worst = min(scaling["hours"], key=lambda hour: hour["goodput_frac"])
    lines += [
        "",
        f"The last three lines are beside `{scaling['rules'][0]['by']}`, whose worst hour begins at"
        f" {worst['from_s'] / 3600:.0f} h: {worst['goodput_frac']:.0%} of its requests within the SLO. It paid"
        f" {sig(regret['chip_hours'])} chip-hours more than the best in hindsight.",
    ]
    return "\n".join(lines)


def svg(looks: Sequence[Mapping[str, float]]) -> str:
    """Requests inside as an area, replicas wanted, serving and paid as steps."""
    first, last = HOURS
    some = [look for look in looks if first <= look["at_s"] / 3600.0 <= last]
    top, most = max(look["paid"] for look in some), max(look["inside"] for look in some)

    def x(at_s: float) -> float:
        return LEFT + (WIDE - LEFT - 20) * (at_s / 3600.0 - first) / (last - first)

    def y(share: float) -> float:
        return TOP + (HIGH - TOP - 60) * (1.0 - share)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDE}" height="{HIGH}" fill="white"/>',
    ]
    for n in range(int(top) + 1):
        out.append(f'<line x1="{LEFT}" x2="{WIDE - 20}" y1="{y(n / top):.1f}" y2="{y(n / top):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y(n / top) + 4:.1f}" text-anchor="end">{n}</text>')
    for i in range(5):
        hour = first + (last - first) * i / 4
        out.append(f'<text x="{x(hour * 3600):.0f}" y="{y(0) + 16:.0f}" text-anchor="middle">{hour:g} h</text>')
    area = " ".join(f"{x(look['at_s']):.1f},{y(look['inside'] / most):.1f}" for look in some)
    ends = f"{x(some[0]['at_s']):.1f},{y(0):.1f} {area} {x(some[-1]['at_s']):.1f},{y(0):.1f}"
    out.append(f'<polygon points="{ends}" fill="{COLOURS["requests inside"]}" stroke="none"/>')
    for name, key in (("paid", "paid"), ("wanted", "wanted"), ("serving", "up")):
        points, before = [], None
        for look in some:
            if before is not None:
                points.append(f"{x(look['at_s']):.1f},{y(before / top):.1f}")
            before = look[key]
            points.append(f"{x(look['at_s']):.1f},{y(before / top):.1f}")
        dash = ' stroke-dasharray="4"' if name == "wanted" else ""
        line = f'fill="none" stroke="{COLOURS[name]}" stroke-width="2"{dash}'
        out.append(f'<polyline points="{" ".join(points)}" {line}/>')
    at = float(LEFT)
    for name, colour in COLOURS.items():
        words = f"{name} ({most:.0f} at most)" if name == "requests inside" else f"replicas {name}"
        out.append(
            f'<line x1="{at}" x2="{at + 20}" y1="{HIGH - 14}" y2="{HIGH - 14}" stroke="{colour}" stroke-width="4"/>'
        )
        out.append(f'<text x="{at + 26}" y="{HIGH - 10}">{words}</text>')
        at += 26 + 6.2 * len(words) + 22
    return "\n".join([*out, "</svg>"]) + "\n"


def pages() -> dict[Path, str]:
    """The page and its picture."""
    scaling: Any = mowich.traffic(SCENARIO, draws=0).scaling
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    text = f"{before}{MARKS[0]}\n{table(scaling)}\n{MARKS[1]}{after}"
    return {PAGE: text, PICTURE: svg(scaling["pools"]["replica"]["timeline"])}


if __name__ == "__main__":
    write(pages())
