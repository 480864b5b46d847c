"""Readers of what people measure with: one module for each format, one common record.

A reader takes the text of a file and gives measurements in the columns of our own tables
(`evidence/columns.yaml`), so that one set of rules judges them all. It reads what the file states, and nothing else:
what a log leaves out (system, model, plan) comes from a `Setup`.
"""
