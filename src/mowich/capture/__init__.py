"""Capture of a model from its code: runs the user's PyTorch module on the meta device, writes `mowich/captured@1`.

This package runs in the user's environment and needs PyTorch alone: it imports nothing else of Mowich but its version,
and nothing else of Mowich imports it. Mowich reads the JSON (`mowich.models.captured`) and never imports PyTorch.
"""
