"""What the lines below a table say of its rows."""

from __future__ import annotations

import re

import mowich
from mowich.show.rows import kinds_of_systems


def test_a_system_of_many_plans_is_named_once_with_the_span_of_its_shares() -> None:
    result = mowich.plan("qwen3-32b", "trn3:16", serve=mowich.Serve(isl=2000, osl=500))
    rows = result.to_dict()["plans"]
    assert len(rows) > 1
    (said,) = kinds_of_systems(rows, "tpot_s")
    assert re.fullmatch(r"\d+% to \d+% fitted, \d+% to \d+% simulated kernels", said)
    page = " ".join(str(result).split())
    assert f"Times rest on constants: {said}. Engine" in page
    assert re.search(r"by operator tables of simulated kernels: \d+% to \d+%\.", page)
