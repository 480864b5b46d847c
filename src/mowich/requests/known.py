"""model, facts, example and web: what is known, what ships, and the server that answers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from mowich.requests.common import (
    AS,
    CSV,
    FORM,
    JSON,
    MODEL,
    PLAIN,
    QUIET,
    Request,
    asked_model,
    form_of,
    words_of_model,
)
from mowich.requests.fields import EVERYWHERE, TYPED, flag, number, path, texts, whole, word
from mowich.requests.job_fields import SEQ
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import AS_OF, FACTS, STALE, dirs_of, facts_of, read_as_of
from mowich.requests.stated import at_keys, model_words

if TYPE_CHECKING:
    from mowich.examples import Shipped
    from mowich.facts import Facts
    from mowich.models.model import Model


# ---- model
# ----------------------------------------------------------------------------------------------------------------------

KV_BYTES = number(
    "kv_bytes",
    "Bytes per element of the KV cache.",
    low=0.25,
    high=8,
    tells_bounds=True,
    metavar="B",
    default=2.0,
    shown="2.0",
    edges=TYPED,
    told=at_keys("bytes_per_element"),
)
LENGTH = replace(SEQ, group="", edges=TYPED, told=at_keys("seq"))
_VIEWED = replace(MODEL, told=lambda result: model_words(result) or result["name"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest(Request):
    """A model by layer. model_given: the model in the words of the question; seq: tokens, None: as usual; kv_bytes: of
    an element of the cache."""

    model: Model
    model_given: str = ""
    seq: int | None
    kv_bytes: float

    def again(self) -> dict[str, object] | None:
        """What else is needed to view a model again: its file; None for one that is built in."""
        return None if self.model_given == self.model.name else {"model_given": self.model_given}


def _model(reader: QuestionReader) -> ModelRequest:
    form, loaded, seq = form_of(reader), asked_model(reader), reader.get(LENGTH)
    reader.stop()
    return reader.fill(
        ModelRequest,
        form=form,
        notes=tuple(reader.notes),
        model=loaded,
        model_given=words_of_model(reader),
        seq=None if seq is None else int(seq),
    )


MODEL_VIEW = Schema(
    name="model",
    fields=(_VIEWED, AS, LENGTH, KV_BYTES, *FORM),
    make=_model,
    help="Parameters (total, active), FLOP and bytes per token, by kind of layer.",
    short="Parameters, FLOP and bytes per token, by layer.",
    example="mowich model deepseek-v3   or   mowich model ./config.json --seq 8192 --json",
)


# ---- facts
# ----------------------------------------------------------------------------------------------------------------------

_KIND = word(
    "kind", "chips, systems, prices, models, ...; without it, all.", metavar="[KIND]", is_argument=True, edges=TYPED
)
_KIND_OF_FILE = word(
    "kind",
    "chips, systems, ...: the fields of that kind; without it, what holds for all.",
    metavar="[KIND]",
    is_argument=True,
    edges=TYPED,
)
_NAMES = texts(
    "names",
    "A chip, a system, an id, or the path of a fact or group.",
    metavar="NAME...",
    is_argument=True,
    needs=True,
    completes="systems",
    edges=TYPED,
)
_ONE = word("one", metavar="A", is_argument=True, needs=True, completes="systems", edges=TYPED)
TWO = word("two", metavar="B", is_argument=True, needs=True, completes="systems", edges=TYPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactsRequest(Request):
    """Facts to show. names: of chips, systems, paths, or a kind; dirs: the user's own."""

    facts: Facts
    names: tuple[str, ...]


