"""Scenario files: every key asked for, every mistake told at once with its line."""

from pathlib import Path

import pytest

from mowich.errors import UserError
from mowich.scenario import Node, read_scenario


def scenario(tmp_path: Path, text: str) -> Node:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    return read_scenario(file)


def test_values_by_kind(tmp_path: Path) -> None:
    root = scenario(
        tmp_path, "mowich: 1\nname: a\nsite: {power: 100 MW, pue: 1.1}\ntokens: 15T\nfast: true\non: [a, b]\n"
    )
    site = root.node("site")
    assert root.text("name") == "a"
    assert site.quantity("power", "W") == 1e8
    assert site.number("pue", 1.0, low=1, high=3) == 1.1
    assert root.count("tokens") == 15e12
    assert root.flag("fast") is True
    assert root.names("on") == ("a", "b")
    site.done()
    root.done()
    root.stop()


def test_five_mistakes_are_five_lines_in_file_order(tmp_path: Path) -> None:
    root = scenario(tmp_path, "mowich: 2\nsite:\n  power: 100\n  pue: 9\n  electrcity: 1\ntokens: -4\nkind: serv\n")
    root.count("tokens")
    root.text("kind", allowed=("train", "serve"))
    site = root.node("site")
    site.quantity("power", "W")
    site.number("pue", 1.0, low=1, high=3)
    site.quantity("electricity", "USD/J")
    site.done()
    with pytest.raises(UserError) as caught:
        root.stop()
    lines = caught.value.line().splitlines()
    assert [line.split(":")[1].split()[0] for line in lines] == ["1", "3", "4", "5", "6", "7"]
    assert "did you mean 'electricity'?" in lines[3]
    assert "did you mean 'serve'?" in lines[5]


def test_a_count_past_its_most_is_told_with_both_bounds(tmp_path: Path) -> None:
    root = scenario(tmp_path, "mowich: 1\nseqs: 2M\ncv: 101\nusers: 1M\n")
    assert root.count("seqs", 8.0, maximum=2**20) == 8.0
    assert root.count("cv", 1.0, minimum=0.01, maximum=100, whole=False) == 1.0
    assert root.count("users", maximum=1_000_000) == 1e6
    with pytest.raises(UserError) as caught:
        root.stop()
    first, second = caught.value.line().splitlines()
    assert "seqs: must lie in 1 to 1,048,576" in first
    assert "cv: must lie in 0.01 to 100" in second


@pytest.mark.parametrize(
    ("text", "says"), [("", "an empty scenario"), ("a: [", "not YAML"), ("- 1\n", "a scenario is a mapping")]
)
def test_what_is_no_scenario(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        scenario(tmp_path, text).stop()


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_scenario("no-such-file.yaml")


def test_a_key_given_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"s.yaml:3 name: given twice"):
        scenario(tmp_path, "mowich: 1\nname: a\nname: b\n").stop()
