"""The tasks. A new one is a module with a `Task`, its line in `TASKS` and its levels in `navigation/levels.py`."""

from envs_mjx.navigation.tasks.button import ButtonTask
from envs_mjx.navigation.tasks.circle import CircleTask
from envs_mjx.navigation.tasks.goal import GoalTask
from envs_mjx.navigation.tasks.push import PushTask
from envs_mjx.navigation.tasks.run import RunTask
from envs_mjx.navigation.tasks.task import DrawnGoalTask, Task, TaskOutcome

TASKS: dict[str, Task] = {
    "Goal": GoalTask(),
    "Button": ButtonTask(),
    "Push": PushTask(),
    "Circle": CircleTask(),
    "Run": RunTask(),
}

__all__ = ["TASKS", "DrawnGoalTask", "Task", "TaskOutcome"]
