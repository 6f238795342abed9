"""The tasks: what is rewarded, what a success is, and what happens then."""

from envs_mjx.tasks.base import Data, Outcome, Task, View
from envs_mjx.tasks.button import ButtonTask
from envs_mjx.tasks.circle import CircleTask
from envs_mjx.tasks.goal import GoalTask
from envs_mjx.tasks.push import PushTask
from envs_mjx.tasks.run import RunTask

TASKS: dict[str, Task] = {
    "Goal": GoalTask(),
    "Button": ButtonTask(),
    "Push": PushTask(),
    "Circle": CircleTask(),
    "Run": RunTask(),
}

__all__ = ["TASKS", "Data", "Outcome", "Task", "View"]
