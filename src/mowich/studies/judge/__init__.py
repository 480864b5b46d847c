"""Candidates of a kernel, judged: values, time, order; each in a closed process of its own."""
