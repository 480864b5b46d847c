"""The cells of one published training row: their contents, corrected misprints, and the additions of a recipe."""

from __future__ import annotations

import re

from mowich.evidence.measured_tables import table_form
from mowich.evidence.row_checks import Cells, PublishedRow, RefusedError, refusal
from mowich.evidence.row_rules import RECIPE_NUMBERS, TOPOLOGY, notes_on
from mowich.evidence.row_words import switch_of


class MendedCells(Cells):
    """One row while it is read, and whether the topology of its notes was read."""

    def __init__(self, row: PublishedRow) -> None:
        super().__init__(row)
        self.is_topology_read = False

    def degree(self, column: str) -> int | None:
        value = self.number(column)
        return None if value is None else max(1, round(value))

    def checked(self) -> None:
        """Refuse cells that no rule can read, and rows that `row_notes.yaml` refuses; correct known misprints."""
        row = self.row
        table_form("training").check_whole(row)
        if not re.match(r"(\d+$|\d+\.0*$|qk_nope \d|$)", row.get("head_dim", "")):
            raise refusal("head_dim", row["head_dim"], 'a whole number, or "qk_nope 128 + qk_rope 64, v 128"')
        if not re.match(r"(yes|compressed|$)", row.get("mla", ""), re.IGNORECASE):
            if switch_of("mla", row["mla"]):
                raise refusal(
                    "mla", row["mla"], '"yes: q_lora 1536, kv_lora 512"', why="does not say how wide the latent is"
                )
            row["mla"] = ""
        for note in notes_on("refused", row):
            raise RefusedError(note["reason"])
        for note in notes_on("misprints", row):
            for column, value in note["set"].items():
                row[column] = str(value)
                self.fill(column, value, note["reason"])

    def shape_of_name(self) -> None:
        """The shape of a model that the row only names."""
        row = self.row
        for note in notes_on("models", row):
            if not row.get("hidden"):
                for column, value in note["set"].items():
                    row[column] = row.get(column) or str(value)
                self.fill("model", row["model_name"], note["source"])

    def recipe(self) -> dict[str, float]:
        """Numbers from the published recipe of a row that no column holds (`RECIPE_NUMBERS`), by name. Fills in empty
        cells."""
        row = self.row
        numbers: dict[str, float] = {}
        for note in notes_on("recipes", row):
            for column, value in note["set"].items():
                if column in RECIPE_NUMBERS:
                    numbers[column] = float(str(value))
                    self.fill(column, value, note["source"])
                elif not row.get(column):
                    row[column] = str(value)
                    self.fill(column, value, note["source"])
        return numbers

    def topology(self) -> None:
        """The tensor parallelism of a topology in words, where the columns count the same cores as data parallel
        only."""
        row = self.row
        printed = TOPOLOGY.search(row.get("notes", ""))
        if not printed or (self.degree("TP") or 1) == int(printed[1]):
            return
        if (self.degree("TP") or 1) > 1:
            raise refusal("TP", row["TP"], printed[1], why=f"is not that of the topology printed ({printed[0]})")
        row["TP"], row["DP"] = printed[1], ""
        self.is_topology_read = True
        self.fill("TP", printed[1], f"the topology printed: {printed[0]}")
