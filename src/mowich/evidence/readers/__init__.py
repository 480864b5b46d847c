"""Readers of measurement files: one module for each format, one common record.

A reader takes the text of a file and gives measurements in the columns of our own tables (`evidence/columns.yaml`), so
that one set of rules judges them all. It reads only what the file states: a `Setup` gives what a log leaves out
(system, model, plan).
"""
