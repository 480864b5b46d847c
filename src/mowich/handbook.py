"""The documents that ship, by topic: `mowich help serving`.

They stand on three shelves: `read` is for users, `theory` has the laws behind the numbers, `records` are tables that
scripts write. A topic is the name of a page without its suffix; no two pages have one name. In a wheel the shelves lie
in the package, in a checkout in `docs`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from mowich.errors import UserError

Shelf = Literal["read", "theory", "records"]
SHELVES: tuple[Shelf, ...] = get_args(Shelf)

_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)\n?")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandbookPage:
    """One page. topic: its name; shelf: where it stands; path: its file."""

    topic: str
    shelf: Shelf
    path: Path

    @property
    def text(self) -> str:
        """The page as it was written, in Markdown."""
        return self.path.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """Its first heading."""
        heads = (line[2:].strip() for line in self.text.splitlines() if line.startswith("# "))
        return next(heads, self.topic)

    def for_terminal(self) -> str:
        """The page without pictures and remarks for scripts; a link to a page is the command that opens it, a link to
        another file is its words alone."""

        def link(match: re.Match[str]) -> str:
            words, target = match[1], match[2].partition("#")[0]
            if "://" in target:
                return f"{words} ({target})"
            topic = Path(target).stem
            if not target.endswith(".md") or topic not in handbook() or topic == self.topic:
                return words
            command = f"`mowich help {topic}`"
            return command if words.strip("`") in (topic, f"{topic}.md") else f"{words} ({command})"

        text = _PICTURE.sub("", _COMMENT.sub("", self.text))
        parts = re.split(r"(^```.*?^```[ ]*$)", text, flags=re.MULTILINE | re.DOTALL)
        return "".join(part if i % 2 else _LINK.sub(link, part) for i, part in enumerate(parts)).strip() + "\n"


@cache
def handbook() -> Mapping[str, HandbookPage]:
    """Topic -> page, in the order of shelves and names. Raises UserError where the installation has no pages.

    >>> handbook()["serving"].shelf
    'read'
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "pages", package.parents[1] / "docs"):
        if (folder / "read").is_dir():
            return {
                path.stem: HandbookPage(topic=path.stem, shelf=shelf, path=path)
                for shelf in SHELVES
                for path in sorted((folder / shelf).glob("*.md"))
            }
    raise UserError("the pages that ship with mowich are not here", where=str(package), fix="install it again")


def topic_of(words: str) -> str:
    """A topic as people write it: with blanks, in capitals, or as the file of its page.

    >>> topic_of("docs/read/serving.md"), topic_of("Kernel check")
    ('serving', 'kernel-check')
    """
    return Path(words.lower()).name.removesuffix(".md").replace(" ", "-").replace("_", "-")
