"""A verb is three files: a request, a study, a page (`requests/rooms`). A newcomer's task, played in a copy of the
package: nothing else in it is touched, and every edge has the verb."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from newcomers import copy_of_package, run_copy

HERE = Path(__file__).resolve().parent / "new_verb"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the three files."""
    layers = ("requests", "studies", "show")
    package = copy_of_package(tmp_path_factory.mktemp("newcomer"), {f"{layer}/rooms" for layer in layers})
    for layer in layers:
        shutil.copy(HERE / f"{layer}_headroom.py", package / layer / "rooms" / "headroom.py")
    return package


COMMAND = "import json; from mowich.requests.command import command_of; print(command_of(json.load(open('a.json'))))"


def test_the_command_line_has_it(tree: Path) -> None:
    told = " ".join(run_copy(tree, "-m", "mowich", "headroom", "--help").split())
    for words in ("Memory that a job may take.", "--kept SHARE", "[default: 10%]", "--set", "Example: mowich headroom"):
        assert words in told
    assert "headroom" in run_copy(tree, "-m", "mowich", "--help")
    shown = run_copy(tree, "-m", "mowich", "headroom", "--on", "trn3:4,h100:8", "--kept", "50%")
    assert shown.splitlines()[0].endswith("are free.")
    run_copy(tree, "-m", "mowich", "headroom", "--on", "trn3:4,h100:8", "--kept", "50%", "--json", "--out", "a.json")
    assert run_copy(tree, "-c", COMMAND).strip() == "mowich headroom --on trn3:4,h100:8 --kept 0.5"


def test_what_is_wrong_is_named_as_the_edge_spells_it(tree: Path) -> None:
    said = run_copy(tree, "-m", "mowich", "headroom", "--on", "trn3", "--kept", "150%", "--tokens", "0", code=2)
    assert [line.split(": ")[1] for line in said.splitlines()] == ["--kept", "--tokens"]
    said = run_copy(tree, "-c", "import mowich; mowich.headroom(['trn3'], kept='150%', cache_tokens=0)", code=1)
    assert "UserError" in said
    assert "cache_tokens" in said


EVERYWHERE = """
import json, sys
import mowich
from fastapi.testclient import TestClient
from mowich.show.json import to_json
from mowich.show.render.html import render_html
from mowich.web.server import ServerOptions, create_app

asked = dict(kept=0.5, cache_tokens="128k")
called = mowich.headroom(["trn3:4"], **asked)
assert called[0].system == "trn3:4", called
result = called.to_dict()
assert "are free." in render_html(result)
assert "headroom" in dir(mowich)
from mowich.cli.tools import TOOLS
assert "headroom" in TOOLS
with TestClient(create_app(ServerOptions(warm=False)), base_url='http://localhost') as client:
    sent = client.post("/api/headroom", json={"on": ["trn3:4"], "kept": 0.5, "tokens": 128000})
    assert sent.status_code == 200, sent.text
    wrong = client.post("/api/headroom", json={"on": ["trn3:4"], "keeps": 0.5})
    assert wrong.status_code == 422, wrong.text
print(json.dumps([result["rows"], sent.json()["result"]["rows"], sent.json()["command"]]))
"""


@pytest.mark.slow
def test_all_edges_give_one_answer_and_one_page(tree: Path) -> None:
    words = ("headroom", "--on", "trn3:4", "--kept", "50%", "--tokens", "128k")
    typed = json.loads(run_copy(tree, "-m", "mowich", *words, "--json", "--out", "b.json"))
    called, sent, command = json.loads(run_copy(tree, "-c", EVERYWHERE))
    assert typed["rows"] == called == sent
    assert command == "mowich headroom --on trn3:4 --kept 0.5 --tokens 128000"
    assert {key: typed["inputs"][key] for key in ("systems", "kept", "cache_tokens")} == {
        "systems": ["trn3:4"],
        "kept": 0.5,
        "cache_tokens": 128000.0,
    }


def test_its_numbers_are_explained_and_move_with_their_facts(tree: Path) -> None:
    run_copy(tree, "-m", "mowich", "headroom", "--on", "trn3:4", "--json", "--out", "c.json")
    found = json.loads(run_copy(tree, "-m", "mowich", "explain", "c.json", "trn3:4.free", "--json"))
    assert "memory that a job may take" in json.dumps(found)
    assert any("hbm_usable" in move["fact"] for move in found["moves"]), found["moves"]
