"""How far forecasts of several tools are from the same published measurements: `python -m benchmarks.accuracy`.

`rows` draws and reads the sample, each file of `adapters` asks one tool, `kept` keeps the answers, `score` scores them,
`page` writes docs/records/accuracy-peers.md.
"""
