"""What ships can be found by name from any folder, and copied."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml

from mowich.cli import run
from mowich.errors import UserError
from mowich.examples import all_shipped, copied, file_or_example, find, names_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_file_is_an_example() -> None:
    assert set(names_of("kernels")) == {p.stem for p in (ROOT / "kernels").glob("*.py")}
    assert set(names_of("scenarios")) == {p.stem for p in (ROOT / "scenarios").glob("*.yaml")}
    assert set(names_of("logs")) == {p.stem for p in (ROOT / "scenarios" / "logs").glob("*.*") if p.suffix != ".yaml"}
    assert all(20 < len(e.what) < 200 and e.what[-1] != "." for e in all_shipped())
    assert len({e.name for e in all_shipped()}) == len(all_shipped())  # one name, one file


@pytest.mark.parametrize(
    ("word", "kind", "name"),
    [
        ("rainier", "scenarios", "rainier.yaml"),
        ("@rainier", "scenarios", "rainier.yaml"),
        ("@add", "kernels", "add.py"),
        ("@megatron-llama-8b", "logs", "megatron-llama-8b.log"),
    ],
)
def test_a_name_stands_for_its_file(word: str, kind: str, name: str) -> None:
    assert file_or_example(word, kind).name == name  # type: ignore[arg-type]


def test_a_file_of_the_user_comes_first(tmp_path: Path) -> None:
    (tmp_path / "rainier").write_text("mine")
    assert file_or_example("rainier", "scenarios").read_text() == "mine"


def test_a_bare_name_of_a_kernel_is_a_file_of_the_user() -> None:
    with pytest.raises(UserError, match="@add is the file of that name that ships"):
        file_or_example("add", "kernels")
    assert file_or_example("other.py", "kernels") == Path("other.py")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["kernel", "run", "@softmx"], "did you mean '@softmax'?"),
        (["kernel", "run", "kernels/softmax.py"], "@softmax is the file of that name that ships"),
        (["fleet", "scenarios/startup.yaml"], "@startup is the file of that name that ships"),
        (["calibrate", "@megatron-lama-8b"], "did you mean '@megatron-llama-8b'?"),
        (["example", "rainer"], "did you mean 'rainier'?"),
    ],
)
def test_a_wrong_name_gives_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def test_examples_run_from_any_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kernel", "run", "@softmax"]) == 0
    assert "largest difference" in capsys.readouterr().out
    assert run(["traffic", "chat-llama-70b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "mowich/traffic@1"


def test_example_lists_prints_and_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["example", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [e["name"] for e in answer["examples"]] == [e.name for e in all_shipped()]
    assert run(["example", "add"]) == 0
    assert capsys.readouterr().out == (ROOT / "kernels" / "add.py").read_text()
    assert run(["example", "rainier", "--copy", "mine"]) == 0
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == ["rainier.rates.json", "rainier.yaml"]
    assert "2 files copied" in capsys.readouterr().out


def test_a_log_is_copied_with_its_setup(tmp_path: Path) -> None:
    copies = copied(find("megatron-llama-8b"), tmp_path / "mine")
    assert [p.name for p in copies] == ["megatron-llama-8b.log", "megatron-llama-8b.log.setup.yaml"]


def test_a_copy_does_not_overwrite(tmp_path: Path) -> None:
    (tmp_path / "add.py").write_text("mine")
    with pytest.raises(UserError, match="a file of this name is there, and it is another"):
        copied(find("add"), tmp_path)
    assert (tmp_path / "add.py").read_text() == "mine"


def test_commands_of_examples_are_the_verb_that_reads_them() -> None:
    verbs = {e.name: e.command.split()[1] for e in all_shipped()}
    assert (verbs["rainier"], verbs["chat-llama-70b"], verbs["sweep"], verbs["add"]) == (
        "fleet",
        "traffic",
        "sweep",
        "kernel",
    )


def test_the_page_for_assistants_is_a_skill(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its front matter has a name and a description, as assistants read them, and a copy the name of their file."""
    assert run(["example", "skill"]) == 0
    printed = capsys.readouterr().out
    assert printed == (ROOT / "docs" / "read" / "skill.md").read_text(encoding="utf-8")
    front = yaml.safe_load(printed.split("---\n")[1])
    assert front.keys() == {"name", "description"}
    assert front["name"] == "mowich"
    assert 100 < len(front["description"]) <= 1024
    assert copied(find("skill"), tmp_path / "mowich") == [tmp_path / "mowich" / "SKILL.md"]
    assert (tmp_path / "mowich" / "SKILL.md").read_text(encoding="utf-8") == printed
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert wheel["wheel"]["force-include"]["docs/read"] == "mowich/pages/read"
