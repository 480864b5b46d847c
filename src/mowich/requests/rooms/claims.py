"""claims: each public claim, derived again."""

from __future__ import annotations

from dataclasses import dataclass

from mowich.requests.common import FORM, Asked
from mowich.requests.fields import word
from mowich.requests.schema import QuestionReader, Schema, VerbOnWeb
from mowich.requests.settings import OF_FACTS, asked_of

_WORD = word(
    "word",
    'Only claims with these words in title, id, figures or verdict: "4x", "energy trainium", "cannot be checked".',
    metavar="[WORD]",
    is_argument=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsRequest(Asked):
    """Public claims. word: words to search for, None: all."""

    word: str | None

    def doing(self) -> str:
        """What a terminal says meanwhile."""
        return "deriving claims"


def _claims(reader: QuestionReader) -> ClaimsRequest:
    asked = asked_of(reader, "claims take no plan and no price")
    reader.stop()
    return reader.fill(ClaimsRequest, **asked)


SCHEMA = Schema(
    name="claims",
    fields=(_WORD, *OF_FACTS, *FORM),
    make=_claims,
    help=(
        "Each public claim: verdict, both sides in one unit, per chip and per unit, formula; what cannot be checked and"
        " what is missing; then what memory per chip costs."
    ),
    short="Each public claim, derived again, with a verdict.",
    example="mowich claims 4x   or   mowich claims trainium3 --json",
    after="goodput",
    keys={"verdicts": "object", "claims": "array"},
    web=VerbOnWeb(tag="facts", said="Public claims, each derived again:", about="Public claims, each derived again."),
)
