"""Files as nobody should give them, to every command that reads one: one line, exit code 2, at once. Never "a bug in
mowich", never a wait."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from mowich import cli
from mowich.errors import UserError, UserErrors
from mowich.facts import Facts, load_facts
from mowich.facts.load import shipped_folder
from mowich.files import (
    LIMIT_B,
    MAX_DEPTH,
    MAX_DIGITS,
    check_yaml,
    kept_beside,
    line_of,
    parse_json,
    parse_yaml,
    shipped_yaml,
)
from mowich.fleets.problem import read_rates
from mowich.fleets.read import read_problem
from mowich.models import load_model
from mowich.studies import sweep_grid, traffic_scenario
from pace import within

ROOT = Path(__file__).resolve().parents[2]
MOST_S = 1.0
"""CPU seconds that a refusal may take."""


@pytest.fixture(autouse=True)
def _never_waits() -> Iterator[None]:
    """A read that waits for ever fails, instead of stopping the tests."""

    def stop(*_: object) -> None:
        raise AssertionError("this takes too long: it waits, or reads without end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# ---- every reader with every hostile file
# ----------------------------------------------------------------------------------------------------------------------


def as_given(*words: str, name: str) -> Callable[[Path], tuple[Path, list[str]]]:
    """A reader whose file is named in the command line: "FILE" among the words."""

    def make(folder: Path) -> tuple[Path, list[str]]:
        file = folder / name
        return file, [w.replace("FILE", str(file)).replace("OUT", str(folder / "out")) for w in words]

    return make


def in_directory(folder: Path) -> tuple[Path, list[str]]:
    file = folder / "mine" / "chips" / "acme1.yaml"
    file.parent.mkdir(parents=True)
    return file, ["facts", "list", "chips", "--facts", str(folder / "mine")]


def in_aliases(folder: Path) -> tuple[Path, list[str]]:
    (folder / "mine").mkdir()
    return folder / "mine" / "aliases.yaml", ["facts", "list", "chips", "--facts", str(folder / "mine")]


def rates_of_scenario(folder: Path) -> tuple[Path, list[str]]:
    scenario = (ROOT / "scenarios" / "startup.yaml").read_text(encoding="utf-8")
    (folder / "s.yaml").write_text(scenario.replace("startup.rates.json", "r.json"), encoding="utf-8")
    return folder / "r.json", ["fleet", str(folder / "s.yaml")]


def trace_of_scenario(folder: Path) -> tuple[Path, list[str]]:
    scenario = (
        "mowich: 1\nmodel: llama-3.1-8b\non: h200:1\nengine: vllm\nplan: {tp: 1}\ntraffic: {trace: t.csv}\nslo: {ttft:"
        " 2 s, tpot: 50 ms}\n"
    )
    (folder / "s.yaml").write_text(scenario, encoding="utf-8")
    return folder / "t.csv", ["traffic", str(folder / "s.yaml")]


READERS = {
    "sweep": ("yaml", as_given("sweep", "FILE", name="s.yaml")),
    "sweep to a directory": ("yaml", as_given("sweep", "FILE", "--out", "OUT", name="s.yaml")),
    "traffic": ("yaml", as_given("traffic", "FILE", name="s.yaml")),
    "fleet": ("yaml", as_given("fleet", "FILE", name="s.yaml")),
    "facts in one file": ("yaml", as_given("facts", "list", "chips", "--facts", "FILE", name="acme.yaml")),
    "facts in a directory": ("yaml", in_directory),
    "aliases in a directory": ("yaml", in_aliases),
    "config.json": ("json", as_given("model", "FILE", name="config.json")),
    "explain": ("json", as_given("explain", "FILE", "trn3.step_s", name="r.json")),
    "report": ("json", as_given("report", "FILE", name="r.json")),
    "rates": ("json", rates_of_scenario),
    "validate": ("csv", as_given("validate", "FILE", name="t.csv")),
    "trace": ("csv", trace_of_scenario),
}
"""Reader -> (form, how to make its file and its command line)."""

KIND = {
    "sweep": "scenario",
    "config.json": "config",
    "explain": "result",
    "report": "result",
    "rates": "rates",
    "validate": "table",
}


def link_to(target: str) -> Callable[[Path], None]:
    return lambda file: file.symlink_to(target)


SPECIAL: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pipe": (lambda file: os.mkfifo(file), "is a pipe; allowed: a regular file"),
    "a device": (link_to("/dev/zero"), "is a device; allowed: a regular file"),
    "a link to itself": (lambda file: file.symlink_to(file), "link to itself|no such directory"),
    "a directory": (lambda file: file.mkdir(), "is a directory|is a folder|no such file"),
    "nothing there": (lambda file: None, "no such (file|directory)"),
    "latin-1": (
        lambda file: _write(file, "name: caf\xe9\n".encode("latin-1")),
        "cannot be read as UTF-8 text.*0xe9|as UTF-8",
    ),
    "empty": (lambda file: _write(file, b""), "empty|not valid JSON|a fact file is a mapping"),
}

BOMB = (
    b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n".encode() for old, new in zip("abcdefg", "bcdefgh", strict=True)
    )
    + b"models: *h\n"
)
DIGITS = b"7" * 5000

TEXTS: dict[str, dict[str, tuple[bytes, str]]] = {
    "yaml": {
        "deep lists": (b"models: " + b"[" * 200_000, "nested too deep"),
        "deep mappings": (b"{a: " * 200_000, "nested too deep"),
        "nine lines of aliases": (BOMB, "1: anchors, aliases and tags are not taken here"),
        "an alias to itself": (b"chips: &c {trainium3: *c}\n", "1: anchors, aliases and tags"),
        "no date": (b"mowich: 1\nseq: {date: 2026-99-99}\n", "2: not a date, got '2026-99-99'"),
        "tag int": (b"mowich: 1\nseq: !!int abc\n", "2: anchors, aliases and tags"),
        "tag timestamp": (b"mowich: 1\nseq: !!timestamp abc\n", "2: anchors, aliases and tags"),
        "tag object": (b"!!python/object/apply:os.system [ls]\n", "1: anchors, aliases and tags"),
        "long integer": (b"mowich: 1\nseq: " + DIGITS + b"\n", "2: a whole number of 5000 digits.*allowed: up to 100"),
        "infinite": (b"mowich: 1\nseq: {max_chips: .inf}\n", "2: not a finite number, got '.inf'"),
        "not a number": (b"mowich: 1\nseq: .nan\n", "2: not a finite number"),
        "1e400": (b"mowich: 1\nseq: 1.0e+400\n", "2: not a finite number"),
        "a key twice": (b"mowich: 1\nname: a\nname: b\n", r"3 name: given twice \(first on line 2\)"),
        "a key twice, deep": (b"a:\n  b: [{c: 1, d: 2,\n c: 3}]\n", r"3 a.b.0.c: given twice \(first on line 2\)"),
        "a list as key": (b"? [a, b]\n: 1\n", "1: not a key"),
        "merge": (b"<<: {a: 1}\n", "1: not a key, got '<<'"),
        "control characters": (b"a: 1\nb: \x00\n", "2: not YAML: a control character|2: not YAML"),
        "two documents": (b"a: 1\n---\nb: 2\n", "2: not YAML"),
        "cut off": (b"a: [1, 2\n", "not YAML"),
    },
    "json": {
        "deep lists": (b'{"model_type": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "1: nested too deep"),
        "deep objects": (b'{\n"a":' * 200_000 + b"1" + b"}" * 200_000, "41: nested too deep"),
        "a little too deep": (b'{"a":' * 41 + b"1" + b"}" * 41, "1: nested too deep"),
        "long integer": (b'{"a": 1,\n"hidden_size": ' + DIGITS + b"}", "2: a whole number of 5000 digits"),
        "1e400": (b'{"a": 1,\n"hidden_size": 1e400}', "2: too large a number, got '1e400'"),
        "a key twice": (b'{"a": 1,\n"b": 2, "a": 3}', r"2 a: given twice \(first on line 1\)"),
        "a key twice, deep": (b'{"a": [{"b": 1,\n"b": 2}], "b": 3}', r"2 b: given twice \(first on line 1\)"),
        "half a character": (b'{"a": "\\ud800"}', "half of a character pair"),
        "a list": (b"[1]", "1: not a JSON object, got 'list'"),
        "cut off": (b'{"a": [1', "is the file cut off"),
    },
    "csv": {
        "zeros": (b"\x00" * 1000, ""),
        "a long line": (b"id," + b"x" * 3_000_000, ""),
        "a long cell": (b'id,chip\n"' + b"x" * 3_000_000 + b'",b\n', ""),
    },
}


def _write(file: Path, data: bytes) -> None:
    file.write_bytes(data)


def refused(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says, which is one line; it ends with exit code 2 within a second."""
    with within(MOST_S):
        code = cli.run(args)
    out, err = capsys.readouterr()
    assert code == 2, err[-300:]
    assert out == ""
    assert err.count("\n") == 1, err[:500]
    assert len(err) < 1200 + sum(map(len, args))
    return err


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """What a first command imports is no part of the second."""
    import mowich.show.render.html
    import mowich.studies.fleet  # noqa: F401

    for args in (["facts", "check"], ["model", "no-such-model"]):
        cli.run(args)


