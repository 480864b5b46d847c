"""The page of every kind of traffic: what has fields of its own has words for them, in the terminal and as HTML."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mowich import cli

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "tests" / "golden" / "scenarios"
KINDS = {kind: KEPT / f"{kind}.yaml" for kind in ("agents", "bursts", "outages", "scaled", "tenants", "turns")}
KINDS["media"] = ROOT / "scenarios" / "documents-qwen3.5-encode-apart.yaml"
KINDS["tiers"] = ROOT / "scenarios" / "cache-ssd-pays.yaml"


@pytest.mark.share(2)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_traffic_has_a_page(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "saved.json"
    assert cli.run(["traffic", str(KINDS[kind]), "--draws", "0", "--out", str(saved), "-q"]) == 0
    assert "requests served" in capsys.readouterr().out
    assert cli.run(["report", str(saved), "-q"]) == 0
    assert "requests served" in saved.with_suffix(".html").read_text(encoding="utf-8")


def test_a_name_of_a_module_is_given_once() -> None:
    """Of two tables under one name, the first is gone without a word."""
    found = []
    for path in sorted((ROOT / "src" / "mowich").rglob("*.py")):
        seen: set[str] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            for name in [target.id for target in targets if isinstance(target, ast.Name)]:
                if name in seen:
                    found.append(f"{path.name}:{node.lineno} {name}")
                seen.add(name)
    assert found == []
