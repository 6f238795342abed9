"""Supervised training of language and preference models."""
