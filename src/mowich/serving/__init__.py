"""Serving: how long a token takes, the search for the best deployment, and engines played out request by request."""
