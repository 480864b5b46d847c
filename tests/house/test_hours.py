"""First hours from the source: a short version of each that takes little time (`test_first_hour.py` plays the whole
from a wheel)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import first_hours
import pytest
from first_hours import Hour, Said

from mowich import cli


@pytest.fixture
def hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hour:
    """An empty folder, where commands run in this process."""
    monkeypatch.chdir(tmp_path)

    def ask(words: Sequence[str]) -> Said:
        capsys.readouterr()
        code = cli.run(words)
        return Said(code, *capsys.readouterr())

    return Hour(ask, tmp_path, quick=True)


@pytest.mark.parametrize("play", [first_hours.planner, first_hours.engineer, first_hours.kernel_engineer])
def test_a_short_first_hour_ends_with_the_right_decision(play: Callable[[Hour], None], hour: Hour) -> None:
    play(hour)


def test_a_published_mfu_is_reproduced(hour: Hour) -> None:
    first_hours.researcher(hour, None)
