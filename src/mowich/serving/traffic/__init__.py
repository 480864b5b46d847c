"""Serving traffic, iteration by iteration: continuous batching on one replica, many replicas, prefill and decode apart,
and failures.

A replica is an engine such as vLLM: each step carries one token of every decoding sequence and chunks of waiting
prompts up to a token budget, while the cache has blocks. A batch that does not change is advanced to the next arrival,
completion or cache limit in one move, exactly: the time of k decode steps is a quadratic in k. So cost follows events,
not tokens. `StepTimes` holds the step times of one worker as tables made by the same formulas as the steady state
(`serving.step.step`), `Seen` its rule for the time to first token (`steady.Front`) with its correction. Requests come
from `arrivals`; scenarios are read in `studies.traffic`.
"""
