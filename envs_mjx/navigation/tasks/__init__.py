"""The tasks: what is rewarded, what a success is, and what happens then."""

from envs_mjx.navigation.tasks.button import ButtonTask
from envs_mjx.navigation.tasks.circle import CircleTask
from envs_mjx.navigation.tasks.goal import GoalTask
from envs_mjx.navigation.tasks.push import PushTask
from envs_mjx.navigation.tasks.run import RunTask
from envs_mjx.navigation.tasks.task import Data, Outcome, Task, View

TASKS: dict[str, Task] = {
    "Goal": GoalTask(),
    "Button": ButtonTask(),
    "Push": PushTask(),
    "Circle": CircleTask(),
    "Run": RunTask(),
}

__all__ = ["TASKS", "Data", "Outcome", "Task", "View"]
