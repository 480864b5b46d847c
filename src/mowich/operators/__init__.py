"""Operators: how long one piece of work takes, from timing tables of kernels."""
