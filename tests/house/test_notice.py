"""What is bundled is named: its version, its notice, its licence, in the source and in the wheel."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "src" / "mowich" / "show" / "static"


def test_the_notice_names_the_versions_that_are_bundled() -> None:
    bundled = (STATIC / "echarts.min.js").read_text(encoding="utf-8")
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    versions = re.findall(r'\bversion="(\d+\.\d+\.\d+)"', bundled)
    versions += re.findall(r'dependencies=\{zrender:"(\d+\.\d+\.\d+)"\}', bundled)
    assert len(versions) == 2
    for version in versions:
        assert version in notice
    assert "The Apache Software Foundation (https://www.apache.org/)." in notice
    assert "Baidu Inc." in notice


def test_the_wheel_holds_the_notice_and_every_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {path for pattern in project["license-files"] for path in ROOT.glob(pattern)}
    assert named == {ROOT / "LICENSE", ROOT / "NOTICE", *STATIC.glob("*.LICENSE")}
    assert {path.name for path in STATIC.glob("*.LICENSE")} == {"d3.LICENSE", "echarts.LICENSE", "zrender.LICENSE"}
