"""Experiments of several steps: declaration and runner."""
