"""Sampling of drawings."""
