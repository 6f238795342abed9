"""Navigation environments: one agent, objects on a plane, a task."""
