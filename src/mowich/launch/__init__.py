"""Plans as launch commands and configs of other programs, and such files as plans.

A program is one small file with a table: field of a plan -> argument. What is written and what is read back use the
same table (`arguments.py`), so each name stands once.
"""