_STALE = replace(
    STALE,
    help="List facts whose last look is older: 90d. Exit 5 where there are any.",
    keyword="older_than",
    edges=EVERYWHERE,
)
_AS_OF = replace(
    AS_OF,
    help="Count ages up to this day (else today).",
    metavar="YYYY-MM-DD",
    example="2027-03-01",
    edges=EVERYWHERE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest(Request):
    """The user's own facts, to be checked. stale_s: list facts that nobody has looked at for so long, None: no list;
    as_of: up to which day, None: today."""

    dirs: tuple[Path, ...]
    stale_s: float | None
    as_of: date | None


def _list(reader: QuestionReader) -> FactsRequest:
    from mowich.errors import unknown
    from mowich.facts.load import FACT_KINDS

    form, kind = form_of(reader), reader.get(_KIND)
    if kind is not None and kind not in (*FACT_KINDS, "models"):
        reader.problems.found.append(unknown("kind", kind, (*FACT_KINDS, "models")))
    reader.stop()
    return FactsRequest(form=form, facts=facts_of(reader), names=() if kind is None else (kind,))


def _show(reader: QuestionReader) -> FactsRequest:
    form = form_of(reader)
    facts = facts_of(reader)
    return FactsRequest(form=form, facts=facts, names=reader.sure(_NAMES))


def _diff(reader: QuestionReader) -> FactsRequest:
    form = form_of(reader)
    facts = facts_of(reader)
    return FactsRequest(form=form, facts=facts, names=(reader.sure(_ONE), reader.sure(TWO)))


def _check(reader: QuestionReader) -> CheckRequest:
    dirs, stale, said, form = dirs_of(reader), reader.get(_STALE), reader.get(_AS_OF), form_of(reader)
    as_of = read_as_of(reader, _AS_OF)
    if stale is None:
        for given, field in ((said is not None, _AS_OF), (form.as_json, JSON), (form.as_csv, CSV)):
            if given:
                reader.add("goes with the list of old facts", field, fix="add --stale 90d")
    reader.stop()
    return CheckRequest(form=form, dirs=dirs, stale_s=stale, as_of=as_of)


def _schema(reader: QuestionReader) -> FactsRequest:
    from mowich.errors import unknown
    from mowich.facts.load import FACT_KINDS

    form, kind = form_of(reader), reader.get(_KIND_OF_FILE)
    if kind is not None and kind not in FACT_KINDS:
        reader.problems.found.append(unknown("kind", kind, FACT_KINDS))
    reader.stop()
    return FactsRequest(form=form, facts=facts_of(reader), names=() if kind is None else (kind,))


_NEW_KIND = word(
    "what", "chip or system.", metavar="WHAT", is_argument=True, needs=True, words=("chip", "system"), edges=TYPED
)
_NEW_NAME = word("name", "Its name.", metavar="NAME", is_argument=True, needs=True, edges=TYPED)
_FAMILY = word(
    "family",
    "Of a new chip: whose measured efficiencies it has (mowich facts list devices).",
    metavar="NAME",
    default="hopper",
    shown="hopper",
    edges=TYPED,
)
_CHIP = word("chip", "Of a new system: the chip that it is made of.", metavar="NAME", example="trainium3", edges=TYPED)
_INTO = path("out", "Write the file here; without it, print it.", metavar="FILE", edges=TYPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRequest(Request):
    """A file of facts to fill in. what: chip or system; family: of the chip; chip: of the system; out: where to."""

    facts: Facts
    what: str
    name: str
    family: str
    chip: str | None
    out: Path | None


def _new(reader: QuestionReader) -> NewRequest:
    from mowich.facts.overlay import NAME_FORM

    form, facts, name = form_of(reader), facts_of(reader), reader.get(_NEW_NAME)
    what, chip = reader.get(_NEW_KIND), reader.get(_CHIP)
    if name is not None and ("." in name or not NAME_FORM.fullmatch(name)):
        reader.add("not a name", _NEW_NAME, given=name, allowed="letters, digits, - and _")
    if what == "system" and chip is None:
        reader.add("a system needs its chip", _CHIP, fix="for example --chip trainium3; mowich facts list chips")
    if what == "chip" and chip is not None:
        reader.add("goes with a new system", _CHIP, fix="--family says whose efficiencies a new chip has")
    reader.stop()
    return reader.fill(NewRequest, form=form, facts=facts)


FACTS_NEW = Schema(
    name="facts new",
    fields=(_NEW_KIND, _NEW_NAME, _FAMILY, _CHIP, _INTO, FACTS, QUIET),
    make=_new,
    help="A file of facts to fill in, for --facts FILE: what is needed, with units, examples and what may be unknown.",
    short="A commented file for a chip or a system of your own.",
    example="mowich facts new chip acme1 --family hopper --out acme1.yaml",
)
FACTS_LIST = Schema(
    name="facts list",
    fields=(_KIND, FACTS, JSON, CSV, PLAIN),
    make=_list,
    help="What is known: chips, systems, prices, models and the rest.",
    example="mowich facts list chips",
)
FACTS_SHOW = Schema(
    name="facts show",
    fields=(_NAMES, FACTS, JSON, CSV, PLAIN),
    make=_show,
    help="Every number of one thing: value, range, grade, source, locator, date.",
    example="mowich facts show trn3   or   mowich facts show chips.trainium3.memory",
)
FACTS_DIFF = Schema(
    name="facts diff",
    fields=(_ONE, TWO, FACTS, JSON, CSV, PLAIN),
    make=_diff,
    help="Two chips or systems side by side.",
    example="mowich facts diff trn3 gb300",
)
FACTS_CHECK = Schema(
    name="facts check",
    fields=(FACTS, _STALE, _AS_OF, JSON, CSV, PLAIN, QUIET),
    make=_check,
    help=(
        "Schema, units, sources and ranges of every fact; exit 5 when one is wrong. With --stale: the facts that nobody"
        " has looked at for so long, the oldest first, and what to search for; exit 5 when there are any."
    ),
    example="mowich facts check --facts ./my-facts   or   mowich facts check --stale 90d",
)
FACTS_SCHEMA = Schema(
    name="facts schema",
    fields=(_KIND_OF_FILE, FACTS),
    make=_schema,
    help="JSON Schema of the files in --facts DIR, for editors: of one kind with fields, units and what is needed.",
    example="mowich facts schema chips > chips.schema.json",
)


# ---- example
# ----------------------------------------------------------------------------------------------------------------------

EXAMPLE_NAME = word(
    "name", "A scenario, a kernel, or skill; without it, all.", metavar="[NAME]", is_argument=True, edges=TYPED
)
COPY = path("copy", "Copy the file, or without NAME all of them, into this folder.", metavar="DIR", edges=TYPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleRequest(Request):
    """What ships. example: one of them, None: all; copy: a folder to copy into."""

    example: Shipped | None
    copy: Path | None


def _example(reader: QuestionReader) -> ExampleRequest:
    from mowich.examples import find

    form, name, example = form_of(reader), reader.get(EXAMPLE_NAME), None
    if name is not None:
        with reader.watch(EXAMPLE_NAME):
            example = find(name)
    reader.stop()
    return ExampleRequest(form=form, example=example, copy=reader.get(COPY))


EXAMPLES = Schema(
    name="example",
    fields=(EXAMPLE_NAME, COPY, JSON, CSV, PLAIN, QUIET),
    make=_example,
    help=(
        "The scenarios, kernels and logs that ship, and a page for coding assistants (skill): list them, print one,"
        " copy them to a folder of your own."
    ),
    short="Scenarios, kernels and logs that ship: list, print, copy.",
    example="mowich example rainier --copy ./mine",
)


# ---- web
# ----------------------------------------------------------------------------------------------------------------------

LOOPBACK = ("127.0.0.1", "::1", "localhost")
HOST = word(
    "host",
    "Address to listen on; 0.0.0.0 for all.",
    metavar="ADDRESS",
    default="127.0.0.1",
    shown="127.0.0.1",
    edges=TYPED,
)
_PORT = whole(
    "port",
    "Port; 0 takes a free one.",
    low=0,
    high=65535,
    tells_bounds=True,
    metavar="N",
    default=8000,
    shown="8000",
    edges=TYPED,
)
BROWSE = flag("browse", "Open the page in a browser.", option="--open", edges=TYPED)
_KERNELS = flag("kernels", "Let the page run NKI kernels: code. On loopback only.", edges=TYPED)
WORKERS = whole(
    "workers", "Processes that compute (else one per core).", high=256, tells_bounds=True, metavar="N", edges=TYPED
)
TIMEOUT = number(
    "timeout",
    "Most seconds that one request may compute.",
    low=1,
    high=600,
    tells_bounds=True,
    metavar="S",
    default=20.0,
    shown="20.0",
    keyword="timeout_s",
    edges=TYPED,
)


TRUSTED_PROXY = texts(
    "trusted_proxy",
    "A proxy before this server, by address or network: the clients that it names in X-Forwarded-For are believed."
    " Repeatable.",
    metavar="ADDRESS",
    edges=TYPED,
)
PUBLIC_NAME = texts(
    "public_name",
    "A name by which browsers ask for this server; others than these and loopback are refused. Repeatable.",
    metavar="NAME",
    edges=TYPED,
)
CLIENT_REQUESTS = whole(
    "client_requests",
    "Most requests of one address at once; 0: any number (else 16, and any number on loopback without a proxy).",
    low=0,
    high=100_000,
    metavar="N",
    edges=TYPED,
)
CLIENT_RATE = whole(
    "client_rate",
    "Most requests of one address a minute; 0: any number (else 600, and any number on loopback without a proxy).",
    low=0,
    high=10_000_000,
    metavar="N",
    edges=TYPED,
)
QUEUE = whole(
    "queue",
    "Most requests that wait or compute at once.",
    high=100_000,
    tells_bounds=True,
    metavar="N",
    default=1000,
    shown="1000",
    edges=TYPED,
)
ACCESS_LOG = flag(
    "access_log",
    "A line on stdout for each request: time, address, method, path, status, bytes, seconds. No queries, no bodies.",
    edges=TYPED,
)
SHORT_LINKS = path(
    "links",
    "Keep short links in this folder, so that they outlive the server (else in memory).",
    metavar="DIR",
    edges=TYPED,
)
EXPOSED_REQUESTS, EXPOSED_RATE = 16, 600
"""Limits of one address where others than the user of this machine may ask: at once, and a minute."""
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRequest(Request):
    """How to serve. workers: processes, None: one a core; timeout_s: of one request; dirs: of facts; trusted_proxy:
    addresses or networks; client_requests, client_rate: of one address, at once and a minute (0: any number);
    links: folder of short links; is_exposed: others than the user of this machine may ask."""

    host: str
    port: int
    browse: bool
    kernels: bool
    workers: int | None
    timeout_s: float
    dirs: tuple[Path, ...]
    trusted_proxy: tuple[str, ...]
    public_name: tuple[str, ...]
    client_requests: int
    client_rate: int
    queue: int
    access_log: bool
    links: Path | None
    is_exposed: bool


def _check_names(reader: QuestionReader, proxies: Sequence[str], names: Sequence[str]) -> None:
    """Refuse addresses of proxies that are none, and names that no host has."""
    for address in proxies:
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError:
            reader.add("not an address", TRUSTED_PROXY, given=address, allowed="10.0.0.7, or a network: 10.0.0.0/8")
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            reader.add("not the name of a host", PUBLIC_NAME, given=name, allowed="mowich.example.org")


def _web(reader: QuestionReader) -> WebRequest:
    proxies, names = reader.get(TRUSTED_PROXY) or (), reader.get(PUBLIC_NAME) or ()
    if reader.flag(_KERNELS):
        for is_open, field, given in (
            ((reader.get(HOST) or "") not in LOOPBACK, HOST, reader.get(HOST)),
            (bool(proxies), TRUSTED_PROXY, ", ".join(proxies)),
            (bool(names), PUBLIC_NAME, ", ".join(names)),
        ):
            if is_open:
                reader.add(
                    "runs code that is sent to it: on loopback only, and behind no proxy",
                    _KERNELS,
                    given=f"{reader.said(field)} {given}",
                    allowed=f"--host {', '.join(LOOPBACK)}" if field is HOST else None,
                )
    _check_names(reader, proxies, names)
    folder = reader.get(SHORT_LINKS)
    if folder is not None and folder.exists() and not folder.is_dir():
        reader.add("is a file", SHORT_LINKS, given=str(folder), allowed="a folder")
    facts_of(reader)
    reader.stop()
    is_exposed = reader.sure(HOST) not in LOOPBACK or bool(proxies or names)
    at_once, rate = reader.get(CLIENT_REQUESTS), reader.get(CLIENT_RATE)
    return reader.fill(
        WebRequest,
        form=form_of(reader),
        dirs=reader.sure(FACTS),
        is_exposed=is_exposed,
        client_requests=at_once if at_once is not None else EXPOSED_REQUESTS if is_exposed else 0,
        client_rate=rate if rate is not None else EXPOSED_RATE if is_exposed else 0,
    )


WEB = Schema(
    name="web",
    fields=(
        *(HOST, _PORT, BROWSE, _KERNELS, WORKERS, TIMEOUT, FACTS),
        *(TRUSTED_PROXY, PUBLIC_NAME, CLIENT_REQUESTS, CLIENT_RATE, QUEUE, SHORT_LINKS, ACCESS_LOG, QUIET),
    ),
    make=_web,
    help="Serve the page and the HTTP interface (its OpenAPI is at /openapi.json) until interrupted.",
    short="A page in the browser, live, and an HTTP interface.",
    example="mowich web --open",
)
