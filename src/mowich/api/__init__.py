"""The verbs as Python functions: keyword arguments, strings with units at the edge, immutable results.

`facts` may be given (`mowich.facts.load_facts(...)`, `.with_values(...)`); otherwise the shipped facts are used.

>>> import mowich
>>> best = mowich.plan("llama-3.1-8b", "h100:64", train={"tokens": "1T", "seq": 4096, "batch": "256seqs"}).rows[0]
>>> best.feasible, best.step_s.unit
(True, 's')
"""
