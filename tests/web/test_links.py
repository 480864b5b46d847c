"""Short links of the page: the same question has the same one, they are bounded, and lead to the page alone."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mowich.web import asks, links
from mowich.web.links import LEAST_DIGITS, ShortLinks
from mowich.web.server import ServerOptions, create_app
from server_here import Here

QUESTION = {"tab": "serve", "model": "qwen3-1.7b", "on": ["trn2", "trn3"]}


def client(folder: Path | None = None, **more: Any) -> TestClient:
    return TestClient(create_app(ServerOptions(warm=False, links=folder, **more), Here()), follow_redirects=False)


def state_of(address: str) -> Any:
    """The state that a page reads of an address (static/state.js:fromHash)."""
    path, _, packed = address.partition("#")
    assert path == "/"
    assert set(packed) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    data = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
    return json.loads(zlib.decompress(data, -zlib.MAX_WBITS))


def test_a_link_leads_to_its_question_and_the_same_question_has_the_same() -> None:
    here = client()
    first = here.post("/api/link", json={"question": QUESTION}).json()["result"]
    again = here.post("/api/link", json={"question": dict(reversed(QUESTION.items()))}).json()["result"]
    assert first == again == {"schema": "mowich/link@1", "link": first["link"], "path": f"/r/{first['link']}"}
    digest = hashlib.sha256(asks.canonical(QUESTION).encode()).hexdigest()
    assert first["link"] == digest[:LEAST_DIGITS]
    answer = here.get(first["path"])
    assert (answer.status_code, state_of(answer.headers["location"])) == (303, QUESTION)
    assert answer.headers["cache-control"] == "no-store"
    # other pages may link there, as to the page; nobody else's page may make one
    assert here.get(first["path"], headers={"sec-fetch-site": "cross-site"}).status_code == 303
    made = here.post("/api/link", json={"question": QUESTION}, headers={"sec-fetch-site": "cross-site"})
    assert made.status_code == 403


@pytest.mark.parametrize("link", ["abcdef", "9f3", "ABCDEF", "%3Cscript%3E", "..%2f..%2fetc", "a" * 70])
def test_a_link_that_is_not_kept_is_said_on_a_page(link: str, tmp_path: Path) -> None:
    answer = client(tmp_path).get(f"/r/{link}")
    assert answer.status_code == 404
    if "%2f" not in link:
        assert answer.headers["content-type"].startswith("text/html")
        assert "No question is kept under" in answer.text
        assert "<script" not in answer.text


NESTED: Any = 1
for _ in range(20):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ({"question": {}}, 422, "question"),
        ({}, 422, "question"),
        ({"question": [1]}, 422, "question"),
        ({"question": QUESTION, "to": "https://example.org"}, 422, "to"),
        ({"question": {f"k{i}": 1 for i in range(100)}}, 422, "question"),
        ({"question": {"config": NESTED}}, 422, "at most 16 levels"),
        ({"question": {"model": "x" * 20_000}}, 422, "share the long address"),
        ({"question": {"model": "".join(hashlib.sha256(bytes([i])).hexdigest() for i in range(200))}}, 422, "too long"),
        ({"question": {"model": "x" * 300_000}}, 413, "at most"),
    ],
)
def test_what_no_link_holds_is_refused_in_a_line(body: Any, status: int, line: str) -> None:
    answer = client().post("/api/link", json=body)
    assert answer.status_code == status, answer.text
    assert line in answer.json()["errors"][0]["line"]


@pytest.mark.parametrize(
    "text",
    ['{"question": {"a": NaN}}', '{"question": {"a": 1e999}}', '{"question": {"a": 1, "a": 2}}', "{", "[" * 50_000],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    answer = client().post("/api/link", content=text, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text


def test_questions_with_the_same_first_digits_have_longer_links() -> None:
    kept = ShortLinks()
    by_digits: dict[str, str] = {}
    for i in range(100_000):  # two whose digests begin alike
        text = json.dumps(i)
        digits = hashlib.sha256(text.encode()).hexdigest()[:LEAST_DIGITS]
        if digits in by_digits:
            break
        by_digits[digits] = text
    one, other = by_digits[digits], text
    assert (kept.keep(one), len(kept.keep(other))) == (digits, LEAST_DIGITS + 1)
    assert [kept.question(kept.keep(t)) for t in (one, other, one)] == [one, other, one]


def test_links_are_bounded_and_the_oldest_makes_room(tmp_path: Path) -> None:
    kept = ShortLinks(folder=tmp_path, most=3)
    made = [kept.keep(f'"{i}"') for i in range(5)]
    assert [kept.question(link) for link in made] == [None, None, '"2"', '"3"', '"4"']
    assert {f.stem for f in tmp_path.iterdir()} == set(made[2:])
    by_size = ShortLinks(most_B=10)
    made = [by_size.keep(f'"{i}xx"') for i in range(4)]
    assert (len(by_size), by_size.size_B) == (2, 10)
    assert by_size.question(made[3]) == '"3xx"'


def test_links_outlive_the_server_in_its_folder_and_other_files_stay(tmp_path: Path) -> None:
    question = asks.canonical(QUESTION)
    link = ShortLinks(folder=tmp_path).keep(question)
    others = {
        "notes.txt": "mine",
        "abcdef.json": "not of this name",
        "ffff.json": "\u00e9" * 10,
        "0000.json": "x" * 20_000,
    }
    for name, text in others.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "aaaaaa.json").mkdir()
    later = ShortLinks(folder=tmp_path)
    assert (len(later), later.question(link), later.keep(question)) == (1, question, link)
    assert client(tmp_path).get(f"/r/{link}").status_code == 303
    assert all((tmp_path / name).read_text(encoding="utf-8") == text for name, text in others.items())


def test_a_full_disk_keeps_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(links, "replace_file", full)
    answer = client(tmp_path).post("/api/link", json={"question": QUESTION})
    assert (answer.status_code, answer.json()["errors"][0]["line"]) == (
        507,
        "the link cannot be kept (No space left on device)",
    )
    assert list(tmp_path.iterdir()) == []


def test_links_count_as_other_requests_do() -> None:
    here = client(a_minute=2)
    answers = [here.post("/api/link", json={"question": {"chips": str(i)}}).status_code for i in range(3)]
    assert answers == [200, 200, 429]
    assert here.get("/r/abcdef").status_code == 429
