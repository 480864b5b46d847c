"""A scenario of reinforcement learning: its keys give the values of a question, and what is given beside it wins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mowich.errors import UserError, unknown
from mowich.requests.fields import Edge, Field, read_count
from mowich.requests.rl_fields import (
    BOTH_ON,
    COLUMN,
    CRITIC,
    DAPO,
    GOAL,
    GRPO,
    LENGTHS_FILE,
    LONGEST_ANSWER,
    MEAN,
    MOST_SAMPLES,
    MOST_USD,
    PLACEMENT,
    PPO,
    QUANTILES,
    QUESTION,
    ROLLOUTS_ON,
    SCENARIO_KEYS,
    SIGMA,
    SPLIT_CHIPS,
    STALENESS,
    TEACHER,
    TEXT,
    TRAINER_ON,
)
from mowich.requests.schema import QuestionReader

if TYPE_CHECKING:
    from mowich.scenario import Node


def scenario_values(root: Node, folder: Path = Path()) -> tuple[dict[str, object], dict[str, str]]:
    """What a mapping gives by the keys of `SCENARIO_KEYS`: (values by field, place of every field). Keys that are none
    of them are noted as problems. folder: that a CSV of lengths is relative to."""
    values: dict[str, object] = {}
    places: dict[str, str] = {}
    nodes: dict[str, Node] = {"": root}
    for key, of in SCENARIO_KEYS.items():
        above, _, own = key.rpartition(".")
        if above not in nodes:
            outer, _, name = above.rpartition(".")
            nodes[above] = nodes[outer].node(name)
        node = nodes[above]
        places[of.name] = f"{node.place(own)} {node.name(own)}"
        value = node.raw(own)
        if value is not None:
            values[of.name] = folder / value if of is LENGTHS_FILE and isinstance(value, str) else value
    for node in reversed(nodes.values()):
        node.done()
    return values, places


def _scenario_of(reader: QuestionReader) -> str | Path | None:
    """The scenario that a question names in the place of a model: its text or its file; None: it names a model."""
    from mowich.examples import names_of
    from mowich.scenario import is_inline

    given = reader.given(QUESTION)
    if reader.has(TEXT):
        return str(reader.given(TEXT))
    if reader.edge is Edge.KEY or not isinstance(given, str | Path):
        return None
    text = str(given)
    if is_inline(text):
        return text
    if Path(text).suffix in (".yaml", ".yml") or text.removeprefix("@") in names_of("scenarios"):
        from mowich.requests.fields import read_scenario_file

        return read_scenario_file(given)
    return None


def _check_name(reader: QuestionReader) -> None:
    """Stops at the name of a scenario that is nearly that of one that ships: as a model nothing is known of it."""
    from mowich.errors import did_you_mean
    from mowich.examples import names_of

    word = reader.given(QUESTION)
    if reader.edge is not Edge.KEY and isinstance(word, str) and word.startswith("rl-") and not Path(word).exists():
        known = [name for name in names_of("scenarios") if name.startswith("rl-")]
        reader.add("no scenario of this name", QUESTION, given=word, allowed=known, fix=did_you_mean(word, known))
        reader.stop()


def lay_run_scenario(reader: QuestionReader) -> bool:
    """Take the values of the scenario that the question names; whether it names one. What is given beside wins."""
    from mowich.scenario import is_inline, parse_text, read_scenario

    scenario = None
    with reader.watch(QUESTION):
        scenario = _scenario_of(reader)
    reader.stop()
    if scenario is None:
        _check_name(reader)
        return False
    root = None
    with reader.watch():
        sent = reader.has(TEXT)
        root = parse_text(str(scenario), "the scenario") if sent else read_scenario(scenario)
    reader.stop()
    assert root is not None
    root.text("name")
    values, places = scenario_values(root, Path() if sent or is_inline(scenario) else Path(scenario).parent)
    if reader.edge is Edge.KEY and values.pop(LENGTHS_FILE.name, None) is not None:
        root.node("lengths").problem("csv", "files are not read here", fix="give lengths.quantiles")
    for displaced in _displaced(reader):
        values.pop(displaced.name, None)
    reader.lay(values, places, instead=QUESTION)
    with reader.watch():
        root.stop()  # the other mistakes are told with those of keys
    return True


_WAYS: tuple[tuple[tuple[Field[object], ...], ...], ...] = (
    ((MEAN, SIGMA), (QUANTILES,), (LENGTHS_FILE, COLUMN)),
    ((BOTH_ON, SPLIT_CHIPS, GOAL, MOST_USD), (ROLLOUTS_ON, TRAINER_ON)),
    ((GRPO,), (PPO, CRITIC), (DAPO,), (TEACHER,)),
)
"""Ways to say one thing, each with its fields: one that is given beside a scenario takes the place of the file's."""


def _displaced(reader: QuestionReader) -> list[Field[object]]:
    """Fields of a scenario that what is given beside it says in another way."""
    out: list[Field[object]] = []
    for ways in _WAYS:
        given = [way for way in ways if any(reader.given(f) not in (None, False) for f in way)]
        out += [one for way in ways if given and way not in given for one in way]
    if ROLLOUTS_ON in out:  # one set of chips, or a search: the file's split is not
        out += [PLACEMENT] + [STALENESS] * (not reader.has(SPLIT_CHIPS))
    return [*out, PLACEMENT] if BOTH_ON in out else out


def read_run_lengths(file: Path, column: str) -> tuple[float, ...]:
    """Tokens of the answers of a run: a column of a CSV. Raises UserError with the line of a cell that is no count."""
    import csv

    from mowich.files import open_lines

    out: list[float] = []
    with open_lines(file) as lines:
        rows = csv.reader(lines)
        head = [name.strip() for name in next(rows, [])]
        if column not in head:
            raise unknown("column", column, head, where=str(file))
        at = head.index(column)
        for row in rows:
            if not row:
                continue
            if len(out) == MOST_SAMPLES:
                raise UserError("too many answers", where=f"{file}:{rows.line_num}", allowed=f"up to {MOST_SAMPLES}")
            try:
                out.append(read_count(row[at] if at < len(row) else "", 1, LONGEST_ANSWER))
            except UserError as error:
                error.where = f"{file}:{rows.line_num} {column}"
                raise
    if len(out) < 2:
        raise UserError("needs two answers or more", where=str(file), given=len(out))
    return tuple(out)
