"""The package `neuronxcc`: nothing but the parent of `neuronxcc.nki`."""

__path__: list[str] = []
