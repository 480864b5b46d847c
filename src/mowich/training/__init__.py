"""Training: how long a step takes, the search for the best plan, pipelines, and long runs with failures."""
