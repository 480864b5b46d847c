"""kernel tasks: operators to write faster kernels for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mowich.requests.common import CSV, JSON, PLAIN, QUIET, Request, form_of
from mowich.requests.fields import TYPED, word
from mowich.requests.schema import QuestionReader, Schema

TASK_NAME = word("task", "A task; without it, all.", metavar="[TASK]", is_argument=True, edges=TYPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksRequest(Request):
    """Tasks that ship. task: the name of one, None: all."""

    task: str | None


def _tasks(reader: QuestionReader) -> TasksRequest:
    form = form_of(reader)
    reader.stop()
    return reader.fill(TasksRequest, form=form)


KERNEL_TASKS = Schema(
    name="kernel tasks",
    fields=(*(TASK_NAME, replace(JSON, help="One JSON object on stdout (mowich/kernel-tasks@1)."), CSV, PLAIN, QUIET),),
    make=_tasks,
    help=(
        "List operators to write faster kernels for, each with a reference, arguments and a plain kernel to begin"
        " from; or print the file of one. `kernel judge --reference task:NAME` judges candidates for it."
    ),
    short="Operators to write faster kernels for: list, print.",
    example="mowich kernel tasks nkibench_silu > mine.py",
)
