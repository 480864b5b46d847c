"""`mowich help`: the pages that ship, by topic; the options of a verb; a word of the glossary."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Sequence

from mowich.errors import EXIT_OK, UserError, did_you_mean

_TITLES = {"read": "To read", "theory": "The laws", "records": "Records"}
PAGES_LINE = "\nPages: mowich help topics; one of them: mowich help tutorial\n"
_WIDEST = 100


def help_of(words: Sequence[str], options: Callable[[Sequence[str]], object], verbs: Iterable[str]) -> object:
    """What `mowich help WORDS` prints: a page, the options of a verb, or a word of the glossary. options: prints the
    options of the command line that it gets; verbs: their names. Raises UserError for an unknown topic."""
    from mowich.handbook import handbook, topic_of

    if not words:
        options(["--help"])
        return _put(PAGES_LINE)
    named = set(verbs)
    if list(words) == ["topics"]:
        return _put(_topics())
    topic = topic_of(" ".join(words))
    has_page = topic in handbook()
    if words[0] in named and (len(words) > 1 or not has_page):
        return options([*words, "--help"])
    if has_page:
        ends = f"\nOptions: mowich {topic} --help\n" if topic in named else ""
        return _page(handbook()[topic].for_terminal(), ends)
    if said := _glossary(" ".join(words)):
        return _put(said)
    close = did_you_mean(topic, sorted({"topics", *handbook(), *named}))
    listed = "mowich help topics lists them"
    raise UserError("unknown topic", given=" ".join(words), fix=f"{close} {listed}" if close else listed)


def _put(text: str) -> int:
    sys.stdout.write(text)
    return EXIT_OK


def _page(text: str, ends: str) -> int:
    """Markdown as it is where the output goes elsewhere, laid out on a terminal."""
    if not sys.stdout.isatty():
        return _put(text + ends)
    from rich.console import Console
    from rich.markdown import Markdown

    width = min(_WIDEST, shutil.get_terminal_size().columns)
    Console(width=width, highlight=False).print(Markdown(text, hyperlinks=False))
    return _put(ends)


def _topics() -> str:
    """Every topic with the title of its page, shelf by shelf."""
    from mowich.handbook import SHELVES, handbook

    wide = max(map(len, handbook())) + 2
    shelves = (
        f"{_TITLES[shelf]}\n"
        + "".join(f"  {p.topic:{wide}}{p.title}\n" for p in handbook().values() if p.shelf == shelf)
        for shelf in SHELVES
    )
    return "\n".join(shelves) + "\nmowich help TOPIC opens one; mowich help WORD says what a word of a table means\n"


def _glossary(word: str) -> str:
    """What a word of tables and pictures means; "" where the glossary has none."""
    from mowich.show.glossary import term_of

    term = next((found for w in (word, word.upper(), word.lower()) if (found := term_of(w)) is not None), None)
    return "" if term is None else f"{term.name}: {term.means} See: mowich help {term.see}\n"
