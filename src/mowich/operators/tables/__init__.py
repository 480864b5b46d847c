"""Operator timing tables: how long an operator takes on a chip, at the shapes where it was simulated or measured.

The seam between kernels and plans is a file. `mowich kernel tables` times the kernels of `kernels/` on the simulated
NeuronCore and writes `data/*.csv`; the formulas of a step read them with `operator_s`, which interpolates between the
shapes of a table and answers nothing outside. This package knows neither kernels nor models: it has operators, files
and interpolation. docs/theory/tables.md.
"""

from mowich.operators.tables.lookup import Times, devices_in, devices_per_chip, largest, operator_s, table_keys
from mowich.operators.tables.schema import OPERATORS, SCOPES, Operator, TableRow, read_table, write_table

__all__ = [
    "OPERATORS",
    "SCOPES",
    "Operator",
    "TableRow",
    "Times",
    "devices_in",
    "devices_per_chip",
    "largest",
    "operator_s",
    "read_table",
    "table_keys",
    "write_table",
]
