"""Short links: a question of the page, kept under the first digits of its digest.

What is kept is the state that the page has in its address, as canonical JSON. The same question has the same link. The
number of links and their bytes are bounded: the oldest makes room. With a folder they outlive the server; a file that
is none of ours stays as it is and is not read.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import re
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI, Response
from pydantic import Field, JsonValue
from starlette.responses import RedirectResponse

from mowich.web import asks
from mowich.web.turns import refusal_of
from mowich.writing import replace_file

LEAST_DIGITS = 6
"""Digits of a link where no other question has them: so many that a link whose question was dropped hardly ever leads
to another question."""
MOST_LINKS = 10_000
MOST_LINKS_B = 16 * 2**20
MOST_QUESTION_B = 16 * 2**10
MOST_ADDRESS = 4000
"""Most characters of the long address that a link leads to: proxies bound the head of an answer."""
MOST_FIELDS, MOST_DEPTH = 64, 16

_ID = re.compile(r"[0-9a-f]{4,64}")
_END = ".json"


class LinkAsk(asks.Ask):
    """A question of the page, to be kept under a short link: what differs from the state that the page opens with."""

    question: dict[str, JsonValue] = Field(min_length=1, max_length=MOST_FIELDS, examples=[{"tab": "serve"}])


def address_of(text: str) -> str:
    """What the page has behind # for a question: compressed, in letters, digits, - and _ (static/state.js:toHash).

    >>> address_of('{"tab":"serve"}')
    'q1YqSUxSslIqTi0qS1WqBQA'
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(text.encode()) + packer.flush()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


@dataclass(slots=True)
class ShortLinks:
    """Questions by their link, the oldest first. folder: where they are files as well; None: in memory alone. most,
    most_B: how many, and their bytes. Raises OSError for a folder that cannot be read."""

    folder: Path | None = None
    most: int = MOST_LINKS
    most_B: int = MOST_LINKS_B
    size_B: int = 0
    _kept: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _named: dict[str, str] = field(default_factory=dict)
    """Digest -> link: a question keeps its link when one that had its first digits is dropped."""
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.folder is None:
            return
        files = [f for f in self.folder.iterdir() if f.suffix == _END and _ID.fullmatch(f.stem) and f.is_file()]
        for file in sorted(files, key=lambda f: (f.stat().st_mtime_ns, f.name)):
            if file.stat().st_size > MOST_QUESTION_B:
                continue
            data = file.read_bytes()
            if data.isascii() and _digest(data.decode()).startswith(file.stem):
                self._add(file.stem, data.decode())
        self._drop()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, text: str) -> str:
        """The link of a question. Raises OSError where its file cannot be written: then it is not kept."""
        digest = _digest(text)
        with self._turn:
            if digest in self._named:
                return self._named[digest]
            link = next(digest[:n] for n in range(LEAST_DIGITS, len(digest) + 1) if digest[:n] not in self._kept)
            if self.folder is not None:
                replace_file(self.folder / (link + _END), text, lasting=False)
            self._add(link, text)
            self._drop()
            return link

    def question(self, link: str) -> str | None:
        """The question of a link; None where none is kept."""
        return self._kept.get(link)

    def _add(self, link: str, text: str) -> None:
        self._kept[link] = text
        self._named[_digest(text)] = link
        self.size_B += len(text.encode())

    def _drop(self) -> None:
        """Drop the oldest until the bounds hold."""
        while len(self._kept) > self.most or self.size_B > self.most_B:
            link, text = self._kept.popitem(last=False)
            del self._named[_digest(text)]
            self.size_B -= len(text.encode())
            if self.folder is not None:
                (self.folder / (link + _END)).unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_deep(value: JsonValue) -> bool:
    """Whether lists and objects lie in one another deeper than `MOST_DEPTH`."""
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
    return bool(level)


def checked_question(ask: LinkAsk) -> str:
    """The question as canonical text, which is ASCII. Raises RefusedRequestError for one that no short link can
    hold."""
    if _is_deep(dict(ask.question)):
        raise refusal_of(422, f"question: at most {MOST_DEPTH} levels of lists and objects in one another")
    text = asks.canonical(ask.question)
    try:
        json.dumps(ask.question, allow_nan=False)
    except ValueError:
        raise refusal_of(422, "question: a number is not finite, which JSON does not have") from None
    size, address = len(text.encode()), len(address_of(text))
    if size > MOST_QUESTION_B or address > MOST_ADDRESS:
        raise refusal_of(
            422,
            f"question: too long for a short link ({size} bytes, {address} characters of address; at most"
            f" {MOST_QUESTION_B} and {MOST_ADDRESS}): share the long address",
        )
    return text


def _unknown(link: str) -> str:
    """The page of a link under which nothing is kept."""
    name = f" {link}" if _ID.fullmatch(link) else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Mowich: no such link</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/static/app.css"></head><body><main class="centre"><h1>No question is kept under'
        f" the link{html.escape(name)}.</h1><p>It was mistyped, or newer links took its place: this server keeps a"
        ' bounded number. <a href="/">Ask anew</a>.</p></main></body></html>'
    )


def add_links(app: FastAPI, links: ShortLinks) -> None:
    """The addresses of short links."""

    @app.post("/api/link", tags=["results"], responses={507: {"description": "The link cannot be written."}})
    async def link(ask: LinkAsk) -> dict[str, dict[str, str]]:
        """A short address of a question of the page, for who has this server. It is no secret."""
        text = checked_question(ask)
        try:
            found = await asyncio.to_thread(links.keep, text)
        except OSError as error:
            raise refusal_of(507, f"the link cannot be kept ({error.strerror or error})") from None
        return {"result": {"schema": "mowich/link@1", "link": found, "path": f"/r/{found}"}}

    @app.get("/r/{link}", include_in_schema=False)
    async def followed(link: str) -> Response:
        text = links.question(link)
        if text is None:
            return Response(_unknown(link), status_code=404, media_type="text/html")
        return RedirectResponse(f"/#{address_of(text)}", status_code=303)
