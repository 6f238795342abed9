"""Renderers of environments."""
