"""An environment in which a program writes kernels, and is rewarded for those that are right and fast.

`KernelGym` has the methods of a Gymnasium environment and needs no library. Candidates run as in `kernel judge`: each
in a closed process, on arguments that follow from its own text. `mowich.gym.adapters` lets AccelOpt and autocomp ask
Mowich in the place of a device.
"""

from mowich.gym.environment import REWARD_FLOOR, KernelGym, Observation, kernel_reward
from mowich.studies.kernel_tasks import KernelTask, kernel_task, kernel_tasks

__all__ = [
    "REWARD_FLOOR",
    "KernelGym",
    "KernelTask",
    "Observation",
    "kernel_reward",
    "kernel_task",
    "kernel_tasks",
]
