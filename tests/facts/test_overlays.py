"""Facts of the user's own: what is on the disk now is what counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mowich.errors import UserError
from mowich.facts import load_facts

PRICE = 'trn3-gen2: {{value: "${price}/chip/h", grade: user}}\n'


def _written(folder: Path, price: float) -> None:
    file = folder / "my-facts" / "prices" / "user.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(PRICE.format(price=price), encoding="utf-8")


def _price(name: str) -> tuple[float, str]:
    facts = load_facts([Path(name)])
    return 3600.0 * facts.number("prices.user.trn3-gen2"), facts.hash()


def test_a_file_that_was_edited_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _written(tmp_path, 1.25)
    first, before = _price("my-facts")
    _written(tmp_path, 12.5)
    second, after = _price("my-facts")
    assert (first, second) == (pytest.approx(1.25), pytest.approx(12.5))
    assert before != after


def test_a_relative_name_is_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name, price in (("a", 1.25), ("b", 2.25)):
        folder = tmp_path / name
        folder.mkdir()
        _written(folder, price)
        monkeypatch.chdir(folder)
        found.append(_price("my-facts")[0])
    assert found == [pytest.approx(1.25), pytest.approx(2.25)]


@pytest.mark.parametrize("made", ["a folder", "an empty mapping"])
def test_an_overlay_without_facts_is_refused(made: str, tmp_path: Path) -> None:
    given = tmp_path / "given"
    if made == "an empty mapping":
        given.write_text("{}\n", encoding="utf-8")
    else:
        given.mkdir()
    with pytest.raises(UserError, match="holds no facts"):
        load_facts([given])
