"""One number says how much memory a chip has: plans, fits, prices and costs all follow it."""

from __future__ import annotations

import json

import pytest

from mowich.cli import run

JOB = ["llama-3.1-70b", "--train", "--seq", "4096", "--batch", "1024seqs"]
ON = {"trn3": "trainium3", "gb300": "gb300"}


def asked(
    capsys: pytest.CaptureFixture[str], verb: str, on: str, size: str, *more: str
) -> tuple[int, dict[str, object]]:
    code = run([verb, *JOB, *more, "--json", "--set", f"chips.{ON[on]}.memory.hbm_capacity={size}"])
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return code, found


@pytest.mark.parametrize("on", ON)
def test_a_chip_of_one_gib_fits_nothing(on: str, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = ("--tokens", "1T")
    assert asked(capsys, "plan", on, "1 GiB", "--on", f"{on}:64", *tokens)[0] == 3
    assert asked(capsys, "compare", on, "1 GiB", "--on", on, "--chips", "64", *tokens)[0] == 3
    code, fit = asked(capsys, "fit", on, "1 GiB", "--on", f"{on}:64")
    assert (code, fit["fits"]) == (3, False)


@pytest.mark.parametrize("on", ON)
def test_memory_and_price_move_alike(on: str, capsys: pytest.CaptureFixture[str]) -> None:
    def row(size: str) -> tuple[float, float, float]:
        code, found = asked(
            capsys, "compare", on, size, "--on", on, "--chips", "64", "--tokens", "1T", "--price", "tco"
        )
        assert code == 0
        [one] = found["rows"]  # type: ignore[misc]
        spent = one["usd_per_mtok"]["value"] * one["tokens_per_s_per_chip"]["value"]  # a chip-hour, up to a constant
        return one["memory_capacity_B"], spent / one["goodput"]["value"], one["tokens_per_s_per_chip"]["value"]

    small, large = row("100 GiB"), row("400 GiB")
    assert large[0] == pytest.approx(4.0 * small[0])
    bought = on == "gb300"  # at its seller's price, whatever its parts cost
    assert large[1] == pytest.approx(small[1]) if bought else large[1] > 1.02 * small[1]
    assert large[2] > small[2]
