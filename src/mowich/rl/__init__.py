"""Reinforcement learning of a language model: rollouts that serve, updates that train, and weights sent between them.

`job` says what a run is, `lengths` how long its answers are, `sides` what each side of it takes, `cycle` what a step
comes to. `schedule` finds that in closed form and `events` by playing samples; both read the same sides.
"""
