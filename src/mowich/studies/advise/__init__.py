"""Edits of a kernel with their predicted gain, each run where it is mechanical, and what no edit can gain."""
