"""The packages around `nki` that files with kernels import: Neuron's PyTorch and jax, torch_xla, and kernels inside
AWS's compiler.

What a kernel needs of them is here (`torch`, `xla`, `jax`). Every other name below them can be imported, so that the
file loads, and says in one line that it is not there when it is used (`absent`).
"""
