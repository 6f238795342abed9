"""Evaluation of language and preference models."""
