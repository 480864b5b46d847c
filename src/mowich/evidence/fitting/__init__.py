"""Constants from measurements: which of them the data identifies, their values, and how sure those are.

`training`, `serving` and `collectives` predict what was measured from the constants behind it, and say how each moves
it; `solve` finds the constants; `overlay` writes them as facts. Nothing here reads a file of measurements.
"""
