"""Run folders: configuration, checkpoints, telemetry, resume."""