CASES = [(reader, "special", name) for reader in READERS for name in SPECIAL] + [
    (reader, form, name) for reader, (form, _) in READERS.items() for name in TEXTS[form]
]


@pytest.mark.share(3)
@pytest.mark.parametrize(("reader", "form", "name"), CASES, ids=lambda word: str(word).replace(" ", "-"))
def test_a_hostile_file_is_refused(
    reader: str, form: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, args = READERS[reader][1](tmp_path)
    if form == "special":
        make, says = SPECIAL[name]
        if (name == "a directory" and reader == "facts in one file") or (
            name == "nothing there" and reader in ("facts in a directory", "aliases in a directory")
        ):
            pytest.skip("a directory of facts may be empty")
        make(file)
    else:
        data, says = TEXTS[form][name]
        file.write_bytes(data)
    said = refused(args, capsys)
    assert re.search(says, said), said
    assert file.name in said or name in ("a directory", "nothing there", "a link to itself")


@pytest.mark.parametrize("reader", [*KIND, "facts in one file", "facts in a directory"])
def test_a_huge_file_is_refused_by_its_size(reader: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, args = READERS[reader][1](tmp_path)
    most = LIMIT_B[KIND.get(reader, "facts")]  # type: ignore[index]
    with file.open("wb") as hole:
        hole.truncate(most + 1)
    said = refused(args, capsys)
    assert f"{file}: the file is too large" in said
    assert f"allowed: up to {most / 1e6:g} MB" in said


def test_a_result_from_stdin_is_read_as_carefully(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO('{"schema": "mowich/plan@1",\n"schema": "mowich/plan@1"}'))
    assert "-:2 schema: given twice" in refused(["explain", "-"], capsys)


# ---- names in a directory of facts
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("chips/trainium3.yml", "not a file of facts; allowed: files NAME.yaml; did you mean 'trainium3.yaml'?"),
        ("chips/trainium3.YAML", "did you mean 'trainium3.yaml'?"),
        ("chips/trainium3.json", "did you mean 'trainium3.yaml'?"),
        ("chips/more/trainium3.yaml", "is a directory; allowed: files NAME.yaml"),
        ("chips", "is a file; allowed: a directory: chips/NAME.yaml"),
        ("chip/trainium3.yaml", "unknown kind of facts 'chip'"),
        ("acme.yaml", "by itself: --facts "),
        ("aliases.yml", "did you mean 'aliases'?"),
        ("models/mine.yaml", "unknown kind of facts 'models'"),
    ],
)
def test_a_file_that_nothing_would_read_is_refused(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text("id: trainium3\n", encoding="utf-8")
    said = refused(["facts", "list", "chips", "--facts", str(tmp_path / "mine")], capsys)
    assert says in said


def test_notes_and_hidden_files_may_lie_beside_facts(tmp_path: Path) -> None:
    (tmp_path / "chips").mkdir()
    for name in ("README.md", "LICENSE", ".DS_Store", "_old.yaml", "chips/notes.txt", "chips/.x.yaml.swp"):
        (tmp_path / name).write_text("words", encoding="utf-8")
    assert load_facts((tmp_path,)).ids("chips") == load_facts().ids("chips")


# ---- what is read stays what was written
# ----------------------------------------------------------------------------------------------------------------------


def test_yaml_keys_stay_words_and_values_what_yaml_says() -> None:
    text = "on: [h100]\n8: 1_000\nno: yes\nd: 2026-01-05\nf: 1.5e+3\nn:\nt: 'a: b'\n"
    data = parse_yaml(text, "x").data
    assert list(data) == ["on", "8", "no", "d", "f", "n", "t"]
    assert [str(v) for v in data.values()] == ["['h100']", "1000", "True", "2026-01-05", "1500.0", "None", "a: b"]


def test_all_keys_given_twice_are_said_together() -> None:
    with pytest.raises(UserErrors) as caught:
        parse_yaml("a: 1\nb: {c: 1, c: 2}\na: 2\n", "x")
    assert [e.line().split(":")[1] for e in caught.value.errors] == ["2 b.c", "3 a"]


def test_limits_are_where_they_are_said_to_be() -> None:
    parse_json('{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH, "x")
    parse_yaml("{a: " * MAX_DEPTH + "1" + "}" * MAX_DEPTH, "x")
    digits = "7" * MAX_DIGITS
    assert parse_json(f'{{"a": {digits}}}', "x")["a"] == parse_yaml(f"a: {digits}", "x").data["a"] == int(digits)
    check_yaml("a: [1, 2]", "x", depth=2, values=11)
    with pytest.raises(UserError, match="too many values"):
        check_yaml("a: [1, 2]", "x", depth=2, values=10)


def test_what_ships_passes_the_checks_that_it_is_spared() -> None:
    for path in sorted((ROOT / "src" / "mowich" / "facts").rglob("*.yaml")):
        if path.parent.name != "models":  # the only ones with anchors
            parse_yaml(path.read_text(encoding="utf-8"), str(path))


def test_infinity_in_a_config_is_json_as_python_writes_it() -> None:
    assert parse_json('{"time_step_limit": [0.0, Infinity]}', "x", infinite=True)["time_step_limit"][1] == "Infinity"
    with pytest.raises(UserError, match="not a number of JSON"):
        parse_json('{"a": NaN}', "x")


# ---- spoiled files
# ----------------------------------------------------------------------------------------------------------------------

WORDS = [
    "",
    "-1",
    "0",
    "1.5",
    "1e400",
    "9" * 400,
    "null",
    "[]",
    "{}",
    "{a: b}",
    "[1, [2]]",
    "true",
    '"\\u0007"',
    "2026-02-30",
    "&a x",
    "*a",
    "!!int x",
    ".nan",
    "1:30",
    "x" * 300,
    "{value: 3}",
    "\t",
    "'",
    "{",
    "é",
    "~",
    "@",
    "nan",
    "-inf",
    "1e308",
    "0x10",
    "trn3",
    "tokens",
    "<<",
    "\x0b",
    "\u2028",
]
PIECE = re.compile(r"[A-Za-z0-9_.$/%-]+|[\[\]{}:,]")


def spoiled(text: str, rng: random.Random) -> str:
    """A text with one to three words replaced, left out, given twice or put elsewhere, or cut off."""
    for _ in range(rng.randint(1, 3)):
        found = list(PIECE.finditer(text))
        if not found:
            return text
        piece = rng.choice(found)
        how = rng.randrange(6)
        if how <= 2:
            text = text[: piece.start()] + rng.choice(WORDS) + text[piece.end() :]
        elif how == 3:
            text = text[: piece.start()] + text[piece.end() :]
        elif how == 4:
            lines = text.split("\n")
            place = rng.randrange(len(lines))
            lines.insert(rng.randrange(len(lines)), lines[place])
            text = "\n".join(lines)
        elif rng.random() < 0.2:
            text = text[: piece.start()]
    return text


def acme() -> str:
    """The example of docs/read/how-to.md."""
    text = (ROOT / "docs" / "read" / "how-to.md").read_text(encoding="utf-8")
    return text.split("```yaml acme.yaml\n")[1].split("```")[0]


def of_scenarios(name: str, read: Callable[[Path, Facts], object]) -> tuple[str, str, Callable[[Path, Facts], object]]:
    return name, (ROOT / "scenarios" / name).read_text(encoding="utf-8"), read


SPOILED: list[tuple[str, str, Callable[[Path, Facts], object]]] = [
    of_scenarios("sweep.yaml", sweep_grid.read_sweep),
    of_scenarios("startup.yaml", read_problem),
    of_scenarios("chat-llama-70b.yaml", traffic_scenario.read_traffic),
    of_scenarios("startup.rates.json", lambda file, _: read_rates(file)),
    ("acme.yaml", acme(), lambda file, _: load_facts((file,))),
    (
        "deepseek_v3.json",
        (ROOT / "tests" / "fixtures" / "configs" / "deepseek_v3.json").read_text(encoding="utf-8"),
        lambda file, _: load_model(str(file)),
    ),
]


@pytest.mark.share(2)
@pytest.mark.parametrize(("name", "text", "read"), SPOILED, ids=[s[0] for s in SPOILED])
def test_a_spoiled_file_is_answered_or_refused(
    name: str, text: str, read: Callable[[Path, Facts], object], tmp_path: Path, facts: Facts
) -> None:
    rng = random.Random(name)
    told: list[tuple[str, UserError]] = []
    for _ in range(200):
        file = tmp_path / name
        made = spoiled(text, rng)
        file.write_bytes(made.encode("utf-8"))
        try:
            read(file, facts)
        except UserError as error:
            told.append((made, error))
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}\n{made}")
    for made, refusal in told:
        lines = [e.line() for e in refusal.errors] if isinstance(refusal, UserErrors) else [refusal.line()]
        assert refusal.code in (2, 3), made
        assert all(len(line.splitlines()) == 1 for line in lines), (made, lines)
    assert len(told) > 50  # most of what is spoiled is no longer what it was


# ---- what is kept of files that ship
# ----------------------------------------------------------------------------------------------------------------------


def parser(calls: list[bytes]) -> Callable[[bytes], dict[str, str]]:
    """A parser that notes how often it is asked."""

    def parse(text: bytes) -> dict[str, str]:
        calls.append(text)
        return {"text": text.decode()}

    return parse


def kept_files(folder: Path) -> list[Path]:
    return sorted((folder / "__pycache__").iterdir())


def test_a_file_is_parsed_once_for_its_bytes(tmp_path: Path) -> None:
    file, calls = tmp_path / "chip.yaml", list[bytes]()
    for text in (b"a: 1", b"a: 1", b"a: 2", b"a: 2", b"a: 1"):
        file.write_bytes(text)
        os.utime(file, (0, 0))  # the time of a file says nothing
        assert kept_beside(file, parser(calls)) == {"text": text.decode()}
    assert calls == [b"a: 1", b"a: 2", b"a: 1"]
    assert len(kept_files(tmp_path)) == 1, "one for each file, and nothing half written"
    assert not list(tmp_path.rglob("*.yaml"))[1:], "what is kept is no file of facts"


@pytest.mark.parametrize("harm", ["cut", "empty", "one byte", "nothing but zeros", "of another file"])
def test_what_is_torn_is_made_again(tmp_path: Path, harm: str) -> None:
    file, calls = tmp_path / "chip.yaml", list[bytes]()
    file.write_bytes(b"a: 1")
    kept_beside(file, parser(calls))
    (kept,) = kept_files(tmp_path)
    whole = kept.read_bytes()
    other = tmp_path / "other.yaml"
    other.write_bytes(b"b: 2")
    kept_beside(other, parser([]))
    strange = next(path for path in kept_files(tmp_path) if path != kept).read_bytes()
    torn = {
        "cut": whole[:-3],
        "empty": b"",
        "one byte": whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
        "nothing but zeros": bytes(len(whole)),
        "of another file": strange,
    }
    kept.write_bytes(torn[harm])
    assert kept_beside(file, parser(calls)) == {"text": "a: 1"}
    assert len(calls) == 2
    assert kept.read_bytes() == whole


def test_a_folder_that_cannot_be_written_to_is_read(tmp_path: Path) -> None:
    file, calls = tmp_path / "chip.yaml", list[bytes]()
    file.write_bytes(b"a: 1")
    (tmp_path / "__pycache__").write_text("a file stands where the folder is due")
    assert [kept_beside(file, parser(calls)) for _ in range(2)] == [{"text": "a: 1"}] * 2
    assert len(calls) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["__pycache__", "chip.yaml"]


def test_facts_that_ship_are_the_same_from_what_is_kept() -> None:
    """Every kind of value that the files hold, dates too, comes back as it was parsed."""
    for path in sorted(shipped_folder().rglob("*.yaml")):
        shipped_yaml(path)  # keeps it, or finds it kept
        assert shipped_yaml(path) == yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader), path


def test_a_file_that_changed_since_it_was_read_has_no_line(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: b: c\n")
    with pytest.raises(UserError, match=r"a\.yaml:1: not YAML"):
        line_of(file, ["a"])
