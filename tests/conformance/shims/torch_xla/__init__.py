"""Stand-in for torch_xla: the device is the CPU, so a package's device path hands CPU tensors to the kernel."""

from typing import Any


def device(*_: Any) -> Any:
    import torch

    return torch.device("cpu")


def sync(*_: Any) -> None:
    pass
