"""`mowich kernel tasks`: operators to write faster kernels for."""

from __future__ import annotations

import sys

from mowich.cli.kernel import kernel_app
from mowich.cli.options import verb
from mowich.cli.output import emit
from mowich.requests import tasks


@verb(kernel_app, tasks.KERNEL_TASKS, "tasks")
def kernel_tasks_(asked: tasks.TasksRequest) -> None:
    """A table of all, or the file of one."""
    from mowich.studies.kernel_tasks import KernelTasks, kernel_task, kernel_tasks

    one, form = None if asked.task is None else kernel_task(asked.task), asked.form
    if one is not None and not (form.as_json or form.as_csv):
        sys.stdout.write(one.text)
        return
    found = KernelTasks(tasks=kernel_tasks() if one is None else (one,), with_text=one is not None)
    emit(found.to_dict(), form)
