"""Constants from measurements: which constants the data identifies, their values, and how sure the values are.

`training`, `serving` and `collectives` predict measurements from constants, and say how each constant moves them;
`solve` finds the constants; `overlay` writes them as facts. Nothing here reads a file of measurements.
"""
