"""`neuronxcc.nki.compiler.backends.neuron.dimensions`: kinds of dimensions of a grid."""

from __future__ import annotations

from mowich.errors import UserError
from mowich.nki.beta1.language import nc

__path__: list[str] = []

VNC = NC = nc
vnc = nc
"""`VNC(2)`, `vnc(2)`: the physical cores of a logical one, as `nl.nc(2)`."""


class CCPipeline(int):
    """`CCPipeline(n) * nc(2)`: a kernel cut into n pieces, between which the compiler puts collectives. AWS documents
    no meaning inside a kernel, so that only one piece can be run."""

    def __new__(cls, pieces: int = 1) -> CCPipeline:
        """The dimension."""
        if int(pieces) != 1:
            raise UserError("CCPipeline cuts a kernel into pieces", given=pieces, allowed="1 piece")
        return super().__new__(cls, 1)
