"""What is answered now is what was kept: every number, every line. A change that moves numbers on purpose runs `make
golden` in a commit of its own; `make golden-diff` shows what moved and gives the lines for CHANGELOG.md."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from zlib import crc32

import corpus
import pytest

from mowich.cli.app import app
from mowich.cli.options import command_word
from mowich.cli.verbs import load_verbs

EVERY_RUN = 4
"""Of a group's commands one in so many is asked in every run, the others in the slow suite."""


@cache
def in_every_run() -> frozenset[str]:
    """The commands that every run asks, in all their forms: of each group the first by hash, so the same everywhere."""
    of_home: dict[str, list[str]] = {}
    for command, home in corpus.homes().items():
        of_home.setdefault(home, []).append(command)
    by_hash = (sorted(commands, key=lambda c: crc32(c.encode())) for commands in of_home.values())
    return frozenset(command for commands in by_hash for command in commands[::EVERY_RUN])


def is_long(question: corpus.Question) -> bool:
    """Whether the slow suite asks it, and not every run."""
    return question.is_slow or question.first not in in_every_run()


def moves_of(home: str, is_slow: bool) -> list[corpus.Move]:
    """What moved in the questions whose command this group asks first: the forms of a command are made of one run."""
    homes = corpus.homes()
    mine = [q for q in corpus.questions() if homes[q.first] == home and is_long(q) is is_slow]
    names = {q.name for q in mine}
    groups = dict.fromkeys(q.group for q in mine)
    return [move for group in groups for move in corpus.moved(group, lambda q: q.name in names)]


@pytest.mark.parametrize("home", dict.fromkeys(corpus.homes().values()))
def test_nothing_moved(home: str) -> None:
    moves = moves_of(home, is_slow=False)
    assert not moves, corpus.report(moves, 40)


@pytest.mark.slow
@pytest.mark.parametrize("home", dict.fromkeys(corpus.homes()[q.first] for q in corpus.questions() if is_long(q)))
def test_nothing_moved_in_long_answers(home: str) -> None:
    moves = moves_of(home, is_slow=True)
    assert not moves, corpus.report(moves, 40)


def test_every_verb_is_asked_and_the_systems_of_the_readme_too() -> None:
    asked = corpus.questions()
    words = " ".join(q.ask for q in asked)
    verbs = {command_word(command) for command in load_verbs(app).registered_commands}
    verbs |= {str(g.name) for g in app.registered_groups}
    left = {verb for verb in verbs if not any(f"{verb} " in f"{q.ask} " for q in asked)}
    # report is what the form html runs; web and mcp answer what these verbs answer, in processes of their own
    # (tests/web/test_web.py, tests/cli/test_mcp.py); a brief asks some dozens of searches, and
    # tests/studies/test_brief.py keeps its page; capture needs PyTorch (tests/cli/test_capture.py)
    assert left == {"report", "web", "brief", "mcp", "capture"}
    for system in (
        "trn2",
        "trn3",
        "trn3-gen1",
        "trn4",
        "ironwood",
        "gb300",
        "h100",
        "h200",
        "b200",
        "tpu-v5p",
        "mi300x",
    ):
        assert f"{system}:" in words
    assert len([q for q in asked if q.group != corpus.KERNELS]) >= 250
    assert len({q.name for q in asked}) == len(asked)
    assert {q.name for q in asked} | {"arithmetic"} == {n for group in corpus.groups() for n in corpus.read(group)}


