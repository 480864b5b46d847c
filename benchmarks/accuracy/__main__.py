"""Asks every tool the same published rows, scores the answers and writes docs/records/accuracy-peers.md.

python -m benchmarks.accuracy [--truth DIR]                  from kept answers
python -m benchmarks.accuracy --renew TOOL [--renew TOOL]    ask these tools again and keep what they say
python -m benchmarks.accuracy --draw                         draw the sample anew (all tools must be asked again)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy import rows
from benchmarks.accuracy.page import page
from benchmarks.accuracy.run import Answered, Tool, ask, keep, kept

PAGE = rows.ROOT / "docs" / "records" / "accuracy-peers.md"


def environment(name: str) -> str:
    """The interpreter of an environment that `make` puts beside the project's; "" where there is none."""
    file = rows.ROOT / f".venv-peers-{name}" / "bin" / "python"
    return str(file) if file.is_file() else ""


def tools_of(options: argparse.Namespace) -> list[Tool]:
    """The tools, in the order of the page."""
    return [
        Tool(file="mowich", title="Mowich"),
        Tool(
            file="aiconfigurator",
            title="AIConfigurator",
            python=options.aiconfigurator or environment("aiconfigurator"),
            is_ready=bool(options.aiconfigurator or environment("aiconfigurator")),
        ),
        Tool(
            file="calculon",
            title="Calculon",
            python=environment("training"),
            folder=options.calculon,
            is_ready=bool(options.calculon),
        ),
        Tool(
            file="simumax",
            title="SimuMax",
            python=environment("training"),
            folder=options.simumax,
            is_ready=bool(options.simumax),
        ),
        Tool(file="roofline", title="roofline (a bound)"),
        Tool(file="llmservingsim", title="LLMServingSim 2"),
        Tool(file="aisimulate", title="AISimulate"),
    ]


def answers(tools: Sequence[Tool], asked: Sequence[rows.Asked], renew: Sequence[str], truth: Path) -> list[Answered]:
    """Of every tool what it says now, where it is to be renewed, else what is kept."""
    out = []
    for tool in tools:
        if tool.file in renew or "all" in renew:
            if tool.is_ready:
                found = ask(tool, asked, truth)
                print(f"{tool.title} {found.version}: {len(found.answers)} rows answered, kept in {keep(found).name}")
            else:
                print(f"{tool.title}: not installed here, so the kept answers stand")
        known = kept(tool.file)
        if known is None:
            print(f"{tool.title}: no kept answers, left out")
        else:
            out.append(known)
    return out


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--truth", type=Path, default=rows.TRUTH, help="folder of the published rows")
    parser.add_argument("--renew", action="append", default=[], metavar="TOOL", help="ask it again; `all`: every tool")
    parser.add_argument("--draw", action="store_true", help="draw the sample anew")
    parser.add_argument("--aiconfigurator", default="", metavar="PYTHON", help="an interpreter that has it")
    parser.add_argument("--calculon", default="", metavar="DIR", help="a checkout")
    parser.add_argument("--simumax", default="", metavar="DIR", help="a checkout")
    options = parser.parse_args(given)
    missing = [name for name in rows.TABLES.values() if not (options.truth / name).is_file()]
    if missing:
        print(f"skipped: {options.truth} has no {missing[0]}; --truth DIR names the folder of the published rows")
        return 0
    tools = tools_of(options)
    wrong = [name for name in options.renew if name not in {"all", *(tool.file for tool in tools)}]
    if wrong:
        parser.error(f"--renew: no tool '{wrong[0]}'; allowed: all, {', '.join(tool.file for tool in tools)}")
    if options.draw:
        rows.draw(options.truth)
    asked = rows.read(options.truth)
    found = answers(tools, asked, options.renew, options.truth)
    published = sum(len(rows.cells_of(options.truth, table)) for table in rows.TABLES)
    PAGE.write_text(page(asked, found, tools, published), encoding="utf-8")
    print(f"{PAGE.relative_to(rows.ROOT)}: {len(asked)} rows, {len(found)} tools")
    return 0


if __name__ == "__main__":
    sys.exit(main())
