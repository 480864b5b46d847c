"""Rows that know what was asked, so that their plan can be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.shown import Keyed, Rows, Shown, Text

if TYPE_CHECKING:
    from mowich.launch.bundle_folder import WrittenBundle


@dataclass(slots=True, kw_only=True)
class WholeAnswer:
    """The answer that a row is of, once it is made. inputs: what else is needed to ask it again."""

    result: Shown | None = None
    inputs: Mapping[str, object] = field(default_factory=dict)

    def __reduce__(self) -> tuple[object, ...]:
        """A row that goes to another process goes without its answer."""
        return WholeAnswer, ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a row is of. inputs: as the JSON of its result states them; layers: of the model; answer: the result with
    all its rows."""

    inputs: Mapping[str, object]
    facts: Facts
    layers: int
    answer: WholeAnswer = field(default_factory=WholeAnswer, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedRow(Keyed):
    """A row whose plan can be written for a program that runs it."""

    origin: Origin | None = field(default=None, repr=False, compare=False)

    def emit(self, program: str) -> Text:
        """The launch command or config of this plan: "vllm", "sglang", "nxdi", "torchtitan", "megatron", "maxtext",
        "skypilot", "kubernetes". Raises UserError where the program cannot run it."""
        from mowich.launch.emitted import emitted

        of = self._known()
        return Text(emitted(program, of.inputs, self.to_dict(), of.facts, layers=of.layers))

    def bundle(self, program: str, folder: str | Path) -> Text:
        """Write a folder that takes this plan to a running job and back: start scripts, manifests, a router, a
        benchmark that checks the forecast, and the forecast. program: as for `emit`. Returns what was written and what
        comes next. Raises UserError where the program cannot run the plan, or the folder holds other files."""
        return Text(bundle_text(self.written_bundle(program, Path(folder))))

    def written_bundle(self, program: str, folder: Path) -> WrittenBundle:
        """The same, as data."""
        from mowich.launch.bundle_folder import check_folder, write_bundle
        from mowich.launch.emitted import bundled

        of = self._known()
        answer = of.answer.result
        if answer is None:
            raise UserError("this row does not know its answer", fix="take it from mowich.plan(...).rows")
        check_folder(folder)
        rows = getattr(answer, "rows", ())
        pick = next((n for n, row in enumerate(rows, 1) if row is self), 1)
        made = bundled(program, of.inputs, self.to_dict(), of.facts, layers=of.layers)
        forecast = answer.to_json(of.answer.inputs, {"bundle": made.about(pick)})
        return write_bundle(folder, made, forecast, pick)

    def _known(self) -> Origin:
        if self.origin is None:
            raise UserError("this row does not say what was asked", fix="take it from mowich.plan(...).rows")
        return self.origin


def bundle_text(written: WrittenBundle) -> str:
    """What was written and what comes next, as lines."""
    from mowich.launch.bundle_readme import next_steps

    lines = [f"{written.bundle.title}: {len(written.files)} files in {written.folder}"]
    lines += ["next, in that folder:"]
    lines += [f"  {n}. {what}: {why}" for n, (what, why) in enumerate(next_steps(written.bundle), 1)]
    notes = [*written.bundle.notes, *written.bundle.benchmark.notes]
    lines += [f"note: {note}" for note in notes]
    if written.left:
        lines.append(f"left as they are: {', '.join(written.left)}")
    return "\n".join(lines) + "\n"


R = TypeVar("R", bound=LaunchedRow)


def with_origin(rows: Rows[R], origin: Origin) -> Rows[R]:
    """The same rows, each knowing what was asked."""
    return Rows(replace(row, origin=origin) for row in rows)


def know_answer(result: Shown, inputs: Mapping[str, object]) -> None:
    """Tell the rows of an answer that they are of it. inputs: what else is needed to ask it again."""
    for row in getattr(result, "rows", ()):
        origin = getattr(row, "origin", None)
        if isinstance(origin, Origin):
            origin.answer.result, origin.answer.inputs = result, inputs