def test_the_forms_of_a_command_are_made_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, JSON and report of an answer; its result is what the command prints as JSON."""
    ask = "collective all-reduce --on trn3-gen2 --bytes 1MiB"
    asked = [corpus.Question(group=form, ask=ask, form=form) for form in ("json", "text", "html")]
    printed = corpus.said([*ask.split(), "--json", "-q"])[1]
    runs: list[list[str]] = []
    said = corpus.said

    def heard(words: list[str], **how: bool) -> tuple[int, str]:
        runs.append(words)
        return said(words, **how)

    monkeypatch.setattr(corpus, "questions", lambda: asked)
    monkeypatch.setattr(corpus, "said", heard)
    monkeypatch.setattr(corpus, "ran", cache(corpus.ran.__wrapped__))
    data, text, page = (corpus.answer(q)["answer"] for q in asked)
    assert corpus.ran(ask).result == printed
    assert [words[0] for words in runs] == ["collective", "report"]
    assert data["schema"] == "mowich/collective@1"
    assert any("all-reduce" in line for line in text)
    assert any("all-reduce" in line for line in page)


def test_a_moved_number_is_told_with_both_values_and_its_share() -> None:
    old = {"plan x": {"answer": {"rows": [{"system": "trn3", "step_s": {"value": 2.0, "grade": "D"}}]}}}
    new = {"plan x": {"answer": {"rows": [{"system": "trn3", "step_s": {"value": 2.1, "grade": "C"}}]}}}
    number, grade = corpus.compared(old, new)
    assert (number.field, number.old, number.new) == ("rows.trn3.step_s.value", 2.0, 2.1)
    assert number.line().split() == ["+5.00%", "plan", "x", "rows.trn3.step_s.value:", "2", "->", "2.1"]
    assert grade.field == "rows.trn3.step_s.grade"
    assert corpus.changelog([grade, number]) == [
        "- `mowich plan x`: rows.trn3.step_s.value 2 -> 2.1 (+5.0%), and 1 more."
    ]
    text = corpus.report([number, grade], 10)
    assert text.startswith("2 fields of 1 answers moved")
    assert corpus.report([], 10) == "nothing moved"


@pytest.mark.parametrize(
    ("a", "b", "moved"),
    [
        (1.0, 1.0 + 5e-10, False),
        (1.0, 1.0 + 2e-9, True),
        (0.0, 1e-300, True),
        (True, 1, False),
        (None, 0.0, True),
        (3, 4, True),
        ("a", "b", True),
        ([1.0], [1.0, 2.0], True),
        ({"a": 1}, {"b": 1}, True),
    ],
)
def test_numbers_are_equal_to_a_billionth(a: Any, b: Any, moved: bool) -> None:
    assert bool(corpus.compared({"q": {"answer": a}}, {"q": {"answer": b}})) is moved


def test_residues_of_rounding_in_a_breakdown_are_no_moves() -> None:
    def step(host: float) -> dict[str, Any]:
        return {"q": {"answer": {"step_s": {"value": 2.0, "breakdown": {"gemm": 2.0, "host": host}}}}}

    assert not corpus.compared(step(2.2e-15), step(2.7e-15))
    lost = [{"q": {"answer": {"lost": {"missing_hardware": share}}}} for share in (0.0, 2.1e-16, 2.1e-10)]
    assert not corpus.compared(lost[0], lost[1])
    assert corpus.compared(lost[0], lost[2])
    assert [m.field for m in corpus.compared(step(2.2e-9), step(2.7e-9))] == ["step_s.breakdown.host"]


def test_lines_of_text_are_told_one_by_one() -> None:
    old: Mapping[str, Any] = {"q": {"answer": ["one", "two", "three"]}}
    new: Mapping[str, Any] = {"q": {"answer": ["one", "2", "three", "four"]}}
    assert [(m.field, m.old, m.new) for m in corpus.compared(old, new)] == [
        ("line 2", "two", "2"),
        ("line 4", None, "four"),
    ]


ROW = "│ trn3     │ 1.0907308393066 s │ $0.959/chip/h, fp8 │ -1.2% │ 1,024 │"


@pytest.mark.parametrize(
    ("new", "moved"),
    [
        (ROW.replace("1.0907308393066", "1.0907308393069"), False),  # 3e-13
        (ROW.replace("1.0907308393066 s", "1.09073083930661 s").replace("trn3  ", "trn3 "), False),  # another width
        (ROW.replace("1.0907308393066", "1.0907308423066"), True),  # 3e-9
        (ROW.replace("0.959", "0.960"), True),
        (ROW.replace("-1.2", "1.2"), True),
        (ROW.replace("-1.2%", "-1.2"), True),  # another unit
        (ROW.replace("1,024", "1,025"), True),
        (ROW.replace("fp8", "fp4"), True),  # a word with a digit in it
        (ROW.replace("trn3", "trn2"), True),
        (ROW.replace("1.0907308393066 s", "?"), True),  # a number that becomes a word
        (ROW.replace("1.0907308393066", "nan"), True),
        (ROW.replace(" │ 1,024", ""), True),  # one number less
    ],
)
def test_numbers_in_text_are_compared_as_numbers_and_words_as_words(new: str, moved: bool) -> None:
    forms = [(ROW, new), ([ROW, "end"], [new, "end"])]  # a sentence of JSON; a line of a page
    forms += [(x.replace(" │ ", ",").replace("│", ""), y.replace(" │ ", ",").replace("│", "")) for x, y in forms[:1]]
    for a, b in forms:
        assert bool(corpus.compared({"q": {"answer": a}}, {"q": {"answer": b}})) is moved


def test_the_numbers_of_kept_texts_are_compared() -> None:
    """Each number in every fifth line of the texts and CSV that are kept, moved by twice the loosest tolerance, is
    told."""
    kept = [(name, line) for group in corpus.groups() for name, a in corpus.read(group).items() for line in texts(a)]
    found = 0
    for name, line in kept[::5]:
        for number in corpus.NUMBER.finditer(line):
            if "." in number.group() and float(number.group()):
                there = float(number.group()) * (1 + 2 * corpus.LOOSE)
                other = f"{line[: number.start()]}{there:.12g}{line[number.end() :]}"
                assert corpus.compared({name: {"answer": [line]}}, {name: {"answer": [other]}}), (name, number)
                found += 1
    assert found > 1_000


def texts(kept: Mapping[str, Any]) -> list[str]:
    """Lines of an answer that is a text."""
    lines = kept["answer"]
    return lines if isinstance(lines, list) and all(isinstance(x, str) for x in lines) else []


def test_a_question_that_comes_or_goes_is_told() -> None:
    assert [(m.question, m.old, m.new) for m in corpus.compared({"a": {"answer": 1}}, {"b": {"answer": 1}})] == [
        ("a", True, None),
        ("b", None, True),
    ]


def test_bits_of_outputs_count_where_the_arithmetic_is_that_of_the_answers() -> None:
    def kept(machine: str, bits: str, absolute: float) -> dict[str, Any]:
        return {"arithmetic": {"answer": machine}, "k": {"answer": {"outputs": [{"bits": bits, "absolute": absolute}]}}}

    one = kept("m", "aa", 1.0)
    assert [m.field for m in corpus.compared(one, kept("m", "bb", 1.0))] == ["outputs.0.bits"]
    assert not corpus.compared(one, kept("other", "bb", 1.0 + 1e-6))
    assert [m.field for m in corpus.compared(one, kept("other", "bb", 1.1))] == ["outputs.0.absolute"]


def test_clock_times_hashes_and_places_are_no_answers() -> None:
    said = "35160 legal plans, 10756 fit; evaluated in 0.053 s."
    assert corpus.clean(said) == "35160 legal plans, 10756 fit; evaluated in _ s."
    assert (
        corpus.clean("12 events (5 engine steps) in 0.0653 s of processor time")
        == "12 events (5 engine steps) in _ s of processor time"
    )
    assert corpus.clean("8695 fit; evaluated in 0.0531\n  s.") == "8695 fit; evaluated in _ s."
    assert corpus.clean("8695 fit; evaluated in\n  1.2 s.") == "8695 fit; evaluated in _ s."
    assert not corpus.compared(
        {"q": {"answer": ["evaluated in _ s", "  s."]}}, {"q": {"answer": ["evaluated in _ s."]}}
    )
    assert corpus.clean("facts 016f3771e098") == "facts (hash)"
    assert corpus.clean(f"{corpus.ROOT}/kernels/add.py:3 step 2 in 5 s") == "kernels/add.py:3 step 2 in 5 s"
    assert corpus.tidied({"seconds": 1.0, "facts_hash": "x", "a": [0.1 + 0.2]}) == {"a": [0.3]}


def test_a_report_is_read_as_its_headline_warnings_and_tables() -> None:
    page = (
        '<h1>A</h1><p class="headline">Fast <b>one</b>.</p><p class="note">n</p><p'
        ' class="warning">W</p><table><tr><th>x</th><td>1/<wbr>s</td></tr></table>'
    )
    assert corpus.Read.of(page) == ["A", "Fast one.", "W", "x | 1/s"]
